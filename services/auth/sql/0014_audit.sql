-- Who signed in, who was refused, which codes and tokens were given out, what was changed: 90 days of it. `device` and
-- `network` are keyed hashes: they tell one from another, and nothing else.
CREATE TABLE audit (
    audit_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    district       text NOT NULL,
    at             timestamptz NOT NULL,
    what           text NOT NULL,
    outcome        text NOT NULL,
    person_id      uuid,
    actor          text,
    client         text,
    device         text,
    device_kind    text,
    network        text,
    reference      text,
    correlation_id uuid NOT NULL
);
CREATE INDEX audit_person ON audit (person_id, audit_id) WHERE person_id IS NOT NULL;
CREATE INDEX audit_district ON audit (district, audit_id);
CREATE INDEX audit_at ON audit (at);
