-- name: pupils_under
-- Everybody whom the roster has under some numbers, as the rules ask for them.
SELECT a.person_id, a.kind, a.number, a.last_name, a.first_name, a.status = 'enrolled' AS enrolled, a.basis, a.baseline,
       g.parked_at IS NOT NULL AS parked
FROM admission a
LEFT JOIN gate g ON g.consumer = 'admission' AND g.stream_id = a.person_id
WHERE a.district = $1 AND a.number = ANY($2::text[])
ORDER BY a.person_id

-- name: pupil_locked
-- One person, held against the projector until the decision is committed, and how many others share the number.
SELECT a.person_id, a.kind, a.number, a.last_name, a.first_name, a.status = 'enrolled' AS enrolled, a.basis, a.baseline,
       EXISTS (
           SELECT FROM gate g
           WHERE g.consumer = 'admission' AND g.stream_id = a.person_id AND g.parked_at IS NOT NULL
       ) AS parked,
       (
           SELECT count(*) FROM admission o
           WHERE o.district = a.district AND o.number = a.number AND o.status = 'enrolled' AND o.person_id <> a.person_id
       ) AS namesakes
FROM admission a
WHERE a.person_id = $1 AND a.district = $2
FOR SHARE OF a

-- name: person_of
SELECT kind FROM admission WHERE person_id = $1 AND district = $2 AND number <> ''

-- name: note_role
INSERT INTO role_held (person_id, role) VALUES ($1, $2) ON CONFLICT DO NOTHING

-- name: end_role
DELETE FROM role_held WHERE person_id = $1 AND role = $2

-- name: roles_of
SELECT person_id, array_agg(role) AS roles FROM role_held WHERE person_id = ANY($1::uuid[]) GROUP BY person_id

-- name: persons_under
SELECT person_id FROM admission WHERE district = $1 AND number = $2 ORDER BY status, person_id LIMIT $3

-- name: parked
-- Since when a person's history cannot be applied, and the dead letter that holds it up, if there is one.
SELECT g.parked_at AS since, d.id AS dead_letter, d.reason
FROM gate g
LEFT JOIN LATERAL (
    SELECT id, reason FROM dead_letter
    WHERE consumer = g.consumer AND key = g.stream_id::text AND state IN ('parked', 'queued') ORDER BY id LIMIT 1
) d ON true
WHERE g.consumer = 'admission' AND g.stream_id = $1 AND g.parked_at IS NOT NULL

-- name: others_enrolled_under
SELECT person_id FROM admission
WHERE district = $1 AND number = $2 AND status = 'enrolled' AND person_id <> $3 ORDER BY person_id LIMIT $4

-- name: recent_refusals
SELECT reference, reason, detail, at FROM refusal
WHERE person_id = $1 AND district = $2 ORDER BY at DESC LIMIT $3

-- name: recent_resets
SELECT i.batch_id, b.cause, b.author, a.name AS author_name, b.approved_by, p.name AS approved_by_name, b.desk_ticket,
       CASE WHEN i.state = 'done' AND i.changed_at > $4 THEN 'reset' ELSE i.state END AS state,
       i.reason, i.sessions_ended, i.changed_at
FROM reset_item i JOIN reset_batch b USING (batch_id)
LEFT JOIN actor a ON a.client_id = b.author
LEFT JOIN actor p ON p.client_id = b.approved_by
WHERE i.person_id = $1 AND b.district = $2 ORDER BY i.changed_at DESC LIMIT $3

-- name: note_departure
-- Told twice, the grace counts from the first withdrawal.
INSERT INTO departure (person_id, district, version, left_at, withdrawn, graduated) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (person_id) DO UPDATE
SET version = EXCLUDED.version,
    left_at = CASE WHEN EXCLUDED.withdrawn AND NOT departure.withdrawn THEN EXCLUDED.left_at ELSE departure.left_at END,
    withdrawn = departure.withdrawn OR EXCLUDED.withdrawn,
    graduated = departure.graduated OR EXCLUDED.graduated

-- name: end_departure
DELETE FROM departure WHERE person_id = $1

-- name: put_off_departure
UPDATE departure SET tried_at = $2 WHERE person_id = $1

-- name: take_departure
-- The next whose grace is over, once `admission` has read what the departure was noted from; no other worker gets it
-- meanwhile. Who is parked waits: nothing about them is certain.
SELECT d.person_id
FROM departure d
JOIN gate g ON g.consumer = 'admission' AND g.stream_id = d.person_id
     AND g.version >= d.version AND g.parked_at IS NULL
WHERE d.district = $1 AND d.left_at <= CASE WHEN d.graduated THEN $3::timestamptz ELSE $2::timestamptz END
  AND (d.tried_at IS NULL OR d.tried_at <= $4)
ORDER BY d.left_at
LIMIT 1
FOR UPDATE OF d SKIP LOCKED

-- name: departure_of
SELECT left_at, graduated FROM departure WHERE person_id = $1

-- name: is_suspended
SELECT suspensions <> '[]' FROM account WHERE person_id = $1

-- name: is_claimed
SELECT claim_id IS NOT NULL FROM account WHERE person_id = $1
