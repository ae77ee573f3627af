-- A strict user-defined aggregate without initial value that has seen only NULLs
-- starts with the first value that comes, also in a later batch.
\set ON_ERROR_STOP on
\set QUIET on
CREATE EXTENSION IF NOT EXISTS kstream;
CREATE FUNCTION longer(text, text) RETURNS text LANGUAGE sql IMMUTABLE STRICT
	AS 'SELECT CASE WHEN length($2) > length($1) THEN $2 ELSE $1 END';
CREATE AGGREGATE longest(text) (sfunc = longer, stype = text);
SELECT kstream.create_stream('s', 'a int, b text', server => 'local');
SELECT kstream.create_table_as('r1', 'SELECT longest(b) AS l FROM s', paused => true);
SELECT kstream.create_table_as('r2', 'SELECT a, longest(b) AS l FROM s GROUP BY a', paused => true);
INSERT INTO s (a, b) VALUES (1, NULL), (1, 'x'), (1, 'yy');
SELECT kstream.step(r, 1), kstream.step(r, 1), kstream.step(r, 1) FROM unnest('{r1,r2}'::text[]) r;
DO $$ BEGIN
	IF (SELECT l FROM r1) IS DISTINCT FROM 'yy' OR (SELECT l FROM r2) IS DISTINCT FROM 'yy' THEN
		RAISE EXCEPTION 'longest is % and %', (SELECT l FROM r1), (SELECT l FROM r2);
	END IF;
END $$;
