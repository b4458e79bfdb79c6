-- The classes of each person, and whom a class has. Who is in none is not in the index.
ALTER TABLE person ADD COLUMN classes jsonb NOT NULL DEFAULT '[]';
CREATE INDEX person_classes ON person USING gin (classes jsonb_path_ops) WHERE classes <> '[]';
