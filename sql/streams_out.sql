-- Queries whose rows go to streams: create_stream_as, insert_into, chains.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS kstream;
CREATE SCHEMA streams_out;
SET search_path = streams_out, public;
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE FUNCTION try(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	state text; message text; detail text; hint text;
BEGIN
	EXECUTE command;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', state, message, nullif(detail, ''), nullif(hint, ''));
END $$;

SELECT kstream.create_stream('orders', 'id int, customer text, total numeric(8,2)', key => 'customer', server => 'local', partitions => 2);
CREATE TABLE names (customer text PRIMARY KEY, name text);
INSERT INTO names VALUES ('c1', 'Ann'), ('c2', 'Bob');
INSERT INTO orders (id, customer, total, _partition, _timestamp, _headers) VALUES
	(1, 'c1', 10, 0, '2024-01-01 00:00:01', '{"trace": "t1"}'), (2, 'c2', 20.5, 1, '2024-01-01 00:00:02', NULL),
	(3, NULL, 0, 1, '2024-01-01 00:00:03', NULL), (4, 'c3', 7, 0, '2024-01-01 00:00:04', NULL);

-- the input's key and time are carried over, everything else is what the query gives
SELECT kstream.create_stream_as('big', 'SELECT id, total * 2 AS twice FROM orders WHERE total > 5', server => 'local', paused => true);
SELECT kstream.step('big');
SELECT id, twice, _key, _timestamp, _headers FROM big ORDER BY id;
SELECT count(DISTINCT _partition) <= 2 AS partitions_of_the_input FROM big;

-- SELECT * passes on key, time and headers, and not the place in the input's log
SELECT kstream.create_stream_as('copy', 'SELECT * FROM orders', server => 'local', partitions => 1, paused => true);
SELECT kstream.step('copy');
SELECT id, customer, total, _key, _partition, _timestamp, _headers FROM copy ORDER BY id;

-- a key of its own, times and headers computed, joins, functions that return sets
SELECT kstream.create_stream_as('enriched',
	'SELECT o.id, n.name, g AS part, o._timestamp + interval ''1 hour'' AS _timestamp, jsonb_build_object(''from'', o.customer) AS _headers
	   FROM orders o LEFT JOIN names n USING (customer), generate_series(1, 2) g WHERE o.customer IS NOT NULL',
	key => 'name', server => 'local', partitions => 1, paused => true);
SELECT kstream.step('enriched');
SELECT id, name, part, _key, _timestamp, _headers FROM enriched ORDER BY id, part;

-- a stream inside a sub-select or WITH has its records' key and time as well
SELECT kstream.create_stream_as('nested', 'SELECT x.id FROM (SELECT id, customer FROM orders WHERE id > 1) x JOIN names n ON n.customer = x.customer', server => 'local', partitions => 1, paused => true);
SELECT kstream.create_stream_as('with_query', 'WITH x AS (SELECT id FROM orders) SELECT id FROM x', server => 'local', partitions => 1, paused => true);
SELECT kstream.step('nested'), kstream.step('with_query');
SELECT 'nested', id, _key, _timestamp FROM nested UNION ALL SELECT 'with_query', id, _key, _timestamp FROM with_query ORDER BY 1, 2;
SELECT kstream.explain('nested');
SELECT regexp_replace(kstream.explain('with_query'), '\mx\.', '', 'g') AS explain;

-- rows leave in the order in which their records came, whatever the plan makes of it
SELECT kstream.create_stream('numbers', 'id int, k text', server => 'local', partitions => 1);
INSERT INTO numbers SELECT i, 'k' || (i * 7919) % 100 FROM generate_series(1, 100) i;
CREATE TABLE keys AS SELECT 'k' || i AS k FROM generate_series(0, 99) i, generate_series(1, 2);
SELECT kstream.create_stream_as('sorted', 'SELECT n.id FROM numbers n JOIN keys USING (k)', server => 'local', partitions => 1, paused => true);
SET enable_hashjoin = off;
SET enable_nestloop = off;
SELECT kstream.step('sorted');
RESET enable_hashjoin;
RESET enable_nestloop;
SELECT count(*), count(*) FILTER (WHERE id <> _offset / 2 + 1) AS misplaced FROM sorted;

-- several queries feed one stream; their columns go by position
SELECT kstream.create_stream('merged', 'a bigint, b text', server => 'local');
SELECT kstream.insert_into('merged', 'SELECT id, customer FROM orders WHERE id < 3', 'first', paused => true);
SELECT kstream.insert_into('merged', 'SELECT 100 + id, ''x'', customer AS _key FROM orders WHERE id >= 3', name => 'second', paused => true);
SELECT kstream.step('first'), kstream.step('second');
SELECT a, b, _key FROM merged ORDER BY a;
SELECT name, relation, kind, state FROM kstream.queries WHERE relation = 'merged'::regclass ORDER BY 1;
SELECT name, records_in, records_out FROM kstream.stat_query WHERE relation = 'merged'::regclass ORDER BY 1;

-- UNION ALL of streams has no key, but the times
SELECT kstream.create_stream_as('united', 'SELECT id FROM orders UNION ALL SELECT a::int FROM merged', server => 'local', partitions => 1, paused => true);
SELECT kstream.step('united', 100);
SELECT id, _key, _timestamp = '2024-01-01'::timestamptz + id % 100 * interval '1 s' AS time FROM united ORDER BY 1;

-- chains of any depth: a stream, another one, a table
SELECT kstream.create_stream_as('chain1', 'SELECT id, total FROM orders WHERE total > 0', server => 'local', partitions => 3, paused => true);
SELECT kstream.create_stream_as('chain2', 'SELECT id, total + 1 AS total FROM chain1', server => 'local', paused => true);
SELECT kstream.create_table_as('chain3', 'SELECT count(*), sum(total) FROM chain2', paused => true);
SELECT kstream.step('chain1');
SELECT kstream.step('chain2');
SELECT kstream.step('chain3');
TABLE chain3;
INSERT INTO orders (id, customer, total) VALUES (5, 'c1', 100);
-- what a step has written is there for others once it has committed
SELECT kstream.step('chain1', 1), kstream.step('chain2', 1), kstream.step('chain3', 1);
SELECT kstream.step('chain2', 1);
SELECT kstream.step('chain3', 1);
TABLE chain3;

-- a record whose row cannot be written is bad, others go on
SELECT kstream.create_stream('strict', 'id int NOT NULL, total numeric(4,2) CHECK (total < 50)', server => 'local');
SELECT kstream.insert_into('strict', 'SELECT nullif(id, 2), total FROM orders', 'to_strict', paused => true);
SELECT kstream.step('to_strict');
SELECT id, total FROM strict ORDER BY id;
SELECT query, "partition", sqlstate, message FROM kstream.dead_letters WHERE query = 'to_strict' ORDER BY id;

-- the result of a step is rolled back with its transaction
BEGIN;
INSERT INTO orders (id, customer, total) VALUES (6, 'c6', 6);
SAVEPOINT one;
SELECT kstream.step('big');
ROLLBACK TO one;
COMMIT;
SELECT count(*) FROM big WHERE id = 6;
SELECT kstream.step('big');
SELECT count(*) FROM big WHERE id = 6;

-- what is refused
SELECT try($$SELECT kstream.create_stream_as('x', 'SELECT customer, count(*) FROM orders GROUP BY customer')$$);
SELECT try($$SELECT kstream.create_stream_as('x', 'SELECT 1 AS a')$$);
SELECT try($$SELECT kstream.create_stream_as('x', 'SELECT _key FROM orders')$$);
SELECT try($$SELECT kstream.create_stream_as('x', 'SELECT id FROM orders', key => 'none')$$);
SELECT try($$SELECT kstream.create_stream_as('x', 'SELECT id, total FROM orders', format => 'text')$$);
SELECT try($$SELECT kstream.create_stream_as('x', 'SELECT id FROM orders', store => 'unlogged')$$);
SELECT try($$SELECT kstream.create_stream_as('x', 'SELECT id FROM orders', store => 'heap')$$);
SELECT try($$SELECT kstream.create_stream_as('x', 'SELECT id FROM orders', keep_changes => '1 day')$$);
SELECT try($$SELECT kstream.create_stream_as('x', 'SELECT id FROM orders', partitions => 0)$$);
SELECT try($$SELECT kstream.create_stream_as('x', 'SELECT id FROM orders', guarantee => 'perhaps')$$);
SELECT try($$SELECT kstream.create_stream_as('x', 'SELECT id, random() AS r FROM orders')$$);
SELECT try($$SELECT kstream.create_stream_as('orders', 'SELECT id FROM orders')$$);
SELECT try($$SELECT kstream.insert_into('names', 'SELECT customer, customer FROM orders')$$);
SELECT try($$SELECT kstream.insert_into(NULL, 'SELECT id FROM orders')$$);
SELECT try($$SELECT kstream.insert_into('merged', 'SELECT id FROM orders')$$);
SELECT try($$SELECT kstream.insert_into('merged', 'SELECT id, customer, total FROM orders')$$);
SELECT try($$SELECT kstream.insert_into('merged', 'SELECT now(), customer FROM orders')$$);
SELECT try($$SELECT kstream.insert_into('merged', 'SELECT id, customer FROM orders', 'first')$$);
SELECT try($$SELECT kstream.insert_into('merged', 'SELECT id, customer FROM orders', '')$$);
SELECT try($$SELECT kstream.insert_into('merged', 'SELECT id, customer FROM orders', guarantee => 'at_least_once')$$);
SELECT try($$SELECT kstream.insert_into('merged', 'SELECT a, b FROM merged')$$);
SELECT try($$SELECT kstream.insert_into('orders', 'SELECT id, ''c'', total FROM chain2')$$);
SELECT kstream.create_stream('short', 'v varchar(3)', server => 'local');
SELECT try($$SELECT kstream.insert_into('short', 'SELECT customer::varchar(3) FROM orders', 'cast', paused => true)$$);

-- columns become those of the stream as in INSERT: a value that is too long is not cut, but makes its record bad
CREATE DOMAIN code AS varchar(3) CHECK (VALUE <> 'no');
SELECT kstream.create_stream('sources', 'id int, t text, n numeric, at timestamptz, a text[], b varbit', server => 'local');
INSERT INTO sources VALUES
	(1, 'abc', 1.26, '2024-01-01 00:00:00.56', '{abc}', '101'), (2, 'abc   ', 99.94, '2024-01-01 00:00:00.44', '{"abc  "}', '1'),
	(3, 'abcd', 1, 'infinity', '{a}', '1'), (4, 'a', 99.96, NULL, '{a}', '1'), (5, 'a', -7, NULL, '{abcd}', '1'), (6, 'a', 1, NULL, NULL, '1011'),
	(7, 'no', 1, NULL, '{}', '1'), (8, NULL, NULL, NULL, NULL, NULL);
SELECT kstream.create_stream('cast', 'i numeric(3,1), v varchar(3), c char(3), d code, n numeric(3,1), j bigint, at timestamp(0), day date, a varchar(3)[], b varbit(3)', server => 'local');
SELECT kstream.insert_into('cast', 'SELECT id, t, t, t, n, n, at, at, a, b FROM sources', 'casts', paused => true);
SELECT kstream.step('casts');
CREATE TABLE plain (i numeric(3,1), v varchar(3), c char(3), d code, n numeric(3,1), j bigint, at timestamp(0), day date, a varchar(3)[], b varbit(3));
SELECT id, try(format('INSERT INTO plain SELECT id, t, t, t, n, n, at, at, a, b FROM sources WHERE id = %s', id)) FROM sources;
SELECT "offset" + 1 AS id, sqlstate, message FROM kstream.dead_letters WHERE query = 'casts' ORDER BY "offset";
SELECT i, v, c, d, n, j, at, day, a, b FROM "cast";
(TABLE plain EXCEPT ALL SELECT i, v, c, d, n, j, at, day, a, b FROM "cast") UNION ALL (SELECT i, v, c, d, n, j, at, day, a, b FROM "cast" EXCEPT ALL TABLE plain);
-- what INSERT takes no cast for
SELECT try($$SELECT kstream.insert_into('cast', 'SELECT t, t, t, t, n, n, at, at, a, b FROM sources')$$);
SELECT try($$INSERT INTO plain SELECT t FROM sources$$);

-- dropping
SELECT try($$SELECT kstream.drop_query('nobody')$$);
SELECT try($$SELECT kstream.drop_query('big')$$);
SELECT left(try($$DROP FOREIGN TABLE orders$$), 75);
SELECT kstream.drop_query('second');
SELECT name FROM kstream.queries WHERE relation = 'merged'::regclass ORDER BY 1;
SELECT count(*) FROM merged;
DROP FOREIGN TABLE big;
CREATE FOREIGN TABLE extra (id int) SERVER local;
SELECT kstream.insert_into('merged', 'SELECT id, ''extra'' FROM extra', 'from_extra', paused => true);
DROP FOREIGN TABLE extra CASCADE;
SELECT name FROM kstream.queries WHERE relation = 'merged'::regclass ORDER BY 1;
SELECT try($$SELECT kstream.step('from_extra')$$);
SELECT count(*) FROM kstream.queries WHERE name = 'big';

-- what was written cannot be taken back; dead letters can be tried again, behind what is there
SELECT try($$SELECT kstream.reset('first')$$);
SELECT kstream.create_stream('texts', 't text', server => 'local');
SELECT kstream.create_stream_as('parsed', 'SELECT t::int AS n FROM texts', server => 'local', paused => true);
SELECT try($$SELECT kstream.reset('parsed')$$);
CREATE FUNCTION number(text) RETURNS int LANGUAGE sql IMMUTABLE AS $$SELECT $1::int$$;
SELECT kstream.insert_into('parsed', 'SELECT number(t) FROM texts', 'by_function', paused => true);
INSERT INTO texts VALUES ('1'), ('two'), ('3');
SELECT kstream.step('by_function');
SELECT n, _offset FROM parsed ORDER BY _partition, _offset;
CREATE OR REPLACE FUNCTION number(text) RETURNS int LANGUAGE sql IMMUTABLE AS $$SELECT CASE $1 WHEN 'two' THEN 2 ELSE $1::int END$$;
SELECT kstream.replay_dead_letters('by_function');
SELECT n, _offset FROM parsed ORDER BY _partition, _offset;

-- others may not feed a stream
CREATE ROLE regress_kstream_feeder;
GRANT USAGE, CREATE ON SCHEMA streams_out TO regress_kstream_feeder;
GRANT SELECT ON orders TO regress_kstream_feeder;
SET ROLE regress_kstream_feeder;
SELECT try($$SELECT kstream.insert_into('merged', 'SELECT id, customer FROM orders')$$);
SELECT try($$SELECT kstream.drop_query('first')$$);
SELECT try($$SELECT kstream.create_stream_as('theirs', 'SELECT id FROM copy', server => 'local')$$);
SELECT kstream.create_stream_as('theirs', 'SELECT id FROM orders', server => 'local', paused => true);
SELECT kstream.step('theirs');
SELECT count(*) FROM theirs;
RESET ROLE;

DROP SCHEMA streams_out CASCADE;
DROP ROLE regress_kstream_feeder;
SELECT count(*) FROM kstream.queries WHERE kind = 'stream';
