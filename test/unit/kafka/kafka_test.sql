-- Functions of the test module, and the servers the test reads from.
CREATE FUNCTION kt_validator(text[], oid) RETURNS void AS 'ks_kafka_test' LANGUAGE C STRICT;
CREATE FUNCTION kt_class(text) RETURNS text AS 'ks_kafka_test' LANGUAGE C STRICT;
CREATE FUNCTION kt_linked_properties() RETURNS text AS 'ks_kafka_test' LANGUAGE C STRICT;
CREATE FUNCTION kt_table_names() RETURNS text AS 'ks_kafka_test' LANGUAGE C STRICT;
CREATE FUNCTION kt_open(server text) RETURNS void AS 'ks_kafka_test' LANGUAGE C STRICT;
CREATE FUNCTION kt_close() RETURNS float8 AS 'ks_kafka_test' LANGUAGE C STRICT;
CREATE FUNCTION kt_open_and_fail(server text, topic text) RETURNS void AS 'ks_kafka_test' LANGUAGE C STRICT;
CREATE FUNCTION kt_close_before_free(server text, topic text) RETURNS int AS 'ks_kafka_test' LANGUAGE C STRICT;
CREATE FUNCTION kt_live() RETURNS int AS 'ks_kafka_test' LANGUAGE C STRICT;
CREATE FUNCTION kt_assign(topic text, part int, "offset" bigint) RETURNS void AS 'ks_kafka_test' LANGUAGE C STRICT;
CREATE FUNCTION kt_unassign(topic text, part int) RETURNS void AS 'ks_kafka_test' LANGUAGE C STRICT;
CREATE FUNCTION kt_pause(topic text, part int, pause bool) RETURNS void AS 'ks_kafka_test' LANGUAGE C STRICT;
CREATE FUNCTION kt_poll(max_events int, max_bytes bigint, timeout int,
	OUT kind text, OUT topic text, OUT part int, OUT "offset" bigint, OUT code text, OUT message text,
	OUT key text, OUT value text, OUT ts timestamptz, OUT headers text[])
	RETURNS SETOF record AS 'ks_kafka_test' LANGUAGE C STRICT;
CREATE FUNCTION kt_drain(max_events int, ends int, seconds float8) RETURNS text AS 'ks_kafka_test' LANGUAGE C STRICT;
CREATE FUNCTION kt_latency(records int) RETURNS text AS 'ks_kafka_test' LANGUAGE C STRICT;
CREATE FUNCTION kt_wait_event(timeout int) RETURNS float8 AS 'ks_kafka_test' LANGUAGE C STRICT;
CREATE FUNCTION kt_down() RETURNS text AS 'ks_kafka_test' LANGUAGE C STRICT;
CREATE FUNCTION kt_cached_end(topic text, part int) RETURNS bigint AS 'ks_kafka_test' LANGUAGE C STRICT;
CREATE FUNCTION kt_partition_count(topic text, timeout int) RETURNS int AS 'ks_kafka_test' LANGUAGE C STRICT;
CREATE FUNCTION kt_offsets(topic text, part int, timeout int) RETURNS text AS 'ks_kafka_test' LANGUAGE C STRICT;
CREATE FUNCTION kt_offset_for_time(topic text, part int, at timestamptz) RETURNS bigint AS 'ks_kafka_test' LANGUAGE C STRICT;
CREATE FUNCTION kt_fingerprint(topic text, part int, "offset" bigint) RETURNS text AS 'ks_kafka_test' LANGUAGE C STRICT;
CREATE FUNCTION kt_polled_fingerprint() RETURNS text AS 'ks_kafka_test' LANGUAGE C STRICT;
CREATE FUNCTION kt_cluster_id(timeout int) RETURNS text AS 'ks_kafka_test' LANGUAGE C STRICT;
CREATE FUNCTION kt_create(server text, topic text, partitions int, replication int, timeout int) RETURNS bool AS 'ks_kafka_test' LANGUAGE C STRICT;
CREATE FUNCTION kt_clean_text(text) RETURNS text AS 'ks_kafka_test' LANGUAGE C STRICT;

CREATE FOREIGN DATA WRAPPER kt VALIDATOR kt_validator;
CREATE ROLE plain LOGIN;
CREATE ROLE reader LOGIN IN ROLE pg_read_server_files;
GRANT USAGE ON FOREIGN DATA WRAPPER kt TO plain, reader;
GRANT CREATE ON SCHEMA public TO plain, reader;
