-- name: load
SELECT stream_id, version, event_id, type, schema, district, data, occurred_at, correlation_id, causation_id, traceparent
FROM event WHERE stream_id = $1 ORDER BY version

-- name: append
-- The lock comes first and everything else from it: whoever waits here finds the version moved on and no row, and
-- then nothing is written at all. Outbox numbers are drawn under that lock, so they follow the versions.
WITH begun AS (
    INSERT INTO stream (stream_id, district, version)
    SELECT $1, $2, cardinality($4::uuid[]) WHERE $3::bigint = 0
    ON CONFLICT (stream_id) DO NOTHING
    RETURNING stream_id, district
), moved AS (
    UPDATE stream SET version = version + cardinality($4::uuid[])
    WHERE $3::bigint > 0 AND stream_id = $1 AND district = $2 AND version = $3
    RETURNING stream_id, district
), held AS (
    SELECT * FROM begun UNION ALL SELECT * FROM moved
), fact AS (
    INSERT INTO event (stream_id, version, event_id, type, schema, district, data, occurred_at,
                       correlation_id, causation_id, traceparent)
    SELECT held.stream_id, $3 + e.n, e.event_id, e.type, e.schema, held.district, e.data, $8, $9, $10, $11
    FROM held, unnest($4::uuid[], $5::text[], $6::integer[], $7::json[])
        WITH ORDINALITY AS e (event_id, type, schema, data, n)
    RETURNING stream_id, version
), queued AS (
    INSERT INTO outbox (part, stream_id, version)
    SELECT $12, stream_id, version FROM fact ORDER BY version
)
SELECT 1 FROM held
