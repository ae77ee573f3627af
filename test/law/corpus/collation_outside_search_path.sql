/*
Seed 6039 of the law test.
not refused properly: 42704 collation "ci" for encoding "UTF8" does not exist
LINE 1: ... double precision, c2 boolean, c3 pg_catalog.text COLLATE ci...
                                                             ^
QUERY:  CREATE TABLE kstream_state.i_172 (_gid int8, _n int8, c1 double precision, c2 boolean, c3 pg_catalog.text COLLATE ci)

*/
\set ON_ERROR_STOP on
\set QUIET on
CREATE EXTENSION IF NOT EXISTS kstream;
\ir ../fixture.sql
RESET search_path;
SET client_min_messages = error; SET timezone = 'UTC'; SET statement_timeout = '60s'; SET jit = off;
CREATE SCHEMA st; CREATE SCHEMA arc; CREATE SCHEMA base; CREATE SCHEMA lt; CREATE SEQUENCE lt.seq;
CREATE TABLE lt.t3 (t3_id int PRIMARY KEY, t3_k int[], t3_v0 bool, t3_v1 int4);
INSERT INTO lt.t3 VALUES (0, '{1,2}'::int[], NULL, '-1'::int4) ON CONFLICT DO NOTHING;
ANALYZE lt.t3;
CREATE TABLE lt.t9 (t9_id int PRIMARY KEY, t9_k time, t9_v0 float8, t9_v1 lk.mood);
INSERT INTO lt.t9 VALUES (0, '23:59:59.5'::time, '0'::float8, 'sad'::lk.mood), (1, '00:00'::time, '1.5'::float8, 'happy'::lk.mood), (2, '00:00'::time, '1e-10'::float8, 'ok'::lk.mood), (3, '00:00'::time, '0'::float8, 'sad'::lk.mood), (4, NULL, '1.5'::float8, 'ok'::lk.mood), (5, '12:30'::time, '-2.3'::float8, 'happy'::lk.mood), (6, '00:00'::time, NULL, 'ok'::lk.mood), (7, '12:30'::time, '-2.3'::float8, 'sad'::lk.mood) ON CONFLICT DO NOTHING;
ANALYZE lt.t9;
SELECT kstream.create_stream('st.s1', $c$c0 lk.citext, c1 text COLLATE lk.ci, c2 int8, c3 time, c4 int[], c5 int4$c$, server => 'local', partitions => 1);
CREATE TABLE base.s1 (c0 lk.citext, c1 text COLLATE lk.ci, c2 int8, c3 time, c4 int[], c5 int4, _key text, _partition int, _offset int8, _timestamp timestamptz, _headers jsonb, _stream_time timestamptz);
CREATE TABLE arc.s1 (c0 lk.citext, c1 text COLLATE lk.ci, c2 int8, c3 time, c4 int[], c5 int4, _key text, _partition int, _offset int8, _timestamp timestamptz, _headers jsonb, _stream_time timestamptz);
SELECT kstream.create_stream('st.s2', $c$c0 text COLLATE lk.ci, c1 int8, c2 int[], c3 int4, c4 text COLLATE "und-x-icu", c5 int4, c6 int[], c7 int4$c$, server => 'local', partitions => 1);
CREATE TABLE base.s2 (c0 text COLLATE lk.ci, c1 int8, c2 int[], c3 int4, c4 text COLLATE "und-x-icu", c5 int4, c6 int[], c7 int4, _key text, _partition int, _offset int8, _timestamp timestamptz, _headers jsonb, _stream_time timestamptz);
CREATE TABLE arc.s2 (c0 text COLLATE lk.ci, c1 int8, c2 int[], c3 int4, c4 text COLLATE "und-x-icu", c5 int4, c6 int[], c7 int4, _key text, _partition int, _offset int8, _timestamp timestamptz, _headers jsonb, _stream_time timestamptz);
SET search_path = arc, lt, lk;
CREATE VIEW arc.v5 AS SELECT a1.c4 AS d0, a1.c3 AS d1, a1.c1 COLLATE lk.ci AS d2, a1.c2 AS d3 FROM s1 a1 UNION ALL SELECT a2.c4 AS d0, a2.c3 AS d1, a2.c1 COLLATE lk.ci AS d2, a2.c2 AS d3 FROM s1 a2 WHERE a2.c4 IN (SELECT t3_k FROM t3);
CREATE VIEW arc.v7 AS SELECT (cardinality(u4.d0)) AS d0, u4.d1 AS d1, (coalesce(u4.d2, '')) AS d2 FROM v5 u4 WHERE ((isempty((int4range(0, (u4.d3 % 4)::int4 + 4)))));
SET search_path = st, lt, lk;
CREATE VIEW st.v5 AS SELECT a1.c4 AS d0, a1.c3 AS d1, a1.c1 COLLATE lk.ci AS d2, a1.c2 AS d3 FROM s1 a1 UNION ALL SELECT a2.c4 AS d0, a2.c3 AS d1, a2.c1 COLLATE lk.ci AS d2, a2.c2 AS d3 FROM s1 a2 WHERE a2.c4 IN (SELECT t3_k FROM t3);
CREATE VIEW st.v7 AS SELECT (cardinality(u4.d0)) AS d0, u4.d1 AS d1, (coalesce(u4.d2, '')) AS d2 FROM v5 u4 WHERE ((isempty((int4range(0, (u4.d3 % 4)::int4 + 4)))));
SET search_path = st, lt, lk;
SET search_path = arc, lt, lk; CREATE VIEW arc.q AS SELECT mode() WITHIN GROUP (ORDER BY j8.t9_v0) FILTER (WHERE ((j8.t9_v1::text) LIKE '%a%')) AS o0, max(x6.d2) AS o1 FROM v7 x6
  LEFT JOIN LATERAL (SELECT * FROM t9 WHERE t9_k = x6.d1 ORDER BY t9_id DESC LIMIT 1) j8 ON j8.t9_id > 1; SET search_path = st, lt, lk;
SELECT kstream.create_table_as('st.r0', $q$SELECT mode() WITHIN GROUP (ORDER BY j8.t9_v0) FILTER (WHERE ((j8.t9_v1::text) LIKE '%a%')) AS o0, max(x6.d2) AS o1 FROM v7 x6
  LEFT JOIN LATERAL (SELECT * FROM t9 WHERE t9_k = x6.d1 ORDER BY t9_id DESC LIMIT 1) j8 ON j8.t9_id > 1$q$, paused => true);
