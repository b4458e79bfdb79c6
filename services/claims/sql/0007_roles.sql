-- Which roles auth says that members of the staff have: nobody resets or closes the account of a role above their own.
CREATE TABLE role_held (
    person_id uuid NOT NULL,
    role      text NOT NULL,
    PRIMARY KEY (person_id, role)
);
-- Who asked for a reset, a person where that is known, whatever client or session they came with. NULL: `author`.
ALTER TABLE reset_batch ADD COLUMN author_who text;
CREATE INDEX reset_batch_who ON reset_batch (district, coalesce(author_who, author), as_of);
