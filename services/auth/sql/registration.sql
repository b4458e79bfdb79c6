-- name: insert_token
INSERT INTO registration_token (token_id, token_hash, district, name, redirect_hosts, scopes, uses_left, created_at,
                                expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: list_tokens
SELECT token_id, district, name, redirect_hosts, scopes, uses_left, created_at, expires_at
FROM registration_token WHERE expires_at > $1 AND uses_left > 0 ORDER BY created_at, token_id LIMIT 1000

-- name: remove_token
DELETE FROM registration_token WHERE token_id = $1

-- name: use_token
-- Of several at once on the last use one gets it: the others wait here until it is committed, or given back.
UPDATE registration_token SET uses_left = uses_left - 1
WHERE token_hash = $1 AND district = $2 AND expires_at > $3 AND uses_left > 0
RETURNING token_id, redirect_hosts, scopes
