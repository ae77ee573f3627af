-- sinks: what may be published, what belongs to a sink, and what goes away with it.
-- No broker is needed: records wait in the outbox.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS kstream;
CREATE SCHEMA sinks;
SET search_path = sinks, public;
CREATE SERVER sinks_kafka FOREIGN DATA WRAPPER kstream OPTIONS (bootstrap_servers '127.0.0.1:1');
SELECT kstream.create_stream('events', 'k text, v int', server => 'local');
CREATE TABLE accounts (id int PRIMARY KEY, owner text NOT NULL, amount numeric(12,2), note text);
CREATE TABLE no_key (a int, b text);
CREATE UNIQUE INDEX no_key_a ON no_key (a) NULLS NOT DISTINCT;
CREATE TABLE two_keys (a int, b text, c bytea, PRIMARY KEY (b, a));
CREATE VIEW waiting AS SELECT name, relation, kind, topic, key, format, envelope, guarantee, position, lag_rows, state FROM kstream.sinks ORDER BY id;

-- Definitions.
SELECT kstream.create_sink('a1', 'accounts', 'accounts', server => 'sinks_kafka', paused => true);
SELECT kstream.create_sink('a2', 'accounts', 'accounts_log', envelope => 'debezium', server => 'sinks_kafka', paused => true, guarantee => 'at_least_once');
SELECT kstream.create_sink('nk', 'no_key', 'no_key', key => '{a}', key_format => 'bigint', format => 'csv', paused => true);
SELECT kstream.create_sink('tk', 'two_keys', 'two_keys', headers => $$jsonb_build_object('b', b)$$, paused => true);
SELECT * FROM waiting;
SELECT kstream.explain('tk');
SELECT kstream.explain('a2');

-- Changes of one transaction, and nothing of what was rolled back.
INSERT INTO accounts VALUES (1, 'ann', 10), (2, 'bob', 20);
BEGIN;
INSERT INTO accounts VALUES (3, 'eve', 30);
SAVEPOINT s;
UPDATE accounts SET amount = amount + 1;
ROLLBACK TO s;
DELETE FROM accounts WHERE id = 1;
COMMIT;
BEGIN;
INSERT INTO accounts VALUES (4, 'tom', 40);
ROLLBACK;
UPDATE accounts SET note = note;
SELECT name, lag_rows FROM kstream.sinks WHERE name LIKE 'a_' ORDER BY 1;
UPDATE accounts SET id = id + 10;
SELECT name, lag_rows FROM kstream.sinks WHERE name LIKE 'a_' ORDER BY 1;
TRUNCATE accounts;
SELECT name, lag_rows, lag_seconds > 0 AS waits, outbox_bytes > 0 AS bytes FROM kstream.sinks WHERE name LIKE 'a_' ORDER BY 1;
-- a snapshot of what is there
INSERT INTO no_key VALUES (1, 'x'), (2, 'y');
SELECT kstream.create_sink('nk2', 'no_key', 'no_key2', key => '{a}', paused => true);
SELECT kstream.create_sink('nk3', 'no_key', 'no_key3', key => '{a}', snapshot => false, paused => true);
SELECT name, lag_rows FROM kstream.sinks WHERE name LIKE 'nk_' ORDER BY 1;
-- what cannot be a record is an error of the statement
INSERT INTO no_key VALUES (NULL, 'no key');
SELECT kstream.create_sink('nk4', 'no_key', 'no_key4', key => '{a}', key_format => 'json', paused => true);
SELECT kstream.drop_sink('nk'), kstream.drop_sink('nk2'), kstream.drop_sink('nk3');
INSERT INTO no_key VALUES (NULL, 'a key that is null');
SELECT name, lag_rows FROM kstream.sinks WHERE name = 'nk4';
INSERT INTO two_keys VALUES (1, 'b', repeat('x', 3000000)::bytea);
CREATE TABLE payload (id int PRIMARY KEY, body text);
SELECT kstream.create_sink('p', 'payload', 'payload', format => 'text', paused => true);
INSERT INTO payload VALUES (1, 'one');
INSERT INTO payload VALUES (2, NULL);
SELECT name, lag_rows FROM kstream.sinks WHERE name = 'p';
-- a transaction cannot be prepared
BEGIN;
INSERT INTO accounts VALUES (5, 'x', 1);
PREPARE TRANSACTION 'p';

-- Headers.
SELECT kstream.create_sink('h', 'accounts', 'h', headers => 'jsonb_build_object(''x'', nothing)');
SELECT kstream.create_sink('h', 'accounts', 'h', headers => 'owner');
SELECT kstream.create_sink('h', 'accounts', 'h', headers => 'to_jsonb(count(*))');
SELECT kstream.create_sink('h', 'accounts', 'h', headers => 'to_jsonb((SELECT 1))');
SELECT kstream.create_sink('h', 'accounts', 'h', headers => 'jsonb_build_object(''x'', random()::text)');
SELECT kstream.create_sink('h', 'accounts', 'h', headers => 'jsonb_array_elements(''[1]'')');
SELECT kstream.create_sink('h', 'accounts', 'h', headers => '1 FROM accounts');
SELECT kstream.create_sink('h', 'accounts', 'h', headers => 'jsonb_build_object(''x'', owner) +');
SELECT kstream.create_sink('h', 'payload', 'h', headers => '''{"x": 1}''', format => 'text', paused => true);
INSERT INTO payload VALUES (3, 'x');
SELECT kstream.drop_sink('h');

-- Refusals.
CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE part1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child () INHERITS (parent);
CREATE TEMP TABLE tmp (id int PRIMARY KEY);
CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY);
CREATE VIEW a_view AS SELECT * FROM accounts;
CREATE MATERIALIZED VIEW a_matview AS SELECT * FROM accounts;
CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE);
SELECT kstream.create_sink('x', 'parted', 't');
SELECT kstream.create_sink('x', 'part1', 't');
SELECT kstream.create_sink('x', 'parent', 't');
SELECT kstream.create_sink('x', 'child', 't');
SELECT kstream.create_sink('x', 'tmp', 't');
SELECT kstream.create_sink('x', 'unlogged', 't');
SELECT kstream.create_sink('x', 'a_view', 't');
SELECT kstream.create_sink('x', 'a_matview', 't');
SELECT kstream.create_sink('x', 'events', 't');
SELECT kstream.create_sink('x', 'pg_class', 't');
SELECT kstream.create_sink('x', 'kstream_catalog.sink', 't');
SELECT kstream.create_sink('x', 'accounts_pkey', 't');
SELECT kstream.create_sink('x', 'no_key', 't');
SELECT kstream.create_sink('x', 'deferred', 't');
SELECT kstream.create_sink('x', 'no_key', 't', key_format => 'none');
SELECT kstream.create_sink('x', 'no_key', 't', key => '{a}', key_format => 'none');
SELECT kstream.create_sink('x', 'no_key', 't', key => '{z}');
SELECT kstream.create_sink('x', 'two_keys', 't', key_format => 'text');
SELECT kstream.create_sink('x', 'accounts', 't', key => '{owner}', key_format => 'bytea');
SELECT kstream.create_sink('x', 'accounts', 't', format => 'text');
SELECT kstream.create_sink('x', 'accounts', 't', format => 'avro');
SELECT kstream.create_sink('x', 'accounts', 't', format => 'csv', envelope => 'debezium');
SELECT kstream.create_sink('x', 'accounts', 't', envelope => 'cloudevents');
SELECT kstream.create_sink('x', 'accounts', 't', guarantee => 'perhaps');
SELECT kstream.create_sink('x', 'accounts', 't', server => 'local');
SELECT kstream.create_sink('x', 'accounts', 't', server => 'nowhere');
SELECT kstream.create_sink('x', 'accounts', 't', partitions => 0);
SELECT kstream.create_sink('x', 'accounts', NULL);
SELECT kstream.create_sink('x', NULL, 't');
SELECT kstream.create_sink('', 'accounts', 't');
SELECT kstream.create_sink('a1', 'accounts', 't');
SELECT kstream.drop_sink('x');

DROP VIEW a_view;
DROP MATERIALIZED VIEW a_matview;

-- Altering what is published.
ALTER TABLE accounts RENAME id TO number;
ALTER TABLE accounts DROP COLUMN id;
ALTER TABLE accounts SET UNLOGGED;
ALTER TABLE two_keys RENAME b TO bb;
CREATE TABLE single (id int PRIMARY KEY);
SELECT kstream.create_sink('single', 'single', 'single', paused => true);
ALTER TABLE single INHERIT parent;
ALTER TABLE parted ATTACH PARTITION single FOR VALUES FROM (100) TO (200);
DROP TABLE single;
CREATE TABLE late_child () INHERITS (accounts);
INSERT INTO accounts VALUES (6, 'y', 1);
DROP TABLE late_child;
ALTER TABLE accounts ADD COLUMN more int DEFAULT 3, DROP COLUMN note;
ALTER TABLE accounts RENAME TO accounts2;
INSERT INTO accounts2 VALUES (6, 'y', 1);
ALTER TABLE accounts2 RENAME TO accounts;

-- what is left where definitions were restored without data
CREATE TABLE leftover (id int PRIMARY KEY);
CREATE TRIGGER kstream_sink_999_insert AFTER INSERT ON leftover REFERENCING NEW TABLE AS kstream_new
FOR EACH STATEMENT EXECUTE FUNCTION kstream_catalog.capture('999');
INSERT INTO leftover VALUES (1);
CREATE TRIGGER kstream_row AFTER INSERT ON leftover FOR EACH ROW EXECUTE FUNCTION kstream_catalog.capture('999');
INSERT INTO leftover VALUES (2);
DROP TRIGGER kstream_row ON leftover;
CREATE TRIGGER kstream_before BEFORE UPDATE ON leftover FOR EACH STATEMENT EXECUTE FUNCTION kstream_catalog.capture('999');
UPDATE leftover SET id = 3;
DROP TABLE leftover;

-- Rights.
CREATE ROLE sink_user;
GRANT USAGE ON SCHEMA sinks TO sink_user;
CREATE TABLE theirs (id int PRIMARY KEY);
ALTER TABLE theirs OWNER TO sink_user;
GRANT INSERT ON accounts TO sink_user;
SET ROLE sink_user;
SELECT kstream.create_sink('x', 'accounts', 't');
SELECT kstream.create_sink('x', 'theirs', 't', server => 'sinks_kafka');
INSERT INTO accounts VALUES (7, 'by another user', 1);
SELECT kstream.drop_sink('a1');
SELECT kstream.pause('a1');
SELECT count(*) FROM kstream.sinks;
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER sinks_kafka TO sink_user;
SET ROLE sink_user;
SELECT kstream.create_sink('theirs', 'theirs', 't', server => 'sinks_kafka', paused => true);
INSERT INTO theirs VALUES (1);
SELECT name, lag_rows FROM kstream.sinks;
RESET ROLE;
ALTER TABLE theirs OWNER TO current_user;
SELECT DISTINCT c.relowner::regrole::text = current_user AS carried FROM kstream_catalog.sink s, pg_class c
WHERE s.name = 'theirs' AND c.oid IN (s.target, s.outbox0, s.segments0, s.outbox1, s.segments1);
REVOKE USAGE ON FOREIGN SERVER sinks_kafka FROM sink_user;
REVOKE INSERT ON accounts FROM sink_user;
REVOKE USAGE ON SCHEMA sinks FROM sink_user;
DROP ROLE sink_user;

-- Verbs.
SELECT kstream.resume('a1'), kstream.pause('a1');
SELECT name, state FROM kstream.sinks WHERE name = 'a1';
SELECT kstream.pause('nothing');
SELECT kstream.reset('a1');

-- Tables that kstream maintains.
SELECT kstream.create_table_as('totals', 'SELECT k, count(*) AS n, sum(v) AS s FROM events GROUP BY k HAVING sum(v) > 0', paused => true);
INSERT INTO events VALUES ('a', 1), ('b', 2);
SELECT kstream.step('totals');
SELECT kstream.create_sink('t1', 'totals', 'totals', paused => true);
SELECT kstream.create_sink('t2', 'totals', 'totals2', key => '{n,k}', paused => true);
INSERT INTO events VALUES ('a', -5), ('c', 1), ('b', 1);
SELECT kstream.step('totals');
SELECT * FROM totals ORDER BY k;
SELECT name, kind, key, lag_rows FROM kstream.sinks WHERE name LIKE 't_' ORDER BY 1;
SELECT kstream.reset('totals');
SELECT name, lag_rows FROM kstream.sinks WHERE name LIKE 't_' ORDER BY 1;
SELECT kstream.create_table_as('x', 'SELECT k FROM events', format => 'json');
SELECT kstream.create_table_as('x', 'SELECT count(*) FROM events', topic => 'x', server => 'sinks_kafka');
SELECT kstream.create_table_as('x', 'SELECT k, count(*) FROM events GROUP BY k', topic => 'x', key_format => 'none', server => 'sinks_kafka');
SELECT kstream.create_table_as('x', 'SELECT k, count(*) FROM events GROUP BY k', topic => 'x', server => 'local');

-- put and remove.
SELECT kstream.create_table('prices', 'id bigint PRIMARY KEY, price numeric NOT NULL, tag text CHECK (tag <> ''bad'')', server => 'sinks_kafka');
SELECT kstream.put('prices', '{"id": 9007199254740993, "price": 12345678901234567890.123456789}');
SELECT kstream.remove('prices', '{"id": 1}'), kstream.remove('prices', '1');
SELECT relation, kind, topic, lag_rows FROM kstream.sinks WHERE topic = 'prices';
SELECT kstream.put('prices', '{"id": 1}');
SELECT kstream.put('prices', '{"id": 1, "price": 1, "tag": "bad"}');
SELECT kstream.put('prices', '{"id": 1, "price": 1, "other": 1}');
SELECT kstream.put('prices', '{"id": "x", "price": 1}');
SELECT kstream.put('prices', '[1]');
SELECT kstream.put('prices', NULL);
SELECT kstream.put('accounts', '{}');
SELECT kstream.remove('prices', '{"price": 1}');
SELECT kstream.remove('prices', '{}');
SELECT kstream.remove('prices', 'null');
SELECT kstream.remove('prices', '[1]');
CREATE ROLE put_user;
GRANT USAGE ON SCHEMA sinks TO put_user;
SET ROLE put_user;
SELECT kstream.put('prices', '{"id": 1, "price": 1}');
SELECT kstream.remove('prices', '1');
RESET ROLE;
GRANT INSERT, DELETE ON prices TO put_user;
SET ROLE put_user;
SELECT kstream.put('prices', '{"id": 1, "price": 1}'), kstream.remove('prices', '1');
RESET ROLE;
SELECT relation, lag_rows FROM kstream.sinks WHERE topic = 'prices';
DROP OWNED BY put_user;
DROP ROLE put_user;

-- Dropping: with the table, without it, and by the server.
SELECT kstream.drop_sink('t2');
DROP TABLE totals;
DROP TABLE prices;
DROP TABLE two_keys;
SELECT name, relation FROM kstream.sinks ORDER BY 1;
DROP SERVER sinks_kafka CASCADE;
SELECT name FROM kstream.sinks;
INSERT INTO accounts VALUES (8, 'no longer published', 1);
SELECT tgname FROM pg_trigger WHERE tgname LIKE 'kstream_sink%';
SELECT relname FROM pg_class WHERE relnamespace = 'kstream_state'::regnamespace AND relkind = 'r' AND relname LIKE 'o%';
SELECT relname FROM pg_class WHERE relnamespace = 'kstream_query'::regnamespace;
DROP VIEW waiting;
DROP FOREIGN TABLE events;
DROP SCHEMA sinks CASCADE;
