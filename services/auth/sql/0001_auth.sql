-- What auth keeps beside the kit's tables. No column holds a password, an answer, a token or a code that could be read
-- back: verifiers are argon2id over a peppered HMAC, tokens and codes are hashes.

-- Who is who, from the roster's topic: the number makes the username, the names may not be the password.
CREATE TABLE person (
    person_id  uuid PRIMARY KEY,
    district   text NOT NULL,
    number     text NOT NULL,
    last_name  text NOT NULL,
    first_name text NOT NULL,
    status     text NOT NULL CHECK (status IN ('enrolled', 'withdrawn')),
    version    bigint NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX person_number ON person (district, number);

-- Which credential of a person is live, from auth's own events, within the append. `state` is the whole fold.
CREATE TABLE credential (
    person_id     uuid PRIMARY KEY,
    district      text NOT NULL,
    generation    bigint NOT NULL,
    status        text NOT NULL CHECK (status IN ('none', 'pending', 'live', 'revoked')),
    credential_id uuid,
    claim_id      uuid,
    state         jsonb NOT NULL,
    version       bigint NOT NULL
) WITH (fillfactor = 70);

-- The verifiers, and nothing that says which of them counts: that is the events' to say. `answers` and `questions` are
-- gone once the credential is history.
CREATE TABLE vault (
    credential_id uuid PRIMARY KEY,
    person_id     uuid NOT NULL,
    password      text NOT NULL,
    answers       text,
    questions     text[],
    sealed_at     timestamptz NOT NULL
);
CREATE INDEX vault_person ON vault (person_id);

-- A claim's password while its answers are still to come; once sealed, only which credential it became.
CREATE TABLE staging (
    claim_id      uuid PRIMARY KEY,
    district      text NOT NULL,
    person_id     uuid NOT NULL,
    generation    bigint NOT NULL,
    taken         integer NOT NULL,
    etag          text,
    password      text,
    credential_id uuid,
    expires_at    timestamptz NOT NULL
);
CREATE INDEX staging_person ON staging (person_id);
CREATE INDEX staging_expires_at ON staging (expires_at);

-- A signed-in browser or app. It lives while its credential is the live one, and no longer than the policy says.
CREATE TABLE session (
    token_hash    bytea PRIMARY KEY,
    district      text NOT NULL,
    person_id     uuid NOT NULL,
    credential_id uuid NOT NULL,
    created_at    timestamptz NOT NULL,
    last_seen_at  timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX session_person ON session (person_id);
CREATE INDEX session_expires_at ON session (expires_at);

-- Wrong passwords in a row. `account` is a keyed hash of what was typed as the username, whether it exists or not.
CREATE TABLE wrong_password (
    account bytea PRIMARY KEY,
    count   integer NOT NULL,
    last_at timestamptz NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX wrong_password_last_at ON wrong_password (last_at);

-- Tries at the challenge questions on one of the district's days. `announced`: RecoveryRested has been recorded.
CREATE TABLE recovery_try (
    account   bytea NOT NULL,
    day       text NOT NULL,
    count     integer NOT NULL,
    allowed   integer NOT NULL,
    district  text NOT NULL,
    person_id uuid,
    last_at   timestamptz NOT NULL,
    until     timestamptz NOT NULL,
    announced boolean NOT NULL DEFAULT false,
    PRIMARY KEY (account, day)
);
CREATE INDEX recovery_try_until ON recovery_try (until);
CREATE INDEX recovery_try_unannounced ON recovery_try (last_at) WHERE person_id IS NOT NULL AND NOT announced;

-- A pupil on the way back in; a decoy has no person. `opened_by`: by whose proof a new password may be set.
CREATE TABLE recovery (
    recovery_id       uuid PRIMARY KEY,
    district          text NOT NULL,
    account           bytea NOT NULL,
    person_id         uuid,
    credential_id     uuid,
    questions         text[] NOT NULL,
    opened_by         text,
    taken             integer NOT NULL DEFAULT 0,
    new_credential_id uuid,
    expires_at        timestamptz NOT NULL
);
CREATE INDEX recovery_person ON recovery (person_id);
CREATE INDEX recovery_expires_at ON recovery (expires_at);

-- The one code of a person that opens a recovery; another replaces it, use removes it.
CREATE TABLE recovery_code (
    person_id  uuid PRIMARY KEY,
    district   text NOT NULL,
    code_hash  bytea NOT NULL,
    issued_by  text NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX recovery_code_expires_at ON recovery_code (expires_at);

-- Machines and staff. `districts` bounds where a client may ask for tokens; '*' is every district.
CREATE TABLE client (
    client_id      text PRIMARY KEY,
    name           text NOT NULL,
    scopes         text[] NOT NULL,
    districts      text[] NOT NULL,
    human          boolean NOT NULL,
    secret_hash    bytea NOT NULL,
    previous_hash  bytea,
    previous_until timestamptz,
    created_at     timestamptz NOT NULL,
    rotated_at     timestamptz
);
