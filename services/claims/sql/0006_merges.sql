-- Two records that are one person: the one that does not stay says into whom it was merged.
ALTER TABLE admission ADD COLUMN merged_into uuid;
