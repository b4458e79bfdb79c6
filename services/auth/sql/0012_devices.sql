-- On which devices an account has signed in: those are not refused for what others did. `device` is the id that the
-- device keeps in its token, random and of no meaning outside. One that never `returned` is soon forgotten: its front end
-- keeps no token.
CREATE TABLE known_device (
    account  bytea NOT NULL,
    device   bytea NOT NULL,
    last_at  timestamptz NOT NULL,
    returned boolean NOT NULL DEFAULT false,
    PRIMARY KEY (account, device)
) WITH (fillfactor = 70);
CREATE INDEX known_device_last_at ON known_device (last_at);

-- Wrong passwords in a row: for an account from all devices that it does not know (''), and from each that it knows.
ALTER TABLE wrong_password ADD COLUMN device bytea NOT NULL DEFAULT '';
ALTER TABLE wrong_password DROP CONSTRAINT wrong_password_pkey;
ALTER TABLE wrong_password ADD PRIMARY KEY (account, device);

-- Wrong passwords of an unknown device, or of a network's devices without a token. The level falls by itself, by the
-- policy's rate; `key` is a keyed hash.
CREATE TABLE failure_budget (
    key   bytea PRIMARY KEY,
    level double precision NOT NULL,
    at    timestamptz NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX failure_budget_at ON failure_budget (at);
