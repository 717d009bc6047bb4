-- Check-ins, and alerts that remind of them.

CREATE TABLE check_ins (
    id           BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    subject_id   BLOB    NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    note         TEXT,
    set_at       INTEGER NOT NULL,
    due_at       INTEGER NOT NULL,
    grace_ms     INTEGER NOT NULL CHECK (grace_ms >= 0),
    repeat_ms    INTEGER CHECK (repeat_ms > 0),
    state        TEXT    NOT NULL CHECK (state IN ('waiting', 'completed', 'missed', 'deleted')),
    reminded     INTEGER NOT NULL CHECK (reminded IN (0, 1)),
    wakes_at     INTEGER,
    -- Refers to nothing: both go with their account.
    emergency_id BLOB    CHECK (length(emergency_id) = 16),
    version      INTEGER NOT NULL CHECK (version >= 1),
    CHECK ((wakes_at IS NOT NULL) = (state = 'waiting')),
    CHECK ((emergency_id IS NOT NULL) = (state = 'missed')),
    CHECK (state <> 'deleted' OR note IS NULL)
) STRICT;

CREATE INDEX check_ins_of_subject ON check_ins (subject_id, state <> 'waiting', id);
CREATE INDEX check_ins_waking ON check_ins (wakes_at) WHERE wakes_at IS NOT NULL;

-- It was what the look-back is counted from; now it is the oldest fix that contacts see, which for a check-in is another.
UPDATE emergencies SET trail_from = trail_from - 600000;

-- Alerts may be of the kind check_in. A check cannot be changed, so the table is made again, and what refers to it too:
-- dropping it would take its deliveries with it.
CREATE TABLE new_alerts (
    id           BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    kind         TEXT    NOT NULL CHECK (kind IN ('geofence', 'emergency', 'emergency_update', 'link', 'check_in')),
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

INSERT INTO new_alerts SELECT * FROM alerts ORDER BY rowid;
INSERT INTO new_deliveries SELECT * FROM deliveries;
DROP TABLE deliveries;
DROP TABLE alerts;
-- What refers to a renamed table follows it.
ALTER TABLE new_alerts RENAME TO alerts;
ALTER TABLE new_deliveries RENAME TO deliveries;
CREATE INDEX alerts_of_subject ON alerts (subject_id);
CREATE INDEX alerts_of_emergency ON alerts (emergency_id) WHERE emergency_id IS NOT NULL;
CREATE INDEX deliveries_of_recipient ON deliveries (recipient_id);
