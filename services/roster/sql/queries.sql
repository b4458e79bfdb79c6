-- name: open_identities
-- In the order of the keys, like every lock here: two batches that share persons never wait for each other in a circle.
INSERT INTO identity (district, source_id, person_id, said)
SELECT $1, new.source_id, new.person_id, '{}' FROM unnest($2::text[], $3::uuid[]) AS new (source_id, person_id)
ORDER BY new.source_id
ON CONFLICT (district, source_id) DO NOTHING

-- name: lock_identities
SELECT source_id, person_id, said FROM identity WHERE district = $1 AND source_id = ANY($2::text[])
ORDER BY source_id FOR UPDATE

-- name: versions
SELECT stream_id, version FROM stream WHERE stream_id = ANY($1::uuid[])

-- name: remember_said
UPDATE identity SET said = heard.said FROM unnest($2::text[], $3::jsonb[]) AS heard (source_id, said)
WHERE identity.district = $1 AND identity.source_id = heard.source_id

-- name: earlier_outcomes
SELECT event_id, digest, state, person_id, reason, details FROM ingress
WHERE district = $1 AND event_id = ANY($2::text[])

-- name: remember_outcomes
-- What was refused may be said again, with other content too. What was taken may only be repeated.
INSERT INTO ingress (district, event_id, digest, type, source_id, person_id, state, reason, details,
                     received_at, decided_at)
SELECT $1, new.*, $2::timestamptz FROM unnest($3::text[], $4::bytea[], $5::text[], $6::text[], $7::uuid[], $8::text[],
                                 $9::text[], $10::jsonb[], $11::timestamptz[]) AS new
ON CONFLICT (district, event_id) DO UPDATE SET
    digest = EXCLUDED.digest, type = EXCLUDED.type, source_id = EXCLUDED.source_id, person_id = EXCLUDED.person_id,
    state = EXCLUDED.state, reason = EXCLUDED.reason, details = EXCLUDED.details,
    received_at = EXCLUDED.received_at, decided_at = EXCLUDED.decided_at
WHERE ingress.state = 'refused' OR ingress.digest = EXCLUDED.digest
RETURNING event_id

-- name: find_outcome
SELECT event_id, type, state, person_id, reason, details, received_at, decided_at FROM ingress
WHERE district = $1 AND event_id = $2

-- name: find_letter
-- What Kafka brought under this id and could not be taken; and the head of the line, if it only waits.
SELECT letter.id, letter.state, letter.reason, letter.detail, letter.appended_at, letter.changed_at,
       head.event_id AS head_event_id, head.reason AS head_reason
FROM dead_letter AS letter
LEFT JOIN dead_letter AS head ON letter.state = 'queued' AND head.state = 'parked'
     AND head.consumer = letter.consumer AND head.key = letter.key
WHERE letter.event_id = $2 AND letter.district = $1 AND letter.version IS NULL
      AND letter.state IN ('parked', 'queued', 'discarded')
ORDER BY letter.id DESC LIMIT 1

-- name: wish_where_survivor_is_known
UPDATE dead_letter SET wish = 'retry'
WHERE state = 'parked' AND reason = $1 AND wish IS NULL AND EXISTS (
    SELECT FROM person
    WHERE person.district = dead_letter.district
          AND person.source_id = CASE WHEN dead_letter.reason = $1 THEN dead_letter.detail::json ->> 'source_id' END
)

-- name: persons_by_number
SELECT * FROM person WHERE district = $1 AND number = $2 ORDER BY status, person_id LIMIT 100

-- name: person_by_id
SELECT * FROM person WHERE district = $1 AND person_id = $2

-- name: persons_in_classes
-- One look into the index for each class.
SELECT * FROM person
WHERE person_id IN (
    SELECT p.person_id FROM unnest($2::text[]) AS wanted (class_id)
    JOIN person p ON p.district = $1 AND p.classes <> '[]'
         AND jsonb_path_query_array(p.classes, '$[*].class_id') ? wanted.class_id
)
ORDER BY in_order(last_name), in_order(first_name), last_name, first_name, person_id LIMIT $3
