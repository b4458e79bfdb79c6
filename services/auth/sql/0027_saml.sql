-- Applications that speak SAML. As the others they are clients, whose name and districts they have; but they hold no
-- tokens, and none of the OAuth endpoints knows them.
CREATE TABLE service_provider (
    client_id    text PRIMARY KEY REFERENCES client ON DELETE CASCADE,
    entity_id    text NOT NULL,
    acs          jsonb NOT NULL,   -- url and index of each, the default first
    certificates text[] NOT NULL,  -- base64 of DER
    name_id      text NOT NULL CHECK (name_id IN ('persistent', 'email', 'username')),
    email_domain text,
    attributes   jsonb NOT NULL,
    unsolicited  boolean NOT NULL,
    sector       text NOT NULL     -- applications of one know a person by one pairwise name
);
CREATE INDEX service_provider_entity_id ON service_provider (entity_id);

-- Both kinds of applications wait for people in one way.
ALTER TABLE authorization_request DROP CONSTRAINT authorization_request_client_id_fkey;
ALTER TABLE authorization_request ADD FOREIGN KEY (client_id) REFERENCES client ON DELETE CASCADE;

-- What an application is to be told, between the browser's coming back and the page that posts it. The response itself
-- is made when it is fetched, once, and kept nowhere. Without a session it is a refusal.
CREATE TABLE saml_answer (
    answer_hash  bytea PRIMARY KEY,
    client_id    text NOT NULL REFERENCES client ON DELETE CASCADE,
    district     text NOT NULL,
    session_hash bytea REFERENCES session (token_hash) ON DELETE CASCADE,
    asked        jsonb NOT NULL,
    refusal      jsonb,
    expires_at   timestamptz NOT NULL
);
CREATE INDEX saml_answer_session ON saml_answer (session_hash);
CREATE INDEX saml_answer_expires_at ON saml_answer (expires_at);

-- A request counts once.
CREATE TABLE saml_request (
    request_hash bytea PRIMARY KEY,
    expires_at   timestamptz NOT NULL
);
CREATE INDEX saml_request_expires_at ON saml_request (expires_at);
