-- Who is who, what the district said, and what became of it.

-- A person is a random UUID, mapped from the district's own id. `said` holds the mark of the newest statement about each
-- thing, for the rules (decider.Said). The row is locked by whoever decides about the person.
CREATE TABLE identity (
    district  text NOT NULL,
    source_id text NOT NULL,
    person_id uuid NOT NULL UNIQUE,
    said      jsonb NOT NULL,
    PRIMARY KEY (district, source_id)
) WITH (fillfactor = 70);

-- What became of each event that the district published. Refused ones of Kafka are in dead_letter instead: they may yet
-- be taken. The digest tells a repeat from another event under the same id.
CREATE TABLE ingress (
    district    text NOT NULL,
    event_id    text NOT NULL,
    digest      bytea NOT NULL,
    type        text NOT NULL,
    source_id   text NOT NULL,
    person_id   uuid,
    state       text NOT NULL CHECK (state IN ('accepted', 'unchanged', 'refused')),
    reason      text,
    details     jsonb NOT NULL,
    received_at timestamptz NOT NULL,
    decided_at  timestamptz NOT NULL,
    PRIMARY KEY (district, event_id)
);
CREATE INDEX ingress_decided_at ON ingress USING brin (decided_at);

-- Read model: everybody the roster knows, filled by the projector.
CREATE TABLE person (
    person_id    uuid PRIMARY KEY,
    district     text NOT NULL,
    source_id    text NOT NULL,
    number       text NOT NULL,
    last_name    text NOT NULL,
    first_name   text NOT NULL,
    school       text,
    grade        text,
    status       text NOT NULL,
    withdrawn_at timestamptz,
    reason       text,
    enrollments  jsonb NOT NULL,
    basis        timestamptz,
    baseline     boolean NOT NULL,
    version      bigint NOT NULL
);
CREATE INDEX person_number ON person (district, number);
