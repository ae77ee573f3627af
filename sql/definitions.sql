-- Definitions of streams, tables and queries, and what plain SQL does to them.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS kstream;
CREATE SCHEMA definitions;
SET search_path = definitions, public;
CREATE FUNCTION columns(relation regclass) RETURNS TABLE (name name, type text, not_null boolean, options text[])
LANGUAGE sql AS $$
	SELECT attname, format_type(atttypid, atttypmod), attnotnull, attfdwoptions
	FROM pg_attribute WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped ORDER BY attnum
$$;
CREATE FUNCTION parts(relation regclass) RETURNS TABLE (part text, dependency "char")
LANGUAGE sql AS $$
	SELECT regexp_replace(objid::regclass::text, '\d+', 'N'), deptype
	FROM pg_depend WHERE refobjid = relation AND refclassid = 'pg_class'::regclass
		AND classid = 'pg_class'::regclass AND deptype = 'i' AND objid::regclass::text NOT LIKE 'pg_toast%' ORDER BY 1
$$;

-- a local stream; its name is folded as an identifier is
SELECT kstream.create_stream('Clicks', 'id bigint, "User" text COLLATE "C", price numeric(10,2) NOT NULL CHECK (price >= 0), at timestamptz',
	server => 'local', key => '"User"', "timestamp" => 'at', partitions => 3);
SELECT * FROM columns('clicks');
SELECT * FROM parts('clicks');
SELECT relation, partitions FROM kstream_catalog.local_log WHERE relation = 'clicks'::regclass;

-- the same by plain SQL: the metadata columns come by themselves, given ones are taken
CREATE FOREIGN TABLE clicks2 (id bigint, name text OPTIONS (path 'who.name')) SERVER local OPTIONS (partitions '2');
SELECT * FROM columns('clicks2');
CREATE FOREIGN TABLE clicks3 (_key text, id bigint, _offset bigint) SERVER local;
SELECT * FROM columns('clicks3');
SELECT relation, partitions FROM kstream_catalog.local_log
WHERE relation IN ('clicks2'::regclass, 'clicks3'::regclass) ORDER BY 1;
SELECT name, owner = current_user::regrole AS own, server, topic, format, key, key_format, "timestamp", partitions
FROM kstream.streams WHERE name LIKE 'clicks%' ORDER BY 1;

-- a definition that is rolled back leaves nothing
BEGIN;
SELECT kstream.create_stream('gone', 'id int', server => 'local');
ROLLBACK;
SELECT count(*) FROM kstream_catalog.local_log l LEFT JOIN pg_class c ON c.oid = l.relation WHERE c.oid IS NULL;

-- which server: the argument, the setting, the only one there is
CREATE SERVER definitions_kafka FOREIGN DATA WRAPPER kstream OPTIONS (bootstrap_servers 'localhost:1');
SELECT kstream.create_stream('remote', 'id int, v text', topic => 'some.topic', format => 'csv', key => 'id', key_format => 'bigint');
CREATE SERVER definitions_kafka2 FOREIGN DATA WRAPPER kstream OPTIONS (bootstrap_servers 'localhost:1');
SET kstream.default_server = 'definitions_kafka2';
SELECT kstream.create_stream('remote2', 'id int, b int, v text', key => 'id, b', options => '{}');
RESET kstream.default_server;
SELECT name, server, topic, format, key, key_format FROM kstream.streams WHERE name LIKE 'remote%' ORDER BY 1;

-- a table that follows a topic: the table, and the hidden stream it is read from
BEGIN;
SELECT kstream.create_table('customers', 'id bigint PRIMARY KEY, name text NOT NULL DEFAULT ''?'', age int OPTIONS (path ''facts.age'') CHECK (age > 0), version bigint',
	server => 'definitions_kafka', version_column => 'version');
SELECT kstream.pause('customers');
SELECT kstream.create_global_table('rates', 'source text, target text, rate numeric, PRIMARY KEY (source, target)',
	topic => 'fx', server => 'definitions_kafka', format => 'json');
SELECT kstream.pause('rates');
COMMIT;
SELECT * FROM columns('customers');
SELECT * FROM parts('customers');
SELECT c.* FROM kstream_catalog.query q, columns(q.source) c WHERE q.relation = 'customers'::regclass;
SELECT * FROM columns('rates');
SELECT name, kind, primary_key, server, topic, format, key_format, version_column FROM kstream.tables WHERE name IN ('customers', 'rates') ORDER BY 1;
SELECT name, kind, state, definition IS NOT NULL AS defined FROM kstream.queries WHERE name IN ('customers', 'rates') ORDER BY 1;

-- a query: the table, and the view behind it
SELECT kstream.create_table_as('totals', 'SELECT "User", count(*) AS n, avg(price) AS mean FROM clicks GROUP BY 1',
	primary_key => '{User}', start => '2024-02-29 12:00+02', on_error => 'stop', batch_rows => 7, batch_interval => '1.5 s', paused => true);
SELECT * FROM parts('totals');
SELECT kind, key_columns, start, on_error, batch_rows, batch_interval, paused, generation
FROM kstream_catalog.query WHERE relation = 'totals'::regclass;
SELECT kstream.create_table_as('plain', 'SELECT id, at FROM clicks WHERE price > 1;', store => 'heap', paused => true);
SELECT name, kind, state, definition IS NOT NULL AS defined FROM kstream.queries WHERE name IN ('totals', 'plain') ORDER BY 1;
-- settings that the meaning of an expression depends on are pinned
SET TimeZone = 'Asia/Tokyo';
SET DateStyle = 'German';
SELECT kstream.create_table_as('pinned', 'SELECT at::text AS t FROM clicks', paused => true);
RESET TimeZone;
RESET DateStyle;
SELECT setting FROM kstream_catalog.query, unnest(settings) AS setting
WHERE relation = 'pinned'::regclass AND setting ~ '^(search_path|TimeZone|DateStyle)=' ORDER BY 1;
INSERT INTO clicks VALUES (1, 'ann', 5, '2024-03-01 12:00+00');
SELECT kstream.step('pinned');
TABLE pinned;

-- only kstream writes to these tables
\set VERBOSITY default
INSERT INTO totals VALUES ('x', 1, 1);
UPDATE totals SET n = 0;
DELETE FROM customers;
TRUNCATE plain;
COPY plain FROM stdin;
\.
MERGE INTO totals USING (VALUES ('x')) v(u) ON "User" = u WHEN NOT MATCHED THEN INSERT VALUES (u, 1, 1);
SET session_replication_role = replica;
DELETE FROM totals;
RESET session_replication_role;

-- what plain ALTER may do
ALTER TABLE totals RENAME TO sums;
CREATE SCHEMA definitions_other;
ALTER TABLE sums SET SCHEMA definitions_other;
SELECT name, relation FROM kstream.queries WHERE name LIKE '%sums';
ALTER TABLE definitions_other.sums ADD COLUMN x int;
ALTER TABLE definitions_other.sums RENAME COLUMN n TO m;
ALTER TABLE plain ALTER COLUMN id TYPE numeric;
ALTER TABLE plain DROP COLUMN at;
ALTER TABLE customers DROP COLUMN age;
CREATE INDEX ON plain (id);
ALTER FOREIGN TABLE clicks DROP COLUMN _offset;
ALTER FOREIGN TABLE clicks RENAME COLUMN _key TO k;
ALTER FOREIGN TABLE clicks OPTIONS (SET key 'nothing');
ALTER FOREIGN TABLE clicks3 ADD COLUMN extra int;
INSERT INTO clicks3 (id, extra) VALUES (1, 2);
SELECT id, extra FROM clicks3;
ALTER FOREIGN TABLE clicks3 OPTIONS (ADD timestamp 'extra');

-- hidden parts cannot be touched on their own
DO $$
DECLARE
	q record;
	command text;
BEGIN
	FOR q IN SELECT source, view FROM kstream_catalog.query
		WHERE relation IN ('customers'::regclass, 'plain'::regclass) ORDER BY id
	LOOP
		FOREACH command IN ARRAY CASE WHEN q.view IS NULL
			THEN ARRAY['DROP FOREIGN TABLE %s', 'ALTER FOREIGN TABLE %s ADD COLUMN x int', 'ALTER FOREIGN TABLE %s RENAME COLUMN name TO x']
			ELSE ARRAY['DROP VIEW %s', 'ALTER VIEW %s RENAME COLUMN id TO x'] END
		LOOP
			BEGIN
				EXECUTE format(command, coalesce(q.view, q.source));
				RAISE WARNING 'done: %', format(command, 'N');
			EXCEPTION WHEN OTHERS THEN
				RAISE WARNING '%: % %', format(command, 'N'), SQLSTATE, regexp_replace(SQLERRM, '_\d+', '_N');
			END;
		END LOOP;
	END LOOP;
END $$;

-- dependents block a drop unless CASCADE takes them along
DROP FOREIGN TABLE clicks;
DROP TABLE plain;
SELECT count(*) FROM kstream.queries WHERE name = 'plain';
SET client_min_messages = notice;
DROP FOREIGN TABLE clicks CASCADE;
SET client_min_messages = warning;
DROP TABLE customers;
DROP SERVER definitions_kafka CASCADE;
DROP SERVER definitions_kafka2 CASCADE;
SELECT name FROM kstream.streams WHERE name LIKE 'clicks%' OR name LIKE 'remote%' ORDER BY 1;
DROP SCHEMA definitions, definitions_other CASCADE;
-- nothing is left behind
SELECT count(*) FROM kstream_catalog.query q LEFT JOIN pg_class c ON c.oid = q.relation WHERE c.oid IS NULL;
SELECT count(*) FROM kstream_catalog.local_log l LEFT JOIN pg_class c ON c.oid = l.relation WHERE c.oid IS NULL;
SELECT count(*) FROM kstream_catalog.position p LEFT JOIN kstream_catalog.query q ON q.id = p.query WHERE q.id IS NULL;
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE nspname IN ('kstream_query', 'kstream_state') AND relkind IN ('r', 'v', 'f') AND NOT EXISTS (
	SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'i'
		AND d.refclassid = 'pg_class'::regclass);
