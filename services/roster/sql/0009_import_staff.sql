-- Exports have staff too. Rows from before are of students.
ALTER TABLE import_row ADD COLUMN kind text NOT NULL DEFAULT 'student', ADD COLUMN role text;
ALTER TABLE import_row ALTER COLUMN kind DROP DEFAULT, ALTER COLUMN kind DROP NOT NULL;
