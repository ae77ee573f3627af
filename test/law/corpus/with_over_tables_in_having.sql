-- A WITH query over tables may be read in HAVING and in the select list of a
-- grouped query, with saved states and with kept inputs.
\set ON_ERROR_STOP on
\set QUIET on
CREATE EXTENSION IF NOT EXISTS kstream;
SELECT kstream.create_stream('s', 'a int, b text', server => 'local');
CREATE TABLE t (n int);
INSERT INTO t VALUES (2);
SELECT kstream.create_table_as('r1', 'WITH w AS (SELECT n FROM t) SELECT a, count(*) + (SELECT n FROM w) AS c FROM s
	GROUP BY a HAVING count(*) >= (SELECT n FROM w)', paused => true);
SELECT kstream.create_table_as('r2', 'WITH w AS (SELECT n FROM t) SELECT a, array_agg(b) AS l FROM s WHERE a < 2 + (SELECT n FROM w)
	GROUP BY a HAVING count(*) >= (SELECT n FROM w)', paused => true);
INSERT INTO s (a, b) VALUES (1, 'x'), (1, 'y'), (2, 'z');
SELECT kstream.step(r, 2), kstream.step(r, 2) FROM unnest('{r1,r2}'::text[]) r;
DO $$ BEGIN
	IF (SELECT array_agg(r1)::text FROM r1) <> '{"(1,4)"}' OR (SELECT array_agg(r2)::text FROM r2) <> '{"(1,\"{x,y}\")"}' THEN
		RAISE EXCEPTION 'WITH in HAVING gives % and %', (SELECT array_agg(r1)::text FROM r1), (SELECT array_agg(r2)::text FROM r2);
	END IF;
END $$;
