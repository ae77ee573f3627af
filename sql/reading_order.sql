-- In which order streams and partitions are read, and from when on a partition is idle.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS kstream;
CREATE SCHEMA reading_order;
SET search_path = reading_order, public;

-- Two joined streams, both read to their ends; then one gets a long backlog and
-- the other a short one over the same time.  Neither is read far ahead.
SELECT kstream.create_stream('a', 'k text, v int, ts timestamptz', server => 'local', "timestamp" => 'ts');
SELECT kstream.create_stream('b', 'k text, w int, ts timestamptz', server => 'local', "timestamp" => 'ts');
SELECT kstream.create_table_as('matched', $$SELECT a.v, b.w FROM a JOIN b ON a.k = b.k AND b.ts BETWEEN a.ts - interval '1 min' AND a.ts + interval '1 min'$$, paused => true);
INSERT INTO a VALUES ('x', 0, '2024-01-01 00:00Z');
INSERT INTO b VALUES ('x', 0, '2024-01-01 00:00Z');
SELECT kstream.step('matched'), kstream.step('matched');
BEGIN;
INSERT INTO a SELECT 'x', i, timestamptz '2024-01-01 00:00Z' + i * interval '1 s' FROM generate_series(1, 1200) i;
INSERT INTO b SELECT 'x', i, timestamptz '2024-01-01 00:00Z' + i * interval '1 min' FROM generate_series(1, 20) i;
COMMIT;
CREATE FUNCTION run_dry(query text, max_rows int, OUT steps int, OUT widest interval) LANGUAGE plpgsql AS $$
BEGIN
	steps := 0;
	widest := '0';
	WHILE kstream.step(query, max_rows) > 0 LOOP
		steps := steps + 1;
		SELECT greatest(widest, max(partition_time) - min(partition_time)) INTO widest
		FROM kstream.stat_partition p WHERE p.query = run_dry.query;
	END LOOP;
END $$;
SELECT steps < 150 AS not_many, widest < '12 min' AS close_together FROM run_dry('matched', 20);
SELECT count(*) FROM matched;
SELECT count(*) FROM a JOIN b ON a.k = b.k AND b.ts BETWEEN a.ts - interval '1 min' AND a.ts + interval '1 min';

-- Partitions share the room of a batch; what one does not need goes to the others.
SELECT kstream.create_stream('parts', 'n int, ts timestamptz', server => 'local', "timestamp" => 'ts', partitions => 4);
SELECT kstream.create_table_as('shared', 'SELECT n FROM parts', paused => true);
INSERT INTO parts (n, ts, _partition) SELECT i, timestamptz '2024-01-01 00:00Z' + i * interval '1 s', 0 FROM generate_series(1, 100) i;
INSERT INTO parts (n, ts, _partition) SELECT i, timestamptz '2024-01-01 00:00Z' + i * interval '1 s', 1 FROM generate_series(1, 50) i;
INSERT INTO parts (n, ts, _partition) VALUES (1, '2024-01-01 00:00Z', 3);
SELECT kstream.step('shared', 11);
SELECT partition, position FROM kstream.stat_partition WHERE query = 'shared' ORDER BY 1;
-- the one that is furthest behind in event time comes first
SELECT kstream.step('shared', 1), kstream.step('shared', 1), kstream.step('shared', 1);
SELECT partition, position FROM kstream.stat_partition WHERE query = 'shared' ORDER BY 1;
SELECT kstream.step('shared', 100);
SELECT partition, position FROM kstream.stat_partition WHERE query = 'shared' ORDER BY 1;
SELECT kstream.step('shared'), kstream.step('shared');
SELECT count(*), sum(n) FROM shared;

-- A partition that has been read from its end on is not empty: it holds the watermark.
SELECT kstream.create_stream('late', 'ts timestamptz', server => 'local', "timestamp" => 'ts', partitions => 3);
INSERT INTO late (ts, _partition) VALUES ('2024-01-01 10:00Z', 0), ('2024-01-01 10:00Z', 1);
SELECT kstream.create_table_as('latest', $$SELECT kstream.tumble(ts, '1 min') AS w, count(*) AS n FROM late GROUP BY 1$$, emit => 'final', start => 'latest', paused => true);
INSERT INTO late (ts, _partition) VALUES ('2024-01-01 10:10Z', 0);
SELECT kstream.step('latest');
SELECT watermark FROM kstream.stat_query WHERE name = 'latest';
INSERT INTO late (ts, _partition) VALUES ('2024-01-01 10:05Z', 1);
SELECT kstream.step('latest');
INSERT INTO late (ts, _partition) VALUES ('2024-01-01 10:20Z', 0), ('2024-01-01 10:20Z', 1);
SELECT kstream.step('latest');
-- partition 2 has never had a record, and is idle from the start
SET timezone = 'UTC';
SELECT * FROM latest ORDER BY w;
SELECT late FROM kstream.stat_query WHERE name = 'latest';
-- with time passed it is idle like any other
SELECT kstream.create_table_as('patient', $$SELECT kstream.tumble(ts, '1 min') AS w, count(*) AS n FROM late GROUP BY 1$$, emit => 'final', start => 'latest', idle_timeout => '1 min', paused => true);
INSERT INTO late (ts, _partition) VALUES ('2024-01-01 10:30Z', 0), ('2024-01-01 10:40Z', 0);
SELECT kstream.step('patient');
TABLE patient;
SELECT kstream.step('patient', 1000, '1 min');
TABLE patient;

-- A query does not begin before the tables of other queries that it looks up have
-- been brought to where their streams ended: here a table of a table.
SELECT kstream.create_stream('facts', 'k int', server => 'local', partitions => 2);
INSERT INTO facts (k, _partition) SELECT i % 3, i % 2 FROM generate_series(1, 12) i;
BEGIN;
SELECT kstream.create_table_as('counted', 'SELECT k, count(*) AS n FROM facts GROUP BY k', primary_key => '{k}', paused => true);
SELECT kstream.create_table_as('looked', 'SELECT f.k, c.n FROM facts f JOIN counted c ON c.k = f.k WHERE f._offset < 2', paused => true);
CREATE VIEW seen AS SELECT n FROM looked;
SELECT kstream.create_table_as('last', 'SELECT f.k FROM facts f WHERE 4 = (SELECT max(n) FROM seen)', paused => true);
COMMIT;
SELECT kstream.step('last'), kstream.step('looked'), kstream.step('counted', 10);
SELECT kstream.step('last'), kstream.step('looked'), kstream.step('counted', 10);
SELECT kstream.step('last'), kstream.step('looked'), kstream.step('last');
SELECT k, n FROM looked ORDER BY 1, 2;
SELECT count(*) FROM last;
-- the same after a reset of all
BEGIN;
SELECT kstream.reset('counted'), kstream.reset('looked'), kstream.reset('last');
COMMIT;
SELECT kstream.step('last'), kstream.step('looked'), kstream.step('counted'), kstream.step('looked'), kstream.step('last');
-- Tables that look up each other through a view: none waits.
CREATE VIEW other AS SELECT 1 AS x;
SELECT kstream.create_table_as('one', 'SELECT f.k FROM facts f, other o', paused => true);
SELECT kstream.create_table_as('two', 'SELECT f.k FROM facts f WHERE EXISTS (SELECT FROM one)', paused => true);
CREATE OR REPLACE VIEW other AS SELECT 1 AS x WHERE NOT EXISTS (SELECT FROM two WHERE k < 0);
SELECT kstream.step('one', 1), kstream.step('two', 1);

DROP SCHEMA reading_order CASCADE;
