/*
 * The wrapper whose foreign tables are streams, and the server of local streams.
 *
 * USAGE of the wrapper is not granted: who may create a server decides which
 * brokers this database talks to.
 */
CREATE FUNCTION kstream.fdw_handler() RETURNS fdw_handler
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'ks_fdw_handler';
COMMENT ON FUNCTION kstream.fdw_handler() IS 'handler of the wrapper kstream';

CREATE FUNCTION kstream.fdw_validator(options text[], catalog oid) RETURNS void
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'ks_fdw_validator';
COMMENT ON FUNCTION kstream.fdw_validator(text[], oid) IS 'checks options of servers, user mappings, streams and their columns';

CREATE FOREIGN DATA WRAPPER kstream HANDLER kstream.fdw_handler VALIDATOR kstream.fdw_validator;
COMMENT ON FOREIGN DATA WRAPPER kstream IS 'streams: logs of records in Kafka topics or in tables of this database';

CREATE SERVER local FOREIGN DATA WRAPPER kstream;
COMMENT ON SERVER local IS 'streams whose log is a table of this database';
GRANT USAGE ON FOREIGN SERVER local TO PUBLIC;
