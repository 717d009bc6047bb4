-- Fixes, in a file of their own, so that a flood of them is never in front of an alarm.

CREATE TABLE fixes (
    device_id   BLOB    NOT NULL CHECK (length(device_id) = 16),
    fixed_at    INTEGER NOT NULL,
    seq         INTEGER NOT NULL CHECK (seq BETWEEN 1 AND 9007199254740991),
    received_at INTEGER NOT NULL,
    streamed    INTEGER NOT NULL CHECK (streamed IN (0, 1)),
    -- Which key the numbers are encrypted with; none yet.
    key_id      BLOB,
    lat         REAL    NOT NULL CHECK (lat BETWEEN -90 AND 90),
    lon         REAL    NOT NULL CHECK (lon BETWEEN -180 AND 180),
    accuracy_m  REAL    CHECK (accuracy_m >= 0),
    altitude_m  REAL,
    speed_mps   REAL    CHECK (speed_mps >= 0),
    course_deg  REAL    CHECK (course_deg BETWEEN 0 AND 360),
    battery     REAL    CHECK (battery BETWEEN 0 AND 1),
    PRIMARY KEY (device_id, fixed_at, seq),
    UNIQUE (device_id, seq)
) STRICT, WITHOUT ROWID;

-- The newest seq that each device streamed; it outlives the fix.
CREATE TABLE streams (
    device_id BLOB    NOT NULL PRIMARY KEY CHECK (length(device_id) = 16),
    last_seq  INTEGER NOT NULL CHECK (last_seq >= 1)
) STRICT, WITHOUT ROWID;

-- Devices of forgotten people: a fix that was on its way when its person was forgotten is not kept.
CREATE TABLE forgotten (
    device_id BLOB NOT NULL PRIMARY KEY CHECK (length(device_id) = 16)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER fixes_of_the_forgotten BEFORE INSERT ON fixes
WHEN EXISTS (SELECT 1 FROM forgotten WHERE device_id = NEW.device_id)
BEGIN
    SELECT RAISE(IGNORE);
END;

CREATE TRIGGER streams_of_the_forgotten BEFORE INSERT ON streams
WHEN EXISTS (SELECT 1 FROM forgotten WHERE device_id = NEW.device_id)
BEGIN
    SELECT RAISE(IGNORE);
END;
