-- Every definition that is refused, one line each: SQLSTATE, message, hint.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS kstream;
CREATE SCHEMA definition_refusals;
SET search_path = definition_refusals, public;
CREATE SERVER refusals_kafka FOREIGN DATA WRAPPER kstream OPTIONS (bootstrap_servers 'localhost:1');
CREATE FUNCTION try(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	state text; message text; hint text;
BEGIN
	EXECUTE command;
	RAISE EXCEPTION 'accepted';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
	RETURN regexp_replace(concat_ws(E'\n  ', state || ': ' || message, nullif(hint, '')), 'src_\d+', 'src_N');
END $$;
CREATE FUNCTION stream(arguments text) RETURNS text LANGUAGE sql AS $$
	SELECT try('SELECT kstream.create_stream(''x'', ' || arguments || ', server => ''local'')')
$$;
CREATE FUNCTION table_of(arguments text) RETURNS text LANGUAGE sql AS $$
	SELECT try('SELECT kstream.create_table(''x'', ' || arguments || ', server => ''refusals_kafka'')')
$$;
CREATE FUNCTION query(arguments text) RETURNS text LANGUAGE sql AS $$
	SELECT try('SELECT kstream.create_table_as(''x'', ' || arguments || ', paused => true)')
$$;
SELECT kstream.create_stream('s', 'k text, v int', server => 'local');
\pset tuples_only
\pset format unaligned

-- names
SELECT try($$SELECT kstream.create_stream(NULL, 'a int', server => 'local')$$);
SELECT try($$SELECT kstream.create_stream('s', 'a int', server => 'local')$$);
SELECT try($$SELECT kstream.create_stream('pg_temp.x', 'a int', server => 'local')$$);
SELECT try($$SELECT kstream.create_stream('no_such_schema.x', 'a int', server => 'local')$$);
SELECT try($$SELECT kstream.create_stream('a.b.c.d', 'a int', server => 'local')$$);

-- servers
SELECT try($$SELECT kstream.create_stream('x', 'a int', server => 'no_such_server')$$);
CREATE FOREIGN DATA WRAPPER refusals_other;
CREATE SERVER refusals_other FOREIGN DATA WRAPPER refusals_other;
SELECT try($$SELECT kstream.create_stream('x', 'a int', server => 'refusals_other')$$);
CREATE SERVER refusals_kafka2 FOREIGN DATA WRAPPER kstream;
SELECT try($$SELECT kstream.create_stream('x', 'a int')$$) LIKE '42P08: there are several servers to choose from: %refusals_kafka, refusals_kafka2%';
DROP SERVER refusals_kafka2;

-- column lists
SELECT stream($$NULL$$);
SELECT stream($$'a int,'$$);
SELECT stream($$'a no_such_type'$$);
SELECT stream($$'a int) SERVER local; DROP TABLE pg_class; --'$$);
SELECT stream($$'a int) INHERITS (s'$$);
SELECT stream($$'a int) SERVER "x" OPTIONS (topic ''a'') /*'$$);
SELECT stream($$'a int, a int'$$);
SELECT stream($$'a int PRIMARY KEY'$$);
SELECT stream($$'a int GENERATED ALWAYS AS (1) STORED'$$);
SELECT stream($$'_offset text'$$);
SELECT stream($$'_p int'$$);
SELECT stream($$'a int OPTIONS (path '''')'$$);
SELECT stream($$'a int OPTIONS (path ''x..y'')'$$);
SELECT stream($$'a int OPTIONS (pth ''x'')'$$);

-- options of streams
SELECT stream($$'a int', format => 'xml'$$);
SELECT stream($$'a int', format => 'avro'$$);
SELECT stream($$'a int', format => 'protobuf'$$);
SELECT stream($$'a int', format => 'debezium'$$);
SELECT stream($$'a text, b text', format => 'text'$$);
SELECT stream($$'a text, b text', format => 'bytea'$$);
SELECT stream($$'a text', format => 'jsonb'$$);
SELECT stream($$'a int', key => 'b'$$);
SELECT stream($$'a int', key => '_offset'$$);
SELECT stream($$'a int', key => ''$$);
SELECT stream($$'a int, b int', key => 'a, b', key_format => 'text'$$);
SELECT stream($$'a int', key => 'a', key_format => 'short'$$);
SELECT stream($$'a int', key => 'a', key_format => 'avro'$$);
SELECT stream($$'a int', "timestamp" => 'a'$$);
SELECT stream($$'a int', "timestamp" => 'b'$$);
SELECT stream($$'a int', partitions => 0$$);
SELECT stream($$'a int', topic => 'two words'$$);
SELECT stream($$'a int', retention => '1 day'$$);
SELECT stream($$'a int', options => '{"tpic": "x"}'$$);
SELECT stream($$'a int', options => '{"topic": "x", "topic": ["y"]}'$$);
SELECT stream($$'a int', options => '[]'$$);
SELECT stream($$'a int', topic => 'y', options => '{"topic": "x"}'$$);
SELECT stream($$'a int', options => '{"retention": "1 day"}'$$);

-- the same by plain SQL
SELECT try($$CREATE FOREIGN TABLE x (a int) SERVER local OPTIONS (formt 'json')$$);
SELECT try($$CREATE FOREIGN TABLE x (a int, _key int) SERVER local$$);
SELECT try($$CREATE FOREIGN TABLE x (a int) SERVER local OPTIONS (timestamp 'a')$$);
CREATE TABLE parted (a int) PARTITION BY LIST (a);
SELECT try($$CREATE FOREIGN TABLE x PARTITION OF parted FOR VALUES IN (1) SERVER local$$);
SELECT try($$ALTER FOREIGN DATA WRAPPER kstream OPTIONS (ADD a 'b')$$);

-- tables that follow a topic
SELECT try($$SELECT kstream.create_table('x', 'a int PRIMARY KEY', server => 'local')$$);
SELECT table_of($$'a int'$$);
SELECT table_of($$'a serial PRIMARY KEY'$$);
SELECT table_of($$'a int GENERATED ALWAYS AS IDENTITY PRIMARY KEY'$$);
SELECT table_of($$'a int PRIMARY KEY, b int GENERATED ALWAYS AS (a + 1) STORED'$$);
SELECT table_of($$'a int PRIMARY KEY, _key text'$$);
SELECT table_of($$'a int PRIMARY KEY, _tombstone boolean'$$);
SELECT table_of($$'LIKE parted, PRIMARY KEY (a)'$$);
SELECT table_of($$'a int PRIMARY KEY', version_column => 'b'$$);
SELECT table_of($$'a int PRIMARY KEY, b json', version_column => 'b'$$);
SELECT table_of($$'a int, b int, PRIMARY KEY (a, b)', key_format => 'text'$$);
SELECT table_of($$'a int PRIMARY KEY', key_format => 'avro'$$);
SELECT table_of($$'a int PRIMARY KEY', topic => ''$$);
SELECT table_of($$'a int PRIMARY KEY, b int, c int', format => 'text'$$);

-- queries: the text
SELECT query($$NULL$$);
SELECT query($$''$$);
SELECT query($$'SELECT FROM WHERE'$$);
SELECT query($$'SELECT 1; SELECT 2'$$);
SELECT query($$'DELETE FROM s'$$);
SELECT query($$'SELECT * INTO y FROM s'$$);
SELECT query($$'SELECT no_such_column FROM s'$$);
SELECT query($$'SELECT k, k FROM s'$$);
SELECT query($$'SELECT $1 FROM s'$$);
CREATE TEMP TABLE temporary (k text);
SELECT query($$'SELECT s.k FROM s JOIN temporary USING (k)'$$);

-- queries: arguments
SELECT query($$'SELECT k FROM s', grace => '1 min'$$);
SELECT query($$'SELECT k FROM s', retention => '1 day'$$);
SELECT query($$'SELECT k FROM s', emit => 'final'$$);
SELECT query($$'SELECT k FROM s', emit => 'often'$$);
SELECT query($$'SELECT k FROM s', guarantee => 'none'$$);
SELECT query($$'SELECT k FROM s', workers => 2$$);
SELECT query($$'SELECT k FROM s', workers => 0$$);
SELECT query($$'SELECT k FROM s', keep_changes => '-1 day'$$);
SELECT query($$'SELECT k FROM s', store => 'unlogged'$$);
SELECT query($$'SELECT k FROM s', store => 'no_such_method'$$);
SELECT query($$'SELECT k FROM s', on_error => 'ignore'$$);
SELECT query($$'SELECT k FROM s', start => 'now-ish'$$);
SELECT query($$'SELECT k FROM s', start => 'infinity'$$);
SELECT query($$'SELECT k FROM s', start => NULL$$);
SELECT query($$'SELECT k FROM s', batch_rows => 0$$);
SELECT query($$'SELECT k FROM s', batch_interval => '2 hours'$$);
SELECT query($$'SELECT k FROM s', batch_interval => '-1 s'$$);
SELECT query($$'SELECT k, count(*) FROM s GROUP BY k', primary_key => '{}'$$);
SELECT query($$'SELECT k, count(*) FROM s GROUP BY k', primary_key => '{NULL}'$$);
SELECT query($$'SELECT k, count(*) FROM s GROUP BY k', primary_key => '{count}'$$);

-- errors point into the text that has them
\pset tuples_only off
\pset format aligned
\set VERBOSITY default
SELECT kstream.create_stream('x', 'a int, b no_such_type', server => 'local');
SELECT kstream.create_stream('x', 'a int b', server => 'local');
SELECT kstream.create_table('x', 'a int PRIMARY KEY, b int CHECK (nothing > 1)', server => 'refusals_kafka');
SELECT kstream.create_table_as('x', 'SELECT k, vv FROM s');
SELECT kstream.create_table_as('x', 'SELECT k v w FROM s');

-- what is refused leaves nothing
SELECT relname FROM pg_class WHERE relnamespace = 'definition_refusals'::regnamespace AND relkind IN ('r', 'v', 'f') ORDER BY 1;
DROP SERVER refusals_kafka, refusals_other;
DROP FOREIGN DATA WRAPPER refusals_other;
DROP SCHEMA definition_refusals CASCADE;
