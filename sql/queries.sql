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
SELECT regexp_replace(kstream.explain('averages'), '(kstream_state\.[si])_[0-9]+', '\1_N', 'g') AS plan;
SELECT regexp_replace(kstream.explain('lists'), '(kstream_state\.[si])_[0-9]+', '\1_N', 'g') AS plan;
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
SELECT kstream.create_table_as('t1', 'SELECT a, counted() FROM s', paused => true);
SELECT kstream.create_table_as('t2', 'SELECT s.a, l FROM s, listed() l', paused => true);
INSERT INTO s VALUES (1), (2);
SELECT kstream.step('t1');
SELECT kstream.step('t2');
DROP SCHEMA queries CASCADE;
