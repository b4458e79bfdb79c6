-- For which of the help desk's tickets something was done, where it said so.
ALTER TABLE audit ADD COLUMN desk_ticket text;
