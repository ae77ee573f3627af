-- Changes of tables: what is told of them, in which order, to whom, and for how long.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS kstream;
CREATE SCHEMA changes;
SET search_path = changes, public;
SET timezone = 'UTC';

-- SQLSTATE, message and hint of an error
CREATE FUNCTION try(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	state text; message text; detail text; hint text;
BEGIN
	EXECUTE command;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(e'\n', state || ': ' || message, 'DETAIL: ' || nullif(detail, ''), 'HINT: ' || nullif(hint, ''));
END $$;

-- the rows that all changes together have left, one by one, by their images
CREATE FUNCTION fold(relation regclass, since bigint DEFAULT NULL) RETURNS SETOF jsonb LANGUAGE sql AS $$
	WITH image(row, n) AS (
		SELECT new, 1 FROM kstream.changes(relation, since) WHERE new IS NOT NULL
		UNION ALL
		SELECT old, -1 FROM kstream.changes(relation, since) WHERE old IS NOT NULL)
	SELECT row FROM (SELECT row, sum(n)::int AS n FROM image GROUP BY row) f, generate_series(1, abs(n)) ORDER BY row;
$$;

SELECT kstream.create_stream('s', 'k text, g int, v numeric, t timestamptz', "timestamp" => 't', server => 'local');
SELECT kstream.create_table_as('sums', 'SELECT k, sum(v) AS total, count(*) AS n FROM s GROUP BY k', keep_changes => '1 day', paused => true);
SELECT kstream.create_table_as('many', 'SELECT k, g, avg(v) AS average FROM s GROUP BY k, g HAVING count(*) BETWEEN 2 AND 3', keep_changes => '1 day', paused => true);
SELECT kstream.create_table_as('rows', 'SELECT k, v FROM s', keep_changes => '1 day', paused => true);
SELECT kstream.create_table_as('total', 'SELECT count(*) AS n, max(v) AS max FROM s', keep_changes => '1 day', paused => true);
SELECT kstream.create_table_as('plain', 'SELECT k, count(*) AS n FROM s GROUP BY k', paused => true);

-- nothing yet, but the row that a global aggregate begins with
SELECT kstream.position('sums'), kstream.position('rows'), kstream.position('total');
SELECT * FROM kstream.changes('sums');
SELECT * FROM kstream.changes('total');

INSERT INTO s VALUES ('a', 1, 1, '2026-01-01'), ('b', 1, 2, '2026-01-02'), ('a', 1, 12345678901234567890.10, '2026-01-03'), (NULL, NULL, 3, '2026-01-01');
SELECT kstream.step('sums', 2), kstream.step('many', 2), kstream.step('rows', 2), kstream.step('total', 2);
SELECT kstream.step('sums'), kstream.step('many'), kstream.step('rows'), kstream.step('total');
SELECT * FROM kstream.changes('sums');
SELECT * FROM kstream.changes('many');
SELECT * FROM kstream.changes('rows');
SELECT * FROM kstream.changes('total');

-- HAVING: rows come and go; several records of a group are one change
INSERT INTO s VALUES ('a', 1, 2, '2026-01-04'), ('a', 1, 3, '2026-01-02'), ('b', 1, 4, '2026-01-05');
SELECT kstream.step('many', 1), kstream.step('many', 1), kstream.step('many', 1);
SELECT position, op, key, old, new, event_time FROM kstream.changes('many', since => 1);
SELECT kstream.step('sums');
SELECT position, op, key, old, new, event_time FROM kstream.changes('sums', 4);

-- since is exclusive, max_rows ends early, and the end is the end
SELECT position, op FROM kstream.changes('rows', 1, max_rows => 2);
SELECT position, op FROM kstream.changes('rows', 3);
SELECT position, op FROM kstream.changes('rows', 4);
SELECT position, op FROM kstream.changes('rows', NULL, NULL, NULL);
SELECT count(*) FROM kstream.changes('rows', 4, wait => '50 ms');
SELECT k, kstream.position('rows') FROM rows ORDER BY 1 LIMIT 2;

-- transactions and savepoints: positions are given at the commit, without holes
INSERT INTO s SELECT 'x' || i, i, i, '2026-02-01' FROM generate_series(1, 8) i;
BEGIN;
SELECT kstream.step('rows', 2);
SAVEPOINT a;
SELECT kstream.step('rows', 3);
ROLLBACK TO a;
SELECT kstream.step('rows', 4);
SELECT count(*) FROM kstream.changes('rows', 4);
SELECT try($$SELECT kstream.position('rows')$$);
COMMIT;
SELECT position, op, new FROM kstream.changes('rows', 4);
BEGIN;
SELECT kstream.step('rows', 100);
ROLLBACK;
SELECT kstream.position('rows');
SELECT kstream.step('rows', 100);
SELECT position, new FROM kstream.changes('rows', 10);

-- a snapshot and its position
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT kstream.position('sums'), count(*) FROM sums;
SELECT kstream.step('rows', 1);
COMMIT;

-- the values of all kinds of columns, exactly
CREATE DOMAIN code AS text CHECK (VALUE <> '') NOT NULL;
CREATE TYPE point2 AS (x int, y numeric);
SELECT kstream.create_stream('kinds', 'id bigint, b boolean, f float8, n numeric, d date, ts timestamptz, i interval, by bytea, j jsonb, a text[], c text, r text', server => 'local');
SELECT kstream.create_table_as('kind', 'SELECT id, b, f, n, d, ts, i, "by", j, a, c::code AS c, r::point2 AS r FROM kinds', primary_key => '{id}', keep_changes => '1 day', paused => true);
INSERT INTO kinds VALUES (9223372036854775807, true, 0.1, 1.50, '2026-01-31', '2026-01-31 12:00+02', '1 day 02:00', '\x00ff', '{"a": [1.0, null]}', '{x,NULL}', 'ü"', '(1,2.50)'),
	(2, NULL, 'Infinity', 'NaN', NULL, NULL, NULL, NULL, NULL, NULL, 'y', NULL);
SELECT kstream.step('kind');
SELECT position, op, key, jsonb_pretty(new) FROM kstream.changes('kind');

-- a plan that has read its record to the end before it gives a row
SELECT kstream.create_table_as('nested', 'WITH w AS NOT MATERIALIZED (SELECT k, v FROM s) SELECT w.k, count(*) AS n FROM w JOIN LATERAL generate_series(1, 2) a(g) ON true LEFT JOIN LATERAL generate_series(1, a.g % 3) b(g) ON true JOIN LATERAL generate_series(1, b.g % 3) c(g) ON true WHERE k < ''b'' GROUP BY w.k', keep_changes => '1 day', paused => true);
SELECT kstream.step('nested', 3);
SELECT position, op, new, event_time FROM kstream.changes('nested');

-- values that are stored out of line
CREATE FUNCTION noise(text) RETURNS text IMMUTABLE LANGUAGE sql AS $$SELECT string_agg(md5($1 || i), '') FROM generate_series(1, 200) i$$;
SELECT kstream.create_table_as('long', 'SELECT k, string_agg(noise(k || g), '''' ORDER BY g) AS long FROM s WHERE k = ''a'' GROUP BY k', keep_changes => '1 day', paused => true);
SELECT kstream.step('long', 3), kstream.step('long', 100);
SELECT position, op, length(old ->> 'long'), length(new ->> 'long'), new ->> 'long' = (SELECT long FROM long) AS same FROM kstream.changes('long');

-- all changes together are the table
SELECT kstream.step('many', 100), kstream.step('sums', 100), kstream.step('total', 100);
SELECT count(*) FROM (SELECT to_jsonb(t) FROM many t EXCEPT ALL SELECT fold('many')) x;
SELECT count(*) FROM (SELECT fold('many') EXCEPT ALL SELECT to_jsonb(t) FROM many t) x;
SELECT count(*), (SELECT count(*) FROM sums) FROM fold('sums');

-- reset deletes every row, and goes on
SELECT kstream.position('sums') AS before, kstream.position('total') AS before_total \gset
SELECT kstream.reset('sums'), kstream.reset('total');
SELECT op, count(*), count(event_time) FROM kstream.changes('sums', :before) GROUP BY op;
SELECT op, key, old, new, event_time FROM kstream.changes('total', :before_total);
SELECT count(*) FROM fold('sums');
SELECT kstream.step('sums', 100);
SELECT count(*), (SELECT count(*) FROM sums) FROM fold('sums');

-- what is refused
SELECT try($$SELECT * FROM kstream.changes('plain')$$);
SELECT try($$SELECT kstream.position('plain')$$);
SELECT try($$SELECT * FROM kstream.changes('s')$$);
SELECT try($$SELECT * FROM kstream.changes('pg_class')$$);
SELECT try($$SELECT * FROM kstream.changes(NULL)$$);
SELECT try($$SELECT * FROM kstream.changes('rows', -1)$$);
SELECT try($$SELECT * FROM kstream.changes('rows', max_rows => 0)$$);
SELECT try($$SELECT * FROM kstream.changes('rows', 1000)$$);
SELECT try($$SELECT kstream.keep_changes('rows', '0')$$);
SELECT try($$SELECT kstream.keep_changes('rows', '-1 day')$$);
SELECT try($$SELECT kstream.keep_changes('rows', '100000 years')$$);
SELECT try($$SELECT kstream.keep_changes('s', '1 day')$$);
SELECT try($$SELECT kstream.keep_changes('pg_class', '1 day')$$);
SELECT try($$SELECT kstream.create_table_as('bad', 'SELECT k FROM s', keep_changes => '-1 s')$$);
SELECT try(format('DELETE FROM %s', log0)) ~ '^42809: cannot delete from table "chg_' AS guarded FROM kstream_catalog.changelog WHERE relation = 'rows'::regclass;
SELECT try(format('DROP TABLE %s', log0)) ~ '^2BP01' AS guarded FROM kstream_catalog.changelog WHERE relation = 'rows'::regclass;
BEGIN;
SELECT kstream.step('total', 1);
PREPARE TRANSACTION 'changes';

-- stopping and starting again leaves a gap, and says so
SELECT kstream.position('sums') AS last \gset
SELECT kstream.keep_changes('sums', NULL);
SELECT try($$SELECT * FROM kstream.changes('sums')$$);
SELECT kstream.reset('sums');
SELECT kstream.step('sums', 100);
SELECT kstream.keep_changes('sums', '1 hour');
SELECT relation, keep FROM kstream_catalog.changelog WHERE relation = 'sums'::regclass;
SELECT kstream.position('sums') - :last AS gap, (SELECT count(*) FROM kstream.changes('sums')) AS kept;
SELECT regexp_replace(try(format($$SELECT * FROM kstream.changes('sums', %s)$$, :last)), '\d+(?= are|\.|  on)', 'N', 'g');
INSERT INTO s VALUES ('a', 1, 1, '2026-03-01');
SELECT kstream.step('sums');
SELECT op, key, new - 'total', position - :last AS position FROM kstream.changes('sums', :last + 1);
SELECT op, key FROM kstream.changes('sums');
SELECT kstream.keep_changes('sums', '2 hours');
SELECT name, keep_changes FROM kstream.tables WHERE name = 'sums';
SELECT kstream.keep_changes('plain', NULL);

-- changes are kept from now on, for a table that has rows
SELECT kstream.step('plain');
SELECT kstream.keep_changes('plain', '1 day');
SELECT kstream.position('plain'), count(*) FROM kstream.changes('plain');
INSERT INTO s VALUES ('a', 1, 1, '2026-03-01');
SELECT kstream.step('plain');
SELECT position, op, key, old, new FROM kstream.changes('plain', 0);

-- privileges
CREATE ROLE changes_reader;
CREATE ROLE changes_owner;
GRANT USAGE ON SCHEMA changes TO changes_reader;
GRANT CREATE, USAGE ON SCHEMA changes TO changes_owner;
SET ROLE changes_reader;
SELECT try($$SELECT * FROM kstream.changes('plain')$$), try($$SELECT kstream.position('plain')$$), try($$SELECT kstream.keep_changes('plain', NULL)$$);
RESET ROLE;
GRANT SELECT (k) ON plain TO changes_reader;
SET ROLE changes_reader;
SELECT try($$SELECT * FROM kstream.changes('plain')$$);
RESET ROLE;
GRANT SELECT ON plain TO changes_reader;
SET ROLE changes_reader;
SELECT op, key FROM kstream.changes('plain');
SELECT kstream.position('plain');
RESET ROLE;
ALTER TABLE plain ENABLE ROW LEVEL SECURITY;
SET ROLE changes_reader;
SELECT try($$SELECT * FROM kstream.changes('plain')$$), try($$SELECT kstream.position('plain')$$);
RESET ROLE;
SELECT op, key FROM kstream.changes('plain');

-- a new owner, names, sizes, the end
ALTER TABLE plain OWNER TO changes_owner;
SELECT DISTINCT c.relowner::regrole FROM kstream_catalog.changelog l
	JOIN pg_class c ON c.oid IN (l.log0, l.segments0, l.log1, l.segments1) WHERE l.relation = 'plain'::regclass;
SELECT kstream.channel('plain'), kstream.channel(NULL);
-- what would never be notified has no channel, nor a position
CREATE TABLE own (a int);
SELECT kstream.create_stream('silent', 'a int', server => 'local');
SELECT kstream.create_table_as('quiet', 'SELECT a FROM silent', paused => true);
SELECT r, f, try(format('SELECT kstream.%s(%L)', f, r)) FROM unnest('{pg_class,own,silent,quiet,1}'::text[]) WITH ORDINALITY u(r, n), unnest('{channel,position}'::text[]) f ORDER BY n, f;
SELECT kstream.keep_changes('quiet', '1 hour');
SELECT kstream.channel('quiet');
SELECT kstream.keep_changes('quiet', NULL);
SELECT try($$SELECT kstream.channel('quiet')$$);
ALTER TABLE plain RENAME TO "a name that is so long that a channel cannot have it as its name";
SELECT kstream.channel(relation), length(kstream.channel(relation)) FROM kstream.tables WHERE name ~ 'so long';
SELECT name, role, rows >= 0 AS rows, bytes > 0 AS bytes FROM kstream.stat_store WHERE name = 'rows' ORDER BY 1, 2;
SELECT id AS chg FROM (SELECT substring(log0::text FROM '\d+') AS id FROM kstream_catalog.changelog WHERE relation = 'rows'::regclass) x \gset
DROP TABLE rows;
SELECT count(*) FROM pg_class WHERE relname IN ('chg_' || :chg || '_0', 'chg_' || :chg || '_1', 'cseg_' || :chg || '_0', 'cseg_' || :chg || '_1');
DROP SCHEMA changes CASCADE;
SELECT count(*) FROM kstream_catalog.changelog;
SELECT relname FROM pg_class WHERE relname ~ '^c(hg|seg)_';
DROP ROLE changes_reader, changes_owner;
