-- at_least_once.sql: the mode of low latency: nothing is lost, and what comes twice has
-- the same number in its header, so that a consumer can leave it out.
--
--@ needs create_stream_as
--@ topic input 4
--@ topic echo 4
--@ topic again 2
--@ load input keys=200 size=300
--@ outputs echo again
SELECT kstream.create_stream('events', 'id bigint, txn bigint, k text, v int, ts bigint', topic => '@input@');
SELECT kstream.create_stream_as('echo', 'SELECT id, txn, k, v, ts FROM events', topic => '@echo@', key => 'k',
	guarantee => 'at_least_once');
SELECT kstream.create_stream_as('again', 'SELECT id, k, v FROM events WHERE v > 0', topic => '@again@', key => 'k',
	guarantee => 'at_least_once');

--@ verify set topic=@echo@ field=id log=@log@ dedup=kstream_seq
--@ verify same topic=@echo@ with=@input@ field=id,txn,k,v,ts dedup=kstream_seq
--@ verify order topic=@echo@ field=id strict=1 dedup=kstream_seq
--@ verify partitioned topic=@echo@
--@ verify dense topic=@echo@ start=0 dedup=kstream_seq
--@ verify order topic=@again@ field=id strict=1 dedup=kstream_seq
--@ verify dense topic=@again@ start=0 dedup=kstream_seq
