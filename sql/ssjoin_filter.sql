-- Joins of streams: what memory knows of the buffers changes nothing but the time it takes.
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS kstream;
CREATE SCHEMA ssjoin_filter;
SET search_path = ssjoin_filter, public;
SET timezone = 'UTC';
\pset format unaligned
\pset tuples_only on

-- time of day on one day
CREATE FUNCTION at(text) RETURNS timestamptz LANGUAGE sql AS $$ SELECT ('2024-03-01 ' || $1 || '+00')::timestamptz $$;
-- dead letters of a query, short
CREATE FUNCTION letters(result regclass) RETURNS TABLE (stream text, "offset" bigint, sqlstate text) LANGUAGE sql AS $$
	SELECT source::regclass::text, "offset", sqlstate FROM kstream.dead_letters WHERE relation = result ORDER BY source::text, "offset" $$;

SELECT kstream.create_stream(s, 'id int, k int, v int, j text, ts timestamptz', "timestamp" => 'ts', server => 'local') FROM unnest('{l,r}'::text[]) s;
CREATE TABLE t (x int);
INSERT INTO t VALUES (10);

-- a record that fails is a dead letter when it comes, whether or not it has a partner: those that it would meet later are innocent
CREATE TABLE failing (name text, query text);
INSERT INTO failing VALUES
	('f_stable', $$SELECT l.id AS l, r.id AS r FROM l JOIN r ON l.k = r.k AND l.ts BETWEEN r.ts - interval '5 min' AND r.ts + interval '7 min' WHERE l.j::timestamptz > '2000-01-01'::timestamptz$$),
	('f_in_on', $$SELECT l.id AS l, r.id AS r FROM r LEFT JOIN l ON l.k = r.k AND l.ts BETWEEN r.ts - interval '5 min' AND r.ts + interval '7 min' AND l.j::timestamptz > '2000-01-01'::timestamptz$$),
	('f_kept', $$SELECT l.id AS l, r.id AS r FROM l LEFT JOIN r ON l.k = r.k AND 10 / l.v > 1 AND l.ts BETWEEN r.ts - interval '5 min' AND r.ts + interval '7 min'$$),
	('f_full', $$SELECT l.id AS l, r.id AS r FROM l FULL JOIN r ON l.k = r.k AND 10 / l.v > 1 AND l.ts BETWEEN r.ts - interval '5 min' AND r.ts + interval '7 min'$$),
	('f_exists', $$SELECT l.id AS l, r.id AS r FROM l JOIN r ON l.k = r.k AND l.ts BETWEEN r.ts - interval '5 min' AND r.ts + interval '7 min' WHERE EXISTS (SELECT FROM t WHERE t.x = 10 / l.v)$$);
SELECT kstream.create_table_as(name, query, paused => true) FROM failing;
INSERT INTO l VALUES (1, 1, 0, 'x', at('12:00')), (1, 7, 0, 'x', at('12:00')), (2, 1, 1, '2024-01-01', at('12:00'));
SELECT name, kstream.step(name) FROM failing;
INSERT INTO r SELECT i, 1, 1, NULL, at('12:01') FROM generate_series(1, 3) i;
SELECT name, kstream.step(name) FROM failing;
SELECT name, array_agg(stream || '/' || "offset" || ' ' || sqlstate) FROM failing, letters(name::regclass) GROUP BY name ORDER BY name;
SELECT 'f_stable', count(*) FROM f_stable WHERE l = 2;
SELECT 'f_in_on', count(*) FROM f_in_on WHERE l = 2;
SELECT 'f_kept', count(*) FROM f_kept WHERE l = 2;
SELECT 'f_full', count(*) FROM f_full WHERE l = 2;
SELECT 'f_exists', count(*) FROM f_exists WHERE l = 2;

-- the definition of a type changes while the worker has the query open
CREATE TYPE comp AS (x int, y int);
SELECT kstream.create_stream('c' || s, 'id int, k comp, ts timestamptz', "timestamp" => 'ts', server => 'local') FROM unnest('{l,r}'::text[]) s;
SELECT kstream.create_table_as('c', $$SELECT cl.id AS l, cr.id AS r FROM cl JOIN cr ON cl.k = cr.k AND cr.ts BETWEEN cl.ts - interval '5 min' AND cl.ts + interval '7 min'$$);
INSERT INTO cl SELECT i, row(i, i)::comp, at('12:00') FROM generate_series(1, 100) i;
SELECT kstream.wait('c');
ALTER TYPE comp ADD ATTRIBUTE z int;
INSERT INTO cr SELECT i, row(i, i, NULL)::comp, at('12:00') FROM generate_series(1, 100) i;
SELECT kstream.wait('c');
SELECT count(*) FROM c;

-- equalities that are broader than bytes
CREATE COLLATION anycase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
SELECT kstream.create_stream('n' || s, 'id int, n name COLLATE anycase, t text COLLATE anycase, ts timestamptz', "timestamp" => 'ts', server => 'local') FROM unnest('{l,r}'::text[]) s;
SELECT kstream.create_table_as('n_text', $$SELECT nl.id AS l, nr.id AS r FROM nl JOIN nr ON nl.t = nr.t AND nr.ts BETWEEN nl.ts - interval '5 min' AND nl.ts + interval '7 min'$$, paused => true);
SELECT kstream.create_table_as('n_name', $$SELECT nl.id AS l, nr.id AS r FROM nl JOIN nr ON nl.n = nr.t AND nr.ts BETWEEN nl.ts - interval '5 min' AND nl.ts + interval '7 min'$$, paused => true);
INSERT INTO nl VALUES (1, 'a', 'a', at('12:00')), (2, 'b', 'b', at('12:00'));
SELECT kstream.step('n_text'), kstream.step('n_name');
INSERT INTO nr VALUES (1, 'A', 'A', at('12:00')), (2, 'b', 'b', at('12:00')), (3, 'c', 'c', at('12:00'));
SELECT kstream.step('n_text'), kstream.step('n_name');
SELECT * FROM n_text ORDER BY 1, 2;
SELECT * FROM n_name ORDER BY 1, 2;

-- names of columns that statements of ours might use
SELECT kstream.create_stream('o' || s, 'id int, _kstream_time int, h int, s int, ts timestamptz', "timestamp" => 'ts', server => 'local') FROM unnest('{l,r}'::text[]) s;
SELECT kstream.create_table_as('o', $$SELECT ol.id AS l, r.id AS r FROM ol JOIN "or" r ON ol._kstream_time = r._kstream_time AND ol.h = r.h AND ol.s = r.s AND r.ts BETWEEN ol.ts - interval '5 min' AND ol.ts + interval '7 min'$$, paused => true);
INSERT INTO ol SELECT i, i, i, i, at('12:00') FROM generate_series(1, 20) i;
SELECT kstream.step('o');
INSERT INTO "or" SELECT i, i, i, i, at('12:00') FROM generate_series(11, 30) i;
SELECT kstream.step('o');
SELECT count(*), count(*) FILTER (WHERE l = r) FROM o;

-- a key that can be computed no more: every row is searched for, and nothing stops
CREATE TABLE bad (i int);
CREATE FUNCTION f(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN IF i IN (SELECT b.i FROM ssjoin_filter.bad b) THEN RAISE SQLSTATE '42501'; END IF; RETURN i; END $$;
SELECT kstream.create_table_as('keys', $$SELECT l.id AS l, r.id AS r FROM l JOIN r ON ssjoin_filter.f(l.v) = r.v AND r.ts BETWEEN l.ts - interval '5 min' AND l.ts + interval '7 min'$$, paused => true, start => 'latest');
INSERT INTO l SELECT i, 0, i, NULL, at('12:10') FROM generate_series(1, 20) i;
SELECT kstream.step('keys');
INSERT INTO bad VALUES (7);
INSERT INTO r SELECT i, 0, i, NULL, at('12:10') FROM generate_series(1, 5) i;
SELECT kstream.step('keys');
SELECT count(*), count(*) FILTER (WHERE l = r) FROM keys;

-- keys that are CASE over a column with an implicit cast, casts around and inside, and types that cannot be hashed
SELECT kstream.create_stream('v' || s, 'id int, v varchar, i int, m money, ts timestamptz', "timestamp" => 'ts', server => 'local') FROM unnest('{l,r}'::text[]) s;
CREATE TABLE keyed (name text, condition text);
INSERT INTO keyed VALUES ('k_case', $$r.i = CASE l.v WHEN 'a1' THEN 1 WHEN 'a2' THEN 2 ELSE 3 END$$), ('k_case_cast', $$r.v::name = CASE l.v WHEN 'a1' THEN 'a1' ELSE l.v END$$),
	('k_int_case', $$r.i = CASE l.i WHEN 1.0 THEN 1 ELSE l.i END$$), ('k_numeric', $$r.i::numeric = l.i$$), ('k_concat', $$r.v || r.i = l.v || l.i$$), ('k_money', $$r.m = l.m$$);
SELECT kstream.create_table_as(name, format($q$SELECT l.id AS l, r.id AS r FROM vl l JOIN vr r ON %s AND r.ts BETWEEN l.ts - interval '5 min' AND l.ts + interval '7 min'$q$, condition), paused => true) FROM keyed;
INSERT INTO vl SELECT i, 'a' || i, i, i::numeric::money, at('12:00') FROM generate_series(1, 20) i;
SELECT name, kstream.step(name) FROM keyed;
INSERT INTO vr SELECT i, 'a' || i, i, i::numeric::money, at('12:00') FROM generate_series(1, 30) i;
SELECT name, kstream.step(name) FROM keyed;
SELECT 'k_case', count(*), count(*) FILTER (WHERE l = r) FROM k_case
UNION ALL SELECT 'k_case_cast', count(*), count(*) FILTER (WHERE l = r) FROM k_case_cast
UNION ALL SELECT 'k_int_case', count(*), count(*) FILTER (WHERE l = r) FROM k_int_case
UNION ALL SELECT 'k_numeric', count(*), count(*) FILTER (WHERE l = r) FROM k_numeric
UNION ALL SELECT 'k_concat', count(*), count(*) FILTER (WHERE l = r) FROM k_concat
UNION ALL SELECT 'k_money', count(*), count(*) FILTER (WHERE l = r) FROM k_money;

-- a query whose function steps another one, or itself
CREATE FUNCTION nested(t text) RETURNS text STABLE LANGUAGE plpgsql AS $$ BEGIN RETURN kstream.step(t, 3); EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE || ' ' || SQLERRM; END $$;
SELECT kstream.create_table_as('steps', $$SELECT l.id, ssjoin_filter.nested('keys') AS result FROM l$$, paused => true, start => 'latest');
INSERT INTO l VALUES (100, 0, 0, NULL, at('12:10'));
SELECT kstream.step('steps');
SELECT * FROM steps;
DROP SCHEMA ssjoin_filter CASCADE;
