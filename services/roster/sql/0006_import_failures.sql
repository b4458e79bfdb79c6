-- An import that cannot be worked on because of an error of ours is tried again later, and in the end given up. `crashes`:
-- how often that failed since it last went on. `next_try_at`: others have their turn until then.
ALTER TABLE import ADD COLUMN next_try_at timestamptz;
ALTER TABLE import DROP CONSTRAINT import_state_check;
ALTER TABLE import ADD CONSTRAINT import_state_check CHECK (
    state IN ('receiving', 'received', 'awaiting_approval', 'applying', 'done', 'refused', 'cancelled', 'failed'));
