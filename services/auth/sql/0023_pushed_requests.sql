-- Applications show who they are by a key as well, and push what they ask for ahead of the browser. A pushed request is
-- no browser's yet.
ALTER TABLE application ADD COLUMN keys jsonb NOT NULL DEFAULT '[]';
ALTER TABLE application ADD COLUMN pushed text NOT NULL DEFAULT 'optional' CHECK (pushed IN ('required', 'optional'));
ALTER TABLE application DROP CONSTRAINT application_authentication_check;
ALTER TABLE application ADD CHECK (authentication IN ('none', 'secret', 'key'));
ALTER TABLE authorization_request ALTER COLUMN browser_hash DROP NOT NULL;

-- What an application has shown once by its key counts no second time.
CREATE TABLE client_assertion (
    assertion_hash bytea PRIMARY KEY,
    expires_at     timestamptz NOT NULL
);
CREATE INDEX client_assertion_expires_at ON client_assertion (expires_at);
