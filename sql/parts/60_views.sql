/*
 * What users look at.  pg_monitor sees all, others what they own; the bytes of
 * dead letters are for owners only.
 */
CREATE VIEW kstream.streams WITH (security_barrier) AS
SELECT c.oid::regclass::text AS name,
	c.oid::regclass AS relation,
	c.relowner::regrole AS owner,
	s.srvname AS server,
	CASE WHEN s.srvname <> 'local' THEN coalesce(o.topic, c.relname::text) END AS topic,
	coalesce(o.format, 'json') AS format,
	o.key,
	coalesce(o.key_format, CASE WHEN o.key LIKE '%,%' THEN 'json' ELSE 'text' END) AS key_format,
	o."timestamp",
	coalesce(l.partitions, o.partitions::int) AS partitions,
	o.dedup_key,
	CASE WHEN o.dedup_key IS NOT NULL THEN coalesce(o.dedup_window, '1 day')::interval END AS dedup_window
FROM pg_catalog.pg_foreign_table t
	JOIN pg_catalog.pg_class c ON c.oid = t.ftrelid
	JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	JOIN pg_catalog.pg_foreign_server s ON s.oid = t.ftserver
	JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = s.srvfdw
	LEFT JOIN kstream_catalog.local_log l ON l.relation = c.oid
	CROSS JOIN LATERAL (
		SELECT max(option_value) FILTER (WHERE option_name = 'topic') AS topic,
			max(option_value) FILTER (WHERE option_name = 'format') AS format,
			max(option_value) FILTER (WHERE option_name = 'key') AS key,
			max(option_value) FILTER (WHERE option_name = 'key_format') AS key_format,
			max(option_value) FILTER (WHERE option_name = 'timestamp') AS "timestamp",
			max(option_value) FILTER (WHERE option_name = 'partitions') AS partitions,
			max(option_value) FILTER (WHERE option_name = 'dedup_key') AS dedup_key,
			max(option_value) FILTER (WHERE option_name = 'dedup_window') AS dedup_window
		FROM pg_catalog.pg_options_to_table(t.ftoptions)) o
WHERE w.fdwname = 'kstream' AND n.nspname <> 'kstream_query'
	AND (pg_has_role(c.relowner, 'USAGE') OR pg_has_role('pg_monitor', 'USAGE'));
COMMENT ON VIEW kstream.streams IS 'streams and the options they are read with';

CREATE VIEW kstream.queries WITH (security_barrier) AS
SELECT coalesce(q.name, q.relation::text) AS name,
	q.relation,
	q.kind,
	c.relowner::regrole AS owner,
	CASE
		WHEN q.instance <> kstream_catalog.instance_id() THEN 'blocked'
		WHEN q.paused THEN 'paused'
		WHEN s.state IS NOT NULL AND s.generation = q.generation THEN s.state
		WHEN q.last_error IS NOT NULL THEN 'failed'
		ELSE 'starting'
	END AS state,
	q.last_error,
	q.last_error_at,
	greatest(q.restarts, s.restarts) AS restarts,
	CASE WHEN q.view IS NOT NULL THEN pg_get_viewdef(q.view, true) END AS definition,
	q.last_sqlstate,
	CASE
		WHEN q.instance <> kstream_catalog.instance_id()
			THEN 'comes from another database; kstream.resume(name) lets it go on here'
		WHEN NOT q.paused AND s.generation = q.generation AND s.state <> 'failed' THEN s.detail
	END AS detail,
	CASE WHEN s.generation = q.generation THEN s.pid END AS worker_pid,
	q.id
FROM kstream_catalog.query q
	JOIN pg_catalog.pg_class c ON c.oid = q.relation
	LEFT JOIN kstream_catalog.stat_query_shmem()
		AS s(query, state, detail, sqlstate, error_at, since, generation, pid, restarts)
		ON s.query = q.id
WHERE pg_has_role(c.relowner, 'USAGE') OR pg_has_role('pg_monitor', 'USAGE');
COMMENT ON VIEW kstream.queries IS 'continuous queries and tables that follow a topic: what they are and how they fare';

CREATE VIEW kstream.tables WITH (security_barrier) AS
SELECT q.relation::text AS name,
	q.relation,
	q.kind,
	c.relowner::regrole AS owner,
	q.key_columns AS primary_key,
	f.srvname AS server,
	o.topic,
	o.format,
	o.key_format,
	o."timestamp",
	q.version_column,
	l.keep AS keep_changes
FROM kstream_catalog.query q
	JOIN pg_catalog.pg_class c ON c.oid = q.relation
	LEFT JOIN kstream_catalog.changelog l ON l.relation = q.relation
	LEFT JOIN pg_catalog.pg_foreign_table t ON t.ftrelid = q.source
	LEFT JOIN pg_catalog.pg_foreign_server f ON f.oid = t.ftserver
	LEFT JOIN LATERAL (
		SELECT max(option_value) FILTER (WHERE option_name = 'topic') AS topic,
			max(option_value) FILTER (WHERE option_name = 'format') AS format,
			max(option_value) FILTER (WHERE option_name = 'key_format') AS key_format,
			max(option_value) FILTER (WHERE option_name = 'timestamp') AS "timestamp"
		FROM pg_catalog.pg_options_to_table(t.ftoptions)) o ON true
WHERE q.kind <> 'stream'
	AND (pg_has_role(c.relowner, 'USAGE') OR pg_has_role('pg_monitor', 'USAGE'));
COMMENT ON VIEW kstream.tables IS 'tables that kstream keeps up to date, and the topics of those that follow one';

CREATE VIEW kstream.dead_letters WITH (security_barrier) AS
SELECT d.id,
	coalesce(q.name, q.relation::text) AS query,
	q.relation,
	d.topic,
	d.partition,
	d."offset",
	d."timestamp",
	CASE WHEN pg_has_role(c.relowner, 'USAGE') THEN d.key END AS key,
	CASE WHEN pg_has_role(c.relowner, 'USAGE') THEN d.value END AS value,
	CASE WHEN pg_has_role(c.relowner, 'USAGE') THEN d.headers END AS headers,
	d.sqlstate,
	d.message,
	d.seen_at,
	d.source
FROM kstream_catalog.dead_letter d
	JOIN kstream_catalog.query q ON q.id = d.query
	JOIN pg_catalog.pg_class c ON c.oid = q.relation
WHERE pg_has_role(c.relowner, 'USAGE') OR pg_has_role('pg_monitor', 'USAGE');
COMMENT ON VIEW kstream.dead_letters IS 'records that a query could not process, as they came, with the reason';

CREATE VIEW kstream.late_records WITH (security_barrier) AS
SELECT q.relation::text AS query,
	q.relation,
	l.topic,
	l.partition,
	l."offset",
	l.event_time,
	l.stream_time,
	l."window",
	l.seen_at,
	l.source,
	l.watermark
FROM kstream_catalog.late_record l
	JOIN kstream_catalog.query q ON q.id = l.query
	JOIN pg_catalog.pg_class c ON c.oid = q.relation
WHERE pg_has_role(c.relowner, 'USAGE') OR pg_has_role('pg_monitor', 'USAGE');
COMMENT ON VIEW kstream.late_records IS 'records that came after their window had closed: the newest of each query, a row per record and window';

CREATE VIEW kstream.stat_query WITH (security_barrier) AS
SELECT coalesce(q.name, q.relation::text) AS name,
	p.records AS records_in,
	p.rows_out AS records_out,
	p.late,
	p.dead,
	p.duplicates,
	coalesce(s.batches, 0) AS batches,
	round(s.records::numeric / nullif(s.batches, 0), 1) AS rows_per_batch,
	s.commit_p50_ms,
	s.commit_p99_ms,
	s.e2e_p50_ms,
	s.e2e_p99_ms,
	q.relation,
	p.watermark
FROM kstream_catalog.query q
	JOIN pg_catalog.pg_class c ON c.oid = q.relation
	CROSS JOIN LATERAL (
		SELECT coalesce(sum(records), 0)::bigint AS records,
			coalesce(sum(rows_out), 0)::bigint AS rows_out,
			coalesce(sum(late), 0)::bigint AS late,
			coalesce(sum(dead), 0)::bigint AS dead,
			coalesce(sum(duplicates), 0)::bigint AS duplicates,
			max(watermark) AS watermark
		FROM kstream_catalog.position
		WHERE query = q.id) p
	LEFT JOIN kstream_catalog.stat_query_shmem()
		AS s(query, state, detail, sqlstate, error_at, since, generation, pid, restarts, batches,
			records, rows_out, dead, commit_p50_ms, commit_p99_ms, e2e_p50_ms, e2e_p99_ms)
		ON s.query = q.id
WHERE pg_has_role(c.relowner, 'USAGE') OR pg_has_role('pg_monitor', 'USAGE');
COMMENT ON VIEW kstream.stat_query IS 'counters of each query, exact and kept with its positions; batches and latencies since the server started';

CREATE VIEW kstream.stat_partition WITH (security_barrier) AS
SELECT coalesce(q.name, q.relation::text) AS query,
	o.topic,
	coalesce(p.partition, s.partition) AS partition,
	coalesce(p.next_offset, s.next_offset) AS position,
	CASE WHEN s.end_offset >= 0 THEN greatest(s.end_offset, p.next_offset) END AS end_offset,
	CASE WHEN s.end_offset >= 0 THEN greatest(s.end_offset - coalesce(p.next_offset, s.next_offset), 0) END AS lag,
	coalesce(p.stream_time, s.stream_time) AS partition_time,
	s.idle,
	coalesce(p.source, s.source::regclass) AS source,
	q.relation
FROM kstream_catalog.position p
	FULL JOIN kstream_catalog.stat_partition_shmem()
		AS s(query, source, partition, next_offset, end_offset, stream_time, idle)
		ON s.query = p.query AND s.source = p.source AND s.partition = p.partition
	JOIN kstream_catalog.query q ON q.id = coalesce(p.query, s.query)
	JOIN pg_catalog.pg_class c ON c.oid = q.relation
	LEFT JOIN pg_catalog.pg_foreign_table t ON t.ftrelid = coalesce(p.source, s.source)
	LEFT JOIN pg_catalog.pg_foreign_server f ON f.oid = t.ftserver
	LEFT JOIN pg_catalog.pg_class tc ON tc.oid = t.ftrelid
	LEFT JOIN LATERAL (
		SELECT coalesce(max(option_value), tc.relname::text) AS topic
		FROM pg_catalog.pg_options_to_table(t.ftoptions)
		WHERE option_name = 'topic') o ON f.srvname <> 'local'
WHERE pg_has_role(c.relowner, 'USAGE') OR pg_has_role('pg_monitor', 'USAGE');
COMMENT ON VIEW kstream.stat_partition IS 'where each query is in each partition, and how far behind';

CREATE VIEW kstream.stat_store WITH (security_barrier) AS
SELECT coalesce(q.name, q.relation::text) AS name,
	r.role,
	r.store,
	coalesce(nullif(pg_stat_get_live_tuples(c.oid), 0), greatest(c.reltuples, 0)::bigint) AS rows,
	pg_total_relation_size(r.store) AS bytes
FROM kstream_catalog.query q
	JOIN pg_catalog.pg_class qc ON qc.oid = q.relation
	CROSS JOIN LATERAL (
		VALUES ('result', q.relation), ('state', q.state), ('inputs', q.inputs)
		UNION ALL
		SELECT 'buffer', b.oid::regclass
		FROM pg_catalog.pg_class b
		WHERE b.relnamespace = 'kstream_state'::regnamespace AND b.relkind = 'r'
			AND b.relname ~ ('^j_' || q.id || '_[0-9]+(_[01])?$'))
		AS r(role, store)
	JOIN pg_catalog.pg_class c ON c.oid = r.store
WHERE pg_has_role(qc.relowner, 'USAGE') OR pg_has_role('pg_monitor', 'USAGE')
UNION ALL
SELECT q.relation::text, 'keys', d.relation,
	coalesce(nullif(pg_stat_get_live_tuples(d.relation), 0), greatest(c.reltuples, 0)::bigint),
	pg_total_relation_size(d.relation)
FROM kstream_catalog.dedup_part d
	JOIN kstream_catalog.query q ON q.id = d.query
	JOIN pg_catalog.pg_class qc ON qc.oid = q.relation
	JOIN pg_catalog.pg_class c ON c.oid = d.relation
WHERE pg_has_role(qc.relowner, 'USAGE') OR pg_has_role('pg_monitor', 'USAGE')
UNION ALL
SELECT l.relation::text, 'log', l.log,
	coalesce(nullif(pg_stat_get_live_tuples(c.oid), 0), greatest(c.reltuples, 0)::bigint),
	pg_total_relation_size(l.log) + pg_total_relation_size(l.segments)
FROM kstream_catalog.local_log l
	JOIN pg_catalog.pg_class sc ON sc.oid = l.relation
	JOIN pg_catalog.pg_class c ON c.oid = l.log
WHERE pg_has_role(sc.relowner, 'USAGE') OR pg_has_role('pg_monitor', 'USAGE')
UNION ALL
SELECT l.relation::text, 'changes', r.log,
	coalesce(nullif(pg_stat_get_live_tuples(c.oid), 0), greatest(c.reltuples, 0)::bigint),
	pg_total_relation_size(r.log) + pg_total_relation_size(r.segments)
FROM kstream_catalog.changelog l
	JOIN pg_catalog.pg_class tc ON tc.oid = l.relation
	CROSS JOIN LATERAL (VALUES (l.log0, l.segments0), (l.log1, l.segments1)) AS r(log, segments)
	JOIN pg_catalog.pg_class c ON c.oid = r.log
WHERE pg_has_role(tc.relowner, 'USAGE') OR pg_has_role('pg_monitor', 'USAGE');
COMMENT ON VIEW kstream.stat_store IS 'tables that hold results, states, keys seen (see dedup_key), local logs and changes: rows as last estimated, and bytes';

CREATE VIEW kstream.sinks WITH (security_barrier) AS
SELECT coalesce(k.name, coalesce(q.relation, k.relation)::text) AS name,
	coalesce(q.relation, k.relation) AS relation,
	coalesce(o.topic, tc.relname::text) AS topic,
	p.position,
	greatest(b.end_position - p.position, 0) AS lag_rows,
	CASE WHEN b.end_position > p.position
		THEN greatest(extract(epoch FROM clock_timestamp() - b.oldest), 0)::double precision
		ELSE 0
	END AS lag_seconds,
	CASE
		WHEN k.instance <> kstream_catalog.instance_id() THEN 'blocked'
		WHEN k.paused THEN 'paused'
		WHEN s.state IS NOT NULL AND s.generation = k.generation THEN s.state
		WHEN k.last_error IS NOT NULL THEN 'failed'
		ELSE 'starting'
	END AS state,
	k.last_error,
	k.last_error_at,
	greatest(k.restarts, s.restarts) AS restarts,
	k.kind,
	c.relowner::regrole AS owner,
	f.srvname AS server,
	k.key_columns AS key,
	coalesce(o.format, 'json') AS format,
	k.envelope,
	k.headers,
	k.guarantee,
	p.in_doubt,
	b.bytes AS outbox_bytes,
	CASE
		WHEN k.instance <> kstream_catalog.instance_id()
			THEN 'comes from another database; kstream.resume(name) lets it go on here'
		WHEN NOT k.paused AND s.generation = k.generation AND s.state <> 'failed' THEN s.detail
	END AS detail,
	k.last_sqlstate,
	k.id
FROM kstream_catalog.sink k
	JOIN kstream_catalog.published p ON p.sink = k.id
	JOIN pg_catalog.pg_class c ON c.oid = k.relation
	JOIN pg_catalog.pg_class tc ON tc.oid = k.target
	LEFT JOIN kstream_catalog.query q ON q.source = k.relation
	JOIN pg_catalog.pg_foreign_table t ON t.ftrelid = k.target
	JOIN pg_catalog.pg_foreign_server f ON f.oid = t.ftserver
	CROSS JOIN LATERAL kstream_catalog.sink_outbox(k.id) AS b
	CROSS JOIN LATERAL (
		SELECT max(option_value) FILTER (WHERE option_name = 'topic') AS topic,
			max(option_value) FILTER (WHERE option_name = 'format') AS format
		FROM pg_catalog.pg_options_to_table(t.ftoptions)) o
	LEFT JOIN kstream_catalog.stat_query_shmem()
		AS s(query, state, detail, sqlstate, error_at, since, generation, pid, restarts)
		ON s.query = k.id
WHERE pg_has_role(c.relowner, 'USAGE') OR pg_has_role('pg_monitor', 'USAGE');
COMMENT ON VIEW kstream.sinks IS 'what is published to topics, how far, and how it fares';

GRANT SELECT ON kstream.streams, kstream.queries, kstream.tables, kstream.sinks, kstream.dead_letters,
	kstream.late_records, kstream.stat_query, kstream.stat_partition, kstream.stat_store TO PUBLIC;
