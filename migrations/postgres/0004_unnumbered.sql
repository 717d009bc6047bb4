-- A fix to which its phone gave no number has one below 0, made of its time and place.
ALTER TABLE fixes DROP CONSTRAINT fixes_seq_check;
ALTER TABLE trails DROP CONSTRAINT trails_seq_check;

UPDATE schema_info SET version = 4;
