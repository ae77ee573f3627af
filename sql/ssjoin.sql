-- Joins of streams with each other, bounded in event time; stepped by hand.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS kstream;
CREATE SCHEMA ssjoin;
SET search_path = ssjoin, public;
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
\pset format unaligned
\pset tuples_only on
SELECT kstream.create_stream('a', 'k text, v int, ts timestamptz', "timestamp" => 'ts', server => 'local');
SELECT kstream.create_stream('b', 'k text, w int, ts timestamptz', "timestamp" => 'ts', server => 'local');

-- time of day on one day
CREATE FUNCTION at(text) RETURNS timestamptz LANGUAGE sql AS $$ SELECT ('2024-03-01 ' || $1 || '+00')::timestamptz $$;
-- what stands in the catalog of a query
CREATE FUNCTION buffers(result regclass) RETURNS TABLE (buffer text, rows bigint) LANGUAGE plpgsql AS $$
DECLARE
	id int;
BEGIN
	SELECT q.id INTO id FROM kstream_catalog.query q WHERE q.relation = result;
	FOR n IN 1..5 LOOP
		buffer := n;
		CONTINUE WHEN to_regclass(format('kstream_state.j_%s_%s', id, n)) IS NULL;
		EXECUTE format('SELECT count(*) FROM kstream_state.j_%s_%s', id, n) INTO rows;
		RETURN NEXT;
	END LOOP;
END $$;

SELECT kstream.create_table_as('j_inner', $$SELECT a.k, a.v, b.w FROM a JOIN b ON a.k = b.k AND b.ts BETWEEN a.ts - interval '5 min' AND a.ts + interval '10 min'$$, paused => true);
SELECT kstream.create_table_as('j_left', $$SELECT a.k, a.v, b.w FROM a LEFT JOIN b ON a.k = b.k AND b.ts BETWEEN a.ts - interval '5 min' AND a.ts + interval '10 min'$$, paused => true);
SELECT kstream.create_table_as('j_right', $$SELECT b.k, a.v, b.w FROM a RIGHT JOIN b ON a.k = b.k AND b.ts BETWEEN a.ts - interval '5 min' AND a.ts + interval '10 min'$$, paused => true);
SELECT kstream.create_table_as('j_full', $$SELECT coalesce(a.k, b.k) AS k, a.v, b.w FROM a FULL JOIN b ON a.k = b.k AND b.ts BETWEEN a.ts - interval '5 min' AND a.ts + interval '10 min'$$, paused => true);
SELECT kstream.create_table_as('j_grace', $$SELECT a.k, a.v, b.w FROM a LEFT JOIN b ON a.k = b.k AND b.ts BETWEEN a.ts - interval '5 min' AND a.ts + interval '10 min'$$, grace => '2 min', paused => true);
CREATE FUNCTION step_all(n int DEFAULT 100) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' ', kstream.step('j_inner', n), kstream.step('j_left', n), kstream.step('j_right', n), kstream.step('j_full', n), kstream.step('j_grace', n)) $$;

-- both ends of the bounds belong to them, in one batch and over two
INSERT INTO a VALUES ('x', 1, at('12:05'));
INSERT INTO b VALUES ('x', 1, at('12:00')), ('x', 2, at('11:59:59.999999')), ('y', 3, at('12:01'));
SELECT step_all();
INSERT INTO b VALUES ('x', 4, at('12:15')), ('x', 5, at('12:15:00.000001'));
SELECT step_all();
SELECT * FROM j_inner ORDER BY 3;
SELECT * FROM j_left ORDER BY 3;
-- the last one is 10 min and a microsecond after a: time has come to 12:05 only, a is open
SELECT buffers('j_left');

-- a null row comes when the watermark is greater than the close, not when it is equal
INSERT INTO a VALUES ('n', 2, at('12:06'));
INSERT INTO b VALUES ('z', 6, at('12:16'));
SELECT step_all();
INSERT INTO a VALUES ('m', 3, at('12:16'));
SELECT step_all();
SELECT 'at the close', * FROM j_left WHERE k = 'n';
INSERT INTO a VALUES ('m', 4, at('12:16:00.000001'));
INSERT INTO b VALUES ('z', 7, at('12:16:00.000001'));
SELECT step_all();
SELECT 'after the close', * FROM j_left WHERE k = 'n';
SELECT 'grace', * FROM j_grace WHERE k = 'n';
-- the partner that comes after that is on time for itself, but comes after a's close: no match
INSERT INTO b VALUES ('n', 8, at('12:16'));
SELECT step_all();
SELECT 'left', * FROM j_left WHERE k = 'n';
SELECT 'grace', * FROM j_grace WHERE k = 'n';

-- late by its own close (12:16:00.000001 > 12:11 + 5 min): dropped, counted, kept
INSERT INTO b VALUES ('m', 9, at('12:11'));
-- not later than its close: taken
INSERT INTO b VALUES ('m', 10, at('12:11:00.000001'));
SELECT step_all();
SELECT * FROM j_inner WHERE k = 'm' ORDER BY 2, 3;
SELECT * FROM j_full WHERE k = 'm' ORDER BY 2, 3;
SELECT query, "offset", event_time, stream_time, "window" FROM kstream.late_records WHERE relation = ANY ('{j_inner, j_grace}'::regclass[]) ORDER BY 1, 2;
SELECT name, records_in, late FROM kstream.stat_query WHERE relation = 'j_inner'::regclass;

-- NULL keys never match; the side that is kept gets its null row.  A NULL event time falls back to the record's.
INSERT INTO a VALUES (NULL, 5, at('12:20'));
INSERT INTO b VALUES (NULL, 11, at('12:20'));
INSERT INTO a (k, v, ts, _timestamp) VALUES ('t', 6, NULL, at('12:20'));
INSERT INTO b VALUES ('t', 12, at('12:20'));
SELECT step_all();
INSERT INTO a VALUES ('end', 0, at('13:00'));
INSERT INTO b VALUES ('end', 0, at('13:00'));
SELECT step_all();
SELECT * FROM j_inner WHERE k IS NULL OR k = 't';
SELECT * FROM j_full WHERE k IS NULL OR k = 't' ORDER BY 1, 2, 3;
SELECT * FROM j_right WHERE v IS NULL ORDER BY 3;

-- the same as the join in batch, where nothing was late and everything is closed
SELECT kstream.create_stream('c', 'k int, v int, ts timestamptz', "timestamp" => 'ts', server => 'local', partitions => 3);
INSERT INTO c (k, v, ts, _partition) SELECT i % 7, i, at('10:00') + i * interval '20 s', i % 3 FROM generate_series(1, 300) i;

-- self join: one position, both roles
SELECT kstream.create_table_as('self', $$SELECT x.v AS xv, y.v AS yv FROM c x JOIN c y ON x.k = y.k AND y.ts > x.ts AND y.ts - x.ts < interval '9 min'$$, grace => '1 min', paused => true);
SELECT kstream.create_table_as('self_left', $$SELECT x.v AS xv, y.v AS yv FROM c x LEFT JOIN c y ON x.k + 1 = y.k AND y.ts >= x.ts AND y.ts <= x.ts + interval '1 min'$$, grace => '1 min', paused => true);
-- past only, future only, both sides' arithmetic, in WHERE, a difference, no key
SELECT kstream.create_table_as('past', $$SELECT x.v AS xv, y.v AS yv FROM c x, c y WHERE x.k = y.k AND y.ts + interval '1 min' <= x.ts - interval '2 min' AND x.ts - y.ts <= interval '10 min'$$, grace => '1 min', paused => true);
SELECT kstream.create_table_as('future', $$SELECT x.v AS xv, y.v AS yv FROM c x JOIN c y ON y.ts BETWEEN x.ts + interval '30 s' AND x.ts + interval '1 min'$$, grace => '1 min', paused => true);
-- three streams, bounded in a chain, and a table
CREATE TABLE names (k int PRIMARY KEY, name text);
INSERT INTO names VALUES (1, 'one'), (2, 'two'), (3, 'three');
SELECT kstream.create_table_as('three', $$SELECT n.name, x.v AS xv, y.v AS yv, z.v AS zv FROM c x JOIN c y ON x.k = y.k AND y.ts BETWEEN x.ts AND x.ts + interval '3 min' JOIN c z ON z.k = y.k AND z.ts > y.ts AND z.ts <= y.ts + interval '5 min' JOIN names n ON n.k = x.k$$, grace => '1 min', paused => true);
-- then GROUP BY
SELECT kstream.create_table_as('grouped', $$SELECT x.k, count(*) AS n, count(y.v) AS matched, sum(y.v - x.v) AS s, array_agg(y.v ORDER BY y.v) AS vs FROM c x LEFT JOIN c y ON x.k = y.k AND y.ts > x.ts AND y.ts < x.ts + interval '4 min' GROUP BY x.k$$, grace => '1 min', paused => true);
CREATE VIEW cv AS SELECT k, v, ts FROM c WHERE v % 2 = 0;
SELECT kstream.create_table_as('through_view', $$WITH w AS (SELECT k, v, ts FROM c WHERE v > 10) SELECT cv.v AS xv, w.v AS yv FROM cv JOIN w ON cv.k = w.k AND w.ts BETWEEN cv.ts - interval '7 min' AND cv.ts WHERE cv.v <> 100$$, grace => '1 min', paused => true);
SELECT kstream.create_table_as('parts', $$SELECT x.v AS xv, y.v AS yv FROM c x JOIN c y ON x.k = y.k AND y.ts > x.ts AND y.ts <= x.ts + interval '5 min' UNION ALL SELECT v, NULL FROM c WHERE v < 5$$, grace => '1 min', paused => true);

-- steps of different sizes, then the end of time
CREATE PROCEDURE finish(names text[]) LANGUAGE plpgsql AS $$
DECLARE
	n int := 0;
	done int;
	name text;
BEGIN
	LOOP
		done := 0;
		FOREACH name IN ARRAY names LOOP
			n := n + 1;
			done := done + kstream.step(name, 1 + n * 7 % 45);
		END LOOP;
		EXIT WHEN done = 0;
	END LOOP;
END $$;
CALL finish('{self, self_left, past, future, three, grouped, through_view, parts}');
INSERT INTO c (k, v, ts, _partition) SELECT 99, 1000 + p, at('23:00'), p FROM generate_series(0, 2) p;
CALL finish('{self, self_left, past, future, three, grouped, through_view, parts}');
-- differences with the same SELECT in batch, open rows left out
CREATE FUNCTION differences(name text, query text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	result bigint;
BEGIN
	EXECUTE format('SELECT count(*) FROM ((TABLE %1$I EXCEPT ALL (%2$s)) UNION ALL ((%2$s) EXCEPT ALL TABLE %1$I)) d', name, query) INTO result;
	RETURN result;
END $$;
SELECT 'self', count(*), differences('self', $$SELECT x.v AS xv, y.v AS yv FROM c x JOIN c y ON x.k = y.k AND y.ts > x.ts AND y.ts - x.ts < interval '9 min'$$) FROM self;
SELECT 'self_left', count(*), count(*) FILTER (WHERE yv IS NULL), differences('self_left', $$SELECT x.v AS xv, y.v AS yv FROM c x LEFT JOIN c y ON x.k + 1 = y.k AND y.ts >= x.ts AND y.ts <= x.ts + interval '1 min' WHERE x.v < 1000$$) FROM self_left;
SELECT 'past', count(*), differences('past', $$SELECT x.v AS xv, y.v AS yv FROM c x, c y WHERE x.k = y.k AND y.ts + interval '1 min' <= x.ts - interval '2 min' AND x.ts - y.ts <= interval '10 min'$$) FROM past;
SELECT 'future', count(*), differences('future', $$SELECT x.v AS xv, y.v AS yv FROM c x JOIN c y ON y.ts BETWEEN x.ts + interval '30 s' AND x.ts + interval '1 min'$$) FROM future;
SELECT 'three', count(*), differences('three', $$SELECT n.name, x.v AS xv, y.v AS yv, z.v AS zv FROM c x JOIN c y ON x.k = y.k AND y.ts BETWEEN x.ts AND x.ts + interval '3 min' JOIN c z ON z.k = y.k AND z.ts > y.ts AND z.ts <= y.ts + interval '5 min' JOIN names n ON n.k = x.k$$) FROM three;
SELECT 'grouped', count(*), differences('grouped', $$SELECT x.k, count(*) AS n, count(y.v) AS matched, sum(y.v - x.v) AS s, array_agg(y.v ORDER BY y.v) AS vs FROM c x LEFT JOIN c y ON x.k = y.k AND y.ts > x.ts AND y.ts < x.ts + interval '4 min' WHERE x.v < 1000 GROUP BY x.k$$) FROM grouped;
SELECT 'through_view', count(*), differences('through_view', $$WITH w AS (SELECT k, v, ts FROM c WHERE v > 10) SELECT cv.v AS xv, w.v AS yv FROM cv JOIN w ON cv.k = w.k AND w.ts BETWEEN cv.ts - interval '7 min' AND cv.ts WHERE cv.v <> 100$$) FROM through_view;
SELECT 'parts', count(*), differences('parts', $$SELECT x.v AS xv, y.v AS yv FROM c x JOIN c y ON x.k = y.k AND y.ts > x.ts AND y.ts <= x.ts + interval '5 min' UNION ALL SELECT v, NULL FROM c WHERE v < 5$$) FROM parts;

-- buffers do not grow with what is closed
SELECT kstream.create_stream('m', 'k int, ts timestamptz', "timestamp" => 'ts', server => 'local');
INSERT INTO m SELECT i, at('00:00') + i * interval '1 s' FROM generate_series(1, 30000) i;
SELECT kstream.create_table_as('many', $$SELECT x.k FROM m x LEFT JOIN m y ON y.k = x.k + 1 AND y.ts BETWEEN x.ts AND x.ts + interval '1 min' WHERE x.k % 100 = 0$$, paused => true);
SELECT 'SELECT kstream.step(''many'', 5000)' FROM generate_series(1, 7) \gexec
SELECT count(*) FROM many;
SELECT buffer, rows < 20000 AS bounded FROM buffers('many');

-- bad records: alone, together with an old one, together with another of its batch (the later one), a null row that fails
SELECT kstream.create_table_as('bad', $$SELECT a.k, a.v, b.w, 100 / (a.v - b.w) AS q, 10 / nullif(a.v, 7) AS r FROM a LEFT JOIN b ON a.k = b.k AND b.ts BETWEEN a.ts - interval '5 min' AND a.ts + interval '10 min'$$, start => 'latest', paused => true);
INSERT INTO a VALUES ('p', 1, at('14:00')), ('p', 0, at('14:00')), ('q', 2, at('14:00'));
INSERT INTO b VALUES ('q', 2, at('14:00')), ('p', 3, at('14:00'));
SELECT kstream.step('bad');
INSERT INTO b VALUES ('p', 1, at('14:01')), ('p', 5, at('14:01'));
SELECT kstream.step('bad');
SELECT * FROM bad ORDER BY 1, 2, 3;
SELECT regexp_replace(topic, '.*', 'none') AS topic, "offset", sqlstate, message FROM kstream.dead_letters WHERE relation = 'bad'::regclass ORDER BY id;

-- a key too long for an index
SELECT kstream.create_table_as('long_keys', $$SELECT a.v, b.w FROM a JOIN b ON a.k = b.k AND b.ts BETWEEN a.ts - interval '5 min' AND a.ts + interval '10 min'$$, start => 'latest', paused => true);
INSERT INTO a SELECT repeat(md5(i::text), 100), i, at('14:02') FROM generate_series(1, 2) i;
INSERT INTO a VALUES ('p', 9, at('14:02'));
SELECT kstream.step('long_keys');
SELECT "offset" - min("offset") OVER () AS "offset", sqlstate, message FROM kstream.dead_letters WHERE relation = 'long_keys'::regclass ORDER BY 1;

-- what is refused
CREATE FUNCTION try(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	state text; message text; detail text; hint text;
BEGIN
	PERFORM kstream.create_table_as('x', query, paused => true);
	DROP TABLE x;
	RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(E'\n  ', format('%s: %s', state, message), nullif(detail, ''), nullif(hint, ''));
END $$;
SELECT kstream.create_stream('d', 'k text, w int, ts timestamp', "timestamp" => 'ts', server => 'local');
SELECT kstream.create_stream('e', 'k text, w int, day date', "timestamp" => 'day', server => 'local');
-- no bounds, one bound only, a bound that is none
SELECT try('SELECT a.v FROM a JOIN b USING (k)');
SELECT try('SELECT a.v FROM a, b');
SELECT try('SELECT a.v FROM a JOIN b ON a.k = b.k AND b.ts >= a.ts');
SELECT try('SELECT a.v FROM a JOIN b ON a.k = b.k AND b.ts BETWEEN a.ts AND a.ts + a.v * interval ''1 min''');
SELECT try('SELECT a.v FROM a JOIN b ON a.k = b.k AND b.ts BETWEEN a.ts AND a.ts + interval ''1 month''');
SELECT try('SELECT a.v FROM a JOIN b ON a.k = b.k AND b._timestamp BETWEEN a.ts AND a.ts + interval ''1 min''');
SELECT try('SELECT a.v FROM a JOIN b ON a.k = b.k AND date_trunc(''hour'', b.ts) = date_trunc(''hour'', a.ts)');
SELECT try('SELECT a.v FROM a JOIN b ON a.k = b.k AND (b.ts BETWEEN a.ts AND a.ts + interval ''1 min'' OR a.v = 1)');
SELECT try('SELECT a.v FROM a JOIN d ON a.k = d.k AND d.ts BETWEEN a.ts AND a.ts + interval ''1 min''');
-- bounds that need not hold for a match of an outer join
SELECT try('SELECT a.v FROM a LEFT JOIN b ON a.k = b.k WHERE b.ts BETWEEN a.ts AND a.ts + interval ''1 min''');
-- three streams of which two are not bounded; outer joins of three
SELECT try('SELECT a.v FROM a JOIN b ON b.ts BETWEEN a.ts AND a.ts + interval ''1 min'' JOIN c ON c.v = a.v');
SELECT try('SELECT a.v FROM a LEFT JOIN b ON b.ts BETWEEN a.ts AND a.ts + interval ''1 min'' LEFT JOIN c ON c.ts BETWEEN a.ts AND a.ts + interval ''1 min''');
SELECT try('SELECT a.v FROM a LEFT JOIN b ON b.ts BETWEEN a.ts AND a.ts + interval ''1 min'' JOIN c ON c.ts BETWEEN a.ts AND a.ts + interval ''1 min''');
SELECT try('SELECT 1 AS x FROM a JOIN b ON b.ts = a.ts JOIN c ON c.ts = a.ts JOIN c c2 ON c2.ts = a.ts JOIN c c3 ON c3.ts = a.ts JOIN c c4 ON c4.ts = a.ts');
SELECT try('SELECT a.v FROM a JOIN (SELECT k, ts FROM b UNION ALL SELECT k::text, ts FROM c) u ON u.k = a.k AND u.ts BETWEEN a.ts AND a.ts + interval ''1 min''');
-- what a buffer cannot keep, what depends on the order of matches, windows of one side
SELECT try('SELECT to_jsonb(a) AS j FROM a JOIN b ON b.ts = a.ts');
SELECT try('SELECT a.tableoid FROM a JOIN b ON b.ts = a.ts');
SELECT try('SELECT a.k, array_agg(b.w) AS l FROM a JOIN b ON b.ts = a.ts GROUP BY a.k');
SELECT try('SELECT kstream.session(a.ts - interval ''1 s'', ''1 min'') AS s, count(*) FROM a JOIN b ON b.ts = a.ts GROUP BY 1');
SELECT try('SELECT a.v FROM a FULL JOIN b ON b.ts BETWEEN a.ts AND a.ts + interval ''1 min''');
SELECT try('SELECT a.v FROM names n LEFT JOIN a ON a.v = n.k JOIN b ON b.ts = a.ts');
-- and what is not
SELECT try('SELECT a.v FROM a JOIN b ON a.k = b.k AND b.ts = a.ts');
SELECT try('SELECT d.w FROM d JOIN e ON d.k = e.k AND e.day >= d.ts - interval ''2 days'' AND e.day < d.ts + interval ''1 day''');
SELECT try('SELECT e.w FROM e JOIN e f ON e.k = f.k AND f.day BETWEEN e.day - 1 AND e.day + 1');
SELECT try('SELECT j.v FROM (a LEFT JOIN b ON a.k = b.k AND b.ts BETWEEN a.ts AND a.ts + interval ''1 min'') AS j (k1, v) LEFT JOIN names n ON n.k = j.v WHERE n.name IS NULL');
SELECT try('SELECT a.v FROM a JOIN LATERAL (SELECT b.w FROM b WHERE b.k = a.k AND b.ts BETWEEN a.ts AND a.ts + interval ''1 min'') l ON true');

-- a bound that cannot be computed for a record makes that one bad, not all it is compared with
SELECT kstream.create_stream('p', 'id int, k text, at timestamptz', "timestamp" => 'at', server => 'local');
SELECT kstream.create_stream('q', 'id int, k text, at timestamptz', "timestamp" => 'at', server => 'local', partitions => 2);
-- does the table have what the query makes of the records that are no dead letters, and which are these?
CREATE FUNCTION judge(result regclass, query text) RETURNS TABLE (rows bigint, equal boolean, wrongly_dead bigint) LANGUAGE plpgsql AS $$
BEGIN
	-- p writes to partition 0, q to partition 1
	CREATE TEMP TABLE bad ON COMMIT DROP AS SELECT "partition", "offset" FROM kstream.dead_letters d WHERE d.relation = result;
	CREATE TEMP TABLE p ON COMMIT DROP AS SELECT id, k, at FROM ssjoin.p s WHERE (_partition, _offset) NOT IN (TABLE bad);
	CREATE TEMP TABLE q ON COMMIT DROP AS SELECT id, k, at FROM ssjoin.q s WHERE (_partition, _offset) NOT IN (TABLE bad);
	EXECUTE format('SELECT (SELECT count(*) FROM %1$s), NOT EXISTS ((TABLE %1$s EXCEPT ALL %2$s) UNION ALL (%2$s EXCEPT ALL TABLE %1$s))', result, query) INTO rows, equal;
	SELECT count(*) INTO wrongly_dead FROM (SELECT _partition, _offset, at FROM ssjoin.p s UNION ALL SELECT _partition, _offset, at FROM ssjoin.q s) d
		WHERE (_partition, _offset) IN (TABLE bad) AND isfinite(at) AND at < '200000-01-01';
	DROP TABLE bad, p, q;
	RETURN NEXT;
END $$;
CREATE TABLE bounded (name text, query text);
INSERT INTO bounded VALUES
	('n_diff', $$SELECT p.id, q.id AS other FROM p JOIN q ON p.k = q.k AND p.at - q.at >= interval '-5 min' AND p.at - q.at <= interval '10 min' WHERE q.id <> 63$$),
	('n_sum', $$SELECT p.id, q.id AS other FROM p JOIN q ON p.k = q.k AND q.at + interval '50000 days' BETWEEN p.at + interval '50000 days' - interval '10 min' AND p.at + interval '50000 days' + interval '5 min' WHERE q.id <> 63$$),
	('n_guarded', $$SELECT p.id, q.id AS other FROM p LEFT JOIN q ON isfinite(p.at) AND isfinite(q.at) AND p.k = q.k AND p.at - q.at BETWEEN interval '-5 min' AND interval '10 min' WHERE p.id <> 5$$),
	('n_plain', $$SELECT p.id, q.id AS other FROM p JOIN q ON p.k = q.k AND q.at BETWEEN p.at - interval '10 min' AND p.at + interval '5 min'$$);
SELECT kstream.create_table_as(name, query, paused => true) FROM bounded;
SELECT kstream.create_table_as('n_batch', query, paused => true) FROM bounded WHERE name = 'n_plain';
INSERT INTO p (id, k, at, _timestamp) VALUES (1, 'x', 'infinity', '2024-03-01 12:00'), (2, 'y', '2024-03-01 12:00', '2024-03-01 12:00'), (3, 'x', '2024-03-01 12:00', '2024-03-01 12:00'),
	(4, 'x', '-infinity', '2024-03-01 12:00');
SELECT kstream.step(name, 10) FROM bounded;
INSERT INTO q (id, k, at, _timestamp, _partition) SELECT i, CASE WHEN i % 2 = 0 THEN 'x' ELSE 'y' END, timestamptz '2024-03-01 12:00' + i * interval '1 s', '2024-03-01 12:00', 1 FROM generate_series(1, 60) i;
INSERT INTO q (id, k, at, _timestamp, _partition) VALUES (61, 'x', 'infinity', '2024-03-01 12:00', 1), (62, 'y', '-infinity', '2024-03-01 12:00', 1), (63, 'x', 'infinity', '2024-03-01 12:30', 1);
SELECT kstream.step(name, 1000) FROM bounded;
SELECT kstream.step('n_batch', 1000);
INSERT INTO p (id, k, at, _timestamp) VALUES (5, 'x', '294200-06-01', '2024-03-01 12:00');
SELECT kstream.step(name, 1000) FROM bounded;
INSERT INTO q (id, k, at, _timestamp, _partition) VALUES (64, 'x', '2024-03-01 12:30', '2024-03-01 12:30', 1);
SELECT kstream.step(name, 1000) FROM bounded;
SELECT kstream.step(name, 1000) FROM bounded;
SELECT name, rows, equal, wrongly_dead FROM bounded, judge(name::regclass, query) WHERE name IN ('n_diff', 'n_sum', 'n_guarded') ORDER BY name;
-- the event time of an infinite record is its own timestamp, in one batch and in several
SELECT name, (SELECT count(*) FROM n_plain WHERE id = 1) AS several, (SELECT count(*) FROM n_batch WHERE id = 1) AS one, (SELECT count(*) FROM n_plain) = (SELECT count(*) FROM n_batch) AS same
	FROM bounded WHERE name = 'n_plain';

-- what its statements ask the worker is not known anywhere else, whatever the arguments
SELECT kstream_state.partner_since(1, 0, t, 'x'::text) = t AS text, kstream_state.partner_since(1, 0, t, NULL::int) = t AS "null",
	kstream_state.partner_since(NULL, NULL, t, 1) = t AS nulls, kstream_state.partner_since(-1, -1, 'infinity', 1, 2.5, point '(1,2)') = 'infinity' AS several,
	kstream_state.partner_since(1, 0, t, VARIADIC '{1,2}'::int[]) = t AS variadic, kstream_state.partner_since(1, 0, NULL, 1) IS NULL AS since
	FROM (SELECT timestamptz '2024-01-01 00:00Z' AS t) t;

-- what a query of this kind is made of; it goes as a whole
SELECT regexp_replace(l, 'j_\d+_', 'j_N_') FROM regexp_split_to_table(kstream.explain('j_left'), E'\n') l WHERE l ~ '^( *UNION ALL|Source|  Statement|Join|  Buffer|  Null|  Records|Append|Result)';
SELECT role, rows >= 0 FROM kstream.stat_store WHERE name = 'j_left' ORDER BY store::text;
SELECT kstream.reset('j_left');
SELECT 'after reset', * FROM buffers('j_left');
SELECT count(*) FROM j_left;
SELECT id FROM kstream_catalog.query WHERE relation = 'j_left'::regclass \gset
DROP TABLE j_left;
SELECT count(*) FROM pg_class WHERE relnamespace = 'kstream_state'::regnamespace AND relname LIKE 'j\_' || :id || '\_%';
DROP SCHEMA ssjoin CASCADE;
