-- Continuous queries over local streams, stepped by hand.
CREATE SCHEMA queries;
SET search_path = queries, public;
SET client_min_messages = warning;
SELECT kstream.create_stream('orders', 'customer text, item text, price numeric(10,2), qty int, tags text[]', server => 'local');
SELECT kstream.create_stream('returns', 'customer text, item text, price numeric(10,2), qty int', server => 'local');
CREATE TABLE customers (customer text PRIMARY KEY, country text);
INSERT INTO customers VALUES ('ann', 'DE'), ('bob', 'FR');

-- row-wise queries
SELECT kstream.create_table_as('big', 'SELECT customer, price * qty AS total FROM orders WHERE price * qty > 20', paused => true);
SELECT kstream.create_table_as('tagged', 'SELECT o.customer, t.tag, t.n FROM orders o, unnest(o.tags) WITH ORDINALITY t(tag, n)', paused => true);
SELECT kstream.create_table_as('moves', 'SELECT customer, qty FROM orders UNION ALL SELECT customer, -qty FROM returns', paused => true);
SELECT kstream.create_table_as('enriched', 'SELECT o.customer, c.country, o.item FROM orders o LEFT JOIN customers c USING (customer)', paused => true);
SELECT kstream.create_table_as('known', 'SELECT o.customer, c.country FROM orders o JOIN customers c USING (customer)', paused => true);

-- aggregates: the result is the state; a state table; HAVING; kept inputs; global
SELECT kstream.create_table_as('sums', 'SELECT customer, count(*) AS n, sum(price * qty) AS total, max(item) AS last FROM orders GROUP BY customer', paused => true);
SELECT kstream.create_table_as('averages', 'SELECT customer, avg(price)::numeric(10,3) AS avg, count(*) FILTER (WHERE qty > 1) AS many FROM orders GROUP BY customer HAVING sum(qty) > 3', paused => true);
SELECT kstream.create_table_as('lists', 'SELECT customer, string_agg(item, '','' ORDER BY price DESC) AS items, count(DISTINCT item) AS kinds, percentile_disc(0.5) WITHIN GROUP (ORDER BY price) AS median FROM orders GROUP BY customer', paused => true);
SELECT kstream.create_table_as('totals', 'SELECT count(*) AS n, sum(qty) AS qty FROM orders', paused => true);
SELECT kstream.create_table_as('by_country', 'SELECT c.country, sum(o.qty) AS qty FROM orders o LEFT JOIN customers c USING (customer) GROUP BY 1', paused => true);
-- a global aggregate has its row from the beginning
TABLE totals;

INSERT INTO orders VALUES ('ann', 'pen', 1.50, 10, '{red,blue}'), ('bob', 'ink', 12.00, 2, NULL), (NULL, 'cup', 3, 1, '{}'), ('ann', 'mug', 7.25, 3, '{green}');
INSERT INTO returns VALUES ('ann', 'pen', 1.50, 4);
SELECT customer, item, price, qty, _partition, _offset FROM orders WHERE _offset >= 2;

SELECT kstream.step('big', 2), kstream.step('big', 100), kstream.step('big');
TABLE big ORDER BY 1, 2;
SELECT kstream.step('tagged', 1), kstream.step('tagged');
TABLE tagged ORDER BY 1, 3;
SELECT kstream.step('moves', 2), kstream.step('moves');
TABLE moves ORDER BY 1, 2;
SELECT kstream.step('enriched', 3), kstream.step('enriched');
TABLE enriched ORDER BY 1, 3;
SELECT kstream.step('known');
TABLE known ORDER BY 1;

SELECT kstream.step('sums', 1);
TABLE sums ORDER BY 1;
SELECT kstream.step('sums');
TABLE sums ORDER BY 1;
SELECT kstream.step('averages', 3);
TABLE averages ORDER BY 1;
SELECT kstream.step('averages');
TABLE averages ORDER BY 1;
SELECT kstream.step('lists', 3), kstream.step('lists');
TABLE lists ORDER BY 1;
SELECT kstream.step('totals', 3), kstream.step('totals');
TABLE totals;
SELECT kstream.step('by_country', 3), kstream.step('by_country');
TABLE by_country ORDER BY 1;

-- a rolled-back step leaves nothing behind
INSERT INTO orders VALUES ('bob', 'pen', 2, 5, NULL);
BEGIN;
SELECT kstream.step('sums');
SELECT n FROM sums WHERE customer = 'bob';
ROLLBACK;
SELECT n FROM sums WHERE customer = 'bob';
SELECT kstream.step('sums');
SELECT n FROM sums WHERE customer = 'bob';

-- several steps in one transaction
INSERT INTO orders VALUES ('bob', 'pen', 2, 5, NULL), ('eve', 'pen', 2, 5, NULL), ('eve', 'pen', 2, 1, NULL);
BEGIN;
SELECT kstream.step('sums', 1), kstream.step('sums', 1), kstream.step('sums', 1);
COMMIT;
SELECT customer, n, total FROM sums ORDER BY 1;

-- the plan, readable
SELECT regexp_replace(regexp_replace(kstream.explain('averages'), '(kstream_state\.[si])_[0-9]+', '\1_N', 'g'), '\morders\.', '', 'g') AS plan;
SELECT regexp_replace(regexp_replace(kstream.explain('lists'), '(kstream_state\.[si])_[0-9]+', '\1_N', 'g'), '\morders\.', '', 'g') AS plan;
SELECT regexp_replace(kstream.explain('enriched'), '(kstream_state\.[si])_[0-9]+', '\1_N', 'g') AS plan;

-- bad records: a failing expression, one dead letter per query and record
SELECT kstream.create_stream('ratios', 'id int, a int, b int', server => 'local');
SELECT kstream.create_table_as('divided', 'SELECT id, a / b AS ratio FROM ratios', paused => true);
SELECT kstream.create_table_as('ratio_sums', 'SELECT a % 2 AS odd, sum(100 / b) AS s FROM ratios GROUP BY 1', paused => true);
SELECT kstream.create_table_as('strict', 'SELECT id, a / b AS ratio FROM ratios', paused => true, on_error => 'stop');
INSERT INTO ratios VALUES (1, 6, 3), (2, 1, 0), (3, 8, 2), (4, 5, 0), (5, 9, 0), (6, 7, 0), (7, 3, 0), (8, 4, 4);
SELECT kstream.step('divided');
TABLE divided ORDER BY 1;
SELECT kstream.step('ratio_sums', 3), kstream.step('ratio_sums');
TABLE ratio_sums ORDER BY 1;
SELECT query, "partition", "offset", convert_from(value, 'UTF8') AS value, sqlstate, message FROM kstream.dead_letters WHERE query IN ('divided', 'ratio_sums') ORDER BY query, "offset";
-- on_error => 'stop' applies what is before the bad record, and stops there
SELECT kstream.step('strict');
TABLE strict;
SELECT kstream.step('strict');
SELECT position FROM kstream.stat_partition WHERE query = 'strict';
-- of several bad records, found branch by branch, the first one is named
SELECT kstream.create_table_as('strict_too', 'SELECT id, a / b AS ratio FROM ratios WHERE id > 4 UNION ALL SELECT id, a / b FROM ratios WHERE id < 4', paused => true, on_error => 'stop');
SELECT kstream.step('strict_too');
SELECT kstream.step('strict_too');
TABLE strict_too;
DROP TABLE strict_too;

-- an error that no record owns names the group
SELECT kstream.create_table_as('inverse', 'SELECT id % 2 AS odd, 1 / (count(*) - 2) AS x FROM ratios GROUP BY 1', paused => true);
SELECT kstream.step('inverse', 3);
SELECT kstream.step('inverse', 2);

-- records that are good alone, but with which an aggregate fails, are bad: the result is that of the others
CREATE FUNCTION no_threes(int, int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$BEGIN IF $1 + $2 > 3 THEN RAISE 'more than three' USING ERRCODE = '22023'; END IF; RETURN $1 + $2; END$$;
CREATE AGGREGATE up_to_three(int) (SFUNC = no_threes, STYPE = int, INITCOND = 0);
SELECT kstream.create_stream('floats', 'id int, k int, x float8', server => 'local');
CREATE TABLE overflowing (name text, query text);
INSERT INTO overflowing VALUES
	('f_sum', 'SELECT k, count(*) AS n, sum(x) AS s FROM floats GROUP BY k'),
	('f_avg', 'SELECT k, avg(x) AS a, up_to_three(id % 2) AS o FROM floats GROUP BY k HAVING count(*) > 0'),
	('f_twice', 'SELECT k, y % 2 AS y, sum(x) AS s, count(*) AS n, min(y) AS m FROM floats, generate_series(id, id + 1) y GROUP BY 1, 2'),
	('f_view', 'WITH f AS (SELECT * FROM floats) SELECT k, sum(x) AS s, count(*) FILTER (WHERE id > 2) AS n FROM f GROUP BY k'),
	('f_all', 'SELECT sum(x) AS s, count(*) AS n FROM floats');
SELECT kstream.create_table_as(name, query, paused => true) FROM overflowing;
SELECT kstream.create_table_as('f_one', query, paused => true) FROM overflowing WHERE name = 'f_sum';
SELECT kstream.create_table_as('f_stop', query, paused => true, on_error => 'stop') FROM overflowing WHERE name = 'f_sum';
INSERT INTO floats VALUES (1, 1, 1), (2, 1, 1e308), (3, 2, 1e308), (4, 1, 1e308), (5, 3, 1), (6, 2, 1.7e308), (7, 1, 7), (8, 2, -1.7e308), (9, 2, 1.7e308), (10, 4, 'NaN');
SELECT kstream.step('f_one', 1), kstream.step('f_one', 4), kstream.step('f_one', 2), kstream.step('f_one');
SELECT name, kstream.step(name) FROM overflowing;
SELECT kstream.step('f_stop');
SELECT kstream.step('f_stop');
SELECT query, "offset" + 1 AS id, sqlstate, message FROM kstream.dead_letters WHERE query ~ 'f_' ORDER BY query COLLATE "C", "offset";
TABLE f_sum ORDER BY k;
TABLE f_one ORDER BY k;
TABLE f_stop ORDER BY k;
CREATE FUNCTION as_select(relation text, query text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	equal boolean;
	good text := format('(SELECT * FROM floats f WHERE NOT EXISTS (SELECT FROM kstream.dead_letters d WHERE d.relation = %L::regclass AND d."offset" = f._offset) ORDER BY f._offset) floats', relation);
BEGIN
	query := replace(query, 'FROM floats', 'FROM ' || good);
	EXECUTE format('SELECT NOT EXISTS ((SELECT t::text FROM %1$s t EXCEPT ALL SELECT t::text FROM (%2$s) t) UNION ALL (SELECT t::text FROM (%2$s) t EXCEPT ALL SELECT t::text FROM %1$s t))', relation, query) INTO equal;
	RETURN equal;
END $$;
SELECT name, as_select(name, query) FROM overflowing;
-- what fails when the groups are computed names the group
\set VERBOSITY terse
SELECT kstream.create_table_as('f_kept', 'SELECT k, sum(x ORDER BY id) AS s FROM floats GROUP BY k', paused => true);
SELECT kstream.step('f_kept');
SELECT kstream.create_table_as('f_final', 'SELECT k, stddev_samp(x)::float4 AS s FROM floats WHERE k = 3 GROUP BY k', paused => true);
INSERT INTO floats VALUES (11, 3, 1e100);
SELECT kstream.step('f_final');
SELECT kstream.create_stream('floats2', 'id int, k int', server => 'local');
SELECT kstream.create_table_as('f_join', 'SELECT f.k, sum(f.k * interval ''170000000 years'') AS s FROM floats f JOIN floats2 g ON f.id = g.id AND f._timestamp BETWEEN g._timestamp - interval ''1 day'' AND g._timestamp + interval ''1 day'' WHERE f.k = 1 GROUP BY 1', paused => true);
INSERT INTO floats2 SELECT i FROM generate_series(1, 10) i;
SELECT kstream.step('f_join');
SET timezone = 'UTC';
SELECT kstream.create_table_as('f_final_window', 'SELECT kstream.tumble(_timestamp, ''1 hour'') AS w, k, 1 / (count(*) - 1) AS x FROM windowed GROUP BY 1, 2', paused => true, emit => 'final')
	FROM kstream.create_stream('windowed', 'k int', server => 'local');
INSERT INTO windowed (k, _timestamp) VALUES (1, '2024-01-01 00:10+00'), (1, '2024-01-01 00:20+00'), (2, '2024-01-01 00:20+00'), (3, '2024-01-01 02:00+00');
SELECT kstream.step('f_final_window');
RESET timezone;
\set VERBOSITY default
DROP TABLE f_sum, f_avg, f_twice, f_view, f_all, f_one, f_stop, f_kept, f_final, f_join, f_final_window;
DROP FOREIGN TABLE floats, floats2, windowed;

-- guards, dependencies
INSERT INTO sums VALUES ('x', 1, 1, 'x');
UPDATE sums SET n = 0;
DELETE FROM sums;
TRUNCATE sums;
DROP FOREIGN TABLE ratios;
DROP TABLE big;
SELECT count(*) FROM kstream.queries WHERE name = 'big';

-- a trigger before rows could change what the next records build on
CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER skip BEFORE INSERT OR UPDATE ON divided FOR EACH ROW EXECUTE FUNCTION skip();
INSERT INTO ratios VALUES (9, 9, 3);
SELECT kstream.step('divided');
ALTER TABLE divided DISABLE TRIGGER skip;
SELECT kstream.step('divided');
SELECT * FROM divided WHERE id = 9;

-- reset computes the table anew
SELECT kstream.reset('sums');
TABLE sums;
SELECT kstream.step('sums');
SELECT customer, n, total FROM sums ORDER BY 1;

-- an alias of a join hides the stream: records are run one by one where their order matters
SELECT kstream.create_table_as('hidden', 'SELECT j.customer, string_agg(j.item, '','') AS items FROM (orders JOIN customers USING (customer)) AS j GROUP BY 1', paused => true);
SELECT kstream.step('hidden');
TABLE hidden ORDER BY 1;
DROP SCHEMA queries CASCADE;
SELECT count(*) FROM kstream.queries;

-- a function that reads the stream would see the batch only: it is not let
CREATE SCHEMA queries;
SET search_path = queries, public;
SELECT kstream.create_stream('s', 'a int', server => 'local');
CREATE FUNCTION counted() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM queries.s';
CREATE FUNCTION listed() RETURNS SETOF int LANGUAGE sql STABLE AS 'SELECT a FROM queries.s';
SELECT kstream.create_table_as('t1', 'SELECT s.a, counted() FROM s, (VALUES (1)) v', paused => true);
SELECT kstream.create_table_as('t2', 'SELECT s.a, l FROM s, listed() l', paused => true);
INSERT INTO s VALUES (1), (2);
SELECT kstream.step('t1');
SELECT kstream.step('t2');
DROP SCHEMA queries CASCADE;
