-- Shapes of joins of streams: LATERAL, lookups below outer joins, rights, bounds; each against the same SELECT in batch.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS kstream;
CREATE SCHEMA shapes;
SET search_path = shapes, public;
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
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
		WHILE kstream.step(s.name, 5 + s.id * 3 % 17) > 0 LOOP
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
	-- a bound as a negation
	($$SELECT a.k, a.v, x.w FROM a LEFT JOIN b x ON x.k = a.k AND NOT (x.ts < a.ts OR x.ts - a.ts > interval '1 min') AND NOT a.v = 2$$),
	-- conditions on one stream in every place
	($$SELECT a.k, a.v, b.w FROM (SELECT * FROM a WHERE v <> 2) a LEFT JOIN (SELECT * FROM b WHERE w < 4) b ON a.k = b.k AND a.v > 1 AND b.w > 1 AND b.ts BETWEEN a.ts AND a.ts + interval '1 min' WHERE a.v < 5$$),
	($$SELECT coalesce(a.k, b.k) AS k, a.v, b.w FROM (SELECT * FROM a WHERE v <> 2) a FULL JOIN (SELECT * FROM b WHERE w < 4) b ON a.k = b.k AND a.v > 1 AND b.w > 1 AND b.ts BETWEEN a.ts AND a.ts + interval '1 min' WHERE coalesce(a.v, 0) < 5$$);
INSERT INTO shape (query) VALUES
	-- what is joined below a kept side may have several rows for a record if the join does not tell them apart
	($$SELECT a.k, a.v, m.y, b.w FROM a JOIN many m ON m.id = a.v LEFT JOIN b ON a.k = b.k AND b.w < a.v AND b.ts BETWEEN a.ts AND a.ts + interval '1 min'$$),
	($$SELECT a.k, a.g, b.w FROM (SELECT k, v, ts, generate_series(1, v) AS g FROM a) a LEFT JOIN b ON a.k = b.k AND b.w < a.v AND b.ts BETWEEN a.ts AND a.ts + interval '1 min'$$),
	-- or if there is one at most: by a unique index, over a chain, a function, a sub-select
	($$SELECT a.k, a.v, t.y, b.w FROM a JOIN t ON t.id = a.v LEFT JOIN b ON a.k = b.k AND b.w = t.y AND b.ts BETWEEN a.ts AND a.ts + interval '1 min'$$),
	($$SELECT a.k, a.v, a.y, b.w FROM (SELECT a.k, a.v, a.ts, u.y FROM a LEFT JOIN t ON t.id = a.v LEFT JOIN t u ON t.y = u.id) a LEFT JOIN b ON a.k = b.k AND b.w >= a.y AND b.ts BETWEEN a.ts AND a.ts + interval '1 min'$$),
	($$SELECT b.k, a.y, b.w, a.g FROM b FULL JOIN (SELECT a.k, a.v, a.ts, m.y, g FROM a, many m, mod(a.v, 3) g WHERE m.id = g AND m.y = a.v) a ON a.k = b.k AND b.w >= a.y AND b.w >= a.g AND b.ts BETWEEN a.ts AND a.ts + interval '1 min'$$),
	($$SELECT a.k, a.v, m.y, b.w FROM a CROSS JOIN LATERAL (SELECT max(y) AS y FROM many WHERE id <= a.v) m LEFT JOIN b ON a.k = b.k AND b.w <= m.y AND b.ts BETWEEN a.ts AND a.ts + interval '1 min'$$),
	($$SELECT a.k, a.v, m.n, b.w FROM a LEFT JOIN (SELECT id, count(*) AS n FROM many GROUP BY id) m ON m.id = a.v LEFT JOIN LATERAL (SELECT b.* FROM b WHERE b.w < m.n AND b.ts BETWEEN a.ts AND a.ts + interval '1 min') b ON a.k = b.k$$),
	($$SELECT a.k, a.v, m.y, b.w FROM a LEFT JOIN LATERAL (SELECT y FROM many WHERE id <= a.v ORDER BY y DESC LIMIT 1) m ON a.v > 1 LEFT JOIN b ON a.k = b.k AND b.w <= m.y AND b.ts BETWEEN a.ts AND a.ts + interval '1 min'$$),
	($$SELECT x.k, x.v, x.m, b.w FROM (SELECT a.*, l.y, l.m FROM a LEFT JOIN LATERAL (SELECT t.y, m.y AS m FROM t, many m WHERE t.id = a.v AND m.id = t.y) l ON l.y > 1) x LEFT JOIN b ON x.k = b.k AND b.w = x.y AND b.ts BETWEEN x.ts AND x.ts + interval '1 min'$$),
	-- several on the other side, and above
	($$SELECT a.k, a.v, b.w, b.y FROM a LEFT JOIN (SELECT b.*, many.y FROM b JOIN many ON id = w) b ON a.k = b.k AND b.y < a.v AND b.ts BETWEEN a.ts AND a.ts + interval '1 min'$$),
	($$SELECT a.k, a.v, b.w, m.y FROM a LEFT JOIN b ON a.k = b.k AND b.ts BETWEEN a.ts AND a.ts + interval '1 min' JOIN many m ON m.id = a.v AND m.y IS DISTINCT FROM b.w$$),
	-- LATERAL sub-selects over several levels
	($$SELECT x.k, x.w, t.y FROM t CROSS JOIN LATERAL (SELECT a.k, b.w FROM a JOIN b ON a.k = b.k AND b.w = t.y AND b.ts BETWEEN a.ts AND a.ts + interval '1 min') x$$),
	($$SELECT x.k, x.w, t.y FROM t CROSS JOIN LATERAL (SELECT a.k, b.w FROM a CROSS JOIN LATERAL (SELECT b.w FROM b WHERE a.k = b.k AND b.w = t.y AND b.ts BETWEEN a.ts AND a.ts + interval '1 min') b) x$$),
	($$SELECT y.k, y.w, g FROM a CROSS JOIN LATERAL (SELECT * FROM generate_series(1, a.v) g, LATERAL (SELECT b.w, a.k FROM b WHERE b.ts BETWEEN a.ts AND a.ts + interval '1 min' AND b.k = a.k AND b.w = g) x) y$$),
	($$SELECT a.k, y.w FROM a LEFT JOIN LATERAL (SELECT t.y, x.w FROM t, LATERAL (SELECT b.w, a.k, b.ts FROM b WHERE b.k = a.k AND b.w = t.y) x WHERE t.id = a.v AND x.ts BETWEEN a.ts AND a.ts + interval '1 min') y ON y.w > 1$$);
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

-- what is refused
CREATE FUNCTION try(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	state text; message text; detail text; hint text;
BEGIN
	PERFORM kstream.create_table_as('tried', query, paused => true);
	DROP TABLE tried;
	RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(E'\n  ', format('%s: %s', state, message), nullif(detail, ''), nullif(hint, ''));
END $$;
-- a kept side whose rows of one record the join tells apart
SELECT try($$SELECT a.k FROM a JOIN many m ON m.id = a.v LEFT JOIN b ON a.k = b.k AND b.w = m.y AND b.ts BETWEEN a.ts AND a.ts + interval '1 min'$$);
SELECT try($$SELECT a.k FROM a CROSS JOIN generate_series(1, 2) g LEFT JOIN b ON a.k = b.k AND b.w = g AND b.ts BETWEEN a.ts AND a.ts + interval '1 min'$$);
SELECT try($$SELECT a.k FROM (SELECT k, ts, generate_series(1, 2) AS g FROM a) a LEFT JOIN b ON a.k = b.k AND b.w = a.g AND b.ts BETWEEN a.ts AND a.ts + interval '1 min'$$);
SELECT try($$SELECT a.k FROM b RIGHT JOIN (SELECT a.*, m.y AS n FROM a, many m WHERE m.id = a.v) a ON a.k = b.k AND b.w = a.n AND b.ts BETWEEN a.ts AND a.ts + interval '1 min'$$);
SELECT try($$SELECT a.k FROM a JOIN t ON t.y = a.v LEFT JOIN LATERAL (SELECT FROM b WHERE a.k = b.k AND b.w = t.id AND b.ts BETWEEN a.ts AND a.ts + interval '1 min') x ON true$$);
SELECT try($$SELECT a.k FROM a CROSS JOIN LATERAL (SELECT m.y FROM t, many m WHERE t.id = a.v AND m.id = t.y) l LEFT JOIN b ON a.k = b.k AND b.w = l.y AND b.ts BETWEEN a.ts AND a.ts + interval '1 min'$$);
-- one row or NULLs, depending on another table
SELECT try($$SELECT a.k FROM a JOIN many m ON m.id = a.v LEFT JOIN t ON t.id = a.v AND t.y = m.y LEFT JOIN b ON a.k = b.k AND b.w = t.y AND b.ts BETWEEN a.ts AND a.ts + interval '1 min'$$);
SELECT try($$SELECT a.k FROM a LEFT JOIN LATERAL (SELECT y FROM many WHERE id = a.v ORDER BY y FETCH FIRST 1 ROW WITH TIES) m ON true LEFT JOIN b ON a.k = b.k AND b.w = m.y AND b.ts BETWEEN a.ts AND a.ts + interval '1 min'$$);
-- unique also where the column is cast, if that keeps different numbers different
SELECT try($$SELECT a.k FROM a JOIN t ON t.id = a.v::numeric LEFT JOIN b ON a.k = b.k AND b.w = t.y AND b.ts BETWEEN a.ts AND a.ts + interval '1 min'$$);
SELECT try($$SELECT a.k FROM a JOIN t ON a.v::float8 = t.id LEFT JOIN b ON a.k = b.k AND b.w = t.y AND b.ts BETWEEN a.ts AND a.ts + interval '1 min'$$);
SELECT try($$SELECT a.k FROM a JOIN t ON t.id::float4 = a.v::float4 LEFT JOIN b ON a.k = b.k AND b.w = t.y AND b.ts BETWEEN a.ts AND a.ts + interval '1 min'$$);
-- unique, but not for all rows, not at once, or by another equality
CREATE TABLE u (id int, n numeric UNIQUE DEFERRABLE, s text COLLATE "C" UNIQUE);
CREATE UNIQUE INDEX ON u (id) WHERE id > 0;
SELECT try(format($$SELECT a.k FROM a JOIN u ON %s LEFT JOIN b ON a.k = b.k AND b.w = u.id AND b.ts BETWEEN a.ts AND a.ts + interval '1 min'$$, c))
	FROM unnest('{u.id = a.v, u.n = a.v, u.n::int = a.v, u.s = a.k, u.s::bpchar = a.k::bpchar}'::text[]) c;
-- an outer join that depends on something outside of it
SELECT try($$SELECT x.k FROM t CROSS JOIN LATERAL (SELECT a.k, b.w FROM a LEFT JOIN b ON a.k = b.k AND b.w = t.y AND b.ts BETWEEN a.ts AND a.ts + interval '1 min') x$$);
SELECT try($$SELECT a.k FROM t CROSS JOIN (a LEFT JOIN LATERAL (SELECT b.w FROM b WHERE a.k = b.k AND b.w = t.y AND b.ts BETWEEN a.ts AND a.ts + interval '1 min') x ON true)$$);
SELECT try($$SELECT a.k FROM t CROSS JOIN (LATERAL (SELECT * FROM a WHERE a.v = t.id) a LEFT JOIN b ON a.k = b.k AND b.ts BETWEEN a.ts AND a.ts + interval '1 min')$$);

-- why there is no bound
SELECT kstream.create_stream('o', 'k text, v int, ats timestamptz, p timestamp', server => 'local');
SELECT kstream.create_stream('d', 'k text, ts timestamp', "timestamp" => 'ts', server => 'local');
SELECT try(q) FROM unnest(ARRAY[
	$$SELECT a.k FROM a JOIN o ON o.k = a.k AND o.ats BETWEEN a.ts AND a.ts + interval '1 min'$$,
	$$SELECT a.k FROM a JOIN b ON b.k = a.k AND b._timestamp <= a.ts AND b.ts >= a._timestamp$$,
	$$SELECT a.k FROM a JOIN d ON d.k = a.k AND d.ts BETWEEN a.ts AND a.ts + interval '1 min'$$,
	$$SELECT a.k FROM a JOIN b ON b.k = a.k AND b.ts BETWEEN a.ts AND a.ts + interval '1 month'$$,
	$$SELECT a.k FROM a JOIN b ON b.k = a.k AND b.ts BETWEEN a.ts AND a.ts + a.v * interval '1 min'$$,
	$$SELECT a.k FROM a LEFT JOIN b ON b.k = a.k WHERE b.ts BETWEEN a.ts AND a.ts + interval '1 min'$$,
	$$SELECT a.k FROM a JOIN b ON b.k = a.k AND abs(extract(epoch FROM a.ts - b.ts)) < 60$$,
	$$SELECT a.k FROM a JOIN b ON b.k = a.k AND tstzrange(a.ts, a.ts + interval '1 min') @> b.ts$$,
	$$SELECT a.k FROM a JOIN b ON b.k = a.k AND (b.ts, b.k) >= (a.ts, a.k) AND b.ts <= a.ts$$,
	$$SELECT a.k FROM a JOIN b x ON x.k = a.k AND x.ts = a.ts JOIN (SELECT k, date_trunc('hour', ts) AS h FROM b) y ON y.k = a.k AND y.h = date_trunc('hour', a.ts)$$,
	$$SELECT a.k FROM a JOIN b ON b.k = a.k AND b.ts BETWEEN SYMMETRIC a.ts + interval '1 min' AND a.ts$$,
	$$SELECT a.k FROM a WHERE NOT EXISTS (SELECT FROM b WHERE b.k = a.k AND b.ts BETWEEN a.ts AND a.ts + interval '1 min')$$]) q;
-- negations, and bounds between which there is nothing
SELECT try($$SELECT a.k FROM a JOIN b ON b.k = a.k AND NOT b.ts < a.ts AND NOT (b.ts > a.ts + interval '1 min' OR a.k = 'x')$$);
SELECT try($$SELECT a.k FROM a JOIN b ON b.k = a.k AND b.ts BETWEEN a.ts + interval '1 min' AND a.ts$$);

-- days are as long as the time zone makes them, and records wait for that long
CREATE FUNCTION waits(zone text) RETURNS interval LANGUAGE plpgsql AS $$
DECLARE
	result interval;
BEGIN
	PERFORM set_config('timezone', zone, true);
	PERFORM kstream.create_table_as('waiting', 'SELECT a.k FROM a LEFT JOIN b ON a.k = b.k AND b.ts BETWEEN a.ts AND a.ts + interval ''3 days 1 min''', paused => true);
	result := substring(kstream.explain('waiting') FROM 'Join: stream a, each record until ([^\n]+) after');
	DROP TABLE waiting;
	RETURN result;
END $$;
SELECT zone, waits(zone) FROM unnest('{UTC, America/New_York, Pacific/Apia, <+03>-3, AAA5BBB1}'::text[]) zone;
SET timezone = 'Antarctica/Casey';
SELECT kstream.create_table_as('casey', $$SELECT a.k, a.v, b.w FROM a LEFT JOIN b ON a.k = b.k AND b.ts <= a.ts + interval '1 day' AND b.ts >= a.ts$$, start => 'latest', paused => true);
SET timezone = 'UTC';
INSERT INTO a VALUES ('c', 1, '2010-03-04 12:00+00'), ('z', 1, '2010-03-05 14:30+00');
SELECT kstream.step('casey');
INSERT INTO b VALUES ('c', 1, '2010-03-05 14:00+00'), ('z', 1, '2010-03-05 14:30+00');
SELECT kstream.step('casey');
SELECT * FROM casey ORDER BY k;

-- the unique index may go later, and another take its place
CREATE TABLE v (id int, y int);
CREATE UNIQUE INDEX v_id ON v (id);
INSERT INTO v VALUES (1, 2);
SELECT kstream.create_table_as('later', $$SELECT a.k, v.y, b.w FROM a JOIN v ON v.id = a.v LEFT JOIN b ON a.k = b.k AND b.w = v.y AND b.ts BETWEEN a.ts AND a.ts + interval '1 min'$$, start => 'latest', paused => true);
INSERT INTO a VALUES ('l', 1, '2024-03-01 14:00');
SELECT kstream.step('later');
INSERT INTO a VALUES ('z', 1, '2024-03-01 15:00');
DROP INDEX v_id;
SELECT kstream.step('later');
ALTER TABLE v ADD PRIMARY KEY (id);
INSERT INTO b VALUES ('z', 2, '2024-03-01 15:00');
SELECT kstream.step('later');
SELECT * FROM later ORDER BY 1;

-- views lend the rights of their owner, but not below a join of streams
CREATE ROLE regress_kstream_shapes;
GRANT USAGE, CREATE ON SCHEMA shapes TO regress_kstream_shapes;
CREATE VIEW av AS SELECT a.*, y FROM a LEFT JOIN t ON t.id = a.v;
CREATE VIEW bv WITH (security_invoker) AS SELECT * FROM b;
GRANT SELECT ON av, bv TO regress_kstream_shapes;
SET ROLE regress_kstream_shapes;
SELECT try('SELECT k, y FROM av');
SELECT try('SELECT k, w FROM bv');
SELECT try('SELECT av.k, w FROM av JOIN bv ON av.k = bv.k AND av.ts = bv.ts');
RESET ROLE;
GRANT SELECT ON b TO regress_kstream_shapes;
SET ROLE regress_kstream_shapes;
SELECT try('SELECT av.k, w FROM av JOIN bv ON av.k = bv.k AND av.ts = bv.ts');
RESET ROLE;
GRANT SELECT ON a TO regress_kstream_shapes;
SET ROLE regress_kstream_shapes;
SELECT try('SELECT av.k, w FROM av JOIN bv ON av.k = bv.k AND av.ts = bv.ts');
RESET ROLE;
GRANT SELECT (id, y) ON t TO regress_kstream_shapes;
SET ROLE regress_kstream_shapes;
SELECT kstream.create_table_as('lent', 'SELECT av.k, y, w FROM av JOIN bv ON av.k = bv.k AND av.ts = bv.ts', start => 'latest', paused => true);
RESET ROLE;
INSERT INTO a VALUES ('z', 2, '2024-03-01 16:00');
INSERT INTO b VALUES ('z', 2, '2024-03-01 16:00');
SELECT kstream.step('lent');
TABLE lent;
-- with row-level security other rows would be seen
CREATE TABLE secret (id int PRIMARY KEY, s text);
ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
CREATE VIEW sv AS SELECT a.*, s FROM a LEFT JOIN secret ON id = v;
GRANT SELECT ON sv, secret TO regress_kstream_shapes;
SET ROLE regress_kstream_shapes;
SELECT try('SELECT sv.k, s FROM sv JOIN bv ON sv.k = bv.k AND sv.ts = bv.ts');
RESET ROLE;
-- all columns of streams are read
REVOKE SELECT ON b FROM regress_kstream_shapes;
GRANT SELECT (k, w, ts) ON b TO regress_kstream_shapes;
SET ROLE regress_kstream_shapes;
SELECT try('SELECT a.k, w FROM a JOIN b ON a.k = b.k AND a.ts = b.ts');
RESET ROLE;

DROP SCHEMA shapes CASCADE;
DROP ROLE regress_kstream_shapes;
