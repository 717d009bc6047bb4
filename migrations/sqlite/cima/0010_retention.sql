-- What has had its time is found by its age.

-- 1: its subject sees no more of it than that it was; 2: nobody does, and no more of it is there. Its ids stay for ever.
ALTER TABLE emergencies ADD COLUMN erased INTEGER NOT NULL DEFAULT 0 CHECK (erased IN (0, 1, 2));

-- The end that its subject knows of, and the true one.
CREATE INDEX emergencies_shown_whole ON emergencies (coalesce(apparent_at, ended_at)) WHERE erased = 0;
CREATE INDEX emergencies_whole ON emergencies (ended_at) WHERE erased < 2;

CREATE INDEX alerts_by_age ON alerts (stored_at);
CREATE INDEX transitions_by_age ON transitions (at);
CREATE INDEX disclosures_by_age ON disclosures (last_at);
