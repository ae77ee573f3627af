-- Shapes of joins of streams: LATERAL, lookups below outer joins, rights, bounds; each against the same SELECT in batch.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS kstream;
CREATE SCHEMA shapes;
SET search_path = shapes, public;
SET timezone = 'UTC';
SET datestyle = 'ISO';
\pset format unaligned
\pset tuples_only on
SELECT kstream.create_stream('a', 'k text, v int, ts timestamptz', "timestamp" => 'ts', server => 'local');
SELECT kstream.create_stream('b', 'k text, w int, ts timestamptz', "timestamp" => 'ts', server => 'local');
CREATE TABLE t (id int PRIMARY KEY, y int);
INSERT INTO t VALUES (1, 1), (2, 3), (3, 3), (4, NULL);
CREATE TABLE many (id int, y int, UNIQUE (id, y));
INSERT INTO many VALUES (1, 1), (1, 2), (2, 2), (2, 3), (3, 3);

-- every query is stepped by itself, in steps of different sizes; rows of the records that close the others have the key z
CREATE TABLE shape (id serial, query text, name text GENERATED ALWAYS AS ('s' || id) STORED);
CREATE PROCEDURE make_shapes() LANGUAGE plpgsql AS $$
BEGIN
	PERFORM kstream.create_table_as(name, query, grace => '10 min', paused => true) FROM shape ORDER BY id;
END $$;
CREATE PROCEDURE step_shapes() LANGUAGE plpgsql AS $$
DECLARE
	s shape;
BEGIN
	FOR s IN SELECT * FROM shape LOOP
		WHILE kstream.step(s.name, 1 + s.id * 3 % 7) > 0 LOOP
		END LOOP;
	END LOOP;
END $$;
CREATE FUNCTION judge(s shape) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	table_rows text := format('SELECT * FROM %I WHERE k IS DISTINCT FROM ''z''', s.name);
	batch text := format('SELECT * FROM (%s) q WHERE k IS DISTINCT FROM ''z''', s.query);
	result text;
BEGIN
	EXECUTE format('SELECT format(''%%s rows, %%s wrong'', (SELECT count(*) FROM (%1$s) n), count(*))
		FROM ((%1$s EXCEPT ALL %2$s) UNION ALL (%2$s EXCEPT ALL %1$s)) d', table_rows, batch) INTO result;
	RETURN result;
END $$;
INSERT INTO shape (query) VALUES
	-- a condition on the kept stream below the side that may be missing is no filter of it
	($$SELECT a.k, a.v, x.w FROM a LEFT JOIN LATERAL (SELECT b.w FROM b WHERE b.k = a.k AND a.v > 3 AND b.ts BETWEEN a.ts AND a.ts + interval '1 min') x ON true$$),
	($$SELECT a.k, a.v, x.w FROM a LEFT JOIN LATERAL (SELECT b.w, b.k FROM b JOIN t ON t.id = b.w AND a.v > 2 WHERE b.ts BETWEEN a.ts AND a.ts + interval '1 min') x ON x.k = a.k AND a.v < 5$$),
	-- nor is one above it that comes through that side
	($$SELECT a.k, a.v, x.w FROM a LEFT JOIN LATERAL (SELECT b.w, a.v AS av FROM b WHERE b.k = a.k AND b.ts BETWEEN a.ts AND a.ts + interval '1 min') x ON x.av > 2 WHERE x.av IS NULL OR x.av > 4$$),
	($$SELECT a.k, a.v, x.w FROM a LEFT JOIN (SELECT k, w, ts, 3 AS three FROM b) x ON x.k = a.k AND x.w > a.v AND x.ts BETWEEN a.ts AND a.ts + interval '1 min' WHERE a.v > coalesce(x.three, 1)$$),
	($$SELECT x.k, b.v, x.w FROM (SELECT k, v, ts, 3 AS three FROM a) b RIGHT JOIN (SELECT k, w, ts FROM b WHERE w <> 4) x ON x.k = b.k AND b.v > 2 AND x.ts BETWEEN b.ts AND b.ts + interval '1 min' WHERE x.w > coalesce(b.three, 1)$$),
	-- conditions on one stream in every place
	($$SELECT a.k, a.v, b.w FROM (SELECT * FROM a WHERE v <> 2) a LEFT JOIN (SELECT * FROM b WHERE w < 4) b ON a.k = b.k AND a.v > 1 AND b.w > 1 AND b.ts BETWEEN a.ts AND a.ts + interval '1 min' WHERE a.v < 5$$),
	($$SELECT coalesce(a.k, b.k) AS k, a.v, b.w FROM (SELECT * FROM a WHERE v <> 2) a FULL JOIN (SELECT * FROM b WHERE w < 4) b ON a.k = b.k AND a.v > 1 AND b.w > 1 AND b.ts BETWEEN a.ts AND a.ts + interval '1 min' WHERE coalesce(a.v, 0) < 5$$);
CALL make_shapes();
INSERT INTO a SELECT CASE v % 3 WHEN 0 THEN 'x' WHEN 1 THEN 'y' END, v % 6, timestamptz '2024-03-01 12:00' + v * interval '3 s' FROM generate_series(1, 20) v;
INSERT INTO b SELECT CASE w % 4 WHEN 0 THEN 'x' WHEN 1 THEN 'y' WHEN 2 THEN 'n' END, w % 5, timestamptz '2024-03-01 12:00' + w * interval '4 s' FROM generate_series(1, 20) w;
CALL step_shapes();
INSERT INTO a SELECT CASE v % 2 WHEN 0 THEN 'x' WHEN 1 THEN 'y' END, v % 6, timestamptz '2024-03-01 12:00' + v * interval '5 s' FROM generate_series(1, 10) v;
INSERT INTO b SELECT CASE w % 2 WHEN 0 THEN 'x' WHEN 1 THEN 'y' END, w % 5, timestamptz '2024-03-01 12:02' + w * interval '4 s' FROM generate_series(1, 10) w;
CALL step_shapes();
INSERT INTO a VALUES ('z', 1, '2024-03-01 14:00');
INSERT INTO b VALUES ('z', 1, '2024-03-01 14:00');
CALL step_shapes();
SELECT id, judge(shape), query FROM shape ORDER BY id;
DROP SCHEMA shapes CASCADE;
