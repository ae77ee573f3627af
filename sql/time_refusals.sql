-- What event time refuses, one line each: SQLSTATE, message, hint.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS kstream;
CREATE SCHEMA time_refusals;
SET search_path = time_refusals, public;
SET timezone = 'UTC';
SET intervalstyle = 'postgres';
CREATE FUNCTION query(text) RETURNS TABLE (state text, message text, hint text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('SELECT kstream.create_table_as(''t'', %s, paused => true)', $1);
	state := 'accepted';
	EXECUTE 'DROP TABLE t';
	RETURN NEXT;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
	RETURN NEXT;
END $$;
SELECT kstream.create_stream('s', 'k text, ts timestamptz, other timestamptz, g interval', server => 'local', "timestamp" => 'ts');
CREATE VIEW wrong AS SELECT kstream.tumble(ts, '0') AS w FROM s;
\x
SELECT q, (query(q)).* FROM unnest(ARRAY[
	-- options that need a window of event time
	$$'SELECT k, count(*) FROM s GROUP BY k', emit => 'final'$$,
	$$'SELECT k FROM s', emit => 'final'$$,
	$$'SELECT kstream.tumble(other, ''1 min''), count(*) FROM s GROUP BY 1', emit => 'final'$$,
	$$'SELECT kstream.tumble(_timestamp, ''1 min''), count(*) FROM s GROUP BY 1', emit => 'final'$$,
	$$'SELECT lower(kstream.tumble(ts, ''1 min'')), count(*) FROM s GROUP BY 1', emit => 'final'$$,
	$$'SELECT k, count(*) FROM s GROUP BY k', grace => '1 min'$$,
	$$'SELECT k FROM s', grace => '1 min'$$,
	$$'SELECT k, count(*) FROM s GROUP BY k', retention => '1 day'$$,
	$$'SELECT count(*) FROM s', retention => '1 day'$$,
	$$'SELECT k FROM s', retention => '1 day'$$,
	$$'SELECT k, other FROM s', retention => '1 day'$$,
	$$'SELECT k, ts::date FROM s', retention => '1 day'$$,
	-- values
	$$'SELECT kstream.tumble(ts, ''1 min''), count(*) FROM s GROUP BY 1', emit => 'often'$$,
	$$'SELECT kstream.tumble(ts, ''1 min''), count(*) FROM s GROUP BY 1', grace => '-1 s'$$,
	$$'SELECT kstream.tumble(ts, ''1 min''), count(*) FROM s GROUP BY 1', grace => '1 month'$$,
	$$'SELECT kstream.tumble(ts, ''1 min''), count(*) FROM s GROUP BY 1', retention => '-1 s'$$,
	$$'SELECT kstream.tumble(ts, ''1 min''), count(*) FROM s GROUP BY 1', idle_timeout => '-1 s'$$,
	$$'SELECT kstream.tumble(ts, ''1 min''), count(*) FROM s GROUP BY 1', emit => 'final', retention => '0'$$,
	$$'SELECT kstream.tumble(ts, ''1 min''), count(*) FROM s GROUP BY 1', emit => 'final', retention => '1 min', grace => '1 min'$$,
	-- windows
	$$'SELECT kstream.tumble(ts, ''1 min'') a, kstream.tumble(ts, ''1 hour'') b, count(*) FROM s GROUP BY 1, 2'$$,
	$$'SELECT kstream.session(other, ''1 min''), count(*) FROM s GROUP BY 1'$$,
	$$'SELECT kstream.session(ts + ''1 h'', ''1 min''), count(*) FROM s GROUP BY 1'$$,
	$$'SELECT kstream.session(ts, g), count(*) FROM s GROUP BY 1'$$,
	$$'SELECT w, count(*) FROM (SELECT kstream.session(ts, ''1 min'') w FROM s UNION ALL SELECT kstream.session(ts, ''2 min'') FROM s) x GROUP BY 1'$$,
	$$'SELECT w, count(*) FROM (SELECT kstream.session(ts, ''1 min'') w FROM s UNION ALL SELECT kstream.tumble(ts, ''2 min'') FROM s) x GROUP BY 1'$$,
	$$'SELECT count(*) FROM s GROUP BY kstream.tumble(ts, ''1 min'')'$$,
	-- constants with which every call would fail, wherever they stand
	$$'SELECT kstream.tumble(ts, ''0 min''), count(*) FROM s GROUP BY 1'$$,
	$$'SELECT kstream.tumble(ts, interval ''1 min'' - ''2 min''), count(*) FROM s GROUP BY 1'$$,
	$$'SELECT kstream.tumble(ts, ''1 month 1 day''), count(*) FROM s GROUP BY 1'$$,
	$$'SELECT kstream.tumble(ts, ''1 day'', ''Mars/Olympus''), count(*) FROM s GROUP BY 1'$$,
	$$'SELECT k, kstream.tumble(ts, ''1 hour'', k), count(*) FROM s GROUP BY 1, 2'$$,
	$$'SELECT kstream.tumble(ts, ''1 day'', timestamptz ''infinity''), count(*) FROM s GROUP BY 1'$$,
	$$'SELECT kstream.session(ts, ''1 month''), count(*) FROM s GROUP BY 1'$$,
	$$'SELECT kstream.session(ts, ''-1 s''), count(*) FROM s GROUP BY 1'$$,
	$$'SELECT w, count(*) FROM s, kstream.hop(ts, ''0'', ''1 min'') w GROUP BY 1'$$,
	$$'SELECT w, count(*) FROM s, kstream.hop(ts, ''1 min'', ''-1 min'') w GROUP BY 1'$$,
	$$'SELECT w, count(*) FROM s, kstream.hop(ts, ''1 us'', ''10 days'') w GROUP BY 1'$$,
	$$'SELECT w, count(*) FROM s, kstream.hop(ts, ''1 us'', ''100001 us'') w GROUP BY 1'$$,
	$$'SELECT w, count(*) FROM s, kstream.hop(ts, ''1 s'', ''2 months'') w GROUP BY 1'$$,
	$$'SELECT w, count(*) FROM s, kstream.hop(ts, g, ''1 day 1 s'', ''Europe/Berlin'') w GROUP BY 1'$$,
	$$'SELECT k, lower(kstream.tumble(other, ''0'')) FROM s'$$,
	$$'WITH x AS (SELECT kstream.tumble(ts, ''-1 s'') w FROM s) SELECT w, count(*) FROM x GROUP BY 1'$$,
	$$'SELECT w, count(*) FROM wrong GROUP BY 1'$$,
	-- accepted
	$$'SELECT w, count(*) FROM s, kstream.hop(ts, ''1 us'', ''100000 us'') w GROUP BY 1'$$,
	$$'SELECT w, count(*) FROM s, kstream.hop(ts, ''1 month'', ''1000 years'', ''Europe/Berlin'') w GROUP BY 1'$$,
	$$'SELECT kstream.tumble(ts, ''1 min''), count(*) FROM s GROUP BY 1', emit => 'final', retention => '1 min 1 us', grace => '1 min', idle_timeout => '0'$$,
	$$'SELECT kstream.session(ts, ''1 min'' + interval ''1 s''), count(*) FROM s GROUP BY 1', grace => '1 day', retention => '30 days'$$,
	$$'SELECT k, ts FROM s UNION ALL SELECT k, coalesce(ts, _timestamp) FROM s', retention => '1 day'$$,
	$$'SELECT k, count(*) FROM s GROUP BY k', grace => '0'$$]) q;
\x
-- what an accepted one keeps
SELECT kstream.create_table_as('t', 'SELECT kstream.tumble(ts, ''1 min'') AS w, count(*) AS n FROM s GROUP BY 1', grace => '1 min', retention => '2 days', emit => 'final', idle_timeout => '3 h', paused => true);
SELECT grace, retention, emit, idle_timeout FROM kstream_catalog.query WHERE relation = 't'::regclass;
SELECT regexp_replace(regexp_replace(kstream.explain('t'), '_state\.\w+', '_state.s', 'g'), '\ms\.', '', 'g') AS explain;
-- what is not constant is checked for each record: a wrong one is that record's fault
SELECT kstream.create_table_as('h', 'SELECT k, w, count(*) AS n FROM s, kstream.hop(ts, g, ''10 days'') w GROUP BY k, w', paused => true);
INSERT INTO s (k, ts, g) VALUES ('a', '2024-01-01', '1 us'), ('b', '2024-01-01', '5 days'), ('c', '2024-01-01', '0'), ('d', '2024-01-01', '10 days');
SELECT kstream.step('h');
SELECT k, w, n FROM h ORDER BY k, w;
SELECT "offset", sqlstate, message FROM kstream.dead_letters WHERE relation = 'h'::regclass ORDER BY "offset";
SELECT count(*) FROM kstream.hop('2024-01-01', '1 us', '0.1 s');
SELECT count(*) FROM kstream.hop('2024-01-01', '1 us', '10 days');
DROP SCHEMA time_refusals CASCADE;
