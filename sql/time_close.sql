-- Closing by the watermark: emit => 'final', retention, idle partitions, the clock.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS kstream;
CREATE SCHEMA time_close;
SET search_path = time_close, public;
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
CREATE FUNCTION hm(tstzrange) RETURNS text LANGUAGE sql STABLE AS $$SELECT to_char(lower($1), 'HH24:MI:SS') || '-' || to_char(upper($1), 'HH24:MI:SS')$$;
CREATE FUNCTION mark(name text) RETURNS text LANGUAGE sql AS $$SELECT to_char(watermark, 'HH24:MI:SS') FROM kstream.stat_query q WHERE q.name = $1$$;

-- a window's row appears when end + grace <= watermark, once; HAVING is asked then
SELECT kstream.create_stream('s', 'id int, ts timestamptz, x float8', server => 'local', "timestamp" => 'ts');
SELECT kstream.create_table_as('f', $$SELECT kstream.tumble(ts, '1 min') AS w, count(*) AS n, avg(x) AS x FROM s GROUP BY 1$$, grace => '30 s', emit => 'final', paused => true);
SELECT kstream.create_table_as('h', $$SELECT kstream.tumble(ts, '1 min') AS w, count(*) AS n FROM s GROUP BY 1 HAVING count(*) % 2 = 0$$, grace => '30 s', emit => 'final', paused => true);
SELECT kstream.create_table_as('k', $$SELECT kstream.tumble(ts, '1 min') AS w, string_agg(id::text, ',') AS ids FROM s GROUP BY 1$$, grace => '30 s', emit => 'final', paused => true);
INSERT INTO s VALUES (1, '2024-01-01 00:00:10', 1), (2, '2024-01-01 00:01:29.999999', 2);
SELECT kstream.step('f'), kstream.step('h'), kstream.step('k');
SELECT count(*) FROM f;
INSERT INTO s VALUES (3, '2024-01-01 00:00:20', 3), (4, '2024-01-01 00:01:30', 4), (5, '2024-01-01 00:00:20', 5);
SELECT kstream.step('f'), kstream.step('h'), kstream.step('k');
SELECT hm(w), n, x FROM f;
SELECT hm(w), n FROM h;
SELECT hm(w), ids FROM k;
SELECT mark('f'), mark('h'), mark('k');
-- what is closed has left the state; what is open is there
SELECT count(*) FROM kstream_catalog.query q, LATERAL (SELECT query_to_xml(format('TABLE %s', q.state), true, false, '')) x(t), xpath('//row', x.t) r, unnest(r) WHERE q.relation = 'f'::regclass;
-- rolled back, and done again: once
BEGIN;
INSERT INTO s VALUES (6, '2024-01-01 00:03:00', 6);
COMMIT;
BEGIN; SELECT kstream.step('f'); SELECT hm(w), n, x FROM f ORDER BY w; ROLLBACK;
SELECT hm(w), n, x FROM f ORDER BY w;
SELECT kstream.step('f');
SELECT hm(w), n, x FROM f ORDER BY w;

-- the clock: all is read, and time passes
SELECT kstream.step('f', 10, '59 s'), mark('f');
SELECT kstream.step('f', 10, '1 min 29 s'), mark('f'), (SELECT count(*) FROM f) AS rows;
SELECT kstream.step('f', 10, '1 min 30 s'), mark('f'), (SELECT count(*) FROM f) AS rows;
-- what it closed stays closed: on time by its own partition, but too late for the table
INSERT INTO s VALUES (7, '2024-01-01 00:03:10', 7), (8, '2024-01-01 00:04:00', 8);
SELECT kstream.step('f'), mark('f'), (SELECT count(*) FROM f) AS rows, (SELECT late FROM kstream.stat_query WHERE name = 'f');
SELECT hm("window"), to_char(stream_time, 'HH24:MI:SS') AS stream_time FROM kstream.late_records WHERE query = 'f' ORDER BY "offset";
-- the same records where windows are not closed but shown as they change: taken in
SELECT kstream.create_table_as('c', $$SELECT kstream.tumble(ts, '1 min') AS w, count(*) AS n FROM s GROUP BY 1$$, grace => '30 s', paused => true);
SELECT kstream.step('c', 6), kstream.step('c', 10, '1 hour'), kstream.step('c', 10), mark('c');
SELECT hm(w), n FROM c ORDER BY w;

-- partitions: the one that lags holds the watermark, the one that is idle does not
SELECT kstream.create_stream('p', 'ts timestamptz', server => 'local', "timestamp" => 'ts', partitions => 3);
SELECT kstream.create_table_as('pf', $$SELECT kstream.tumble(ts, '1 min') AS w, count(*) AS n FROM p GROUP BY 1$$, emit => 'final', idle_timeout => '5 min', paused => true);
INSERT INTO p (ts, _partition) VALUES ('2024-01-01 10:00', 0), ('2024-01-01 11:00', 0), ('2024-01-01 10:00:30', 1), ('2024-01-01 10:02', 1);
-- partition 1 has not been read at all, and partition 2 is empty; then they are read side by side
SELECT kstream.step('pf', 1), mark('pf'), (SELECT count(*) FROM pf) AS rows;
SELECT kstream.step('pf', 1), mark('pf'), (SELECT count(*) FROM pf) AS rows;
SELECT kstream.step('pf', 2), mark('pf');
SELECT hm(w), n FROM pf ORDER BY w;
SELECT late FROM kstream.stat_query WHERE name = 'pf';
-- partition 1 goes silent, partition 0 goes on
INSERT INTO p (ts, _partition) VALUES ('2024-01-01 11:10', 0);
SELECT kstream.step('pf', 10, '4 min 59 s'), mark('pf');
INSERT INTO p (ts, _partition) VALUES ('2024-01-01 11:11', 0);
SELECT kstream.step('pf', 10, '5 min'), mark('pf');
SELECT hm(w), n FROM pf ORDER BY w;
-- it comes back, and is late where its windows are closed, and holds the watermark again without turning it back
INSERT INTO p (ts, _partition) VALUES ('2024-01-01 10:03', 1), ('2024-01-01 11:30', 1), ('2024-01-01 11:11:30', 2);
SELECT kstream.step('pf', 10), mark('pf');
SELECT hm("window"), partition FROM kstream.late_records WHERE query = 'pf';
INSERT INTO p (ts, _partition) VALUES ('2024-01-01 12:00', 0);
SELECT kstream.step('pf', 10), mark('pf');
SELECT hm(w), n FROM pf ORDER BY w;

-- retention: end + greatest(retention, grace) <= watermark, from table and state
SELECT kstream.create_stream('t', 'k text, ts timestamptz', server => 'local', "timestamp" => 'ts');
SELECT kstream.create_table_as('r1', $$SELECT kstream.tumble(ts, '1 min') AS w, k, count(*) AS n FROM t GROUP BY 1, 2$$, grace => '10 s', retention => '2 min', paused => true);
SELECT kstream.create_table_as('r2', $$SELECT kstream.tumble(ts, '1 min') AS w, k, avg(length(k)) AS n FROM t GROUP BY 1, 2$$, grace => '3 min', retention => '2 min', paused => true);
SELECT kstream.create_table_as('r3', $$SELECT k, kstream.tumble(ts, '1 min') AS w, array_agg(k ORDER BY k) AS n FROM t GROUP BY 1, 2 HAVING k <> 'b'$$, retention => '0', paused => true);
SELECT kstream.create_table_as('r4', $$SELECT k, kstream.tumble(ts, '1 min') AS w, count(*) AS n FROM t GROUP BY 1, 2$$, retention => '2 min', emit => 'final', paused => true);
SELECT kstream.create_table_as('r5', $$SELECT k, ts FROM t$$, retention => '2 min', paused => true);
INSERT INTO t VALUES ('a', '2024-01-01 00:00:00'), ('b', '2024-01-01 00:00:59'), (NULL, '2024-01-01 00:01:00'), ('a', '2024-01-01 00:02:59.999999');
SELECT kstream.step('r1'), kstream.step('r2'), kstream.step('r3'), kstream.step('r4'), kstream.step('r5');
SELECT * FROM (SELECT 'r1' AS r, hm(w), k, n::text FROM r1 UNION ALL SELECT 'r2', hm(w), k, n::text FROM r2 UNION ALL SELECT 'r3', hm(w), k, n::text FROM r3 UNION ALL SELECT 'r4', hm(w), k, n::text FROM r4 UNION ALL SELECT 'r5', ts::text, k, NULL FROM r5) x ORDER BY 1, 2, 3;
INSERT INTO t VALUES ('c', '2024-01-01 00:03:00'), ('d', '2024-01-01 00:00:30'), (NULL, NULL);
SELECT kstream.step('r1', 2), kstream.step('r2', 2), kstream.step('r3', 2), kstream.step('r4', 2), kstream.step('r5', 2);
SELECT * FROM (SELECT 'r1' AS r, hm(w), k, n::text FROM r1 UNION ALL SELECT 'r2', hm(w), k, n::text FROM r2 UNION ALL SELECT 'r3', hm(w), k, n::text FROM r3 UNION ALL SELECT 'r4', hm(w), k, n::text FROM r4 UNION ALL SELECT 'r5', ts::text, k, NULL FROM r5) x ORDER BY 1, 2, 3;
INSERT INTO t VALUES ('e', '2024-01-01 10:00:00');
SELECT kstream.step('r1'), kstream.step('r2'), kstream.step('r3'), kstream.step('r4'), kstream.step('r5');
-- windows without an end stay: the record without an event time moved the watermark to its own timestamp, now
SELECT * FROM (SELECT 'r1' AS r, hm(w), k, n::text FROM r1 UNION ALL SELECT 'r2', hm(w), k, n::text FROM r2 UNION ALL SELECT 'r3', hm(w), k, n::text FROM r3 UNION ALL SELECT 'r4', hm(w), k, n::text FROM r4 UNION ALL SELECT 'r5', ts::text, k, NULL FROM r5) x ORDER BY 1, 2, 3;
CREATE FUNCTION left_in_state(r regclass) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE n bigint := 0; m bigint; t regclass;
BEGIN
	FOR t IN SELECT unnest(ARRAY[state, inputs]) FROM kstream_catalog.query WHERE relation = r LOOP
		CONTINUE WHEN t IS NULL;
		EXECUTE format('SELECT count(*) FROM %s', t) INTO m;
		n := n + m;
	END LOOP;
	RETURN n;
END $$;
SELECT r, left_in_state(r) FROM unnest('{r1,r2,r3,r4}'::regclass[]) r;

-- sessions: closed at end + gap + grace, since a record in time may touch them until then
SELECT kstream.create_table_as('sf', $$SELECT kstream.session(ts, '1 min') AS w, k, count(*) AS n FROM t GROUP BY 1, 2$$, grace => '30 s', emit => 'final', retention => '1 hour', start => 'latest', paused => true);
INSERT INTO t VALUES ('x', '2025-01-01 00:00:00'), ('y', '2025-01-01 00:02:29.999999');
SELECT kstream.step('sf'), mark('sf'), (SELECT count(*) FROM sf) AS rows, left_in_state('sf');
INSERT INTO t VALUES ('x', '2025-01-01 00:01:00'), ('y', '2025-01-01 00:03:29.999999');
SELECT kstream.step('sf'), mark('sf'), (SELECT count(*) FROM sf) AS rows, left_in_state('sf');
INSERT INTO t VALUES ('y', '2025-01-01 00:03:30');
SELECT kstream.step('sf'), mark('sf'), left_in_state('sf');
SELECT k, hm(w), n FROM sf;
INSERT INTO t VALUES ('y', '2025-01-01 01:02:59.999999');
SELECT kstream.step('sf'), mark('sf'), left_in_state('sf');
SELECT k, hm(w), n FROM sf ORDER BY k;
INSERT INTO t VALUES ('y', '2025-01-01 01:03:00');
SELECT kstream.step('sf'), mark('sf');
SELECT k, hm(w), n FROM sf ORDER BY k;

-- sessions that meet: states are combined where that is exact, else inputs are kept; both give the same
SELECT kstream.create_stream('m', 'k text, ts timestamptz, v int, f float8', server => 'local', "timestamp" => 'ts');
SELECT kstream.create_table_as('m1', $$SELECT k, kstream.session(ts, '40 s') AS w, count(*) AS n, sum(v) AS s, avg(v)::numeric(9,3) AS a, min(v) AS lo, bool_or(v > 7) AS big, sum(v::bigint) FILTER (WHERE v > 2) AS part, stddev(v)::numeric(9,3) AS dev FROM m GROUP BY 1, 2 HAVING count(*) > 1$$, grace => '2 hours', paused => true);
SELECT kstream.create_table_as('m2', $$SELECT k, kstream.session(ts, '40 s') AS w, count(*) AS n, sum(v) AS s, avg(v)::numeric(9,3) AS a, min(v) AS lo, bool_or(v > 7) AS big, sum(v::bigint) FILTER (WHERE v > 2) AS part, stddev(v)::numeric(9,3) AS dev FROM m GROUP BY 1, 2 HAVING count(*) > 1 AND count(DISTINCT v) > 0$$, grace => '2 hours', paused => true);
SELECT kstream.create_table_as('m3', $$SELECT k, kstream.session(ts, '40 s') AS w, sum(f) AS f FROM m GROUP BY 1, 2$$, grace => '2 hours', paused => true);
INSERT INTO m SELECT CASE i % 3 WHEN 0 THEN NULL ELSE 'k' || i % 3 END, timestamptz '2024-01-01' + (i * 7919 % 1000) * interval '4 s', CASE WHEN i % 11 > 0 THEN i % 10 END, 0.1 * i FROM generate_series(1, 700) i;
SELECT count(*) FILTER (WHERE kstream.step('m1', 37) > 0), count(*) FILTER (WHERE kstream.step('m2', 41) > 0), count(*) FILTER (WHERE kstream.step('m3', 53) > 0) FROM generate_series(1, 20);
SELECT count(*), sum(n), max(n) FROM m1;
SELECT count(*) FROM ((TABLE m1 EXCEPT TABLE m2) UNION ALL (TABLE m2 EXCEPT TABLE m1)) d;
-- the same as plain SQL over islands, floats to the last bit
WITH x AS (SELECT k, tstzrange(min(ts), max(ts) + '40 s') AS w, sum(f ORDER BY _offset) AS f
	FROM (SELECT *, sum(CASE WHEN ts <= reach + interval '40 s' THEN 0 ELSE 1 END) OVER (PARTITION BY k ORDER BY ts, _offset) AS island
		FROM (SELECT *, max(ts) OVER (PARTITION BY k ORDER BY ts, _offset ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS reach FROM m) a) b
	GROUP BY k, island)
SELECT count(*) FROM ((SELECT k, w, f FROM m3 EXCEPT SELECT k, w, f FROM x) UNION ALL (SELECT k, w, f FROM x EXCEPT SELECT k, w, f FROM m3)) d;
SELECT relation, inputs IS NOT NULL AS keeps_inputs FROM kstream_catalog.query WHERE relation IN ('m1'::regclass, 'm2', 'm3') ORDER BY 1;

-- the index by which rows are found
DROP INDEX r1_upper_idx;
\set VERBOSITY terse
SELECT kstream.step('r1', 1, '1 hour');
CREATE INDEX mine ON r1 (upper(w));
SELECT kstream.step('r1', 1, '1 hour');
-- reset forgets the watermark, too
SELECT mark('f'), kstream.reset('f'), kstream.step('f', 1), mark('f');
SELECT query, partition, idle FROM kstream.stat_partition WHERE query = 'f';
SELECT regexp_replace(regexp_replace(kstream.explain('sf'), '_state\.(.)_\d+', '_state.\1', 'g'), '\mt\.', '', 'g') AS explain;
DROP SCHEMA time_close CASCADE;
