/* An argument of a filtered aggregate whose type is a domain that takes no NULL: for rows that FILTER keeps out it is not evaluated. */
\set ON_ERROR_STOP on
\set QUIET on
CREATE EXTENSION IF NOT EXISTS kstream;
\ir ../fixture.sql
RESET search_path;
SET client_min_messages = error; SET timezone = 'UTC'; SET statement_timeout = '60s'; SET jit = off;
CREATE SCHEMA st; CREATE SCHEMA arc; CREATE SCHEMA base; CREATE SCHEMA lt; CREATE SEQUENCE lt.seq; CREATE VIEW lt.vol AS SELECT random() AS r;
SELECT kstream.create_stream('st.s1', $c$c0 date, c1 date, c2 varbit, c3 int[], c4 int8$c$, server => 'local', partitions => 1);
CREATE TABLE base.s1 (c0 date, c1 date, c2 varbit, c3 int[], c4 int8, _key text, _partition int, _offset int8, _timestamp timestamptz, _headers jsonb, _stream_time timestamptz);
CREATE TABLE arc.s1 (c0 date, c1 date, c2 varbit, c3 int[], c4 int8, _key text, _partition int, _offset int8, _timestamp timestamptz, _headers jsonb, _stream_time timestamptz);
SET search_path = arc, lt, lk;
SET search_path = st, lt, lk;
SET search_path = st, lt, lk;
INSERT INTO base.s1 (c0, c1, c2, c3, c4, _key, _partition, _offset, _timestamp, _headers, _stream_time) VALUES ('2024-02-29'::date, '2024-02-29'::date, ''::varbit, NULL, '0'::int8, 'k2', 0, 0, '2024-03-01 00:41:40+00'::timestamptz, NULL::jsonb, '2024-03-01 00:41:40+00'::timestamptz);
SET search_path = arc, lt, lk; CREATE VIEW arc.q AS SELECT (count(((((SELECT sum(u) FROM unnest(a1.c3) u))::int)::lk.filled)) FILTER (WHERE ((length(a1.c2)) > 1))::text) AS o0 FROM s1 a1; SET search_path = st, lt, lk;
SELECT kstream.create_table_as('st.r0', $q$SELECT (count(((((SELECT sum(u) FROM unnest(a1.c3) u))::int)::lk.filled)) FILTER (WHERE ((length(a1.c2)) > 1))::text) AS o0 FROM s1 a1$q$, paused => true);
SELECT id FROM kstream_catalog.query WHERE relation = 'st.r0'::regclass;
SET search_path = arc, lt, lk; CREATE TABLE base.bad AS SELECT * FROM lk.bad_records('{s1}', $q$SELECT CASE WHEN ((length(a1.c2)) > 1) THEN ((((SELECT sum(u) FROM unnest(a1.c3) u))::int)::lk.filled) END AS r0 FROM s1 a1$q$); SET search_path = st, lt, lk;
INSERT INTO st.s1 (c0, c1, c2, c3, c4, _key, _partition, _timestamp, _headers) VALUES ('2024-02-29'::date, '2024-02-29'::date, ''::varbit, NULL, '0'::int8, 'k2', 0, '2024-03-01 00:41:40+00'::timestamptz, NULL::jsonb);
SELECT kstream.step('st.r0', 1000);
SET search_path = arc, lt, lk; DELETE FROM arc.s1; INSERT INTO arc.s1 SELECT * FROM base.s1 b WHERE NOT EXISTS (SELECT FROM base.bad x WHERE x.stream = 's1' AND x.part = b._partition AND x.off = b._offset) AND EXISTS (SELECT FROM kstream_catalog.position p JOIN kstream_catalog.query q ON q.id = p.query WHERE q.relation = 'st.r0'::regclass AND p.source = 'st.s1'::regclass AND p.partition = b._partition AND b._offset < p.next_offset); SET search_path = st, lt, lk;
SET search_path = arc, lt, lk;
DO $law$ BEGIN IF EXISTS ((SELECT o0::text FROM st.r0 EXCEPT ALL SELECT o0::text FROM arc.q) UNION ALL (SELECT o0::text FROM arc.q EXCEPT ALL SELECT o0::text FROM st.r0)) THEN RAISE EXCEPTION 'the table is not what the query gives in batch'; END IF; END $law$;
SET search_path = st, lt, lk;
SET search_path = arc, lt, lk;
DO $law$ BEGIN IF EXISTS (SELECT x.stream, x.part, x.off, x.state FROM base.bad x JOIN kstream_catalog.position p ON p.query = (SELECT id FROM kstream_catalog.query WHERE relation = 'st.r0'::regclass) AND p.source = ('st.' || x.stream)::regclass AND p.partition = x.part AND x.off < p.next_offset EXCEPT ALL SELECT c.relname::text, d.partition, d."offset", d.sqlstate FROM kstream_catalog.dead_letter d JOIN pg_class c ON c.oid = d.source WHERE d.query = (SELECT id FROM kstream_catalog.query WHERE relation = 'st.r0'::regclass)) THEN RAISE EXCEPTION 'a dead letter is missing'; END IF; END $law$;
SET search_path = st, lt, lk;
SET search_path = arc, lt, lk;
DO $law$ BEGIN IF EXISTS (SELECT 1 FROM kstream_catalog.dead_letter d JOIN pg_class c ON c.oid = d.source LEFT JOIN base.bad x ON x.stream = c.relname AND x.part = d.partition AND x.off = d."offset" WHERE d.query = (SELECT id FROM kstream_catalog.query WHERE relation = 'st.r0'::regclass) AND x.off IS NULL) THEN RAISE EXCEPTION 'a good record is a dead letter'; END IF; END $law$;
SET search_path = st, lt, lk;
