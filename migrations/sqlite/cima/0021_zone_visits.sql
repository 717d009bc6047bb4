-- Who is in which zone, what changed among zones, and alerts of entering one.

-- A row from the entry until some time after the exit: entering again soon after is the same visit. `entered_at` is when
-- the person was told.
CREATE TABLE zone_visits (
    user_id    BLOB    NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    zone_id    BLOB    NOT NULL REFERENCES zones (id) ON DELETE CASCADE,
    revision   INTEGER NOT NULL,
    entered_at INTEGER NOT NULL,
    left_at    INTEGER,
    PRIMARY KEY (user_id, zone_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX zone_visits_of_zone ON zone_visits (zone_id);
CREATE INDEX zone_visits_by_age ON zone_visits (entered_at);

-- Where zones changed, in the order in which that was stored.
CREATE TABLE zone_changes (
    number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    west   REAL    NOT NULL,
    south  REAL    NOT NULL,
    east   REAL    NOT NULL,
    north  REAL    NOT NULL,
    at     INTEGER NOT NULL
) STRICT;

CREATE INDEX zone_changes_by_age ON zone_changes (at);

-- Alerts may be of the kind zone. A check cannot be changed, so the table is made again, and what refers to it too:
-- dropping it would take its deliveries with it.

CREATE TABLE new_alerts (
    id           BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    kind         TEXT    NOT NULL CHECK (kind IN ('geofence', 'emergency', 'emergency_update', 'link', 'check_in', 'zone')),
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

CREATE TABLE new_deliveries (
    alert_id     BLOB    NOT NULL REFERENCES new_alerts (id) ON DELETE CASCADE,
    recipient_id BLOB    NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    queued_at    INTEGER NOT NULL,
    sent_at      INTEGER,
    received_at  INTEGER,
    seen_at      INTEGER,
    PRIMARY KEY (alert_id, recipient_id),
    CHECK (received_at IS NULL OR sent_at IS NOT NULL),
    CHECK (seen_at IS NULL OR received_at IS NOT NULL)
) STRICT, WITHOUT ROWID;

CREATE TABLE new_push_deliveries (
    alert_id    BLOB    NOT NULL REFERENCES new_alerts (id) ON DELETE CASCADE,
    endpoint_id BLOB    NOT NULL REFERENCES push_endpoints (id) ON DELETE CASCADE,
    channel     TEXT    NOT NULL,
    urgency     TEXT    NOT NULL CHECK (urgency IN ('emergency', 'routine')),
    state       TEXT    NOT NULL CHECK (state IN ('waiting', 'accepted', 'unneeded', 'dead')),
    reason      TEXT,
    due_at      INTEGER,
    lease_until INTEGER,
    deadline_at INTEGER NOT NULL,
    lifetime_ms INTEGER NOT NULL CHECK (lifetime_ms > 0),
    tries       INTEGER NOT NULL DEFAULT 0 CHECK (tries >= 0),
    claims      INTEGER NOT NULL DEFAULT 0 CHECK (claims >= 0),
    ended_at    INTEGER,
    PRIMARY KEY (alert_id, endpoint_id),
    CHECK ((due_at IS NOT NULL) = (state = 'waiting')),
    CHECK ((ended_at IS NULL) = (state = 'waiting')),
    CHECK ((reason IS NOT NULL) = (state = 'dead')),
    CHECK (lease_until IS NULL OR state = 'waiting')
) STRICT, WITHOUT ROWID;

INSERT INTO new_alerts SELECT * FROM alerts ORDER BY rowid;
INSERT INTO new_deliveries SELECT * FROM deliveries;
INSERT INTO new_push_deliveries SELECT * FROM push_deliveries;
DROP TABLE push_deliveries;
DROP TABLE deliveries;
DROP TABLE alerts;
-- What refers to a renamed table follows it.
ALTER TABLE new_alerts RENAME TO alerts;
ALTER TABLE new_deliveries RENAME TO deliveries;
ALTER TABLE new_push_deliveries RENAME TO push_deliveries;
CREATE INDEX alerts_of_subject ON alerts (subject_id);
CREATE INDEX alerts_of_emergency ON alerts (emergency_id) WHERE emergency_id IS NOT NULL;
CREATE INDEX alerts_by_age ON alerts (stored_at);
CREATE INDEX deliveries_of_recipient ON deliveries (recipient_id);
CREATE INDEX push_deliveries_due ON push_deliveries (channel, urgency, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX push_deliveries_late ON push_deliveries (deadline_at) WHERE due_at IS NOT NULL;
CREATE INDEX push_deliveries_leased ON push_deliveries (lease_until) WHERE lease_until IS NOT NULL;
CREATE INDEX push_deliveries_dead ON push_deliveries (ended_at) WHERE state = 'dead';
CREATE INDEX push_deliveries_of_endpoint ON push_deliveries (endpoint_id);
