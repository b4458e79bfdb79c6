-- Staff are persons as well. Whoever was known before is a student.
ALTER TABLE person ADD COLUMN kind text NOT NULL DEFAULT 'student' CHECK (kind IN ('student', 'staff'));
