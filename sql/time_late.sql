-- Lateness: a record is late for a window iff end + grace <= _stream_time, its own partition's, itself included.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS kstream;
CREATE SCHEMA time_late;
SET search_path = time_late, public;
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
CREATE FUNCTION hm(tstzrange) RETURNS text LANGUAGE sql STABLE AS $$SELECT to_char(lower($1), 'HH24:MI:SS') || '-' || to_char(upper($1), 'HH24:MI:SS')$$;
CREATE VIEW late AS SELECT query, partition, "offset", to_char(event_time, 'HH24:MI:SS') AS event, to_char(stream_time, 'HH24:MI:SS') AS stream, hm("window") AS w FROM kstream.late_records;

SELECT kstream.create_stream('s', 'id int, ts timestamptz', server => 'local', "timestamp" => 'ts', partitions => 2);
SELECT kstream.create_table_as('nograce', $$SELECT kstream.tumble(ts, '1 min') AS w, array_agg(id ORDER BY id) AS ids FROM s GROUP BY 1$$, paused => true);
SELECT kstream.create_table_as('grace', $$SELECT kstream.tumble(ts, '1 min') AS w, array_agg(id ORDER BY id) AS ids FROM s GROUP BY 1$$, grace => '30 s', paused => true);
SELECT kstream.create_table_as('hops', $$SELECT w, array_agg(id ORDER BY id) AS ids FROM s, kstream.hop(s.ts, '30 s', '1 min') w GROUP BY 1$$, paused => true);
SELECT kstream.create_table_as('sessions', $$SELECT kstream.session(ts, '1 min') AS w, array_agg(id ORDER BY id) AS ids FROM s GROUP BY 1$$, grace => '30 s', paused => true);
INSERT INTO s (id, ts, _partition) VALUES
	(1, '2024-01-01 00:00:30', 0),
	(2, '2024-01-01 00:00:59.999999', 0),
	(3, '2024-01-01 00:00:10', 0),			-- in time: the window is open
	(4, '2024-01-01 00:01:00', 0),			-- closes the first window where there is no grace
	(5, '2024-01-01 00:00:59.999999', 0),	-- end <= stream time: late without grace
	(6, '2024-01-01 00:01:29.999999', 0),
	(7, '2024-01-01 00:00:40', 0),			-- end + 30 s > stream time by a microsecond
	(8, '2024-01-01 00:01:30', 0),
	(9, '2024-01-01 00:00:40', 0),			-- exactly at the close: late with grace, too
	(10, '2024-01-01 00:00:00', 1),			-- the other partition has a time of its own
	(11, NULL, 1),							-- no event time: the record's own counts, here it is far in the future
	(12, '2024-01-01 00:00:00', 1),
	(13, '2023-12-31 00:00:00', 0);			-- far late
SELECT kstream.step('nograce', 100), kstream.step('grace', 100), kstream.step('hops', 100), kstream.step('sessions', 100);
SELECT hm(w), ids FROM nograce ORDER BY w;
SELECT hm(w), ids FROM grace ORDER BY w;
SELECT hm(w), ids FROM hops ORDER BY w;
SELECT hm(w), ids FROM sessions ORDER BY w;
SELECT query, partition, "offset", event, CASE WHEN partition = 0 THEN stream END AS stream, w FROM late ORDER BY query COLLATE "C", partition, "offset", w;
SELECT name, records_in, late, dead FROM kstream.stat_query WHERE relation::regclass IN ('nograce'::regclass, 'grace', 'hops', 'sessions') ORDER BY name COLLATE "C";

-- the same record by record
SELECT kstream.reset(r) FROM unnest('{nograce,grace,hops,sessions}'::text[]) r;
SELECT count(*) FROM late;
SELECT r, count(*) FILTER (WHERE kstream.step(r, 1) = 1) FROM unnest('{nograce,grace,hops,sessions}'::text[]) r, generate_series(1, 14) GROUP BY r ORDER BY r;
SELECT hm(w), ids FROM nograce ORDER BY w;
SELECT hm(w), ids FROM grace ORDER BY w;
SELECT hm(w), ids FROM hops ORDER BY w;
SELECT hm(w), ids FROM sessions ORDER BY w;
SELECT name, records_in, late, dead FROM kstream.stat_query WHERE relation::regclass IN ('nograce'::regclass, 'grace', 'hops', 'sessions') ORDER BY name COLLATE "C";

-- each (record, window) counts once, whatever rows the record makes; rows that WHERE turns away are not late; a bad record is a dead letter only
SELECT kstream.create_stream('m', 'id int, ts timestamptz, tags text[], d int', server => 'local', "timestamp" => 'ts');
SELECT kstream.create_table_as('many', $$SELECT t, kstream.tumble(m.ts, '1 min') AS w, sum(10 / m.d) AS n FROM m, unnest(m.tags) t WHERE m.id <> 3 GROUP BY 1, 2$$, paused => true);
INSERT INTO m VALUES (1, '2024-01-01 00:02:00', '{a,b}', 1), (2, '2024-01-01 00:00:00', '{a,b,b}', 1), (3, '2024-01-01 00:00:00', '{a,b}', 1), (4, '2024-01-01 00:00:00', '{a}', 0), (5, '2024-01-01 00:02:00', '{a}', 2);
SELECT kstream.step('many', 100);
SELECT t, hm(w), n FROM many ORDER BY 1;
SELECT query, "offset", w FROM late WHERE query = 'many';
SELECT records_in, late, dead FROM kstream.stat_query WHERE name = 'many';

-- what counts as event time: each of these is late for its windows or not
CREATE FUNCTION late_of(query text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
	PERFORM kstream.create_table_as('probe', query, paused => true);
	PERFORM kstream.step('probe', 100);
	SELECT late INTO n FROM kstream.stat_query WHERE relation = 'probe'::regclass;
	DROP TABLE probe;
	RETURN n;
END $$;
SELECT kstream.create_stream('d', 'ts timestamptz, other timestamptz', server => 'local', "timestamp" => 'ts');
SELECT kstream.create_stream('u', 'ts timestamp, other timestamptz', server => 'local', "timestamp" => 'ts');
SELECT kstream.create_stream('p', 'other timestamptz', server => 'local');
INSERT INTO d VALUES ('2024-01-02', '2024-01-02'), ('2024-01-01', '2024-01-01');
INSERT INTO u VALUES ('2024-01-02', '2024-01-02'), ('2024-01-01', '2024-01-01');
INSERT INTO p (other, _timestamp) VALUES ('2024-01-02', '2024-01-02'), ('2024-01-01', '2024-01-01');
CREATE VIEW through AS SELECT ts AS t, kstream.tumble(ts, '1 hour') AS w FROM d;
CREATE TABLE labels (t timestamptz, label text);
SELECT q, late_of('SELECT ' || q) FROM unnest(ARRAY[
	$$kstream.tumble(ts, '1 hour') w, count(*) FROM d GROUP BY w$$,
	$$kstream.tumble(coalesce(ts, _timestamp), '1 hour') w, count(*) FROM d GROUP BY w$$,
	$$kstream.tumble(t, '1 hour') w, count(*) FROM (SELECT ts AS t FROM d) x GROUP BY w$$,
	$$w, count(*) FROM (SELECT kstream.tumble(ts, '1 hour') w FROM d) x GROUP BY w$$,
	$$w, count(*) FROM d, LATERAL (SELECT kstream.tumble(d.ts, '1 hour') w) x GROUP BY w$$,
	$$w, count(*) FROM d, kstream.tumble(d.ts, '1 hour') w GROUP BY w$$,
	$$w, count(*) FROM through GROUP BY w$$,
	$$kstream.tumble(t, '1 hour') w, count(*) FROM through GROUP BY 1$$,
	$$w, count(*) FROM (SELECT kstream.tumble(ts, '1 hour') w FROM d UNION ALL SELECT kstream.tumble(ts, '2 hours') FROM d) x GROUP BY w$$,
	$$w, count(*) FROM (SELECT kstream.tumble(ts, '1 hour') w FROM d UNION ALL SELECT kstream.tumble(_timestamp, '1 hour') FROM p) x GROUP BY w$$,
	$$kstream.tumble(d.ts, '1 hour') w, l.label, count(*) FROM d LEFT JOIN labels l ON l.t = d.ts GROUP BY 1, 2$$,
	$$kstream.tumble(ts, '1 hour') w, count(*) FROM d LEFT JOIN (SELECT t AS ts, label FROM labels) l USING (ts) GROUP BY 1$$,
	$$kstream.tumble(j.ts, '1 hour') w, j.label, count(*) FROM (d LEFT JOIN (SELECT t AS ts, label FROM labels) l USING (ts)) AS j GROUP BY 1, 2$$,
	$$x.w, count(*) FROM (WITH c AS (SELECT kstream.tumble(ts, '1 hour') w FROM d) SELECT * FROM c) x GROUP BY 1$$,
	$$kstream.hop(ts, '1 hour', '1 hour') w, count(*) FROM d GROUP BY w$$,
	$$kstream.session(ts, '1 hour') w, count(*) FROM d GROUP BY w$$,
	$$kstream.tumble(_timestamp, '1 hour') w, count(*) FROM p GROUP BY w$$,
	$$kstream.tumble(ts AT TIME ZONE 'UTC', '1 hour') w, count(*) FROM u GROUP BY w$$,
	$$kstream.tumble(ts, '1 hour') w, count(*) FROM u GROUP BY w$$,
	-- these are plain grouping
	$$kstream.tumble(other, '1 hour') w, count(*) FROM d GROUP BY w$$,
	$$kstream.tumble(_timestamp, '1 hour') w, count(*) FROM d GROUP BY w$$,
	$$kstream.tumble(ts + interval '1 hour', '1 hour') w, count(*) FROM d GROUP BY w$$,
	$$lower(kstream.tumble(ts, '1 hour')) w, count(*) FROM d GROUP BY w$$,
	$$date_trunc('hour', ts) w, count(*) FROM d GROUP BY w$$,
	$$kstream.tumble(other, '1 hour') w, count(*) FROM p GROUP BY w$$,
	$$kstream.tumble(ts AT TIME ZONE 'Europe/Berlin', '1 hour') w, count(*) FROM u GROUP BY w$$,
	$$kstream.tumble(l.t, '1 hour') w, count(*) FROM d LEFT JOIN labels l ON l.t = d.ts GROUP BY w$$,
	$$w, count(*) FROM (SELECT kstream.tumble(ts, '1 hour') w FROM d UNION ALL SELECT kstream.tumble(other, '1 hour') FROM p) x GROUP BY w$$]) q;
SET timezone = 'Europe/Berlin';
SELECT late_of($$SELECT kstream.tumble(ts AT TIME ZONE 'UTC', '1 hour') w, count(*) FROM u GROUP BY w$$) AS in_another_zone;
SET timezone = 'UTC';

-- no more than a thousand are kept, the newest; all are counted
SELECT kstream.create_stream('b', 'ts timestamptz', server => 'local', "timestamp" => 'ts');
SELECT kstream.create_table_as('bounded', $$SELECT kstream.tumble(ts, '1 min') AS w, count(*) AS n FROM b GROUP BY 1$$, paused => true);
INSERT INTO b SELECT timestamptz '2024-01-01' - CASE WHEN i > 0 THEN i * interval '1 min' ELSE '0' END FROM generate_series(0, 2500) i;
SELECT kstream.step('bounded', 700), kstream.step('bounded', 500);
SELECT count(*), min("offset"), max("offset") FROM kstream.late_records WHERE query = 'bounded';
SELECT kstream.step('bounded', 2000);
SELECT count(*), min("offset"), max("offset") FROM kstream.late_records WHERE query = 'bounded';
SELECT late FROM kstream.stat_query WHERE name = 'bounded';

-- a dead letter that is replayed may be late by then
CREATE FUNCTION picky(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 10 / $1';
SELECT kstream.create_table_as('replayed', $$SELECT kstream.tumble(ts, '1 min') AS w, sum(picky(d)) AS n FROM m GROUP BY 1$$, paused => true);
SELECT kstream.step('replayed', 100);
CREATE OR REPLACE FUNCTION picky(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 10';
SELECT late, dead FROM kstream.stat_query WHERE name = 'replayed';
SELECT kstream.replay_dead_letters('replayed');
SELECT hm(w), n FROM replayed;
SELECT late FROM kstream.stat_query WHERE name = 'replayed';
SELECT "offset", w FROM late WHERE query = 'replayed' ORDER BY 1;
-- what is dropped takes its late records along
DROP TABLE bounded, replayed;
SELECT count(*) FROM kstream_catalog.late_record l WHERE NOT EXISTS (SELECT FROM kstream_catalog.query q WHERE q.id = l.query);
DROP SCHEMA time_late CASCADE;
