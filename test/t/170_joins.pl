
# 170_joins.pl: joins of two topics, over kills and faults around closing; null
# rows that only the clock brings.
#
# Every record has its event time in the value; records come out of order by less
# than the grace, so none is late, and at the end each table must equal the join
# in plain SQL of what an independent reader finds in the topics.

use strict;
use warnings;

use List::Util qw(shuffle);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use KafkaTest;

plan skip_all => 'KAFKA_BOOTSTRAP names no broker' unless bootstrap();

my $records = $ENV{KS_RECORDS} || 3000;
my $seed = $ENV{KS_SEED} || time() % 100000;
my $db = 'joins';
my $node = new_node(
	'joins',
	'kstream.max_workers = 2',
	'kstream.batch_rows = 200',
	"include_if_exists = 'faults.conf'");
my $left = create_topic('left', 2);
my $right = create_topic('right', 3);
my $producer = KafkaTest::Producer->new;
my $start = 1_709_290_800;

srand $seed;
note "KS_SEED=$seed";
create_db($node, $db);
$node->safe_psql(
	$db, qq{
	SET timezone = 'UTC';
	SELECT kstream.create_stream('l', 'id int, k int, ts timestamptz', topic => '$left', "timestamp" => 'ts');
	SELECT kstream.create_stream('r', 'id int, k int, ts timestamptz', topic => '$right', "timestamp" => 'ts');
	SELECT kstream.create_table_as('matches', 'SELECT l.id AS l, r.id AS r FROM l JOIN r ON l.k = r.k AND r.ts BETWEEN l.ts - interval ''20 s'' AND l.ts + interval ''40 s''', grace => '30 s');
	SELECT kstream.create_table_as('all_of_both', 'SELECT l.id AS l, r.id AS r FROM l FULL JOIN r ON l.k = r.k AND r.ts >= l.ts AND r.ts < l.ts + interval ''30 s''', grace => '30 s');
	SELECT kstream.create_table_as('counts', 'SELECT l.k, count(*) AS n, count(r.id) AS m, sum(r.id) AS s FROM l LEFT JOIN r ON l.k = r.k AND r.ts > l.ts - interval ''10 s'' AND r.ts <= l.ts WHERE r.id IS NULL OR r.id % 3 > 0 GROUP BY l.k', grace => '30 s')});

# What a line of the file of fault points is; an empty one takes them away.
sub set_faults
{
	my ($points) = @_;

	open my $out, '>', $node->data_dir . '/faults.conf' or die $!;
	print $out "kstream.fault_points = '$points'\n";
	close $out or die $!;
	$node->reload;
}

# Records number from to to of both topics: two a second, out of order by up to 15 s.
sub produce
{
	my ($from, $to) = @_;

	foreach my $i ($from .. $to)
	{
		my $time = $start + $i / 2 + int(rand 30) - 15;
		my ($topic, $partitions) = $i % 2 ? ($left, 2) : ($right, 3);

		$producer->send($topic, undef, sprintf('{"id": %d, "k": %d, "ts": %d}', $i, rand 30, $time * 1000),
			partition => int rand $partitions);
	}
	$producer->flush;
}

# The watermark passes everything so far.
sub end_of_time
{
	foreach my $topic ([ $left, 2 ], [ $right, 3 ])
	{
		$producer->send($topic->[0], undef, sprintf('{"id": 0, "k": -1, "ts": %d}', ($start + $records) * 1000), partition => $_)
		  foreach (0 .. $topic->[1] - 1);
	}
	$producer->flush;
}

# A partition without a record does not hold the watermark: each has one before it starts.
foreach my $topic ([ $left, 2 ], [ $right, 3 ])
{
	$producer->send($topic->[0], undef, sprintf('{"id": -1, "k": -2, "ts": %d}', ($start - 60) * 1000), partition => $_)
	  foreach (0 .. $topic->[1] - 1);
}
$producer->flush;
$node->safe_psql($db, 'SELECT kstream.wait()');

my @faults = ('kill', map { ("$_:crash", "$_:error") } qw(after_state before_close after_close before_commit));
@faults = ('kill') if (try_sql($node, $db, 'SHOW kstream.fault_points'))[0] != 0;
@faults = shuffle(@faults, @faults);
{
	my $hit = 0;

	for my $n (1 .. @faults)
	{
		my $fault = $faults[ $n - 1 ];
		my $from = log_size($node);

		produce(1 + int($records * ($n - 1) / @faults), int($records * $n / @faults));
		if ($fault eq 'kill')
		{
			$hit += kill 9, (shuffle(worker_pids($node, $db)))[0] || ();
			next;
		}
		set_faults("$fault:" . (1 + int rand 3));
		$hit += !!wait_for(5, sub { log_since($node, $from) =~ /fault point|was terminated by signal 9/ });
		set_faults('');
	}
	cmp_ok($hit, '>', @faults / 2, 'faults struck: ' . $hit);
}
end_of_time();
{
	my $error;

	# a server that comes back, or a query that failed by the last fault, is waited for
	wait_for(60, sub { ($error = sql_error($node, $db, 'SELECT kstream.wait(timeout => $$2 min$$)')) !~ /^KS002|not yet accepting|starting up|in recovery mode/ });
	is($error, '', 'all queries get to the end');
}
archive_topic($node, $db, $_->[0], "$_->[1]_archive") foreach ([ $left, 'l' ], [ $right, 'r' ]);
foreach my $name ('l', 'r')
{
	$node->safe_psql($db, qq{
		CREATE TABLE ${name}a AS SELECT (j->>'id')::int AS id, (j->>'k')::int AS k, to_timestamp((j->>'ts')::bigint / 1000.0) AS ts
		FROM ${name}_archive, LATERAL (SELECT convert_from(value, 'UTF8')::jsonb AS j) x});
}
is($node->safe_psql($db, 'SELECT (SELECT count(*) FROM la) + (SELECT count(*) FROM ra)'), $records + 10, 'all records are in the topics');

# The table must equal the reference, as multisets.
sub compare
{
	my ($table, $reference) = @_;

	wait_for(20, sub { $node->safe_psql($db, "SELECT count(*) FROM $table") >= $node->safe_psql($db, "SELECT count(*) FROM ($reference) r") });
	is( $node->safe_psql(
			$db, "
			SELECT count(*), (array_agg(x::text ORDER BY random()))[1:8] FROM (
				(SELECT 'missing', * FROM ($reference) r EXCEPT ALL SELECT 'missing', * FROM $table)
				UNION ALL (SELECT 'too much', * FROM $table EXCEPT ALL SELECT 'too much', * FROM ($reference) r)) x"),
		'0|', "$table equals the join in plain SQL");
}

compare('matches', q{SELECT l.id, r.id FROM la l JOIN ra r ON l.k = r.k AND r.ts BETWEEN l.ts - interval '20 s' AND l.ts + interval '40 s'});
# what came at the end of time is still open: it has matches, but no null rows
compare('all_of_both', q{SELECT l.id, r.id FROM la l FULL JOIN ra r ON l.k = r.k AND r.ts >= l.ts AND r.ts < l.ts + interval '30 s'});
compare('counts', q{SELECT l.k, count(*), count(r.id), sum(r.id) FROM la l LEFT JOIN ra r ON l.k = r.k AND r.ts > l.ts - interval '10 s' AND r.ts <= l.ts
	WHERE (r.id IS NULL OR r.id % 3 > 0) AND l.id > 0 GROUP BY l.k UNION ALL SELECT -1, NULL, NULL, NULL WHERE false});
is($node->safe_psql($db, 'SELECT sum(late) FROM kstream.stat_query'), '0', 'no record was late');
cmp_ok($node->safe_psql($db, "SELECT count(*) FROM all_of_both WHERE l IS NULL OR r IS NULL"), '>', 100, 'there are null rows');

# --- all is silent: the clock closes ------------------------------------------

$node->safe_psql($db, q{SELECT kstream.create_table_as('by_clock', 'SELECT l.id AS l, r.id AS r FROM l LEFT JOIN r ON l.k = r.k AND r.ts BETWEEN l.ts AND l.ts + interval ''1 s''', start => 'latest', idle_timeout => '1 s')});
{
	my $time = $start + $records + 100;

	$producer->send($left, undef, sprintf('{"id": 7, "k": 7, "ts": %d}', $time * 1000), partition => 0);
	$producer->flush;
	is($node->safe_psql($db, 'SELECT kstream.wait($$by_clock$$); SELECT count(*) FROM by_clock'), "\n0", 'no null row before the close');
	ok(wait_for(30, sub { $node->safe_psql($db, 'SELECT count(*) FROM by_clock WHERE r IS NULL') eq '1' }), 'the clock brings the null row');
	# its partner comes after that
	$producer->send($right, undef, sprintf('{"id": 8, "k": 7, "ts": %d}', $time * 1000), partition => 0);
	$producer->flush;
	$node->safe_psql($db, 'SELECT kstream.wait($$by_clock$$)');
	is($node->safe_psql($db, 'SELECT * FROM by_clock'), '7|', 'and no match comes after it');
}

# --- a null row that fails: of its record there is only the place --------------

$node->safe_psql($db, q{CREATE TABLE divisors (id int PRIMARY KEY, x int);
	INSERT INTO divisors VALUES (9, 5);
	SELECT kstream.create_table_as('quotients', 'SELECT l.id, 10 / d.x AS q, r.id AS r FROM l LEFT JOIN r ON l.k = r.k AND r.ts BETWEEN l.ts AND l.ts + interval ''5 s'' LEFT JOIN divisors d ON d.id = l.id',
		start => 'latest', idle_timeout => '1 s')});
{
	my $time = $start + $records + 200;

	$producer->send($left, undef, sprintf('{"id": %d, "k": 7, "ts": %d}', $_, $time * 1000), partition => 0) foreach (9, 10);
	$producer->flush;
	is($node->safe_psql($db, q{SELECT kstream.wait('quotients'); UPDATE divisors SET x = 0; SELECT count(*) FROM quotients}), "\n0", 'both are taken');
	ok(wait_for(30, sub { $node->safe_psql($db, 'SELECT count(*) FROM quotients') eq '1' }), 'the other null row comes');
	is($node->safe_psql($db, q{SELECT id, q FROM quotients}), '10|', 'and is the right one');
	my $letter = q{SELECT topic = '} . $left . q{', "partition", num_nulls("timestamp", key, value), sqlstate, message FROM kstream.dead_letters WHERE query = 'quotients'};
	is($node->safe_psql($db, $letter), 't|0|3|22012|division by zero', 'a dead letter without the record');
	is($node->safe_psql($db, q{SELECT kstream.replay_dead_letters('quotients')}), '0', 'it cannot be replayed');
	is($node->safe_psql($db, $letter), 't|0|3|02000|the record failed after its batch and was not kept', 'and says so');
}
is(unexpected_log_lines($node), '', 'nothing odd in the log');
$node->stop;
done_testing();
