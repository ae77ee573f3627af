/*
 * What users call: definitions and verbs.  Each runs with the rights of its caller.
 */
CREATE FUNCTION kstream.create_stream(
	name text,
	columns text,
	topic text DEFAULT NULL,
	format text DEFAULT 'json',
	key text DEFAULT NULL,
	key_format text DEFAULT NULL,
	"timestamp" text DEFAULT NULL,
	server name DEFAULT NULL,
	partitions int DEFAULT NULL,
	dedup_key text DEFAULT NULL,
	dedup_window interval DEFAULT '1 day',
	retention interval DEFAULT NULL,
	options jsonb DEFAULT '{}')
RETURNS regclass
LANGUAGE c AS 'MODULE_PATHNAME', 'ks_create_stream';
COMMENT ON FUNCTION kstream.create_stream(text, text, text, text, text, text, text, name, int, text, interval, interval, jsonb)
IS 'creates a stream: a foreign table over a Kafka topic or a local log';

CREATE FUNCTION kstream.create_table(
	name text,
	columns text,
	topic text DEFAULT NULL,
	format text DEFAULT 'json',
	key_format text DEFAULT NULL,
	"timestamp" text DEFAULT NULL,
	server name DEFAULT NULL,
	version_column text DEFAULT NULL,
	partitions int DEFAULT NULL,
	options jsonb DEFAULT '{}')
RETURNS regclass
LANGUAGE c AS 'MODULE_PATHNAME', 'ks_create_table';
COMMENT ON FUNCTION kstream.create_table(text, text, text, text, text, text, name, text, int, jsonb)
IS 'creates a table that follows a topic: the last record of a key is its row';

CREATE FUNCTION kstream.create_global_table(
	name text,
	columns text,
	topic text DEFAULT NULL,
	format text DEFAULT 'json',
	key_format text DEFAULT NULL,
	"timestamp" text DEFAULT NULL,
	server name DEFAULT NULL,
	version_column text DEFAULT NULL,
	partitions int DEFAULT NULL,
	options jsonb DEFAULT '{}')
RETURNS regclass
LANGUAGE c AS 'MODULE_PATHNAME', 'ks_create_global_table';
COMMENT ON FUNCTION kstream.create_global_table(text, text, text, text, text, text, name, text, int, jsonb)
IS 'creates a table that follows all partitions of a topic in every instance';

CREATE FUNCTION kstream.create_table_as(
	name text,
	query text,
	primary_key text[] DEFAULT NULL,
	topic text DEFAULT NULL,
	key_format text DEFAULT NULL,
	format text DEFAULT NULL,
	server name DEFAULT NULL,
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
RETURNS regclass
LANGUAGE c AS 'MODULE_PATHNAME', 'ks_create_table_as';
COMMENT ON FUNCTION kstream.create_table_as(text, text, text[], text, text, text, name, text, interval, interval, text, interval, text, text, int, interval, int, text, interval, boolean)
IS 'creates a table that a continuous query keeps up to date';

CREATE FUNCTION kstream.pause(name text) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'ks_pause';
COMMENT ON FUNCTION kstream.pause(text) IS 'stops keeping a table up to date; its positions stay';

CREATE FUNCTION kstream.resume(name text) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'ks_resume';
COMMENT ON FUNCTION kstream.resume(text) IS 'goes on keeping a table up to date, also after a restore';

CREATE FUNCTION kstream.reset(name text, start text DEFAULT 'earliest') RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'ks_reset';
COMMENT ON FUNCTION kstream.reset(text, text) IS 'empties a table and computes it anew from the given start';

CREATE FUNCTION kstream.replay_dead_letters(name text) RETURNS bigint
LANGUAGE c AS 'MODULE_PATHNAME', 'ks_replay_dead_letters';
COMMENT ON FUNCTION kstream.replay_dead_letters(text) IS 'runs the records a query could not process through it once more; returns how many it has processed';

CREATE FUNCTION kstream.explain(name text) RETURNS text
LANGUAGE c AS 'MODULE_PATHNAME', 'ks_explain';
COMMENT ON FUNCTION kstream.explain(text) IS 'the compiled plan of a continuous query: operators, and the statements a batch runs';

CREATE FUNCTION kstream.topology(name text DEFAULT NULL, format text DEFAULT 'text') RETURNS text
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'ks_topology';
COMMENT ON FUNCTION kstream.topology(text, text) IS 'what flows where: of one relation or of all, as text, dot or mermaid';

/* What the parts of the extension call. */
CREATE FUNCTION kstream_catalog.instance_id() RETURNS text
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'ks_instance_id_sql';
COMMENT ON FUNCTION kstream_catalog.instance_id() IS 'names this database; a restored or copied one has another name';

CREATE FUNCTION kstream_catalog.guard_write() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'ks_guard_write';
COMMENT ON FUNCTION kstream_catalog.guard_write() IS 'trigger that refuses writes to tables which kstream keeps up to date';
REVOKE EXECUTE ON FUNCTION kstream_catalog.guard_write() FROM PUBLIC;

/* What statements of continuous queries call, as their owners. */
CREATE FUNCTION kstream_state.partner_since(query int, filter int, since timestamptz, VARIADIC keys "any")
RETURNS timestamptz
LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'ks_partner_since';
COMMENT ON FUNCTION kstream_state.partner_since(int, int, timestamptz, "any") IS
'since; but NULL if the buffer of a join of streams has no row with these keys from that event time on, as the worker that runs the query knows';
GRANT EXECUTE ON FUNCTION kstream_state.partner_since(int, int, timestamptz, "any") TO PUBLIC;
