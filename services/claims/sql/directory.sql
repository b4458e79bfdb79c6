-- name: list_persons
-- In the order of their names, behind the person $6: those of a school, a grade, a class, and (only the enrolled) claimed
-- or not.
SELECT a.person_id, a.kind, a.number, a.last_name, a.first_name, a.school, a.grade, a.status = 'enrolled' AS enrolled,
       c.claim_id IS NOT NULL AS claimed, coalesce(c.suspensions <> '[]', false) AS suspended
FROM admission a LEFT JOIN account c USING (person_id)
WHERE a.district = $1 AND a.number <> ''
  AND ($2::text IS NULL OR a.school = $2)
  AND ($3::text IS NULL OR a.grade = $3)
  AND ($4::jsonb IS NULL OR (a.classes <> '[]' AND a.classes @> $4))
  AND ($5::boolean IS NULL OR (a.status = 'enrolled' AND (c.claim_id IS NOT NULL) = $5))
  AND ($6::uuid IS NULL OR (in_order(a.last_name), in_order(a.first_name), a.last_name, a.first_name, a.person_id)
       > (SELECT in_order(last_name), in_order(first_name), last_name, first_name, person_id
          FROM admission WHERE person_id = $6))
ORDER BY in_order(a.last_name), in_order(a.first_name), a.last_name, a.first_name, a.person_id LIMIT $7

-- name: search_persons
-- The same of those whose words begin with every word of $8: they are found by their words first, however few of a page
-- would be behind the next name.
WITH found AS MATERIALIZED (
    SELECT * FROM admission
    WHERE district = $1 AND number <> '' AND words_of(last_name, first_name, number) @@ (
        SELECT string_agg(quote_literal(typed.word) || ':*', ' & ')::tsquery FROM (
            SELECT DISTINCT regexp_split_to_table(bare_letters(words.word), '[^[:alnum:]]+') AS word
            FROM unnest($8::text[]) AS words (word)
        ) AS typed WHERE typed.word <> ''
    )
)
SELECT a.person_id, a.kind, a.number, a.last_name, a.first_name, a.school, a.grade, a.status = 'enrolled' AS enrolled,
       c.claim_id IS NOT NULL AS claimed, coalesce(c.suspensions <> '[]', false) AS suspended
FROM found a LEFT JOIN account c USING (person_id)
WHERE ($2::text IS NULL OR a.school = $2)
  AND ($3::text IS NULL OR a.grade = $3)
  AND ($4::jsonb IS NULL OR (a.classes <> '[]' AND a.classes @> $4))
  AND ($5::boolean IS NULL OR (a.status = 'enrolled' AND (c.claim_id IS NOT NULL) = $5))
  AND ($6::uuid IS NULL OR (in_order(a.last_name), in_order(a.first_name), a.last_name, a.first_name, a.person_id)
       > (SELECT in_order(last_name), in_order(first_name), last_name, first_name, person_id
          FROM admission WHERE person_id = $6))
ORDER BY in_order(a.last_name), in_order(a.first_name), a.last_name, a.first_name, a.person_id LIMIT $7

-- name: unclaimed_by_school
-- Enrolled pupils, of a school ($2) and a grade ($3) or of all; `waiting`: entered after $4, and nobody waived it.
SELECT a.school, count(*) AS persons, count(c.claim_id) AS claimed,
       count(*) FILTER (WHERE c.claim_id IS NULL AND a.basis > $4 AND NOT a.baseline AND c.waiver IS NULL) AS waiting
FROM admission a LEFT JOIN account c USING (person_id)
WHERE a.district = $1 AND a.kind = 'student' AND a.status = 'enrolled' AND a.number <> ''
  AND ($2::text IS NULL OR a.school = $2) AND ($3::text IS NULL OR a.grade = $3)
GROUP BY a.school ORDER BY in_order(a.school), a.school LIMIT $5

-- name: unclaimed_by_grade
SELECT a.grade, count(*) AS persons, count(c.claim_id) AS claimed,
       count(*) FILTER (WHERE c.claim_id IS NULL AND a.basis > $4 AND NOT a.baseline AND c.waiver IS NULL) AS waiting
FROM admission a LEFT JOIN account c USING (person_id)
WHERE a.district = $1 AND a.kind = 'student' AND a.status = 'enrolled' AND a.number <> ''
  AND ($2::text IS NULL OR a.school = $2) AND ($3::text IS NULL OR a.grade = $3)
GROUP BY a.grade ORDER BY a.grade LIMIT $5

-- name: unclaimed_by_class
-- The classes of a school's pupils that hold on the day $6.
SELECT of.class ->> 'class_id' AS class_id, max(of.class ->> 'title') AS title,
       count(*) AS persons, count(c.claim_id) AS claimed,
       count(*) FILTER (WHERE c.claim_id IS NULL AND a.basis > $4 AND NOT a.baseline AND c.waiver IS NULL) AS waiting
FROM admission a LEFT JOIN account c USING (person_id) CROSS JOIN jsonb_array_elements(a.classes) AS of (class)
WHERE a.district = $1 AND a.kind = 'student' AND a.status = 'enrolled' AND a.number <> ''
  AND a.school = $2 AND ($3::text IS NULL OR a.grade = $3)
  AND coalesce(of.class ->> 'begins_on' <= $6, true) AND coalesce(of.class ->> 'ends_on' >= $6, true)
GROUP BY 1 ORDER BY in_order(max(of.class ->> 'title')), 1 LIMIT $5

-- name: claims_a_minute
SELECT date_trunc('minute', occurred_at, 'UTC') AS minute, count(*) AS count FROM event
WHERE district = $1 AND type = 'AccountClaimed' AND occurred_at >= $2 GROUP BY 1

-- name: refusals_a_minute
SELECT date_trunc('minute', at, 'UTC') AS minute, count(*) AS count FROM refusal
WHERE district = $1 AND at >= $2 GROUP BY 1
