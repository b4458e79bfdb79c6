-- Whose code a claim has shown, where the district asks staff for one.
ALTER TABLE staging ADD COLUMN code_by text;
