-- Compares aggregates run by exec/aggstate.c, cut into batches at random, with
-- PostgreSQL's own GROUP BY.  Run by run.sh; the last line is the count.
\set ON_ERROR_STOP 1
\set QUIET 1
SET client_min_messages = warning;
SET enable_sort = off;			-- hash aggregation: rows in input order
SET max_parallel_workers_per_gather = 0;
SET search_path = public;

CREATE FUNCTION ks_test_agg(call text, source text, max_batch int, seed int,
	OUT g text, OUT result text) RETURNS SETOF record
	AS 'ks_agg_test' LANGUAGE C STRICT;
CREATE FUNCTION ks_test_agg_again(call text, source text,
	OUT g text, OUT result text) RETURNS SETOF record
	AS 'ks_agg_test' LANGUAGE C STRICT;
CREATE FUNCTION ks_test_agg_info(call text, source text) RETURNS text
	AS 'ks_agg_test' LANGUAGE C STRICT;
CREATE FUNCTION ks_test_agg_cost(call text, source text, rounds int) RETURNS float8
	AS 'ks_agg_test' LANGUAGE C STRICT;
CREATE FUNCTION ks_test_agg_growth(call text, source text, rounds int) RETURNS bigint
	AS 'ks_agg_test' LANGUAGE C STRICT;
CREATE FUNCTION ks_test_agg_permissions(call text, source text, role regrole) RETURNS void
	AS 'ks_agg_test' LANGUAGE C STRICT;

CREATE TABLE outcome (passed bool, test text, detail text);

CREATE PROCEDURE note(test text, passed bool, detail text DEFAULT NULL)
LANGUAGE sql AS $$ INSERT INTO outcome VALUES (coalesce(passed, false), test, detail) $$;

-- ---------------------------------------------------------------- input
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TYPE pair AS (n bigint, s text);

CREATE TABLE data AS
SELECT i AS ord,
	CASE WHEN i % 97 = 0 THEN NULL ELSE 'g' || (i * 7 % 11) END AS g,
	r < 0.85 AND i * 7 % 11 <> 5 AS has,	-- g5 has no values at all
	((r2 - 0.5) * 200)::int2 AS i2,
	((r2 - 0.5) * 2000000000)::int4 AS i4,
	((r3 - 0.5) * 9000000000000000)::int8 AS i8,
	CASE WHEN i * 7 % 11 = 1 AND i % 40 = 2 THEN 'NaN'
		WHEN i * 7 % 11 = 2 AND i % 30 = 3 THEN 'Infinity'
		WHEN i * 7 % 11 = 3 AND i % 20 < 10 THEN (CASE WHEN i % 2 = 0 THEN '-Infinity' ELSE 'Infinity' END)::numeric
		ELSE round(((r3 - 0.5) * 10 ^ (i % 12))::numeric, i % 7) END::numeric AS n,
	CASE WHEN i * 7 % 11 = 4 AND i % 20 = 4 THEN 'NaN' WHEN i % 31 = 0 THEN '-0' WHEN i % 37 = 0 THEN '0'
		ELSE (r2 - 0.5) * 10 ^ (i % 9) END::float8 AS f8,
	(r3 * 10 ^ (i % 5))::float8 AS f8b,
	((r2 - 0.5) * 10 ^ (i % 6))::float4 AS f4,
	((r2 - 0.5) * 10000)::numeric::money AS m,
	make_interval(months => (r * 30)::int, days => (r2 * 90)::int, secs => r3 * 100000) AS iv,
	left(md5(i::text), (r2 * 20)::int) || repeat('x', CASE WHEN i % 50 = 0 THEN 300 ELSE 0 END) AS t,
	r2 < 0.7 AS b,
	((r3 * 255)::int)::bit(8) AS bits,
	timestamptz '2024-01-01 00:00+00' + make_interval(secs => r2 * 1e7) AS ts,
	(ARRAY['sad', 'ok', 'happy']::mood[])[1 + (r3 * 2)::int] AS e,
	int4range((r2 * 20)::int, 21 + (r3 * 20)::int) AS ir,
	numrange(round((r2 * 2)::numeric, i % 3), 3 + round((r3 * 2)::numeric, i % 4)) AS nr,
	CASE i % 4 WHEN 0 THEN 1.0 WHEN 1 THEN 1.00 WHEN 2 THEN 1 ELSE 1.000 END::numeric AS same
FROM (SELECT i, random() AS r, random() AS r2, random() AS r3
	FROM (SELECT setseed(0.42)) seed, generate_series(1, 400) i OFFSET 0) x;

UPDATE data SET i2 = NULL, i4 = NULL, i8 = NULL, n = NULL, f8 = NULL, f8b = NULL, f4 = NULL,
	m = NULL, iv = NULL, t = NULL, b = NULL, bits = NULL, ts = NULL, e = NULL, ir = NULL,
	nr = NULL, same = NULL
WHERE NOT has;

-- ---------------------------------------------------------------- checks
-- Results by PostgreSQL and by the runner, NULL told from the empty string.
CREATE FUNCTION native(call text, source text) RETURNS text[]
LANGUAGE plpgsql AS $$
DECLARE
	results text[];
BEGIN
	EXECUTE format($q$
		SELECT array_agg(x ORDER BY x COLLATE "C") FROM (
			SELECT format('%%s:%%s:%%s', g, num_nulls(v), v) AS x
			FROM (SELECT g, %s AS v FROM (%s) source GROUP BY g) s) s $q$,
		call, source) INTO results;
	RETURN results;
END $$;

CREATE FUNCTION ours(call text, source text, max_batch int, seed int) RETURNS text[]
LANGUAGE sql AS $$
	SELECT array_agg(x ORDER BY x COLLATE "C") FROM (
		SELECT format('%s:%s:%s', g, num_nulls(result), result) AS x
		FROM ks_test_agg(call, source, max_batch, seed)) s
$$;

-- Check a call: equal to native unsplit and, where it can be saved, split.
CREATE PROCEDURE check_call(call text, source text DEFAULT 'SELECT * FROM data ORDER BY ord')
LANGUAGE plpgsql AS $$
DECLARE
	expected text[];
	got text[];
	info text;
	size int;
	bad text;
BEGIN
	info := ks_test_agg_info(call, source);
	IF info LIKE 'inputs%' AND (call LIKE '%WITHIN GROUP%' OR call LIKE '%ORDER BY%' OR call LIKE '%(DISTINCT %') THEN
		CALL note(call, true, info);
		RETURN;
	END IF;
	expected := native(call, source);
	FOREACH size IN ARRAY CASE WHEN info LIKE 'inputs%' THEN '{0}' ELSE '{0,1,5,60,250}'::int[] END
	LOOP
		got := ours(call, source, size, size);
		IF got IS DISTINCT FROM expected THEN
			SELECT format('batch %s: %s, not %s', size, left(a, 300), left(b, 300)) INTO bad
			FROM unnest(got, expected) u(a, b) WHERE a IS DISTINCT FROM b LIMIT 1;
			CALL note(call, false, bad);
			RETURN;
		END IF;
	END LOOP;
	CALL note(call, true, info);
EXCEPTION WHEN OTHERS THEN
	CALL note(call, false, SQLERRM);
END $$;

CREATE PROCEDURE check_info(call text, expected text)
LANGUAGE plpgsql AS $$
DECLARE
	info text := ks_test_agg_info(call, 'SELECT * FROM data');
BEGIN
	CALL note('info of ' || call, info = expected, info);
END $$;

CREATE PROCEDURE check_error(statement text, expected text)
LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		EXECUTE statement;
	EXCEPTION WHEN OTHERS THEN
		CALL note(statement, SQLERRM LIKE expected, SQLERRM);
		RETURN;
	END;
	CALL note(statement, false, 'no error');
END $$;

-- ---------------------------------------------------------------- built-in, by hand
DO $$
DECLARE
	call text;
BEGIN
	FOREACH call IN ARRAY ARRAY[
		'count(*)', 'count(n)', 'count(*) FILTER (WHERE i4 > 0)', 'sum(n) FILTER (WHERE i4 > 0)',
		'sum(n) FILTER (WHERE false)', 'count(*) FILTER (WHERE NULL)', 'avg(f8) FILTER (WHERE b)',
		'sum(i2)', 'sum(i4)', 'sum(i8)', 'sum(n)', 'sum(same)', 'sum(f4)', 'sum(f8)', 'sum(m)', 'sum(iv)',
		'sum(i8 * 1000)', 'sum(i4 + 0.50)', 'sum(n * 1e40)', 'sum(abs(n))',
		'sum(CASE WHEN i2 > 90 THEN n END)', 'sum(CASE WHEN n IN (''NaN'', ''Infinity'') THEN n END)',
		'avg(i2)', 'avg(i4)', 'avg(i8)', 'avg(n)', 'avg(same)', 'avg(f4)', 'avg(f8)', 'avg(iv)',
		'stddev(i4)', 'stddev_pop(n)', 'var_samp(i8)', 'variance(f8b)', 'var_pop(f4)',
		'min(t)', 'max(t)', 'max(t COLLATE "C")', 'max(n)', 'min(f8)',
		'max(e)', 'min(ARRAY[i4, i2])', 'max(ts)', 'min(t::bpchar)', 'max(t::varchar(5))',
		'bool_and(b)', 'bool_or(b)', 'every(i2 < 200)', 'bit_and(i4)', 'bit_or(bits)', 'bit_xor(i8)',
		'corr(f8b, f4)', 'regr_slope(f8b, i4)', 'regr_r2(n::float8, f8b)', 'covar_samp(f8, f8b)',
		'regr_count(f8, f8b)', 'regr_intercept(i2, i4)',
		'range_intersect_agg(ir)', 'range_intersect_agg(nr)', 'range_intersect_agg(int4multirange(ir))',
		'max(inet ''10.0.0.0'' + i2)', 'min((i2 + 200)::oid)', 'max(ord)', 'min(g)']
	LOOP
		CALL check_call(call);
		COMMIT;
	END LOOP;
END $$;

-- ---------------------------------------------------------------- built-in, all of pg_aggregate
CREATE TABLE argument (type regtype, first text, other text);
INSERT INTO argument VALUES
	('int2', 'i2', 'i2'), ('int4', 'i4', 'i4'), ('int8', 'i8', 'i8'), ('numeric', 'n', 'n'),
	('float4', 'f4', 'f4'), ('float8', 'f8b', 'f8'), ('money', 'm', 'm'), ('interval', 'iv', 'iv'),
	('text', 't', '''-''::text'), ('bpchar', 't::bpchar', 't::bpchar'), ('varchar', 't::varchar', 't::varchar'),
	('bool', 'b', 'b'), ('bit', 'bits', 'bits'), ('bytea', 't::bytea', '''-''::bytea'),
	('date', 'ts::date', 'ts::date'), ('time', 'ts::time', 'ts::time'), ('timetz', 'ts::timetz', 'ts::timetz'),
	('timestamp', 'ts::timestamp', 'ts::timestamp'), ('timestamptz', 'ts', 'ts'),
	('oid', '(i2 + 200)::oid', 'i4'), ('inet', 'inet ''10.0.0.0'' + i2', 'g'),
	('tid', '(''(0,'' || (i2 + 200) || '')'')::tid', 'g'), ('xid8', '(i2 + 200)::text::xid8', 'g'),
	('pg_lsn', '(''0/'' || (i2 + 200))::pg_lsn', 'g'),
	('xml', '(''<a>'' || i4 || ''</a>'')::xml', 'g'),
	('anyarray', 'CASE WHEN has THEN ARRAY[i4, i2] ELSE ''{0,0}'' END', 'g'), ('anyenum', 'e', 'e'), ('anyrange', 'ir', 'ir'),
	('anymultirange', 'int4multirange(ir)', 'g'), ('anynonarray', 'n', 'n'),
	('anyelement', 'n', 'n'), ('"any"', 'ord', 'i4'), ('record', 'ROW(i4, i2)', 'g');

CREATE FUNCTION has_xml() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	RETURN xml '<a/>' IS NOT NULL;
EXCEPTION WHEN feature_not_supported THEN
	RETURN false;
END $$;
CREATE VIEW builtin AS
SELECT aggfnoid::regprocedure AS aggregate,
	proname || '(' || CASE WHEN pronargs = 0 THEN '*' ELSE
		(SELECT string_agg(CASE WHEN i = 1 THEN first ELSE other END, ', ' ORDER BY i)
		 FROM unnest(proargtypes) WITH ORDINALITY u(t, i) LEFT JOIN argument ON type = t) END || ')' AS call
FROM pg_aggregate JOIN pg_proc p ON p.oid = aggfnoid
WHERE aggkind = 'n' AND pronamespace = 'pg_catalog'::regnamespace
	AND (proname <> 'xmlagg' OR has_xml());

DO $$
DECLARE
	r record;
	n int := 0;
	without bigint := (SELECT count(*) FROM builtin WHERE call IS NULL);
BEGIN
	FOR r IN SELECT * FROM builtin ORDER BY aggregate::text
	LOOP
		n := n + 1;
		CALL check_call(r.call);
		COMMIT;
	END LOOP;
	CALL note('number of built-in aggregates', n >= 120, n::text);
	CALL note('aggregates without arguments to call them with',
		without = 0, without::text);
END $$;

-- Of every built-in call said to be insensitive to order, the result is the
-- same for each of several orders.
DO $$
DECLARE
	r record;
	n int := 0;
	results bigint;
BEGIN
	FOR r IN SELECT call FROM builtin
		UNION SELECT unnest('{sum(same),avg(same),stddev(same),sum(n),variance(same),min(same),max(f8),range_agg(nr),range_intersect_agg(nr)}'::text[])
		UNION SELECT unnest('{count(DISTINCT n),min(DISTINCT t),sum(DISTINCT same),avg(DISTINCT i4)}'::text[])
	LOOP
		CONTINUE WHEN ks_test_agg_info(r.call, 'SELECT * FROM data') NOT LIKE '%any-order';
		n := n + 1;
		SELECT count(DISTINCT native(r.call, format('SELECT * FROM data ORDER BY md5(ord::text || %s)', i)))
			INTO results FROM generate_series(1, 6) i;
		CALL note(r.call || ' in any order', results = 1, results::text);
		COMMIT;
	END LOOP;
	CALL note('number of calls insensitive to order', n BETWEEN 60 AND 120, n::text);
END $$;

-- ---------------------------------------------------------------- user-defined
-- strict without initcond: the first value is the state
CREATE FUNCTION f_last(anyelement, anyelement) RETURNS anyelement LANGUAGE sql STRICT AS 'SELECT $2';
CREATE AGGREGATE last_strict(anyelement) (sfunc = f_last, stype = anyelement);
CREATE FUNCTION f_last_null(anyelement, anyelement) RETURNS anyelement LANGUAGE sql AS 'SELECT $2';
CREATE AGGREGATE last_any(anyelement) (sfunc = f_last_null, stype = anyelement);
CREATE FUNCTION f_first(anyelement, anyelement) RETURNS anyelement LANGUAGE sql STRICT AS 'SELECT $1';
CREATE AGGREGATE first_strict(anyelement) (sfunc = f_first, stype = anyelement);
-- strict, turns NULL and stays so
CREATE FUNCTION f_fragile(int, int) RETURNS int LANGUAGE sql STRICT AS 'SELECT CASE WHEN $2 % 13 <> 0 THEN $1 # $2 END';
CREATE AGGREGATE fragile(int) (sfunc = f_fragile, stype = int);
CREATE AGGREGATE fragile_init(int) (sfunc = f_fragile, stype = int, initcond = '7');
CREATE FUNCTION f_fragile_text(text, text) RETURNS text LANGUAGE sql STRICT AS 'SELECT CASE WHEN $2 NOT LIKE ''%7'' THEN left($1 || $2, 50) END';
CREATE AGGREGATE fragile_text(text) (sfunc = f_fragile_text, stype = text);
CREATE AGGREGATE fragile_text_init(text) (sfunc = f_fragile_text, stype = text, initcond = 'start');
-- not strict, NULL comes and goes
CREATE FUNCTION f_toggle(text, int) RETURNS text LANGUAGE sql AS 'SELECT CASE WHEN $2 % 5 = 0 THEN NULL ELSE coalesce($1, ''new'') || coalesce($2, -1) END';
CREATE AGGREGATE toggle(int) (sfunc = f_toggle, stype = text);
CREATE AGGREGATE toggle_init(int) (sfunc = f_toggle, stype = text, initcond = 'start');
-- text that grows, plain and with plpgsql
CREATE FUNCTION f_concat(text, text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN $1 || coalesce($2, ''-''); END';
CREATE FUNCTION f_concat_final(text) RETURNS text LANGUAGE sql STRICT AS 'SELECT md5($1) || length($1)';
CREATE AGGREGATE concat_all(text) (sfunc = f_concat, stype = text, initcond = '', finalfunc = f_concat_final);
-- final functions: of NULL, strict with extra arguments (always NULL), polymorphic
CREATE FUNCTION f_of_null(int) RETURNS text LANGUAGE sql AS 'SELECT coalesce($1::text, ''nothing'')';
CREATE AGGREGATE of_null(int) (sfunc = int4larger, stype = int, finalfunc = f_of_null);
CREATE FUNCTION f_extra_strict(int, int) RETURNS text LANGUAGE sql AS 'SELECT ''never''';
CREATE AGGREGATE extra_strict(int) (sfunc = int4larger, stype = int, finalfunc = f_extra_strict, finalfunc_extra);
ALTER FUNCTION f_extra_strict(int, int) STRICT;
CREATE FUNCTION f_array_final(anyarray, anyelement) RETURNS anyelement LANGUAGE sql AS 'SELECT $1[array_upper($1, 1) / 2 + 1]';
CREATE FUNCTION f_array(anyarray, anyelement) RETURNS anyarray LANGUAGE plpgsql AS 'BEGIN $1[coalesce(array_upper($1, 1), 0) + 1] := $2; RETURN $1; END';
CREATE AGGREGATE array_of(anyelement) (sfunc = f_array, stype = anyarray, initcond = '{}');
CREATE AGGREGATE array_accum(anycompatible) (sfunc = array_append, stype = anycompatiblearray, initcond = '{}');
CREATE AGGREGATE array_accum_null(anycompatible) (sfunc = array_append, stype = anycompatiblearray);
CREATE AGGREGATE middle(anyelement) (sfunc = f_array, stype = anyarray, initcond = '{}', finalfunc = f_array_final, finalfunc_extra);
CREATE AGGREGATE middle_rw(anyelement) (sfunc = f_array, stype = anyarray, finalfunc = f_array_final, finalfunc_extra, finalfunc_modify = read_write);
-- the state switches between NULL and an expanded array
CREATE FUNCTION f_drop(int[], int) RETURNS int[] LANGUAGE plpgsql AS 'BEGIN IF $2 % 7 = 0 THEN RETURN NULL; END IF; $1 := coalesce($1, ''{}''); $1[5] := $2; RETURN $1; END';
CREATE AGGREGATE drop_array(int) (sfunc = f_drop, stype = int[]);
-- VARIADIC, several arguments, no arguments
CREATE FUNCTION f_least(int, VARIADIC int[]) RETURNS int LANGUAGE sql AS 'SELECT min(x) FROM unnest($2 || $1) x';
CREATE AGGREGATE least_of(VARIADIC int[]) (sfunc = f_least, stype = int);
CREATE FUNCTION f_weighted(numeric[], numeric, float8) RETURNS numeric[] LANGUAGE sql STRICT AS 'SELECT ARRAY[$1[1] + $2 * $3::numeric, $1[2] + $3::numeric]';
CREATE FUNCTION f_weighted_final(numeric[]) RETURNS numeric LANGUAGE sql AS 'SELECT $1[1] / nullif($1[2], 0)';
CREATE AGGREGATE weighted(numeric, float8) (sfunc = f_weighted, stype = numeric[], initcond = '{0,0}', finalfunc = f_weighted_final);
CREATE FUNCTION f_ticks(int) RETURNS int LANGUAGE sql AS 'SELECT $1 + 2';
CREATE AGGREGATE ticks(*) (sfunc = f_ticks, stype = int, initcond = '100');
-- composite states, jsonb state, domain state
CREATE FUNCTION f_pair(pair, int, text) RETURNS pair LANGUAGE sql AS 'SELECT ROW(coalesce($1.n, 0) + coalesce($2, 0), greatest($1.s, $3))::pair';
CREATE AGGREGATE pair_of(int, text) (sfunc = f_pair, stype = pair);
CREATE FUNCTION f_pair_pl(p pair, n int, s text) RETURNS pair LANGUAGE plpgsql AS 'BEGIN p.n := coalesce(p.n, 0) + coalesce(n, 0); p.s := s; RETURN p; END';
CREATE AGGREGATE pair_pl(int, text) (sfunc = f_pair_pl, stype = pair, initcond = '(5,five)');
CREATE FUNCTION f_tally(jsonb, text) RETURNS jsonb LANGUAGE sql AS $$SELECT jsonb_set($1, ARRAY[coalesce(left($2, 1), '')], to_jsonb(coalesce(($1->>coalesce(left($2, 1), ''))::int, 0) + 1))$$;
CREATE AGGREGATE tally(text) (sfunc = f_tally, stype = jsonb, initcond = '{}');
CREATE DOMAIN positive AS int NOT NULL CHECK (VALUE > 0);
CREATE FUNCTION f_positive(positive, int) RETURNS positive LANGUAGE sql AS 'SELECT abs(coalesce($2, 1)) % 1000 + 1';
CREATE AGGREGATE last_positive(int) (sfunc = f_positive, stype = positive, initcond = '1');
CREATE DOMAIN words AS text[] CHECK (cardinality(VALUE) < 1000);
CREATE FUNCTION f_words(words, text) RETURNS words LANGUAGE plpgsql AS 'BEGIN RETURN $1 || $2; END';
CREATE AGGREGATE words_of(text) (sfunc = f_words, stype = words, initcond = '{}');
-- the collation of the call
CREATE FUNCTION f_greater(text, text) RETURNS text LANGUAGE sql STRICT AS 'SELECT CASE WHEN $1 < $2 THEN $2 ELSE $1 END';
CREATE AGGREGATE greatest_text(text) (sfunc = f_greater, stype = text);
-- fixed-length by-reference state
CREATE FUNCTION f_longer(interval, interval) RETURNS interval LANGUAGE sql STRICT AS 'SELECT $1 / 2 + $2';
CREATE AGGREGATE smooth(interval) (sfunc = f_longer, stype = interval);
-- functions with SET and SECURITY DEFINER go through another call handler
CREATE FUNCTION f_setting(text, int) RETURNS text LANGUAGE sql SECURITY DEFINER SET work_mem = '5MB' AS 'SELECT current_setting(''work_mem'') || coalesce($2, 0)';
CREATE AGGREGATE setting_of(int) (sfunc = f_setting, stype = text);
-- C functions that look at everything an aggregate may look at
CREATE FUNCTION trace_trans(internal, VARIADIC "any") RETURNS internal AS 'ks_agg_test' LANGUAGE C;
CREATE FUNCTION trace_final(internal, VARIADIC "any") RETURNS text AS 'ks_agg_test' LANGUAGE C;
CREATE FUNCTION trace_serial(internal) RETURNS bytea AS 'ks_agg_test' LANGUAGE C STRICT;
CREATE FUNCTION trace_deserial(bytea, internal) RETURNS internal AS 'ks_agg_test' LANGUAGE C STRICT;
CREATE FUNCTION trace_combine(internal, internal) RETURNS internal AS 'ks_agg_test' LANGUAGE C;
CREATE FUNCTION null_pointer_trans(internal, int) RETURNS internal AS 'ks_agg_test' LANGUAGE C;
CREATE FUNCTION callbacks_missing() RETURNS bigint AS 'ks_agg_test' LANGUAGE C;
CREATE AGGREGATE trace(VARIADIC "any") (sfunc = trace_trans, stype = internal, finalfunc = trace_final,
	finalfunc_extra, finalfunc_modify = read_write, combinefunc = trace_combine,
	serialfunc = trace_serial, deserialfunc = trace_deserial);
CREATE AGGREGATE trace_alone(VARIADIC "any") (sfunc = trace_trans, stype = internal, finalfunc = trace_final,
	finalfunc_extra, finalfunc_modify = read_write, serialfunc = trace_serial, deserialfunc = trace_deserial);

DO $$
DECLARE
	call text;
BEGIN
	FOREACH call IN ARRAY ARRAY[
		'last_strict(i4)', 'last_strict(t)', 'last_strict(n)', 'last_strict(ARRAY[t, g])', 'last_strict(ir)',
		'last_any(i4)', 'last_any(t)', 'last_any(ARRAY[i4])', 'first_strict(i8)', 'first_strict(t)',
		'first_strict(e)', 'first_strict(ROW(i4, t)::pair)', 'last_any(ROW(i4, t)::pair)',
		'fragile(i4)', 'fragile_init(i4)', 'fragile(ord)', 'fragile_text(t)', 'fragile_text_init(t)',
		'toggle(i2)', 'toggle_init(i2)', 'concat_all(t)', 'of_null(i2)', 'extra_strict(i2)',
		'array_of(i4)', 'array_of(t)', 'array_accum(i4)', 'array_accum(t)', 'array_accum_null(n)',
		'array_accum(ROW(i4, t)::pair)', 'middle(i4)', 'middle(t)', 'middle_rw(t)', 'middle_rw(n)',
		'drop_array(i2)', 'least_of(i4, i2, ord)', 'least_of(i4)', 'least_of(VARIADIC ARRAY[i4, ord])',
		'weighted(n, f8b)', 'weighted(i4, i2)', 'ticks(*)', 'pair_of(i4, t)', 'pair_pl(i4, t)', 'tally(t)',
		'last_positive(i4)', 'words_of(left(t, 3))', 'greatest_text(t)', 'greatest_text(t COLLATE "C")',
		'smooth(iv)', 'setting_of(i4)',
		'trace(i4)', 'trace(t, i4, NULL::pair)', 'trace(i4, ''literal'')', 'trace(VARIADIC ARRAY[i4])',
		'trace_alone(i4, t)', 'fragile(i4) FILTER (WHERE b)', 'last_strict(t) FILTER (WHERE i4 > 0)', 'last_strict(ord % 7 = 0)']
	LOOP
		CALL check_call(call);
		COMMIT;
	END LOOP;
END $$;

-- A null pointer not marked NULL is saved as NULL.
CREATE FUNCTION null_pointer_text(internal) RETURNS text AS 'ks_agg_test', 'null_pointer_text' LANGUAGE C;
CREATE AGGREGATE null_pointer_sum(int) (sfunc = null_pointer_trans, stype = internal, finalfunc = null_pointer_text,
	combinefunc = trace_combine, serialfunc = trace_serial, deserialfunc = trace_deserial);
CALL check_call('null_pointer_sum(i2)');
CALL check_call('null_pointer_sum(50)');
CALL check_call('null_pointer_sum(ord)');
CALL note('callbacks registered by aggregate functions were run', callbacks_missing() = 0, callbacks_missing()::text);

-- ---------------------------------------------------------------- kinds and other answers
CREATE AGGREGATE of_record(anyelement) (sfunc = f_last_null, stype = anyelement);
DO $$
DECLARE
	r record;
BEGIN
	FOR r IN SELECT * FROM (VALUES
		('count(*)', 'direct bigint result any-order'), ('count(t)', 'direct bigint result any-order'),
		('count(DISTINCT i4)', 'inputs any-order'), ('sum(DISTINCT n)', 'inputs'), ('sum(DISTINCT i4)', 'inputs any-order'),
		('sum(i4 ORDER BY ord)', 'inputs any-order'), ('array_agg(i4 ORDER BY ord)', 'inputs'),
		('sum(i4)', 'direct bigint result any-order'), ('sum(i8)', 'add numeric result any-order'),
		('sum(n)', 'add numeric result any-order'), ('sum(f8)', 'direct double precision result'),
		('sum(f4)', 'direct real result'), ('sum(m)', 'direct money result any-order'),
		('avg(i4)', 'direct bigint[] any-order'), ('avg(n)', 'serial bytea any-order'), ('avg(i8)', 'serial bytea any-order'),
		('avg(f8)', 'direct double precision[]'), ('stddev(n)', 'serial bytea any-order'), ('stddev(f8)', 'direct double precision[]'),
		('min(i4)', 'direct integer result any-order'), ('min(n)', 'direct numeric result'), ('max(f8)', 'direct double precision result'),
		('max(t)', 'direct text result any-order'), ('max(e)', 'direct mood result any-order'), ('max(ts)', 'direct timestamp with time zone result any-order'),
		('bool_and(b)', 'direct boolean result any-order'), ('range_agg(ir)', 'inputs any-order'), ('range_agg(nr)', 'inputs'),
		('range_intersect_agg(ir)', 'direct int4range result any-order'),
		('json_agg(i4)', 'inputs'), ('jsonb_object_agg(ord, i4)', 'inputs'), ('percentile_cont(0.5) WITHIN GROUP (ORDER BY f8)', 'inputs'),
		('mode() WITHIN GROUP (ORDER BY t)', 'inputs'), ('rank(3) WITHIN GROUP (ORDER BY i4)', 'inputs'),
		('of_record(ROW(i4, t))', 'inputs'), ('of_record(ARRAY[ROW(i4, t)])', 'inputs'), ('of_record(ROW(i4, t)::pair)', 'direct pair result'),
		('array_accum(i4)', 'direct integer[] result'), ('middle(t)', 'direct text[]'),
		('fragile(i4)', 'direct integer result'), ('last_positive(i4)', 'direct integer result'), ('words_of(t)', 'direct text[] result'),
		('trace(i4)', 'serial bytea'), ('least_of(i4, i2)', 'direct integer result')) v(call, expected)
	LOOP
		CALL check_info(r.call, r.expected);
	END LOOP;
END $$;

SELECT EXISTS (SELECT FROM pg_collation WHERE collname = 'en-x-icu') AS icu \gset
\if :icu
CREATE COLLATION ignoring_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CALL check_info('min(t COLLATE ignoring_case)', 'direct text result');
CALL check_call('min((CASE WHEN ord % 2 = 0 THEN upper(t) ELSE t END) COLLATE ignoring_case)');
CALL check_call('min(t COLLATE "en-x-icu")');
CALL check_call('greatest_text((upper(t) || t) COLLATE "en-x-icu")');
\endif

-- ---------------------------------------------------------------- permissions, errors
CREATE ROLE nobody_special;
CREATE ROLE agg_owner;
CALL note('permission on built-in', ks_test_agg_permissions('avg(n)', 'SELECT * FROM data', 'nobody_special') IS NOT NULL);
REVOKE EXECUTE ON FUNCTION fragile(int) FROM public;
CALL check_error($$SELECT ks_test_agg_permissions('fragile(i4)', 'SELECT * FROM data', 'nobody_special')$$, 'permission denied for aggregate fragile');
REVOKE EXECUTE ON FUNCTION f_concat(text, text), f_concat_final(text) FROM public;
CALL note('components are the owner''s business', ks_test_agg_permissions('concat_all(t)', 'SELECT * FROM data', 'nobody_special') IS NOT NULL);
ALTER AGGREGATE concat_all(text) OWNER TO agg_owner;
CALL check_error($$SELECT ks_test_agg_permissions('concat_all(t)', 'SELECT * FROM data', 'nobody_special')$$, 'permission denied for function f_concat');
GRANT EXECUTE ON FUNCTION f_concat(text, text) TO agg_owner;
CALL check_error($$SELECT ks_test_agg_permissions('concat_all(t)', 'SELECT * FROM data', 'nobody_special')$$, 'permission denied for function f_concat_final');

CALL check_error($$SELECT * FROM ks_test_agg('sum(DISTINCT i4)', 'SELECT * FROM data', 0, 0)$$, 'aggregate sum(integer) with DISTINCT, ORDER BY%');
CALL check_error($$SELECT * FROM ks_test_agg('mode() WITHIN GROUP (ORDER BY i4)', 'SELECT * FROM data', 0, 0)$$, 'aggregate mode(%cannot be run row by row');
CALL check_error($$SELECT * FROM ks_test_agg('json_agg(i4)', 'SELECT * FROM data', 5, 0)$$, 'state of aggregate json_agg(anyelement) cannot be saved');
CALL check_error($$SELECT ks_test_agg_info('array_accum(ARRAY[i4])', 'SELECT * FROM data')$$, 'could not find array type%');
CREATE FUNCTION f_loose(int, text) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE AGGREGATE loose(text) (sfunc = f_loose, stype = int);
ALTER FUNCTION f_loose(int, text) STRICT;
CALL check_error($$SELECT * FROM ks_test_agg('loose(t)', 'SELECT * FROM data', 0, 0)$$, 'aggregate loose(text) needs to have compatible%');

-- ---------------------------------------------------------------- long life
-- A runner that lives through several transactions, some of which fail on the
-- way, goes on from what the good ones saved.
CREATE FUNCTION f_failing(anyarray, anyelement) RETURNS anyarray LANGUAGE plpgsql AS $$
BEGIN
	IF current_setting('test.fail', true) = 'on' AND random() < 0.02 THEN
		RAISE 'failing as told';
	END IF;
	RETURN ($1 || $2)[greatest(1, cardinality($1) - 10):];
END $$;
CREATE AGGREGATE failing(anyelement) (sfunc = f_failing, stype = anyarray, initcond = '{}');
CREATE FUNCTION f_failing_sql(text, int) RETURNS text LANGUAGE sql AS
	$$SELECT right($1 || $2 / CASE WHEN current_setting('test.fail', true) = 'on' AND $2 % 10 = 0 THEN 0 ELSE 1 END, 50)$$;
CREATE AGGREGATE failing_sql(int) (sfunc = f_failing_sql, stype = text, initcond = '');
CREATE FUNCTION again(call text) RETURNS text[] LANGUAGE sql AS $$
	SELECT array_agg(x ORDER BY x COLLATE "C") FROM (
		SELECT format('%s:%s:%s', g, num_nulls(result), result) AS x
		FROM ks_test_agg_again(call, 'SELECT * FROM data ORDER BY ord')) s
$$;
DO $$
DECLARE
	call text;
	got text[];
	bad int;
BEGIN
	FOREACH call IN ARRAY ARRAY['failing(i4)', 'failing(t)', 'failing_sql(ord)',
		'avg(n)', 'sum(f8)', 'trace(f4)', 'pair_pl(i4, t)']
	LOOP
		bad := 0;
		FOR pass IN 1 .. 3 LOOP
			PERFORM set_config('test.fail', 'on', false);
			BEGIN
				PERFORM again(call) WHERE call LIKE 'failing%';
			EXCEPTION WHEN raise_exception OR division_by_zero THEN
				bad := bad + 1;
			END;
			PERFORM set_config('test.fail', 'off', false);
			COMMIT;
			got := again(call);
			COMMIT;
		END LOOP;
		CALL note('across transactions: ' || call,
			got = native(call, 'SELECT data.* FROM data, generate_series(1, 3) k ORDER BY k, ord')
			AND bad = CASE WHEN call LIKE 'failing%' THEN 3 ELSE 0 END, bad::text);
	END LOOP;
END $$;
CALL note('callbacks were run after errors, too', callbacks_missing() = 0, callbacks_missing()::text);

-- ---------------------------------------------------------------- memory and speed
SET test.rounds = :rounds;
-- 10^6 advances each (10^5 where functions are not in C): no growth
DO $$
DECLARE
	r record;
	growth bigint;
BEGIN
	FOR r IN SELECT * FROM (VALUES
		('sum(n)', 1), ('sum(i8)', 1), ('avg(n)', 1), ('avg(i4)', 1), ('max(t)', 1), ('sum(iv)', 1), ('stddev(f8)', 1), ('corr(f8b, f4)', 1),
		('range_intersect_agg(ir)', 1), ('json_agg(i4)', 1), ('last_strict(t)', 10), ('fragile_text(t)', 10), ('drop_array(i2)', 10),
		('pair_pl(i4, t)', 10), ('least_of(i4, i2)', 10), ('setting_of(i4)', 20)) v(call, part)
	LOOP
		growth := ks_test_agg_growth(r.call, 'SELECT * FROM data ORDER BY ord', current_setting('test.rounds')::int / r.part);
		CALL note('memory stays flat with ' || r.call, growth <= 0, growth::text);
		COMMIT;
	END LOOP;
END $$;
