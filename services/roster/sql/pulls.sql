-- name: take_lock
SELECT pg_try_advisory_lock(hashtext('homeroom-pulls'))

-- name: begin_pull
INSERT INTO import (import_id, district, state, dry_run, baseline, as_of, received_at, author, correlation_id, changed_at,
                    pull_full, pull_since, author_who)
VALUES ($1, $2, 'pulling', $3, $4, $5, $5, $6, $7, $5, $8, $9, $10)

-- name: last_pull
-- When the last pull that was applied began, by the provider's clock; and the last whole one by ours.
SELECT max(coalesce(pulled_at, as_of)) AS pulled_at, max(as_of) FILTER (WHERE pull_full) AS full_at
FROM import WHERE district = $1 AND pull_full IS NOT NULL AND state = 'done' AND NOT dry_run

-- name: seen_slot
SELECT slot FROM pull_slot WHERE district = $1

-- name: take_slot
-- Nothing when another process has seen to it.
INSERT INTO pull_slot (district, slot) VALUES ($1, $2)
ON CONFLICT (district) DO UPDATE SET slot = $2 WHERE pull_slot.slot < $2
RETURNING slot

-- name: pulling
SELECT * FROM import
WHERE state = 'pulling' AND district = ANY($1::text[]) AND import_id <> ALL($2::uuid[]) AND coalesce(next_try_at, $3) <= $3
ORDER BY changed_at, seq LIMIT $4

-- name: pulling_locked
SELECT * FROM import WHERE import_id = $1 AND state = 'pulling' FOR UPDATE

-- name: last_page
SELECT n, next_offset, total, last_id FROM import_page
WHERE import_id = $1 AND collection = $2 ORDER BY n DESC LIMIT 1

-- name: insert_page
INSERT INTO import_page (import_id, collection, n, next_offset, total, last_id, files)
VALUES ($1, $2, $3, $4, $5, $6, $7)

-- name: record_page
UPDATE import SET done = $2, total = $3, changed_at = $4, crashes = 0,
                  pulled_at = coalesce(pulled_at, $5), as_of = least(as_of, coalesce(pulled_at, $5))
WHERE import_id = $1

-- name: begin_again
UPDATE import SET restarts = restarts + 1, done = 0, changed_at = $2 WHERE import_id = $1 RETURNING restarts

-- name: delete_collection
DELETE FROM import_page WHERE import_id = $1 AND collection = $2

-- name: page_of_file
SELECT n, files ->> $3::text AS content FROM import_page
WHERE import_id = $1 AND collection = $2 AND n > $4 ORDER BY n LIMIT 1

-- name: pulled
UPDATE import SET state = 'received', bytes = $2, sha256 = $3, total = 0, done = 0, changed_at = $4
WHERE import_id = $1 AND state = 'pulling'
