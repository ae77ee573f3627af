-- Microseconds per row and call: the runner, and an Agg node over the same rows
-- (to compare, take off what count(*) costs there: the scan).  The last column is
-- restore, advance, save and finalize for one row of a group.
SET max_parallel_workers_per_gather = 0;
SET search_path = public;
\pset footer off
CREATE TABLE wide AS
SELECT i AS ord, NULL::text AS g, data.i4, data.i8, data.n, data.f8, data.t
FROM data, generate_series(1, 250) i WHERE has;
CREATE FUNCTION ks_test_agg_cycle_cost(call text, source text, rounds int) RETURNS float8
	AS 'ks_agg_test' LANGUAGE C STRICT;
CREATE FUNCTION native_cost(call text) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
	started timestamptz;
	best float8 := 'Infinity';
BEGIN
	FOR i IN 1 .. 5 LOOP
		started := clock_timestamp();
		EXECUTE format('SELECT %s FROM wide', call);
		best := least(best, extract(epoch FROM clock_timestamp() - started)::float8);
	END LOOP;
	RETURN best * 1e6 / (SELECT count(*) FROM wide);
END $$;
SELECT call, round(ks_test_agg_cost(call, 'SELECT * FROM wide', 10)::numeric, 4) AS ours,
	round(native_cost(call)::numeric, 4) AS "native with scan",
	round(ks_test_agg_cycle_cost(call, 'SELECT * FROM wide LIMIT 10000', 10)::numeric, 4) AS "cycle of a group"
FROM unnest('{count(*),count(n),sum(i4),sum(i8),sum(n),sum(f8),avg(i4),avg(n),avg(f8),stddev(n),min(i4),max(n),max(t)}'::text[]) call;
