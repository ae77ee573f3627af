-- An aggregate without ORDER BY sees the records of a partition in offset order,
-- also where a join, or a condition that becomes one, hides the stream in a
-- sub-select, a view, or below IN.
\set ON_ERROR_STOP on
\set QUIET on
CREATE EXTENSION IF NOT EXISTS kstream;
SELECT kstream.create_stream('s', 'a int, b int', server => 'local');
CREATE TABLE t (k int);
INSERT INTO t SELECT (i * 7) % 20 FROM generate_series(1, 20) i;
ANALYZE t;
CREATE VIEW v AS SELECT a, b FROM s;
SELECT kstream.create_table_as('r1', 'SELECT array_agg(x.b) AS l FROM (SELECT a, b FROM s) x JOIN t ON t.k = x.a', paused => true);
SELECT kstream.create_table_as('r2', 'SELECT array_agg(v.b) AS l FROM v JOIN t ON t.k = v.a', paused => true);
SELECT kstream.create_table_as('r3', 'SELECT array_agg(b) AS l FROM s WHERE a IN (SELECT k FROM t)', paused => true);
SELECT kstream.create_table_as('r4', 'WITH w AS (SELECT v.a, v.b FROM v JOIN t ON t.k = v.a) SELECT array_agg(b) AS l FROM w', paused => true);
INSERT INTO s (a, b) SELECT (i * 3) % 20, i FROM generate_series(1, 20) i;
SET enable_nestloop = off;
SET enable_hashjoin = off;
SELECT kstream.step(r, 15), kstream.step(r, 15) FROM unnest('{r1,r2,r3,r4}'::text[]) r;
DO $$ DECLARE
	name text;
	found int[];
BEGIN
	FOREACH name IN ARRAY '{r1,r2,r3,r4}'::text[] LOOP
		EXECUTE 'SELECT l FROM ' || name INTO found;
		IF found IS DISTINCT FROM ARRAY(SELECT generate_series(1, 20)) THEN
			RAISE EXCEPTION 'order of arrival lost in %: %', name, found;
		END IF;
	END LOOP;
END $$;
