-- What a query reads cannot change under it.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS kstream;
CREATE SCHEMA definitions_change;
SET search_path = definitions_change;
SET timezone = 'UTC';

SELECT kstream.create_stream('s', 'k text, at timestamptz, seen timestamptz, x int', "timestamp" => 'at', server => 'local');
CREATE TABLE names (k text PRIMARY KEY, name text, short text);
INSERT INTO names VALUES ('a', 'Anna', 'A'), ('b', 'Bert', 'B');
CREATE VIEW v AS SELECT k, kstream.tumble(at, '1 min') AS w, x FROM s WHERE x > 0;
CREATE VIEW over_v AS SELECT * FROM v;
CREATE VIEW lookup AS SELECT k, name FROM names;
CREATE VIEW unread AS SELECT k, x FROM s;
SELECT kstream.create_table_as('counts', 'SELECT k, w, count(*) AS n FROM over_v GROUP BY k, w', paused => true);
SELECT kstream.create_table_as('named', 'SELECT s.k, l.name, s.x FROM s LEFT JOIN lookup l USING (k)', paused => true);

-- a view through which a query reads a stream stays as it is
CREATE OR REPLACE VIEW v AS SELECT k, kstream.session(at, '1 min') AS w, x FROM s;
CREATE OR REPLACE VIEW over_v AS SELECT k, NULL::tstzrange AS w, 1 AS x FROM names;
CREATE OR REPLACE RULE "_RETURN" AS ON SELECT TO v DO INSTEAD SELECT k, kstream.tumble(at, '1 h') AS w, x FROM s;
CREATE OR REPLACE VIEW lookup AS SELECT k, k AS name FROM s;
DO $$
BEGIN
	EXECUTE (SELECT 'CREATE OR REPLACE VIEW ' || view || ' AS SELECT k, w, 2::bigint AS n FROM definitions_change.v'
			 FROM kstream_catalog.query WHERE relation = 'counts'::regclass);
EXCEPTION WHEN feature_not_supported THEN
	RAISE WARNING '%', regexp_replace(SQLERRM, '_\d+', '_N');
END $$;
-- unless it stays the same, or no query reads it
CREATE OR REPLACE VIEW v AS SELECT k, kstream.tumble(at, '1 min') AS w, x FROM s WHERE x > 0;
CREATE OR REPLACE VIEW unread AS SELECT k, x + 1 AS x FROM s;
ALTER VIEW v SET (security_invoker = true);
ALTER VIEW v RENAME COLUMN x TO y;
INSERT INTO s VALUES ('a', '2024-01-01 00:00:10', NULL, 1), ('b', '2024-01-01 00:00:20', NULL, 2), ('a', '2024-01-01 00:00:30', NULL, 0);
SELECT kstream.step('counts'), kstream.step('named');
SELECT k, lower(w), n FROM counts ORDER BY k;

-- one over tables may change, within what a query may contain
CREATE OR REPLACE VIEW lookup AS SELECT k, short AS name FROM names;
CREATE OR REPLACE VIEW lookup AS SELECT k, (short || random())::text AS name FROM names;
INSERT INTO s VALUES ('b', '2024-01-01 00:00:40', NULL, 3);
SELECT kstream.step('named');
SELECT * FROM named ORDER BY x, k;

-- columns that change their names go on to be what they were
BEGIN;
ALTER TABLE names RENAME COLUMN short TO other;
ALTER TABLE names RENAME COLUMN name TO short;
ALTER TABLE names RENAME COLUMN other TO name;
COMMIT;
INSERT INTO s VALUES ('a', '2024-01-01 00:00:50', NULL, 4);
SELECT kstream.step('named');
SELECT * FROM named WHERE x = 4;

-- what gets around the event triggers is found when the query is run
BEGIN;
ALTER EVENT TRIGGER kstream_ddl_command_start DISABLE;
CREATE OR REPLACE VIEW v AS SELECT k, kstream.session(at, '1 min') AS w, x AS y FROM s;
SELECT kstream.step('counts');
ROLLBACK;

-- types of columns that a query uses
ALTER FOREIGN TABLE s ALTER COLUMN x TYPE bigint;
ALTER TABLE s ALTER COLUMN seen TYPE timestamp;
ALTER TABLE s ALTER COLUMN missing TYPE int;

-- the event time
ALTER FOREIGN TABLE s OPTIONS (SET timestamp 'seen');
ALTER FOREIGN TABLE s OPTIONS (DROP timestamp);
BEGIN;
ALTER TABLE s OPTIONS (SET timestamp 'seen');
SELECT kstream.create_table_as('seen', 'SELECT k, x FROM s', paused => true);
COMMIT;
-- its column may get another name
BEGIN;
ALTER FOREIGN TABLE s OPTIONS (DROP timestamp);
ALTER FOREIGN TABLE s RENAME COLUMN at TO happened;
ALTER FOREIGN TABLE s OPTIONS (ADD timestamp 'happened');
COMMIT;
INSERT INTO s VALUES ('b', '2024-01-01 00:01:00', NULL, 5);
SELECT kstream.step('counts');
SELECT k, lower(w), n FROM counts ORDER BY k, w;
-- a query may be created with the stream as it is going to be
DROP TABLE counts, named;
BEGIN;
ALTER FOREIGN TABLE s OPTIONS (SET timestamp 'seen');
SELECT kstream.create_table_as('seen', 'SELECT k, x FROM s', paused => true);
COMMIT;
BEGIN;
ALTER FOREIGN TABLE s OPTIONS (SET timestamp 'happened');
DROP TABLE seen;
COMMIT;
SELECT "timestamp" FROM kstream.streams WHERE relation = 's'::regclass;

-- NULL is no grace and no timeout
SELECT kstream.create_table_as('n', 'SELECT k FROM s', grace => NULL);
SELECT kstream.create_table_as('n', 'SELECT k FROM s', idle_timeout => NULL);
SELECT kstream.create_table_as('n', 'SELECT k FROM s', emit => NULL);

SET client_min_messages = error;
DROP SCHEMA definitions_change CASCADE;
