-- Joins of streams: keys of all types, and records that fail wherever one can.
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS kstream;
CREATE SCHEMA ssjoin_errors;
SET search_path = ssjoin_errors, public;
SET timezone = 'UTC';
SET datestyle = 'ISO';
\pset format unaligned
\pset tuples_only on

-- time of day on one day
CREATE FUNCTION at(text) RETURNS timestamptz LANGUAGE sql AS $$ SELECT ('2024-03-01 ' || $1 || '+00')::timestamptz $$;
-- dead letters of a query, short
CREATE FUNCTION letters(result regclass) RETURNS TABLE (stream text, "offset" bigint, sqlstate text, message text) LANGUAGE sql AS $$
	SELECT source::regclass::text, "offset", sqlstate, message FROM kstream.dead_letters WHERE relation = result ORDER BY source::text, "offset" $$;
-- SQLSTATE, message and hint of an error
CREATE FUNCTION try(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	state text; message text; hint text;
BEGIN
	EXECUTE command;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(e'\n', state || ': ' || message, 'HINT: ' || nullif(hint, ''));
END $$;
-- scans of the indexes of a query's buffers so far, in this transaction
CREATE FUNCTION index_scans(result regclass) RETURNS numeric LANGUAGE sql AS $$
	SELECT sum(pg_stat_get_xact_numscans(i.indexrelid)) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid, kstream_catalog.query q
	WHERE q.relation = result AND c.relnamespace = 'kstream_state'::regnamespace AND c.relname ~ ('^j_' || q.id || '_') $$;

-- equalities that need a cast, or are between types: the same as in batch
CREATE TYPE mood AS ENUM ('m1', 'm2', 'm3', 'm4', 'm5');
CREATE DOMAIN word AS text CHECK (length(value) < 10);
CREATE DOMAIN tiny AS int CHECK (value < 100);
CREATE TABLE pairs (n serial, l text, r text, value text);
INSERT INTO pairs (l, r, value) VALUES
	('int', 'numeric', '%s'), ('bpchar', 'text', 'k%s'), ('int', 'float8', '%s'), ('"char"', 'text', '%s'), ('tiny', 'numeric', '%s'),
	('name', 'text', 'k%s'), ('word', 'varchar', 'k%s'), ('date', 'timestamp', '2024-01-0%s'), ('mood', 'mood', 'm%s'), ('int4range', 'int4range', '[1,1%s)');
SELECT count(kstream.create_stream('l' || n, format('id int, k %s, ts timestamptz', l), "timestamp" => 'ts', server => 'local')),
	count(kstream.create_stream('r' || n, format('id int, k %s, ts timestamptz', r), "timestamp" => 'ts', server => 'local')) FROM pairs;
CREATE TABLE tried AS SELECT n, kind, format('q_%s_%s', n, lower(kind)) AS name,
	format('SELECT l.id AS lid, r.id AS rid FROM l%1$s l %2$s JOIN r%1$s r ON l.k = r.k AND r.ts BETWEEN l.ts - interval ''5 min'' AND l.ts + interval ''5 min''', n, kind) AS query
	FROM pairs, unnest('{INNER,LEFT,FULL}'::text[]) kind WHERE kind = 'LEFT' OR n <= 2;
SELECT count(kstream.create_table_as(name, query, paused => true)) FROM tried;
CREATE PROCEDURE feed(first int, last int, at timestamptz) LANGUAGE plpgsql AS $$
DECLARE
	p pairs;
BEGIN
	FOR p IN SELECT * FROM pairs LOOP
		EXECUTE format('INSERT INTO l%s SELECT i, CASE WHEN i %% 4 > 0 THEN format(%L, i %% 4)::%s END, %L FROM generate_series(%s, %s) i', p.n, p.value, p.l, at, first, last);
		EXECUTE format('INSERT INTO r%s SELECT i, format(%L, 1 + i %% 5)::%s, %L FROM generate_series(%s, %s) i', p.n, p.value, p.r, at, first, last);
	END LOOP;
END $$;
CALL feed(1, 9, at('12:00'));
SELECT sum(kstream.step(name, 100)) FROM tried;
CALL feed(10, 20, at('12:01'));
SELECT sum(kstream.step(name, 100)) FROM tried;
-- these two do not match each other, and have no null row yet
CALL feed(21, 21, at('13:00'));
SELECT sum(kstream.step(name, 100)) FROM tried;
CREATE FUNCTION rows_of(name text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	result bigint;
BEGIN
	EXECUTE format('SELECT count(*) FROM %I', name) INTO result;
	RETURN result;
END $$;
CREATE FUNCTION differences(name text, query text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	result bigint;
BEGIN
	EXECUTE format('SELECT count(*) FROM ((TABLE %1$I EXCEPT ALL (%2$s)) UNION ALL ((%2$s) EXCEPT ALL TABLE %1$I)) d', name, query) INTO result;
	RETURN result;
END $$;
SELECT kind, count(*), min(rows_of(name)), max(rows_of(name)), sum(differences(name, query || ' WHERE least(l.id, r.id) < 21')) FROM tried GROUP BY kind ORDER BY kind;

-- the index of a buffer is used with a cast, too, and with conditions beside the keys
SELECT kstream.create_stream('a', 'k text, v int, ts timestamptz', "timestamp" => 'ts', server => 'local');
SELECT kstream.create_stream('b', 'k text, w int, n numeric, p bpchar, c "char", ts timestamptz', "timestamp" => 'ts', server => 'local');
CREATE TABLE indexed (name text, condition text);
INSERT INTO indexed VALUES ('i_numeric', 'a.v = b.n'), ('i_bpchar', 'a.k = b.p'), ('i_char', 'a.k = b.c'),
	('i_guard', 'a.v > 0 AND b.w > 0 AND 1000000 / a.v = 1000000 / b.w'), ('i_lower', 'lower(a.k) = b.k AND a.v > 0'), ('i_partition', 'a._partition = b.w');
SELECT count(kstream.create_table_as(name, format('SELECT a.v, b.w FROM a FULL JOIN b ON %s AND b.ts BETWEEN a.ts - interval ''1 h'' AND a.ts + interval ''1 h''', condition), paused => true)) FROM indexed;
INSERT INTO a SELECT 'k' || i, i, at('12:00') FROM generate_series(0, 1000) i;
INSERT INTO b SELECT 'k' || i, i, i, 'k' || i, 'k', at('12:00') FROM generate_series(1001, 2000) i;
SELECT sum(kstream.step(name, 10000)) FROM indexed;
INSERT INTO a VALUES ('k1500', 1500, at('12:01')), ('k', 1501, at('12:01'));
INSERT INTO b VALUES ('k200', 200, 200, 'k200', 'k', at('12:01')), ('k', 0, 1, 'k', 'k', at('12:01'));
BEGIN;
CREATE TEMP TABLE before ON COMMIT DROP AS SELECT name, index_scans(name::regclass) AS scans FROM indexed;
SELECT sum(kstream.step(name, 10)) FROM indexed;
SELECT name, index_scans(name::regclass) > scans, differences(name, format('SELECT a.v, b.w FROM a JOIN b ON %s AND b.ts BETWEEN a.ts - interval ''1 h'' AND a.ts + interval ''1 h''', condition))
	FROM indexed JOIN before USING (name) ORDER BY name;
COMMIT;

-- functions in keys and conditions, and operators, are the creator's, and are called as no other
CREATE ROLE ssjoin_errors_owner;
CREATE SCHEMA ssjoin_errors_own AUTHORIZATION ssjoin_errors_owner;
SET ROLE ssjoin_errors_owner;
SET search_path = ssjoin_errors_own, public;
CREATE FUNCTION part(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
	IF current_user <> 'ssjoin_errors_owner' THEN
		RAISE EXCEPTION 'called as another user';
	END IF;
	RETURN 10 / i;
END $$;
CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq);
SELECT kstream.create_stream('o', 'v int, ts timestamptz', "timestamp" => 'ts', server => 'local');
SELECT kstream.create_table_as('owned', $$SELECT x.v, y.v AS yv FROM o x LEFT JOIN o y ON NOT x.v === 0 AND part(x.v) + part(5) = y.v AND y.ts BETWEEN x.ts AND x.ts + interval '1 min'$$, paused => true);
INSERT INTO o VALUES (0, '2024-03-01 12:00'), (2, '2024-03-01 12:00'), (5, '2024-03-01 12:00'), (7, '2024-03-01 12:00'), (1, '2024-03-01 12:02');
SELECT kstream.step('owned');
SELECT * FROM owned ORDER BY 1;
RESET ROLE;
SET search_path = ssjoin_errors, public;
DROP SCHEMA ssjoin_errors_own CASCADE;
DROP ROLE ssjoin_errors_owner;

-- the keys of an index together
SELECT kstream.create_table_as('long_keys', $$SELECT a.v, b.w FROM a JOIN b ON a.k = b.k AND md5(a.k) = md5(b.k) AND a.k || a.v::text = b.k || b.w::text AND b.ts BETWEEN a.ts AND a.ts + interval '1 min'$$, start => 'latest', paused => true);
INSERT INTO a SELECT (SELECT string_agg(md5(i || ' ' || j), '') FROM generate_series(1, 40) j), i, at('12:02') FROM generate_series(1, 2) i;
INSERT INTO a VALUES ('k', 3, at('12:02'));
INSERT INTO b (k, w, ts) VALUES ('k', 3, at('12:02'));
SELECT kstream.step('long_keys');
SELECT stream, sqlstate, message FROM letters('long_keys');
TABLE long_keys;
-- those of fixed length, too, where they are many; of a group as well
SELECT kstream.create_table_as('fixed_keys', $$SELECT a.v, b.w FROM a JOIN b ON a.k = b.k AND a.k::name = b.k::name AND left(a.k, 9)::name = left(b.k, 9)::name AND b.ts BETWEEN a.ts AND a.ts + interval '1 min'$$, start => 'latest', paused => true);
SELECT kstream.create_table_as('fixed_groups', $$SELECT k, k::name AS n, left(k, 9)::name AS l, count(*) FROM a GROUP BY 1, 2, 3$$, start => 'latest', paused => true);
INSERT INTO a SELECT left((SELECT string_agg(md5(i || ' ' || j), '') FROM generate_series(1, 90) j), i), i, at('12:03') FROM unnest('{2500, 2590}'::int[]) i;
SELECT kstream.step('fixed_keys'), kstream.step('fixed_groups');
SELECT result, sqlstate, message FROM unnest('{fixed_keys, fixed_groups}'::regclass[]) result, letters(result);
SELECT length(k), n = k::name, count FROM fixed_groups;

-- a late record that fails: bad, like one that is in time
CREATE FUNCTION tenth(i int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN 10 / i > 0; END $$;
SELECT kstream.create_table_as('late_bad', $$SELECT a.k, a.v, b.w FROM a JOIN b ON a.k = b.k AND b.ts BETWEEN a.ts AND a.ts + interval '1 min' WHERE tenth(a.v)$$, start => 'latest', paused => true);
INSERT INTO a VALUES ('x', 1, at('12:10')), ('x', 0, at('11:00')), ('x', 2, at('11:00')), ('x', 100, at('11:00'));
INSERT INTO b (k, w, ts) VALUES ('x', 5, at('12:10'));
SELECT kstream.step('late_bad');
TABLE late_bad;
SELECT sqlstate, message FROM letters('late_bad');
SELECT records_in, late, dead FROM kstream.stat_query WHERE name = 'late_bad';

-- only the statement that tells which rows have met fails
CREATE TABLE t (id int PRIMARY KEY, y int);
INSERT INTO t VALUES (5, 1);
ANALYZE t;
SELECT kstream.create_table_as('met', $$SELECT a.k, a.v, b.w FROM a LEFT JOIN b ON b.ts BETWEEN a.ts AND a.ts + interval '1 min' AND 100 / (a.v - b.w) <> 0 JOIN t ON t.id = a.v AND t.y = 1$$, start => 'latest', paused => true);
INSERT INTO a SELECT 'x', 1, at('12:20') FROM generate_series(1, 20);
SELECT kstream.step('met');
INSERT INTO b (k, w, ts) SELECT 'x', 1, at('12:20:02') FROM generate_series(1, 20);
INSERT INTO b (k, w, ts) VALUES ('x', 2, at('12:20:02'));
SELECT kstream.step('met');
SELECT stream, count(*), message FROM letters('met') GROUP BY 1, 3;

-- a key that cannot be computed: a null row where the other conditions of ON keep it from being compared, else a bad record
SELECT kstream.create_table_as('guarded', $$SELECT a.k, a.v, b.w FROM a LEFT JOIN b ON a.v <> 0 AND 100 / a.v = b.w AND b.ts BETWEEN a.ts AND a.ts + interval '1 min'$$, start => 'latest', paused => true);
SELECT kstream.create_table_as('unguarded', $$SELECT a.k, a.v, b.w FROM a LEFT JOIN b ON 100 / a.v = b.w AND b.ts BETWEEN a.ts AND a.ts + interval '1 min'$$, start => 'latest', paused => true);
INSERT INTO a VALUES ('x', 0, at('12:30')), ('x', 10, at('12:30')), ('x', 20, at('12:30')), ('x', 30, at('12:30'));
SELECT kstream.step('guarded'), kstream.step('unguarded');
INSERT INTO b (k, w, ts) VALUES ('x', 5, at('12:30')), ('x', 10, at('12:30'));
SELECT kstream.step('guarded'), kstream.step('unguarded');
INSERT INTO a VALUES ('x', 7, at('13:00'));
INSERT INTO b (k, w, ts) VALUES ('x', 77, at('13:00'));
SELECT kstream.step('guarded'), kstream.step('unguarded');
SELECT * FROM guarded ORDER BY v;
SELECT * FROM unguarded ORDER BY v;
SELECT 'guarded', count(*) FROM letters('guarded') UNION ALL SELECT message, count(*) FROM letters('unguarded') GROUP BY 1;

-- null rows that fail when they come, alone and many together: the others come
CREATE TABLE u (id int PRIMARY KEY, x int);
INSERT INTO u SELECT i, 5 FROM generate_series(1, 400) i;
SELECT kstream.create_table_as(name, $$SELECT a.k, a.v, 10 / u.x AS q, b.w FROM a LEFT JOIN b ON a.k = b.k AND b.ts BETWEEN a.ts AND a.ts + interval '1 min' LEFT JOIN u ON u.id = a.v$$,
	start => 'latest', on_error => on_error, paused => true) FROM (VALUES ('null_rows', 'dead_letter'), ('null_stop', 'stop')) x (name, on_error);
INSERT INTO a SELECT 'n', i, at('14:00') FROM generate_series(1, 400) i;
SELECT kstream.step('null_rows'), kstream.step('null_stop');
UPDATE u SET x = 0 WHERE id IN (7, 8, 100) OR id BETWEEN 300 AND 320 OR id = 400;
INSERT INTO a VALUES ('y', 401, at('15:00'));
INSERT INTO b (k, w, ts) VALUES ('y', 2, at('15:00'));
SELECT kstream.step('null_rows'), kstream.step('null_stop');
SELECT count(*), sum(v) FROM null_rows;
SELECT count(*), min("offset") - (SELECT min(_offset) FROM a WHERE k = 'n') AS first, message FROM letters('null_rows') GROUP BY 3;
SELECT key, convert_from(value, 'UTF8') AS value FROM kstream.dead_letters WHERE relation = 'null_rows'::regclass ORDER BY "offset" LIMIT 1;
SELECT late, dead FROM kstream.stat_query WHERE name = 'null_rows';
-- what is before the bad one is there; then it stops
SELECT count(*), max(v) FROM null_stop WHERE k = 'n';
SELECT regexp_replace(try($$SELECT kstream.step('null_stop')$$), 'offset \d+', 'offset N');
INSERT INTO b (k, w, ts) VALUES ('y', 3, at('15:00'));
SELECT regexp_replace(try($$SELECT kstream.step('null_stop')$$), 'offset \d+', 'offset N');
SELECT count(*), count(*) FILTER (WHERE k = 'y') AS not_read FROM null_stop;
-- by now the records are late for the join
SELECT kstream.replay_dead_letters('null_rows');
SELECT late, dead FROM kstream.stat_query WHERE name = 'null_rows';
UPDATE u SET x = 5;
SELECT kstream.step('null_stop');
SELECT count(*), sum(v), count(*) FILTER (WHERE k = 'y') AS read FROM null_stop;
-- an error that no row is needed for is the query's own
CREATE FUNCTION never() RETURNS int STABLE LANGUAGE plpgsql AS $$ BEGIN RETURN 1 / (SELECT count(*)::int FROM ssjoin_errors.u); END $$;
SELECT kstream.create_table_as('own', $$SELECT a.v, b.w FROM a LEFT JOIN b ON a.k = b.k AND b.ts BETWEEN a.ts AND a.ts + interval '1 min' WHERE (SELECT never()) = 0$$, start => 'latest', paused => true);
INSERT INTO a VALUES ('o', 1, at('16:00'));
SELECT kstream.step('own');
DELETE FROM u;
INSERT INTO a VALUES ('y', 1, at('17:00'));
INSERT INTO b (k, w, ts) VALUES ('z', 2, at('17:00'));
SELECT try($$SELECT kstream.step('own')$$);
SELECT count(*) FROM letters('own');

-- null rows of one event time are many transactions
SELECT kstream.create_stream('d', 'k int, day date', "timestamp" => 'day', server => 'local');
INSERT INTO d SELECT i, '2024-03-01' FROM generate_series(1, 25000) i;
SELECT kstream.create_table_as('one_day', $$SELECT x.k FROM d x LEFT JOIN d y ON y.k = x.k + 100000 AND y.day BETWEEN x.day AND x.day + 1$$);
SELECT kstream.wait('one_day');
INSERT INTO d VALUES (0, '2024-03-09');
SELECT kstream.wait('one_day');
SELECT count(*), count(DISTINCT xmin::text) > 2 AS bounded FROM one_day;

-- many records of a batch that fail only together: every later one is bad, at no more cost than others
SELECT kstream.create_stream('p', 'k int, v int, ts timestamptz', "timestamp" => 'ts', server => 'local');
SELECT kstream.create_stream('q', 'k int, w int, ts timestamptz', "timestamp" => 'ts', server => 'local');
SELECT kstream.create_table_as(name, query, on_error => on_error, paused => true) FROM (VALUES
	('two', 'dead_letter', $$SELECT p.k, p.v, 1 / (p.v - q.w) AS x FROM p JOIN q ON p.k = q.k AND q.ts BETWEEN p.ts AND p.ts + interval '1 min'$$),
	('two_stop', 'stop', $$SELECT p.k, p.v, 1 / (p.v - q.w) AS x FROM p JOIN q ON p.k = q.k AND q.ts BETWEEN p.ts AND p.ts + interval '1 min'$$),
	('itself', 'dead_letter', $$SELECT x.k, x.v, 1 / (y.v - x.v - 1) AS x FROM p x JOIN p y ON x.k = y.k AND y.ts BETWEEN x.ts AND x.ts + interval '1 min'$$)) t (name, on_error, query);
-- of p in pairs, of which every second one differs by one
INSERT INTO p SELECT i / 2, i % 2 * (1 + i / 2 % 2), at('12:00') FROM generate_series(0, 399) i;
INSERT INTO q SELECT i, i % 3, at('12:00') FROM generate_series(0, 199) i;
SELECT kstream.step('two', 2000), kstream.step('itself', 2000);
SELECT count(*), (SELECT count(*) FROM p JOIN q ON p.k = q.k WHERE NOT EXISTS (SELECT FROM p o WHERE o.k = q.k AND o.v = q.w)) AS expected FROM two;
SELECT stream, count(*), (SELECT count(*) FROM q WHERE EXISTS (SELECT FROM p o WHERE o.k = q.k AND o.v = q.w)) AS expected FROM letters('two') GROUP BY 1;
SELECT count(*), (SELECT count(*) FROM p x JOIN p y USING (k) WHERE k % 2 = 1 OR x.v + y.v = 0) AS expected FROM itself;
SELECT stream, count(*), min("offset"), max("offset") FROM letters('itself') GROUP BY 1;
SELECT kstream.step('two_stop', 2000);
SELECT try($$SELECT kstream.step('two_stop', 2000)$$);
SELECT count(*) FROM two_stop;
DROP SCHEMA ssjoin_errors CASCADE;
