-- An error of ours while an account is reset: the code under which it was logged.
ALTER TABLE reset_item ADD COLUMN reference text;
