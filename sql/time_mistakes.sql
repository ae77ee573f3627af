-- What windows and retention refuse, or tell, where a query does not mean what it says.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS kstream;
CREATE SCHEMA time_mistakes;
SET search_path = time_mistakes, public;
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
-- one line per query: SQLSTATE, message, hint; or "accepted", after the notices
CREATE FUNCTION try(text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	state text; message text; hint text;
BEGIN
	EXECUTE format('SELECT kstream.create_table_as(''t'', %s, paused => true)', $1);
	DROP TABLE t;
	RETURN 'accepted';
EXCEPTION WHEN feature_not_supported THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
	RETURN state || ' ' || message || ' / ' || hint;
END $$;
SELECT kstream.create_stream('ev', 'customer text, at timestamptz, other timestamptz, ms numeric', server => 'local', "timestamp" => 'at');
SELECT kstream.create_stream('undeclared', 'id int, at timestamptz', server => 'local');
SELECT kstream.create_stream('civil', 'id int, at timestamp', server => 'local', "timestamp" => 'at');
SELECT kstream.create_stream('days', 'id int, at date', server => 'local', "timestamp" => 'at');
CREATE DOMAIN instant AS timestamptz;
SELECT kstream.create_stream('domains', 'id int, at instant', server => 'local', "timestamp" => 'at');
SELECT kstream.create_stream_as('made', 'SELECT customer, at FROM ev', paused => true);
SET client_min_messages = notice;

-- a session is what is grouped by, or nothing
CREATE VIEW sessions AS SELECT customer, kstream.session(at, '30 min') AS w FROM ev;
CREATE TABLE plain (customer text, at timestamptz);
CREATE VIEW plain_sessions AS SELECT customer, kstream.session(at, '30 min') AS w FROM plain;
SELECT q, try(q) FROM unnest(ARRAY[
	$$'SELECT customer, lower(w) AS ws, upper(w) AS we, count(*) FROM (SELECT customer, kstream.session(at, ''30 min'') AS w FROM ev) s GROUP BY 1, 2, 3'$$,
	$$'SELECT lower(kstream.session(at, ''1 min'')), count(*) FROM ev GROUP BY 1'$$,
	$$'SELECT lower(w), count(*) FROM sessions GROUP BY 1'$$,
	$$'SELECT lower(w), count(*) FROM ev, kstream.session(at, ''30 min'') w GROUP BY 1'$$,
	$$'SELECT customer, kstream.session(at, ''30 min'') FROM ev'$$,
	$$'SELECT * FROM sessions'$$,
	$$'SELECT customer, kstream.session(at, ''30 min'') FROM ev UNION ALL SELECT * FROM sessions'$$,
	$$'SELECT customer, count(*) FROM sessions WHERE upper(w) > ''2024-01-01'' GROUP BY 1'$$,
	$$'SELECT customer, count(DISTINCT w) FROM sessions GROUP BY 1'$$,
	$$'SELECT s::text, count(*) FROM sessions s GROUP BY 1'$$,
	$$'SELECT w, max(upper(w)) FROM sessions GROUP BY 1'$$,
	$$'SELECT customer, lower(w), count(*) FROM (SELECT customer, w FROM sessions UNION ALL SELECT customer, w FROM sessions) x GROUP BY 1, 2'$$,
	$$'SELECT e.customer, lower(x.w), count(*) FROM ev e, LATERAL (SELECT kstream.session(e.at, ''1 min'') AS w) x GROUP BY 1, 2'$$,
	-- the way it is meant
	$$'SELECT customer, w, lower(w), (SELECT upper(w)), count(*) FROM sessions GROUP BY customer, w HAVING upper(w) - lower(w) > ''1 min'''$$,
	$$'SELECT w, lower(w), count(*) FROM ev, kstream.session(at, ''30 min'') w GROUP BY 1', emit => 'final'$$,
	$$'SELECT customer, kstream.session(at, ''30 min'') AS w, upper(kstream.session(at, ''30 min'')), count(*) FROM ev GROUP BY 1, 2', emit => 'final'$$,
	$$'SELECT w, count(*) FROM (SELECT customer, w FROM sessions UNION ALL SELECT customer, w FROM sessions) x GROUP BY 1'$$,
	$$'SELECT x.w, count(*) FROM ev e, LATERAL (SELECT kstream.session(e.at, ''1 min'') AS w) x GROUP BY 1', grace => '1 s'$$,
	-- of a table it is data
	$$'SELECT e.customer, p.w, lower(p.w) AS l, count(*) FROM ev e JOIN plain_sessions p ON e.at <@ p.w GROUP BY 1, 2, 3'$$]) q;

-- windows that are none: an error where one is needed, else a notice
SELECT q, try(q) FROM unnest(ARRAY[
	$$'SELECT kstream.tumble(at, ''1 min''), count(*) FROM undeclared GROUP BY 1', grace => '1 s'$$,
	$$'SELECT kstream.tumble(at, ''1 min''), count(*) FROM undeclared GROUP BY 1'$$,
	$$'SELECT kstream.tumble(_timestamp, ''1 min''), count(*) FROM ev GROUP BY 1', emit => 'final'$$,
	$$'SELECT kstream.tumble(_timestamp, ''1 min''), count(*) FROM ev GROUP BY 1'$$,
	$$'SELECT kstream.tumble(at + interval ''2 h'', ''1 min''), count(*) FROM ev GROUP BY 1', retention => '1 day'$$,
	$$'SELECT kstream.tumble(to_timestamp((ms / 1000.0)::float8), ''1 min''), count(*) FROM ev GROUP BY 1', grace => '1 s'$$,
	$$'SELECT kstream.tumble(coalesce(at, now()), ''1 min''), count(*) FROM ev GROUP BY 1', grace => '1 s'$$,
	$$'SELECT kstream.session(other, ''1 min''), count(*) FROM ev GROUP BY 1'$$,
	$$'SELECT lower(w), upper(w), count(*) FROM (SELECT kstream.tumble(at, ''1 min'') AS w FROM ev) x GROUP BY 1, 2', emit => 'final'$$,
	$$'SELECT l, count(*) FROM (SELECT lower(kstream.tumble(at, ''1 min'')) AS l FROM ev) x GROUP BY 1'$$,
	$$'SELECT w, count(*) FROM undeclared, kstream.hop(at, ''1 min'', ''5 min'') w GROUP BY 1'$$,
	$$'SELECT kstream.tumble(at, ''1 min''), count(*) FROM made GROUP BY 1', grace => '1 s'$$,
	$$'SELECT w, count(*) FROM (SELECT kstream.tumble(at, ''1 min'') AS w FROM ev UNION ALL SELECT kstream.tumble(at, ''1 min'') FROM made) x GROUP BY 1', grace => '1 s'$$,
	$$'SELECT w, count(*) FROM ev, kstream.hop(at, ''1 hour'', ''5 min'') w GROUP BY 1'$$,
	$$'SELECT w, count(*) FROM ev, kstream.hop(at, ''5 min'', ''1 hour'') w GROUP BY 1'$$,
	-- meant as it is
	$$'SELECT date_trunc(''hour'', at), count(*) FROM ev GROUP BY 1'$$,
	$$'SELECT kstream.tumble(_timestamp, ''1 min''), count(*) FROM made GROUP BY 1', grace => '1 s'$$,
	$$'SELECT kstream.tumble(at, ''1 min'') AS w, lower(kstream.tumble(at, ''1 min'')), count(*) FROM ev GROUP BY 1, 2', grace => '1 s'$$]) q;

-- event time without a time zone is UTC, whatever the session's is
SELECT set_config('timezone', z, false) AS zone, q, try(q) FROM unnest(ARRAY['Europe/Berlin', 'Etc/UTC', 'Africa/Abidjan', 'UTC']) z, unnest(ARRAY[
	$$'SELECT kstream.tumble(at, ''1 hour''), count(*) FROM civil GROUP BY 1', grace => '1 s'$$,
	$$'SELECT w, count(*) FROM days, kstream.hop(at, ''1 hour'', ''1 day'') w GROUP BY 1'$$,
	$$'SELECT kstream.session(at, ''1 hour''), count(*) FROM civil GROUP BY 1'$$,
	$$'SELECT kstream.tumble(at AT TIME ZONE ''UTC'', ''1 hour''), count(*) FROM civil GROUP BY 1', grace => '1 s'$$,
	$$'SELECT kstream.tumble(at AT TIME ZONE ''Etc/UTC'', ''1 hour''), count(*) FROM civil GROUP BY 1', grace => '1 s'$$,
	$$'SELECT kstream.tumble(at::timestamp AT TIME ZONE ''UTC'', ''1 hour''), count(*) FROM days GROUP BY 1', grace => '1 s'$$]) q;
SET timezone = 'UTC';
SELECT try($$'SELECT kstream.tumble(at AT TIME ZONE ''Europe/Berlin'', ''1 hour''), count(*) FROM civil GROUP BY 1'$$);

-- hop with a slide of months: windows that are as long as their slide meet, as those of tumble
SELECT kstream.hop('2000-03-30 12:00+00', '1 month', '1 month', timestamptz '2000-01-31 10:00+00') AS hop,
	kstream.tumble('2000-03-30 12:00+00', '1 month', timestamptz '2000-01-31 10:00+00') AS tumble;
CREATE TEMP TABLE moments AS SELECT timestamptz '1999-06-01 00:00+00' + i * interval '11 hours 37 min 11 s' AS at,
	timestamptz '2000-01-25 10:00+00' + (i % 8) * interval '1 day' AS origin,
	(ARRAY['Europe/Berlin', 'America/New_York', 'Asia/Kathmandu', 'UTC'])[i % 4 + 1] AS zone,
	(i % 5 + 1) * interval '1 month' AS slide, i % 4 + 1 AS n FROM generate_series(1, 3000) i;
SELECT count(*) FROM moments
WHERE ARRAY(SELECT kstream.hop(at, slide, slide, origin)) IS DISTINCT FROM ARRAY[kstream.tumble(at, slide, origin)]
	OR ARRAY(SELECT kstream.hop(at, slide, slide, zone)) IS DISTINCT FROM ARRAY[kstream.tumble(at, slide, zone)]
	OR (SELECT count(*) FROM kstream.hop(at, slide, slide * n, origin)) <> n
	OR (SELECT count(*) FROM kstream.hop(at, slide, slide * n, zone)) <> n
	OR EXISTS (SELECT FROM kstream.hop(at, slide, slide * n, origin) w WHERE NOT at <@ w);

-- retention of a table without GROUP BY goes by the event time, of whatever type
SELECT try(q) FROM unnest(ARRAY[
	$$'SELECT id, at FROM undeclared', retention => '1 hour'$$,
	$$'SELECT id, _timestamp FROM undeclared', retention => '1 hour'$$,
	$$'SELECT id, coalesce(at, _timestamp) AS at FROM domains', retention => '1 hour'$$]) q;
CREATE FUNCTION fill(stream text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format($q$INSERT INTO %I (id, at, _timestamp) VALUES (1, '2024-01-01', '2024-01-01'), (2, NULL, '2024-01-01'),
		(3, 'infinity', '2024-01-01'), (4, '-infinity', '2024-01-01')$q$, stream);
	EXECUTE format($q$INSERT INTO %I (id, at) VALUES (5, '2024-01-03'), (6, '2024-01-04')$q$, stream);
END $$;
SELECT kstream.create_table_as('kept_' || name, 'SELECT id, at FROM ' || name, retention => '1 day', paused => true)
FROM unnest(ARRAY['civil', 'days', 'domains']) name;
SELECT name, fill(name) FROM unnest(ARRAY['civil', 'days', 'domains']) name;
SELECT name, kstream.step('kept_' || name) FROM unnest(ARRAY['civil', 'days', 'domains']) name, generate_series(1, 2);
SELECT * FROM kept_civil ORDER BY id;
SELECT * FROM kept_days ORDER BY id;
SELECT * FROM kept_domains ORDER BY id;

-- of a join of streams the greatest time, or that of a side which no row is without
SELECT kstream.create_stream('la', 'id int, at timestamptz', server => 'local', "timestamp" => 'at');
SELECT kstream.create_stream('lb', 'id int, at timestamptz', server => 'local', "timestamp" => 'at');
SELECT q, try(format($$'SELECT a.id, %s lb b ON a.id = b.id AND b.at BETWEEN a.at - interval ''1 min'' AND a.at + interval ''1 min''', retention => '1 hour'$$, q))
FROM unnest(ARRAY['b.at FROM la a LEFT JOIN', 'a.at FROM la a RIGHT JOIN', 'a.at, b.at AS b FROM la a FULL JOIN', 'coalesce(b.at, b._timestamp) AS at FROM la a LEFT JOIN',
	'a.at FROM la a LEFT JOIN', 'b.at, a.at AS a FROM la a LEFT JOIN', 'b.at FROM la a JOIN',
	'greatest(b.at, a.at) AS at FROM la a FULL JOIN', 'coalesce(a.at) AS at FROM la a JOIN', 'least(b.at, a.at) AS at FROM la a JOIN']) q;
SELECT kstream.create_table_as('matches', $$SELECT a.id, b.at AS second, greatest(a.at, b.at) AS at
	FROM la a LEFT JOIN lb b ON a.id = b.id AND b.at BETWEEN a.at - interval '1 min' AND a.at + interval '1 min'$$, retention => '1 hour', paused => true);
SELECT indexdef FROM pg_indexes WHERE tablename = 'matches';
SELECT q, try(replace(q, '{on}', 'la a JOIN lb b ON b.at = a.at')) FROM unnest(ARRAY[
	$$'SELECT kstream.tumble(a.at + ''1 h'', ''1 min''), count(*) FROM {on} GROUP BY 1'$$,
	$$'SELECT kstream.tumble(greatest(a.at, now()), ''1 min''), count(*) FROM {on} GROUP BY 1', emit => 'final'$$,
	$$'SELECT kstream.tumble(at, ''1 min''), count(*) FROM (SELECT a.at FROM {on} UNION ALL SELECT at FROM lb) x GROUP BY 1', emit => 'final'$$,
	$$'SELECT lower(kstream.session(a.at, ''1 min'')), count(*) FROM {on} GROUP BY 1'$$,
	$$'SELECT kstream.session(greatest(a.at, b.at), ''1 min'') AS w, lower(kstream.session(greatest(a.at, b.at), ''1 min'')), count(*) FROM {on} GROUP BY 1', emit => 'final'$$]) q;
SET client_min_messages = warning;

-- late_records says which records were late by the watermark alone
SELECT kstream.create_stream('parts', 'at timestamptz', server => 'local', "timestamp" => 'at', partitions => 2);
SELECT kstream.create_table_as('closed', $$SELECT kstream.tumble(at, '1 min') AS w, count(*) FROM parts GROUP BY 1$$, emit => 'final', idle_timeout => '5 min', paused => true);
INSERT INTO parts (at, _partition) VALUES ('2024-01-01 10:00:30', 1), ('2024-01-01 10:00:30', 0);
SELECT kstream.step('closed');
INSERT INTO parts (at, _partition) VALUES ('2024-01-01 10:03', 0);
SELECT kstream.step('closed', 10, '6 min');
INSERT INTO parts (at, _partition) VALUES ('2024-01-01 10:00:40', 1), ('2024-01-01 10:01', 1), ('2024-01-01 10:00:50', 1);
SELECT kstream.step('closed');
SELECT partition, "offset", event_time, stream_time, "window", watermark FROM kstream.late_records WHERE relation = 'closed'::regclass ORDER BY "offset";

-- a record without a time is in the window NULL, which no primary key takes
SELECT kstream.create_table_as('keyed', $$SELECT customer, kstream.tumble(at, '1 min') AS w, count(*) FROM ev GROUP BY 1, 2$$, primary_key => '{customer, w}', paused => true);
INSERT INTO ev (customer, at) VALUES ('a', NULL);
SELECT kstream.step('keyed');
-- nor the text key of a topic; no broker is needed, records wait in the outbox
CREATE SERVER time_kafka FOREIGN DATA WRAPPER kstream OPTIONS (bootstrap_servers '127.0.0.1:1');
SELECT kstream.create_table_as('published', $$SELECT kstream.tumble(at, '1 min') AS w, count(*) FROM ev GROUP BY 1$$, paused => true);
SELECT kstream.create_sink('windows', 'published', 'windows', key_format => 'text', server => 'time_kafka', paused => true);
SELECT kstream.step('published');
DROP SCHEMA time_mistakes CASCADE;
DROP SERVER time_kafka CASCADE;
