-- name: line
-- What is open of one key, in the order in which it has to be taken.
SELECT * FROM dead_letter
WHERE consumer = $1 AND key = $2 AND state IN ('parked', 'queued')
ORDER BY version NULLS FIRST, id LIMIT $3 FOR UPDATE

-- name: single
SELECT * FROM dead_letter WHERE id = $1 AND state IN ('parked', 'queued') FOR UPDATE

-- name: open_keys
SELECT DISTINCT key FROM dead_letter
WHERE consumer = $1 AND key = ANY($2::text[]) AND state IN ('parked', 'queued')

-- name: wished
SELECT DISTINCT part, key, CASE WHEN key IS NULL THEN id END AS id FROM dead_letter
WHERE consumer = $1 AND part = ANY($2::integer[]) AND wish IS NOT NULL AND state IN ('parked', 'queued')
LIMIT 100

-- name: insert
INSERT INTO dead_letter (consumer, district, key, version, event_id, topic, part, record_offset, appended_at, time_type,
                         record_key, headers, value, reason, detail, state, first_at, changed_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $17)

-- name: change
-- $7: it is taken out of its line, and waits by itself.
UPDATE dead_letter
SET key = CASE WHEN NOT $7 THEN key END, state = $2, reason = $3, detail = $4, attempts = attempts + $5, wish = NULL, changed_at = $6
WHERE id = $1

-- name: go_on
-- A line too long for one transaction: its next letter is asked for again, so that the rest follows.
UPDATE dead_letter SET state = 'parked', wish = 'retry'
WHERE id = (SELECT id FROM dead_letter WHERE consumer = $1 AND key = $2 AND state IN ('parked', 'queued')
            ORDER BY version NULLS FIRST, id LIMIT 1)

-- name: wish
UPDATE dead_letter SET wish = $2, changed_by = $3, note = coalesce($4, note), changed_at = $5
WHERE id = $1 AND state = 'parked'
RETURNING *

-- name: wish_where_policy_is_back
UPDATE dead_letter SET wish = 'retry'
WHERE state = 'parked' AND reason = 'policy_missing' AND wish IS NULL AND district = ANY($1::text[])

-- name: find
SELECT * FROM dead_letter WHERE id = $1

-- name: list
SELECT id, consumer, district, key, version, event_id, topic, part, record_offset, appended_at, reason, detail, state,
       attempts, first_at, changed_at, wish, changed_by, note
FROM dead_letter
WHERE ($1::text IS NULL OR district = $1) AND ($2::text IS NULL OR consumer = $2)
  AND CASE WHEN $3::text IS NULL THEN state IN ('parked', 'queued') ELSE state = $3 END
  AND ($6::text IS NULL OR topic = $6) AND id > $4
ORDER BY id LIMIT $5

-- name: count_open
SELECT consumer, state, count(*) FROM dead_letter WHERE state IN ('parked', 'queued') GROUP BY consumer, state
