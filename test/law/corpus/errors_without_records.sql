-- A statement that fails over no record at all (a condition on constants, here in one
-- branch of a UNION ALL; one that cannot be planned) fails in batch, so the query must
-- fail as well: an error at once, no record blamed, nothing consumed.
\set ON_ERROR_STOP on
\set QUIET on
CREATE EXTENSION IF NOT EXISTS kstream;
\ir ../fixture.sql
RESET search_path;
SET statement_timeout = '60s';
SELECT kstream.create_stream('s1', 'a text', server => 'local'), kstream.create_stream('s2', 'a text', server => 'local');
CREATE FUNCTION to_bool(text) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1::bool';
SELECT kstream.create_table_as('r1', $q$SELECT a FROM (SELECT a, a AS flag FROM s1 UNION ALL SELECT a, ('10'::lk.posint)::text FROM s2
	WHERE a LIKE '%a%') u WHERE flag::bool$q$, paused => true);
SELECT kstream.create_table_as('r2', $q$SELECT a FROM s1 WHERE a::bool AND (('10'::lk.posint)::text)::bool$q$, paused => true, on_error => 'stop');
SELECT kstream.create_table_as('r3', $q$SELECT flag, count(*) AS n FROM (SELECT a AS flag FROM s1 UNION ALL SELECT ('10'::lk.posint)::text FROM s2) u
	WHERE flag::bool GROUP BY flag$q$, paused => true);
SELECT kstream.create_table_as('r4', $q$SELECT a FROM s1 WHERE to_bool('t')$q$, paused => true);
CREATE OR REPLACE FUNCTION to_bool(text) RETURNS bool LANGUAGE sql IMMUTABLE AS $$SELECT '10'::text::bool$$;
INSERT INTO s1 (a) VALUES ('t'), ('3'), ('f'), (NULL), ('4'), ('5'), ('6'), ('7'), ('8'), ('t');
INSERT INTO s2 (a) VALUES ('a'), ('b');
DO $$
DECLARE
	name text;
BEGIN
	FOREACH name IN ARRAY '{r1,r2,r3,r4}'::text[] LOOP
		BEGIN
			PERFORM kstream.step(name, 100);
		EXCEPTION WHEN invalid_text_representation THEN
			CONTINUE WHEN SQLERRM LIKE '%"10"%';
			RAISE;
		END;
		RAISE EXCEPTION '% made a table of what fails in batch', name;
	END LOOP;
	IF EXISTS (SELECT FROM kstream.dead_letters) OR EXISTS (SELECT FROM kstream_catalog.position WHERE records > 0) THEN
		RAISE EXCEPTION 'records were consumed';
	END IF;
END $$;
