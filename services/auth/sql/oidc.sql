-- Applications

-- name: insert_application
INSERT INTO application (client_id, type, redirect_uris, post_logout_redirect_uris, scopes, pkce,
                         id_token_algorithm, access_token_minutes, backchannel_logout_uri, keys, pushed,
                         authentication, sector, registered_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)

-- name: change_application
-- Neither its type nor how it shows who it is: that would be another application.
UPDATE application
SET redirect_uris = $2, post_logout_redirect_uris = $3, scopes = $4, pkce = $5, id_token_algorithm = $6,
    access_token_minutes = $7, backchannel_logout_uri = $8, keys = $9, pushed = $10
WHERE client_id = $1

-- name: change_client_of_application
WITH told AS (
    INSERT INTO revoked (client_id) VALUES ($1)
)
UPDATE client SET name = $2, districts = $3 WHERE client_id = $1 AND removed_at IS NULL

-- name: find_application
SELECT a.client_id, c.name, c.districts, a.type, a.redirect_uris, a.post_logout_redirect_uris,
       a.scopes, a.authentication, a.pkce, a.id_token_algorithm, a.access_token_minutes,
       a.backchannel_logout_uri, a.keys, a.pushed, a.sector, a.registered_by
FROM application a JOIN client c USING (client_id)
WHERE a.client_id = $1 AND c.removed_at IS NULL

-- name: list_applications
SELECT a.client_id, c.name, c.districts, a.type, a.redirect_uris, a.post_logout_redirect_uris,
       a.scopes, a.authentication, a.pkce, a.id_token_algorithm, a.access_token_minutes,
       a.backchannel_logout_uri, a.keys, a.pushed, a.sector, a.registered_by
FROM application a JOIN client c USING (client_id)
WHERE c.removed_at IS NULL
ORDER BY c.created_at, a.client_id LIMIT 1000

-- Sessions

-- name: living_session
-- As `find_session` of the services own routes, by the token's hash: a session is worth what its credential is.
SELECT s.token_hash, s.person_id, s.created_at, s.last_seen_at, s.expires_at, p.kind, p.number, p.first_name, p.last_name
FROM session s
JOIN credential c ON c.person_id = s.person_id AND c.credential_id = s.credential_id AND c.status = 'live'
JOIN person p ON p.person_id = s.person_id
WHERE s.token_hash = $1 AND s.district = $2 AND s.expires_at > $3 AND s.last_seen_at > $4
  AND (c.restored_at IS NULL OR s.created_at > c.restored_at)

-- name: hold_session
-- Until the transaction ends nobody ends the session: who does waits, and then ends what was made of it too.
SELECT true FROM session WHERE token_hash = $1 FOR KEY SHARE

-- name: touch_session
UPDATE session SET last_seen_at = $2 WHERE token_hash = $1 AND last_seen_at < $3

-- name: find_browser_session
SELECT session_hash FROM browser_session WHERE token_hash = $1 AND expires_at > $2

-- name: put_browser_session
WITH former AS (
    DELETE FROM browser_session WHERE session_hash = $2
)
INSERT INTO browser_session (token_hash, session_hash, expires_at) VALUES ($1, $2, $3)

-- Asking

-- name: insert_request
INSERT INTO authorization_request (authorization_id, district, client_id, browser_hash, asked, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)

-- name: find_request
SELECT r.client_id, r.asked, r.created_at, r.expires_at, c.name,
       EXISTS (SELECT FROM service_provider s WHERE s.client_id = r.client_id) AS saml
FROM authorization_request r JOIN client c USING (client_id)
WHERE r.authorization_id = $1 AND r.district = $2 AND r.browser_hash IS NOT NULL AND r.expires_at > $3
  AND c.removed_at IS NULL

-- name: accept_request
UPDATE authorization_request SET session_hash = $2, accepted_hash = $3 WHERE authorization_id = $1 RETURNING true

-- name: complete_request
-- Once, by the browser that asked, with the proof that its person's front end was given.
DELETE FROM authorization_request
WHERE authorization_id = $1 AND district = $2 AND browser_hash = $3 AND accepted_hash = $4 AND expires_at > $5
RETURNING client_id, asked, created_at, session_hash

-- Codes and tokens

-- name: insert_code
INSERT INTO authorization_code (code_hash, sign_on_id, client_id, session_hash, redirect_uri, challenge, scopes, nonce,
                                expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: session_of_code
SELECT session_hash FROM authorization_code WHERE code_hash = $1 AND client_id = $2

-- name: redeem_code
-- Once: by its application ($2), for the address that it was sent to ($3) and the challenge that it was asked with ($4).
UPDATE authorization_code SET redeemed_at = $5
WHERE code_hash = $1 AND client_id = $2 AND redirect_uri = $3 AND challenge IS NOT DISTINCT FROM $4
  AND redeemed_at IS NULL AND expires_at > $5
RETURNING sign_on_id, scopes, nonce

-- name: end_replayed
-- What came of a code that its application brings a second time.
DELETE FROM sign_on
WHERE sign_on_id = (SELECT sign_on_id FROM authorization_code
                    WHERE code_hash = $1 AND client_id = $2 AND redeemed_at IS NOT NULL)
RETURNING sign_on_id

-- name: insert_sign_on
INSERT INTO sign_on (sign_on_id, client_id, district, session_hash, person_id, sid, scopes, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: insert_token
INSERT INTO application_token (token_hash, sign_on_id, kind, scopes, issued_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6)

-- name: find_token
SELECT t.kind, t.scopes, t.issued_at, t.expires_at, s.sign_on_id, s.client_id, s.session_hash, s.sid
FROM application_token t JOIN sign_on s USING (sign_on_id) JOIN client c USING (client_id)
WHERE t.token_hash = $1 AND s.district = $2 AND t.expires_at > $3 AND t.used_at IS NULL AND c.removed_at IS NULL

-- name: use_refresh_token
-- Once: the next one takes its place.
UPDATE application_token t SET used_at = $4
FROM sign_on s
WHERE t.token_hash = $1 AND t.kind = 'refresh' AND t.used_at IS NULL AND t.expires_at > $4
  AND s.sign_on_id = t.sign_on_id AND s.client_id = $2 AND s.district = $3
RETURNING s.sign_on_id, s.sid, t.scopes

-- name: end_reused
-- A refresh token that comes a second time was stolen, or the first one was: whichever it is, all of its family end.
DELETE FROM sign_on
WHERE client_id = $2
  AND sign_on_id = (SELECT sign_on_id FROM application_token WHERE token_hash = $1 AND used_at IS NOT NULL)
RETURNING sign_on_id

-- name: session_of_refresh_token
SELECT s.session_hash FROM application_token t JOIN sign_on s USING (sign_on_id)
WHERE t.token_hash = $1 AND s.client_id = $2

-- name: revoke_access
DELETE FROM application_token t USING sign_on s
WHERE t.token_hash = $1 AND t.kind = 'access' AND s.sign_on_id = t.sign_on_id AND s.client_id = $2

-- name: revoke_refresh
-- With everything that came of the same signing in.
DELETE FROM sign_on
WHERE client_id = $2
  AND sign_on_id = (SELECT sign_on_id FROM application_token WHERE token_hash = $1 AND kind = 'refresh')

-- Signing out

-- name: find_by_sid
SELECT session_hash FROM sign_on WHERE sid = $1 AND client_id = $2 AND district = $3 LIMIT 1

-- Back-channel logout

-- name: take_notices
-- Those that are due ($1), each by one process; whoever dies with one leaves it to the next try.
UPDATE logout_notice n SET tries = n.tries + 1, next_at = $1 + $3::interval * (2 ^ n.tries)
WHERE n.notice_id IN (
    SELECT notice_id FROM logout_notice WHERE next_at <= $1 AND expires_at > $1
    ORDER BY next_at LIMIT $2 FOR UPDATE SKIP LOCKED
)
RETURNING n.notice_id, n.client_id, n.district, n.person_id, n.sid, n.tries

-- name: drop_notice
DELETE FROM logout_notice WHERE notice_id = $1

-- Pushed requests, keys

-- name: take_pushed
-- Once, by the application that pushed it.
DELETE FROM authorization_request
WHERE authorization_id = $1 AND district = $2 AND client_id = $3 AND browser_hash IS NULL AND expires_at > $4
RETURNING asked

-- name: note_assertion
INSERT INTO client_assertion (assertion_hash, expires_at) VALUES ($1, $2)
ON CONFLICT DO NOTHING RETURNING true
