-- How many have signed in, and how many were told that username and password do not go together, by the minute.
CREATE TABLE sign_in_minute (
    district text NOT NULL,
    minute   timestamptz NOT NULL,
    done     bigint NOT NULL,
    refused  bigint NOT NULL,
    PRIMARY KEY (district, minute)
) WITH (fillfactor = 50);
CREATE INDEX sign_in_minute_minute ON sign_in_minute (minute);
