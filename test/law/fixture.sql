-- Types, functions and aggregates that the cases of the law test use; once per database.
CREATE SCHEMA lk;
SET search_path = lk;
CREATE EXTENSION IF NOT EXISTS citext SCHEMA lk;
CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TYPE pair AS (i int, t text);
CREATE DOMAIN posint AS int CHECK (VALUE > 0);
CREATE DOMAIN word AS text CHECK (length(VALUE) < 4);
CREATE DOMAIN filled AS int NOT NULL;

-- Bytes of a column of a group key: none of a type of fixed length, else with the
-- length word and uncompressed, which is what a value made anew from its text has.
CREATE FUNCTION key_size(anyelement) RETURNS int LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
	kind record;
	size int;
BEGIN
	SELECT typlen, typcategory INTO kind FROM pg_type WHERE oid = pg_typeof($1);
	IF kind.typlen <> -1 THEN
		RETURN 0;
	END IF;
	-- Text is its own text: a cast would not make it anew.
	EXECUTE format(CASE kind.typcategory WHEN 'S' THEN 'SELECT octet_length($1) + 4' ELSE 'SELECT pg_column_size($1::text::%s)' END,
		pg_typeof($1)) INTO size USING $1;
	RETURN size;
END $$;

-- Raises what a group key over the limit raises.
CREATE FUNCTION check_key(size int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	IF size > 2600 THEN
		RAISE program_limit_exceeded;
	END IF;
	RETURN true;
END $$;

CREATE FUNCTION double(anyelement) RETURNS anyarray LANGUAGE sql IMMUTABLE AS 'SELECT ARRAY[$1, $1]';
CREATE FUNCTION picky(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	IF $1 = 3 THEN
		RAISE EXCEPTION 'three is not liked' USING ERRCODE = 'P0003';
	END IF;
	RETURN $1 * 2;
END $$;
CREATE FUNCTION up_to(int) RETURNS TABLE (n int, sq int) LANGUAGE sql IMMUTABLE ROWS 3
	AS 'SELECT i, i * i FROM generate_series(1, least($1, 3)) i';

-- strict with an initial value
CREATE FUNCTION sumsq_step(numeric, numeric) RETURNS numeric LANGUAGE sql IMMUTABLE STRICT AS 'SELECT $1 + $2 * $2';
CREATE AGGREGATE sumsq(numeric) (sfunc = sumsq_step, stype = numeric, initcond = '0');
-- strict without one: the first value is the state
CREATE FUNCTION first_step(anyelement, anyelement) RETURNS anyelement LANGUAGE sql IMMUTABLE STRICT AS 'SELECT $1';
CREATE AGGREGATE first_value_of(anyelement) (sfunc = first_step, stype = anyelement);
-- not strict: NULLs count
CREATE FUNCTION last_step(anyelement, anyelement) RETURNS anyelement LANGUAGE sql IMMUTABLE AS 'SELECT $2';
CREATE AGGREGATE last_value_of(anyelement) (sfunc = last_step, stype = anyelement);
CREATE FUNCTION nulls_step(int8, anyelement) RETURNS int8 LANGUAGE sql IMMUTABLE
	AS 'SELECT $1 + CASE WHEN $2 IS NULL THEN 1 ELSE 0 END';
CREATE AGGREGATE count_nulls(anyelement) (sfunc = nulls_step, stype = int8, initcond = '0');
-- two arguments, array state, final function
CREATE FUNCTION wavg_step(numeric[], numeric, numeric) RETURNS numeric[] LANGUAGE sql IMMUTABLE STRICT
	AS 'SELECT ARRAY[$1[1] + $2 * $3, $1[2] + $3]';
CREATE FUNCTION wavg_final(numeric[]) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT round($1[1] / nullif($1[2], 0), 6)';
CREATE AGGREGATE wavg(numeric, numeric) (sfunc = wavg_step, stype = numeric[], finalfunc = wavg_final, initcond = '{0,0}');
-- variadic
CREATE FUNCTION least_step(int, VARIADIC int[]) RETURNS int LANGUAGE sql IMMUTABLE
	AS 'SELECT least($1, (SELECT min(v) FROM unnest($2) v))';
CREATE AGGREGATE least_of(VARIADIC int[]) (sfunc = least_step, stype = int);
-- composite state
CREATE FUNCTION pair_step(pair, int) RETURNS pair LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	IF $1 IS NULL OR $1.i IS NULL THEN
		RETURN ROW(1, coalesce($2::text, 'null'))::lk.pair;
	END IF;
	RETURN ROW($1.i + 1, right($1.t || ',' || coalesce($2::text, 'null'), 40))::lk.pair;
END $$;
CREATE AGGREGATE count_and_list(int) (sfunc = pair_step, stype = pair);
-- a polymorphic state that is not the result
CREATE FUNCTION card_final(anycompatiblearray) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT coalesce(cardinality($1), -1)';
CREATE AGGREGATE card(anycompatible) (sfunc = array_append, stype = anycompatiblearray, finalfunc = card_final, initcond = '{}');
-- an ordered-set aggregate, its state not to be saved
CREATE AGGREGATE my_disc(float8 ORDER BY anyelement) (sfunc = ordered_set_transition, stype = internal,
	finalfunc = percentile_disc_final, finalfunc_extra);

-- Which records fail when the row-wise part runs over them alone, in plain
-- Postgres: arc.* is filled with a range of all records of base.*, and halved for
-- as long as the range fails.
CREATE FUNCTION bad_range(streams text[], sql text, low bigint, high bigint)
RETURNS TABLE (stream text, part int, off bigint, state text) LANGUAGE plpgsql AS $$
DECLARE
	name text;
	failed text;
BEGIN
	FOREACH name IN ARRAY streams LOOP
		EXECUTE format('DELETE FROM arc.%I', name);
		EXECUTE format('INSERT INTO arc.%I SELECT b.* FROM base.%I b JOIN base.numbered n'
			' ON n.stream = %L AND n.part = b._partition AND n.off = b._offset WHERE n.n BETWEEN $1 AND $2', name, name, name)
			USING low, high;
	END LOOP;
	BEGIN
		EXECUTE sql;
		RETURN;
	EXCEPTION WHEN OTHERS THEN
		failed := SQLSTATE;
	END;
	IF low = high THEN
		RETURN QUERY SELECT n.stream, n.part, n.off, failed FROM base.numbered n WHERE n.n = low;
	ELSE
		RETURN QUERY SELECT * FROM lk.bad_range(streams, sql, low, (low + high) / 2);
		RETURN QUERY SELECT * FROM lk.bad_range(streams, sql, (low + high) / 2 + 1, high);
	END IF;
END $$;

CREATE FUNCTION bad_records(streams text[], sql text)
RETURNS TABLE (stream text, part int, off bigint, state text) LANGUAGE plpgsql AS $$
DECLARE
	name text;
BEGIN
	CREATE TABLE base.numbered (n bigserial, stream text, part int, off bigint);
	FOREACH name IN ARRAY streams LOOP
		EXECUTE format('INSERT INTO base.numbered (stream, part, off) SELECT %L, _partition, _offset FROM base.%I', name, name);
	END LOOP;
	RETURN QUERY SELECT b.* FROM (SELECT max(n) AS top FROM base.numbered) m, lk.bad_range(streams, sql, 1, m.top) b
		WHERE m.top IS NOT NULL;
END $$;
