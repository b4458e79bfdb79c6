-- Who asked for an import, a person where that is known, whatever client or session they came with. NULL: `author`.
ALTER TABLE import ADD COLUMN author_who text;
