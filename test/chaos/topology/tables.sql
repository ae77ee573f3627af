-- tables.sql: from a topic into tables, of several shapes, one of which finds bad records.  Nothing is put out by the
-- engine here; one table is copied to a topic at the end by the test, so that the
-- checks of topics are tried, too.
--
--@ topic input 4
--@ topic dims 1
--@ topic copied 4
--@ load input keys=200 size=300
--@ fixed dims 150 {"grp": "g{}", "rank": {}}
SELECT kstream.create_stream('events', 'id bigint, txn bigint, k text, v int, ts bigint', topic => '@input@');
SELECT kstream.create_global_table('dims', 'k text PRIMARY KEY, grp text, rank int', topic => '@dims@');
SELECT kstream.create_table_as('echo', 'SELECT _partition AS p, _offset AS o, id, txn, k, v FROM events');
SELECT kstream.create_table_as('sums', 'SELECT k, count(*) AS c, sum(v) AS s, min(v) AS lo, max(id) AS hi FROM events GROUP BY k');
SELECT kstream.create_table_as('joined', 'SELECT d.grp, count(*) AS c, sum(e.v * d.rank) AS s FROM events e LEFT JOIN dims d USING (k) GROUP BY d.grp');
SELECT kstream.create_table_as('divided', 'SELECT _partition AS p, _offset AS o, 1000 / (v % 500) AS q FROM events');

--@ standin copied SELECT k, json_build_object('id', id, 'k', k, 'v', v)::text FROM echo ORDER BY p, o
--@ verify set topic=@copied@ field=id log=@log@
--@ verify same topic=@copied@ with=@input@ field=id,k,v
--@ verify order topic=@copied@ field=id strict=1
--@ verify dense topic=@copied@ start=1
--@ read input
--@ fold copied
--@ equal SELECT p, o, id, txn, k, v FROM echo
--+ === SELECT p, o, (j->>'id')::bigint, (j->>'txn')::bigint, j->>'k', (j->>'v')::int FROM ref.input
--@ equal SELECT k, c, s, lo, hi FROM sums
--+ === SELECT j->>'k', count(*), sum((j->>'v')::int), min((j->>'v')::int), max((j->>'id')::bigint) FROM ref.input GROUP BY 1
--@ equal SELECT grp, c, s FROM joined
--+ === SELECT 'g' || d, count(*), sum((j->>'v')::int * d) FROM ref.input
--+ LEFT JOIN generate_series(0, 149) d ON 'k' || d = j->>'k' GROUP BY d
--@ equal SELECT p, o, q FROM divided
--+ === SELECT p, o, 1000 / ((j->>'v')::int % 500) FROM ref.input WHERE (j->>'v')::int % 500 <> 0
--@ equal SELECT partition, "offset" FROM kstream.dead_letters WHERE query = 'divided'
--+ === SELECT p, o FROM ref.input WHERE (j->>'v')::int % 500 = 0
--@ equal SELECT key, (j->>'id')::bigint FROM ref.fold_copied === SELECT k, hi FROM sums
