-- Applications

-- name: insert_provider
INSERT INTO service_provider (client_id, entity_id, acs, certificates, name_id, email_domain, attributes, unsolicited,
                              sector)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: change_provider
UPDATE service_provider
SET entity_id = $2, acs = $3, certificates = $4, name_id = $5, email_domain = $6, attributes = $7, unsolicited = $8
WHERE client_id = $1

-- name: lock_entity_id
-- Until the transaction ends nobody registers the same entity id: a district has to know whom it means.
SELECT pg_advisory_xact_lock(hashtextextended($1, 27))

-- name: find_provider
SELECT s.client_id, c.name, c.districts, s.entity_id, s.acs, s.certificates, s.name_id, s.email_domain, s.attributes,
       s.unsolicited, s.sector
FROM service_provider s JOIN client c USING (client_id)
WHERE s.client_id = $1 AND c.removed_at IS NULL

-- name: find_by_entity_id
SELECT s.client_id, c.name, c.districts, s.entity_id, s.acs, s.certificates, s.name_id, s.email_domain, s.attributes,
       s.unsolicited, s.sector
FROM service_provider s JOIN client c USING (client_id)
WHERE s.entity_id = $1 AND c.removed_at IS NULL

-- name: list_providers
SELECT s.client_id, c.name, c.districts, s.entity_id, s.acs, s.certificates, s.name_id, s.email_domain, s.attributes,
       s.unsolicited, s.sector
FROM service_provider s JOIN client c USING (client_id)
WHERE c.removed_at IS NULL
ORDER BY c.created_at, s.client_id LIMIT 1000

-- Asking

-- name: note_request
INSERT INTO saml_request (request_hash, expires_at) VALUES ($1, $2)
ON CONFLICT DO NOTHING RETURNING true

-- name: take_posted
-- Once: what a form brought, for the GET that it leads to.
DELETE FROM authorization_request r USING service_provider s
WHERE r.authorization_id = $1 AND r.district = $2 AND r.browser_hash IS NULL AND r.expires_at > $3
  AND s.client_id = r.client_id
RETURNING r.client_id, r.asked

-- Answering

-- name: insert_answer
INSERT INTO saml_answer (answer_hash, client_id, district, session_hash, asked, refusal, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)

-- name: session_of_answer
SELECT session_hash FROM saml_answer WHERE answer_hash = $1 AND district = $2

-- name: take_answer
DELETE FROM saml_answer WHERE answer_hash = $1 AND district = $2 AND expires_at > $3
RETURNING client_id, session_hash, asked, refusal
