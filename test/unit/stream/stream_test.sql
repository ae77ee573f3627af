/* Functions of stream_test.c, and the streams the tests use. */
CREATE EXTENSION kstream;
CREATE FUNCTION show(stream regclass, records text[], first_part int, queries text[], first int DEFAULT 0, last int DEFAULT -1)
RETURNS SETOF text LANGUAGE c AS '$libdir/kstream', 'stream_test_show';
CREATE FUNCTION scan_speed(stream regclass, value text, nrows int, query text) RETURNS float8
LANGUAGE c AS '$libdir/kstream', 'stream_test_scan_speed';
CREATE FUNCTION trim_log(stream regclass) RETURNS bigint LANGUAGE c AS '$libdir/kstream', 'stream_test_trim';
CREATE FUNCTION partition_of(key text, partitions int) RETURNS int LANGUAGE c AS '$libdir/kstream', 'stream_test_partition';

CREATE SERVER nowhere FOREIGN DATA WRAPPER kstream OPTIONS (bootstrap_servers '127.0.0.1:1');
CREATE FUNCTION strict_check(i int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
	IF i = 13 THEN
		RAISE EXCEPTION 'thirteen' USING ERRCODE = '22023';
	END IF;
	RETURN i <> 14;
END $$;
CREATE FOREIGN TABLE ev (id int, name text NOT NULL, a int, b int, at timestamptz, big numeric,
	CHECK (a < b), CONSTRAINT picky CHECK (strict_check(id)))
	SERVER nowhere OPTIONS (key 'name', "timestamp" 'at');
CREATE FOREIGN TABLE plain (id int, v text) SERVER nowhere;
CREATE TABLE seen (id int PRIMARY KEY);

CREATE ROLE stream_owner;
CREATE FUNCTION whoami(i int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('application_name', 'changed', false);
	RAISE EXCEPTION 'as %', current_user;
END $$;
CREATE FOREIGN TABLE owned (id int CHECK (id > 0 OR whoami(id))) SERVER nowhere;
ALTER FOREIGN TABLE owned OWNER TO stream_owner;
