-- How the help desk finds people: the words of a name and the number, without case and accents, each also by its
-- beginning; what an apostrophe or a hyphen parts is one word as well (O'Neil: o, neil, oneil).
CREATE FUNCTION words_of(last_name text, first_name text, number text) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT array_to_tsvector(array_remove(
        regexp_split_to_array(plain || ' ' || regexp_replace(plain, '[''’ʼ‐-]', '', 'g'), '[^[:alnum:]]+'), ''))
    FROM (SELECT lower(regexp_replace(normalize(last_name || ' ' || first_name || ' ' || number, NFKD),
                                      '[\u0300-\u036f]', '', 'g')) AS plain) AS folded
$$;
CREATE INDEX admission_words ON admission USING gin (words_of(last_name, first_name, number));

-- The classes that a pupil is in, as the roster tells them.
ALTER TABLE admission ADD COLUMN classes jsonb NOT NULL DEFAULT '[]';
CREATE INDEX admission_classes ON admission USING gin (classes jsonb_path_ops) WHERE classes <> '[]';

-- Claims by the minute.
CREATE INDEX event_claimed ON event (district, occurred_at) WHERE type = 'AccountClaimed';
