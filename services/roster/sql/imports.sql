-- name: open_import
SELECT import_id FROM import
WHERE district = $1 AND state IN ('pulling', 'received', 'awaiting_approval', 'applying')

-- name: count_uploads
SELECT count(*) FROM import WHERE district = $1 AND state = 'receiving'

-- name: begin_import
INSERT INTO import (import_id, district, state, dry_run, baseline, as_of, received_at, file_name, author,
                    correlation_id, author_who, changed_at)
VALUES ($1, $2, 'receiving', $3, $4, $5, $6, $7, $8, $9, $10, $6)

-- name: insert_piece
INSERT INTO import_piece (import_id, n, content) VALUES ($1, $2, $3)

-- name: receive_import
UPDATE import SET state = 'received', bytes = $2, sha256 = $3, changed_at = $4
WHERE import_id = $1 AND state = 'receiving'

-- name: discard_import
DELETE FROM import WHERE import_id = $1 AND state = 'receiving'

-- name: find_import
SELECT import.*, a.name AS author_name, p.name AS approved_by_name
FROM import
LEFT JOIN actor a ON a.client_id = import.author
LEFT JOIN actor p ON p.client_id = import.approved_by
WHERE import_id = $1 AND district = $2 AND state <> 'receiving'

-- name: find_import_locked
SELECT * FROM import WHERE import_id = $1 AND district = $2 AND state <> 'receiving' FOR UPDATE

-- name: recent_imports
SELECT import.*, a.name AS author_name, p.name AS approved_by_name
FROM import
LEFT JOIN actor a ON a.client_id = import.author
LEFT JOIN actor p ON p.client_id = import.approved_by
WHERE district = $1 AND state <> 'receiving' ORDER BY seq DESC LIMIT $2

-- name: flaws_of
SELECT n, flaw FROM import_flaw WHERE import_id = $1 AND n > $2 ORDER BY n LIMIT $3

-- name: changes_of
SELECT * FROM import_row
WHERE import_id = $1 AND n > $2 AND kinds <> '{}' AND ($4::text IS NULL OR $4 = ANY(kinds))
      AND ($5::text IS NULL OR state = $5)
ORDER BY n LIMIT $3

-- name: rows_by_state
SELECT state, count(*) FROM import_row WHERE import_id = $1 AND kinds <> '{}' GROUP BY state

-- name: approve_import
UPDATE import SET state = 'applying', approved_by = $2, changed_at = $3 WHERE import_id = $1

-- name: end_import
UPDATE import SET total = CASE WHEN state <> 'pulling' THEN total ELSE 0 END,
                  done = CASE WHEN state <> 'pulling' THEN done ELSE 0 END, state = $2, reason = $3, details = $4, changed_at = $5, ended_at = $5
WHERE import_id = $1 AND ended_at IS NULL

-- name: delete_pieces
DELETE FROM import_piece WHERE import_id = $1

-- name: delete_pages
DELETE FROM import_page WHERE import_id = $1

-- name: delete_unchanged
DELETE FROM import_row WHERE import_id = $1 AND kinds = '{}'

-- name: forget_reports
-- At most $3 at once. The last bulk export that was applied stays: older ones are refused by it.
DELETE FROM import WHERE import_id = ANY(ARRAY(
    SELECT import_id FROM import
    WHERE district = $1 AND ended_at IS NOT NULL
          AND seq <= (SELECT seq FROM import WHERE district = $1 AND ended_at IS NOT NULL
                      ORDER BY seq DESC OFFSET $2 LIMIT 1)
          AND seq IS DISTINCT FROM
              (SELECT max(seq) FROM import WHERE district = $1 AND mode = 'bulk' AND NOT dry_run AND done > 0)
    ORDER BY seq LIMIT $3))

-- name: take_lock
SELECT pg_try_advisory_lock(hashtext('homeroom-imports'))

-- name: next_import
-- Who has waited longest: a long import does not make the other districts wait for its end.
SELECT * FROM import
WHERE state IN ('received', 'applying') AND district = ANY($1::text[]) AND coalesce(next_try_at, $2) <= $2
ORDER BY changed_at, seq LIMIT 1

-- name: pieces
SELECT content FROM import_piece WHERE import_id = $1 AND n = $2

-- name: postpone
UPDATE import SET crashes = crashes + $2, next_try_at = $3
WHERE import_id = $1 AND state IN ('pulling', 'received', 'applying')
RETURNING crashes

-- name: last_queued
SELECT coalesce(max(seq), 0) FROM outbox

-- name: behind
-- Whether the read model lacks something that had been recorded when outbox row $1 was the last.
SELECT EXISTS (SELECT FROM outbox WHERE seq <= $1) OR EXISTS (
    SELECT FROM publication AS sent
    LEFT JOIN checkpoint AS seen ON seen.consumer = $2 AND seen.topic = $3 AND seen.part = sent.part
    WHERE coalesce(seen.next_offset, 0) <= sent.last_offset
)

-- name: newest_bulk
SELECT max(as_of) FROM import
WHERE district = $1 AND mode = 'bulk' AND NOT dry_run AND (done > 0 OR state = 'done') AND import_id <> $2

-- name: stage
CREATE TEMPORARY TABLE staged (
    file text, line integer, source_id text, kind text, number text, last_name text, first_name text, school text,
    grade text, role text, gone text, classes jsonb, unassigned jsonb, classes_whole boolean, partial boolean,
    flawed boolean, other_kind boolean NOT NULL DEFAULT false,
    survivor text
) ON COMMIT DROP

-- name: stage_survivors
-- Into whom they were merged, and those in turn: at most $2 times.
UPDATE staged SET survivor = found.survivor
FROM (
    WITH RECURSIVE merged (source_id, survivor_id, times) AS (
        SELECT source_id, merged_into, 1 FROM person WHERE district = $1 AND merged_into IS NOT NULL
        UNION ALL
        SELECT merged.source_id, person.merged_into, times + 1 FROM merged JOIN person ON person_id = survivor_id
        WHERE person.merged_into IS NOT NULL AND times < $2
    )
    SELECT DISTINCT ON (merged.source_id) merged.source_id, person.source_id AS survivor
    FROM merged JOIN person ON person_id = survivor_id
    ORDER BY merged.source_id, times DESC
) AS found
WHERE staged.source_id = found.source_id AND NOT staged.flawed

-- name: stage_in_their_place
-- A merged record that the export still has, where the survivor has gone: the SIS kept that one, and it speaks of them.
-- $1: whom the export does not name has gone, too. Of several the first in the file.
UPDATE staged SET source_id = survivor
WHERE survivor IS NOT NULL AND gone IS NULL
      AND NOT EXISTS (SELECT FROM staged v WHERE v.source_id = staged.survivor AND (v.flawed OR v.gone IS NULL))
      AND ($1 OR EXISTS (SELECT FROM staged v WHERE v.source_id = staged.survivor))
      AND NOT EXISTS (SELECT FROM staged o WHERE o.survivor = staged.survivor AND o.gone IS NULL
                            AND (o.line, o.source_id) < (staged.line, staged.source_id))

-- name: unstage_replaced
DELETE FROM staged g
WHERE survivor IS NULL AND NOT flawed AND EXISTS (
    SELECT FROM staged r WHERE r.source_id = g.source_id AND r.survivor = g.source_id)

-- name: unstage_merged
-- All else that is said of merged records says nothing of the survivors. Answers of whom it said that they are there.
DELETE FROM staged WHERE survivor <> source_id RETURNING gone IS NULL AS there

-- name: stage_absent
-- Whom exports have named and this one does not, not even in a row that could not be read.
INSERT INTO staged (source_id, gone, partial, flawed)
SELECT person.source_id, $3, false, false FROM person
WHERE person.district = $1 AND person.enrollments @> $2 AND person.merged_into IS NULL
      AND NOT EXISTS (SELECT FROM staged WHERE staged.source_id = person.source_id)

-- name: unknown_classes
-- Classes that a delta names and does not tell of, and that nobody is in.
SELECT source_id, said ->> 'class_id' AS class_id, (said ->> 'line')::integer AS line
FROM staged, jsonb_array_elements(classes) AS said
WHERE said ? 'known' AND NOT EXISTS (
    SELECT FROM person WHERE person.district = $1 AND person.classes <> '[]'
        AND jsonb_path_query_array(person.classes, '$[*].class_id') ? (said ->> 'class_id'))
ORDER BY line

-- name: fill_classes
-- Title, school and days of such a class are those of its members on file, of a teacher's first; an enrollment's own days
-- count before them. Without such a member the person is not in it.
WITH told AS (
    SELECT staged.source_id, found.said, found.n
    FROM staged, jsonb_array_elements(staged.classes) WITH ORDINALITY AS found (said, n)
    WHERE staged.classes @> '[{"known": false}]'
), wanted AS (
    SELECT DISTINCT said ->> 'class_id' AS class_id FROM told WHERE said ? 'known'
), known AS (
    SELECT DISTINCT ON (class_id) class_id, held
    FROM wanted
    JOIN person ON person.district = $1 AND person.classes <> '[]'
         AND jsonb_path_query_array(person.classes, '$[*].class_id') ? wanted.class_id,
    jsonb_array_elements(person.classes) AS held
    WHERE held ->> 'class_id' = class_id
    ORDER BY class_id, held ->> 'role' DESC, person_id
), filled AS (
    SELECT source_id, coalesce(jsonb_agg(CASE WHEN said ? 'known' THEN said - 'known' - 'line' || jsonb_build_object(
            'title', held -> 'title', 'school', held -> 'school',
            'begins_on', coalesce(nullif(said -> 'begins_on', 'null'), held -> 'begins_on'),
            'ends_on', coalesce(nullif(said -> 'ends_on', 'null'), held -> 'ends_on')) ELSE said END ORDER BY n)
        FILTER (WHERE NOT said ? 'known' OR held IS NOT NULL), '[]') AS classes
    FROM told LEFT JOIN known ON known.class_id = said ->> 'class_id'
    GROUP BY source_id
)
UPDATE staged SET classes = filled.classes FROM filled WHERE staged.source_id = filled.source_id

-- name: stage_other_kind
-- Whom the export says to be what they are not on file, as which they are not in it then. A row that only tells what has
-- changed of them is about nobody.
UPDATE staged SET other_kind = gone IS NULL, flawed = partial, gone = $2
FROM person
WHERE person.district = $1 AND person.source_id = staged.source_id AND person.kind <> staged.kind AND NOT staged.flawed

-- name: analyze_staged
ANALYZE staged

-- name: plan
-- What each staged row means beside what is on file. Who leaves comes first, so that their numbers are free for others.
INSERT INTO import_row (import_id, n, file, line, source_id, kind, number, last_name, first_name, school, grade, role,
                        gone, classes, unassigned, classes_whole, partial, kinds, version, before, state)
SELECT $1, row_number() OVER (ORDER BY kinds = '{}', kinds @> '{withdrawn}' DESC, line, source_id),
       file, line, source_id, kind, number, last_name, first_name, school, grade, role, gone, classes, unassigned,
       classes_whole, partial, kinds, version,
       CASE WHEN kinds @> '{reassigned}' THEN before || jsonb_build_object('classes', on_file)
            WHEN kinds <> '{}' THEN before END, 'planned'
FROM (
    SELECT s.*, p.version,
        CASE WHEN p.person_id IS NOT NULL THEN jsonb_build_object(
            'number', p.number, 'last_name', p.last_name, 'first_name', p.first_name,
            'school', p.school, 'grade', p.grade, 'role', p.role, 'status', p.status) END AS before,
        p.classes AS on_file,
        CASE
        WHEN p.person_id IS NULL THEN '{added}'
        WHEN s.gone = $6 AND NOT p.enrollments @> $3 THEN '{}'
        WHEN s.gone IS NOT NULL THEN CASE WHEN p.status = 'enrolled' THEN '{withdrawn}' ELSE '{}'::text[] END
        ELSE array_remove(ARRAY[
            CASE WHEN NOT s.partial AND p.status = 'withdrawn' THEN 'returned' END,
            CASE WHEN s.last_name <> p.last_name OR s.first_name <> p.first_name THEN 'corrected' END,
            CASE WHEN s.number <> p.number THEN 'renumbered' END,
            CASE WHEN s.school <> coalesce(p.school, '') OR s.grade <> coalesce(p.grade, '')
                      OR s.role <> coalesce(p.role, '') THEN 'moved' END,
            CASE WHEN s.classes_whole
                      AND s.classes <> jsonb_path_query_array(p.classes, '$[*] ? (@.exported == true)')
                 THEN 'reassigned'
                 WHEN NOT s.classes_whole AND (NOT p.classes @> s.classes OR EXISTS (
                      SELECT FROM jsonb_array_elements(p.classes) AS held WHERE s.unassigned ? (held ->> 'class_id')))
                 THEN 'reassigned' END,
            CASE WHEN NOT s.partial AND NOT p.enrollments @> $3 THEN 'linked' END,
            CASE WHEN $5 AND NOT s.partial AND NOT p.enrollments @> $4 THEN 'baseline' END
        ], NULL) END AS kinds
    FROM staged AS s LEFT JOIN person AS p ON p.district = $2 AND p.source_id = s.source_id
    WHERE NOT s.flawed AND (p.person_id IS NOT NULL OR (s.gone IS NULL AND NOT s.partial))
) AS found

-- name: count_kinds
SELECT found.kind, count(*) FROM import_row, unnest(kinds) AS found (kind) WHERE import_id = $1 GROUP BY found.kind

-- name: count_plan
SELECT count(*) FILTER (WHERE kinds = '{}' AND gone IS NULL) AS unchanged,
       count(*) FILTER (WHERE kinds @> '{renumbered}' AND before ->> 'status' = 'enrolled') AS renumbered,
       count(*) AS total
FROM import_row WHERE import_id = $1

-- name: count_beside
-- What the report says beside the changes: the enrolled of the district, those of them whom no export has named, rows
-- that take away whom nobody knows, rows that change whom nobody knows, rows of people who are of the other kind, and how
-- many people of this export share their number with another.
SELECT
    (SELECT count(*) FROM person WHERE district = $1 AND status = 'enrolled') AS enrolled,
    (SELECT count(*) FROM person WHERE district = $1 AND status = 'enrolled' AND NOT enrollments @> $2
        AND NOT EXISTS (SELECT FROM staged WHERE staged.source_id = person.source_id)) AS never_exported,
    (SELECT count(*) FROM staged WHERE NOT flawed AND gone <> $3
        AND NOT EXISTS (SELECT FROM person WHERE district = $1 AND person.source_id = staged.source_id)) AS never_here,
    (SELECT count(*) FROM staged WHERE NOT flawed AND gone IS NULL AND partial
        AND NOT EXISTS (SELECT FROM person WHERE district = $1 AND person.source_id = staged.source_id)) AS unknown,
    (SELECT count(*) FROM staged WHERE other_kind) AS other_kind,
    (SELECT coalesce(sum(n), 0)::bigint FROM (
        SELECT count(*) AS n FROM staged WHERE gone IS NULL AND NOT flawed AND number IS NOT NULL
        GROUP BY number HAVING count(*) > 1) AS shared) AS shared_numbers

-- name: insert_flaws
INSERT INTO import_flaw (import_id, n, flaw)
SELECT $1, n, flaw FROM unnest($2::jsonb[]) WITH ORDINALITY AS found (flaw, n)

-- name: insert_unknown
-- Rows of a delta that tell something of somebody, and too little to begin with; and of people of the other kind: the
-- first ones.
INSERT INTO import_flaw (import_id, n, flaw)
SELECT $1, $2 + row_number() OVER (ORDER BY line, source_id), jsonb_build_object(
    'file', file, 'line', line, 'source_id', source_id,
    'reason', CASE WHEN other_kind THEN 'kind_differs' ELSE 'person_unknown' END,
    'details', CASE WHEN other_kind
        THEN jsonb_build_object('known_as', CASE kind WHEN 'staff' THEN 'student' ELSE 'staff' END)
        ELSE jsonb_build_object('source_id', source_id) END)
FROM staged
WHERE other_kind OR (NOT flawed AND gone IS NULL AND partial
      AND NOT EXISTS (SELECT FROM person WHERE district = $3 AND person.source_id = staged.source_id))
ORDER BY line, source_id LIMIT $4

-- name: record_plan
UPDATE import SET state = $2, version = $3, mode = $4, source = $5, counts = $6, passed_over = $7, total = $8,
                  reason = $9, changed_at = $10, crashes = 0
WHERE import_id = $1 AND state = 'received'

-- name: applying_locked
SELECT * FROM import WHERE import_id = $1 AND state = 'applying' FOR UPDATE

-- name: next_rows
SELECT * FROM import_row WHERE import_id = $1 AND state = 'planned' ORDER BY n LIMIT $2

-- name: settle_rows
UPDATE import_row SET state = settled.state, reason = settled.reason, details = settled.details
FROM unnest($2::integer[], $3::text[], $4::text[], $5::jsonb[]) AS settled (n, state, reason, details)
WHERE import_row.import_id = $1 AND import_row.n = settled.n

-- name: delete_rows
DELETE FROM import_row WHERE import_id = $1 AND n = ANY($2::integer[])

-- name: record_progress
UPDATE import SET done = done + $2, changed_at = $3, crashes = 0 WHERE import_id = $1
