-- name: start
INSERT INTO rebuild (id, projection, purpose, state, started_by, started_at, changed_at)
VALUES ($1, $2, $3, 'building', $4, $5, $5)
ON CONFLICT (projection) WHERE finished_at IS NULL DO NOTHING
RETURNING *

-- name: find
SELECT * FROM rebuild WHERE id = $1

-- name: list
SELECT * FROM rebuild WHERE $1::text IS NULL OR projection = $1 ORDER BY started_at DESC LIMIT 100

-- name: open
SELECT * FROM rebuild WHERE finished_at IS NULL ORDER BY started_at

-- name: wish
UPDATE rebuild SET wish = $2, error = NULL, changed_at = $3 WHERE id = $1 AND finished_at IS NULL RETURNING *

-- name: progress
UPDATE rebuild SET done = $2, total = $3, changed_at = clock_timestamp()
WHERE id = $1 AND state = 'building' RETURNING wish

-- name: enter
-- The wish that was dealt with ($6) is over; one that came meanwhile stands.
UPDATE rebuild SET state = $2, wish = CASE WHEN $5 THEN NULL ELSE nullif(wish, $6) END, error = $3, report = report || $4, changed_at = clock_timestamp(),
       finished_at = CASE WHEN $5 THEN clock_timestamp() END
WHERE id = $1

-- name: still_building
-- Held until the writer is through: by then the table must be the one of this rebuild.
SELECT 1 FROM rebuild WHERE id = $1 AND state = 'building' FOR KEY SHARE

-- name: await_builders
-- One may have outlived its parent.
SELECT FROM rebuild WHERE projection = $1 FOR UPDATE

-- name: forget
WITH checkpoints AS (
    DELETE FROM checkpoint WHERE consumer = $1
), gates AS (
    DELETE FROM gate WHERE consumer = $1
)
DELETE FROM dead_letter WHERE consumer = $1

-- name: rename
WITH checkpoints AS (
    UPDATE checkpoint SET consumer = $2 WHERE consumer = $1
), gates AS (
    UPDATE gate SET consumer = $2 WHERE consumer = $1
)
UPDATE dead_letter SET consumer = $2 WHERE consumer = $1

-- name: copy_discarded
-- What operators gave up stays given up.
INSERT INTO dead_letter (consumer, district, key, version, event_id, topic, part, record_offset, appended_at, time_type,
                         record_key, headers, value, reason, detail, state, attempts, first_at, changed_at, changed_by, note)
SELECT $2, district, key, version, event_id, topic, part, record_offset, appended_at, time_type,
       record_key, headers, value, reason, detail, state, attempts, first_at, changed_at, changed_by, note
FROM dead_letter WHERE consumer = $1 AND state = 'discarded' AND version IS NOT NULL

-- name: discarded
SELECT key, version FROM dead_letter WHERE consumer = $1 AND state = 'discarded' AND version IS NOT NULL

-- name: built_parts
SELECT part, next_offset, alarm FROM checkpoint WHERE consumer = $1

-- name: put_checkpoint
INSERT INTO checkpoint (consumer, topic, part, next_offset, last_id) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING

-- name: lock_checkpoints
SELECT part, next_offset, alarm FROM checkpoint WHERE consumer = $1 ORDER BY part FOR UPDATE

-- name: count_behind
SELECT count(*) FROM stream s LEFT JOIN gate g ON g.consumer = $1 AND g.stream_id = s.stream_id
WHERE s.version > coalesce(g.version, 0)

-- name: behind
SELECT s.stream_id, coalesce(g.version, 0) AS version
FROM stream s LEFT JOIN gate g ON g.consumer = $1 AND g.stream_id = s.stream_id
WHERE s.version > coalesce(g.version, 0) LIMIT $2

-- name: count_letters
SELECT count(*) FROM dead_letter WHERE consumer = $1 AND state IN ('parked', 'queued')

-- name: indexes
-- The indexes of two tables of one shape, paired by what they are of: their names change hands with the tables.
SELECT one.name AS one, two.name AS two FROM
    (SELECT c.relname AS name, regexp_replace(pg_get_indexdef(c.oid), ' INDEX \S+ ON \S+ ', ' ') AS shape
     FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = $1::text::regclass) AS one
JOIN
    (SELECT c.relname AS name, regexp_replace(pg_get_indexdef(c.oid), ' INDEX \S+ ON \S+ ', ' ') AS shape
     FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = $2::text::regclass) AS two
USING (shape)

-- name: be_the_one
-- The process that does this service's rebuilds, as long as it holds this.
SELECT pg_try_advisory_lock(hashtext('homeroom-rebuilder'))
