-- The clock of this machine: what has been seen of it, and how often what is due was moved with it.
CREATE TABLE fleet_clock (
    only_row     INTEGER NOT NULL PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    seen_at      INTEGER NOT NULL,
    steps        INTEGER NOT NULL DEFAULT 0,
    last_step_ms INTEGER NOT NULL DEFAULT 0,
    undone       INTEGER NOT NULL DEFAULT 0 CHECK (undone IN (0, 1))
) STRICT;
INSERT INTO fleet_clock (seen_at) VALUES (0);
