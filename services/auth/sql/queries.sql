-- A claim's last two steps

-- name: find_claim
-- Always one row: what is staged for the claim ($1), and what is known of its person ($2).
SELECT s.taken, s.etag, s.password, s.credential_id, s.code_by, c.state, p.kind, p.last_name, p.first_name, p.number
FROM (SELECT 1) AS one
LEFT JOIN staging s ON s.claim_id = $1
LEFT JOIN credential c ON c.person_id = $2
LEFT JOIN person p ON p.person_id = $2

-- name: count_password
-- Before the history is asked: whoever dies in between has used one of the claim's passwords.
INSERT INTO staging (claim_id, district, person_id, generation, expires_at, taken) VALUES ($1, $2, $3, $4, $5, 1)
ON CONFLICT (claim_id) DO UPDATE SET taken = staging.taken + 1
WHERE staging.taken < $6 AND staging.credential_id IS NULL
RETURNING taken

-- name: claim_by_code
WITH used AS (
    DELETE FROM recovery_code WHERE person_id = $2 AND code_hash = $3 AND expires_at > $4 RETURNING issued_by
)
UPDATE staging SET code_by = used.issued_by FROM used WHERE claim_id = $1 RETURNING claim_id

-- name: stage
UPDATE staging SET password = $2, etag = $3 WHERE claim_id = $1 AND credential_id IS NULL RETURNING claim_id

-- name: lock_staging
SELECT etag, password, credential_id FROM staging WHERE claim_id = $1 FOR UPDATE

-- name: seal
WITH staged AS (
    SELECT person_id, password FROM staging WHERE claim_id = $1
), sealed AS (
    INSERT INTO vault (credential_id, person_id, password, answers, questions, sealed_at)
    SELECT $2, person_id, password, $3, $4, $5 FROM staged
)
UPDATE staging SET credential_id = $2, password = NULL WHERE claim_id = $1

-- name: find_answers
SELECT answers FROM vault WHERE credential_id = $1

-- The vault

-- name: find_verifiers
SELECT password FROM vault WHERE credential_id = ANY($1::uuid[])

-- name: is_kept
SELECT EXISTS (SELECT FROM vault WHERE credential_id = $1)

-- name: keep_only
-- Of one person: whole what is in use ($2), the password alone of what is remembered ($3), and nothing else.
WITH forgotten AS (
    DELETE FROM vault WHERE person_id = $1 AND credential_id <> ALL($2::uuid[] || $3::uuid[])
)
UPDATE vault SET answers = NULL, questions = NULL
WHERE person_id = $1 AND credential_id = ANY($3::uuid[]) AND answers IS NOT NULL

-- name: copy_credential
INSERT INTO vault (credential_id, person_id, password, answers, questions, sealed_at)
SELECT $2, person_id, $3, answers, questions, $4 FROM vault WHERE credential_id = $1

-- name: upgrade_verifier
UPDATE vault SET password = $3 WHERE credential_id = $1 AND password = $2

-- name: drop_staging
DELETE FROM staging WHERE claim_id = $1

-- name: void
-- What a reset takes with it, beside the credential itself; $3 is the live credential, if one of the new generation is.
WITH ended AS (
    DELETE FROM session WHERE person_id = $1 AND credential_id IS DISTINCT FROM $3
), told AS (
    INSERT INTO revoked (person_id) VALUES ($1)
), abandoned AS (
    DELETE FROM recovery WHERE person_id = $1
), worthless AS (
    DELETE FROM recovery_code WHERE person_id = $1
)
DELETE FROM staging WHERE person_id = $1 AND generation < $2

-- name: close_account
-- What a suspension ends. A recovery that is begun meanwhile opens nothing.
WITH ended AS (
    DELETE FROM session WHERE person_id = $1
), told AS (
    INSERT INTO revoked (person_id) VALUES ($1)
), abandoned AS (
    DELETE FROM recovery WHERE person_id = $1
)
DELETE FROM recovery_code WHERE person_id = $1

-- name: find_person
SELECT p.person_id, p.district, p.kind, p.number, p.last_name, p.first_name, p.status, p.number_since, p.version,
       c.state
FROM person p LEFT JOIN credential c USING (person_id)
WHERE p.person_id = $1 AND p.district = $2

-- Signing in, sessions

-- name: find_account
-- Always a row: the wrong passwords of the username ($3), and each person of its number with a live credential or without.
-- For a device ($4) that the account knows they are its own. With how far a budget ($5) is used up.
SELECT w.count, w.last_at, k.device IS NOT NULL AS known, b.level, b.at AS level_at,
       p.person_id, p.status, p.kind, p.number, c.credential_id,
       c.status = 'suspended' AS suspended, v.password, v.questions
FROM (SELECT 1) AS one
LEFT JOIN known_device k ON k.account = $3 AND k.device = $4
LEFT JOIN wrong_password w ON w.account = $3 AND w.device = coalesce(k.device, '')
LEFT JOIN failure_budget b ON b.key = $5
LEFT JOIN person p ON p.district = $1 AND p.number = $2
LEFT JOIN credential c ON c.person_id = p.person_id AND c.status IN ('live', 'suspended')
LEFT JOIN vault v ON v.credential_id = c.credential_id
ORDER BY p.number_since NULLS FIRST, p.person_id
LIMIT 20

-- name: open_session
-- The device ($9) is known to the account from now on; a wrong password that was counted beforehand ($10) was none.
WITH forgiven AS (
    DELETE FROM wrong_password WHERE account = $7 AND device = $8
), known AS (
    INSERT INTO known_device (account, device, last_at) VALUES ($7, $9, $5)
    ON CONFLICT (account, device) DO UPDATE SET last_at = $5, returned = true
    WHERE NOT known_device.returned OR known_device.last_at < $5::timestamptz - interval '1 day'
), given_back AS (
    UPDATE failure_budget SET level = greatest(0, level - 1) WHERE key = $10
)
INSERT INTO session (token_hash, district, person_id, credential_id, created_at, last_seen_at, expires_at, device_kind)
VALUES ($1, $2, $3, $4, $5, $5, $6, $11)

-- name: count_wrong_password
-- One more, in whatever process; `$4`: only if there are still as many as were read. From a device ($5) that the account
-- knows, or from any other (''), which uses up a budget ($6) that forgives so many a second ($7).
WITH spent AS (
    INSERT INTO failure_budget (key, level, at) SELECT $6, 1, $2 WHERE $6::bytea IS NOT NULL
    ON CONFLICT (key) DO UPDATE
    SET level = 1 + greatest(0, failure_budget.level - $7 * extract(epoch FROM $2 - failure_budget.at)),
        at = greatest($2, failure_budget.at)
)
INSERT INTO wrong_password (account, device, count, last_at) VALUES ($1, $5, 1, $2)
ON CONFLICT (account, device) DO UPDATE
SET count = CASE WHEN wrong_password.last_at <= $3 THEN 1 ELSE wrong_password.count + 1 END, last_at = $2
WHERE $4::integer IS NULL OR wrong_password.count = $4
RETURNING count

-- name: forgive
WITH given_back AS (
    UPDATE failure_budget SET level = greatest(0, level - 1) WHERE key = $3
)
DELETE FROM wrong_password WHERE account = $1 AND device = $2

-- name: find_session
-- A session is worth what its credential is: once that is not the live one any more, there is none.
SELECT s.session_id, s.person_id, s.credential_id, s.district, s.created_at, s.last_seen_at, s.expires_at,
       p.kind, p.number
FROM session s
JOIN credential c ON c.person_id = s.person_id AND c.credential_id = s.credential_id AND c.status = 'live'
JOIN person p ON p.person_id = s.person_id
WHERE s.token_hash = $1 AND (c.restored_at IS NULL OR s.created_at > c.restored_at)

-- name: session_still
-- A session by its hash ($1), with what its person may do at this moment.
SELECT s.last_seen_at, s.expires_at, p.status = 'enrolled' AS employed, c.state
FROM session s
JOIN credential c ON c.person_id = s.person_id AND c.credential_id = s.credential_id AND c.status = 'live'
JOIN person p ON p.person_id = s.person_id
WHERE s.token_hash = $1 AND s.district = $2 AND (c.restored_at IS NULL OR s.created_at > c.restored_at)

-- name: role_holders
SELECT p.person_id, p.kind, p.number, p.last_name, p.first_name, c.state -> 'roles' AS roles
FROM credential c JOIN person p USING (person_id)
WHERE c.district = $1 AND c.state -> 'roles' <> '{}'
ORDER BY in_order(p.last_name), in_order(p.first_name), p.last_name, p.first_name, p.person_id LIMIT $2

-- name: holds_role
SELECT state -> 'roles' <> '{}' FROM credential WHERE person_id = $1

-- name: sessions_of
-- Those that are good at a moment ($2), used since another ($3).
SELECT s.session_id, s.device_kind, s.created_at, s.last_seen_at, s.expires_at
FROM session s
JOIN credential c ON c.person_id = s.person_id AND c.credential_id = s.credential_id AND c.status = 'live'
WHERE s.person_id = $1 AND s.expires_at > $2 AND s.last_seen_at > $3
  AND (c.restored_at IS NULL OR s.created_at > c.restored_at)
ORDER BY s.last_seen_at DESC LIMIT $4

-- name: standing
-- Always one row: a person's credential ($1), and the pauses of their username ($2) on a day ($3) at a moment ($4).
SELECT c.status, c.generation, w.count AS wrong_passwords, w.last_at AS wrong_password_at, t.count AS wrong_answers,
       CASE WHEN t.count >= t.allowed THEN t.until END AS resting_until, r.expires_at AS code_until
FROM (SELECT 1) AS one
LEFT JOIN credential c ON c.person_id = $1
LEFT JOIN wrong_password w ON w.account = $2 AND w.device = ''
LEFT JOIN recovery_try t ON t.account = $2 AND t.day = $3
LEFT JOIN recovery_code r ON r.person_id = $1 AND r.expires_at > $4

-- name: recent_refusals
SELECT reference, reason, detail, at FROM refusal
WHERE person_id = $1 AND district = $2 ORDER BY at DESC LIMIT $3

-- name: touch_sessions
UPDATE session s SET last_seen_at = used.at
FROM unnest($1::bytea[], $2::timestamptz[]) AS used (token_hash, at)
WHERE s.token_hash = used.token_hash AND s.last_seen_at < used.at

-- name: end_session
WITH ended AS (
    DELETE FROM session WHERE token_hash = $1 AND district = $2 RETURNING person_id
)
INSERT INTO revoked (person_id) SELECT person_id FROM ended RETURNING person_id

-- name: end_sessions
WITH ended AS (
    DELETE FROM session WHERE person_id = $1 AND district = $2 RETURNING true
), told AS (
    INSERT INTO revoked (person_id) VALUES ($1)
)
SELECT count(*) FROM ended

-- name: count_sessions
-- Those that are good at a moment ($2): a suspension has ended them already.
SELECT count(*) FROM session s
JOIN credential c ON c.person_id = s.person_id AND c.credential_id = s.credential_id AND c.status = 'live'
WHERE s.person_id = $1 AND s.expires_at > $2 AND (c.restored_at IS NULL OR s.created_at > c.restored_at)

-- name: move_session
-- The session that changed the password goes on under the new credential; the others end.
WITH ended AS (
    DELETE FROM session WHERE person_id = $1 AND token_hash IS DISTINCT FROM $2
), told AS (
    INSERT INTO revoked (person_id) VALUES ($1)
)
UPDATE session SET credential_id = $3 WHERE token_hash = $2

-- name: find_own_verifier
-- Of the session ($1) as it stands now: another click may have changed the password since it was let in.
SELECT v.password, c.credential_id, c.state, w.count, w.last_at
FROM session s
JOIN credential c ON c.person_id = s.person_id AND c.credential_id = s.credential_id AND c.status = 'live'
JOIN vault v ON v.credential_id = c.credential_id
LEFT JOIN wrong_password w ON w.account = $2 AND w.device = uuid_send(s.session_id)
WHERE s.token_hash = $1

-- What must be forgotten

-- name: snapshot
-- Every transaction before this one has ended.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint

-- name: revoked_since
-- By transactions that had not ended when this was asked before, which answered $1 as `upto`.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS upto,
       ARRAY(SELECT person_id FROM revoked WHERE xid >= $1 AND person_id IS NOT NULL) AS persons,
       ARRAY(SELECT client_id FROM revoked WHERE xid >= $1 AND client_id IS NOT NULL) AS clients

-- The audit

-- name: find_audit
-- Which of some lines, by their moments ($1) and ids, are there.
SELECT event_id FROM audit WHERE at = ANY($1::timestamptz[]) AND event_id = ANY($2::uuid[])

-- name: write_audit
WITH written AS (
    INSERT INTO audit (event_id, district, at, what, outcome, person_id, actor, client, device, device_kind, network,
                       reference, desk_ticket, correlation_id)
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::text[], $5::text[], $6::uuid[], $7::text[],
                         $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::uuid[])
    RETURNING audit_id, district
), told AS (
    INSERT INTO webhook_line (audit_id, district) SELECT audit_id, district FROM written JOIN webhook USING (district)
)
INSERT INTO audit_outbox (audit_id) SELECT audit_id FROM written

-- name: search_audit
SELECT a.audit_id, a.at, a.what, a.outcome, a.person_id, a.actor, n.name AS actor_name, a.client, a.device, a.device_kind,
       a.network, a.reference, a.desk_ticket, a.correlation_id
FROM audit a LEFT JOIN actor n ON n.client_id = a.actor
WHERE a.district = $1 AND ($2::bigint IS NULL OR a.audit_id < $2)
  AND ($4::uuid IS NULL OR a.person_id = $4) AND ($5::text IS NULL OR a.what = $5)
  AND ($6::text IS NULL OR a.outcome = $6) AND ($7::text IS NULL OR a.reference = $7)
  AND ($8::timestamptz IS NULL OR a.at >= $8) AND ($9::timestamptz IS NULL OR a.at < $9)
ORDER BY a.audit_id DESC LIMIT $3

-- The audit's topic

-- name: lock_audit
SELECT pg_try_advisory_lock(hashtext('homeroom-audit'), 0)

-- name: unsent_audit
SELECT a.audit_id, a.event_id, a.district, a.at, a.what, a.outcome, a.person_id, a.actor, a.client, a.device,
       a.device_kind, a.network, a.reference, a.desk_ticket, a.correlation_id
FROM audit_outbox JOIN audit a USING (audit_id)
WHERE a.audit_id > $1
ORDER BY a.audit_id LIMIT $2

-- name: audit_sent
-- Exactly the lines that were acknowledged: a lower number may be committed later than a higher one.
DELETE FROM audit_outbox WHERE audit_id = ANY($1::bigint[])

-- name: count_unsent_audit
SELECT count(*) FROM (SELECT FROM audit_outbox LIMIT $1) AS counted

-- Recovery

-- name: open_recovery
INSERT INTO recovery (recovery_id, district, account, person_id, credential_id, questions, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)

-- name: find_recovery
-- With the answers, while the credential that it was opened for is the live one and not suspended.
SELECT r.account, r.person_id, r.credential_id, r.questions, r.opened_by, r.new_credential_id, v.answers,
       c.status = 'suspended' AS suspended
FROM recovery r
LEFT JOIN credential c ON c.person_id = r.person_id AND c.credential_id = r.credential_id
LEFT JOIN vault v ON v.credential_id = c.credential_id AND c.status = 'live'
WHERE r.recovery_id = $1 AND r.district = $2 AND r.expires_at > $3

-- name: count_try
-- Before the answers are looked at, so that no number of devices at once gets more tries than are allowed.
INSERT INTO recovery_try (account, day, count, allowed, district, person_id, last_at, until)
VALUES ($1, $2, 1, $3, $4, $5, $6, $7)
ON CONFLICT (account, day) DO UPDATE
SET count = recovery_try.count + 1, allowed = $3, last_at = $6,
    person_id = coalesce($5, recovery_try.person_id)
WHERE recovery_try.count < $3
RETURNING count

-- name: give_back_tries
DELETE FROM recovery_try WHERE account = $1 AND day = $2

-- name: open_by_answers
WITH forgiven AS (
    DELETE FROM recovery_try WHERE account = $2 AND day = $3
)
UPDATE recovery SET opened_by = 'self' WHERE recovery_id = $1

-- name: open_by_code
-- Only for the credential that the recovery was opened for: a code is not used up where it can open nothing.
WITH used AS (
    DELETE FROM recovery_code WHERE person_id = $2 AND code_hash = $3 AND expires_at > $4
        AND EXISTS (
            SELECT FROM recovery r JOIN credential c USING (person_id, credential_id)
            WHERE r.recovery_id = $1 AND c.status = 'live'
        )
    RETURNING issued_by
)
UPDATE recovery SET opened_by = 'code:' || used.issued_by FROM used WHERE recovery_id = $1 RETURNING recovery_id

-- name: count_recovery_password
UPDATE recovery SET taken = taken + 1 WHERE recovery_id = $1 AND taken < $2 RETURNING taken

-- name: close_recovery
-- Who recovers on a device ($4, if it has a token) has shown that it is the account's own.
WITH forgiven AS (
    DELETE FROM wrong_password WHERE account = $3
), known AS (
    INSERT INTO known_device (account, device, last_at) VALUES ($3, $4, $5)
    ON CONFLICT (account, device) DO UPDATE SET last_at = $5
)
UPDATE recovery SET new_credential_id = $2 WHERE recovery_id = $1

-- name: find_renewed
SELECT v.password
FROM credential c JOIN vault v ON v.credential_id = c.credential_id
WHERE c.person_id = $1 AND c.credential_id = $2 AND c.status = 'live'

-- name: put_code
INSERT INTO recovery_code (person_id, district, code_hash, issued_by, expires_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (person_id) DO UPDATE
SET code_hash = EXCLUDED.code_hash, issued_by = EXCLUDED.issued_by, expires_at = EXCLUDED.expires_at

-- name: is_locked
SELECT EXISTS (SELECT FROM wrong_password WHERE account = $1) OR EXISTS (SELECT FROM recovery_try WHERE account = $1)

-- name: unlock
WITH forgiven AS (
    DELETE FROM wrong_password WHERE account = $1
)
DELETE FROM recovery_try WHERE account = $1

-- name: find_unannounced
-- Not the newest: who answers right at the last try gives it back. A district whose policy is missing waits for it.
SELECT account, day, district, person_id, until FROM recovery_try
WHERE person_id IS NOT NULL AND NOT announced AND count >= allowed AND last_at < $1
  AND district = ANY($3::text[])
ORDER BY last_at LIMIT $2

-- name: announce
UPDATE recovery_try SET announced = true WHERE account = $1 AND day = $2

-- Machines and staff

-- name: find_client
-- With the hash of its secret, and of those before it, each with the moment at which it ends.
SELECT client_id, name, scopes, districts, human, person_id, secret_hash,
       ARRAY(SELECT secret_hash FROM previous_secret p WHERE p.client_id = c.client_id ORDER BY until) AS previous_hashes,
       ARRAY(SELECT until FROM previous_secret p WHERE p.client_id = c.client_id ORDER BY until) AS previous_until
FROM client c WHERE client_id = $1 AND removed_at IS NULL

-- name: list_clients
-- Those that there are, or ($2) those that were removed.
SELECT client_id AS id, name, scopes, districts, human, person_id, created_at, rotated_at,
       (SELECT max(until) FROM previous_secret p WHERE p.client_id = c.client_id AND p.until > $1) AS previous_until,
       removed_at, (SELECT r.name FROM client r WHERE r.client_id = c.removed_by) AS removed_by_name
FROM client c
WHERE (removed_at IS NOT NULL) = $2
ORDER BY created_at, client_id LIMIT 1000

-- name: insert_client
INSERT INTO client (client_id, name, scopes, districts, human, person_id, secret_hash, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (client_id) DO NOTHING

-- name: kind_of
SELECT kind FROM person WHERE person_id = $1

-- name: lock_client
-- Who rotates takes turns with others who do.
SELECT secret_hash FROM client WHERE client_id = $1 AND removed_at IS NULL FOR UPDATE

-- name: lock_operators
-- Of every district. Who takes one away takes turns with others who do: one has to be left.
SELECT client_id FROM client
WHERE removed_at IS NULL AND 'operator' = ANY(scopes) AND '*' = ANY(districts)
ORDER BY client_id FOR UPDATE

-- name: change_client
WITH told AS (
    INSERT INTO revoked (client_id) VALUES ($1)
)
UPDATE client SET name = $2, scopes = $3, districts = $4, human = $5, person_id = $6
WHERE client_id = $1 AND removed_at IS NULL RETURNING true

-- name: remove_client
WITH told AS (
    INSERT INTO revoked (client_id) VALUES ($1)
)
UPDATE client SET removed_at = $2, removed_by = $3, secret_hash = ''
WHERE client_id = $1 AND removed_at IS NULL RETURNING true

-- name: count_previous_secrets
SELECT count(*) FROM previous_secret WHERE client_id = $1 AND until > $2

-- name: keep_previous_secret
INSERT INTO previous_secret (client_id, secret_hash, until) VALUES ($1, $2, $3)

-- name: end_previous_secrets
DELETE FROM previous_secret WHERE client_id = $1

-- name: replace_secret
WITH told AS (
    INSERT INTO revoked (client_id) VALUES ($1)
)
UPDATE client SET secret_hash = $2, rotated_at = $3 WHERE client_id = $1

-- The first-day wall

-- name: add_sign_ins
INSERT INTO sign_in_minute (district, minute, done, refused)
SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::bigint[], $4::bigint[])
ON CONFLICT (district, minute) DO UPDATE
SET done = sign_in_minute.done + EXCLUDED.done, refused = sign_in_minute.refused + EXCLUDED.refused

-- name: sign_ins
SELECT minute, done, refused FROM sign_in_minute WHERE district = $1 AND minute >= $2
