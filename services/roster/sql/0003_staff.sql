-- Staff are persons as well. Whoever was known before is a student.
ALTER TABLE person ADD COLUMN kind text NOT NULL DEFAULT 'student', ADD COLUMN role text;
