/*
Seed 3003135 of the law test.
copy 0 at [('s1', 0, 1)]: dead letters are [('s1', 0, 0, '22003')], should be []
*/
\set ON_ERROR_STOP on
\set QUIET on
CREATE EXTENSION IF NOT EXISTS kstream;
\ir ../fixture.sql
RESET search_path;
SET client_min_messages = error; SET timezone = 'UTC'; SET statement_timeout = '60s'; SET jit = off;
CREATE SCHEMA st; CREATE SCHEMA arc; CREATE SCHEMA base; CREATE SCHEMA lt; CREATE SEQUENCE lt.seq; CREATE VIEW lt.vol AS SELECT random() AS r;
SELECT kstream.create_stream('st.s1', $c$c0 char(5), c1 varbit, c2 text, c3 date, c4 int8$c$, server => 'local', partitions => 1);
CREATE TABLE base.s1 (c0 char(5), c1 varbit, c2 text, c3 date, c4 int8, _key text, _partition int, _offset int8, _timestamp timestamptz, _headers jsonb, _stream_time timestamptz);
CREATE TABLE arc.s1 (c0 char(5), c1 varbit, c2 text, c3 date, c4 int8, _key text, _partition int, _offset int8, _timestamp timestamptz, _headers jsonb, _stream_time timestamptz);
SELECT kstream.create_stream('st.s2', $c$c0 varbit, c1 text, c2 varbit, c3 timestamptz, c4 timestamp, c5 text COLLATE "C"$c$, server => 'local', partitions => 1);
CREATE TABLE base.s2 (c0 varbit, c1 text, c2 varbit, c3 timestamptz, c4 timestamp, c5 text COLLATE "C", _key text, _partition int, _offset int8, _timestamp timestamptz, _headers jsonb, _stream_time timestamptz);
CREATE TABLE arc.s2 (c0 varbit, c1 text, c2 varbit, c3 timestamptz, c4 timestamp, c5 text COLLATE "C", _key text, _partition int, _offset int8, _timestamp timestamptz, _headers jsonb, _stream_time timestamptz);
SET search_path = arc, lt, lk;
SET search_path = st, lt, lk;
SET search_path = st, lt, lk;
INSERT INTO base.s1 (c0, c1, c2, c3, c4, _key, _partition, _offset, _timestamp, _headers, _stream_time) VALUES ('a '::char(5), '101'::varbit, 'A'::text, '2024-01-01'::date, NULL, 'k1', 0, 0, '2024-03-01 00:12:45+00'::timestamptz, '{"h": "1"}'::jsonb, '2024-03-01 00:12:45+00'::timestamptz);
SET search_path = arc, lt, lk; CREATE VIEW arc.q AS SELECT avg(x2.d4) FILTER (WHERE ((abs(x2.d0 % 5)::int4) > 1)) AS o0 FROM (SELECT (CASE WHEN a1.c2 COLLATE "C" > 'a' THEN 1 ELSE 0 END) AS d0, (a1._key || 'z') AS d1, a1.c4 AS d2, a1._offset AS d3, (extract(epoch FROM a1._timestamp)::int2) AS d4, a1._partition AS p_, a1._offset AS o_ FROM s1 a1) x2; SET search_path = st, lt, lk;
SELECT kstream.create_table_as('st.r0', $q$SELECT avg(x2.d4) FILTER (WHERE ((abs(x2.d0 % 5)::int4) > 1)) AS o0 FROM (SELECT (CASE WHEN a1.c2 COLLATE "C" > 'a' THEN 1 ELSE 0 END) AS d0, (a1._key || 'z') AS d1, a1.c4 AS d2, a1._offset AS d3, (extract(epoch FROM a1._timestamp)::int2) AS d4, a1._partition AS p_, a1._offset AS o_ FROM s1 a1) x2$q$, paused => true);
SELECT id FROM kstream_catalog.query WHERE relation = 'st.r0'::regclass;
SET search_path = arc, lt, lk; CREATE TABLE base.bad AS SELECT * FROM lk.bad_records('{s1,s2}', $q$SELECT CASE WHEN ((abs(x2.d0 % 5)::int4) > 1) THEN x2.d4 END AS r0 FROM (SELECT (CASE WHEN a1.c2 COLLATE "C" > 'a' THEN 1 ELSE 0 END) AS d0, (a1._key || 'z') AS d1, a1.c4 AS d2, a1._offset AS d3, (extract(epoch FROM a1._timestamp)::int2) AS d4, a1._partition AS p_, a1._offset AS o_ FROM s1 a1) x2$q$); SET search_path = st, lt, lk;
BEGIN; INSERT INTO st.s1 (c0, c1, c2, c3, c4, _key, _partition, _timestamp, _headers) VALUES ('a '::char(5), '101'::varbit, 'A'::text, '2024-01-01'::date, NULL, 'k1', 0, '2024-03-01 00:12:45+00'::timestamptz, '{"h": "1"}'::jsonb); ROLLBACK;
INSERT INTO st.s1 (c0, c1, c2, c3, c4, _key, _partition, _timestamp, _headers) VALUES ('a '::char(5), '101'::varbit, 'A'::text, '2024-01-01'::date, NULL, 'k1', 0, '2024-03-01 00:12:45+00'::timestamptz, '{"h": "1"}'::jsonb);
SELECT kstream.step('st.r0', 1000);
SET search_path = arc, lt, lk; DELETE FROM arc.s1; INSERT INTO arc.s1 SELECT * FROM base.s1 b WHERE NOT EXISTS (SELECT FROM base.bad x WHERE x.stream = 's1' AND x.part = b._partition AND x.off = b._offset) AND EXISTS (SELECT FROM kstream_catalog.position p JOIN kstream_catalog.query q ON q.id = p.query WHERE q.relation = 'st.r0'::regclass AND p.source = 'st.s1'::regclass AND p.partition = b._partition AND b._offset < p.next_offset); DELETE FROM arc.s2; INSERT INTO arc.s2 SELECT * FROM base.s2 b WHERE NOT EXISTS (SELECT FROM base.bad x WHERE x.stream = 's2' AND x.part = b._partition AND x.off = b._offset) AND EXISTS (SELECT FROM kstream_catalog.position p JOIN kstream_catalog.query q ON q.id = p.query WHERE q.relation = 'st.r0'::regclass AND p.source = 'st.s2'::regclass AND p.partition = b._partition AND b._offset < p.next_offset); SET search_path = st, lt, lk;
SET search_path = arc, lt, lk;
DO $law$ BEGIN IF EXISTS ((SELECT o0::text FROM st.r0 EXCEPT ALL SELECT o0::text FROM arc.q) UNION ALL (SELECT o0::text FROM arc.q EXCEPT ALL SELECT o0::text FROM st.r0)) THEN RAISE EXCEPTION 'the table is not what the query gives in batch'; END IF; END $law$;
SET search_path = st, lt, lk;
SET search_path = arc, lt, lk;
DO $law$ BEGIN IF EXISTS (SELECT x.stream, x.part, x.off, x.state FROM base.bad x JOIN kstream_catalog.position p ON p.query = (SELECT id FROM kstream_catalog.query WHERE relation = 'st.r0'::regclass) AND p.source = ('st.' || x.stream)::regclass AND p.partition = x.part AND x.off < p.next_offset EXCEPT ALL SELECT c.relname::text, d.partition, d."offset", d.sqlstate FROM kstream_catalog.dead_letter d JOIN pg_class c ON c.oid = d.source WHERE d.query = (SELECT id FROM kstream_catalog.query WHERE relation = 'st.r0'::regclass)) THEN RAISE EXCEPTION 'a dead letter is missing'; END IF; END $law$;
SET search_path = st, lt, lk;
SET search_path = arc, lt, lk;
DO $law$ BEGIN IF EXISTS (SELECT 1 FROM kstream_catalog.dead_letter d JOIN pg_class c ON c.oid = d.source LEFT JOIN base.bad x ON x.stream = c.relname AND x.part = d.partition AND x.off = d."offset" WHERE d.query = (SELECT id FROM kstream_catalog.query WHERE relation = 'st.r0'::regclass) AND x.off IS NULL) THEN RAISE EXCEPTION 'a good record is a dead letter'; END IF; END $law$;
SET search_path = st, lt, lk;
