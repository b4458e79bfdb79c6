-- Whole exports of a district's SIS, on their way in. What is on file and what a file says of pupils lies in import_row
-- and import_flaw until the report goes, and in import_piece until the export has been read.

-- `seq`: of two exports of the same moment the one that came later counts. `total`, `done`: rows to apply, and applied.
CREATE TABLE import (
    import_id      uuid PRIMARY KEY,
    seq            bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    district       text NOT NULL,
    state          text NOT NULL CHECK (state IN ('receiving', 'received', 'awaiting_approval', 'applying',
                                                  'done', 'refused', 'cancelled')),
    dry_run        boolean NOT NULL,
    baseline       boolean NOT NULL,
    as_of          timestamptz NOT NULL,
    received_at    timestamptz NOT NULL,
    file_name      text,
    author         text NOT NULL,
    approved_by    text,
    bytes          bigint NOT NULL DEFAULT 0,
    sha256         bytea,
    version        text,
    mode           text,
    source         text,
    reason         text,
    details        jsonb NOT NULL DEFAULT '{}',
    counts         jsonb NOT NULL DEFAULT '{}',
    passed_over    jsonb NOT NULL DEFAULT '{}',
    total          integer NOT NULL DEFAULT 0,
    done           integer NOT NULL DEFAULT 0,
    crashes        integer NOT NULL DEFAULT 0,
    correlation_id text NOT NULL,
    changed_at     timestamptz NOT NULL,
    ended_at       timestamptz
) WITH (fillfactor = 70);
CREATE INDEX import_district ON import (district, seq);
-- One at a time for each district.
CREATE UNIQUE INDEX import_open ON import (district) WHERE state IN ('received', 'awaiting_approval', 'applying');

-- The file as it came, in order.
CREATE TABLE import_piece (
    import_id uuid NOT NULL REFERENCES import ON DELETE CASCADE,
    n         integer NOT NULL,
    content   bytea NOT NULL,
    PRIMARY KEY (import_id, n)
);

-- What an export means, person by person. `kinds` is empty where nothing changes: then the row only waits to be heard,
-- and goes. `version` is the person's when that was found out, `before` what was on file then.
CREATE TABLE import_row (
    import_id  uuid NOT NULL REFERENCES import ON DELETE CASCADE,
    n          integer NOT NULL,
    file       text,
    line       integer,
    source_id  text NOT NULL,
    number     text,
    last_name  text,
    first_name text,
    school     text,
    grade      text,
    gone       text,
    partial    boolean NOT NULL,
    kinds      text[] NOT NULL,
    version    bigint,
    before     jsonb,
    state      text NOT NULL CHECK (state IN ('planned', 'applied', 'overtaken', 'refused')),
    reason     text,
    details    jsonb,
    PRIMARY KEY (import_id, n)
) WITH (fillfactor = 80);
CREATE INDEX import_row_planned ON import_row (import_id, n) WHERE state = 'planned';

-- What is wrong with rows of the files; the first of each import.
CREATE TABLE import_flaw (
    import_id uuid NOT NULL REFERENCES import ON DELETE CASCADE,
    n         integer NOT NULL,
    flaw      jsonb NOT NULL,
    PRIMARY KEY (import_id, n)
);
