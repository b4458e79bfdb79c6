-- Exports have classes too. `classes`: all that an export says of a person's (`classes_whole`), or what has changed, beside
-- `unassigned`.
ALTER TABLE import_row ADD COLUMN classes jsonb, ADD COLUMN unassigned jsonb, ADD COLUMN classes_whole boolean;

-- Of a class its members are looked for by its id alone. Titles and days need no entries: with 350,000 members that is
-- one for each instead of seven.
DROP INDEX person_classes;
CREATE INDEX person_classes ON person USING gin (jsonb_path_query_array(classes, '$[*].class_id'))
    WHERE classes <> '[]';
