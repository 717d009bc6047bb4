-- Push: where people are reached, and what is to be handed to providers.

CREATE TABLE push_endpoints (
    id            BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    user_id       BLOB    NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    device_id     BLOB    NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    channel       TEXT    NOT NULL CHECK (channel IN ('fcm', 'apns', 'webpush', 'webhook', 'email')),
    -- Whose limits its sends count against.
    service       TEXT    NOT NULL,
    target        TEXT    NOT NULL CHECK (json_valid(target)),
    -- A hash of a token that only one device can have.
    mark          BLOB    UNIQUE CHECK (length(mark) = 16),
    -- Another one each time it is registered.
    registration  BLOB    NOT NULL CHECK (length(registration) = 16),
    registered_at INTEGER NOT NULL,
    UNIQUE (device_id, channel)
) STRICT;

CREATE INDEX push_endpoints_of_user ON push_endpoints (user_id);
CREATE INDEX push_endpoints_by_age ON push_endpoints (registered_at);

-- What waits is due; a claim makes it due again at the end of its lease.
CREATE TABLE push_deliveries (
    alert_id    BLOB    NOT NULL REFERENCES alerts (id) ON DELETE CASCADE,
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

CREATE INDEX push_deliveries_due ON push_deliveries (channel, urgency, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX push_deliveries_late ON push_deliveries (deadline_at) WHERE due_at IS NOT NULL;
CREATE INDEX push_deliveries_leased ON push_deliveries (lease_until) WHERE lease_until IS NOT NULL;
CREATE INDEX push_deliveries_dead ON push_deliveries (ended_at) WHERE state = 'dead';
CREATE INDEX push_deliveries_of_endpoint ON push_deliveries (endpoint_id);
