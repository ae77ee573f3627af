-- Errors that a value causes make a bad record, whatever class their SQLSTATE is of.
\set ON_ERROR_STOP on
\set QUIET on
CREATE EXTENSION IF NOT EXISTS kstream;
SELECT kstream.create_stream('s', 'a numeric, b text', server => 'local');
SELECT kstream.create_table_as('r1', 'SELECT a::int AS i FROM s', paused => true);
SELECT kstream.create_table_as('r2', 'SELECT to_tsquery(''simple'', b) AS q FROM s', paused => true);
INSERT INTO s (a, b) VALUES (1, 'x'), ('NaN', 'x y'), (3, 'z');
SELECT kstream.step('r1', 10), kstream.step('r2', 10);
DO $$ BEGIN
	IF (SELECT string_agg(query || ' ' || "offset" || ' ' || sqlstate, ', ' ORDER BY query) FROM kstream.dead_letters) IS DISTINCT FROM
		'r1 1 0A000, r2 1 42601' OR (SELECT count(*) FROM r1) <> 2 OR (SELECT count(*) FROM r2) <> 2 THEN
		RAISE EXCEPTION 'dead letters: %', (SELECT string_agg(query || ' ' || "offset" || ' ' || sqlstate, ', ') FROM kstream.dead_letters);
	END IF;
END $$;
