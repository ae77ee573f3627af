-- The limit of a group key counts values as they are stored, not as they print: a
-- jsonb of 29 characters takes 96 bytes.  What the reference counts must be the same.
\set ON_ERROR_STOP on
\set QUIET on
CREATE EXTENSION IF NOT EXISTS kstream;
\ir ../fixture.sql
RESET search_path;
SELECT kstream.create_stream('s', 'a text, j jsonb, n numeric, l text[], c char(5), p lk.pair', server => 'local');
SELECT kstream.create_table_as('r', 'SELECT a, j, n, l, c, p, count(*) AS n1 FROM s GROUP BY a, j, n, l, c, p', paused => true);
CREATE TABLE base (a text, j jsonb, n numeric, l text[], c char(5), p lk.pair);
INSERT INTO base SELECT repeat('ac', 1300), '[{"a": 1, "b": [1, 2, 3]}, 1]';
INSERT INTO base (a, j, n, l, c, p) VALUES (repeat('ac', 1300), '"x"', 12345.678, NULL, 'a', NULL),
	(repeat('ac', 1300), NULL, 'NaN', '{a,NULL,bcd}', NULL, '(,)'), (repeat('ac', 1300), '{}', NULL, '{}', 'abc', '(1,abc)');
CREATE FUNCTION rest(base) RETURNS int LANGUAGE sql AS 'SELECT coalesce(lk.key_size($1.j), 0) + coalesce(lk.key_size($1.n), 0)
	+ coalesce(lk.key_size($1.l), 0) + coalesce(lk.key_size($1.c), 0) + coalesce(lk.key_size($1.p), 0)';
-- Each with a text that makes the key 2600 bytes long, and with one of a byte more.
INSERT INTO s (a, j, n, l, c, p) SELECT left(b.a, 2596 - rest(b) + more), j, n, l, c, p FROM base b, generate_series(0, 1) more ORDER BY more, j;
SELECT kstream.step('r', 100);
DO $$ BEGIN
	IF (SELECT string_agg("offset" || ' ' || message, ', ' ORDER BY "offset") FROM kstream.dead_letters) IS DISTINCT FROM
		(SELECT string_agg(o || ' group key of 2601 bytes exceeds the limit of 2600 bytes', ', ') FROM generate_series(4, 7) o)
		OR (SELECT count(*) FROM r) <> 4 THEN
		RAISE EXCEPTION 'dead letters: %', (SELECT string_agg("offset" || ' ' || message, ', ') FROM kstream.dead_letters);
	END IF;
END $$;
