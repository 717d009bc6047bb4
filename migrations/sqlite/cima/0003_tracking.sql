-- Fences, what is known of each device against them, and what happened at their edges.

CREATE TABLE geofences (
    id          BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    owner_id    BLOB    NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    name        TEXT    NOT NULL,
    shape       TEXT    NOT NULL CHECK (json_valid(shape)),
    vertices    INTEGER NOT NULL CHECK (vertices >= 0),
    triggers    TEXT    NOT NULL CHECK (json_valid(triggers)),
    dwell_ms    INTEGER NOT NULL CHECK (dwell_ms >= 0),
    cooldown_ms INTEGER NOT NULL CHECK (cooldown_ms >= 0),
    severity    TEXT    NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
    notify_all  INTEGER NOT NULL CHECK (notify_all IN (0, 1)),
    created_at  INTEGER NOT NULL,
    revision    INTEGER NOT NULL CHECK (revision >= 0)
) STRICT;

CREATE INDEX geofences_of_owner ON geofences (owner_id, id);

-- Who is named in a fence's notify, whether or not they exist or are contacts: that is checked when telling.
CREATE TABLE geofence_notify (
    geofence_id BLOB    NOT NULL REFERENCES geofences (id) ON DELETE CASCADE,
    place       INTEGER NOT NULL,
    user_id     BLOB    NOT NULL CHECK (length(user_id) = 16),
    PRIMARY KEY (geofence_id, place)
) STRICT, WITHOUT ROWID;

CREATE INDEX geofence_notify_user ON geofence_notify (user_id);

CREATE TABLE fence_states (
    device_id   BLOB    NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    geofence_id BLOB    NOT NULL REFERENCES geofences (id) ON DELETE CASCADE,
    revision    INTEGER NOT NULL,
    membership  TEXT    NOT NULL CHECK (membership IN ('unknown', 'inside', 'outside')),
    since       INTEGER NOT NULL,
    since_seq   INTEGER NOT NULL,
    dwelled     INTEGER NOT NULL CHECK (dwelled IN (0, 1)),
    dwell_at    INTEGER CHECK (dwell_at IS NULL OR (membership = 'inside' AND dwelled = 0)),
    PRIMARY KEY (device_id, geofence_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX fence_states_dwelling ON fence_states (dwell_at) WHERE dwell_at IS NOT NULL;

CREATE INDEX fence_states_of_fence ON fence_states (geofence_id);

CREATE TABLE device_tails (
    device_id  BLOB    NOT NULL PRIMARY KEY REFERENCES devices (id) ON DELETE CASCADE,
    folded_at  INTEGER NOT NULL,
    folded_seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- History outlives its fence, so geofence_id refers to nothing.
CREATE TABLE transitions (
    id          BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    owner_id    BLOB    NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    device_id   BLOB    NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    geofence_id BLOB    NOT NULL CHECK (length(geofence_id) = 16),
    revision    INTEGER NOT NULL,
    kind        TEXT    NOT NULL CHECK (kind IN ('enter', 'exit', 'dwell', 'cross')),
    at          INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    initial     INTEGER NOT NULL CHECK (initial IN (0, 1)),
    late        INTEGER NOT NULL CHECK (late IN (0, 1)),
    retracted   INTEGER NOT NULL DEFAULT 0 CHECK (retracted IN (0, 1)),
    alerted     INTEGER NOT NULL DEFAULT 0 CHECK (alerted IN (0, 1))
) STRICT;

CREATE INDEX transitions_of_owner ON transitions (owner_id);
CREATE INDEX transitions_of_device ON transitions (device_id, at, seq);
CREATE INDEX transitions_alerted ON transitions (geofence_id, kind, at) WHERE alerted = 1;
