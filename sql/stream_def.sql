-- Definitions of streams: options, key columns, event time, metadata columns.
CREATE SCHEMA stream_def;
SET search_path = stream_def;
SET client_min_messages = warning;

-- a plain foreign table is completed; one that has the columns is left alone
CREATE FOREIGN TABLE plain (id int, name text) SERVER local;
\d plain
CREATE FOREIGN TABLE complete (id int, _key text, _partition int, _offset bigint, _timestamp timestamptz,
	_headers jsonb, _stream_time timestamptz, later int) SERVER local;
SELECT attname FROM pg_attribute WHERE attrelid = 'complete'::regclass AND attnum > 0 ORDER BY attnum;

-- key: a list of identifiers
CREATE FOREIGN TABLE keyed ("Weird, name" int, b text) SERVER local OPTIONS (key '"Weird, name", B');
INSERT INTO keyed ("Weird, name", b) VALUES (1, 'x'), (2, NULL), (NULL, NULL) RETURNING _key;
CREATE FOREIGN TABLE bad (a int) SERVER local OPTIONS (key 'b');
CREATE FOREIGN TABLE bad (a int) SERVER local OPTIONS (key 'a, a');
CREATE FOREIGN TABLE bad (a int) SERVER local OPTIONS (key 'a b');
CREATE FOREIGN TABLE bad (a int, b int) SERVER local OPTIONS (key 'a, b', key_format 'int');
CREATE FOREIGN TABLE bad (a int, _key text, _partition int, _offset bigint, _timestamp timestamptz,
	_headers jsonb, _stream_time timestamptz) SERVER local OPTIONS (key '_key');

-- timestamp: a column that is a time
CREATE FOREIGN TABLE bad (a int) SERVER local OPTIONS ("timestamp" 'b');
CREATE FOREIGN TABLE bad (a bigint) SERVER local OPTIONS ("timestamp" 'a');
CREATE FOREIGN TABLE bad (a timestamptz, b timestamptz) SERVER local OPTIONS ("timestamp" 'a, b');
CREATE FOREIGN TABLE own_time (a int, _key text, _partition int, _offset bigint, _timestamp timestamptz,
	_headers jsonb, _stream_time timestamptz) SERVER local OPTIONS ("timestamp" '_timestamp');

-- columns that cannot be
CREATE FOREIGN TABLE bad (a int, _offset text) SERVER local;
CREATE FOREIGN TABLE bad (a int, b int GENERATED ALWAYS AS (a + 1) STORED) SERVER local;
CREATE FOREIGN TABLE bad (a int, _p int) SERVER local;
CREATE FOREIGN TABLE bad (a int) SERVER local OPTIONS (format 'xml');
CREATE FOREIGN TABLE bad (a int) SERVER local OPTIONS (partitions '0');

-- _tombstone is an ordinary name, but in the hidden sources of tables
CREATE FOREIGN TABLE tomb (id int, _tombstone text) SERVER local;
INSERT INTO tomb (id, _tombstone) VALUES (1, 'here');
SELECT id, _tombstone FROM tomb;

-- event time of every kind; without a zone it is UTC whatever the session says
SET timezone = 'America/New_York';
CREATE FOREIGN TABLE tz (at timestamptz) SERVER local OPTIONS ("timestamp" 'at');
CREATE FOREIGN TABLE ts (at timestamp) SERVER local OPTIONS ("timestamp" 'at');
CREATE FOREIGN TABLE dt (at date) SERVER local OPTIONS ("timestamp" 'at');
CREATE FOREIGN TABLE rt (at int) SERVER local;
CREATE DOMAIN moment AS timestamptz CHECK (VALUE > '2000-01-01');
CREATE FOREIGN TABLE dm (at moment) SERVER local OPTIONS ("timestamp" 'at');
INSERT INTO tz VALUES ('2024-05-01 12:00+00'), ('2024-05-01 11:00+00'), ('2024-05-01 13:00+00');
INSERT INTO ts VALUES ('2024-05-01 12:00'), ('2024-05-01 11:00');
INSERT INTO dt VALUES ('2024-05-01'), ('2024-04-01');
INSERT INTO dm VALUES ('2024-05-01 12:00+00'), ('2024-05-01 11:00+00');
INSERT INTO rt (at, _timestamp) VALUES (1, '2024-05-01 12:00+00'), (2, '2024-05-01 11:00+00'), (3, '2024-05-01 14:00+00');
-- NULL and infinite event times fall back to the record's timestamp
INSERT INTO tz (at, _timestamp) VALUES (NULL, '2024-05-01 14:00+00'), ('infinity', '2024-05-01 15:00+00'), ('-infinity', '2024-05-01 14:30+00');
SELECT at AT TIME ZONE 'UTC' AS at, _stream_time AT TIME ZONE 'UTC' AS st FROM tz;
SELECT at, _stream_time AT TIME ZONE 'UTC' AS st FROM ts;
SELECT at, _stream_time AT TIME ZONE 'UTC' AS st FROM dt;
SELECT at AT TIME ZONE 'UTC' AS at, _stream_time AT TIME ZONE 'UTC' AS st FROM dm;
SELECT at, _stream_time AT TIME ZONE 'UTC' AS st FROM rt;
-- over what the scan has read of the partition
SELECT at, _stream_time AT TIME ZONE 'UTC' AS st FROM rt WHERE _offset = 1;
RESET timezone;

SET client_min_messages = error;
DROP SCHEMA stream_def CASCADE;
