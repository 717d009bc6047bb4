-- Zones that everybody may know of, and the boxes in which they lie.

CREATE TABLE zones (
    number     INTEGER NOT NULL PRIMARY KEY,
    id         BLOB    NOT NULL UNIQUE CHECK (length(id) = 16),
    name       TEXT    NOT NULL,
    shape      TEXT    NOT NULL CHECK (json_valid(shape)),
    severity   TEXT    NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
    revision   INTEGER NOT NULL CHECK (revision >= 0),
    updated_at INTEGER NOT NULL
) STRICT;

CREATE VIRTUAL TABLE zone_bounds USING rtree (number, west, east, south, north);
