/*
 * What a dump holds of the catalog, and what a restore of it does.
 *
 * Restored rows of kstream_catalog.query and sink belong to no database until
 * kstream.resume; the extension's own inserts do not fire these triggers.
 */
SELECT pg_catalog.pg_extension_config_dump('kstream_catalog.object_id', '');
SELECT pg_catalog.pg_extension_config_dump('kstream_catalog.query', '');
SELECT pg_catalog.pg_extension_config_dump('kstream_catalog.position', '');
SELECT pg_catalog.pg_extension_config_dump('kstream_catalog.dead_letter', '');
SELECT pg_catalog.pg_extension_config_dump('kstream_catalog.dead_letter_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('kstream_catalog.late_record', '');
SELECT pg_catalog.pg_extension_config_dump('kstream_catalog.local_log', '');
SELECT pg_catalog.pg_extension_config_dump('kstream_catalog.log_batch', '');
SELECT pg_catalog.pg_extension_config_dump('kstream_catalog.sink', '');
SELECT pg_catalog.pg_extension_config_dump('kstream_catalog.published', '');
SELECT pg_catalog.pg_extension_config_dump('kstream_catalog.changelog', '');

COMMENT ON SEQUENCE kstream_catalog.dead_letter_id_seq IS 'numbers of dead letters';

CREATE FUNCTION kstream_catalog.restore_query_row() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'ks_restore_query_row';
COMMENT ON FUNCTION kstream_catalog.restore_query_row() IS 'marks a restored query as belonging to no database yet';
REVOKE EXECUTE ON FUNCTION kstream_catalog.restore_query_row() FROM PUBLIC;

CREATE FUNCTION kstream_catalog.restore_query() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'ks_restore_query';
COMMENT ON FUNCTION kstream_catalog.restore_query() IS 'links restored queries with their hidden parts, says how to go on';
REVOKE EXECUTE ON FUNCTION kstream_catalog.restore_query() FROM PUBLIC;

CREATE FUNCTION kstream_catalog.restore_local_log() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'ks_restore_local_log';
COMMENT ON FUNCTION kstream_catalog.restore_local_log() IS 'links restored logs with their streams';
REVOKE EXECUTE ON FUNCTION kstream_catalog.restore_local_log() FROM PUBLIC;

CREATE FUNCTION kstream_catalog.restore_sink() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'ks_restore_sink';
COMMENT ON FUNCTION kstream_catalog.restore_sink() IS 'links restored sinks with what they publish, says how to go on';
REVOKE EXECUTE ON FUNCTION kstream_catalog.restore_sink() FROM PUBLIC;

CREATE TRIGGER restore_row BEFORE INSERT ON kstream_catalog.sink
FOR EACH ROW EXECUTE FUNCTION kstream_catalog.restore_query_row();
COMMENT ON TRIGGER restore_row ON kstream_catalog.sink IS 'marks a restored sink as belonging to no database yet';
CREATE TRIGGER restore AFTER INSERT ON kstream_catalog.sink
REFERENCING NEW TABLE AS restored
FOR EACH STATEMENT EXECUTE FUNCTION kstream_catalog.restore_sink();
COMMENT ON TRIGGER restore ON kstream_catalog.sink IS 'links restored sinks with what they publish, says how to go on';
CREATE TRIGGER restore_row BEFORE INSERT ON kstream_catalog.query
FOR EACH ROW EXECUTE FUNCTION kstream_catalog.restore_query_row();
COMMENT ON TRIGGER restore_row ON kstream_catalog.query IS 'marks a restored query as belonging to no database yet';
CREATE TRIGGER restore AFTER INSERT ON kstream_catalog.query
REFERENCING NEW TABLE AS restored
FOR EACH STATEMENT EXECUTE FUNCTION kstream_catalog.restore_query();
COMMENT ON TRIGGER restore ON kstream_catalog.query IS 'links restored queries with their hidden parts, says how to go on';
CREATE TRIGGER restore AFTER INSERT ON kstream_catalog.local_log
REFERENCING NEW TABLE AS restored
FOR EACH STATEMENT EXECUTE FUNCTION kstream_catalog.restore_local_log();
COMMENT ON TRIGGER restore ON kstream_catalog.local_log IS 'links restored logs with their streams';

CREATE FUNCTION kstream_catalog.restore_changelog() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'ks_restore_changelog';
COMMENT ON FUNCTION kstream_catalog.restore_changelog() IS 'links restored changelogs with their tables';
REVOKE EXECUTE ON FUNCTION kstream_catalog.restore_changelog() FROM PUBLIC;
CREATE TRIGGER restore AFTER INSERT ON kstream_catalog.changelog
FOR EACH STATEMENT EXECUTE FUNCTION kstream_catalog.restore_changelog();
COMMENT ON TRIGGER restore ON kstream_catalog.changelog IS 'links restored changelogs with their tables';
