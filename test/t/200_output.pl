
# 200_output.pl: records leave for topics: INSERT and COPY into streams, streams
# that queries feed, chains of them; what the records are, both guarantees,
# rollback, order, back-pressure, topics that are missing, a database that is
# behind its topic, a copy of one that is still at work.
#
# What is in the topics is read by a program that speaks the protocol itself.

use strict;
use warnings;

use File::Copy ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use KafkaTest;

plan skip_all => 'KAFKA_BOOTSTRAP names no broker' unless bootstrap();

my $node = new_node('output', 'kstream.max_workers = 3', 'wal_level = replica', 'max_wal_senders = 4');
my $db = 'output';

create_db($node, $db);

# The rows a query returns.
sub rows
{
	return $node->safe_psql($db, $_[0]);
}

# All records of a topic as "key=value" in the order of partitions and offsets.
sub records
{
	return join ' ', map { ($_->[3] // '-') . '=' . ($_->[4] // '-') } topic_rows($_[0]);
}

# The state of a sink as its catalog has it.
sub published
{
	return rows("SELECT p.position FROM kstream_catalog.published p JOIN kstream_catalog.sink s ON s.id = p.sink WHERE s.relation = '$_[0]'::regclass");
}

# --- INSERT ----------------------------------------------------------------

my $topic = create_topic('inserted', 4);
rows("SELECT kstream.create_stream('s', 'id bigint, k text, v numeric', topic => '$topic', key => 'k')");
rows(q(INSERT INTO s (id, k, v) VALUES (1, 'a', 1.50), (2, 'b', 2)));
rows(q(BEGIN; INSERT INTO s (id, k, v) VALUES (3, 'lost', 0); ROLLBACK));
rows(q(BEGIN; INSERT INTO s (id, k) VALUES (4, 'a'); SAVEPOINT x; INSERT INTO s (id, k) VALUES (5, 'lost');
	ROLLBACK TO x; INSERT INTO s (id, k) VALUES (6, 'a'); COMMIT));
rows(q(SELECT kstream.wait('s', '30 s')));
is(join(' ', sort map { "$_->[3]=$_->[4]" } topic_rows($topic)),
	'a={"id":1,"k":"a","v":1.50} a={"id":4,"k":"a","v":null} a={"id":6,"k":"a","v":null} b={"id":2,"k":"b","v":2}',
	'committed rows, and only these, become records');
is(join(' ', map { $_->[4] =~ /"id":(\d+)/ } grep { $_->[3] eq 'a' } topic_rows($topic)),
	'1 4 6', 'those of one key in the order of commits');

# partitions as Kafka's Java client chooses them (murmur2; org.apache.kafka.common.utils.UtilsTest and ours)
my %java = (21 => -973932308, foobar => -790332482, 'a-little-bit-long-string' => -985981536,
	'a-little-bit-longer-string' => -1486304829, 'lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8' => -58897971, abc => 479470107);
my $wide = create_topic('wide', 7);
rows("SELECT kstream.create_stream('w', 'n int', topic => '$wide')");
rows("INSERT INTO w (n, _key) VALUES (1, '$_')") foreach keys %java;
rows(q(SELECT kstream.wait('w', '30 s')));
is_deeply({ map { $_->[3] => $_->[0] } topic_rows($wide) },
	{ map { $_ => ($java{$_} & 0x7fffffff) % 7 } keys %java },
	'partitions are those of the Java client');

# columns of which no document can hold all are read, but not written
my $overlap = create_topic('overlap', 1);
my $producer = KafkaTest::Producer->new;
$producer->send($overlap, undef, '{"x": {"y": [1, {"z": 5}]}}');
$producer->flush;
for ('a int OPTIONS (path \'x.y[1].z\'), w jsonb OPTIONS (path \'x\')', 'x jsonb, y jsonb OPTIONS (path \'x\')',
	'a jsonb OPTIONS (path \'x.y\'), b int OPTIONS (path \'x[0]\')')
{
	my $columns = $_ =~ s/'/''/gr;
	rows("SELECT kstream.create_stream('o', '$columns', topic => '$overlap')");
	like(sql_error($node, $db, 'INSERT INTO o VALUES (NULL, NULL)'), qr/^0A000.*cannot write to stream public\.o, because columns .* overlap/,
		"INSERT is refused: $_");
	like(sql_error($node, $db, "SELECT kstream.insert_into('o', 'SELECT NULL::jsonb, NULL::jsonb FROM s')"), qr/^(0A000.*overlap|42804)/,
		'and so is insert_into');
	rows('DROP FOREIGN TABLE o');
}
rows("SELECT kstream.create_stream('o', 'a int OPTIONS (path ''x.y[1].z''), w jsonb OPTIONS (path ''x'')', topic => '$overlap')");
is(rows('SELECT a, w FROM o'), '5|{"y": [1, {"z": 5}]}', 'the whole and a part are read');
rows('DROP FOREIGN TABLE o');

# the plan sorts by k: records leave in the order in which they came all the same
my $ordered = create_topic('ordered', 1);
rows(q(SELECT kstream.create_stream('numbers', 'id int, k text', server => 'local', partitions => 1)));
rows(q(INSERT INTO numbers SELECT i, 'k' || (i * 7919) % 100 FROM generate_series(1, 100) i));
rows(q(CREATE TABLE keys AS SELECT 'k' || i AS k FROM generate_series(0, 99) i, generate_series(1, 2)));
rows("SELECT kstream.create_stream_as('sorted', 'SELECT n.id FROM numbers n JOIN keys USING (k)', topic => '$ordered', paused => true)");
rows(q(SET enable_hashjoin = off; SET enable_nestloop = off; SELECT kstream.step('sorted')));
is(query_until($node, $db, 'SELECT count(*), count(*) FILTER (WHERE id <> _offset / 2 + 1) FROM (SELECT id, row_number() OVER (ORDER BY _offset) - 1 AS _offset FROM sorted) x', '200|0'),
	'200|0', 'rows of a join leave in the order of their records, whatever the plan');
rows('DROP FOREIGN TABLE sorted, numbers; DROP TABLE keys');

my $given = create_topic('given', 3);
rows("SELECT kstream.create_stream('g', 'n int', topic => '$given', key_format => 'bigint')");
rows(q(INSERT INTO g (n, _key, _partition, _timestamp, _headers) VALUES (1, '258', 2, '2024-02-29 12:00:00.123456+00', '{"trace": "4711", "none": null}')));
rows(q(SELECT kstream.wait('g', '30 s')));
is(rows('SELECT n, _key, _partition, _timestamp AT TIME ZONE $$UTC$$, _headers FROM g'),
	'1|258|2|2024-02-29 12:00:00.123|{"none": null, "trace": "4711"}', 'key, partition, time and headers as given');
is(unpack('H*', (topic_rows($given))[0][3]), '0000000000000102', 'a bigint key is eight bytes');
like(sql_error($node, $db, 'INSERT INTO g (n, _partition) VALUES (1, 3)'), qr/22003: partition 3 of stream .* does not exist/, 'a partition that is not there is refused');
like(sql_error($node, $db, "INSERT INTO g (n, _timestamp) VALUES (1, '1960-01-01')"), qr/22008: timestamp .* is out of Kafka's range/, 'a time that Kafka does not have is refused');
like(sql_error($node, $db, 'INSERT INTO g (n, _offset) VALUES (1, 3)'), qr/428C9/, 'an offset cannot be given');
like(sql_error($node, $db, q(INSERT INTO w (n, _headers) VALUES (1, '{"a": 1}'))), qr/22023: headers must be a JSON object/, 'headers are strings');
like(sql_error($node, $db, q(INSERT INTO w (n, _key) VALUES (1, repeat('x', 2000000)))), qr/54000: a record of \d+ bytes from public\.w is too large for topic/, 'a record that is too large is refused');
like(sql_error($node, $db, q(BEGIN; INSERT INTO w (n) VALUES (1); SELECT kstream.wait('w'))), qr/25001: cannot wait for/, 'waiting for what is not committed is refused');
like(sql_error($node, $db, q(BEGIN; INSERT INTO w (n) VALUES (1); PREPARE TRANSACTION 'x')), qr/0A000|55000/, 'no two-phase commit');

# --- much at once ----------------------------------------------------------

my $many = create_topic('many', 3);
rows("SELECT kstream.create_stream('m', 'id int, t text', topic => '$many', format => 'csv')");
rows(q(INSERT INTO m (id, t) SELECT g, 'row, "' || g || '"' FROM generate_series(1, 100000) g));
rows(q(COPY m (id, t) FROM PROGRAM 'seq -f "%.0f	copied" 100001 120000'));
rows(q(SELECT kstream.wait('m', '2 min')));
is(rows('SELECT count(*), count(DISTINCT id), min(id), max(id), bool_and(t = CASE WHEN id <= 100000 THEN $$row, "$$ || id || $$"$$ ELSE $$copied$$ END) FROM m'),
	'120000|120000|1|120000|t', 'INSERT ... SELECT and COPY of many rows');

# --- streams that queries feed ---------------------------------------------

my $source = create_topic('source', 3);
my ($big, $both, $deep) = map { topic_name($_) } qw(big both deep);
rows("SELECT kstream.create_stream('src', 'id int, k text, v int', topic => '$source')");
rows("SELECT kstream.create_stream_as('big', 'SELECT id, k, v * 10 AS v FROM src WHERE v >= 50', topic => '$big')");
rows("SELECT kstream.create_stream('twice', 'id int, k text', topic => '$both', partitions => 2)");
rows(q(SELECT kstream.insert_into('twice', 'SELECT id, k FROM src WHERE v < 50', 'low')));
rows(q(SELECT kstream.insert_into('twice', 'SELECT id, k FROM big', 'high')));
rows(q(SELECT kstream.create_stream_as('middle', 'SELECT id, k, _key AS _key FROM twice', server => 'local', partitions => 2)));
rows("SELECT kstream.create_stream_as('deep', 'SELECT id FROM middle', topic => '$deep', partitions => 1, guarantee => 'at_least_once')");
rows(q(SELECT kstream.create_table_as('summary', 'SELECT k, count(*), sum(id) FROM deep d JOIN (VALUES (0)) x ON true, LATERAL (SELECT (d.id % 7)::text AS k) y GROUP BY k')));
is(scalar(split /\n/, kafkactl('ends', $big)), 3, 'the topic has as many partitions as the input');
{
	my $producer = KafkaTest::Producer->new;

	foreach my $id (1 .. 3000)
	{
		$producer->send($source, 'k' . $id % 11, sprintf('{"id": %d, "k": "k%d", "v": %d}', $id, $id % 11, $id % 100),
			partition => $id % 11 % 3, timestamp => 1700000000000 + $id);
	}
	$producer->flush;
}
rows(q(SELECT kstream.wait('summary', '1 min')));
is(scalar(topic_rows($big)), 1500, 'one record for every row');
is(rows(q(SELECT count(*), count(*) FILTER (WHERE _key = k), count(*) FILTER (WHERE extract(epoch FROM _timestamp) * 1000 - 1700000000000 = id), count(DISTINCT _partition) FROM big)),
	'1500|1500|1500|3', 'with the key and the time of the record it comes from');
is(rows('SELECT count(*), count(DISTINCT id), sum(id), count(*) FILTER (WHERE _key = k) FROM twice'), '3000|3000|4501500|3000', 'two queries feed one stream');
is(rows('SELECT sum(count), sum(sum) FROM summary'), '3000|4501500', 'a chain through topics and a local log');
{
	my %last;
	my $wrong = 0;

	foreach my $row (topic_rows($big))
	{
		my ($id) = $row->[4] =~ /"id":(\d+)/;

		$wrong++ if $id <= ($last{$row->[3]} // 0);
		$last{$row->[3]} = $id;
	}
	is($wrong, 0, 'in the order of the input, key by key');
}
is(rows(q(SELECT array_agg((_headers->>'kstream_seq')::bigint ORDER BY (_headers->>'kstream_seq')::bigint) = array(SELECT generate_series(0, 2999)::bigint) FROM deep)),
	't', 'at least once: kstream_seq numbers the records without a gap');

# --- queries wait while their outbox is full ---------------------------------

my $slow = topic_name('slow');
rows("SELECT kstream.create_stream_as('slow', 'SELECT id, repeat(md5(id::text), 40) AS filler FROM m', topic => '$slow', partitions => 1, paused => true)");
rows(q(UPDATE kstream_catalog.sink SET paused = true, generation = generation + 1 WHERE relation = 'slow'::regclass));
$node->append_conf('postgresql.conf', 'kstream.outbox_max_bytes = 8MB');
$node->append_conf('postgresql.conf', 'kstream.batch_rows = 2000');
$node->reload;
rows(q(SELECT kstream.resume('slow')));
like(query_until($node, $db, q(SELECT detail FROM kstream.queries WHERE name = 'slow'), qr/outbox/, 30), qr/waiting for its outbox to be published/, 'a query whose outbox is full waits and says so');
cmp_ok(rows(q(SELECT records_in FROM kstream.stat_query WHERE name = 'slow')), '<', 120000, 'and takes no more');
rows(q(UPDATE kstream_catalog.sink SET paused = false, generation = generation + 1 WHERE relation = 'slow'::regclass));
rows(q(SELECT kstream.resume('slow')));
rows(q(SELECT kstream.wait('slow', '2 min')));
is(rows(q(SELECT records_in, records_out FROM kstream.stat_query WHERE name = 'slow')), '120000|120000', 'nothing is dropped');
is(scalar(topic_rows($slow)), 120000, 'everything is published');
ok(wait_for(20, sub { rows(q(SELECT sum(pg_table_size(r)) < 40 * 1024 * 1024 FROM kstream_catalog.sink, unnest(array[outbox0, outbox1]) r WHERE relation = 'slow'::regclass)) eq 't' }), 'the outbox gives its space back');
$node->append_conf('postgresql.conf', "kstream.outbox_max_bytes = 1GB\nkstream.batch_rows = 50000");
$node->reload;

# --- a topic that is not there ------------------------------------------------

my $missing = topic_name('missing');
rows("SELECT kstream.create_stream('gone', 'n int', topic => '$missing')");
rows('INSERT INTO gone (n) VALUES (1), (2)');
like(query_until($node, $db, q(SELECT last_error FROM kstream_catalog.sink WHERE relation = 'gone'::regclass), qr/does not exist/, 30), qr/topic "$missing" does not exist/, 'a missing topic is reported');
create_topic(undef, 1, name => $missing);
is(query_until($node, $db, q(SELECT position FROM kstream_catalog.published p JOIN kstream_catalog.sink s ON s.id = p.sink WHERE relation = 'gone'::regclass), 2, 60), 2, 'and what waited for it is published once it is there');
is(records($missing), '-={"n":1} -={"n":2}', 'in order');

# --- a database that is behind its topic ------------------------------------

my $behind = create_topic('behind', 1);
rows("SELECT kstream.create_stream('b', 'n int', topic => '$behind')");
rows('INSERT INTO b (n) SELECT generate_series(1, 10)');
rows(q(SELECT kstream.wait('b', '30 s')));
$node->stop;
{
	my $old = $node->data_dir . '.old';

	system('cp', '-R', $node->data_dir, $old) == 0 or die 'cp';
	$node->start;
	rows('INSERT INTO b (n) SELECT generate_series(11, 20)');
	rows(q(SELECT kstream.wait('b', '30 s')));
	$node->stop;
	system('rm', '-rf', $node->data_dir) == 0 or die 'rm';
	rename $old, $node->data_dir or die 'rename';
	$node->start;
}
rows('INSERT INTO b (n) VALUES (99)');
like(query_until($node, $db, q(SELECT last_error FROM kstream_catalog.sink WHERE relation = 'b'::regclass), qr/./, 90), qr/is not what this database holds/, 'a database that was put back publishes nothing');
is(scalar(topic_rows($behind)), 20, 'the topic has what it had');
like(sql_error($node, $db, q(SELECT kstream.wait('b', '20 s'))), qr/KS002: sink b is blocked|KS002: sink b has failed/, 'wait says so at once');
like(rows(q(SELECT last_error FROM kstream.sinks WHERE name = 'b')), qr/HINT: .*'continue' leaves out the records that wait \(now \d+\), 'republish' sends them/s, 'the hint names the modes, and what they do');
like(sql_error($node, $db, q(SELECT kstream.resync('b', 'somehow'))), qr/22023/, 'an unknown mode is refused');
rows(q(SELECT kstream.resync('b', 'continue')));
rows('INSERT INTO b (n) VALUES (100)');
rows(q(SELECT kstream.wait('b', '60 s')));
is((map { $_->[4] } topic_rows($behind))[-1], '{"n":100}', 'resync: it goes on with what comes');
is(scalar(topic_rows($behind)), 21, 'and nothing is published twice');

# --- a copy that runs beside the original ------------------------------------

{
	my $copied = create_topic('copied', 1);
	my $clone = PostgreSQL::Test::Cluster->new('clone');

	rows("SELECT kstream.create_stream('c', 'n int', topic => '$copied')");
	rows('INSERT INTO c (n) SELECT generate_series(1, 5)');
	my $noted = create_topic('noted', 1);
	rows("SELECT kstream.create_stream('a', 'n int', topic => '$noted', options => '{\"guarantee\": \"at_least_once\"}')");
	rows('INSERT INTO a (n) SELECT generate_series(1, 5)');
	rows(q(SELECT kstream.wait('c', '30 s')));
	rows(q(SELECT kstream.wait('a', '30 s')));
	$node->backup('copy');
	$clone->init_from_backup($node, 'copy');
	$clone->start;
	$clone->safe_psql($db, 'INSERT INTO c (n) VALUES (666)');
	$clone->safe_psql($db, 'INSERT INTO a (n) VALUES (666)');
	rows("INSERT INTO c (n) VALUES ($_)") foreach (6 .. 8);
	rows(q(SELECT kstream.wait('c', '30 s')));
	like(query_until($clone, $db, q(SELECT last_error FROM kstream_catalog.sink WHERE relation = 'c'::regclass), qr/./, 90), qr/another installation publishes "public.c"/, 'a copy notices that the original is at work');
	rows('INSERT INTO c (n) VALUES (9)');
	rows(q(SELECT kstream.wait('c', '30 s')));
	is(join(' ', map { $_->[4] =~ /(\d+)/ } topic_rows($copied)), '1 2 3 4 5 6 7 8 9', 'and does not get in its way');
	is(rows(q(SELECT coalesce(last_error, 'none') FROM kstream_catalog.sink WHERE relation = 'c'::regclass)), 'none', 'which was not fenced');
	like(query_until($clone, $db, q(SELECT last_error FROM kstream_catalog.sink WHERE relation = 'a'::regclass), qr/./, 90), qr/another installation publishes "public.a"/, 'the same with at least once');
	is(join(' ', map { $_->[4] =~ /(\d+)/ } topic_rows($noted)), '1 2 3 4 5', 'and nothing of it is in the topic');
	is(unexpected_log_lines($clone), '', 'nothing unexpected in the log of the copy');
	$clone->stop('immediate');
}

is(unexpected_log_lines($node), '', 'nothing unexpected in the log');
done_testing();
