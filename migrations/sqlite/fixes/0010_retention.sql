-- What emergencies keep of the fixes in their windows when those have had their time.

CREATE TABLE trails (
    emergency_id BLOB    NOT NULL CHECK (length(emergency_id) = 16),
    device_id    BLOB    NOT NULL CHECK (length(device_id) = 16),
    fixed_at     INTEGER NOT NULL,
    seq          INTEGER NOT NULL CHECK (seq BETWEEN 1 AND 9007199254740991),
    received_at  INTEGER NOT NULL,
    streamed     INTEGER NOT NULL CHECK (streamed IN (0, 1)),
    key_id       BLOB,
    lat          REAL    NOT NULL CHECK (lat BETWEEN -90 AND 90),
    lon          REAL    NOT NULL CHECK (lon BETWEEN -180 AND 180),
    accuracy_m   REAL    CHECK (accuracy_m >= 0),
    altitude_m   REAL,
    speed_mps    REAL    CHECK (speed_mps >= 0),
    course_deg   REAL    CHECK (course_deg BETWEEN 0 AND 360),
    battery      REAL    CHECK (battery BETWEEN 0 AND 1),
    PRIMARY KEY (emergency_id, device_id, fixed_at, seq)
) STRICT, WITHOUT ROWID;

CREATE INDEX trails_of_device ON trails (device_id, fixed_at, seq);

CREATE TRIGGER trails_of_the_forgotten BEFORE INSERT ON trails
WHEN EXISTS (SELECT 1 FROM forgotten WHERE device_id = NEW.device_id)
BEGIN
    SELECT RAISE(IGNORE);
END;
