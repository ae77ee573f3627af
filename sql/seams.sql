-- Where time and outputs meet: changes of windows, of joins of streams and of what expires; streams made by joins; duplicates before windows.
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS kstream;
CREATE SCHEMA seams;
SET search_path = seams, public;
SET timezone = 'UTC';
SET datestyle = 'ISO';

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

-- the changes of a table from a position on, short
CREATE FUNCTION changed(relation regclass, since bigint DEFAULT 0) RETURNS TABLE (op text, old text, new text, event_time text) LANGUAGE sql AS $$
	SELECT op, (SELECT string_agg(value, ' ' ORDER BY n) FROM jsonb_each_text(old) WITH ORDINALITY x(k, value, n)),
		(SELECT string_agg(value, ' ' ORDER BY n) FROM jsonb_each_text(new) WITH ORDINALITY x(k, value, n)), event_time::text
	FROM kstream.changes(relation, since) ORDER BY position;
$$;

-- do all changes together leave the rows of the table?
CREATE FUNCTION folds(relation regclass) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	equal boolean;
BEGIN
	EXECUTE format($q$
		WITH folded AS (
			SELECT jsonb_populate_record(NULL::%1$s, image::jsonb)::text AS row FROM (
				SELECT image, sum(n)::int AS n FROM kstream.changes('%1$s', max_rows => NULL),
				LATERAL (VALUES (new::text, 1), (old::text, -1)) i(image, n) WHERE image IS NOT NULL GROUP BY image) f,
			generate_series(1, abs(n))), kept AS (SELECT t::text AS row FROM %1$s t)
		SELECT NOT EXISTS ((SELECT row FROM folded EXCEPT ALL SELECT row FROM kept) UNION ALL (SELECT row FROM kept EXCEPT ALL SELECT row FROM folded))
	$q$, relation) INTO equal;
	RETURN equal;
END $$;

SELECT kstream.create_stream('s', 'k text, v int, ts timestamptz', "timestamp" => 'ts', server => 'local');

-- windows that change, and leave when their time has come
SELECT kstream.create_table_as('tumbling', $$SELECT kstream.tumble(ts, '1 min') AS w, k, sum(v) AS n FROM s GROUP BY 1, 2$$,
	retention => '2 min', keep_changes => '1 day', paused => true);
-- the same with a state of its own
SELECT kstream.create_table_as('having', $$SELECT kstream.tumble(ts, '1 min') AS w, sum(v) AS n FROM s GROUP BY 1 HAVING count(*) < 3$$,
	retention => '2 min', keep_changes => '1 day', paused => true);
-- windows that come once
SELECT kstream.create_table_as('final', $$SELECT kstream.tumble(ts, '1 min') AS w, k, count(*) AS n FROM s GROUP BY 1, 2$$,
	emit => 'final', retention => '2 min', keep_changes => '1 day', paused => true);
-- sessions
SELECT kstream.create_table_as('sessions', $$SELECT kstream.session(ts, '30 s') AS w, k, count(*) AS n FROM s GROUP BY 1, 2$$,
	grace => '10 min', keep_changes => '1 day', paused => true);
SELECT kstream.create_table_as('listed', $$SELECT kstream.session(ts, '30 s') AS w, k, string_agg(v::text, ',') AS vs FROM s GROUP BY 1, 2$$,
	grace => '10 min', retention => '10 min', keep_changes => '1 day', paused => true);
-- rows that expire
SELECT kstream.create_table_as('rows', $$SELECT k, v, ts FROM s$$, retention => '2 min', keep_changes => '1 day', paused => true);

CREATE FUNCTION step_all() RETURNS void LANGUAGE sql AS $$
	SELECT kstream.step(t) FROM unnest(ARRAY['tumbling', 'having', 'final', 'sessions', 'listed', 'rows']) t;
$$;
CREATE FUNCTION fold_all() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT t || ' does not fold' FROM unnest(ARRAY['tumbling', 'having', 'final', 'sessions', 'listed', 'rows']) t WHERE NOT folds(t::regclass);
$$;

INSERT INTO s VALUES ('a', 1, '2026-01-01 12:00:10'), ('a', 2, '2026-01-01 12:00:50'), ('b', 3, '2026-01-01 12:00:20');
SELECT step_all();
SELECT * FROM changed('tumbling');
SELECT * FROM changed('having');
SELECT * FROM changed('final');
SELECT * FROM changed('sessions');
SELECT * FROM fold_all();

-- a bridge makes two sessions of a one; the minute closes
INSERT INTO s VALUES ('a', 4, '2026-01-01 12:00:30'), ('b', 5, '2026-01-01 12:01:05');
SELECT kstream.position('sessions') AS sessions, kstream.position('listed') AS listed, kstream.position('tumbling') AS tumbling \gset
SELECT step_all();
SELECT * FROM changed('sessions', :sessions);
SELECT * FROM changed('listed', :listed);
SELECT * FROM changed('final');
SELECT * FROM changed('tumbling', :tumbling);
SELECT * FROM fold_all();

-- a session that grows backwards keeps nothing of its old bounds
INSERT INTO s VALUES ('b', 6, '2026-01-01 11:59:55');
SELECT kstream.position('sessions') AS sessions \gset
SELECT step_all();
SELECT * FROM changed('sessions', :sessions);
SELECT * FROM fold_all();

-- what is over leaves: deletes at the last moment of the window, of a row at its event time
INSERT INTO s VALUES ('c', 7, '2026-01-01 12:04:00');
SELECT kstream.position('tumbling') AS tumbling, kstream.position('having') AS having, kstream.position('final') AS final, kstream.position('rows') AS rows,
	kstream.position('listed') AS listed \gset
SELECT step_all();
SELECT * FROM changed('tumbling', :tumbling);
SELECT * FROM changed('having', :having);
SELECT * FROM changed('final', :final);
SELECT * FROM changed('rows', :rows);
SELECT * FROM changed('listed', :listed);
SELECT * FROM fold_all();

-- ... and by the clock
SELECT kstream.position('tumbling') AS tumbling, kstream.position('final') AS final, kstream.position('listed') AS listed \gset
SELECT kstream.step(t, 100, '1 hour') FROM unnest(ARRAY['tumbling', 'having', 'final', 'sessions', 'listed', 'rows']) t;
SELECT * FROM changed('tumbling', :tumbling);
SELECT * FROM changed('final', :final);
SELECT * FROM changed('listed', :listed) ORDER BY old;
SELECT * FROM fold_all();

-- a window in a sub-select or UNION ALL knows its records without running them one by one, unless their order matters
SELECT kstream.create_table_as('summed', $$SELECT w, count(*) AS n, sum(v) AS total FROM (SELECT kstream.tumble(ts, '1 min') AS w, v FROM s UNION ALL SELECT kstream.tumble(ts, '5 min'), v FROM s) q GROUP BY w$$,
	keep_changes => '1 day', paused => true);
SELECT kstream.create_table_as('ordered', $$SELECT w, string_agg(v::text, '') AS vs FROM (SELECT kstream.tumble(ts, '1 min') AS w, v FROM s UNION ALL SELECT kstream.tumble(ts, '1 min'), v FROM s) q GROUP BY w$$,
	paused => true);
CREATE VIEW seen AS SELECT kstream.tumble(ts, '1 min') AS w, v FROM s;
SELECT kstream.create_table_as('viewed', $$SELECT w, count(*) AS n FROM (SELECT kstream.tumble(ts, '2 min') AS w FROM s UNION ALL SELECT w FROM seen) q GROUP BY w$$, paused => true);
SELECT t, kstream.explain(t) LIKE '%each record%' AS one_by_one FROM unnest(ARRAY['summed', 'ordered', 'viewed']) t;
SELECT kstream.step('summed', 2), kstream.step('summed'), kstream.step('ordered'), kstream.step('viewed');
SELECT * FROM summed ORDER BY w, n;
SELECT w, vs FROM ordered ORDER BY w;
SELECT * FROM viewed ORDER BY w, n;
SELECT folds('summed');

-- duplicates are not late: they advance the time of their partition and are seen by nobody
SELECT kstream.create_stream('once', 'id int, ts timestamptz', "timestamp" => 'ts', server => 'local', dedup_key => 'id', dedup_window => '1 hour');
SELECT kstream.create_table_as('counted', $$SELECT kstream.tumble(ts, '1 min') AS w, count(*) AS n FROM once GROUP BY 1$$, emit => 'final', keep_changes => '1 day', paused => true);
INSERT INTO once VALUES (1, '2026-01-01 12:00:10'), (1, '2026-01-01 12:00:20'), (2, '2026-01-01 12:00:30'), (1, '2026-01-01 12:02:00'), (1, '2026-01-01 12:00:40'), (3, '2026-01-01 12:00:50');
SELECT kstream.step('counted');
SELECT * FROM counted;
SELECT late, duplicates FROM kstream.stat_query WHERE relation = 'counted'::regclass;
SELECT "offset", event_time, stream_time FROM kstream.late_records WHERE query = 'counted';
SELECT * FROM changed('counted');

-- a join of streams: matches at the greatest event time of their records, null rows at their own
SELECT kstream.create_stream('a', 'k int, x text, ts timestamptz', "timestamp" => 'ts', server => 'local');
SELECT kstream.create_stream('b', 'k int, y text, ts timestamptz', "timestamp" => 'ts', server => 'local');
SELECT kstream.create_table_as('joined', $$SELECT a.k, x, y FROM a LEFT JOIN b ON a.k = b.k AND b.ts BETWEEN a.ts AND a.ts + interval '1 min'$$, keep_changes => '1 day', paused => true);
SELECT kstream.create_table_as('grouped', $$SELECT k, count(*) AS n, count(y) AS met FROM (SELECT a.k, y FROM a LEFT JOIN b ON a.k = b.k AND b.ts BETWEEN a.ts AND a.ts + interval '1 min') j GROUP BY k$$, keep_changes => '1 day', paused => true);
-- together with rows of a stream that is joined with none
SELECT kstream.create_table_as('both', $$SELECT a.k, x || y AS z FROM a JOIN b ON a.k = b.k AND b.ts BETWEEN a.ts AND a.ts + interval '1 min' UNION ALL SELECT v, k FROM s$$, keep_changes => '1 day', paused => true);
-- streams of matches, without a key and with one
SELECT kstream.create_stream_as('matches', $$SELECT a.k, x, y FROM a LEFT JOIN b ON a.k = b.k AND b.ts BETWEEN a.ts AND a.ts + interval '1 min'$$, server => 'local', grace => '30 s', paused => true);
SELECT kstream.create_stream('keyed', 'k int, z text', server => 'local');
SELECT kstream.insert_into('keyed', $$SELECT a.k, x || y AS z, a.k::text AS _key FROM a JOIN b ON a.k = b.k AND b.ts BETWEEN a.ts AND a.ts + interval '1 min' UNION ALL SELECT v, 'one of s', 's' FROM s$$, 'pairs', paused => true);
SELECT kstream.create_table_as('from_matches', $$SELECT k, count(y) AS n, max(_timestamp) AS last FROM matches GROUP BY k$$, paused => true);
SELECT kstream.create_table_as('from_windows', $$SELECT kstream.tumble(_timestamp, '1 min') AS w, count(*) AS n FROM matches GROUP BY 1$$, emit => 'final', paused => true);

INSERT INTO a VALUES (1, 'a1', '2026-01-01 12:00:00'), (2, 'a2', '2026-01-01 12:00:10');
INSERT INTO b VALUES (1, 'b1', '2026-01-01 12:00:30');
SELECT kstream.step(t) FROM unnest(ARRAY['joined', 'grouped', 'both', 'matches', 'pairs']) t;
INSERT INTO b VALUES (1, 'b1 again', '2026-01-01 12:00:20'), (3, 'b3', '2026-01-01 12:05:00');
INSERT INTO a VALUES (3, 'a3', '2026-01-01 12:05:00');
SELECT kstream.step(t) FROM unnest(ARRAY['joined', 'grouped', 'both', 'matches', 'pairs']) t;
SELECT * FROM changed('joined');
SELECT * FROM changed('grouped');
SELECT * FROM changed('both') ORDER BY new;
SELECT folds('joined'), folds('grouped'), folds('both');
SELECT _key, k, x, y, _timestamp FROM matches ORDER BY _offset;
SELECT _key, k, z, _timestamp >= '2026-01-01 11:59:00' AND _timestamp < '2026-01-02' AS timed FROM keyed ORDER BY _offset;
SELECT kstream.step('from_matches'), kstream.step('from_windows');
SELECT * FROM from_matches ORDER BY k;
SELECT * FROM from_windows ORDER BY w;
-- the buffers of a query that feeds a stream go with it
SELECT count(*) > 0 AS buffers FROM pg_class, kstream_catalog.query q WHERE q.name = 'pairs' AND relname LIKE 'j\_' || q.id || '\_%' \gset
SELECT id FROM kstream_catalog.query WHERE name = 'pairs' \gset
SELECT kstream.drop_query('pairs');
SELECT :'buffers' AS before, count(*) AS after FROM pg_class WHERE relname LIKE 'j\_' || :id || '\_%';
SELECT id FROM kstream_catalog.query WHERE relation = 'matches'::regclass \gset
DROP TABLE from_matches, from_windows;
DROP FOREIGN TABLE matches;
SELECT count(*) FROM pg_class WHERE relname LIKE 'j\_' || :id || '\_%';

-- what a stream of a query cannot do
SELECT try($$SELECT kstream.create_stream_as('no', 'SELECT k FROM s', server => 'local', emit => 'final')$$);
SELECT try($$SELECT kstream.create_stream_as('no', 'SELECT k, ts FROM s', server => 'local', retention => '1 day')$$);
SELECT try($$SELECT kstream.create_stream_as('no', 'SELECT k, ts FROM s', server => 'local', grace => '1 min')$$);
SELECT try($$SELECT kstream.insert_into('keyed', 'SELECT v, k FROM s', 'no', emit => 'final')$$);
SELECT try($$SELECT kstream.insert_into('keyed', 'SELECT v, k FROM s', 'no', retention => '1 day')$$);
SELECT try($$SELECT kstream.create_stream_as('no', 'SELECT a.k FROM a JOIN b ON a.k = b.k', server => 'local')$$);

DROP SCHEMA seams CASCADE;
