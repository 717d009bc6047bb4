-- Accounts, devices, sessions. Ids are 16 bytes, times are milliseconds of Unix time.

CREATE TABLE accounts (
    id               BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    handle           TEXT    NOT NULL UNIQUE
                             CHECK (length(handle) BETWEEN 3 AND 32 AND handle NOT GLOB '*[^a-z0-9_.]*'),
    password_hash    TEXT    NOT NULL CHECK (password_hash <> ''),
    display_name     TEXT    NOT NULL CHECK (display_name <> ''),
    locale           TEXT    NOT NULL CHECK (locale <> ''),
    time_zone        TEXT    NOT NULL CHECK (time_zone <> ''),
    retention_ms     INTEGER CHECK (retention_ms >= 0),
    pin_hash         TEXT    CHECK (pin_hash <> ''),
    duress_hash      TEXT    CHECK (duress_hash <> ''),
    pin_failures     INTEGER NOT NULL DEFAULT 0 CHECK (pin_failures >= 0),
    pin_locked_until INTEGER,
    created_at       INTEGER NOT NULL
) STRICT;

-- What outlives an account: a keyed hash of its handle and a hash of its id, so that neither is used again.
CREATE TABLE handle_marks (
    mark BLOB NOT NULL PRIMARY KEY CHECK (length(mark) > 0)
) STRICT, WITHOUT ROWID;

CREATE TABLE retired_accounts (
    mark BLOB NOT NULL PRIMARY KEY CHECK (length(mark) = 16)
) STRICT, WITHOUT ROWID;

-- There while the files have to be rewritten because somebody was forgotten.
CREATE TABLE unfinished (
    task TEXT NOT NULL PRIMARY KEY CHECK (task = 'rewrite')
) STRICT, WITHOUT ROWID;

CREATE TABLE devices (
    id         BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    user_id    BLOB    NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    name       TEXT    NOT NULL,
    platform   TEXT    NOT NULL CHECK (platform IN ('ios', 'android', 'web', 'other')),
    tracked    INTEGER NOT NULL DEFAULT 0 CHECK (tracked IN (0, 1)),
    created_at INTEGER NOT NULL,
    removed_at INTEGER,
    CHECK (tracked = 0 OR removed_at IS NULL)
) STRICT, WITHOUT ROWID;

CREATE INDEX devices_of_user ON devices (user_id, id);
CREATE UNIQUE INDEX devices_tracked ON devices (user_id) WHERE tracked = 1;

CREATE TABLE sessions (
    id               BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    user_id          BLOB    NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    device_id        BLOB    NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    salt             BLOB    NOT NULL CHECK (length(salt) > 0),
    generation       INTEGER NOT NULL CHECK (generation >= 1),
    rotated_at       INTEGER NOT NULL,
    stepped_up_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX sessions_of_user ON sessions (user_id);
CREATE INDEX sessions_of_device ON sessions (device_id);

-- Owners of tokens that must not be believed any more; they outlive the account.
CREATE TABLE revocations (
    kind       TEXT    NOT NULL CHECK (kind IN ('device', 'session')),
    id         BLOB    NOT NULL CHECK (length(id) = 16),
    revoked_at INTEGER NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX revocations_by_time ON revocations (revoked_at);
