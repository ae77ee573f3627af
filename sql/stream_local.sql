-- Local streams: INSERT, metadata, bounded reads, transactions.
CREATE SCHEMA stream_local;
SET search_path = stream_local;
SET client_min_messages = warning;

-- EXPLAIN without the number of the log
CREATE FUNCTION plan_of(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
		RETURN NEXT regexp_replace(line, 'log_\d+', 'log_N');
	END LOOP;
END $$;

SELECT kstream.create_stream('clicks', 'id int NOT NULL CHECK (id > 0), page text, usr text DEFAULT ''nobody'', ts timestamptz',
	key => 'usr', "timestamp" => 'ts', server => 'local', partitions => 3);

-- the key decides the partition, as Kafka's own partitioner
INSERT INTO clicks (id, page, usr) SELECT i, 'p' || i, 'u' || i % 5 FROM generate_series(1, 20) i;
SELECT usr, _key, _partition, array_agg(_offset ORDER BY _offset) AS offsets, array_agg(id ORDER BY _offset) AS ids
	FROM clicks GROUP BY 1, 2, 3 ORDER BY 1;
SELECT count(*), count(_timestamp), count(_headers), count(_stream_time) FROM clicks;
SELECT bool_and(_timestamp BETWEEN now() - interval '1 h' AND clock_timestamp()) FROM clicks;

-- what may be given, and RETURNING
INSERT INTO clicks (id, usr, _key, _partition, _timestamp, _headers)
	VALUES (21, 'u1', 'other', 2, '2024-01-01 00:00+00', '{"trace": "a1", "none": null}')
	RETURNING id, page, usr, _key, _partition, _offset, _timestamp AT TIME ZONE 'UTC' AS at, _headers;
INSERT INTO clicks (id) VALUES (22) RETURNING usr, _key, _partition;
INSERT INTO clicks (id, usr) VALUES (23, NULL), (24, NULL), (25, NULL), (26, NULL) RETURNING _key, _partition;
SELECT id, _headers ->> 'trace' AS trace FROM clicks WHERE _partition = 2 AND _headers IS NOT NULL;

-- what may not
INSERT INTO clicks (id, _offset) VALUES (1, 7);
INSERT INTO clicks (id, _stream_time) VALUES (1, now());
INSERT INTO clicks SELECT * FROM clicks;
INSERT INTO clicks (id, _partition) VALUES (1, 3);
INSERT INTO clicks (id, _partition) VALUES (1, -1);
INSERT INTO clicks (id, _headers) VALUES (1, '["a"]');
INSERT INTO clicks (id, _headers) VALUES (1, '{"a": 1}');
INSERT INTO clicks (id, _headers) VALUES (1, '{"a": {"b": "c"}}');
INSERT INTO clicks (id, _timestamp) VALUES (1, 'infinity');
\set VERBOSITY terse
INSERT INTO clicks (id) VALUES (0);
INSERT INTO clicks (id) VALUES (NULL);
\set VERBOSITY default
INSERT INTO clicks (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET page = 'x';
INSERT INTO clicks (id, usr) VALUES (27, 'u1') ON CONFLICT DO NOTHING;
UPDATE clicks SET page = 'x';
UPDATE clicks SET page = 'x' WHERE false;
DELETE FROM clicks;
TRUNCATE clicks;
MERGE INTO clicks c USING (VALUES (1)) v(id) ON c.id = v.id WHEN MATCHED THEN DELETE;
BEGIN READ ONLY;
INSERT INTO clicks (id) VALUES (1);
ROLLBACK;
SELECT pg_relation_is_updatable('clicks', false) & 28 AS updatable;

-- COPY in and out
COPY clicks (id, page, usr) FROM stdin;
30	copied	u1
31	copied	u2
\.
\set VERBOSITY terse
COPY clicks (id) FROM stdin;
-1
\.
\set VERBOSITY default
SELECT id, usr, _key FROM clicks WHERE page = 'copied' ORDER BY id;
COPY (SELECT id, page FROM clicks WHERE page = 'copied' ORDER BY id) TO stdout;

-- conditions that narrow a read
SELECT plan_of($$SELECT id FROM clicks WHERE _partition = 1 AND _offset >= 2 AND 4 > _offset AND id > 3$$);
SELECT plan_of($$SELECT id FROM clicks WHERE _partition IN (0, 2) AND _timestamp >= '2024-01-01 00:00+00'$$);
SELECT plan_of($$SELECT id FROM clicks WHERE _partition <> 1 AND _offset::text = '1' AND _partition + 1 = 2$$);
SELECT plan_of($$SELECT g, (SELECT count(*) FROM clicks WHERE _partition = g) FROM generate_series(0, 3) g$$);
SELECT id, _partition, _offset FROM clicks WHERE _partition = 1 AND _offset >= 2 AND 4 > _offset ORDER BY 2, 3;
SELECT count(*), min(_offset), max(_offset) FROM clicks WHERE _partition IN (0, 2, 77, NULL);
SELECT count(*) FROM clicks WHERE _partition = 1::bigint AND _offset > 0::smallint;
SELECT count(*) FROM clicks WHERE _partition IN (0, 1) AND _partition = ANY ('{1,2}'::int8[]);
SELECT count(*) FROM clicks WHERE _partition = NULL OR _offset < 0;
SELECT count(*) FROM clicks WHERE _offset < NULL;
SELECT count(*) FROM clicks WHERE _offset > 9223372036854775806;
SELECT count(*) FROM clicks WHERE _offset <= 9223372036854775807;
SELECT count(*) FROM clicks WHERE _timestamp = '2024-01-01 00:00+00';
SELECT count(*) FROM clicks WHERE _timestamp >= date '2024-01-01' - 1 AND _timestamp < '2025-01-01';
SELECT count(*) FROM clicks WHERE _timestamp > 'infinity';
SELECT count(*) = (SELECT count(*) FROM clicks WHERE _timestamp > now() - interval '1 h') + 1 FROM clicks WHERE _timestamp > '-infinity';
SELECT g, (SELECT count(*) FROM clicks WHERE _partition = g AND _offset < g + 3) FROM generate_series(0, 3) g;
PREPARE by_partition (int, bigint) AS SELECT count(*) FROM clicks WHERE _partition = $1 AND _offset < $2;
SET plan_cache_mode = force_generic_plan;
EXECUTE by_partition (1, 3);
EXECUTE by_partition (1, NULL);
SELECT plan_of('EXECUTE by_partition (1, 3)');
RESET plan_cache_mode;

-- reading in every way: self join, whole row, cursor, LIMIT, row locks, rescan
SELECT count(*) FROM clicks a JOIN clicks b USING (_partition, _offset);
SELECT c.id, (c).page, c IS NOT NULL AS complete FROM clicks c WHERE id = 3;
SELECT (to_jsonb(c) - '{_timestamp,_stream_time}'::text[]) FROM clicks c WHERE id = 3;
SELECT count(*) FROM (SELECT * FROM clicks LIMIT 3) x;
SELECT id FROM clicks WHERE id = 3 FOR UPDATE;
SELECT tableoid::regclass FROM clicks WHERE id = 3;
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT id FROM clicks WHERE _partition = 1;
FETCH 2 FROM c;
FETCH BACKWARD 1 FROM c;
-- the end is captured when the scan starts: the cursor does not see this
INSERT INTO clicks (id, _partition) VALUES (99, 1);
COMMIT;
SELECT count(*) FROM clicks WHERE id = 99;

-- nothing is seen before commit, not even by the transaction itself; nothing after rollback
SELECT kstream.create_stream('log', 'w text, n int', server => 'local');
BEGIN;
INSERT INTO log (w, n) VALUES ('a', 1);
SELECT count(*) FROM log;
COMMIT;
BEGIN;
INSERT INTO log (w, n) VALUES ('lost', 1);
ROLLBACK;
SELECT w, n, _offset FROM log;

-- offsets are dense after rollbacks to savepoints
BEGIN;
SAVEPOINT a;
INSERT INTO log (w, n) SELECT 'lost', i FROM generate_series(1, 3) i;
ROLLBACK TO a;
INSERT INTO log (w, n) SELECT 'b', i FROM generate_series(1, 3) i;
SAVEPOINT b;
INSERT INTO log (w, n) SELECT 'lost', i FROM generate_series(1, 3) i;
ROLLBACK TO b;
SAVEPOINT c;
INSERT INTO log (w, n) SELECT 'c', i FROM generate_series(1, 2) i;
RELEASE c;
COMMIT;
BEGIN;
SAVEPOINT a;
INSERT INTO log (w, n) VALUES ('lost', 1);
ROLLBACK TO a;
COMMIT;
SELECT w, n, _offset FROM log WHERE _offset > 0;
-- a read that starts within such an append
SELECT w, n, _offset FROM log WHERE _offset IN (2, 4) OR _offset = 5;
-- a function that fails and is caught while an INSERT runs
CREATE FUNCTION sometimes(n int) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO stream_local.log (w, n) VALUES ('inner', n);
	IF n % 2 = 0 THEN
		RAISE EXCEPTION 'even';
	END IF;
	RETURN n;
EXCEPTION WHEN raise_exception THEN
	RETURN -n;
END $$;
INSERT INTO log (w, n) SELECT 'outer', sometimes(i) FROM generate_series(1, 4) i;
SELECT w, n, _offset FROM log WHERE _offset > 5;

-- at every isolation level
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) > 0 FROM log;
INSERT INTO log (w, n) VALUES ('rr', 1);
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT count(*) > 0 FROM log;
INSERT INTO log (w, n) VALUES ('ser', 1);
COMMIT;
SELECT w, _offset FROM log WHERE w IN ('rr', 'ser');

-- two phases
BEGIN;
INSERT INTO log (w, n) VALUES ('lost', 1);
PREPARE TRANSACTION 'stream_local';
SELECT count(*) FROM log WHERE w = 'lost';

-- several streams, and one made and dropped, in a transaction
BEGIN;
SELECT kstream.create_stream('made', 'a int', server => 'local', partitions => 2);
INSERT INTO made (a) SELECT generate_series(1, 4);
INSERT INTO log (w) VALUES ('with made');
SAVEPOINT a;
SELECT kstream.create_stream('unmade', 'a int', server => 'local');
INSERT INTO unmade (a) VALUES (1);
ROLLBACK TO a;
SELECT kstream.create_stream('dropped', 'a int', server => 'local');
INSERT INTO dropped (a) VALUES (1);
DROP FOREIGN TABLE dropped;
COMMIT;
SELECT a, _partition, _offset FROM made;
SELECT w, _offset FROM log ORDER BY _offset DESC LIMIT 1;

-- many rows, wide rows
INSERT INTO made (a, _partition) SELECT i, i % 2 FROM generate_series(1, 20000) i;
SELECT _partition, count(*), count(DISTINCT _offset), min(_offset), max(_offset) FROM made GROUP BY 1 ORDER BY 1;
SELECT a, _offset FROM made WHERE _partition = 1 AND _offset BETWEEN 7777 AND 7779;
SELECT kstream.create_stream('wide', 'doc text, data bytea', server => 'local');
INSERT INTO wide (doc, data) SELECT string_agg(md5(i::text || j), '' ORDER BY j), decode(repeat(md5(i::text), 1000), 'hex')
	FROM generate_series(1, 5) i, generate_series(1, 500) j GROUP BY i ORDER BY i;
SELECT _offset, length(doc), left(doc, 8) AS doc, length(data) FROM wide;

-- an empty stream, and views, functions and rights
SELECT kstream.create_stream('empty', 'a int', server => 'local');
SELECT count(*), max(_offset) FROM empty;
SELECT * FROM empty WHERE _timestamp > now() - interval '1 day';
CREATE VIEW pages AS SELECT page, count(*) AS n FROM clicks GROUP BY page;
SELECT count(*) FROM pages;
CREATE ROLE regress_stream_reader;
GRANT USAGE ON SCHEMA stream_local TO regress_stream_reader;
GRANT SELECT ON pages TO regress_stream_reader;
GRANT INSERT ON log TO regress_stream_reader;
SET ROLE regress_stream_reader;
SELECT count(*) FROM pages;
SELECT count(*) FROM clicks;
INSERT INTO log (w) VALUES ('by reader');
INSERT INTO clicks (id) VALUES (1);
RESET ROLE;
SELECT w, _offset FROM log ORDER BY _offset DESC LIMIT 1;

-- triggers see the completed row
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE WARNING '% % %', TG_WHEN, NEW.w, NEW._partition;
	RETURN NEW;
END $$;
CREATE TRIGGER before_insert BEFORE INSERT ON log FOR EACH ROW EXECUTE FUNCTION tell();
CREATE TRIGGER after_insert AFTER INSERT ON log FOR EACH ROW EXECUTE FUNCTION tell();
INSERT INTO log (w) VALUES ('triggered');

-- never while a parallel query runs: decoding takes subtransactions
CREATE FUNCTION reads() RETURNS bigint LANGUAGE sql PARALLEL SAFE AS 'SELECT count(*) FROM stream_local.made';
CREATE FUNCTION reads_here() RETURNS bigint LANGUAGE sql PARALLEL RESTRICTED AS 'SELECT count(*) FROM stream_local.made';
CREATE TABLE many AS SELECT generate_series(1, 1000) AS i;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET parallel_leader_participation = off;
\set SHOW_CONTEXT never
SELECT count(*) FROM many WHERE i < reads();
SELECT reads_here() < count(*) FROM many;
\set SHOW_CONTEXT errors
-- what is planned for workers beside a stream runs without them
SELECT kstream.create_stream('kinds', 'id int, iv interval', server => 'local');
INSERT INTO kinds VALUES (1, '1 h'), (2, '2 h'), (3, '3 h');
SELECT id, iv FROM kinds JOIN (SELECT count(*) AS m FROM many) b ON id < b.m ORDER BY id;
SELECT id, iv FROM kinds WHERE id < (SELECT count(*) FROM many) ORDER BY id;
WITH b AS MATERIALIZED (SELECT i, count(*) AS n FROM many GROUP BY i) SELECT id, iv, n FROM kinds JOIN b ON i = id ORDER BY id;
SELECT id, iv FROM kinds UNION ALL SELECT i, NULL FROM many WHERE i = 1000 ORDER BY id;
CREATE TABLE copied AS SELECT id, iv FROM kinds JOIN (SELECT count(*) AS m FROM many) b ON id < b.m;
SELECT * FROM copied ORDER BY id;
SET plan_cache_mode = force_generic_plan;
PREPARE twice(int) AS SELECT id, iv FROM kinds WHERE id < (SELECT count(*) FROM many WHERE i > $1) ORDER BY id;
EXECUTE twice(0);
EXECUTE twice(998);
RESET plan_cache_mode;
CREATE FUNCTION launched(sql text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) ' || sql LOOP
		IF line ~ 'Workers' THEN
			RETURN NEXT trim(line);
		END IF;
	END LOOP;
END $$;
SELECT launched('SELECT id, iv FROM kinds WHERE id < (SELECT count(*) FROM many)');
RESET parallel_leader_participation;
-- a statement that reads no stream has its workers
SELECT launched('SELECT count(*) FROM many');
-- beside one it works
SELECT count(*) FROM many JOIN made ON a = i;

SET client_min_messages = error;
DROP SCHEMA stream_local CASCADE;
DROP ROLE regress_stream_reader;
