-- name: follow
-- Lines are kept for these districts ($1) from now ($3) on, and for those ($2) no more.
WITH begun AS (
    INSERT INTO webhook (district, next_at) SELECT district, $3 FROM unnest($1::text[]) AS w (district)
    ON CONFLICT (district) DO NOTHING
), ended AS (
    DELETE FROM webhook WHERE district = ANY($2::text[])
)
DELETE FROM webhook_line WHERE district = ANY($2::text[])

-- name: is_due
SELECT next_at <= $2 FROM webhook WHERE district = $1

-- name: take_lines
-- Those that are due ($2), each by one process; whoever dies with one leaves it to the next try.
WITH taken AS (
    UPDATE webhook_line l SET tries = l.tries + 1, next_at = $2::timestamptz + least($4::interval * (2 ^ least(l.tries, 20)), $5)
    WHERE l.audit_id IN (
        SELECT audit_id FROM webhook_line WHERE district = $1 AND next_at <= $2 AND expires_at > $2
        ORDER BY next_at, audit_id LIMIT $3 FOR UPDATE SKIP LOCKED
    )
    RETURNING l.audit_id
)
SELECT a.audit_id, a.event_id, a.district, a.at, a.what, a.outcome, a.person_id, a.actor, a.client, a.device,
       a.device_kind, a.network, a.reference, a.desk_ticket
FROM taken JOIN audit a USING (audit_id) ORDER BY a.audit_id

-- name: drop_lines
DELETE FROM webhook_line WHERE audit_id = ANY($1::bigint[])

-- name: went_well
UPDATE webhook SET tries = 0, next_at = $2 WHERE district = $1 AND tries > 0

-- name: went_wrong
UPDATE webhook SET tries = tries + 1, next_at = $2::timestamptz + greatest($5, least($3::interval * (2 ^ least(tries, 20)), $4))
WHERE district = $1 RETURNING tries

-- name: count_untold
SELECT count(*) FROM (SELECT FROM webhook_line LIMIT $1) AS counted
