-- An aggregate's argument is evaluated only for rows that FILTER lets through:
-- 1 / (a - 1) must not make the record with a = 1 a bad one.
\set ON_ERROR_STOP on
\set QUIET on
CREATE EXTENSION IF NOT EXISTS kstream;
SELECT kstream.create_stream('s', 'a int', server => 'local');
SELECT kstream.create_table_as('r', 'SELECT a % 2 AS k, sum(12 / (a - 1)) FILTER (WHERE a <> 1) AS n,
	array_agg(12 / (a - 1)) FILTER (WHERE a <> 1) AS l FROM s GROUP BY 1', paused => true);
INSERT INTO s (a) SELECT generate_series(0, 4);
SELECT kstream.step('r', 2), kstream.step('r', 2), kstream.step('r', 2);
DO $$ BEGIN
	IF EXISTS (SELECT FROM kstream.dead_letters) OR (SELECT array_agg(r ORDER BY k)::text FROM r) <>
		'{"(0,4,\"{-12,12,4}\")","(1,6,{6})"}' THEN
		RAISE EXCEPTION 'FILTER does not guard the arguments: %', (SELECT array_agg(r ORDER BY k)::text FROM r);
	END IF;
END $$;
