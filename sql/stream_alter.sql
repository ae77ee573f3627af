-- The log of a local stream follows ALTER; what belongs together goes together.
CREATE SCHEMA stream_alter;
SET search_path = stream_alter;
SET client_min_messages = warning;
CREATE DOMAIN positive AS int NOT NULL CHECK (VALUE > 0);

CREATE FUNCTION log_columns(stream regclass) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT attname || ' ' || format_type(atttypid, atttypmod)
	FROM pg_attribute WHERE attrelid = (SELECT log FROM kstream_catalog.local_log WHERE relation = stream)
	AND attnum > 0 AND NOT attisdropped ORDER BY attnum
$$;

CREATE FOREIGN TABLE s (a int, b varchar(5), c text COLLATE "C", d positive) SERVER local OPTIONS (key 'a');
SELECT log_columns('s');
INSERT INTO s (a, b, c, d) VALUES (1, 'one', 'x', 1), (2, 'two', 'y', 2);

-- ADD: older records have NULL
ALTER FOREIGN TABLE s ADD COLUMN e numeric(6, 2), ADD COLUMN f positive;
INSERT INTO s (a, d, e, f) VALUES (3, 3, 3.14159, 3);
SELECT a, b, c, d, e, f, _key, _offset FROM s;

-- RENAME, by either command
ALTER FOREIGN TABLE s RENAME COLUMN b TO bb;
ALTER TABLE s RENAME COLUMN f TO ff;
SELECT a, bb, ff FROM s;

-- DROP, and the name again
ALTER FOREIGN TABLE s DROP COLUMN bb;
ALTER FOREIGN TABLE s ADD COLUMN bb bigint;
ALTER FOREIGN TABLE s RENAME COLUMN ff TO f;
ALTER FOREIGN TABLE s DROP COLUMN e, ADD COLUMN e2 text;
SELECT a, bb, e2, f FROM s;
SELECT log_columns('s');

-- TYPE
INSERT INTO s (a, d, e2, f) VALUES (4, 4, '44', 4);
ALTER FOREIGN TABLE s ALTER COLUMN e2 TYPE int;
ALTER FOREIGN TABLE s ALTER COLUMN bb TYPE text;
SELECT a, bb, e2 + 1 AS e2 FROM s;
\set SHOW_CONTEXT never
ALTER FOREIGN TABLE s ALTER COLUMN c TYPE int;
\set SHOW_CONTEXT errors
SELECT log_columns('s');

-- more partitions; not fewer
ALTER FOREIGN TABLE s OPTIONS (ADD partitions '4');
INSERT INTO s (a, d, f, _partition) VALUES (5, 5, 5, 3) RETURNING _partition;
ALTER FOREIGN TABLE s OPTIONS (SET partitions '2');
SELECT partitions FROM kstream_catalog.local_log WHERE relation = 's'::regclass;

-- nothing but the log of the stream itself changes
ALTER FOREIGN TABLE s ALTER COLUMN a SET NOT NULL;
ALTER FOREIGN TABLE s ADD CONSTRAINT small CHECK (a < 100);
\set VERBOSITY terse
INSERT INTO s (a, d, f) VALUES (100, 1, 1);
INSERT INTO s (a, d, f) VALUES (NULL, 1, 1);
\set VERBOSITY default
INSERT INTO s (a, d, f) VALUES (5, 0, 1);

-- new name, schema, owner
CREATE SCHEMA stream_alter_2;
ALTER FOREIGN TABLE s RENAME TO t;
ALTER FOREIGN TABLE t SET SCHEMA stream_alter_2;
INSERT INTO stream_alter_2.t (a, d, f, _partition) VALUES (6, 6, 6, 0);
SELECT a, _partition, _offset FROM stream_alter_2.t;
CREATE ROLE regress_stream_owner;
GRANT USAGE, CREATE ON SCHEMA stream_alter_2 TO regress_stream_owner;
ALTER FOREIGN TABLE stream_alter_2.t OWNER TO regress_stream_owner;
SELECT relowner::regrole, count(*) FROM pg_class
	JOIN kstream_catalog.local_log l ON pg_class.oid IN (l.log, l.segments)
	WHERE relation = 'stream_alter_2.t'::regclass GROUP BY 1;

-- an ordinary user makes a stream, uses and drops it
SET ROLE regress_stream_owner;
SELECT kstream.create_stream('stream_alter_2.own', 'a int', server => 'local');
INSERT INTO stream_alter_2.own (a) VALUES (1);
ALTER FOREIGN TABLE stream_alter_2.own ADD COLUMN b int;
INSERT INTO stream_alter_2.own (a, b) VALUES (2, 2);
SELECT a, b, _offset FROM stream_alter_2.own;
DROP FOREIGN TABLE stream_alter_2.own;
RESET ROLE;

-- code of a stream's owner does not run with the rights of whoever alters the stream
SET ROLE regress_stream_owner;
CREATE TYPE stream_alter_2.pair AS (a int);
CREATE FUNCTION stream_alter_2.to_pair(text) RETURNS stream_alter_2.pair LANGUAGE plpgsql AS $$
BEGIN
	RAISE WARNING 'cast runs as %', current_user;
	RETURN ROW(1);
END $$;
CREATE CAST (text AS stream_alter_2.pair) WITH FUNCTION stream_alter_2.to_pair(text) AS ASSIGNMENT;
SELECT kstream.create_stream('stream_alter_2.trap', 'a text', server => 'local');
INSERT INTO stream_alter_2.trap (a) VALUES ('x');
RESET ROLE;
ALTER FOREIGN TABLE stream_alter_2.trap ALTER COLUMN a TYPE stream_alter_2.pair;
SELECT a FROM stream_alter_2.trap;

-- the tables of the log depend on the stream, and go with it
DO $$
DECLARE log regclass = (SELECT log FROM kstream_catalog.local_log WHERE relation = 'stream_alter_2.t'::regclass);
BEGIN
	EXECUTE 'DROP TABLE ' || log;
EXCEPTION WHEN dependent_objects_still_exist THEN
	RAISE WARNING '%', regexp_replace(SQLERRM, '_\d+', '_N');
END $$;
CREATE VIEW v AS SELECT a FROM stream_alter_2.t;
DROP FOREIGN TABLE stream_alter_2.t;
SELECT count(*) AS logs FROM kstream_catalog.local_log WHERE relation = 'stream_alter_2.t'::regclass;
CREATE TEMP TABLE was AS SELECT log::oid, segments::oid FROM kstream_catalog.local_log WHERE relation = 'stream_alter_2.t'::regclass;
SET client_min_messages = error;
DROP FOREIGN TABLE stream_alter_2.t CASCADE;
SELECT (SELECT count(*) FROM pg_class, was WHERE oid IN (log, segments)) AS tables,
	(SELECT count(*) FROM kstream_catalog.local_log l JOIN was ON l.log = was.log) AS rows;
DROP SCHEMA stream_alter, stream_alter_2 CASCADE;
DROP ROLE regress_stream_owner;
