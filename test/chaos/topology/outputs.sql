-- outputs.sql: from a topic to topics through tables, exactly once: the changelog of a
-- sum, of a sum over a stream that another query makes, and a sink.
--
--@ needs create_stream_as create_sink
--@ topic input 4
--@ topic dims 1
--@ topic sums 4
--@ topic joined 4
--@ topic chained 2
--@ topic sunk 3
--@ load input keys=200 size=300
--@ fixed dims 150 {"grp": "g{}", "rank": {}}
--@ outputs sums joined chained sunk
SELECT kstream.create_stream('events', 'id bigint, txn bigint, k text, v int, ts bigint', topic => '@input@');
SELECT kstream.create_global_table('dims', 'k text PRIMARY KEY, grp text, rank int', topic => '@dims@');
SELECT kstream.create_table_as('sums', 'SELECT k, count(*) AS c, sum(v) AS s, min(v) AS lo, max(id) AS hi FROM events GROUP BY k',
	topic => '@sums@');
SELECT kstream.create_stream_as('joined', 'SELECT e.id, e.k, e.v, coalesce(d.grp, ''none'') AS grp FROM events e LEFT JOIN dims d USING (k)',
	topic => '@joined@', key => 'k');
SELECT kstream.create_table_as('chained', 'SELECT grp, count(*) AS c, sum(v) AS s FROM joined GROUP BY grp', topic => '@chained@');
SELECT kstream.create_sink('sunk', 'sums', topic => '@sunk@');

--@ verify order topic=@sums@ field=c strict=1
--@ verify partitioned topic=@sums@
--@ verify order topic=@chained@ field=c strict=1
--@ verify partitioned topic=@chained@
--@ verify order topic=@sunk@ field=c strict=1
--@ verify partitioned topic=@sunk@
--@ read input
--@ fold sums chained sunk
--@ equal SELECT k, c, s, lo, hi FROM sums
--+ === SELECT j->>'k', count(*), sum((j->>'v')::int), min((j->>'v')::int), max((j->>'id')::bigint) FROM ref.input GROUP BY 1
--@ equal SELECT grp, c, s FROM chained
--+ === SELECT coalesce('g' || d, 'none'), count(*), sum((j->>'v')::int) FROM ref.input
--+ LEFT JOIN generate_series(0, 149) d ON 'k' || d = j->>'k' GROUP BY d
--@ equal SELECT key, (j->>'c')::bigint, (j->>'s')::bigint, (j->>'lo')::int, (j->>'hi')::bigint FROM ref.fold_sums
--+ === SELECT k, c, s, lo, hi FROM sums
--@ equal SELECT key, (j->>'c')::bigint, (j->>'s')::bigint FROM ref.fold_sunk === SELECT k, c, s FROM sums
--@ equal SELECT key, (j->>'c')::bigint, (j->>'s')::bigint FROM ref.fold_chained === SELECT grp, c, s FROM chained
