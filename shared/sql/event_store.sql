-- name: load
SELECT stream_id, version, event_id, type, schema, district, data, occurred_at, correlation_id, causation_id, traceparent
FROM event WHERE stream_id = $1 ORDER BY version

-- name: load_many
SELECT stream_id, version, event_id, type, schema, district, data, occurred_at, correlation_id, causation_id, traceparent
FROM event WHERE stream_id = ANY($1::uuid[]) ORDER BY stream_id, version

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

-- name: append_many
-- The same for many streams; $1 to $4 say of each its id, the version after which it goes on, how many events, and its
-- partition. Locks are taken in the order of the ids: two of these that share streams never wait in a circle.
WITH given AS (
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::integer[], $4::integer[]) AS g (stream_id, expected, n, part)
), begun AS (
    INSERT INTO stream (stream_id, district, version)
    SELECT stream_id, $5, n FROM given WHERE expected = 0 ORDER BY stream_id
    ON CONFLICT (stream_id) DO NOTHING
    RETURNING stream_id
), locked AS (
    SELECT stream_id, n FROM stream JOIN given USING (stream_id)
    WHERE expected > 0 AND version = expected AND district = $5
    ORDER BY stream_id FOR UPDATE OF stream
), moved AS (
    UPDATE stream SET version = version + locked.n FROM locked WHERE stream.stream_id = locked.stream_id
    RETURNING stream.stream_id
), held AS (
    SELECT stream_id FROM begun UNION ALL SELECT stream_id FROM moved
), fact AS (
    INSERT INTO event (stream_id, version, event_id, type, schema, district, data, occurred_at,
                       correlation_id, causation_id, traceparent)
    SELECT e.stream_id, e.version, e.event_id, e.type, e.schema, $5, e.data, $12, e.correlation_id, e.causation_id,
           e.traceparent
    FROM held JOIN unnest($6::uuid[], $7::bigint[], $8::uuid[], $9::text[], $10::integer[], $11::json[], $13::text[],
                          $14::text[], $15::text[])
        AS e (stream_id, version, event_id, type, schema, data, correlation_id, causation_id, traceparent)
        USING (stream_id)
    RETURNING stream_id, version
), queued AS (
    INSERT INTO outbox (part, stream_id, version)
    SELECT part, stream_id, version FROM fact JOIN given USING (stream_id) ORDER BY stream_id, version
)
SELECT stream_id FROM held
