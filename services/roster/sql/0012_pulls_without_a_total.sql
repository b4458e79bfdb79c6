-- Until the last page of a collection has come, a provider that does not count leaves its total unknown.
ALTER TABLE import_page ALTER COLUMN total DROP NOT NULL;
