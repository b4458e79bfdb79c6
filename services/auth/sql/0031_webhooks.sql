-- Districts that are told of their audit over HTTP, and from when on the next try may be: `tries` rounds in a row were in
-- vain.
CREATE TABLE webhook (
    district text PRIMARY KEY,
    tries    integer NOT NULL DEFAULT 0,
    next_at  timestamptz NOT NULL
);

-- Lines that have still to be told, written in the statement that writes the lines; for three days.
CREATE TABLE webhook_line (
    audit_id   bigint PRIMARY KEY REFERENCES audit ON DELETE CASCADE,
    district   text NOT NULL,
    tries      integer NOT NULL DEFAULT 0,
    next_at    timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL DEFAULT now() + interval '3 days'
) WITH (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000
);
CREATE INDEX webhook_line_next_at ON webhook_line (district, next_at);
CREATE INDEX webhook_line_expires_at ON webhook_line (expires_at);
