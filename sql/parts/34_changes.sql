/*
 * Changes of tables that kstream keeps up to date, for whoever wants to follow.
 */
CREATE FUNCTION kstream.changes(
	relation regclass,
	since bigint DEFAULT NULL,
	wait interval DEFAULT '0',
	max_rows int DEFAULT 10000,
	OUT "position" bigint,
	OUT op text,
	OUT key jsonb,
	OUT old jsonb,
	OUT new jsonb,
	OUT event_time timestamptz)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 1000 AS 'MODULE_PATHNAME', 'ks_changes';
COMMENT ON FUNCTION kstream.changes(regclass, bigint, interval, int)
IS 'the changes of a table after a position (NULL: from the oldest one kept), waiting for the first one as long as told';

CREATE FUNCTION kstream.position(relation regclass) RETURNS bigint
LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'ks_position';
COMMENT ON FUNCTION kstream.position(regclass)
IS 'position of the last change of a table that the statement sees; 0 before the first';

CREATE FUNCTION kstream.keep_changes(name text, keep interval) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'ks_keep_changes';
COMMENT ON FUNCTION kstream.keep_changes(text, interval)
IS 'keeps the changes of a table for that long, or no more (NULL)';

CREATE FUNCTION kstream.channel(relation regclass) RETURNS text
LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'ks_channel';
COMMENT ON FUNCTION kstream.channel(regclass)
IS 'the channel on which the changes of a table are notified: kstream.schema.name, cut where it is too long';
