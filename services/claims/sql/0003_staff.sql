-- Staff are persons as well. Whoever was known before is a student.
ALTER TABLE admission ADD COLUMN kind text NOT NULL DEFAULT 'student';
