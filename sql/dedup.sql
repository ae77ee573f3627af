-- Dropping duplicates: the rules of src/store/dedup.c, what remembers keys, and every refusal.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS kstream;
CREATE SCHEMA dedup;
SET search_path = dedup;
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
-- runs a query to the end in steps of n records; how many it has dropped in all
CREATE FUNCTION drain(name text, n int) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	WHILE kstream.step(drain.name, n) > 0 LOOP END LOOP;
	RETURN (SELECT duplicates FROM kstream.stat_query WHERE relation = drain.name::regclass);
END $$;
-- the tables with the keys that queries of this test have seen
CREATE VIEW parts AS SELECT q.relation AS query, d.relation, d.source, d.number, d.low, d.high
	FROM kstream_catalog.dedup_part d JOIN kstream_catalog.query q ON q.id = d.query
	JOIN pg_class c ON c.oid = q.relation WHERE c.relnamespace = 'dedup'::regnamespace;

-- the window, before and after the last accepted record, which a duplicate does not renew
SELECT kstream.create_stream('s', 'id text, n int, ts timestamptz', "timestamp" => 'ts', server => 'local',
	dedup_key => 'id', dedup_window => '1 hour');
INSERT INTO s VALUES ('a', 1, '2024-01-01 10:00');
INSERT INTO s VALUES ('a', 2, '2024-01-01 10:00');		-- the same once more
INSERT INTO s VALUES ('a', 3, '2024-01-01 11:00');		-- just within
INSERT INTO s VALUES ('a', 4, '2024-01-01 11:00:00.000001');	-- just beyond, of 1 and not of 3
INSERT INTO s VALUES ('a', 5, '2024-01-01 10:00:00.000001');	-- just within, before
INSERT INTO s VALUES ('b', 6, '2024-01-01 10:00');		-- another key
INSERT INTO s VALUES ('a', 7, '2024-01-01 10:00');		-- just beyond, before 4: accepted, now the last
INSERT INTO s VALUES ('a', 8, '2024-01-01 11:00');		-- within of 7
INSERT INTO s VALUES ('a', 9, '2024-01-01 11:00:00.000001');	-- 4 once more, but the last is 7
INSERT INTO s VALUES (NULL, 10, '2024-01-01 11:00'), (NULL, 11, '2024-01-01 11:00');	-- NULL is no key
INSERT INTO s VALUES ('b', 12, '2024-01-01 13:59:59');
INSERT INTO s VALUES ('a', 13, '2024-01-01 11:00:00');		-- more than two windows late, and known
INSERT INTO s VALUES ('a', 14, '2024-01-01 10:59:59');		-- three windows: the last that is compared
INSERT INTO s VALUES ('a', 15, '2024-01-01 10:59:58');		-- more than three: passed on
INSERT INTO s VALUES ('c', 16, '2024-01-01 10:00'), ('c', 17, '2024-01-01 10:00');	-- and not remembered
SELECT kstream.create_table_as('by_one', 'SELECT id, n, ts FROM s', paused => true);
SELECT kstream.create_table_as('by_three', 'SELECT id, n, ts FROM s', paused => true);
SELECT kstream.create_table_as('at_once', 'SELECT count(*) AS records, array_agg(n ORDER BY _offset) AS accepted FROM s', paused => true);
SELECT drain('by_one', 1), drain('by_three', 3), drain('at_once', 1000);
SELECT * FROM by_one ORDER BY n;
TABLE by_one EXCEPT TABLE by_three;
TABLE by_three EXCEPT TABLE by_one;
SELECT *, accepted = (SELECT array_agg(n ORDER BY n) FROM by_one) AS same FROM at_once;
SELECT name, records_in, records_out, late, dead, duplicates FROM kstream.stat_query
	WHERE relation IN ('by_one'::regclass, 'at_once'::regclass) ORDER BY 1;
-- a read of the stream drops nothing
SELECT count(*) FROM s;
SELECT regexp_replace(kstream.explain('by_one'), '\ms\.', '', 'g') AS explain;
SELECT name, dedup_key, dedup_window FROM kstream.streams WHERE relation = 's'::regclass;
SELECT name, role, count(*), sum(bytes) > 0 AS bytes FROM kstream.stat_store
	WHERE name = 'by_one' AND role = 'keys' GROUP BY 1, 2;

-- keys of several columns; metadata columns; equality is that of the type
CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE FOREIGN TABLE k (a text COLLATE nocase, b numeric, "C d" uuid, n int) SERVER local
	OPTIONS (dedup_key 'a, b, "C d", _key');
SELECT dedup_key, dedup_window FROM kstream.streams WHERE relation = 'k'::regclass;
SELECT kstream.create_table_as('k_out', 'SELECT n FROM k', paused => true);
INSERT INTO k (a, b, "C d", n, _key) VALUES
	('x', 1, '00000000-0000-0000-0000-000000000001', 1, 'k'),
	('X', 1.00, '00000000-0000-0000-0000-000000000001', 2, 'k'),	-- equal
	('x', 1.01, '00000000-0000-0000-0000-000000000001', 3, 'k'),
	('x', 1, '00000000-0000-0000-0000-000000000002', 4, 'k'),
	('x', 1, '00000000-0000-0000-0000-000000000001', 5, 'l'),
	('x', 1, '00000000-0000-0000-0000-000000000001', 6, NULL),	-- a NULL among them: no key
	('x', 1, '00000000-0000-0000-0000-000000000001', 7, NULL);
SELECT kstream.step('k_out', 1);
SELECT drain('k_out', 100);
SELECT array_agg(n ORDER BY n) FROM k_out;

-- partitions: one of several copies, whatever partition each is in; counted where it was
SELECT kstream.create_stream('p', 'id int, n int, ts timestamptz', "timestamp" => 'ts', server => 'local', partitions => 3,
	dedup_key => 'id', dedup_window => '10 min');
INSERT INTO p (id, n, ts, _partition) SELECT i % 20, i, '2024-01-01 00:00', i / 20 FROM generate_series(0, 59) i;
SELECT kstream.create_table_as('p_out', 'SELECT id, n FROM p', paused => true);
SELECT drain('p_out', 7);
SELECT count(*), count(DISTINCT id) FROM p_out;
SELECT sum(duplicates) = 40 AS all_counted, bool_and(duplicates <= records) AS counted_where_they_were
	FROM kstream_catalog.position WHERE source = 'p'::regclass;

-- queries that read the stream in more than one place, or more than one stream
SELECT kstream.create_stream('q', 'id int, n int, ts timestamptz', "timestamp" => 'ts', server => 'local');
INSERT INTO q SELECT 1, i, '2024-01-01 00:00' FROM generate_series(1, 3) i;
SELECT kstream.create_table_as('merged', $$
	SELECT 'p' AS source, id FROM p WHERE id < 2 UNION ALL SELECT 'p again', id FROM p WHERE id < 2 UNION ALL SELECT 'q', id FROM q$$, paused => true);
SELECT drain('merged', 11);
SELECT source, id, count(*) FROM merged GROUP BY 1, 2 ORDER BY 1, 2;

-- an accepted record may turn out bad later: it is a dead letter, and its copies are duplicates
SELECT kstream.create_stream('e', 'id int, d int, ts timestamptz', "timestamp" => 'ts', server => 'local', dedup_key => 'id');
INSERT INTO e VALUES (1, 1, '2024-01-01'), (2, 0, '2024-01-01'), (2, 5, '2024-01-01'), (3, 3, '2024-01-01'), (3, 0, '2024-01-01'),
	(1, 7, '2024-01-03'), (2, 2, '2024-01-03');
CREATE TABLE factor AS SELECT 0 AS zero;
CREATE FUNCTION divide(int) RETURNS int STABLE LANGUAGE plpgsql AS $$
BEGIN
	IF $1 = 0 AND (SELECT zero FROM dedup.factor) = 0 THEN RAISE division_by_zero; END IF;
	RETURN 60 / greatest($1, 1);
END $$;
SELECT kstream.create_table_as('e_one', 'SELECT id, d, divide(d) AS x FROM e', paused => true);
SELECT kstream.create_table_as('e_all', 'SELECT id, d, divide(d) AS x FROM e', paused => true);
SELECT drain('e_one', 1), drain('e_all', 100);
SELECT * FROM e_one ORDER BY id, d;
SELECT (SELECT array_agg(e ORDER BY id, d) FROM e_one e)::text = (SELECT array_agg(e ORDER BY id, d) FROM e_all e)::text AS same;
SELECT query, "offset", sqlstate FROM kstream.dead_letters WHERE relation IN ('e_one'::regclass, 'e_all'::regclass) ORDER BY 1;
-- a replay asks nobody: the record has been accepted
UPDATE factor SET zero = 1;
SELECT kstream.replay_dead_letters('e_one'), kstream.replay_dead_letters('e_all');
SELECT * FROM e_one ORDER BY id, d;
SELECT drain('e_one', 1), drain('e_all', 100);
UPDATE factor SET zero = 0;

-- on_error = 'stop': what is behind the bad record has not been accepted, so it makes nothing a duplicate
SELECT kstream.create_stream('st', 'id int, d int, ts timestamptz', "timestamp" => 'ts', server => 'local', partitions => 2, dedup_key => 'id');
INSERT INTO st (id, d, ts, _partition) VALUES
	(1, 1, '2024-01-01', 0), (1, 2, '2024-01-01', 0), (2, 0, '2024-01-01', 0),	-- the last one is bad
	(3, 3, '2024-01-01', 0), (4, 4, '2024-01-01', 0),
	(3, 5, '2024-01-01', 1), (1, 6, '2024-01-01', 1), (4, 7, '2024-01-01', 1);
SELECT kstream.create_table_as('stopped', 'SELECT id, d, divide(d) AS x FROM st', on_error => 'stop', paused => true);
SELECT kstream.step('stopped', 100);
SELECT * FROM stopped ORDER BY id, d;
SELECT duplicates FROM kstream.stat_query WHERE relation = 'stopped'::regclass;
\set VERBOSITY terse
SELECT kstream.step('stopped', 100);
\set VERBOSITY default
UPDATE factor SET zero = 1;
SELECT drain('stopped', 100);
SELECT * FROM stopped ORDER BY id, d;
UPDATE factor SET zero = 0;
-- a record that was a duplicate of one held back may itself be bad
INSERT INTO st (id, d, ts, _partition) VALUES
	(10, 0, '2024-02-01', 0), (11, 1, '2024-02-01', 0), (12, 2, '2024-02-01', 1), (11, 0, '2024-02-01', 1), (13, 3, '2024-02-01', 1);
SELECT kstream.step('stopped', 100);
SELECT * FROM stopped WHERE id >= 10 ORDER BY id, d;
\set VERBOSITY terse
SELECT kstream.step('stopped', 100);
\set VERBOSITY default
UPDATE factor SET zero = 1;
SELECT drain('stopped', 100);
SELECT * FROM stopped WHERE id >= 10 ORDER BY id, d;

-- what a transaction has remembered is forgotten with it
SELECT kstream.create_stream('t', 'id int, ts timestamptz', "timestamp" => 'ts', server => 'local', dedup_key => 'id', dedup_window => '1 min');
SELECT kstream.create_table_as('t_out', 'SELECT id, ts FROM t', paused => true);
INSERT INTO t VALUES (1, '2024-01-01'), (1, '2024-01-01');
BEGIN;
SELECT kstream.step('t_out', 1), kstream.step('t_out', 1);
SELECT count(*) FROM t_out;
ROLLBACK;
SELECT kstream.step('t_out', 1), kstream.step('t_out', 1);
SELECT count(*) FROM t_out;

-- keys leave with whole tables, once no record can be compared with them any more
INSERT INTO t SELECT i, timestamptz '2024-01-02' + i * interval '1 s' FROM generate_series(1, 3600) i;
SELECT drain('t_out', 50);
SELECT count(*) FROM t_out;
SELECT count(*) BETWEEN 2 AND 10 AS some, min(low) > '2024-01-02 00:50' AS old_ones_gone, min(number) > 30 AS many_gone
	FROM parts WHERE query = 't_out'::regclass;
SELECT count(*) = (SELECT count(*) FROM parts WHERE query = 't_out'::regclass) AS no_table_left
	FROM pg_class WHERE relname ~ ('^d_' || (SELECT id FROM kstream.queries WHERE relation = 't_out'::regclass) || '_\d+$');

-- a table with keys belongs to the query, and only kstream writes it
SELECT relation AS part FROM parts WHERE query = 't_out'::regclass ORDER BY number DESC LIMIT 1 \gset
SELECT count(*) > 0 AS readable FROM :part;
SELECT relreplident, relowner = (SELECT relowner FROM pg_class WHERE oid = 't_out'::regclass) AS same_owner
	FROM pg_class WHERE oid = :'part'::regclass;
\set VERBOSITY sqlstate
DELETE FROM :part;
DROP TABLE :part;
\set VERBOSITY default
CREATE ROLE dedup_owner;
GRANT USAGE, CREATE ON SCHEMA dedup TO dedup_owner;
GRANT SELECT ON t TO dedup_owner;
ALTER TABLE t_out OWNER TO dedup_owner;
SELECT DISTINCT c.relowner::regrole FROM parts p JOIN pg_class c ON c.oid = p.relation WHERE p.query = 't_out'::regclass;
INSERT INTO t VALUES (3600, '2024-01-02 01:00:30'), (9999, '2024-01-02 01:00:30');
SET ROLE dedup_owner;
SELECT kstream.step('t_out', 10);
RESET ROLE;
SELECT count(*) FROM t_out;
SELECT drain('t_out', 10);

-- reset forgets everything; the query goes by the rule it began with until then
ALTER FOREIGN TABLE t OPTIONS (SET dedup_window '1 day');
SELECT kstream.reset('t_out');
SELECT count(*) FROM parts WHERE query = 't_out'::regclass;
SELECT drain('t_out', 1000);
ALTER FOREIGN TABLE t OPTIONS (DROP dedup_key, DROP dedup_window);
INSERT INTO t VALUES (1, '2024-01-02 01:00:30');
SELECT drain('t_out', 1000);
SELECT kstream.reset('t_out');
SELECT drain('t_out', 10000);
SELECT count(*) = (SELECT count(*) FROM t) AS nothing_dropped FROM t_out;
SELECT kstream.explain('t_out') LIKE '%Dedup%' AS dedup;
-- a column of the rule that is gone, or of another type
SELECT kstream.create_stream('u', 'id int, extra int', server => 'local', dedup_key => 'extra');
SELECT kstream.create_table_as('u_out', 'SELECT id FROM u', paused => true);
INSERT INTO u VALUES (1, 1), (2, 1);
SELECT drain('u_out', 10);
ALTER FOREIGN TABLE u OPTIONS (SET dedup_key 'id');
ALTER FOREIGN TABLE u ALTER COLUMN extra TYPE bigint;
INSERT INTO u VALUES (3, 1);
SELECT kstream.step('u_out', 10);
ALTER FOREIGN TABLE u ALTER COLUMN extra TYPE text;
ALTER FOREIGN TABLE u ALTER COLUMN extra TYPE json;
SELECT kstream.step('u_out', 10);
ALTER FOREIGN TABLE u DROP COLUMN extra;
SELECT kstream.step('u_out', 10);
SELECT kstream.reset('u_out');
SELECT drain('u_out', 10);
SELECT * FROM u_out ORDER BY id;

-- queries that feed a stream; the keys of one go with it, the stream stays
SELECT kstream.create_stream('fed', 'id int, d int', server => 'local');
SELECT kstream.insert_into('fed', 'SELECT id, d FROM e', name => 'feed', paused => true);
SELECT kstream.step('feed', 3), kstream.step('feed', 100);
SELECT id, array_agg(d ORDER BY _offset) FROM fed GROUP BY id ORDER BY id;
SELECT d.relation AS part FROM kstream_catalog.dedup_part d JOIN kstream_catalog.query q ON q.id = d.query WHERE q.name = 'feed' ORDER BY number LIMIT 1 \gset
SELECT kstream.drop_query('feed');
SELECT to_regclass(:'part') IS NULL AS keys_gone, to_regclass('fed') IS NOT NULL AS stream_there;

-- dropping the table drops the keys
DROP TABLE t_out;
SELECT count(*) FROM kstream_catalog.dedup WHERE source = 't'::regclass;
SELECT count(*) FROM kstream_catalog.dedup_part WHERE source = 't'::regclass;
\set VERBOSITY terse
DROP FOREIGN TABLE p;
\set VERBOSITY default
DROP FOREIGN TABLE p CASCADE;
SELECT count(*) FROM parts WHERE query::text IN ('p_out', 'merged');

-- refusals
CREATE FUNCTION try(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	state text; message text; hint text;
BEGIN
	EXECUTE command;
	RAISE EXCEPTION 'accepted';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(E'\n  ', state || ': ' || message, nullif(hint, ''));
END $$;
CREATE FUNCTION stream(arguments text) RETURNS text LANGUAGE sql AS $$
	SELECT try('SELECT kstream.create_stream(''x'', ''a int, j json, m money, t text'', server => ''local'', ' || arguments || ')')
$$;
\pset tuples_only
\pset format unaligned
SELECT stream($$dedup_key => ''$$);
SELECT stream($$dedup_key => 'nobody'$$);
SELECT stream($$dedup_key => 'a,'$$);
SELECT stream($$dedup_key => 'a, t, a'$$);
SELECT stream($$dedup_key => 'a, j'$$);
SELECT stream($$dedup_key => 'm'$$);
SELECT stream($$dedup_window => '2 h'$$);
SELECT stream($$dedup_key => 'a', dedup_window => '1 month'$$);
SELECT stream($$dedup_key => 'a', dedup_window => '0'$$);
SELECT stream($$dedup_key => 'a', dedup_window => '-1 day'$$);
SELECT stream($$dedup_key => 'a', dedup_window => '1 day -25 h'$$);
SELECT stream($$dedup_key => 'a', dedup_window => '40000 days'$$);
SELECT stream($$dedup_key => 'a', options => '{"dedup_key": "t"}'$$);
SELECT try($$CREATE FOREIGN TABLE x (a int) SERVER local OPTIONS (dedup_window '1 day')$$);
SELECT try($$CREATE FOREIGN TABLE x (a int) SERVER local OPTIONS (dedup_key 'a', dedup_window 'soon')$$);
SELECT try($$CREATE FOREIGN TABLE x (a int) SERVER local OPTIONS (dedup_key 'a', dedup_window '1 year')$$);
SELECT try($$ALTER FOREIGN TABLE s OPTIONS (DROP dedup_key)$$);
SELECT try($$ALTER FOREIGN TABLE s OPTIONS (SET dedup_key 'nobody')$$);
SELECT try($$ALTER FOREIGN TABLE k DROP COLUMN b$$);
SELECT try($$ALTER FOREIGN TABLE k RENAME COLUMN b TO c$$);
CREATE SERVER dedup_kafka FOREIGN DATA WRAPPER kstream OPTIONS (bootstrap_servers 'localhost:1');
SELECT try($$SELECT kstream.create_table('x', 'id int PRIMARY KEY', server => 'dedup_kafka', options => '{"dedup_key": "id"}')$$);
\pset tuples_only off
\pset format aligned

SET client_min_messages = error;
DROP SERVER dedup_kafka;
DROP SCHEMA dedup CASCADE;
SELECT count(*) FROM kstream_catalog.dedup;
SELECT count(*) FROM kstream_catalog.dedup_part;
DROP ROLE dedup_owner;
