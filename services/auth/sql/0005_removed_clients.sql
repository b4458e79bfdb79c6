-- A client that was removed stays on record: who did it, when, and that nobody takes its id again.
ALTER TABLE client ADD COLUMN removed_at timestamptz, ADD COLUMN removed_by text;
