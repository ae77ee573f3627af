/*
 * Dropping duplicates: the rule each query goes by, and the tables that hold the
 * keys it has seen (see src/store/dedup.c).
 */
CREATE TABLE kstream_catalog.dedup
(
	query			int NOT NULL,
	source			regclass NOT NULL,
	key_columns		text[] NOT NULL,
	"window"		interval NOT NULL,
	PRIMARY KEY (query, source)
);
COMMENT ON TABLE kstream_catalog.dedup IS 'dedup_key and dedup_window of a stream as they were when a query began to read it';

CREATE TABLE kstream_catalog.dedup_part
(
	relation		regclass PRIMARY KEY,
	query			int NOT NULL,
	source			regclass NOT NULL,
	number			int NOT NULL,
	low				timestamptz NOT NULL,
	high			timestamptz NOT NULL
);
COMMENT ON TABLE kstream_catalog.dedup_part IS 'tables with the keys a query has seen in a stream, by age; no event time in one is outside of low and high';

SELECT pg_catalog.pg_extension_config_dump('kstream_catalog.dedup', '');
SELECT pg_catalog.pg_extension_config_dump('kstream_catalog.dedup_part', '');

CREATE FUNCTION kstream_catalog.restore_dedup_part() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'ks_restore_dedup_part';
COMMENT ON FUNCTION kstream_catalog.restore_dedup_part() IS 'links restored tables of keys with their queries';
REVOKE EXECUTE ON FUNCTION kstream_catalog.restore_dedup_part() FROM PUBLIC;

CREATE TRIGGER restore AFTER INSERT ON kstream_catalog.dedup_part
FOR EACH STATEMENT EXECUTE FUNCTION kstream_catalog.restore_dedup_part();
COMMENT ON TRIGGER restore ON kstream_catalog.dedup_part IS 'links restored tables of keys with their queries';
