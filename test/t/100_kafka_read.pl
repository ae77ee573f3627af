
# 100_kafka_read.pl: streams and KTables over topics of a real broker: formats,
# keys, metadata columns, bounded reads and what is pushed down, bad records,
# transactions, where a query starts.

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use KafkaTest;

plan skip_all => 'KAFKA_BOOTSTRAP names no broker' unless bootstrap();

my $node = new_node('read');
my $db = 'reading';
my $producer = KafkaTest::Producer->new;
my $topic;

create_db($node, $db);

# The rows a query returns.
sub rows
{
	return $node->safe_psql($db, $_[0]);
}

# Result and messages of a query.
sub messages
{
	my ($sql) = @_;
	my ($rc, $out, $err) = $node->psql($db, $sql);

	return "$out\n$err";
}

# Runs it and waits for the table.
sub create_and_wait
{
	my ($sql, $table) = @_;

	rows($sql);
	return rows("SELECT kstream.wait('$table', '30 s')");
}

# --- formats ---------------------------------------------------------------

$topic = create_topic('json', 1);
$producer->send($topic, 'k1',
	'{"id": 9007199254740993, "amount": 12345678901234567890.123456789, "name": "A\u00e9\"x", '
	  . '"tags": ["a", null, "b"], "nested": {"deep": [{"x": 5}]}, "at": "2024-05-01T12:00:00Z", "extra": 1}',
	timestamp => 1700000000123,
	headers => [ 'h1', 'one', 'h2', undef, 'h1', 'two', 'raw', "\xff\xfe" ]);
$producer->send($topic, undef, '{"id": "7", "amount": 1e2, "at": 1700000000000}');
$producer->send($topic, 'gone', undef);
$producer->flush;
rows(
	"SELECT kstream.create_stream('js', topic => '$topic', columns => '
		id bigint, amount numeric, name text, tags text[], x int OPTIONS (path ''nested.deep[0].x''), at timestamptz')");
is( rows('SELECT id, amount, name, tags, x, at AT TIME ZONE \'UTC\' FROM js ORDER BY _offset'),
	"9007199254740993|12345678901234567890.123456789|A\xc3\xa9\"x|{a,NULL,b}|5|2024-05-01 12:00:00\n"
	  . "7|100||||2023-11-14 22:13:20\n|||||",
	'json: exact numbers, arrays, paths, times, missing fields, a record without a value');
is( rows(
		'SELECT _key, _partition, _offset, extract(epoch FROM _timestamp)::numeric(20,3), _headers, '
		  . '_stream_time = _timestamp FROM js WHERE _offset = 0'),
	'k1|0|0|1700000000.123|{"h1": "two", "h2": null, "raw": "//4="}|t',
	'metadata columns and headers');
is(rows('SELECT _key, _headers FROM js WHERE _offset = 1'), '|', 'no key, no headers: NULL');

$topic = create_topic('csv', 1);
$producer->send($topic, undef, '1,"a ""quoted"", one",');
$producer->send($topic, undef, '2,,2024-02-29');
$producer->send($topic, undef, '3,too,2024-01-01,many');
$producer->send($topic, undef, '4,x');
$producer->flush;
rows("SELECT kstream.create_stream('cs', 'a int, b text, c date', topic => '$topic', format => 'csv')");
like(
	messages('SELECT a, b, c FROM cs ORDER BY _offset'),
	qr/\A1\|a "quoted", one\|\n2\|\|2024-02-29\n.*WARNING.*2 /s,
	'csv: quotes, NULLs, and a warning that counts records with a wrong number of fields');

$topic = create_topic('text', 1);
$producer->send($topic, pack('N', 0x80000001), "plain t\xc3\xa4xt");
$producer->send($topic, pack('N', 42), "bad \xff utf8");
$producer->send($topic, pack('N', 43), '');
$producer->flush;
rows("SELECT kstream.create_stream('ts', 'k int, line text', topic => '$topic', format => 'text', key => 'k', key_format => 'int')");
like(
	messages('SELECT k, line, _key FROM ts ORDER BY _offset'),
	qr/\A-2147483647\|plain t\xc3\xa4xt\|-2147483647\n43\|\|43\n.*WARNING.*1 /s,
	'text with an int key; bytes that are no text are a bad record');
rows("SELECT kstream.create_stream('bs', 'b bytea', topic => '$topic', format => 'bytea', key_format => 'bytea')");
is(rows('SELECT b, _key FROM bs WHERE _offset = 1'),
	'\x62616420ff2075746638|\x0000002a', 'bytea with a bytea key');

$topic = create_topic('jsonb', 1);
$producer->send($topic, pack('Q>', 9007199254740993), '{"a": [1, {"b": 1.10}], "a2": "\u0041"}');
$producer->send($topic, pack('Q>', 7), '[1, 2]');
$producer->send($topic, pack('Q>', 8), 'nonsense');
$producer->flush;
rows("SELECT kstream.create_stream('jbs', 'id bigint, doc jsonb', topic => '$topic', format => 'jsonb', key => 'id', key_format => 'bigint')");
like(
	messages('SELECT id, doc FROM jbs ORDER BY _offset'),
	qr/\A9007199254740993\|\{"a": \[1, \{"b": 1.10\}\], "a2": "A"\}\n7\|\[1, 2\]\n.*WARNING.*1 /s,
	'jsonb with a bigint key');

$topic = create_topic('keys', 1);
$producer->send($topic, '{"region": "eu", "id": 5}', '{"v": 1}');
$producer->flush;
rows("SELECT kstream.create_stream('ks', 'region text, id int, v int', topic => '$topic', key => 'region, id', key_format => 'json')");
is(rows('SELECT region, id, v FROM ks'), 'eu|5|1', 'a composite key from a json key');
rows("SELECT kstream.create_stream('kn', 'v int', topic => '$topic', key_format => 'none')");
is(rows('SELECT v, _key FROM kn'), '1|', 'key format none');

# --- times without a zone ----------------------------------------------------

$topic = create_topic('zone', 1);
$producer->send($topic, undef, '{"at": "2024-01-01 12:00:00", "also": "2024-01-01 12:00:00"}');
$producer->flush;
create_and_wait(
	"SET timezone = 'America/New_York';
	SELECT kstream.create_stream('zs', 'at timestamptz, also timestamptz', topic => '$topic', \"timestamp\" => 'at');
	SELECT kstream.create_table_as('zoned', 'SELECT at, also, _stream_time AS st FROM zs')", 'zoned');
is( rows("SELECT at AT TIME ZONE 'UTC', also AT TIME ZONE 'UTC', st = at FROM zoned"),
	'2024-01-01 17:00:00|2024-01-01 17:00:00|t',
	"a time without a zone is in the creator's, the event time too");

# --- bounded reads ---------------------------------------------------------

$topic = create_topic('range', 3);
for my $i (0 .. 299)
{
	$producer->send($topic, "k$i", qq({"n": $i}), partition => $i % 3, timestamp => 1600000000000 + $i * 1000);
}
$producer->flush;
rows("SELECT kstream.create_stream('r', 'n int', topic => '$topic')");
is(rows('SELECT count(*), sum(n), min(_offset), max(_offset) FROM r'), '300|44850|0|99', 'all records of three partitions');
is(rows('SELECT count(*), min(n), max(n) FROM r WHERE _partition = 1'), '100|1|298', '_partition');
is(rows('SELECT array_agg(n ORDER BY n) FROM r WHERE _partition IN (0, 2) AND _offset BETWEEN 10 AND 11'),
	'{30,32,33,35}', '_partition and _offset');
is(rows('SELECT count(*) FROM r WHERE _offset >= 1000'), '0', 'beyond the end there is nothing, at once');
is(rows("SELECT count(*), min(n) FROM r WHERE _timestamp >= to_timestamp(1600000000 + 290)"), '10|290', '_timestamp');
my $from = time();
is(rows('SELECT count(*) FROM (SELECT n FROM r LIMIT 5) x'), '5', 'LIMIT');
like(rows('EXPLAIN (COSTS OFF) SELECT * FROM r WHERE _partition = 1 AND _offset > 5 AND n > 3'),
	qr/_partition = 1/, 'EXPLAIN shows the range');
is(rows("SELECT count(*) FROM r a JOIN r b USING (n)"), '300', 'a stream joined with itself, once');
like(sql_error($node, $db, "UPDATE r SET n = 1"), qr/^\w{5}: /, 'no UPDATE of a stream');
like(sql_error($node, $db, "DELETE FROM r"), qr/^\w{5}: /, 'no DELETE from a stream');

# --- records of odd shapes ---------------------------------------------------

$topic = create_topic('odd', 1, config => ['max.message.bytes=20000000']);
$producer->send($topic, 'big', '{"n": 1, "t": "' . 'x' x 10_000_000 . '"}');
$producer->send($topic, '', '{"n": 2}', headers => [ map { ("h$_", $_) } (1 .. 28) ]);
$producer->send($topic, 'later', '{"n": 3}', timestamp => 253402300799000);
$producer->send($topic, 'too late', '{"n": 4}', timestamp => 9223372036854775);
$producer->send($topic, "k\xff", '{"n": 5, "t": "\ud83d\ude00"}');
$producer->send($topic, 'zero', '{"n": 6, "t": "a\u0000b"}');
$producer->send($topic, 'deep', '{"n": 7, "t": ' . '[' x 2000 . ']' x 2000 . '}');
$producer->flush;
rows("SELECT kstream.create_stream('odd', 'n int, t text', topic => '$topic', key_format => 'bytea')");
is(rows("SELECT array_agg(n ORDER BY n) FROM odd WHERE n IN (1, 2, 3, 5)"), '{1,2,3,5}', 'records of odd shapes can be read');
is(rows('SELECT length(t) FROM odd WHERE n = 1'), '10000000', 'a record of 10 MB');
is(rows('SELECT count(*) FROM odd, jsonb_object_keys(_headers) WHERE n = 2'), '28', 'many headers');
is(rows('SELECT _key FROM odd WHERE n = 5'), '\x6bff', 'a key that is no text');
create_and_wait("SELECT kstream.create_table_as('odd_rows', 'SELECT n, length(t) AS l, _offset AS o FROM odd')", 'odd_rows');
is(rows("SELECT count(*) + (SELECT count(*) FROM kstream.dead_letters WHERE query = 'odd_rows') FROM odd_rows"), '7',
	'each is either in the table or a dead letter');
is(rows(q(SELECT "offset", sqlstate, length(value) FROM kstream.dead_letters WHERE query = 'odd_rows' AND "offset" = 5)),
	'5|22P05|25', 'a zero character is a bad record');
note rows(q(SELECT "offset", sqlstate, message FROM kstream.dead_letters WHERE query = 'odd_rows'));

# --- creating topics -------------------------------------------------------

$topic = topic_name('made');
rows("SELECT kstream.create_stream('made', 'n int', topic => '$topic', partitions => 5)");
create_topic('made', 5, name => topic_name('unused'));
is(scalar(() = topic_ends($topic) =~ /:/g), 5, 'create_stream makes a topic with so many partitions');
is(rows("SELECT count(*) FROM made"), '0', 'and reads it, empty');
kafkactl('delete', $topic);

# --- transactions ----------------------------------------------------------

$topic = create_topic('txn', 1);
$producer->begin;
$producer->send($topic, undef, '{"n": 1}');
$producer->flush;
$producer->commit;
$producer->begin;
$producer->send($topic, undef, '{"n": 2}');
$producer->flush;
$producer->abort;
$producer->begin;
$producer->send($topic, undef, '{"n": 4}');
$producer->flush;
$producer->commit;
rows("SELECT kstream.create_stream('tx', 'n int', topic => '$topic')");
is(rows('SELECT array_agg(n ORDER BY _offset) FROM tx'), '{1,4}', 'aborted records are not read');
create_and_wait("SELECT kstream.create_table_as('tx_all', 'SELECT n, _offset AS o FROM tx')", 'tx_all');
is(rows('SELECT array_agg(n ORDER BY o) FROM tx_all'), '{1,4}', 'nor by a query');
is( query_until($node, $db, "SELECT position = end_offset AND position = 6 FROM kstream.stat_partition WHERE query = 'tx_all'", 't', 20),
	't', 'its position has passed the control record at the end');
$producer->begin;
$producer->send($topic, undef, '{"n": 8}');
$producer->flush;
sleep 0.5;
is(rows('SELECT sum(n) FROM tx_all'), '5', 'records of an open transaction are not seen');
rows("SELECT kstream.wait('tx_all', '20 s')");
pass('wait returns while a transaction is open');
$producer->abort;
rows("SELECT kstream.wait('tx_all', '20 s')");
is(rows('SELECT sum(n) FROM tx_all'), '5', 'nor after it was aborted');

# --- KTables ---------------------------------------------------------------

$topic = create_topic('users', 2);
$producer->send($topic, '1', '{"name": "old", "v": 1}', partition => 1);
$producer->send($topic, '1', '{"name": "new", "v": 2}', partition => 1);
$producer->send($topic, '2', '{"name": "two", "v": 1}');
$producer->send($topic, '3', '{"name": "three", "v": 1}');
$producer->send($topic, '2', undef);
$producer->send($topic, undef, '{"name": "no key"}');
$producer->send($topic, undef, '{"id": 9, "name": "key in the value"}');
$producer->send($topic, 'x', '{"name": "key is no number"}');
$producer->send($topic, '99', undef);
$producer->flush;
create_and_wait("SELECT kstream.create_table('users', 'id int PRIMARY KEY, name text NOT NULL', topic => '$topic')", 'users');
is(rows('SELECT * FROM users ORDER BY id'), "1|new\n3|three\n9|key in the value",
	'a table: last offset wins, tombstones delete, the key comes from the value where there is none');
is( rows(q(SELECT "offset", sqlstate, convert_from(value, 'UTF8'), topic ~ '^users_', key IS NULL FROM kstream.dead_letters WHERE query = 'users' ORDER BY 1)),
	"3|23502|{\"name\": \"no key\"}|t|t\n5|22P02|{\"name\": \"key is no number\"}|t|f",
	'records without a usable key are dead letters');
like(sql_error($node, $db, 'INSERT INTO users VALUES (5, $$x$$)'), qr/^42809/, 'only kstream writes the table');
like(sql_error($node, $db, 'TRUNCATE users'), qr/^42809/, 'nor TRUNCATE');
$producer->send($topic, '3', undef);
$producer->send($topic, '3', '{"name": "again"}');
$producer->send($topic, '1', undef, partition => 1);
$producer->flush;
rows("SELECT kstream.wait('users')");
is(rows('SELECT * FROM users ORDER BY id'), "3|again\n9|key in the value", 'delete and insert of a key in one batch');

$topic = create_topic('versions', 1);
for my $record (
	[ 'a', '{"ver": 5, "x": "five"}' ], [ 'a', '{"ver": 3, "x": "three"}' ], [ 'a', '{"ver": 5, "x": "five again"}' ],
	[ 'a', '{"x": "null"}' ],
	[ 'b', '{"x": "null"}' ], [ 'b', '{"x": "null 2"}' ], [ 'b', '{"ver": -1, "x": "minus"}' ],
	[ 'c', '{"ver": 1, "x": "one"}' ], [ 'c', undef ], [ 'd', '{"ver": 9, "x": "nine"}' ], [ 'd', undef ],
	[ 'd', '{"ver": 2, "x": "two"}' ])
{
	$producer->send($topic, @$record);
}
$producer->flush;
create_and_wait("SELECT kstream.create_table('versions', 'k text PRIMARY KEY, ver int, x text', topic => '$topic', version_column => 'ver')",
	'versions');
is(rows('SELECT * FROM versions ORDER BY k'), "a|5|five again\nb|-1|minus\nd|2|two",
	'version_column: greatest wins, a tie goes to the later offset, NULL is oldest, a tombstone deletes');

$topic = create_topic('composite', 1);
$producer->send($topic, '{"b": 2, "a": "x"}', '{"v": 1}');
$producer->send($topic, '{"a": "x", "b": 2}', '{"v": 2}');
$producer->send($topic, '{"a": "y", "b": 2}', '{"v": 3}');
$producer->send($topic, '{"a": "y"}', '{"v": 3}');
$producer->flush;
create_and_wait("SELECT kstream.create_table('composite', 'a text, b int, v numeric(4,1), PRIMARY KEY (a, b)', topic => '$topic')", 'composite');
is(rows('SELECT * FROM composite ORDER BY a'), "x|2|2.0\ny|2|3.0", 'a composite key');
is(rows("SELECT count(*) FROM kstream.dead_letters WHERE query = 'composite'"), '1', 'of which a part is missing');

# lookups in a table and a global table; the query starts when they are loaded
my $orders = create_topic('orders', 2);
my $rates = create_topic('rates', 1);
$producer->send($rates, 'eur', '{"rate": 1.5}');
$producer->send($rates, 'usd', '{"rate": 1.1}');
for my $i (0 .. 99)
{
	$producer->send($orders, $i, sprintf('{"cur": "%s", "n": %d}', (qw(eur usd xxx))[ $i % 3 ], $i), partition => $i % 2);
}
$producer->flush;
rows("SELECT kstream.create_stream('orders', 'cur text, n int', topic => '$orders')");
rows("SELECT kstream.create_global_table('rates', 'cur text PRIMARY KEY, rate numeric', topic => '$rates')");
create_and_wait("SELECT kstream.create_table_as('converted', 'SELECT n, n * rate AS v FROM orders JOIN rates USING (cur)')", 'converted');
is(rows('SELECT count(*), sum(v) FROM converted'), rows("SELECT count(*), sum(n * rate) FROM orders JOIN rates USING (cur)"),
	'a query that looks up a global table waits until it is loaded');
create_and_wait(
	"SELECT kstream.create_table_as('by_cur', 'SELECT cur, count(*) AS c, sum(n) AS s, array_agg(DISTINCT n % 7) AS d FROM orders LEFT JOIN rates USING (cur) GROUP BY cur')",
	'by_cur');
is(rows('SELECT * FROM by_cur ORDER BY 1'),
	rows('SELECT cur, count(*), sum(n), array_agg(DISTINCT n % 7) FROM orders GROUP BY cur ORDER BY 1'),
	'and one that groups');

# --- where a query starts --------------------------------------------------

$topic = create_topic('start', 2);
$producer->send($topic, undef, qq({"n": $_}), partition => $_ % 2, timestamp => 1600000000000 + $_ * 1000) for (0 .. 9);
$producer->flush;
rows("SELECT kstream.create_stream('st', 'n int', topic => '$topic')");
rows("SELECT kstream.create_table_as('st_earliest', 'SELECT n FROM st')");
rows("SELECT kstream.create_table_as('st_latest', 'SELECT n FROM st', start => 'latest')");
rows("SELECT kstream.create_table_as('st_time', 'SELECT n FROM st', start => '2020-09-13 12:26:45.5+00')");
$producer->send($topic, undef, '{"n": 100}', timestamp => 1700000000000);
$producer->flush;
rows("SELECT kstream.wait('$_', '30 s')") for qw(st_earliest st_latest st_time);
is(rows('SELECT count(*), sum(n) FROM st_earliest'), '11|145', 'start earliest');
is(rows('SELECT array_agg(n) FROM st_latest'), '{100}', 'start latest is where the topic ended when the query was created');
is(rows('SELECT array_agg(n ORDER BY n) FROM st_time'), '{6,7,8,9,100}', 'start at a time');

# --- bad records -----------------------------------------------------------

$topic = create_topic('bad', 1);
my @values = ('{"n": 1, "d": 1}', '{"n": ', '{"n": 2, "d": 0}', '{"n": 99999999999, "d": 1}', '{"n": 3, "d": 1}', 'null');
$producer->send($topic, "k$_", $values[$_], headers => [ 'h', $_ ], timestamp => 1650000000000 + $_) for (0 .. $#values);
$producer->flush;
rows("SELECT kstream.create_stream('bad', 'n int, d int', topic => '$topic')");
create_and_wait("SELECT kstream.create_table_as('bad_rows', 'SELECT n, 10 / d AS q FROM bad')", 'bad_rows');
create_and_wait("SELECT kstream.create_table_as('bad_sum', 'SELECT count(*) AS c, sum(10 / d) AS s FROM bad')", 'bad_sum');
is(rows('SELECT * FROM bad_rows ORDER BY n'), "1|10\n3|10", 'the good records of a batch are processed');
is(rows('SELECT * FROM bad_sum'), '3|30', 'a query that does not read a column does not mind what is in it');
is( rows(
		q(SELECT "offset", partition, sqlstate, convert_from(key, 'UTF8'), convert_from(value, 'UTF8'), headers, extract(epoch FROM "timestamp")::numeric(20,3)
			FROM kstream.dead_letters WHERE query = 'bad_rows' ORDER BY 1)),
	join("\n",
		'1|0|22P02|k1|{"n": |{"h": "1"}|1650000000.001',
		'2|0|22012|k2|{"n": 2, "d": 0}|{"h": "2"}|1650000000.002',
		'3|0|22003|k3|{"n": 99999999999, "d": 1}|{"h": "3"}|1650000000.003',
		'5|0|22P02|k5|null|{"h": "5"}|1650000000.005'),
	'bad records are kept with coordinates, bytes and reason');
is(rows("SELECT dead, records_in, records_out FROM kstream.stat_query WHERE name = 'bad_rows'"), '4|6|2', 'and counted');
like(messages('SELECT count(n) FROM bad'), qr/\A3\n.*WARNING.*3 .*bad/s, 'a bounded read skips them with a warning');

# Decoding takes subtransactions, which a process with parallel workers cannot begin.
rows('CREATE TABLE many AS SELECT generate_series(1, 1000) AS i');
for ([ 'n int', 3, 3 ], [ 'n interval', 4, 2 ])
{
	my ($column, $good, $bad) = @$_;

	rows("SELECT kstream.create_stream('beside', topic => '$topic', columns => '$column')");
	like(
		messages('SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; '
			  . 'SELECT count(n), max(b.m) FROM beside, (SELECT count(*) AS m FROM many) b'),
		qr/\A$good[|]1000\n.*WARNING.* $bad bad/s, "$column, beside a plan for parallel workers");
	rows('DROP FOREIGN TABLE beside');
}

SKIP:
{
	skip 'no replay_dead_letters here', 2
	  if rows("SELECT count(*) FROM pg_proc WHERE proname = 'replay_dead_letters' AND pronamespace = 'kstream'::regnamespace") eq '0';
	rows('CREATE TABLE divisors (d int PRIMARY KEY, value int)');
	rows('INSERT INTO divisors VALUES (0, 0), (1, 1)');
	create_and_wait(
		"SELECT kstream.create_table_as('bad_lookup', 'SELECT b.n, 10 / l.value AS q FROM bad b JOIN divisors l USING (d)')", 'bad_lookup');
	rows('UPDATE divisors SET value = 5 WHERE d = 0');
	rows("SELECT kstream.replay_dead_letters('bad_lookup')");
	is(query_until($node, $db, 'SELECT n, q FROM bad_lookup ORDER BY n', "1|10\n2|2\n3|10", 20),
		"1|10\n2|2\n3|10", 'replayed dead letters are processed');
	is(rows(q(SELECT array_agg("offset" ORDER BY "offset") FROM kstream.dead_letters WHERE query = 'bad_lookup')), '{1,3,5}',
		'those that are still bad stay');
}

rows("SELECT kstream.create_table_as('bad_stop', 'SELECT n, 10 / d AS q, _offset AS o FROM bad', on_error => 'stop')");
is(query_until($node, $db, "SELECT state FROM kstream.queries WHERE name = 'bad_stop'", 'failed', 30), 'failed', 'on_error stop: the query fails');
is(rows('SELECT n, o FROM bad_stop'), '1|0', 'what is before the bad record is applied');
is(rows("SELECT position FROM kstream.stat_partition WHERE query = 'bad_stop'"), '1', 'the position stays at the bad record');
like(rows("SELECT last_error FROM kstream.queries WHERE name = 'bad_stop'"), qr/partition 0, offset 1/, 'the error names it');
like(sql_error($node, $db, "SELECT kstream.wait('bad_stop')"), qr/^KS002/, 'wait fails at once');
is(rows("SELECT count(*) FROM kstream.dead_letters WHERE query = 'bad_stop'"), '0', 'it is no dead letter');

is(unexpected_log_lines($node), '', 'nothing odd in the log');
$node->stop;
done_testing();
