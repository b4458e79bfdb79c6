-- name: load
SELECT version, event_id, type, schema, district, data, occurred_at, correlation_id, causation_id, traceparent
FROM event WHERE stream_id = $1 ORDER BY version

-- name: append_next
-- The lock comes first and everything else from it: whoever waits here finds the version moved on and no row, and
-- then nothing is written at all. Outbox numbers are drawn under that lock, so they follow the versions.
WITH moved AS (
    UPDATE stream SET version = version + cardinality($4::uuid[])
    WHERE stream_id = $1 AND district = $2 AND version = $3
    RETURNING stream_id, district
), fact AS (
    INSERT INTO event (stream_id, version, event_id, type, schema, district, data, occurred_at,
                       correlation_id, causation_id, traceparent)
    SELECT moved.stream_id, $3 + e.n, e.event_id, e.type, e.schema, moved.district, e.data, $8, $9, $10, $11
    FROM moved, unnest($4::uuid[], $5::text[], $6::integer[], $7::json[])
        WITH ORDINALITY AS e (event_id, type, schema, data, n)
), queued AS (
    INSERT INTO outbox (part, stream_id, version)
    SELECT $12, moved.stream_id, $3 + n FROM moved, generate_series(1, cardinality($4::uuid[])) n ORDER BY n
)
SELECT 1 FROM moved

-- name: append_first
WITH moved AS (
    INSERT INTO stream (stream_id, district, version) VALUES ($1, $2, cardinality($4::uuid[]))
    ON CONFLICT (stream_id) DO NOTHING
    RETURNING stream_id, district
), fact AS (
    INSERT INTO event (stream_id, version, event_id, type, schema, district, data, occurred_at,
                       correlation_id, causation_id, traceparent)
    SELECT moved.stream_id, $3 + e.n, e.event_id, e.type, e.schema, moved.district, e.data, $8, $9, $10, $11
    FROM moved, unnest($4::uuid[], $5::text[], $6::integer[], $7::json[])
        WITH ORDINALITY AS e (event_id, type, schema, data, n)
), queued AS (
    INSERT INTO outbox (part, stream_id, version)
    SELECT $12, moved.stream_id, $3 + n FROM moved, generate_series(1, cardinality($4::uuid[])) n ORDER BY n
)
SELECT 1 FROM moved
