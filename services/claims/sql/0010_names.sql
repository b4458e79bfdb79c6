-- Whom the help desk looks for is found whatever the letters' marks; the release before asks in the same words.
CREATE OR REPLACE FUNCTION words_of(last_name text, first_name text, number text) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT array_to_tsvector(array_remove(
        regexp_split_to_array(plain || ' ' || regexp_replace(plain, '[''’ʼ‐-]', '', 'g'), '[^[:alnum:]]+'), ''))
    FROM (SELECT translate(lower(regexp_replace(normalize(last_name || ' ' || first_name || ' ' || number, NFKD),
                                                '[\u0300-\u036f]', '', 'g')),
                           'đðøłħŧıßæœþ', 'ddolhtisaot') AS plain) AS folded
$$;
REINDEX INDEX admission_words;

-- A list of people, a page after the other.
CREATE INDEX admission_names ON admission
    (district, in_order(last_name), in_order(first_name), last_name, first_name, person_id);
