-- A client's secrets before the present one, each until the moment that was promised when it was replaced.
CREATE TABLE previous_secret (
    client_id   text NOT NULL REFERENCES client ON DELETE CASCADE,
    secret_hash bytea NOT NULL,
    until       timestamptz NOT NULL,
    PRIMARY KEY (client_id, secret_hash)
);
CREATE INDEX previous_secret_until ON previous_secret (until);

INSERT INTO previous_secret (client_id, secret_hash, until)
SELECT client_id, previous_hash, previous_until FROM client WHERE previous_hash IS NOT NULL AND previous_until > now();

ALTER TABLE client DROP COLUMN previous_hash, DROP COLUMN previous_until;
