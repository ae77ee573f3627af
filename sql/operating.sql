-- Verbs, views, rights, dead letters and what a restore does.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS kstream;
CREATE SCHEMA operating;
SET search_path = operating, public;
CREATE ROLE regress_kstream_ann;
CREATE ROLE regress_kstream_bob;
CREATE ROLE regress_kstream_watch IN ROLE pg_monitor;
GRANT USAGE, CREATE ON SCHEMA operating TO regress_kstream_ann, regress_kstream_bob;
GRANT USAGE ON SCHEMA operating TO regress_kstream_watch;
CREATE FUNCTION try(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	state text; message text; hint text;
BEGIN
	EXECUTE command;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', state, message, nullif(hint, ''));
END $$;

SET ROLE regress_kstream_ann;
SELECT kstream.create_stream('events', 'id int, kind text, n text', server => 'local', partitions => 2);
CREATE TABLE kinds (kind text PRIMARY KEY, label text);
INSERT INTO kinds VALUES ('a', 'first'), ('b', 'second');
SELECT kstream.create_table_as('counts', 'SELECT kind, count(*) AS n, sum(n::int) AS total FROM events GROUP BY kind', paused => true);
SELECT kstream.create_table_as('labelled', 'SELECT e.id, k.label, e.n::int AS n FROM events e LEFT JOIN kinds k USING (kind)', paused => true);
INSERT INTO events (id, kind, n, _partition) VALUES (1, 'a', '1', 0), (2, 'b', 'two', 0), (3, 'a', '3', 1), (4, 'b', '4', 1), (5, NULL, '5', 0);
SELECT kstream.step('counts'), kstream.step('labelled');
TABLE counts ORDER BY kind;
TABLE labelled ORDER BY id;

-- what the views say
SELECT name, kind, owner, state, last_error, restarts FROM kstream.queries WHERE name IN ('counts', 'labelled') ORDER BY 1;
SELECT name, kind, primary_key, server FROM kstream.tables WHERE name IN ('counts', 'labelled') ORDER BY 1;
SELECT query, relation, topic, partition, "offset", key, convert_from(value, 'UTF8') AS value, headers, sqlstate, message
FROM kstream.dead_letters WHERE query IN ('counts', 'labelled') ORDER BY 1;
SELECT name, records_in, records_out, late, dead, duplicates FROM kstream.stat_query WHERE name IN ('counts', 'labelled') ORDER BY 1;
SELECT query, topic, partition, position, source FROM kstream.stat_partition WHERE query = 'counts' ORDER BY partition;
SELECT name, role, bytes > 0 AS bytes FROM kstream.stat_store WHERE name IN ('counts', 'labelled', 'events') ORDER BY 1, 2;
SELECT count(*) FROM kstream.late_records;
\pset tuples_only
\pset format unaligned
SELECT kstream.topology('labelled');
SELECT kstream.topology('events', 'dot');
SELECT kstream.topology('counts', format => 'mermaid');
SELECT kstream.topology() LIKE '%table operating.counts (aggregate)%';
SELECT try($$SELECT kstream.topology('counts', 'png')$$);
SELECT kstream.explain('counts') LIKE '%operating.counts%';

-- verbs name a table that kstream keeps
SELECT try($$SELECT kstream.pause('kinds')$$);
SELECT try($$SELECT kstream.resume('events')$$);
SELECT try($$SELECT kstream.reset('no_such_table')$$);
SELECT try($$SELECT kstream.explain(NULL)$$);
SELECT try($$SELECT kstream.reset('counts', 'some day')$$);

-- others may not look or touch; pg_monitor looks, but not at what records hold
SET ROLE regress_kstream_bob;
SELECT try($$SELECT kstream.pause('counts')$$);
SELECT try($$SELECT kstream.reset('counts')$$);
SELECT try($$SELECT kstream.resume('counts')$$);
SELECT try($$SELECT kstream.explain('counts')$$);
SELECT try($$SELECT kstream.topology('counts')$$);
SELECT try($$SELECT kstream.replay_dead_letters('counts')$$);
SELECT try($$SELECT kstream.step('counts')$$);
SELECT try($$SELECT kstream.create_table_as('stolen', 'SELECT id FROM events', paused => true)$$);
SELECT try($$SELECT * FROM kstream_catalog.query$$);
SELECT try($$CREATE SERVER regress_kstream FOREIGN DATA WRAPPER kstream$$);
SELECT kstream.topology();
SELECT count(*) FROM kstream.queries;
SELECT count(*) FROM kstream.dead_letters;
SELECT count(*) FROM kstream.stat_partition;
SELECT count(*) FROM kstream.streams;
SET ROLE regress_kstream_watch;
SELECT query, "offset", value IS NULL, message FROM kstream.dead_letters WHERE relation IN ('counts'::regclass, 'labelled'::regclass) ORDER BY 1;
SELECT name, state FROM kstream.queries WHERE relation IN ('counts'::regclass, 'labelled'::regclass) ORDER BY 1;
SELECT kstream.explain('counts') LIKE '%operating.counts%';
SELECT try($$SELECT kstream.pause('counts')$$);

-- dead letters once more: the same record fails again, or not
SET ROLE regress_kstream_ann;
SELECT kstream.replay_dead_letters('counts');
CREATE OR REPLACE FUNCTION number(text) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN $1::int; END $$;
SELECT kstream.create_table_as('numbers', 'SELECT id, number(n) AS n FROM events', paused => true);
SELECT kstream.step('numbers');
CREATE OR REPLACE FUNCTION number(text) RETURNS int IMMUTABLE LANGUAGE plpgsql
AS $$ BEGIN RETURN CASE WHEN $1 ~ '^\d+$' THEN $1::int ELSE -1 END; END $$;
SELECT kstream.replay_dead_letters('numbers');
SELECT kstream.replay_dead_letters('numbers');
SELECT * FROM numbers ORDER BY id;
SELECT count(*) FROM kstream.dead_letters WHERE query = 'numbers';
SELECT kstream.step('numbers');

-- reset begins anew, from the start it is given
SELECT kstream.reset('counts');
TABLE counts;
SELECT count(*) FROM kstream.dead_letters WHERE query = 'counts';
SELECT kstream.step('counts');
TABLE counts ORDER BY kind;
SELECT kstream.reset('counts', 'latest');
SELECT kstream.step('counts');
INSERT INTO events (id, kind, n) VALUES (6, 'c', '6');
SELECT kstream.step('counts');
TABLE counts;

-- a new owner owns all parts
RESET ROLE;
ALTER TABLE counts OWNER TO regress_kstream_bob;
SELECT DISTINCT relowner::regrole FROM pg_class c JOIN kstream_catalog.query q ON c.oid IN (q.relation, q.view, q.state, q.inputs)
WHERE q.relation = 'counts'::regclass;
GRANT SELECT ON events TO regress_kstream_bob;
SET ROLE regress_kstream_bob;
INSERT INTO counts VALUES ('x');
SELECT kstream.step('counts');
RESET ROLE;

-- a row that a dump brings belongs to no database until it is resumed
SET client_min_messages = notice;
BEGIN;
CREATE TEMP TABLE dump AS SELECT * FROM kstream_catalog.query WHERE relation = 'labelled'::regclass;
DELETE FROM kstream_catalog.query WHERE relation = 'labelled'::regclass;
DELETE FROM pg_depend WHERE deptype = 'i' AND refobjid = 'labelled'::regclass AND classid = 'pg_class'::regclass
	AND objid = (SELECT view FROM dump);
INSERT INTO kstream_catalog.query SELECT * FROM dump;
COMMIT;
SET client_min_messages = warning;
SELECT name, state, detail FROM kstream.queries WHERE name = 'labelled';
SELECT count(*) FROM pg_depend d JOIN dump ON d.objid = dump.view AND d.refobjid = dump.relation AND d.deptype = 'i';
BEGIN;
SELECT kstream.resume('labelled');
SELECT kstream.pause('labelled');
COMMIT;
SELECT name, state FROM kstream.queries WHERE name = 'labelled';

-- the catalog follows a drop whatever the session's role in replication is
CREATE TABLE before AS SELECT count(*) AS n FROM kstream_catalog.query;
SET session_replication_role = replica;
SELECT kstream.create_table_as('brief', 'SELECT id FROM events', paused => true);
DROP TABLE brief;
RESET session_replication_role;
SELECT count(*) - n FROM kstream_catalog.query, before GROUP BY n;

-- roles that go take theirs along
DROP OWNED BY regress_kstream_bob;
SELECT count(*) FROM kstream.queries WHERE name = 'counts';
REASSIGN OWNED BY regress_kstream_ann TO regress_kstream_bob;
SELECT name, owner FROM kstream.queries WHERE name IN ('labelled', 'numbers') ORDER BY 1;
DROP OWNED BY regress_kstream_bob CASCADE;
DROP OWNED BY regress_kstream_ann;
SELECT count(*) FROM kstream_catalog.query q LEFT JOIN pg_class c ON c.oid = q.relation WHERE c.oid IS NULL;
DROP SCHEMA operating CASCADE;
DROP ROLE regress_kstream_ann, regress_kstream_bob, regress_kstream_watch;
