-- A name as people look for it and put it in order: in small letters without accents. Letters that are no accented ones
-- to Unicode (Đặng, Łukasz, Øystein) are found, and stand, among those that they resemble.
-- (What an index uses may call nothing outside of pg_catalog: PostgreSQL 17 makes indexes with that path alone.)
CREATE FUNCTION bare_letters(name text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT translate(lower(regexp_replace(normalize(name, NFKD), '[\u0300-\u036f]', '', 'g')),
                     'đðøłħŧıßæœþ', 'ddolhtisaot')
$$;

-- Where it stands in a list: apostrophes, hyphens and blanks part no words (Ó Briain beside O'Brian).
CREATE FUNCTION in_order(name text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT translate(lower(regexp_replace(normalize(name, NFKD), '[\u0300-\u036f ''’ʼ‐-]', '', 'g')),
                     'đðøłħŧıßæœþ', 'ddolhtisaot')
$$;
