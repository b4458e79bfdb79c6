-- name: publications
SELECT part, last_offset, last_event_id FROM publication WHERE part = ANY($1::integer[])

-- name: event_ids
-- For each (stream, version) asked for, the event that the store has there, or NULL. In the order asked.
SELECT event.event_id
FROM unnest($1::uuid[], $2::bigint[]) WITH ORDINALITY AS asked (stream_id, version, n)
LEFT JOIN event USING (stream_id, version)
ORDER BY n

-- name: published_versions
-- How far each stream has been published, as the store believes: a page of streams after $1.
SELECT stream_id, version - (SELECT count(*) FROM outbox WHERE outbox.stream_id = stream.stream_id) AS version
FROM stream WHERE stream_id > $1 ORDER BY stream_id LIMIT $2
