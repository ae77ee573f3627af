-- A group key too long for an index is a bad record, to the byte: 2,600 with its
-- length word, uncompressed; all keys of a row together.
\set ON_ERROR_STOP on
\set QUIET on
CREATE EXTENSION IF NOT EXISTS kstream;
SELECT kstream.create_stream('s', 'a text, b text', server => 'local');
SELECT kstream.create_table_as('r1', 'SELECT a, count(*) AS n FROM s GROUP BY a', paused => true);
SELECT kstream.create_table_as('r2', 'SELECT a, b, array_agg(1) AS l FROM s GROUP BY a, b', paused => true);
INSERT INTO s (a, b) VALUES (repeat('x', 2596), NULL), (repeat('x', 2597), NULL), (repeat('x', 2596), NULL), ('a', repeat('y', 2591)),
	('a', repeat('y', 2592)), (repeat('z', 100000), 'b');
SELECT kstream.step(r, 4), kstream.step(r, 4) FROM unnest('{r1,r2}'::text[]) r;
DO $$ BEGIN
	IF (SELECT string_agg(query || ' ' || "offset" || ' ' || sqlstate, ', ' ORDER BY query, "offset") FROM kstream.dead_letters)
		IS DISTINCT FROM 'r1 1 54000, r1 5 54000, r2 1 54000, r2 4 54000, r2 5 54000'
		OR (SELECT sum(n) FROM r1) <> 4 OR (SELECT sum(cardinality(l)) FROM r2) <> 3 THEN
		RAISE EXCEPTION 'dead letters: %', (SELECT string_agg(query || ' ' || "offset" || ' ' || sqlstate, ', ') FROM kstream.dead_letters);
	END IF;
END $$;
