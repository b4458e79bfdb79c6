-- Back-channel logout: an application that wants to is told that a session has ended. A row is one that has still to be
-- told, written in the transaction that ends the session.
ALTER TABLE application ADD COLUMN backchannel_logout_uri text;

CREATE TABLE logout_notice (
    notice_id  uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    client_id  text NOT NULL REFERENCES application ON DELETE CASCADE,
    district   text NOT NULL,
    person_id  uuid NOT NULL,
    sid        text NOT NULL,
    tries      integer NOT NULL DEFAULT 0,
    next_at    timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX logout_notice_next_at ON logout_notice (next_at);
CREATE INDEX logout_notice_expires_at ON logout_notice (expires_at);

CREATE OR REPLACE FUNCTION end_sign_ons() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    WITH gone AS (
        DELETE FROM sign_on USING ended WHERE sign_on.session_hash = ended.token_hash
        RETURNING sign_on.client_id, sign_on.district, sign_on.person_id, sign_on.sid
    )
    INSERT INTO logout_notice (client_id, district, person_id, sid, next_at, expires_at)
    SELECT DISTINCT g.client_id, g.district, g.person_id, g.sid, now(), now() + interval '1 hour'
    FROM gone g JOIN application a ON a.client_id = g.client_id AND a.backchannel_logout_uri IS NOT NULL;
    DELETE FROM authorization_code USING ended WHERE authorization_code.session_hash = ended.token_hash;
    DELETE FROM browser_session USING ended WHERE browser_session.session_hash = ended.token_hash;
    RETURN NULL;
END $$;
