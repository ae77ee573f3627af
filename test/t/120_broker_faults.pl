
# 120_broker_faults.pl: a broker of the test's own is killed, stopped, frozen and
# started again under load; queries wait for it at no cost and go on, Postgres
# starts and stops as if it were there.

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use KafkaTest;

my $broker = KafkaTest::Broker->new;
my $server = $broker->bootstrap;
my $node = new_node('faults');
my $db = 'faults';
my $topic = create_topic('events', 2, bootstrap => $server);
my $late_port = PostgreSQL::Test::Cluster::get_free_port();

create_db($node, $db, bootstrap => $server);
$node->safe_psql(
	$db, qq{
	SELECT kstream.create_stream('events', 'id bigint, k text, v int', topic => '$topic');
	SELECT kstream.create_table_as('appended', 'SELECT _partition AS p, _offset AS o, v FROM events');
	SELECT kstream.create_table_as('counts', 'SELECT k, count(*) AS c, sum(v) AS s FROM events GROUP BY k')});

# Records the queries have processed.
sub progress
{
	return $node->safe_psql($db, 'SELECT coalesce(sum(records), 0) FROM kstream_catalog.position');
}

# Do the queries go on, and how soon?
sub goes_on
{
	my ($what, $seconds) = @_;
	my $from = time();
	my $mark = progress();

	ok(wait_for($seconds, sub { progress() > $mark }), "$what: the queries go on")
	  or diag($node->safe_psql($db, 'SELECT name, state, last_error, detail FROM kstream.queries'));
	note sprintf('%s: after %.1f s', $what, time() - $from);
}

my $load = start_load($topic, bootstrap => $server, partitions => 2, rate => 500, keys => 50);

goes_on('start', 30);

# --- killed, stopped -----------------------------------------------------------

foreach my $verb (qw(kill stop))
{
	my $from = log_size($node);
	my ($lines, $known);

	$broker->run($verb);
	$known = query_until($node, $db, "SELECT count(*) FROM kstream.queries WHERE state = 'waiting' AND detail IS NOT NULL",
		'2', 15);
	is($known, '2', "broker after $verb: the view says what the queries wait for");
	note $node->safe_psql($db, 'SELECT name, state, detail, last_error FROM kstream.queries');
	sleep 3;
	$lines = () = log_since($node, $from) =~ /kstream|rdkafka|broker/gi;
	cmp_ok($lines, '<=', 20, "broker after $verb: the log is not flooded");
	$broker->run('start');
	goes_on("broker after $verb and start", 30);
}

# --- frozen --------------------------------------------------------------------

{
	my ($from, $snapshots, %cpu, $percent);

	$broker->run('freeze');
	sleep 1;
	$from = log_size($node);
	$snapshots = 0;
	$cpu{$_} = cpu_seconds($_) foreach worker_pids($node, $db);
	my $start = time();
	for (1 .. 60)
	{
		$snapshots += $node->safe_psql('postgres',
			"SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'kstream%' AND (backend_xmin IS NOT NULL OR xact_start IS NOT NULL)");
		sleep 0.1;
	}
	$percent = 0;
	$percent += 100 * (cpu_seconds($_) - $cpu{$_}) / (time() - $start) foreach keys %cpu;
	note sprintf('frozen broker: workers use %.2f %% of a processor', $percent);
	cmp_ok($percent, '<', 5, 'broker frozen: workers use next to no processor time');
	is($snapshots, 0, 'broker frozen: no transaction and no snapshot is held');
	cmp_ok(scalar(() = log_since($node, $from) =~ /\n/g), '<=', 10, 'broker frozen: the log is not flooded');
	like(sql_error($node, $db, "SELECT kstream.wait('counts', '1 s')"), qr/^KS001/, 'broker frozen: wait times out');
	is($node->safe_psql($db, 'SELECT sum(c) > 0 FROM counts'), 't', 'broker frozen: tables can be read');
	$broker->run('thaw');
	goes_on('broker after freeze and thaw', 30);
}

# --- the server stops while the broker is frozen -------------------------------

{
	my @times;

	$broker->run('freeze');
	for my $round (1 .. 5)
	{
		# at different moments of what the client does about it
		sleep 0.7 * $round;
		my $from = time();
		$node->stop('fast');
		push @times, time() - $from;
		$node->start;
		wait_for(10, sub { worker_pids($node, $db) });
	}
	note 'fast shutdown with a frozen broker: ', join ' ', map { sprintf '%.1f s', $_ } @times;
	is(scalar(grep { $_ > 3 } @times), 0, 'fast shutdown with a frozen broker takes 3 s at most, five times');
	cmp_ok($node->safe_psql($db, 'SELECT count(*) FROM pg_stat_activity'), '>', 0, 'and it starts while the broker is frozen');
	$broker->run('thaw');
	goes_on('server restarted while the broker was frozen', 60);
}

# --- a session in a request to a frozen broker can be cancelled ------------------

{
	$broker->run('freeze');
	my $from = time();
	like(sql_error($node, $db, 'SET statement_timeout = 1000; SELECT count(*) FROM events'), qr/^(57014|08\w\w\w)/, 'a bounded read can be cancelled');
	cmp_ok(time() - $from, '<', 5, 'at once');
	$from = time();
	try_sql($node, $db, "SELECT kstream.pause('counts'); SELECT kstream.resume('counts')");
	cmp_ok(time() - $from, '<', 5, 'verbs do not wait for the broker');
	$broker->run('thaw');
}

# --- the server starts without the broker --------------------------------------

{
	my $counted;

	$broker->run('kill');
	$node->stop('fast');
	my $from = time();
	$node->start;
	cmp_ok(time() - $from, '<', 10, 'the server starts while there is no broker');
	sleep 2;
	is($node->safe_psql($db, 'SELECT 1'), '1', 'and takes connections');
	is(query_until($node, $db, "SELECT count(*) FROM kstream.queries WHERE state = 'waiting' AND detail IS NOT NULL", '2', 20), '2',
		'the view says what the queries wait for');
	$counted = $node->safe_psql($db, 'SELECT sum(c) FROM counts');
	$broker->run('start');
	goes_on('broker after the server', 90);
}

# --- an address where nobody answers yet ---------------------------------------

$node->safe_psql(
	$db, qq{
	CREATE SERVER later FOREIGN DATA WRAPPER kstream OPTIONS (bootstrap_servers '127.0.0.1:$late_port');
	SELECT kstream.create_stream('later', 'id bigint, k text, v int', topic => '$topic', server => 'later');
	SELECT kstream.create_table_as('from_later', 'SELECT count(*) AS c FROM later')});
is($node->safe_psql($db, 'SELECT c FROM from_later'), '0', 'a query can be created while its broker is away');
like(query_until($node, $db, "SELECT state, detail FROM kstream.queries WHERE name = 'from_later'", qr/\|.+/, 20),
	qr/^waiting\|.+/, 'it waits, and the view says for what');
like(sql_error($node, $db, "SELECT kstream.wait('from_later', '2 s')"), qr/^KS001/, 'wait waits with it');
{
	my $mark = progress();
	ok(wait_for(10, sub { progress() > $mark }), 'other queries are not held up');
}
$node->safe_psql($db, "ALTER SERVER later OPTIONS (SET bootstrap_servers '$server')");
is(query_until($node, $db, 'SELECT c > 0 FROM from_later', 't', 90), 't', 'it goes on when its server points to a broker');

# --- errors of single partitions that pass -----------------------------------------

{
	my $mock = KafkaTest::Mock->new;
	my $producer = KafkaTest::Producer->new($mock->bootstrap);
	my @fetch_fails = ('errors', 1, -1);	# UNKNOWN_SERVER_ERROR
	my $produce = sub {
		$producer->send('passing', undef, qq({"id": $_}), partition => $_ % 2) foreach (@_);
		$producer->flush;
	};

	$mock->command('topic', 'passing', 2);
	$produce->(1 .. 6);
	$node->safe_psql($db, "CREATE SERVER mocked FOREIGN DATA WRAPPER kstream OPTIONS (bootstrap_servers '" . $mock->bootstrap . "')");
	$node->safe_psql($db, "SELECT kstream.create_stream('passing', 'id int', topic => 'passing', server => 'mocked')");
	$node->safe_psql($db, "SELECT kstream.create_table_as('passed', 'SELECT id FROM passing')");
	is(query_until($node, $db, 'SELECT count(*) FROM passed', '6', 30), '6', 'a query reads a mock cluster');
	$mock->command(@fetch_fails, 3);
	$produce->(7 .. 10);
	is(query_until($node, $db, 'SELECT count(*) FROM passed', '10', 60), '10', 'a partition that could not be read for a moment is read on');
	like(slurp_file($node->logfile), qr/could not read topic "passing" partition \d at offset 3: .*/, 'the log says so');
	$node->safe_psql($db, "SELECT kstream.pause('passed')");
	$mock->command(@fetch_fails, 2);
	is($node->safe_psql($db, 'SELECT count(*), sum(id) FROM passing'), '10|55', 'a bounded read reads on as well');
	$node->safe_psql($db, 'DROP FOREIGN TABLE passing CASCADE');
}

# --- the end ---------------------------------------------------------------------

note 'records sent: ', stop_load($load);
is(sql_error($node, $db, "SELECT kstream.wait(timeout => '1 min')"), '', 'all queries get to the end');
archive_topic($node, $db, $topic, 'archive', $server);
$node->safe_psql(
	$db, q{CREATE TABLE ev AS SELECT partition AS p, "offset" AS o, j->>'k' AS k, (j->>'v')::int AS v
		FROM archive, LATERAL (SELECT convert_from(value, 'UTF8')::jsonb AS j) x});
is($node->safe_psql($db, 'SELECT count(*) FROM ((TABLE appended EXCEPT ALL SELECT p, o, v FROM ev) UNION ALL (SELECT p, o, v FROM ev EXCEPT ALL TABLE appended)) x'),
	'0', 'the append-only table equals an independent read of the topic');
is( $node->safe_psql(
		$db, 'SELECT count(*) FROM ((TABLE counts EXCEPT ALL SELECT k, count(*), sum(v) FROM ev GROUP BY k) UNION ALL (SELECT k, count(*), sum(v) FROM ev GROUP BY k EXCEPT ALL TABLE counts)) x'),
	'0', 'the aggregate equals an independent count');
is($node->safe_psql($db, 'SELECT c FROM from_later'), $node->safe_psql($db, 'SELECT count(*) FROM ev'), 'so does the late one');
is(unexpected_log_lines($node), '', 'nothing odd in the log');
$node->stop;
$broker->run('destroy');
done_testing();
