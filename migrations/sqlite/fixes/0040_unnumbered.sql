-- A fix to which its phone gave no number has one below 0, made of its time and place. A constraint alone is taken away: nothing
-- of what is stored changes, so the text of the schema is all that is written (https://www.sqlite.org/lang_altertable.html,
-- section 7).
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(sql, 'CHECK (seq BETWEEN 1 AND 9007199254740991)', 'CHECK (seq <= 9007199254740991)')
WHERE type = 'table' AND name IN ('fixes', 'trails');
PRAGMA writable_schema = RESET;
