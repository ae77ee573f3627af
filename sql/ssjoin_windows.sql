-- Windows over joins of streams: what they may be over, when they close, and what is late then.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS kstream;
CREATE SCHEMA ssjoin_windows;
SET search_path = ssjoin_windows, public;
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION at(text) RETURNS timestamptz LANGUAGE sql AS $$SELECT ('2024-03-01 ' || $1 || '+00')::timestamptz$$;
CREATE FUNCTION hm(tstzrange) RETURNS text LANGUAGE sql STABLE AS $$SELECT to_char(lower($1), 'HH24:MI:SS') || '-' || to_char(upper($1), 'HH24:MI:SS')$$;
CREATE FUNCTION mark(name text) RETURNS text LANGUAGE sql AS $$SELECT to_char(watermark, 'HH24:MI:SS.US') FROM kstream.stat_query q WHERE q.name = $1$$;
SELECT kstream.create_stream('a', 'k text, v int, ts timestamptz', server => 'local', "timestamp" => 'ts');
SELECT kstream.create_stream('b', 'k text, w int, ts timestamptz', server => 'local', "timestamp" => 'ts', partitions => 2);
CREATE TABLE queries (name text, options text, query text);
INSERT INTO queries VALUES
	('q_greatest', '', 'SELECT kstream.tumble(greatest(a.ts, b.ts), ''1 min'') AS w, count(*) AS n, count(b.w) AS m FROM a LEFT JOIN b {on} GROUP BY 1'),
	('q_side', '', 'SELECT a.k, kstream.tumble(a.ts, ''1 min'') AS w, count(*) AS n FROM a JOIN b {on} GROUP BY a.k, 2'),
	('q_coalesce', '', 'SELECT kstream.tumble(coalesce(b.ts, a.ts), ''1 min'') AS w, count(*) AS n, sum(b.w) AS m FROM a FULL JOIN b {on} GROUP BY 1'),
	('q_hop', '', 'SELECT x.w, count(*) AS n FROM (SELECT least(a.ts, b.ts) AS t FROM a JOIN b {on}) q, kstream.hop(q.t, ''30 s'', ''1 min'') x(w) GROUP BY 1'),
	('q_session', '', 'SELECT kstream.session(greatest(a.ts, b.ts), ''50 s'') AS w, count(*) AS n, array_agg(a.v ORDER BY a.v) AS l FROM a JOIN b {on} GROUP BY 1'),
	('q_union', '', 'SELECT kstream.tumble(t, ''1 min'') AS w, count(*) AS n FROM (SELECT a.ts AS t FROM a JOIN b {on} UNION ALL SELECT b.ts FROM b JOIN a {on} AND b.w > 1) u GROUP BY 1');
UPDATE queries SET query = replace(query, '{on}', 'ON a.k = b.k AND b.ts BETWEEN a.ts - interval ''1 min'' AND a.ts + interval ''2 min''');
SELECT count(kstream.create_table_as(name, query, emit => 'final', grace => '10 s', paused => true, keep_changes => '1 day', idle_timeout => '1 hour')) FROM queries;
SELECT count(kstream.create_table_as(replace(name, 'q_', 'c_'), query, grace => '10 s', retention => '3 min', paused => true, idle_timeout => '1 hour')) FROM queries;
SELECT l FROM regexp_split_to_table(kstream.explain('q_session'), E'\n') l WHERE l ~ 'Window|Close|Expiry';
CREATE FUNCTION step_all() RETURNS void LANGUAGE plpgsql AS $$BEGIN PERFORM kstream.step(name), kstream.step(replace(name, 'q_', 'c_')) FROM queries; END$$;

-- both partitions of b are read; the matches of minute 12:00 and the record of a that has none
INSERT INTO b (k, w, ts, _partition) VALUES ('x', 1, at('12:00:00'), 0), ('y', 2, at('12:00:00'), 1);
INSERT INTO a VALUES ('x', 1, at('12:00:30')), ('x', 2, at('12:00:59')), ('u', 3, at('12:00:59.999999')), ('x', 4, at('12:01:00'));
SELECT step_all();
SELECT hm(w), n FROM c_side;
SELECT hm(w), n, m FROM c_greatest ORDER BY w;
SELECT hm(w), n, l FROM c_session;
-- a record waits for two minutes at most: the window ends at 12:01 and closes at 12:03:10, like the record just before its end
INSERT INTO a VALUES ('z', 5, at('12:03:09.999999'));
INSERT INTO b (k, w, ts, _partition) VALUES ('x', 3, at('12:00:40'), 0), ('zz', 3, at('12:03:09.999999'), 0), ('x', 4, at('12:01:05'), 1), ('zz', 4, at('12:03:10'), 1);
SELECT step_all();
SELECT mark('q_greatest'), (SELECT count(*) FROM q_greatest), (SELECT count(*) FROM q_side), (SELECT count(*) FROM q_coalesce), (SELECT count(*) FROM q_hop);
INSERT INTO a VALUES ('z', 6, at('12:03:10'));
INSERT INTO b (k, w, ts, _partition) VALUES ('zz', 5, at('12:03:10'), 0);
BEGIN;
SELECT step_all();
SELECT hm(w), n, m FROM q_greatest ORDER BY w;
ROLLBACK;
SELECT count(*) FROM q_greatest;
SELECT step_all();
SELECT mark('q_greatest');
SELECT hm(w), n, m FROM q_greatest ORDER BY w;
SELECT k, hm(w), n FROM q_side ORDER BY k, w;
SELECT hm(w), n, m FROM q_coalesce ORDER BY w;
SELECT hm(w), n FROM q_hop ORDER BY w;
SELECT hm(w), n FROM q_union ORDER BY w;
SELECT hm(w), n, l FROM q_session ORDER BY w;
-- then all others; each row came once, and those of c have left
INSERT INTO a VALUES ('end', 7, at('13:00'));
INSERT INTO b (k, w, ts, _partition) VALUES ('end', 6, at('13:00'), 0), ('other', 7, at('13:00'), 1);
SELECT step_all();
SELECT step_all();
SELECT hm(w), n, m FROM q_greatest ORDER BY w;
SELECT hm(w), n, m FROM q_coalesce ORDER BY w;
SELECT hm(w), n, l FROM q_session ORDER BY w;
SELECT (SELECT count(*) FROM c_greatest), (SELECT count(*) FROM c_side), (SELECT count(*) FROM c_coalesce), (SELECT count(*) FROM c_hop), (SELECT count(*) FROM c_session), (SELECT count(*) FROM c_union);
-- what is final is what the same query over all records gives
CREATE FUNCTION wrong_rows(name text, query text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
	EXECUTE format('SELECT count(*) FROM ((TABLE %1$s EXCEPT ALL SELECT * FROM (%2$s) x WHERE lower(w) < at(''12:30'')) UNION ALL (SELECT * FROM (%2$s) x WHERE lower(w) < at(''12:30'') EXCEPT ALL TABLE %1$s)) d', name, query) INTO n;
	RETURN n;
END $$;
SELECT name, wrong_rows(name, query) FROM queries WHERE name <> 'q_session' ORDER BY name COLLATE "C";
SELECT name, (SELECT count(*) FROM kstream.changes(name::regclass) WHERE op = 'insert') = (xpath('//n/text()', query_to_xml('SELECT count(*) AS n FROM ' || name, true, true, '')))[1]::text::bigint AS each_once,
	(SELECT count(*) FROM kstream.changes(name::regclass) WHERE op <> 'insert') AS others FROM queries ORDER BY name COLLATE "C";

-- a partition that was idle: its record is in time by its own partition, but the windows have closed without it
SELECT count(*) FROM (SELECT kstream.step('q_greatest', 100, '2 hours'), kstream.step('q_side', 100, '2 hours')) s;
SELECT mark('q_greatest'), hm(w), n, m FROM q_greatest WHERE lower(w) >= at('12:30') ORDER BY w;
INSERT INTO b (k, w, ts, _partition) VALUES ('end', 8, at('13:00:30'), 1);
INSERT INTO a VALUES ('end', 8, at('13:00:20')), ('end', 9, at('18:00'));
INSERT INTO b (k, w, ts, _partition) VALUES ('end', 9, at('18:00:01'), 1);
SELECT kstream.step('q_greatest'), kstream.step('q_side');
SELECT name, late FROM kstream.stat_query WHERE name IN ('q_greatest', 'q_side') ORDER BY name;
SELECT query, relation::regclass, "partition", "offset", event_time, stream_time, "window", watermark FROM kstream.late_records WHERE query = 'q_side' ORDER BY topic COLLATE "C", "offset";
-- a join whose windows do not close takes them in
SELECT kstream.create_table_as('open', query, grace => '10 s', paused => true, idle_timeout => '1 hour') FROM queries WHERE name = 'q_side';
SELECT kstream.step('open', 1000);
SELECT late FROM kstream.stat_query WHERE name = 'open';
SELECT hm(w), n FROM open WHERE k = 'end' ORDER BY w;

-- a branch without a join has records that may be late, matches have none: not together
\set VERBOSITY terse
SELECT kstream.create_table_as('r', 'SELECT kstream.tumble(t, ''1 min'') AS w, count(*) AS n FROM (SELECT a.ts AS t FROM a JOIN b ON b.ts = a.ts UNION ALL SELECT b.ts FROM b) u GROUP BY 1', emit => 'final');
SELECT kstream.create_table_as('r', 'SELECT kstream.tumble(a.ts + interval ''1 h'', ''1 min'') AS w, count(*) AS n FROM a JOIN b ON b.ts = a.ts GROUP BY 1', emit => 'final');
SELECT kstream.create_table_as('r', 'SELECT kstream.tumble(greatest(a.ts, ''2024-01-01''), ''1 min'') AS w, count(*) AS n FROM a JOIN b ON b.ts = a.ts GROUP BY 1', emit => 'final');
DROP SCHEMA ssjoin_windows CASCADE;
