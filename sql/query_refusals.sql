-- Every construct that a continuous query refuses, one line each: the error
-- names the construct and a hint says what to do instead.
CREATE SCHEMA refusals;
SET search_path = refusals, public;
SELECT kstream.create_stream('s', 'k text, v int, ts timestamptz', server => 'local');
SELECT kstream.create_stream('s2', 'k text, v int', server => 'local');
CREATE TABLE d (k text PRIMARY KEY, name text);
CREATE SEQUENCE seq;
CREATE FUNCTION volatile_function(int) RETURNS int LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION try(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	state text; message text; hint text;
BEGIN
	PERFORM kstream.create_table_as('x', query, paused => true);
	DROP TABLE x;
	RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
	RETURN format(E'%s: %s\n  %s', state, message, hint);
END $$;
\pset format unaligned
\pset tuples_only on

-- clauses that look at several rows
SELECT try('SELECT DISTINCT k FROM s');
SELECT try('SELECT DISTINCT ON (k) k, v FROM s');
SELECT try('SELECT k FROM s ORDER BY k');
SELECT try('SELECT k FROM s LIMIT 1');
SELECT try('SELECT k FROM s OFFSET 1');
SELECT try('SELECT k, row_number() OVER () FROM s');
SELECT try('SELECT k FROM s FOR UPDATE');
SELECT try('SELECT k, count(*) FROM s GROUP BY ROLLUP (k)');
SELECT try('SELECT k, count(*) FROM s GROUP BY CUBE (k)');
SELECT try('SELECT k, count(*) FROM s GROUP BY GROUPING SETS ((k), ())');
SELECT try('SELECT k, grouping(k), count(*) FROM s GROUP BY k');

-- set operations
SELECT try('SELECT k FROM s UNION SELECT k FROM s2');
SELECT try('SELECT k FROM s INTERSECT SELECT k FROM s2');
SELECT try('SELECT k FROM s EXCEPT SELECT k FROM s2');
SELECT try('SELECT k FROM s EXCEPT ALL SELECT k FROM s2');
SELECT try('SELECT k FROM s UNION ALL SELECT k FROM d');
SELECT try('SELECT k FROM s UNION ALL SELECT k FROM s2 ORDER BY 1');
SELECT try('SELECT k FROM s UNION ALL SELECT k FROM s2 LIMIT 1');

-- joins of streams, and outer joins that keep rows of tables
SELECT try('SELECT s.k FROM s JOIN s2 USING (k)');
SELECT try('SELECT s.k FROM s, s2');
SELECT try('SELECT a.k FROM s a JOIN s b USING (k)');
SELECT try('SELECT s.k FROM s, LATERAL (SELECT * FROM s2 WHERE s2.k = s.k) x');
SELECT try('SELECT d.k FROM d LEFT JOIN s USING (k)');
SELECT try('SELECT d.k FROM s RIGHT JOIN d USING (k)');
SELECT try('SELECT d.k FROM s FULL JOIN d USING (k)');

-- streams in expressions
SELECT try('SELECT k FROM d WHERE EXISTS (SELECT FROM s WHERE s.k = d.k)');
SELECT try('SELECT k FROM s WHERE v IN (SELECT v FROM s2)');
SELECT try('SELECT k, (SELECT count(*) FROM s2) FROM s');
SELECT try('SELECT k, count(*) FROM s GROUP BY k HAVING count(*) > (SELECT count(*) FROM s2)');

-- no stream at all
SELECT try('SELECT k FROM d');
SELECT try('SELECT 1');
SELECT try('VALUES (1)');

-- aggregates below the top
SELECT try('SELECT * FROM (SELECT k, count(*) FROM s GROUP BY k) x');
SELECT try('WITH c AS (SELECT k, count(*) FROM s GROUP BY k) SELECT * FROM c');
SELECT try('SELECT * FROM (SELECT DISTINCT k FROM s) x');
SELECT try('WITH RECURSIVE r AS (SELECT k, 1 AS n FROM s UNION ALL SELECT k, n + 1 FROM r WHERE n < 3) SELECT * FROM r');

-- groups
SELECT try('SELECT count(*) FROM s GROUP BY k');
SELECT try('SELECT k, unnest(array_agg(v)) FROM s GROUP BY k');
SELECT try('SELECT d.k, d.name, count(*) FROM s JOIN d USING (k) GROUP BY d.k');
SELECT try('SELECT v::text::xid AS x, count(*) FROM s GROUP BY 1');
SELECT try('SELECT k, (SELECT count(s.v)) FROM s GROUP BY k');
SELECT try('SELECT ' || string_agg('v + ' || i || ' AS c' || i, ', ') || ', count(*) FROM s GROUP BY ' || string_agg(i::text, ', ') || '') FROM generate_series(1, 33) i;

-- volatile functions, samples
SELECT try('SELECT k, random() FROM s');
SELECT try('SELECT k, nextval(''refusals.seq'') FROM s');
SELECT try('SELECT k, clock_timestamp() FROM s');
SELECT try('SELECT k, volatile_function(v) FROM s');
SELECT try('SELECT k FROM s WHERE volatile_function(v) > 1');
SELECT try('SELECT k, count(volatile_function(v)) FROM s GROUP BY k');
SELECT try('SELECT s.k FROM s JOIN d TABLESAMPLE SYSTEM (10) USING (k)');

-- what is no SELECT
SELECT try('INSERT INTO d VALUES (1) RETURNING 1');
SELECT try('SELECT 1; SELECT 2');
SELECT try('SELECT k INTO t FROM s');
SELECT try('DROP TABLE d');
SELECT try('WITH x AS (DELETE FROM d RETURNING k) SELECT x.k FROM x, s');

-- names that are taken or are not there, in the words of the user (no CONTEXT)
SELECT kstream.create_table_as('d', 'SELECT k FROM s');
SELECT kstream.create_table_as('x', 'SELECT k FROM s', primary_key => '{j}');

-- and what is not refused
SELECT try('SELECT k, v FROM s WHERE v > 1');
SELECT try('WITH c AS (SELECT k, v FROM s) SELECT * FROM c UNION ALL SELECT k, v FROM s2');
SELECT try('SELECT s.k, x.n FROM s LEFT JOIN LATERAL (SELECT count(*) AS n FROM d WHERE d.k >= s.k) x ON true');
SELECT try('SELECT d.name FROM d RIGHT JOIN s USING (k)');
SELECT try('SELECT s.k, g FROM s, generate_series(1, s.v) g');
SELECT try('SELECT k, unnest(ARRAY[v, v + 1]) AS u, count(*) FROM s GROUP BY 1, 2');
SELECT try('SELECT k, count(*) FROM s GROUP BY k HAVING count(*) > (SELECT count(*) FROM d)');
SELECT try('SELECT now(), k FROM s');

\pset tuples_only off
\pset format aligned
SET client_min_messages = warning;
DROP SCHEMA refusals CASCADE;
