-- By which name a client did something last. Events and rows keep its stable id; the help desk reads the name.
CREATE TABLE actor (
    client_id text PRIMARY KEY,
    name      text NOT NULL
);
