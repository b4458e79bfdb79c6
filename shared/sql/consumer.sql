-- name: begin_checkpoints
INSERT INTO checkpoint (consumer, topic, part, next_offset)
SELECT $1, $2, part, next_offset FROM unnest($3::integer[], $4::bigint[]) AS first (part, next_offset)
ON CONFLICT DO NOTHING

-- name: checkpoints
SELECT part, next_offset, last_id FROM checkpoint WHERE consumer = $1 AND topic = $2 AND part = ANY($3::integer[])

-- name: move_checkpoints
-- Compare and set: who does not find every partition where it left it is not their owner any more.
UPDATE checkpoint SET next_offset = moved.next_offset, last_id = moved.last_id, at = clock_timestamp()
FROM unnest($3::integer[], $4::bigint[], $5::bigint[], $6::text[]) AS moved (part, expected, next_offset, last_id)
WHERE consumer = $1 AND topic = $2 AND checkpoint.part = moved.part AND checkpoint.next_offset = moved.expected

-- name: set_alarm
UPDATE checkpoint SET alarm = $4
WHERE consumer = $1 AND topic = $2 AND part = ANY($3::integer[]) AND alarm IS DISTINCT FROM $4

-- name: gates
SELECT stream_id, version, event_id, parked_at IS NOT NULL AS parked
FROM gate WHERE consumer = $1 AND stream_id = ANY($2::uuid[])

-- name: move_gates
INSERT INTO gate (consumer, stream_id, version, event_id)
SELECT $1, stream_id, version, event_id
FROM json_to_recordset($2::json) AS moved (stream_id uuid, version bigint, event_id uuid)
ON CONFLICT (consumer, stream_id) DO UPDATE SET version = EXCLUDED.version, event_id = EXCLUDED.event_id

-- name: park
INSERT INTO gate (consumer, stream_id, version, parked_at) VALUES ($1, $2, 0, $3)
ON CONFLICT (consumer, stream_id) DO UPDATE SET parked_at = EXCLUDED.parked_at
WHERE (gate.parked_at IS NULL) <> (EXCLUDED.parked_at IS NULL)

-- name: join_process
-- Shared, in place of a slot's, and held for as long as the process takes part: their number is that of the processes.
SELECT pg_advisory_lock_shared(hashtext($1), 1000000)

-- name: leave_process
SELECT pg_advisory_unlock_shared(hashtext($1), 1000000)

-- name: count_processes
SELECT count(*) FROM pg_locks
WHERE locktype = 'advisory' AND granted AND mode = 'ShareLock' AND objsubid = 2
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND classid = (hashtext($1)::bigint & 4294967295)::oid AND objid = 1000000::oid

-- name: take_slots
SELECT slot FROM unnest($2::integer[]) AS slot WHERE pg_try_advisory_lock(hashtext($1), slot) LIMIT $3

-- name: release_slots
SELECT count(pg_advisory_unlock(hashtext($1), slot)) FROM unnest($2::integer[]) AS slot

-- name: all_checkpoints
SELECT consumer, topic, part, next_offset, at, alarm FROM checkpoint ORDER BY consumer, topic, part
