-- What every process must forget of what it remembers (services/auth/remembered.py): whose sessions ended or changed, or
-- which client is another now. `xid`: the transaction that says so, by which readers know what they have heard. A
-- sequence would not do: transactions end in another order than they begin.
CREATE TABLE revoked (
    xid       bigint NOT NULL DEFAULT (pg_current_xact_id()::text::bigint),
    person_id uuid,
    client_id text,
    at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (num_nonnulls(person_id, client_id) = 1)
);
CREATE INDEX revoked_xid ON revoked (xid);
CREATE INDEX revoked_at ON revoked (at);

-- What its person is shown of a session ("where am I signed in"): by what kind of device it was opened.
ALTER TABLE session ADD COLUMN session_id uuid NOT NULL DEFAULT gen_random_uuid(), ADD COLUMN device_kind text;
CREATE UNIQUE INDEX session_session_id ON session (session_id);
