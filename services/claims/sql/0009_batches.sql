-- The resets of a district, the newest first.
CREATE INDEX reset_batch_as_of ON reset_batch (district, as_of, batch_id);
