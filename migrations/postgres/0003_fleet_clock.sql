-- The clock of all nodes: what has been seen of this server's, and how often what is due was moved with it.
CREATE TABLE fleet_clock (
    only_row     boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    seen_at      timestamptz NOT NULL,
    steps        bigint      NOT NULL DEFAULT 0,
    last_step_ms bigint      NOT NULL DEFAULT 0,
    undone       boolean     NOT NULL DEFAULT false
);
-- It is written again and again by every node: room for new versions of the row in its page.
ALTER TABLE fleet_clock SET (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
INSERT INTO fleet_clock (seen_at) VALUES (clock_timestamp());

UPDATE schema_info SET version = 3;
