-- The tables that every service has, whatever its rules.
--
-- `json` holds text that must stay as it is to the byte (events); the kit reads and writes it as bytes.
-- `jsonb` holds values that are asked about; the kit reads and writes it as Python values.

-- One row for each person: where their history in this service stands. Every append locks it first.
CREATE TABLE stream (
    stream_id uuid PRIMARY KEY,
    district  text NOT NULL,
    version   bigint NOT NULL CHECK (version > 0)
) WITH (fillfactor = 80);

-- The truth. Rows are never changed.
CREATE TABLE event (
    stream_id      uuid NOT NULL,
    version        bigint NOT NULL,
    event_id       uuid NOT NULL,
    type           text NOT NULL,
    schema         integer NOT NULL,
    district       text NOT NULL,
    data           json NOT NULL,
    occurred_at    timestamptz NOT NULL,
    recorded_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    correlation_id text NOT NULL,
    causation_id   text,
    traceparent    text,
    PRIMARY KEY (stream_id, version)
);

-- What Kafka has not acknowledged yet: a queue of references to events. `seq` gives one person's events their
-- order (it is drawn while the stream's row is locked); across persons it means nothing, and it has gaps.
CREATE TABLE outbox (
    seq       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    part      integer NOT NULL,
    stream_id uuid NOT NULL,
    version   bigint NOT NULL
) WITH (
    -- It is empty most of the time while millions of rows pass through: vacuum by count, never by share.
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 50000
);

-- What Kafka has acknowledged last, for each partition of this service's topic.
CREATE TABLE publication (
    part          integer PRIMARY KEY,
    last_offset   bigint NOT NULL,
    last_event_id uuid NOT NULL,
    at            timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);

-- Commands that came with an Idempotency-Key, with the reply that a repeat is given.
CREATE TABLE command (
    caller          text NOT NULL,
    route           text NOT NULL,
    idempotency_key text NOT NULL,
    digest          bytea NOT NULL,
    status          integer NOT NULL,
    headers         jsonb NOT NULL,
    body            bytea NOT NULL,
    at              timestamptz NOT NULL,
    PRIMARY KEY (caller, route, idempotency_key)
);
CREATE INDEX command_at ON command (at);

-- How far a projection or consumer has come in each stream. Apart from the rows it fills, so that a deleted row
-- does not forget its version. Parked: something of this person is among the dead letters, so what the rows say of
-- them is not certain. Version 0 has no event id: nothing was applied yet.
CREATE TABLE gate (
    consumer  text NOT NULL,
    stream_id uuid NOT NULL,
    version   bigint NOT NULL,
    event_id  uuid,
    parked_at timestamptz,
    PRIMARY KEY (consumer, stream_id)
) WITH (fillfactor = 80);

-- How far a projection or consumer has come in each partition. `last_id` is the ce_id of the record before
-- `next_offset`: a topic made anew is noticed although the offset is in range. `alarm` says why nothing moves any more.
CREATE TABLE checkpoint (
    consumer    text NOT NULL,
    topic       text NOT NULL,
    part        integer NOT NULL,
    next_offset bigint NOT NULL,
    last_id     text,
    alarm       text,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (consumer, topic, part)
) WITH (fillfactor = 50);

-- Records that could not be taken (parked), and those of the same key that wait behind them (queued). `version` and
-- `event_id` are known of our own events; `wish` is what an operator asked for and the consumer has yet to do.
CREATE TABLE dead_letter (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    consumer      text NOT NULL,
    district      text NOT NULL,
    key           text,
    version       bigint,
    event_id      text,
    topic         text NOT NULL,
    part          integer NOT NULL,
    record_offset bigint NOT NULL,
    appended_at   timestamptz NOT NULL,
    time_type     smallint NOT NULL,
    record_key    bytea,
    headers       jsonb NOT NULL,
    value         bytea,
    reason        text NOT NULL,
    detail        text NOT NULL,
    state         text NOT NULL CHECK (state IN ('parked', 'queued', 'discarded', 'applied')),
    attempts      integer NOT NULL DEFAULT 1,
    first_at      timestamptz NOT NULL,
    changed_at    timestamptz NOT NULL,
    wish          text CHECK (wish IN ('retry', 'discard')),
    changed_by    text,
    note          text
);
CREATE INDEX dead_letter_open ON dead_letter (consumer, key, id) WHERE state IN ('parked', 'queued');
CREATE INDEX dead_letter_wish ON dead_letter (consumer, part) WHERE wish IS NOT NULL;
CREATE INDEX dead_letter_event ON dead_letter (event_id);

-- The true reason of a refusal, found by the code that the refused person reads out: which field differed, never
-- what was typed.
CREATE TABLE refusal (
    reference text PRIMARY KEY,
    district  text NOT NULL,
    route     text NOT NULL,
    reason    text NOT NULL,
    detail    jsonb NOT NULL,
    person_id uuid,
    at        timestamptz NOT NULL
);
CREATE INDEX refusal_at ON refusal (at);
CREATE INDEX refusal_person ON refusal (person_id) WHERE person_id IS NOT NULL;

-- A read model made anew beside the running one.
CREATE TABLE rebuild (
    id          uuid PRIMARY KEY,
    projection  text NOT NULL,
    purpose     text NOT NULL CHECK (purpose IN ('rebuild', 'replay')),
    state       text NOT NULL CHECK (state IN ('building', 'following', 'switched', 'dropped', 'failed')),
    wish        text CHECK (wish IN ('compare', 'switch', 'drop')),
    done        bigint NOT NULL DEFAULT 0,
    total       bigint NOT NULL DEFAULT 0,
    report      jsonb NOT NULL DEFAULT '{}',
    error       text,
    started_by  text NOT NULL,
    started_at  timestamptz NOT NULL,
    changed_at  timestamptz NOT NULL,
    finished_at timestamptz
);
CREATE UNIQUE INDEX rebuild_open ON rebuild (projection) WHERE finished_at IS NULL;
