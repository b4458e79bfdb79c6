-- Names and numbers are kept in the roster's read model alone: what differed is enough, and whose it was.
UPDATE refusal SET detail = detail - 'on_file' - 'username' WHERE detail ?| ARRAY['on_file', 'username'];

UPDATE reset_batch SET report = (
    SELECT coalesce(jsonb_agg(line - 'username' - 'on_file' ORDER BY place), '[]')
    FROM jsonb_array_elements(report) WITH ORDINALITY AS listed (line, place)
);
