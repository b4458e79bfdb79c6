-- Exports that are pulled from the SIS over REST. `pull_full`: whole, or what was modified since `pull_since`; NULL: the
-- export was uploaded. `pulled_at`: when it began, by the provider's clock. `restarts`: how often a collection was begun
-- anew because it moved while it was read.
ALTER TABLE import ADD COLUMN pull_full boolean;
ALTER TABLE import ADD COLUMN pull_since timestamptz;
ALTER TABLE import ADD COLUMN pulled_at timestamptz;
ALTER TABLE import ADD COLUMN restarts integer NOT NULL DEFAULT 0;
ALTER TABLE import DROP CONSTRAINT import_state_check;
ALTER TABLE import ADD CONSTRAINT import_state_check CHECK (
    state IN ('receiving', 'pulling', 'received', 'awaiting_approval', 'applying', 'done', 'refused', 'cancelled',
              'failed'));
DROP INDEX import_open;
CREATE UNIQUE INDEX import_open ON import (district)
    WHERE state IN ('pulling', 'received', 'awaiting_approval', 'applying');

-- What was pulled so far, page by page, as rows of the export's files. `next_offset`: items of the collection until here.
CREATE TABLE import_page (
    import_id   uuid NOT NULL REFERENCES import ON DELETE CASCADE,
    collection  text NOT NULL,
    n           integer NOT NULL,
    next_offset integer NOT NULL,
    total       integer NOT NULL,
    last_id     text NOT NULL,
    files       jsonb NOT NULL,
    PRIMARY KEY (import_id, collection, n)
);

-- The last moment of each district's schedule that was seen to.
CREATE TABLE pull_slot (
    district text PRIMARY KEY,
    slot     timestamptz NOT NULL
);
