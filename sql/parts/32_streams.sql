/*
 * Queries whose rows go to streams.
 */
CREATE FUNCTION kstream.create_stream_as(
	name text,
	query text,
	topic text DEFAULT NULL,
	key text DEFAULT NULL,
	format text DEFAULT 'json',
	server name DEFAULT NULL,
	partitions int DEFAULT NULL,
	start text DEFAULT 'earliest',
	grace interval DEFAULT '0',
	retention interval DEFAULT NULL,
	emit text DEFAULT 'changes',
	idle_timeout interval DEFAULT '1 min',
	on_error text DEFAULT 'dead_letter',
	guarantee text DEFAULT 'exactly_once',
	batch_rows int DEFAULT NULL,
	batch_interval interval DEFAULT NULL,
	workers int DEFAULT 1,
	store text DEFAULT 'logged',
	keep_changes interval DEFAULT NULL,
	paused boolean DEFAULT false,
	key_format text DEFAULT NULL)
RETURNS regclass
LANGUAGE c AS 'MODULE_PATHNAME', 'ks_create_stream_as';
COMMENT ON FUNCTION kstream.create_stream_as(text, text, text, text, text, name, int, text, interval, interval, text, interval, text, text, int, interval, int, text, interval, boolean, text)
IS 'creates a stream that a row-wise query feeds: a topic, or a local log';

CREATE FUNCTION kstream.insert_into(
	stream regclass,
	query text,
	name text DEFAULT NULL,
	start text DEFAULT 'earliest',
	grace interval DEFAULT '0',
	retention interval DEFAULT NULL,
	emit text DEFAULT 'changes',
	idle_timeout interval DEFAULT '1 min',
	on_error text DEFAULT 'dead_letter',
	guarantee text DEFAULT 'exactly_once',
	batch_rows int DEFAULT NULL,
	batch_interval interval DEFAULT NULL,
	workers int DEFAULT 1,
	store text DEFAULT 'logged',
	keep_changes interval DEFAULT NULL,
	paused boolean DEFAULT false)
RETURNS text
LANGUAGE c AS 'MODULE_PATHNAME', 'ks_insert_into';
COMMENT ON FUNCTION kstream.insert_into(regclass, text, text, text, interval, interval, text, interval, text, text, int, interval, int, text, interval, boolean)
IS 'adds a query that feeds a stream; returns its name, by which kstream.drop_query removes it';

CREATE FUNCTION kstream.drop_query(name text) RETURNS void
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'ks_drop_query';
COMMENT ON FUNCTION kstream.drop_query(text) IS 'removes a query made by kstream.insert_into; its stream stays';

CREATE FUNCTION kstream.resync(name text, mode text DEFAULT 'replay') RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'ks_resync';
COMMENT ON FUNCTION kstream.resync(text, text)
IS 'says how publishing goes on when a database and its topic differ: replay (wait until the database has computed anew what it had published), continue (publish what is committed from now on), republish (publish again what the outbox holds); or where a record is too large for the topic: skip (leave it out)';
