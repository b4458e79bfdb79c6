-- name: take_turn
-- One after another under this name, until the transaction ends.
SELECT pg_advisory_xact_lock(hashtextextended('homeroom-resets:' || $1::text, 0))

-- name: count_reset_alone
-- The accounts that a person, or a client, has reset since a moment without a second person.
SELECT count(*) FROM reset_batch b JOIN reset_item i USING (batch_id)
WHERE b.district = $1 AND coalesce(b.author_who, b.author) = $2 AND b.as_of > $3 AND b.approved_by IS NULL
  AND i.state IN ('planned', 'reset', 'done')

-- name: insert_batch
INSERT INTO reset_batch (batch_id, district, cause, extent, school, state, author, desk_ticket, as_of, report,
                         unclaimed, correlation_id, author_who, changed_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $9)

-- name: insert_items
INSERT INTO reset_item (batch_id, person_id, line, generation, state, changed_at)
SELECT $1, person_id, line, generation, $5, $6
FROM unnest($2::uuid[], $3::integer[], $4::bigint[]) AS listed (person_id, line, generation)

-- name: bulk_figures
-- Of a school, or of all ($2 is null): by school, whose accounts would be reset, and whose wait to be claimed anyway.
SELECT a.school, count(c.claim_id) AS total,
       count(*) FILTER (WHERE c.claim_id IS NULL AND a.status = 'enrolled') AS unclaimed
FROM admission a LEFT JOIN account c USING (person_id)
WHERE a.district = $1 AND a.kind = 'student' AND ($2::text IS NULL OR a.school = $2)
GROUP BY a.school ORDER BY a.school

-- name: freeze_bulk
-- The list as it is now, however long: it never leaves the database.
INSERT INTO reset_item (batch_id, person_id, line, generation, state, bulk, changed_at)
SELECT $1, a.person_id, row_number() OVER (ORDER BY a.school, a.number, a.person_id), c.generation, 'listed', true, $4
FROM admission a JOIN account c USING (person_id)
WHERE a.district = $2 AND a.kind = 'student' AND ($3::text IS NULL OR a.school = $3) AND c.claim_id IS NOT NULL

-- name: open_bulk
-- A reset of many that is not through and means some of the same accounts: of all, or of the same school.
SELECT b.batch_id FROM reset_batch b
WHERE b.district = $1 AND b.state <> 'cancelled'
  AND (b.extent = 'all_students' OR b.extent = 'school' AND ($2::text IS NULL OR b.school = $2))
  AND EXISTS (SELECT FROM reset_item i WHERE i.batch_id = b.batch_id AND i.state IN ('listed', 'planned'))
ORDER BY b.as_of LIMIT 1

-- name: find_batch
SELECT cause, extent, school, state, author, a.name AS author_name, approved_by, p.name AS approved_by_name,
       desk_ticket, as_of, report, unclaimed, changed_at
FROM reset_batch b
LEFT JOIN actor a ON a.client_id = b.author
LEFT JOIN actor p ON p.client_id = b.approved_by
WHERE batch_id = $1 AND district = $2

-- name: list_batches
-- The newest first, behind the batch $3; only those that wait for a second person ($2).
SELECT b.batch_id, b.cause, b.extent, b.school, b.state, b.author, a.name AS author_name, b.approved_by,
       p.name AS approved_by_name, b.desk_ticket, b.as_of, b.unclaimed, i.total, i.done, i.under_way
FROM reset_batch b
LEFT JOIN actor a ON a.client_id = b.author
LEFT JOIN actor p ON p.client_id = b.approved_by
CROSS JOIN LATERAL (
    SELECT count(*) AS total, count(*) FILTER (WHERE state = 'done') AS done,
           count(*) FILTER (WHERE state IN ('planned', 'reset')) AS under_way
    FROM reset_item WHERE reset_item.batch_id = b.batch_id
) AS i
WHERE b.district = $1 AND (NOT $2 OR b.state = 'awaiting_approval')
  AND ($3::uuid IS NULL OR (b.as_of, b.batch_id) < (SELECT as_of, batch_id FROM reset_batch WHERE batch_id = $3))
ORDER BY b.as_of DESC, b.batch_id DESC LIMIT $4

-- name: find_batch_locked
SELECT state, coalesce(author_who, author) AS author_who
FROM reset_batch WHERE batch_id = $1 AND district = $2 FOR UPDATE

-- name: items_of
-- Here and below: what auth has confirmed since a moment ($2) is not `done` yet. Its processes may still believe a
-- session of it (SESSIONS_END_WITHIN).
SELECT person_id, line, CASE WHEN state = 'done' AND changed_at > $2 THEN 'reset' ELSE state END AS state, reason,
       reference, sessions_ended
FROM reset_item WHERE batch_id = $1 ORDER BY line

-- name: staff_of
-- Those of a batch who hold a role.
SELECT i.person_id FROM reset_item i
WHERE i.batch_id = $1 AND EXISTS (SELECT FROM role_held r WHERE r.person_id = i.person_id)

-- name: persons_of
SELECT person_id, kind, number, last_name, first_name FROM admission WHERE person_id = ANY($1::uuid[]) AND district = $2 AND number <> ''

-- name: item_states
-- How many of a batch are in each state, and how many have come into it since a moment ($2).
SELECT CASE WHEN state = 'done' AND changed_at > $3 THEN 'reset' ELSE state END AS state,
       count(*) AS accounts, count(*) FILTER (WHERE changed_at > $2) AS lately
FROM reset_item WHERE batch_id = $1 GROUP BY 1

-- name: item_page
SELECT i.person_id, i.line, CASE WHEN i.state = 'done' AND i.changed_at > $5 THEN 'reset' ELSE i.state END AS state,
       i.reason, i.reference, i.sessions_ended, nullif(a.number, '') AS number,
       a.last_name, a.first_name
FROM reset_item i LEFT JOIN admission a ON a.person_id = i.person_id AND a.district = $2
WHERE i.batch_id = $1 AND i.line > $3 ORDER BY i.line LIMIT $4

-- name: approve_batch
UPDATE reset_batch SET state = 'approved', approved_by = $2, changed_at = $3 WHERE batch_id = $1

-- name: plan_items
UPDATE reset_item SET state = 'planned', changed_at = $2 WHERE batch_id = $1 AND state = 'listed'

-- name: cancel_batch
UPDATE reset_batch SET state = 'cancelled', changed_at = $2 WHERE batch_id = $1

-- name: cancel_items
-- An item that is being reset at this moment is waited for, and then left alone.
UPDATE reset_item SET state = 'cancelled', changed_at = $2 WHERE batch_id = $1 AND state IN ('listed', 'planned')

-- name: plan_failed_items
UPDATE reset_item SET state = 'planned', reason = NULL, reference = NULL, changed_at = $2
WHERE batch_id = $1 AND state = 'failed'

-- name: take_items
-- The next accounts to reset, those of short lists first; no other worker gets them meanwhile.
SELECT i.batch_id, i.person_id, i.generation, b.district, b.author, b.desk_ticket, b.as_of, b.correlation_id
FROM reset_item i JOIN reset_batch b USING (batch_id)
WHERE i.state = 'planned'
ORDER BY i.bulk, i.changed_at, i.batch_id, i.line
LIMIT $1
FOR UPDATE OF i SKIP LOCKED

-- name: mark_items
UPDATE reset_item i SET state = taken.state, reason = taken.reason, reference = taken.reference, changed_at = $6
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[])
     AS taken (batch_id, person_id, state, reason, reference)
WHERE i.batch_id = taken.batch_id AND i.person_id = taken.person_id AND i.state = 'planned'

-- name: count_unconfirmed
-- How many of some accounts that were reset auth has yet to answer for.
SELECT count(*) FROM unnest($1::uuid[], $2::uuid[]) AS taken (batch_id, person_id)
JOIN reset_item i USING (batch_id, person_id)
WHERE i.state = 'reset'

-- name: confirm_items
-- auth has revoked everything below a generation: what was reset into it, or before, is done.
UPDATE reset_item SET state = 'done', sessions_ended = $3, changed_at = $4
WHERE person_id = $1 AND state = 'reset' AND generation < $2
