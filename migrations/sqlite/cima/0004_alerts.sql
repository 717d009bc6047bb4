-- Emergencies, alerts, inboxes and deliveries.

CREATE TABLE emergencies (
    id              BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    subject_id      BLOB    NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    -- Refers to nothing: a raise is not refused for a device that was removed.
    device_id       BLOB    CHECK (length(device_id) = 16),
    kind            TEXT    NOT NULL CHECK (kind IN ('sos', 'silent', 'check_in', 'fall', 'other')),
    message         TEXT,
    state           TEXT    NOT NULL CHECK (state IN ('countdown', 'active', 'resolved', 'cancelled', 'expired')),
    opened_at       INTEGER NOT NULL,
    trail_from      INTEGER NOT NULL,
    active_at       INTEGER,
    countdown_until INTEGER,
    ended_at        INTEGER,
    apparent_state  TEXT    CHECK (apparent_state IN ('resolved', 'cancelled')),
    apparent_at     INTEGER,
    opening_fix     TEXT    CHECK (json_valid(opening_fix)),
    version         INTEGER NOT NULL CHECK (version >= 1),
    due_at          INTEGER,
    warned          INTEGER NOT NULL CHECK (warned IN (0, 1)),
    CHECK ((ended_at IS NULL) = (state IN ('countdown', 'active'))),
    CHECK ((due_at IS NOT NULL) = (ended_at IS NULL)),
    CHECK (state <> 'countdown' OR active_at IS NULL),
    CHECK (state IN ('countdown', 'cancelled') OR active_at IS NOT NULL),
    CHECK ((apparent_state IS NULL) = (apparent_at IS NULL)),
    CHECK (apparent_at IS NULL OR active_at IS NOT NULL)
) STRICT;

CREATE INDEX emergencies_of_subject ON emergencies (subject_id, opened_at, id);
CREATE INDEX emergencies_open ON emergencies (subject_id) WHERE ended_at IS NULL;
CREATE INDEX emergencies_due ON emergencies (due_at) WHERE due_at IS NOT NULL;

-- Every id a person ever raised with, for ever.
CREATE TABLE emergency_ids (
    number       INTEGER PRIMARY KEY,
    subject_id   BLOB    NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    client_id    BLOB    NOT NULL CHECK (length(client_id) = 16),
    emergency_id BLOB    NOT NULL REFERENCES emergencies (id) ON DELETE CASCADE,
    joined       INTEGER NOT NULL CHECK (joined IN (0, 1)),
    UNIQUE (subject_id, client_id)
) STRICT;

CREATE INDEX emergency_ids_of_emergency ON emergency_ids (emergency_id);

CREATE TABLE claims (
    emergency_id BLOB    NOT NULL REFERENCES emergencies (id) ON DELETE CASCADE,
    place        INTEGER NOT NULL,
    contact_id   BLOB    NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    claimed_at   INTEGER NOT NULL,
    dropped_at   INTEGER,
    PRIMARY KEY (emergency_id, place)
) STRICT, WITHOUT ROWID;

CREATE INDEX claims_of_contact ON claims (contact_id);

CREATE TABLE alerts (
    id           BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    kind         TEXT    NOT NULL CHECK (kind IN ('geofence', 'emergency', 'emergency_update', 'link')),
    severity     TEXT    NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
    subject_id   BLOB    NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    at           INTEGER NOT NULL,
    template     TEXT    NOT NULL,
    params       TEXT    NOT NULL CHECK (json_valid(params)),
    emergency_id BLOB    CHECK (length(emergency_id) = 16),
    geofence_id  BLOB    CHECK (length(geofence_id) = 16),
    transition   TEXT    CHECK (transition IN ('enter', 'exit', 'dwell', 'cross')),
    late         INTEGER NOT NULL CHECK (late IN (0, 1)),
    lane         TEXT    NOT NULL CHECK (lane IN ('emergency', 'routine')),
    -- Only for those who hear of duress: the subject's tokens learn nothing of it.
    covert       INTEGER NOT NULL CHECK (covert IN (0, 1)),
    stored_at    INTEGER NOT NULL
) STRICT;

CREATE INDEX alerts_of_subject ON alerts (subject_id);
CREATE INDEX alerts_of_emergency ON alerts (emergency_id) WHERE emergency_id IS NOT NULL;

CREATE TABLE inbox_heads (
    user_id BLOB    NOT NULL PRIMARY KEY REFERENCES accounts (id) ON DELETE CASCADE,
    head    INTEGER NOT NULL CHECK (head >= 1)
) STRICT, WITHOUT ROWID;

-- A place outlives its alert, so alert_id refers to nothing.
CREATE TABLE inbox (
    user_id  BLOB    NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    cursor   INTEGER NOT NULL CHECK (cursor >= 1),
    alert_id BLOB    NOT NULL CHECK (length(alert_id) = 16),
    PRIMARY KEY (user_id, cursor),
    UNIQUE (user_id, alert_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE deliveries (
    alert_id     BLOB    NOT NULL REFERENCES alerts (id) ON DELETE CASCADE,
    recipient_id BLOB    NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    queued_at    INTEGER NOT NULL,
    sent_at      INTEGER,
    received_at  INTEGER,
    seen_at      INTEGER,
    PRIMARY KEY (alert_id, recipient_id),
    CHECK (received_at IS NULL OR sent_at IS NOT NULL),
    CHECK (seen_at IS NULL OR received_at IS NOT NULL)
) STRICT, WITHOUT ROWID;

CREATE INDEX deliveries_of_recipient ON deliveries (recipient_id);
