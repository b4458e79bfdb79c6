-- name: insert_refusal
INSERT INTO refusal (reference, district, route, reason, detail, person_id, at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (reference) DO NOTHING
RETURNING reference

-- name: find_refusal
SELECT reference, district, route, reason, detail, person_id, at FROM refusal WHERE reference = $1 AND district = $2

-- name: take_command
-- Whoever holds this lock runs the command; it ends with the transaction.
SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))

-- name: find_command
SELECT digest, status, headers, body FROM command WHERE caller = $1 AND route = $2 AND idempotency_key = $3

-- name: insert_command
INSERT INTO command (caller, route, idempotency_key, digest, status, headers, body, at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)

-- name: expire_refusals
DELETE FROM refusal WHERE reference IN (
    SELECT reference FROM refusal WHERE district = $1 AND at < $2 ORDER BY at LIMIT $3
)

-- name: timeline
SELECT event_id AS id, type, version, occurred_at AS time, recorded_at, data, correlation_id, causation_id
FROM event
WHERE stream_id = $1 AND district = $2 AND ($3::timestamptz IS NULL OR occurred_at <= $3) AND version > $4
ORDER BY version LIMIT $5

-- name: person_known
SELECT true FROM stream WHERE stream_id = $1 AND district = $2

-- name: note_actor
INSERT INTO actor (client_id, name) VALUES ($1, $2)
ON CONFLICT (client_id) DO UPDATE SET name = $2 WHERE actor.name <> $2

-- name: names_of
SELECT client_id, name FROM actor WHERE client_id = ANY($1::text[])
