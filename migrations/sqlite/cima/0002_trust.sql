-- Links and disclosures. A link without accepted_at is pending; an ended one is not there.

CREATE TABLE links (
    id           BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    subject_id   BLOB    NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    contact_id   BLOB    NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    scopes       INTEGER NOT NULL CHECK (scopes BETWEEN 0 AND 15),
    tier         INTEGER NOT NULL CHECK (tier BETWEEN 0 AND 255),
    hears_duress INTEGER NOT NULL CHECK (hears_duress IN (0, 1)),
    created_at   INTEGER NOT NULL,
    accepted_at  INTEGER,
    scopes_since INTEGER NOT NULL,
    expires_at   INTEGER,
    UNIQUE (subject_id, contact_id),
    CHECK (subject_id <> contact_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX links_of_subject ON links (subject_id, id);
CREATE INDEX links_of_contact ON links (contact_id, id);

CREATE TABLE disclosures (
    id           INTEGER PRIMARY KEY,
    viewer_id    BLOB    NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    subject_id   BLOB    NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    basis        TEXT    NOT NULL CHECK (basis IN ('live_location', 'emergency')),
    emergency_id BLOB    CHECK (length(emergency_id) = 16),
    covert       INTEGER NOT NULL CHECK (covert IN (0, 1)),
    first_at     INTEGER NOT NULL,
    last_at      INTEGER NOT NULL,
    fixes        INTEGER NOT NULL CHECK (fixes >= 0),
    CHECK (viewer_id <> subject_id),
    CHECK (first_at <= last_at),
    CHECK ((basis = 'emergency') = (emergency_id IS NOT NULL))
) STRICT;

-- A NULL is unlike any other NULL, so the key has no NULL in it.
CREATE UNIQUE INDEX disclosures_key
    ON disclosures (viewer_id, subject_id, basis, coalesce(emergency_id, x''), covert);
CREATE INDEX disclosures_of_subject ON disclosures (subject_id, id) WHERE covert = 0;
CREATE INDEX disclosures_subject ON disclosures (subject_id);
