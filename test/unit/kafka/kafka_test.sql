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

-- The producer.
CREATE FUNCTION kp_open(server text, id text, grp text) RETURNS void AS 'ks_kafka_test' LANGUAGE C;
CREATE FUNCTION kp_open_and_fail(server text) RETURNS void AS 'ks_kafka_test' LANGUAGE C;
CREATE FUNCTION kp_close() RETURNS float8 AS 'ks_kafka_test' LANGUAGE C;
CREATE FUNCTION kp_state() RETURNS text AS 'ks_kafka_test' LANGUAGE C;
CREATE FUNCTION kp_connect(slice int) RETURNS text AS 'ks_kafka_test' LANGUAGE C;
CREATE FUNCTION kp_position(topic text, slice int) RETURNS text AS 'ks_kafka_test' LANGUAGE C;
CREATE FUNCTION kp_partitions(topic text, slice int) RETURNS text AS 'ks_kafka_test' LANGUAGE C;
CREATE FUNCTION kp_begin() RETURNS text AS 'ks_kafka_test' LANGUAGE C;
CREATE FUNCTION kp_send(topic text, part int, key text, value text, ms bigint, headers text[], seq bigint) RETURNS text AS 'ks_kafka_test' LANGUAGE C;
CREATE FUNCTION kp_fill(topic text, parts int, first bigint, count bigint, size int) RETURNS text AS 'ks_kafka_test' LANGUAGE C;
CREATE FUNCTION kp_commit(topic text, pos bigint, meta text, slice int) RETURNS text AS 'ks_kafka_test' LANGUAGE C;
CREATE FUNCTION kp_commit_by_events(topic text, pos bigint, meta text, ms int) RETURNS text AS 'ks_kafka_test' LANGUAGE C;
CREATE FUNCTION kp_poll(slice int) RETURNS text AS 'ks_kafka_test' LANGUAGE C;
CREATE FUNCTION kp_acked() RETURNS bigint AS 'ks_kafka_test' LANGUAGE C;
CREATE FUNCTION kp_pending() RETURNS text AS 'ks_kafka_test' LANGUAGE C;
CREATE FUNCTION kp_error(field text) RETURNS text AS 'ks_kafka_test' LANGUAGE C;
CREATE FUNCTION kp_throw(action text) RETURNS void AS 'ks_kafka_test' LANGUAGE C;
CREATE FUNCTION kp_outcome(code int) RETURNS text AS 'ks_kafka_test' LANGUAGE C;
CREATE FUNCTION kp_code_name(code int) RETURNS text AS 'ks_kafka_test' LANGUAGE C;
CREATE FUNCTION kp_speed(topic text, parts int, txns bigint, records bigint, size int) RETURNS text AS 'ks_kafka_test' LANGUAGE C;
CREATE FUNCTION kp_latency(topic text, rounds int, records int) RETURNS text AS 'ks_kafka_test' LANGUAGE C;
CREATE FUNCTION kp_mock_start(brokers int) RETURNS text AS 'ks_kafka_test' LANGUAGE C;
CREATE FUNCTION kp_mock_stop() RETURNS void AS 'ks_kafka_test' LANGUAGE C;
CREATE FUNCTION kp_mock_topic(topic text, parts int) RETURNS void AS 'ks_kafka_test' LANGUAGE C;
CREATE FUNCTION kp_mock_topic_error(topic text, code int) RETURNS void AS 'ks_kafka_test' LANGUAGE C;
CREATE FUNCTION kp_mock_errors(api int, code int, times int) RETURNS void AS 'ks_kafka_test' LANGUAGE C;
CREATE FUNCTION kp_mock_slow(broker int, api int, code int, ms int) RETURNS void AS 'ks_kafka_test' LANGUAGE C;
CREATE FUNCTION kp_mock_left(broker int, api int) RETURNS int AS 'ks_kafka_test' LANGUAGE C;
CREATE FUNCTION kp_mock_up(broker int, up bool) RETURNS void AS 'ks_kafka_test' LANGUAGE C;
CREATE FUNCTION kp_mock_leader(topic text, part int, broker int) RETURNS void AS 'ks_kafka_test' LANGUAGE C;
CREATE FUNCTION kp_mock_coordinator(kind text, id text, broker int) RETURNS void AS 'ks_kafka_test' LANGUAGE C;

CREATE FOREIGN DATA WRAPPER kt VALIDATOR kt_validator;
CREATE ROLE plain LOGIN;
CREATE ROLE reader LOGIN IN ROLE pg_read_server_files;
GRANT USAGE ON FOREIGN DATA WRAPPER kt TO plain, reader;
GRANT CREATE ON SCHEMA public TO plain, reader;
