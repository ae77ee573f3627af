-- The index by which windows close and expire: which one does, and what is said without it.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS kstream;
CREATE SCHEMA "time index";
SET search_path = "time index";
SET timezone = 'UTC';

SELECT kstream.create_stream('s', 'k text, at timestamptz', "timestamp" => 'at', server => 'local');
-- a domain over the range
CREATE DOMAIN win AS tstzrange;
SELECT kstream.create_table_as('of_domain', $$SELECT k, kstream.tumble(at, '1 min')::win AS "W", count(*) AS n FROM s GROUP BY 1, 2$$,
	emit => 'final', retention => '1 h', paused => true);
SELECT kstream.create_table_as('visible', $$SELECT k, kstream.tumble(at, '1 min') AS "W", count(*) AS n FROM s GROUP BY 1, 2$$,
	retention => '1 h', paused => true);
SELECT kstream.create_table_as('"Rows"', $$SELECT k, at AS "At" FROM s$$, retention => '1 h', paused => true);
INSERT INTO s SELECT 'a', timestamptz '2024-01-01 00:00' + i * interval '10 s' FROM generate_series(0, 17) i;
SELECT kstream.step('of_domain'), kstream.step('visible'), kstream.step('"Rows"');
SELECT lower("W"), n FROM of_domain ORDER BY 1;
INSERT INTO s VALUES ('a', '2024-01-01 01:02');
SELECT kstream.step('of_domain'), kstream.step('visible'), kstream.step('"Rows"');
SELECT lower("W"), n FROM of_domain ORDER BY 1;
SELECT lower("W"), n FROM visible ORDER BY 1;
SELECT count(*), min("At") FROM "Rows";

-- indexes that do not give rows in the order of time do not do
DROP INDEX "visible_upper_idx", "Rows_At_idx";
CREATE INDEX ON visible USING hash (upper("W"));
CREATE INDEX ON visible (upper("W") DESC);
CREATE INDEX ON "Rows" ("At" DESC);
INSERT INTO s VALUES ('a', '2024-01-01 01:03');
\set VERBOSITY default
SELECT kstream.step('visible');
SELECT kstream.step('"Rows"');
-- others do, and what the hints say as well
CREATE INDEX ON visible (upper("W"), k);
CREATE INDEX ON "time index"."Rows" ("At");
SELECT kstream.step('visible'), kstream.step('"Rows"');
SELECT lower("W"), n FROM visible ORDER BY 1;
SELECT count(*), min("At") FROM "Rows";

-- a state is nothing for users to repair
DO $$
DECLARE
	hint text;
BEGIN
	EXECUTE (SELECT 'DROP INDEX ' || i.indexrelid::regclass FROM kstream_catalog.query q JOIN pg_index i ON i.indrelid = q.state
			 WHERE q.relation = 'of_domain'::regclass AND NOT i.indisunique);
	PERFORM kstream.step('of_domain');
EXCEPTION WHEN object_not_in_prerequisite_state THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RAISE WARNING '%, %', SQLERRM, hint;
END $$;

-- what has expired is not passed over again: windows that come later are found all the same
SELECT kstream.create_table_as('late_comers', $$SELECT k, kstream.tumble(at, '1 min') AS w, count(*) AS n FROM s GROUP BY 1, 2$$,
	grace => '2 h', emit => 'final', retention => '3 h', start => 'latest', paused => true);
INSERT INTO s VALUES ('a', '2024-01-01 10:00'), ('b', '2024-01-01 08:30'), ('c', '2024-01-01 12:30');
SELECT kstream.step('late_comers');
SELECT k, lower(w), n FROM late_comers ORDER BY 2;
INSERT INTO s VALUES ('d', '2024-01-01 11:00'), ('e', '2024-01-01 13:30');
SELECT kstream.step('late_comers');
SELECT k, lower(w), n FROM late_comers ORDER BY 2;
INSERT INTO s VALUES ('f', '2024-01-01 12:00'), ('g', '2024-01-01 15:00');
SELECT kstream.step('late_comers');
SELECT k, lower(w), n FROM late_comers ORDER BY 2;

-- keys of a type without a hash function
CREATE TYPE price AS (value money);
SELECT kstream.create_table_as('prices', $$SELECT ROW(k::money)::price AS p, kstream.tumble(at, '1 min') AS w, count(*) AS n FROM s WHERE k < 'a' GROUP BY 1, 2$$,
	retention => '1 h', start => 'latest', paused => true);
INSERT INTO s VALUES ('1', '2024-01-02 10:00'), ('2', '2024-01-02 10:00'), ('3', '2024-01-02 10:00'),
	('2', '2024-01-02 10:00:30'), ('3', '2024-01-02 12:00');
SELECT kstream.step('prices');
SELECT lower(w), n FROM prices;

SET client_min_messages = error;
DROP SCHEMA "time index" CASCADE;
