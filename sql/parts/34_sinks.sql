/*
 * What is published to topics: the changes of tables.
 */
CREATE FUNCTION kstream.create_sink(
	name text,
	relation regclass,
	topic text,
	key text[] DEFAULT NULL,
	format text DEFAULT 'json',
	key_format text DEFAULT NULL,
	headers text DEFAULT NULL,
	envelope text DEFAULT 'upsert',
	server name DEFAULT NULL,
	guarantee text DEFAULT 'exactly_once',
	partitions int DEFAULT NULL,
	snapshot boolean DEFAULT true,
	paused boolean DEFAULT false)
RETURNS regclass
LANGUAGE c AS 'MODULE_PATHNAME', 'ks_create_sink';
COMMENT ON FUNCTION kstream.create_sink(text, regclass, text, text[], text, text, text, text, name, text, int, boolean, boolean)
IS 'publishes the changes of a table to a topic';

CREATE FUNCTION kstream.drop_sink(name text) RETURNS void
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'ks_drop_sink';
COMMENT ON FUNCTION kstream.drop_sink(text) IS 'ends what kstream.create_sink began; table and topic stay';

CREATE FUNCTION kstream_catalog.capture() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'ks_capture_trigger';
COMMENT ON FUNCTION kstream_catalog.capture() IS 'trigger that puts the changes of a table into the outbox of a sink';
REVOKE EXECUTE ON FUNCTION kstream_catalog.capture() FROM PUBLIC;

CREATE FUNCTION kstream_catalog.sink_outbox(sink int, OUT end_position bigint, OUT oldest timestamptz, OUT bytes bigint)
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'ks_sink_outbox';
COMMENT ON FUNCTION kstream_catalog.sink_outbox(int) IS 'how far the outbox of a sink reaches, and since when its oldest record waits';

CREATE FUNCTION kstream.put("table" regclass, "row" jsonb) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'ks_put';
COMMENT ON FUNCTION kstream.put(regclass, jsonb) IS 'produces a row to the topic that a table follows, after commit';

CREATE FUNCTION kstream.remove("table" regclass, key jsonb) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'ks_remove';
COMMENT ON FUNCTION kstream.remove(regclass, jsonb) IS 'produces a tombstone to the topic that a table follows, after commit';
