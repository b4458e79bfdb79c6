-- name: take_parts
SELECT part FROM unnest($1::integer[]) AS part WHERE pg_try_advisory_lock(hashtext('homeroom-relay'), part)

-- name: pending
SELECT outbox.seq, outbox.part, outbox.stream_id, outbox.version, event.event_id, event.type, event.schema,
       event.district, event.data, event.occurred_at, event.correlation_id, event.causation_id, event.traceparent
FROM outbox JOIN event USING (stream_id, version)
WHERE outbox.seq > $1 AND outbox.part = ANY($2::integer[])
ORDER BY outbox.seq LIMIT $3

-- name: mark_sent
-- Exactly the rows that were acknowledged, never a range: a lower number may be committed later than a higher one.
-- An offset at or below the last is of a topic made anew: what is known of the old one stays, for comparing.
WITH gone AS (
    DELETE FROM outbox WHERE seq = ANY($1::bigint[])
)
INSERT INTO publication (part, last_offset, last_event_id)
SELECT part, last_offset, last_event_id
FROM unnest($2::integer[], $3::bigint[], $4::uuid[]) AS sent (part, last_offset, last_event_id)
ON CONFLICT (part) DO UPDATE
SET last_offset = EXCLUDED.last_offset, last_event_id = EXCLUDED.last_event_id, at = clock_timestamp()
WHERE publication.last_offset < EXCLUDED.last_offset

-- name: oldest_running
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint

-- name: last_number
SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM outbox_seq_seq

-- name: next_transaction
SELECT pg_current_xact_id()::text::bigint

-- name: backlog
SELECT (SELECT count(*) FROM (SELECT 1 FROM outbox LIMIT $1) AS counted) AS pending,
       (SELECT event.recorded_at FROM outbox JOIN event USING (stream_id, version)
        ORDER BY outbox.seq LIMIT 1) AS oldest_at
