-- The whole schema. The same tables and names as the embedded store's, in the types of this one.

CREATE EXTENSION IF NOT EXISTS postgis;

-- Which programs may run on this schema: those that know `version`, and older ones down to `compatible_from`.
CREATE TABLE schema_info (
    only_row        boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version         integer NOT NULL,
    compatible_from integer NOT NULL CHECK (compatible_from <= version)
);
INSERT INTO schema_info (version, compatible_from) VALUES (1, 1);

-- Accounts, devices, sessions.

CREATE TABLE accounts (
    id               uuid        PRIMARY KEY,
    handle           text        NOT NULL UNIQUE CHECK (handle ~ '^[a-z0-9_.]{3,32}$'),
    password_hash    text        NOT NULL CHECK (password_hash <> ''),
    display_name     text        NOT NULL CHECK (display_name <> ''),
    locale           text        NOT NULL CHECK (locale <> ''),
    time_zone        text        NOT NULL CHECK (time_zone <> ''),
    retention_ms     bigint      CHECK (retention_ms >= 0),
    pin_hash         text        CHECK (pin_hash <> ''),
    duress_hash      text        CHECK (duress_hash <> ''),
    pin_failures     bigint      NOT NULL DEFAULT 0 CHECK (pin_failures >= 0),
    pin_locked_until timestamptz,
    created_at       timestamptz NOT NULL
);

-- What outlives an account: a keyed hash of its handle and a hash of its id, so that neither is used again.
CREATE TABLE handle_marks (
    mark bytea PRIMARY KEY CHECK (length(mark) > 0)
);

CREATE TABLE retired_accounts (
    mark bytea PRIMARY KEY CHECK (length(mark) = 16)
);

CREATE TABLE devices (
    id         uuid        PRIMARY KEY,
    user_id    uuid        NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    name       text        NOT NULL,
    platform   text        NOT NULL CHECK (platform IN ('ios', 'android', 'web', 'other')),
    tracked    boolean     NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL,
    removed_at timestamptz,
    CHECK (NOT tracked OR removed_at IS NULL)
);

CREATE INDEX devices_of_user ON devices (user_id, id);
CREATE UNIQUE INDEX devices_tracked ON devices (user_id) WHERE tracked;

CREATE TABLE sessions (
    id               uuid        PRIMARY KEY,
    user_id          uuid        NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    device_id        uuid        NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    salt             bytea       NOT NULL CHECK (length(salt) > 0),
    generation       bigint      NOT NULL CHECK (generation >= 1),
    rotated_at       timestamptz NOT NULL,
    stepped_up_until timestamptz NOT NULL
);

CREATE INDEX sessions_of_user ON sessions (user_id);
CREATE INDEX sessions_of_device ON sessions (device_id);

-- Owners of tokens that must not be believed any more; they outlive the account.
CREATE TABLE revocations (
    kind       text        NOT NULL CHECK (kind IN ('device', 'session')),
    id         uuid        NOT NULL,
    revoked_at timestamptz NOT NULL,
    PRIMARY KEY (kind, id)
);

CREATE INDEX revocations_by_time ON revocations (revoked_at);

-- Links and disclosures. A link without accepted_at is pending; an ended one is not there.

CREATE TABLE links (
    id           uuid        PRIMARY KEY,
    subject_id   uuid        NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    contact_id   uuid        NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    scopes       smallint    NOT NULL CHECK (scopes BETWEEN 0 AND 15),
    tier         smallint    NOT NULL CHECK (tier BETWEEN 0 AND 255),
    hears_duress boolean     NOT NULL,
    created_at   timestamptz NOT NULL,
    accepted_at  timestamptz,
    scopes_since timestamptz NOT NULL,
    expires_at   timestamptz,
    UNIQUE (subject_id, contact_id),
    CHECK (subject_id <> contact_id)
);

CREATE INDEX links_of_subject ON links (subject_id, id);
CREATE INDEX links_of_contact ON links (contact_id, id);

CREATE TABLE disclosures (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    viewer_id    uuid        NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    subject_id   uuid        NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    basis        text        NOT NULL CHECK (basis IN ('live_location', 'emergency')),
    emergency_id uuid,
    covert       boolean     NOT NULL,
    first_at     timestamptz NOT NULL,
    last_at      timestamptz NOT NULL,
    fixes        bigint      NOT NULL CHECK (fixes >= 0),
    UNIQUE NULLS NOT DISTINCT (viewer_id, subject_id, basis, emergency_id, covert),
    CHECK (viewer_id <> subject_id),
    CHECK (first_at <= last_at),
    CHECK ((basis = 'emergency') = (emergency_id IS NOT NULL))
);

CREATE INDEX disclosures_of_subject ON disclosures (subject_id, id);
CREATE INDEX disclosures_by_age ON disclosures (last_at);

-- Fences, what is known of each device against them, and what happened at their edges.

CREATE TABLE geofences (
    id          uuid        PRIMARY KEY,
    owner_id    uuid        NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    name        text        NOT NULL,
    -- As it was given: what is read back. `area` and `centre` are made of it, for questions about places.
    shape       jsonb       NOT NULL,
    area        geometry(Geometry, 4326) CHECK (ST_GeometryType(area) IN ('ST_Polygon', 'ST_MultiPolygon')),
    centre      geography(Point, 4326),
    radius_m    double precision CHECK (radius_m > 0),
    vertices    bigint      NOT NULL CHECK (vertices >= 0),
    triggers    jsonb       NOT NULL,
    dwell_ms    bigint      NOT NULL CHECK (dwell_ms >= 0),
    cooldown_ms bigint      NOT NULL CHECK (cooldown_ms >= 0),
    severity    text        NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
    notify_all  boolean     NOT NULL,
    created_at  timestamptz NOT NULL,
    revision    bigint      NOT NULL CHECK (revision >= 0),
    CHECK ((area IS NULL) = (centre IS NOT NULL)),
    CHECK ((centre IS NULL) = (radius_m IS NULL))
);

CREATE INDEX geofences_of_owner ON geofences (owner_id, id);
CREATE INDEX geofences_area ON geofences USING gist (area);
CREATE INDEX geofences_centre ON geofences USING gist (centre);

-- Who is named in a fence's notify, whether or not they exist or are contacts: that is checked when telling.
CREATE TABLE geofence_notify (
    geofence_id uuid    NOT NULL REFERENCES geofences (id) ON DELETE CASCADE,
    place       integer NOT NULL,
    user_id     uuid    NOT NULL,
    PRIMARY KEY (geofence_id, place)
);

CREATE INDEX geofence_notify_user ON geofence_notify (user_id);

-- Zones that everybody may know of. `area` holds the shape: of a polygon it is the shape, of a circle the box around it.
CREATE TABLE zones (
    id         uuid        PRIMARY KEY,
    name       text        NOT NULL,
    shape      jsonb       NOT NULL,
    area       geometry(Geometry, 4326) NOT NULL,
    severity   text        NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
    revision   bigint      NOT NULL CHECK (revision >= 0),
    updated_at timestamptz NOT NULL
);

CREATE INDEX zones_area ON zones USING gist (area);

CREATE TABLE fence_states (
    device_id   uuid        NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    geofence_id uuid        NOT NULL REFERENCES geofences (id) ON DELETE CASCADE,
    revision    bigint      NOT NULL,
    membership  text        NOT NULL CHECK (membership IN ('unknown', 'inside', 'outside')),
    since       timestamptz NOT NULL,
    since_seq   bigint      NOT NULL,
    dwelled     boolean     NOT NULL,
    dwell_at    timestamptz CHECK (dwell_at IS NULL OR (membership = 'inside' AND NOT dwelled)),
    PRIMARY KEY (device_id, geofence_id)
);

CREATE INDEX fence_states_dwelling ON fence_states (dwell_at) WHERE dwell_at IS NOT NULL;
CREATE INDEX fence_states_of_fence ON fence_states (geofence_id);

CREATE TABLE device_tails (
    device_id  uuid        PRIMARY KEY REFERENCES devices (id) ON DELETE CASCADE,
    folded_at  timestamptz NOT NULL,
    folded_seq bigint      NOT NULL
);

-- Nodes that serve, and when each last said so.
CREATE TABLE nodes (
    id      uuid        PRIMARY KEY,
    seen_at timestamptz NOT NULL
);

-- Which node folds a device's fixes. The token is asked for with whatever it finds, so that of two that both believe to
-- be the one only the later stores something.
CREATE SEQUENCE fold_tokens;
CREATE TABLE folds (
    device_id uuid   PRIMARY KEY REFERENCES devices (id) ON DELETE CASCADE,
    token     bigint NOT NULL UNIQUE,
    node      uuid   NOT NULL,
    previous  uuid
);

CREATE INDEX folds_of_node ON folds (node);

-- The newest socket that sends fixes of a device, on whatever node.
CREATE SEQUENCE stream_claims_made;
CREATE TABLE stream_claims (
    device_id uuid   PRIMARY KEY REFERENCES devices (id) ON DELETE CASCADE,
    claim     bigint NOT NULL
);

-- History outlives its fence, so geofence_id refers to nothing. `number` is the order in which they were stored.
CREATE TABLE transitions (
    id          uuid        PRIMARY KEY,
    number      bigint      GENERATED ALWAYS AS IDENTITY,
    owner_id    uuid        NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    device_id   uuid        NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    geofence_id uuid        NOT NULL,
    revision    bigint      NOT NULL,
    kind        text        NOT NULL CHECK (kind IN ('enter', 'exit', 'dwell', 'cross')),
    at          timestamptz NOT NULL,
    seq         bigint      NOT NULL,
    initial     boolean     NOT NULL,
    late        boolean     NOT NULL,
    retracted   boolean     NOT NULL DEFAULT false,
    alerted     boolean     NOT NULL DEFAULT false
);

CREATE INDEX transitions_of_owner ON transitions (owner_id);
CREATE INDEX transitions_of_device ON transitions (device_id, at, seq);
CREATE INDEX transitions_alerted ON transitions (geofence_id, kind, at) WHERE alerted;
CREATE INDEX transitions_by_age ON transitions (at, number);

-- Emergencies, alerts, inboxes and deliveries.

CREATE TABLE emergencies (
    id              uuid        PRIMARY KEY,
    subject_id      uuid        NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    -- Refers to nothing: a raise is not refused for a device that was removed.
    device_id       uuid,
    kind            text        NOT NULL CHECK (kind IN ('sos', 'silent', 'check_in', 'fall', 'other')),
    message         text,
    state           text        NOT NULL CHECK (state IN ('countdown', 'active', 'resolved', 'cancelled', 'expired')),
    opened_at       timestamptz NOT NULL,
    trail_from      timestamptz NOT NULL,
    active_at       timestamptz,
    countdown_until timestamptz,
    ended_at        timestamptz,
    apparent_state  text        CHECK (apparent_state IN ('resolved', 'cancelled')),
    apparent_at     timestamptz,
    opening_fix     jsonb,
    version         bigint      NOT NULL CHECK (version >= 1),
    due_at          timestamptz,
    warned          boolean     NOT NULL,
    -- 1: its subject sees no more of it than that it was; 2: nobody does, and no more of it is there. Its ids stay for ever.
    erased          smallint    NOT NULL DEFAULT 0 CHECK (erased IN (0, 1, 2)),
    CHECK ((ended_at IS NULL) = (state IN ('countdown', 'active'))),
    CHECK ((due_at IS NOT NULL) = (ended_at IS NULL)),
    CHECK (state <> 'countdown' OR active_at IS NULL),
    CHECK (state IN ('countdown', 'cancelled') OR active_at IS NOT NULL),
    CHECK ((apparent_state IS NULL) = (apparent_at IS NULL)),
    CHECK (apparent_at IS NULL OR active_at IS NOT NULL)
);

CREATE INDEX emergencies_of_subject ON emergencies (subject_id, opened_at, id);
CREATE INDEX emergencies_open ON emergencies (subject_id) WHERE ended_at IS NULL;
CREATE INDEX emergencies_due ON emergencies (due_at) WHERE due_at IS NOT NULL;
-- The end that its subject knows of, and the true one.
CREATE INDEX emergencies_shown_whole ON emergencies (coalesce(apparent_at, ended_at)) WHERE erased = 0;
CREATE INDEX emergencies_whole ON emergencies (ended_at) WHERE erased < 2;

-- Every id a person ever raised with, for ever.
CREATE TABLE emergency_ids (
    number       bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject_id   uuid    NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    client_id    uuid    NOT NULL,
    emergency_id uuid    NOT NULL REFERENCES emergencies (id) ON DELETE CASCADE,
    joined       boolean NOT NULL,
    UNIQUE (subject_id, client_id)
);

CREATE INDEX emergency_ids_of_emergency ON emergency_ids (emergency_id);

CREATE TABLE claims (
    emergency_id uuid        NOT NULL REFERENCES emergencies (id) ON DELETE CASCADE,
    place        integer     NOT NULL,
    contact_id   uuid        NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    claimed_at   timestamptz NOT NULL,
    dropped_at   timestamptz,
    PRIMARY KEY (emergency_id, place)
);

CREATE INDEX claims_of_contact ON claims (contact_id);

-- `number` is the order in which they were stored.
CREATE TABLE alerts (
    id           uuid        PRIMARY KEY,
    number       bigint      GENERATED ALWAYS AS IDENTITY,
    kind         text        NOT NULL CHECK (kind IN ('geofence', 'emergency', 'emergency_update', 'link', 'check_in')),
    severity     text        NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
    subject_id   uuid        NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    at           timestamptz NOT NULL,
    template     text        NOT NULL,
    params       jsonb       NOT NULL,
    emergency_id uuid,
    geofence_id  uuid,
    transition   text        CHECK (transition IN ('enter', 'exit', 'dwell', 'cross')),
    late         boolean     NOT NULL,
    lane         text        NOT NULL CHECK (lane IN ('emergency', 'routine')),
    -- Only for those who hear of duress: the subject's tokens learn nothing of it.
    covert       boolean     NOT NULL,
    stored_at    timestamptz NOT NULL
);

CREATE INDEX alerts_of_subject ON alerts (subject_id);
CREATE INDEX alerts_of_emergency ON alerts (emergency_id) WHERE emergency_id IS NOT NULL;
CREATE INDEX alerts_by_age ON alerts (stored_at);

CREATE TABLE inbox_heads (
    user_id uuid   PRIMARY KEY REFERENCES accounts (id) ON DELETE CASCADE,
    head    bigint NOT NULL CHECK (head >= 1)
);

-- A place outlives its alert, so alert_id refers to nothing.
CREATE TABLE inbox (
    user_id  uuid   NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    cursor   bigint NOT NULL CHECK (cursor >= 1),
    alert_id uuid   NOT NULL,
    PRIMARY KEY (user_id, cursor),
    UNIQUE (user_id, alert_id)
);

CREATE TABLE deliveries (
    alert_id     uuid        NOT NULL REFERENCES alerts (id) ON DELETE CASCADE,
    recipient_id uuid        NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    queued_at    timestamptz NOT NULL,
    sent_at      timestamptz,
    received_at  timestamptz,
    seen_at      timestamptz,
    PRIMARY KEY (alert_id, recipient_id),
    CHECK (received_at IS NULL OR sent_at IS NOT NULL),
    CHECK (seen_at IS NULL OR received_at IS NOT NULL)
);

CREATE INDEX deliveries_of_recipient ON deliveries (recipient_id);

CREATE TABLE check_ins (
    id           uuid        PRIMARY KEY,
    subject_id   uuid        NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    note         text,
    set_at       timestamptz NOT NULL,
    due_at       timestamptz NOT NULL,
    grace_ms     bigint      NOT NULL CHECK (grace_ms >= 0),
    repeat_ms    bigint      CHECK (repeat_ms > 0),
    state        text        NOT NULL CHECK (state IN ('waiting', 'completed', 'missed', 'deleted')),
    reminded     boolean     NOT NULL,
    wakes_at     timestamptz,
    -- Refers to nothing: both go with their account.
    emergency_id uuid,
    version      bigint      NOT NULL CHECK (version >= 1),
    CHECK ((wakes_at IS NOT NULL) = (state = 'waiting')),
    CHECK ((emergency_id IS NOT NULL) = (state = 'missed')),
    CHECK (state <> 'deleted' OR note IS NULL)
);

CREATE INDEX check_ins_of_subject ON check_ins (subject_id, (state <> 'waiting'), id);
CREATE INDEX check_ins_waking ON check_ins (wakes_at) WHERE wakes_at IS NOT NULL;

-- Push: where people are reached, and what is to be handed to providers.

CREATE TABLE push_endpoints (
    id            uuid        PRIMARY KEY,
    user_id       uuid        NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    device_id     uuid        NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    channel       text        NOT NULL CHECK (channel IN ('fcm', 'apns', 'webpush', 'webhook', 'email')),
    -- Whose limits its sends count against.
    service       text        NOT NULL,
    target        jsonb       NOT NULL,
    -- A hash of a token that only one device can have.
    mark          bytea       UNIQUE CHECK (length(mark) = 16),
    -- Another one each time it is registered.
    registration  uuid        NOT NULL,
    registered_at timestamptz NOT NULL,
    UNIQUE (device_id, channel)
);

CREATE INDEX push_endpoints_of_user ON push_endpoints (user_id);
CREATE INDEX push_endpoints_by_age ON push_endpoints (registered_at);

-- What waits is due; a claim makes it due again at the end of its lease.
CREATE TABLE push_deliveries (
    alert_id    uuid        NOT NULL REFERENCES alerts (id) ON DELETE CASCADE,
    endpoint_id uuid        NOT NULL REFERENCES push_endpoints (id) ON DELETE CASCADE,
    channel     text        NOT NULL,
    urgency     text        NOT NULL CHECK (urgency IN ('emergency', 'routine')),
    state       text        NOT NULL CHECK (state IN ('waiting', 'accepted', 'unneeded', 'dead')),
    reason      text,
    due_at      timestamptz,
    lease_until timestamptz,
    deadline_at timestamptz NOT NULL,
    lifetime_ms bigint      NOT NULL CHECK (lifetime_ms > 0),
    tries       bigint      NOT NULL DEFAULT 0 CHECK (tries >= 0),
    claims      bigint      NOT NULL DEFAULT 0 CHECK (claims >= 0),
    ended_at    timestamptz,
    PRIMARY KEY (alert_id, endpoint_id),
    CHECK ((due_at IS NOT NULL) = (state = 'waiting')),
    CHECK ((ended_at IS NULL) = (state = 'waiting')),
    CHECK ((reason IS NOT NULL) = (state = 'dead')),
    CHECK (lease_until IS NULL OR state = 'waiting')
);

CREATE INDEX push_deliveries_due ON push_deliveries (channel, urgency, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX push_deliveries_late ON push_deliveries (deadline_at) WHERE due_at IS NOT NULL;
CREATE INDEX push_deliveries_dead ON push_deliveries (ended_at) WHERE state = 'dead';
CREATE INDEX push_deliveries_of_endpoint ON push_deliveries (endpoint_id);

-- Fixes, by day of `fixed_at`; a day is dropped whole when all in it have had their time. No index knows of places, so
-- that the numbers can be encrypted.

CREATE TABLE fixes (
    device_id   uuid             NOT NULL,
    fixed_at    timestamptz      NOT NULL,
    seq         bigint           NOT NULL CHECK (seq BETWEEN 1 AND 9007199254740991),
    received_at timestamptz      NOT NULL,
    streamed    boolean          NOT NULL,
    -- Which key the numbers are encrypted with; none yet.
    key_id      bytea,
    lat         double precision NOT NULL CHECK (lat BETWEEN -90 AND 90),
    lon         double precision NOT NULL CHECK (lon BETWEEN -180 AND 180),
    accuracy_m  double precision CHECK (accuracy_m >= 0),
    altitude_m  double precision,
    speed_mps   double precision CHECK (speed_mps >= 0),
    course_deg  double precision CHECK (course_deg BETWEEN 0 AND 360),
    battery     double precision CHECK (battery BETWEEN 0 AND 1),
    PRIMARY KEY (device_id, fixed_at, seq)
) PARTITION BY RANGE (fixed_at);

-- A number belongs to one time, whatever day that is in: a unique key of a partitioned table cannot say so without the
-- day. Written in the statement that writes the fix, and gone with it.
CREATE TABLE fix_numbers (
    device_id uuid        NOT NULL,
    seq       bigint      NOT NULL,
    fixed_at  timestamptz NOT NULL,
    PRIMARY KEY (device_id, seq)
);

CREATE INDEX fix_numbers_by_age ON fix_numbers USING brin (fixed_at);

-- The newest seq that each device streamed; it outlives the fix.
CREATE TABLE streams (
    device_id uuid   PRIMARY KEY,
    last_seq  bigint NOT NULL CHECK (last_seq >= 1)
);

-- Devices of forgotten people: a fix that was on its way when its person was forgotten is not kept.
CREATE TABLE forgotten (
    device_id uuid PRIMARY KEY
);

-- What emergencies keep of the fixes in their windows when those have had their time.
CREATE TABLE trails (
    emergency_id uuid             NOT NULL,
    device_id    uuid             NOT NULL,
    fixed_at     timestamptz      NOT NULL,
    seq          bigint           NOT NULL CHECK (seq BETWEEN 1 AND 9007199254740991),
    received_at  timestamptz      NOT NULL,
    streamed     boolean          NOT NULL,
    key_id       bytea,
    lat          double precision NOT NULL CHECK (lat BETWEEN -90 AND 90),
    lon          double precision NOT NULL CHECK (lon BETWEEN -180 AND 180),
    accuracy_m   double precision CHECK (accuracy_m >= 0),
    altitude_m   double precision,
    speed_mps    double precision CHECK (speed_mps >= 0),
    course_deg   double precision CHECK (course_deg BETWEEN 0 AND 360),
    battery      double precision CHECK (battery BETWEEN 0 AND 1),
    PRIMARY KEY (emergency_id, device_id, fixed_at, seq)
);

CREATE INDEX trails_of_device ON trails (device_id, fixed_at, seq);
