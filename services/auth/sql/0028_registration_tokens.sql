-- Initial access tokens (RFC 7591, 1.2): who has one registers applications of one district, so often, until then, and
-- with addresses at these hosts alone. Kept as a hash.
CREATE TABLE registration_token (
    token_id       uuid PRIMARY KEY,
    token_hash     bytea NOT NULL UNIQUE,
    district       text NOT NULL,
    name           text NOT NULL,
    redirect_hosts text[] NOT NULL,
    scopes         text[] NOT NULL,
    uses_left      integer NOT NULL CHECK (uses_left >= 0),
    created_at     timestamptz NOT NULL,
    expires_at     timestamptz NOT NULL
);
CREATE INDEX registration_token_expires_at ON registration_token (expires_at);

-- By which of them an application registered itself, also when that one has gone; null: an operator did.
ALTER TABLE application ADD COLUMN registered_by uuid;
