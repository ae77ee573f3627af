-- What must not happen to a relation while a sink publishes it, nor to a table that kstream keeps up to date.
-- No broker is needed: records wait in the outbox.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS kstream;
CREATE SCHEMA sink_alter;
SET search_path = sink_alter, public;
CREATE SERVER sink_alter_kafka FOREIGN DATA WRAPPER kstream OPTIONS (bootstrap_servers '127.0.0.1:1');
CREATE FUNCTION try(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	state text; message text; detail text; hint text;
BEGIN
	EXECUTE command;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN regexp_replace(concat_ws(' | ', state, message, nullif(detail, ''), nullif(hint, '')), 'sink_\d+_', 'sink_N_', 'g');
END $$;
-- the name of a trigger of a sink
CREATE FUNCTION capture(sink text, event text) RETURNS text LANGUAGE sql AS
$$SELECT 'kstream_sink_' || id || '_' || event FROM kstream.sinks WHERE name = sink$$;

-- The topic of a stream that was written to.
SELECT kstream.create_stream('r', 'id int, v text', topic => 'r', server => 'sink_alter_kafka');
CREATE FOREIGN TABLE by_name (id int) SERVER sink_alter_kafka;
ALTER FOREIGN TABLE r OPTIONS (SET topic 'other');
ALTER FOREIGN TABLE by_name RENAME TO by_name2;
INSERT INTO r (id) VALUES (1);
INSERT INTO by_name2 (id) VALUES (1);
SELECT name, topic FROM kstream.sinks ORDER BY id;
SELECT try($$ALTER FOREIGN TABLE r OPTIONS (SET topic 'third')$$);
SELECT try($$ALTER FOREIGN TABLE r OPTIONS (DROP topic)$$);
SELECT try($$ALTER FOREIGN TABLE by_name2 RENAME TO by_name3$$);
ALTER FOREIGN TABLE by_name2 OPTIONS (ADD topic 'by_name2');
ALTER FOREIGN TABLE by_name2 RENAME TO by_name3;
ALTER FOREIGN TABLE r RENAME TO r2;
ALTER FOREIGN TABLE r2 OPTIONS (SET format 'csv');
SELECT name, topic FROM kstream.sinks ORDER BY id;

-- The guarantee takes effect: another generation of the sink.
CREATE VIEW guarantees AS SELECT k.name, k.guarantee, c.generation, p.resync FROM kstream_catalog.sink c
	JOIN kstream.sinks k USING (id) JOIN kstream_catalog.published p ON p.sink = c.id WHERE c.relation = 'r2'::regclass;
CREATE TEMP TABLE incarnations AS SELECT incarnation FROM kstream_catalog.sink WHERE relation = 'r2'::regclass;
TABLE guarantees;
ALTER FOREIGN TABLE r2 OPTIONS (ADD guarantee 'at_least_once');
TABLE guarantees;
ALTER FOREIGN TABLE r2 OPTIONS (SET format 'json');
TABLE guarantees;
SELECT count(*) AS same_incarnation FROM kstream_catalog.sink JOIN incarnations USING (incarnation);
ALTER FOREIGN TABLE r2 OPTIONS (SET guarantee 'exactly_once');
TABLE guarantees;
SELECT count(*) AS same_incarnation FROM kstream_catalog.sink JOIN incarnations USING (incarnation);
ALTER FOREIGN TABLE r2 OPTIONS (SET guarantee 'at_least_once');
TABLE guarantees;
-- not to exactly once while it is not known where to go on
UPDATE kstream_catalog.published SET resync = 'replay' WHERE sink = (SELECT id FROM kstream.sinks WHERE name = 'r2');
SELECT try($$ALTER FOREIGN TABLE r2 OPTIONS (SET guarantee 'exactly_once')$$);
SELECT try($$ALTER FOREIGN TABLE r2 OPTIONS (SET guarantee 'perhaps')$$);
DROP VIEW guarantees;

-- The key of a sink identifies a row, and goes on doing so.
CREATE TABLE p (id int PRIMARY KEY, v int NOT NULL, u int, w int, x int NOT NULL);
CREATE UNIQUE INDEX p_partial ON p (v) WHERE v > 0;
CREATE UNIQUE INDEX p_expression ON p ((v + 1));
CREATE INDEX p_plain ON p (v);
CREATE UNIQUE INDEX p_null ON p (u);
CREATE UNIQUE INDEX p_include ON p (w) INCLUDE (v) ;
ALTER TABLE p ADD CONSTRAINT p_deferred UNIQUE (x) DEFERRABLE INITIALLY DEFERRED;
SELECT try($$SELECT kstream.create_sink('p', 'p', 'p', key => '{v}')$$);
SELECT try($$SELECT kstream.create_sink('p', 'p', 'p', key => '{x}')$$);
SELECT try($$SELECT kstream.create_sink('p', 'p', 'p', key => '{u}', key_format => 'json')$$);
SELECT try($$SELECT kstream.create_sink('p', 'p', 'p', key => '{u,v}')$$);
SELECT try($$SELECT kstream.create_sink('p', 'p', 'p', key => '{id,id}')$$);
SELECT kstream.create_sink('p', 'p', 'p', paused => true);
SELECT kstream.create_sink('pu', 'p', 'pu', key => '{u}', paused => true);
SELECT kstream.create_sink('pvid', 'p', 'pvid', key => '{v,id}', paused => true);
SELECT kstream.create_sink('pw', 'p', 'pw', key => '{w}', paused => true);
SELECT try($$ALTER TABLE p DROP CONSTRAINT p_pkey$$);
SELECT try($$ALTER TABLE p DROP CONSTRAINT p_pkey, ADD PRIMARY KEY (v, id)$$);
SELECT try($$DROP INDEX p_plain, p_null$$);
DROP INDEX CONCURRENTLY p_null;
SELECT try($$DROP INDEX p_include CASCADE$$);
SELECT try($$ALTER TABLE p DROP COLUMN u$$);
SELECT indexrelid::regclass, indisvalid FROM pg_index WHERE indrelid = 'p'::regclass ORDER BY 1::text;
-- another one does as well; so does one that takes its place
CREATE UNIQUE INDEX p_null2 ON p (u) NULLS NOT DISTINCT;
DROP INDEX p_null;
REINDEX TABLE CONCURRENTLY p;
ALTER TABLE p ALTER COLUMN u TYPE bigint, ALTER COLUMN id TYPE bigint;
ALTER TABLE p DROP CONSTRAINT p_pkey, ADD PRIMARY KEY (id);
SELECT try($$DROP INDEX p_null2$$);
DROP INDEX CONCURRENTLY p_plain;
DROP INDEX p_partial, p_expression;
-- a key that may be NULL, in a format that has NULL
SELECT kstream.drop_sink('pu');
DROP INDEX p_null2;
CREATE UNIQUE INDEX p_null ON p (u);
ALTER TABLE p ALTER COLUMN u SET NOT NULL;
SELECT kstream.create_sink('pu', 'p', 'pu', key => '{u}', key_format => 'json', paused => true);
SELECT try($$ALTER TABLE p ALTER COLUMN u DROP NOT NULL$$);
-- names
SELECT try($$ALTER TABLE p RENAME u TO uu$$);
SELECT kstream.create_sink('ph', 'p', 'ph', headers => $$jsonb_build_object('v', v::text)$$, paused => true);
SELECT try($$ALTER TABLE p RENAME v TO vv$$);
SELECT kstream.drop_sink('pvid');
SELECT try($$ALTER TABLE p RENAME v TO vv$$);
SELECT try($$ALTER TABLE p DROP COLUMN v$$);
SELECT try($$ALTER TABLE p ADD COLUMN y int, DROP COLUMN w$$);
ALTER TABLE p RENAME x TO xx;

-- Triggers of a sink go with it.
SELECT try(format('DROP TRIGGER %I ON p', capture('p', 'insert')));
SELECT try(format('ALTER TRIGGER %I ON p RENAME TO t', capture('p', 'update')));
SELECT try(format('ALTER TABLE p DISABLE TRIGGER %I', capture('p', 'delete')));
SELECT try('ALTER TABLE p DISABLE TRIGGER ALL');
SELECT try('ALTER TABLE p ENABLE TRIGGER USER');
CREATE TRIGGER own BEFORE INSERT ON p FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
ALTER TABLE p DISABLE TRIGGER own;
ALTER TRIGGER own ON p RENAME TO mine;
DROP TRIGGER mine ON p;
SELECT count(*), bool_and(tgenabled = 'A') AS always FROM pg_trigger WHERE tgrelid = 'p'::regclass AND tgname LIKE 'kstream\_sink\_%';

-- Tables that kstream keeps up to date.
SELECT kstream.create_stream('events', 'k text, v int', server => 'local');
SELECT kstream.create_table_as('totals', 'SELECT k, count(*) AS n FROM events GROUP BY k', paused => true);
SELECT kstream.create_table('ktable', 'id int PRIMARY KEY, v int', topic => 'ktable', server => 'sink_alter_kafka');
CREATE TABLE parent (k text, n bigint);
CREATE TABLE parted (k text, n bigint) PARTITION BY LIST (k);
SELECT try('ALTER TABLE totals SET UNLOGGED');
SELECT try('ALTER TABLE ktable SET UNLOGGED');
SELECT try('ALTER TABLE totals INHERIT parent');
SELECT try('ALTER TABLE parent INHERIT totals');
SELECT try('ALTER TABLE parted ATTACH PARTITION totals DEFAULT');
SELECT try('DROP TRIGGER kstream_guard ON totals');
SELECT try('DROP TRIGGER kstream_guard ON ktable');
SELECT try('ALTER TRIGGER kstream_guard ON totals RENAME TO t');
ALTER TABLE totals DISABLE TRIGGER kstream_guard;
ALTER TABLE totals ENABLE ALWAYS TRIGGER kstream_guard;
SELECT try($$SELECT kstream.create_sink('t', 'totals', 't', key => '{n}')$$);
SELECT kstream.create_sink('t', 'totals', 't', key => '{n,k}', paused => true);
SELECT try('ALTER TABLE totals SET UNLOGGED');
SELECT try('ALTER TABLE totals INHERIT parent');

-- Columns that the options of a stream name.
SELECT kstream.create_stream('s', 'id int, e text, at timestamptz', key => 'id', dedup_key => 'e', "timestamp" => 'at', server => 'local');
SELECT try('ALTER FOREIGN TABLE s RENAME e TO f');
SELECT try('ALTER TABLE s RENAME id TO f');
SELECT try('ALTER FOREIGN TABLE s DROP COLUMN at');
BEGIN;
ALTER FOREIGN TABLE s OPTIONS (DROP key);
ALTER FOREIGN TABLE s RENAME id TO number;
ALTER FOREIGN TABLE s OPTIONS (ADD key 'number');
COMMIT;

-- What was not published yet is told when it goes.
INSERT INTO p VALUES (1, 1, 1, 1, 1), (2, 2, 2, 2, 2);
SELECT name, lag_rows FROM kstream.sinks WHERE relation = 'p'::regclass ORDER BY 1;
SELECT kstream.drop_sink('p');
BEGIN;
SELECT kstream.drop_sink('pw');
ROLLBACK;
TRUNCATE p;
DROP TABLE p;
DROP FOREIGN TABLE r2;
SELECT kstream.put('ktable', '{"id": 1}'), kstream.remove('ktable', '1');
DROP TABLE ktable;
SELECT kstream.drop_sink('t');
DROP SERVER sink_alter_kafka CASCADE;
DROP SCHEMA sink_alter CASCADE;
