-- Who is in which zone, what changed among zones, and alerts of entering one.

-- A row from the entry until some time after the exit: entering again soon after is the same visit. `entered_at` is when
-- the person was told.
CREATE TABLE zone_visits (
    user_id    uuid        NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    zone_id    uuid        NOT NULL REFERENCES zones (id) ON DELETE CASCADE,
    revision   bigint      NOT NULL,
    entered_at timestamptz NOT NULL,
    left_at    timestamptz,
    PRIMARY KEY (user_id, zone_id)
);

CREATE INDEX zone_visits_of_zone ON zone_visits (zone_id);
CREATE INDEX zone_visits_by_age ON zone_visits (entered_at);

-- Where zones changed. All who change zones hold one lock, so that numbers become seen in their order.
CREATE TABLE zone_changes (
    number bigint           GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    west   double precision NOT NULL,
    south  double precision NOT NULL,
    east   double precision NOT NULL,
    north  double precision NOT NULL,
    at     timestamptz      NOT NULL
);

CREATE INDEX zone_changes_by_age ON zone_changes (at);

-- Whatever is there has one of the older kinds: looking at every row would keep alarms waiting.
ALTER TABLE alerts DROP CONSTRAINT alerts_kind_check;
ALTER TABLE alerts ADD CONSTRAINT alerts_kind_check
    CHECK (kind IN ('geofence', 'emergency', 'emergency_update', 'link', 'check_in', 'zone')) NOT VALID;

-- Programs of version 1 do not know alerts of entering a zone: import zones when all of them are replaced.
UPDATE schema_info SET version = 2;
