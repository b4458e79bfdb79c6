-- What claims reads and what the help desk has under way.

-- The waiting period: one row for each person of the roster, filled by the projector.
CREATE TABLE admission (
    person_id   uuid PRIMARY KEY,
    district    text NOT NULL,
    source_id   text NOT NULL,
    number      text NOT NULL,
    last_name   text NOT NULL,
    first_name  text NOT NULL,
    school      text,
    grade       text,
    status      text NOT NULL,
    enrollments jsonb NOT NULL,
    basis       timestamptz,
    baseline    boolean NOT NULL,
    version     bigint NOT NULL
);
CREATE INDEX admission_number ON admission (district, number);

-- The state of each account, written in the transaction that appends its events.
CREATE TABLE account (
    person_id     uuid PRIMARY KEY,
    district      text NOT NULL,
    generation    bigint NOT NULL,
    claim_id      uuid,
    credential_id uuid,
    claimed_at    timestamptz,
    reset_at      timestamptz,
    waiver        jsonb,
    claims        jsonb NOT NULL,
    version       bigint NOT NULL
) WITH (fillfactor = 80);

-- Every reset is a batch, a single one too: who asked, who approved, what was listed and when the list was frozen.
CREATE TABLE reset_batch (
    batch_id       uuid PRIMARY KEY,
    district       text NOT NULL,
    cause          text NOT NULL CHECK (cause IN ('desk', 'credential_lost')),
    state          text NOT NULL CHECK (state IN ('awaiting_approval', 'approved', 'cancelled')),
    author         text NOT NULL,
    approved_by    text,
    desk_ticket    text,
    as_of          timestamptz NOT NULL,
    report         jsonb NOT NULL,
    correlation_id text NOT NULL,
    changed_at     timestamptz NOT NULL
);

-- The accounts of a batch. `listed`: waits for approval. `planned`: not begun. `reset`: recorded, and auth has not
-- confirmed yet. `done`: it has. `generation` is the account's when the list was frozen.
CREATE TABLE reset_item (
    batch_id       uuid NOT NULL REFERENCES reset_batch,
    person_id      uuid NOT NULL,
    line           integer NOT NULL,
    generation     bigint NOT NULL,
    state          text NOT NULL
                   CHECK (state IN ('listed', 'planned', 'reset', 'done', 'skipped', 'failed', 'cancelled')),
    reason         text,
    sessions_ended bigint,
    changed_at     timestamptz NOT NULL,
    PRIMARY KEY (batch_id, person_id)
) WITH (fillfactor = 80);
CREATE INDEX reset_item_planned ON reset_item (changed_at, batch_id, line) WHERE state = 'planned';
CREATE INDEX reset_item_person ON reset_item (person_id);
