-- Resets of a school and of all students: what a batch covers, whom it left out, and lists of many behind short ones.
ALTER TABLE reset_batch
    ADD COLUMN extent text NOT NULL DEFAULT 'lines'
        CHECK (extent IN ('account', 'lines', 'school', 'all_students')),
    ADD COLUMN school text,
    ADD COLUMN unclaimed integer NOT NULL DEFAULT 0;
ALTER TABLE reset_item ADD COLUMN bulk boolean NOT NULL DEFAULT false;

DROP INDEX reset_item_planned;
CREATE INDEX reset_item_planned ON reset_item (bulk, changed_at, batch_id, line) WHERE state = 'planned';
-- What one client has reset lately.
CREATE INDEX reset_batch_author ON reset_batch (district, author, as_of);
