/*
 * Event triggers: streams made by CREATE FOREIGN TABLE, and objects dropped by
 * DROP.  They fire whatever session_replication_role says, because the catalog
 * must follow in any case.
 */
CREATE FUNCTION kstream_catalog.ddl_command_end() RETURNS event_trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'ks_ddl_command_end';
COMMENT ON FUNCTION kstream_catalog.ddl_command_end() IS 'completes and checks streams, keeps hidden parts of queries with their tables and views as queries need them';
REVOKE EXECUTE ON FUNCTION kstream_catalog.ddl_command_end() FROM PUBLIC;

CREATE FUNCTION kstream_catalog.sql_drop() RETURNS event_trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'ks_sql_drop';
COMMENT ON FUNCTION kstream_catalog.sql_drop() IS 'removes catalog rows of dropped streams, tables and queries';
REVOKE EXECUTE ON FUNCTION kstream_catalog.sql_drop() FROM PUBLIC;

CREATE FUNCTION kstream_catalog.ddl_command_start() RETURNS event_trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'ks_ddl_command_start';
COMMENT ON FUNCTION kstream_catalog.ddl_command_start() IS 'keeps indexes that the keys of sinks need, remembers definitions that queries read';
REVOKE EXECUTE ON FUNCTION kstream_catalog.ddl_command_start() FROM PUBLIC;

CREATE EVENT TRIGGER kstream_ddl_command_start ON ddl_command_start
WHEN TAG IN ('DROP INDEX', 'ALTER FOREIGN TABLE', 'ALTER TABLE', 'CREATE VIEW', 'CREATE RULE')
EXECUTE FUNCTION kstream_catalog.ddl_command_start();
COMMENT ON EVENT TRIGGER kstream_ddl_command_start IS 'keeps indexes that the keys of sinks need, remembers definitions that queries read';

CREATE EVENT TRIGGER kstream_ddl_command_end ON ddl_command_end
WHEN TAG IN ('CREATE FOREIGN TABLE', 'ALTER FOREIGN TABLE', 'ALTER TABLE', 'ALTER VIEW', 'ALTER TRIGGER', 'CREATE VIEW', 'CREATE RULE')
EXECUTE FUNCTION kstream_catalog.ddl_command_end();
COMMENT ON EVENT TRIGGER kstream_ddl_command_end IS 'completes and checks streams, keeps hidden parts of queries with their tables and views as queries need them';

CREATE EVENT TRIGGER kstream_sql_drop ON sql_drop
EXECUTE FUNCTION kstream_catalog.sql_drop();
COMMENT ON EVENT TRIGGER kstream_sql_drop IS 'removes catalog rows of dropped streams, tables and queries';

ALTER EVENT TRIGGER kstream_ddl_command_start ENABLE ALWAYS;
ALTER EVENT TRIGGER kstream_ddl_command_end ENABLE ALWAYS;
ALTER EVENT TRIGGER kstream_sql_drop ENABLE ALWAYS;
