-- What kstream.wait refuses, and how it says so.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS kstream;
CREATE SCHEMA waiting;
SET search_path = waiting, public;

SELECT kstream.create_stream('s', 'id int', server => 'local');
CREATE FUNCTION same(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
SELECT kstream.create_table_as('t', 'SELECT same(id) AS id FROM s', paused => true);
INSERT INTO s VALUES (1);

-- paused; resumed or reset by a transaction that has not committed
SELECT kstream.wait('t', '10 s');
\echo :LAST_ERROR_SQLSTATE
BEGIN;
SELECT kstream.resume('t');
SELECT kstream.wait('t', '10 s');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
BEGIN;
SELECT kstream.resume('t'), kstream.reset('t');
SELECT kstream.wait('t', '5 s');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;

-- a statement that is refused by now
ALTER FUNCTION same(int) VOLATILE;
SELECT kstream.wait('t', '10 s');
\echo :LAST_ERROR_SQLSTATE

DROP SCHEMA waiting CASCADE;
