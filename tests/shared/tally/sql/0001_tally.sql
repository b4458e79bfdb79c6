-- The read model of the counter, and what was taken.
CREATE TABLE count (person_id uuid PRIMARY KEY, district text NOT NULL, total bigint NOT NULL, steps jsonb NOT NULL,
    cleared boolean NOT NULL, cleared_at timestamptz, note text, version bigint NOT NULL);
CREATE TABLE taken (n bigint GENERATED ALWAYS AS IDENTITY, what text NOT NULL);
