/*
 * Workers: waiting for them, and what they do now.
 */
CREATE FUNCTION kstream.wait(name text DEFAULT NULL, timeout interval DEFAULT '1 min')
RETURNS void
AS 'MODULE_PATHNAME', 'ks_wait'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION kstream.wait(text, interval) IS
'returns when a continuous query (NULL: all of the caller''s) has processed what its sources held when called; error KS001 on timeout, KS002 if it has failed or is paused';

CREATE FUNCTION kstream_catalog.stat_query_shmem(
	OUT query int, OUT state text, OUT detail text, OUT sqlstate text,
	OUT last_error_at timestamptz, OUT state_since timestamptz, OUT generation int,
	OUT pid int, OUT restarts bigint, OUT batches bigint, OUT records bigint,
	OUT rows_out bigint, OUT dead bigint,
	OUT commit_p50_ms float8, OUT commit_p99_ms float8,
	OUT e2e_p50_ms float8, OUT e2e_p99_ms float8)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'ks_stat_query_shmem'
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION kstream_catalog.stat_query_shmem() IS
'a row per continuous query of this database that a worker has run since the server started: state (starting, running, waiting, paused, failed, blocked; valid for that generation of the definition), last error or what it waits for, pid of its worker, counters and latencies since then';

CREATE FUNCTION kstream_catalog.stat_partition_shmem(
	OUT query int, OUT source oid, OUT partition int, OUT "position" bigint,
	OUT end_offset bigint, OUT stream_time timestamptz, OUT idle boolean)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'ks_stat_partition_shmem'
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION kstream_catalog.stat_partition_shmem() IS
'a row per partition that a worker reads for a continuous query of this database: committed position, end as the client knows it, partition time';
