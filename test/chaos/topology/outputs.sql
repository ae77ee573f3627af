-- outputs.sql: from a topic to topics, exactly once: echo, merge, sum, join with a
-- table, a query over the stream that another one makes, a sink.
--
--@ needs create_stream_as insert_into create_sink
--@ topic input 4
--@ topic dims 1
--@ topic echo 4
--@ topic merged 4
--@ topic sums 4
--@ topic joined 4
--@ topic chained 2
--@ topic sunk 3
--@ load input keys=200 size=300
--@ fixed dims 150 {"grp": "g{}", "rank": {}}
--@ outputs echo merged sums joined chained sunk
SELECT kstream.create_stream('events', 'id bigint, txn bigint, k text, v int, ts bigint', topic => '@input@');
SELECT kstream.create_global_table('dims', 'k text PRIMARY KEY, grp text, rank int', topic => '@dims@');
SELECT kstream.create_stream_as('echo', 'SELECT id, txn, k, v, ts FROM events', topic => '@echo@', key => 'k');
SELECT kstream.create_stream('merged', 'id bigint, k text, v int, sign int', topic => '@merged@', key => 'k');
SELECT kstream.insert_into('merged', 'SELECT id, k, v, 1 FROM events WHERE v >= 0', 'merged_positive');
SELECT kstream.insert_into('merged', 'SELECT id, k, v, -1 FROM events WHERE v < 0', 'merged_negative');
SELECT kstream.create_table_as('sums', 'SELECT k, count(*) AS c, sum(v) AS s, min(v) AS lo, max(id) AS hi FROM events GROUP BY k',
	topic => '@sums@');
SELECT kstream.create_stream_as('joined', 'SELECT e.id, e.k, e.v, coalesce(d.grp, ''none'') AS grp FROM events e LEFT JOIN dims d USING (k)',
	topic => '@joined@', key => 'k');
SELECT kstream.create_table_as('chained', 'SELECT grp, count(*) AS c, sum(v) AS s FROM joined GROUP BY grp', topic => '@chained@');
SELECT kstream.create_sink('sunk', 'sums', topic => '@sunk@');

--@ verify set topic=@echo@ field=id log=@log@
--@ verify same topic=@echo@ with=@input@ field=id,txn,k,v,ts
--@ verify order topic=@echo@ field=id strict=1
--@ verify partitioned topic=@echo@
--@ verify dense topic=@echo@ start=1
--@ verify set topic=@merged@ field=id log=@log@
--@ verify same topic=@merged@ with=@input@ field=id,k,v
--@ verify same topic=@joined@ with=@input@ field=id,k,v
--@ verify order topic=@joined@ field=id strict=1
--@ verify partitioned topic=@joined@
--@ verify dense topic=@joined@ start=1
--@ verify order topic=@sums@ field=c strict=1
--@ verify partitioned topic=@sums@
--@ verify dense topic=@sums@ start=1
--@ verify order topic=@chained@ field=c strict=1
--@ verify dense topic=@chained@ start=1
--@ verify dense topic=@sunk@ start=1
--@ read input joined
--@ fold sums chained sunk
--@ equal SELECT k, c, s, lo, hi FROM sums
--+ === SELECT j->>'k', count(*), sum((j->>'v')::int), min((j->>'v')::int), max((j->>'id')::bigint) FROM ref.input GROUP BY 1
--@ equal SELECT grp, c, s FROM chained
--+ === SELECT coalesce('g' || d, 'none'), count(*), sum((j->>'v')::int) FROM ref.input
--+ LEFT JOIN generate_series(0, 149) d ON 'k' || d = j->>'k' GROUP BY d
--@ equal SELECT (j->>'id')::bigint, j->>'grp' FROM ref.joined
--+ === SELECT (j->>'id')::bigint, coalesce('g' || d, 'none') FROM ref.input LEFT JOIN generate_series(0, 149) d ON 'k' || d = j->>'k'
--@ equal SELECT key, (j->>'c')::bigint, (j->>'s')::bigint, (j->>'lo')::int, (j->>'hi')::bigint FROM ref.fold_sums
--+ === SELECT k, c, s, lo, hi FROM sums
--@ equal SELECT key, (j->>'c')::bigint, (j->>'s')::bigint FROM ref.fold_sunk === SELECT k, c, s FROM sums
--@ equal SELECT key, (j->>'c')::bigint, (j->>'s')::bigint FROM ref.fold_chained === SELECT grp, c, s FROM chained
