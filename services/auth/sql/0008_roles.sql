-- Whose a client is, where it is one person's: what it does and what their own session does is done by one human.
ALTER TABLE client ADD COLUMN person_id uuid;
