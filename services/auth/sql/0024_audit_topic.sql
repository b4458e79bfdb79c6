-- The audit goes to Kafka as well, under the id of each line; lines from before have none, and stay here.
ALTER TABLE audit ADD COLUMN event_id uuid;

-- Lines that Kafka has not acknowledged yet: a queue of references, written in the statement that writes the lines.
CREATE TABLE audit_outbox (
    audit_id bigint PRIMARY KEY REFERENCES audit ON DELETE CASCADE
) WITH (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 50000
);
