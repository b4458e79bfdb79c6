-- Single sign-on: which applications there are, and what a person's signing in to them is made of. Tokens, codes and
-- cookies are kept as hashes. None of it is worth more than the session that it stands on: whoever asks looks at that.

-- An application is a client that sends people to sign in here; its secret, name and districts are the client's.
CREATE TABLE application (
    client_id                text PRIMARY KEY REFERENCES client ON DELETE CASCADE,
    type                     text NOT NULL CHECK (type IN ('web', 'native', 'spa')),
    redirect_uris            text[] NOT NULL,
    post_logout_redirect_uris text[] NOT NULL,
    scopes                   text[] NOT NULL,
    authentication           text NOT NULL CHECK (authentication IN ('none', 'secret')),
    pkce                     text NOT NULL CHECK (pkce IN ('required', 'optional')),
    id_token_algorithm       text NOT NULL,
    access_token_minutes     integer NOT NULL,
    sector                   text NOT NULL   -- applications of one know a person by one pairwise name
);

-- What an application asked for, in a browser (`browser_hash`: of its cookie), until somebody has signed in there.
-- `accepted_hash`: of the proof that the front end was given for the session.
CREATE TABLE authorization_request (
    authorization_id uuid PRIMARY KEY,
    district         text NOT NULL,
    client_id        text NOT NULL REFERENCES application ON DELETE CASCADE,
    browser_hash     bytea NOT NULL,
    asked            jsonb NOT NULL,
    session_hash     bytea,
    accepted_hash    bytea,
    created_at       timestamptz NOT NULL,
    expires_at       timestamptz NOT NULL
);
CREATE INDEX authorization_request_expires_at ON authorization_request (expires_at);

-- The cookie by which a browser is known again as signed in.
CREATE TABLE browser_session (
    token_hash   bytea PRIMARY KEY,
    session_hash bytea NOT NULL,
    expires_at   timestamptz NOT NULL
);
CREATE INDEX browser_session_session ON browser_session (session_hash);
CREATE INDEX browser_session_expires_at ON browser_session (expires_at);

-- A code is kept a while after its end, so that its second use is known for what it is.
CREATE TABLE authorization_code (
    code_hash    bytea PRIMARY KEY,
    sign_on_id   uuid NOT NULL,
    client_id    text NOT NULL REFERENCES application ON DELETE CASCADE,
    session_hash bytea NOT NULL,
    redirect_uri text NOT NULL,
    challenge    text,
    scopes       text[] NOT NULL,
    nonce        text,
    expires_at   timestamptz NOT NULL,
    redeemed_at  timestamptz
);
CREATE INDEX authorization_code_session ON authorization_code (session_hash);
CREATE INDEX authorization_code_expires_at ON authorization_code (expires_at);

-- One application's use of one session. Its refresh tokens are one family: whoever uses one twice ends it.
CREATE TABLE sign_on (
    sign_on_id   uuid PRIMARY KEY,
    client_id    text NOT NULL REFERENCES application ON DELETE CASCADE,
    district     text NOT NULL,
    session_hash bytea NOT NULL,
    person_id    uuid NOT NULL,
    sid          text NOT NULL, -- the session, as this application knows it
    scopes       text[] NOT NULL,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL
);
CREATE INDEX sign_on_session ON sign_on (session_hash);
CREATE INDEX sign_on_sid ON sign_on (sid);
CREATE INDEX sign_on_expires_at ON sign_on (expires_at);

CREATE TABLE application_token (
    token_hash bytea PRIMARY KEY,
    sign_on_id uuid NOT NULL REFERENCES sign_on ON DELETE CASCADE,
    kind       text NOT NULL CHECK (kind IN ('access', 'refresh')),
    scopes     text[] NOT NULL,
    issued_at  timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at    timestamptz
);
CREATE INDEX application_token_sign_on ON application_token (sign_on_id);
CREATE INDEX application_token_expires_at ON application_token (expires_at);

-- What ends a session ends what stands on it, in the same transaction and whichever statement it was.
CREATE FUNCTION end_sign_ons() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM sign_on USING ended WHERE sign_on.session_hash = ended.token_hash;
    DELETE FROM authorization_code USING ended WHERE authorization_code.session_hash = ended.token_hash;
    DELETE FROM browser_session USING ended WHERE browser_session.session_hash = ended.token_hash;
    RETURN NULL;
END $$;
CREATE TRIGGER session_ended AFTER DELETE ON session REFERENCING OLD TABLE AS ended
FOR EACH STATEMENT EXECUTE FUNCTION end_sign_ons();
