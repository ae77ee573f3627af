-- streams.sql: from a topic to topics, row by row, exactly once: echo, merge, join with
-- a table, a query over the stream that another one makes.
--
--@ needs create_stream_as insert_into
--@ topic input 4
--@ topic dims 1
--@ topic echo 4
--@ topic merged 4
--@ topic joined 4
--@ topic again 2
--@ load input keys=200 size=300
--@ fixed dims 150 {"grp": "g{}", "rank": {}}
--@ outputs echo merged joined again
SELECT kstream.create_stream('events', 'id bigint, txn bigint, k text, v int, ts bigint', topic => '@input@');
SELECT kstream.create_global_table('dims', 'k text PRIMARY KEY, grp text, rank int', topic => '@dims@');
SELECT kstream.create_stream_as('echo', 'SELECT id, txn, k, v, ts FROM events', topic => '@echo@', key => 'k');
SELECT kstream.create_stream('merged', 'id bigint, k text, v int, sign int', topic => '@merged@', key => 'k');
SELECT kstream.insert_into('merged', 'SELECT id, k, v, 1 FROM events WHERE v >= 0', 'merged_positive');
SELECT kstream.insert_into('merged', 'SELECT id, k, v, -1 FROM events WHERE v < 0', 'merged_negative');
SELECT kstream.create_stream_as('joined', 'SELECT e.id, e.k, e.v, coalesce(d.grp, ''none'') AS grp FROM events e LEFT JOIN dims d USING (k)',
	topic => '@joined@', key => 'k');
SELECT kstream.create_stream_as('again', 'SELECT id, grp, v FROM joined', topic => '@again@', key => 'grp');
SELECT kstream.create_table_as('sums', 'SELECT grp, count(*) AS c, sum(v) AS s FROM again GROUP BY grp');

--@ verify set topic=@echo@ field=id log=@log@
--@ verify same topic=@echo@ with=@input@ field=id,txn,k,v,ts
--@ verify order topic=@echo@ field=id strict=1
--@ verify partitioned topic=@echo@
--@ verify set topic=@merged@ field=id log=@log@
--@ verify same topic=@merged@ with=@input@ field=id,k,v
--@ verify partitioned topic=@merged@
--@ verify set topic=@joined@ field=id log=@log@
--@ verify same topic=@joined@ with=@input@ field=id,k,v
--@ verify order topic=@joined@ field=id strict=1
--@ verify partitioned topic=@joined@
--@ verify same topic=@again@ with=@joined@ field=id,grp,v
--@ verify partitioned topic=@again@
--@ read input joined
--@ equal SELECT grp, c, s FROM sums
--+ === SELECT coalesce('g' || d, 'none'), count(*), sum((j->>'v')::int) FROM ref.input
--+ LEFT JOIN generate_series(0, 149) d ON 'k' || d = j->>'k' GROUP BY d
--@ equal SELECT (j->>'id')::bigint, j->>'grp' FROM ref.joined
--+ === SELECT (j->>'id')::bigint, coalesce('g' || d, 'none') FROM ref.input LEFT JOIN generate_series(0, 149) d ON 'k' || d = j->>'k'
