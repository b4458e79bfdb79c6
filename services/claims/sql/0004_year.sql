-- Who has left and is not suspended yet, and why an account is closed.

ALTER TABLE account ADD COLUMN suspensions jsonb NOT NULL DEFAULT '[]';

-- Work to do: whoever left, until the grace is over, or until they are back. `version` is the roster's that said so,
-- `left_at` when the roster recorded it. Not `withdrawn`: an enrollment was voided, and perhaps others count.
-- `tried_at`: the account could not be suspended then, and is tried again.
CREATE TABLE departure (
    person_id uuid PRIMARY KEY,
    district  text NOT NULL,
    version   bigint NOT NULL,
    left_at   timestamptz NOT NULL,
    withdrawn boolean NOT NULL,
    graduated boolean NOT NULL,
    tried_at  timestamptz
);
CREATE INDEX departure_left_at ON departure (district, left_at);
