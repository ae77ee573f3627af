
# 110_exactly_once.pl: nothing is lost and nothing is counted twice, whatever is
# killed and whenever: workers, backends, the postmaster, the whole server, at
# random moments and at each named point of a batch.
#
# A producer goes on all the time, in transactions of which each fifth is
# aborted.  After each fault the tables must fit the positions, in one snapshot;
# at the end they must equal what plain SQL computes from the records that an
# independent reader finds in the topics.
#
# KS_KILLS: how many faults (20).  KS_SEED: the same faults again.

use strict;
use warnings;

use List::Util qw(max shuffle);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use KafkaTest;

plan skip_all => 'KAFKA_BOOTSTRAP names no broker' unless bootstrap();

my $kills = $ENV{KS_KILLS} || 20;
my $seed = $ENV{KS_SEED} || time() % 100000;
my @points = qw(after_open after_fetch after_decode after_state after_positions before_commit after_commit);
my $db = 'chaos';
my $node = new_node(
	'chaos',
	'kstream.max_workers = 2',
	'kstream.batch_rows = 200',
	"include_if_exists = 'faults.conf'");
my $events = create_topic('events', 3);
my $names = create_topic('names', 2);
my $dims = create_topic('dims', 1);
my (@recovery, %done, $busy, $total);

srand $seed;
note "KS_KILLS=$kills KS_SEED=$seed";

# --- the queries -----------------------------------------------------------

create_db($node, $db);
{
	my $producer = KafkaTest::Producer->new;

	$producer->send($dims, "k$_", sprintf('{"grp": "g%d"}', $_ % 7)) for (0 .. 149);
	$producer->flush;
}
$node->safe_psql(
	$db, qq{
	SELECT kstream.create_stream('events', 'id bigint, k text, v int', topic => '$events');
	SELECT kstream.create_global_table('dims', 'k text PRIMARY KEY, grp text', topic => '$dims');
	SELECT kstream.create_table('latest', 'k text PRIMARY KEY, id bigint, v int', topic => '$names');
	SELECT kstream.create_table_as('appended', 'SELECT _partition AS p, _offset AS o, id, k, v FROM events');
	SELECT kstream.create_table_as('counts', 'SELECT k, count(*) AS c, sum(v) AS s, min(v) AS lo, max(id) AS hi, avg(v) AS a FROM events GROUP BY k');
	SELECT kstream.create_table_as('distincts', 'SELECT k, count(DISTINCT v % 10) AS d FROM events GROUP BY k');
	SELECT kstream.create_table_as('joined', 'SELECT d.grp, count(*) AS c, sum(e.v) AS s FROM events e LEFT JOIN dims d USING (k) GROUP BY d.grp');
	SELECT kstream.create_table_as('divided', 'SELECT _partition AS p, _offset AS o, 1000 / (v % 500) AS q FROM events')});

my @queries = split /\n/, $node->safe_psql($db, 'SELECT name FROM kstream.queries ORDER BY 1');
my @loads = (
	start_load($events, partitions => 3, rate => 1500, keys => 200, transaction_size => 100),
	start_load($names, partitions => 2, rate => 500, keys => 300));

# --- faults ----------------------------------------------------------------

# What a line of the file of fault points is; an empty one takes them away.
sub set_faults
{
	my ($points) = @_;

	open my $out, '>', $node->data_dir . '/faults.conf' or die $!;
	print $out "kstream.fault_points = '$points'\n";
	close $out or die $!;
	$node->reload;
}

# SIGKILL; a process that init has not collected yet would keep a new server away.
sub kill_postmaster
{
	my $pid = $node->{_pid};
	my @children = split /\s+/, `pgrep -P $pid`;

	$node->kill9;
	wait_for(10, sub { !grep { alive($_) } $pid, @children })
	  or diag('processes left after the postmaster was killed: ', join ' ', grep { alive($_) } @children);
	wait_for(3, sub { !-e "/proc/$pid" }) or unlink $node->data_dir . '/postmaster.pid';
	$node->start;
}

# Kills a worker, chosen by chance.
sub kill_worker
{
	my @pids = shuffle(worker_pids($node, $db)) or return 0;

	return kill 9, $pids[0];
}

# Kills a session that only sleeps.
sub kill_backend
{
	my $psql = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr($db), '-c', 'SELECT pg_sleep(60) /* victim */' ],
		'<', \undef, '>', \my $out, '2>', \my $err);
	my @pids;

	wait_for(10, sub { @pids = backend_pids($node, "query LIKE '%victim */' AND pid <> pg_backend_pid()") });
	kill 9, @pids;
	$psql->finish;
	return scalar @pids;
}

# The server is to be taken down with everything in it.
sub immediate_shutdown
{
	$node->stop('immediate');
	$node->start;
}

# A signal of SQL to a worker.
sub signal_worker
{
	my ($function) = @_;

	try_sql($node, $db, "SELECT $function(pid) FROM pg_stat_activity WHERE backend_type = 'kstream worker' AND datname = '$db'");
}

# The worker dies, or fails, at a named point, the n-th time it gets there.
sub fault_at
{
	my ($point, $action) = @_;
	my $from = log_size($node);
	my $nth = $point eq 'after_open' ? 1 + int rand 3 : 1 + int rand 30;
	my $hit;

	set_faults("$point:$action:$nth");
	# this point is passed only when a query is opened
	signal_worker('pg_terminate_backend') if $point eq 'after_open';
	$hit = wait_for(
		20,
		sub {
			log_since($node, $from) =~ ($action eq 'crash' ? qr/kstream worker.* was terminated by signal 9/ :
				  qr/fault point "$point"/);
		});
	set_faults('');
	ok(0, "the worker has not got to $point") unless $hit;
}

my %faults = (
	'kill -9 of a worker' => \&kill_worker,
	'kill -9 of a backend' => \&kill_backend,
	'kill -9 of the postmaster' => \&kill_postmaster,
	'immediate shutdown' => \&immediate_shutdown,
	'pg_terminate_backend of the workers' => sub { signal_worker('pg_terminate_backend') },
	'pg_cancel_backend of the workers' => sub { signal_worker('pg_cancel_backend') },
	'kill -9 of a worker in a slow batch' => sub {
		set_faults('after_state:sleep=200');
		sleep 0.3 + rand 0.5;
		wait_for(5, \&kill_worker);
		set_faults('');
	});

if ((try_sql($node, $db, 'SHOW kstream.fault_points'))[0] == 0)
{
	foreach my $point (@points)
	{
		$faults{"crash $point"} = sub { fault_at($point, 'crash') };
		# an error where there is no transaction is one of the engine's own
		$faults{"error $point"} = sub { fault_at($point, 'error') }
		  unless $point eq 'after_open' || $point eq 'after_commit';
	}
}

# Records processed so far by all queries; -1 while the server is away.
sub progress
{
	my ($rc, $out) = try_sql($node, $db, 'SELECT coalesce(sum(records), 0) FROM kstream_catalog.position');

	return $rc == 0 ? $out : -1;
}

# Do tables and positions fit each other in one snapshot?  What does not; a
# server that goes down once more is waited for.
sub in_step
{
	my $check = q{
		WITH read AS (
			SELECT q.relation::text AS name, sum(p.records) AS n, sum(p.dead) AS dead
			FROM kstream_catalog.position p JOIN kstream_catalog.query q ON q.id = p.query GROUP BY 1),
		have AS (
			SELECT 'appended' AS name, count(*) AS n, 0 AS dead FROM appended
			UNION ALL SELECT 'counts', sum(c), 0 FROM counts
			UNION ALL SELECT 'joined', sum(c), 0 FROM joined
			UNION ALL SELECT 'divided', count(*) + (SELECT count(*) FROM kstream.dead_letters WHERE query = 'divided'),
				(SELECT count(*) FROM kstream.dead_letters WHERE query = 'divided') FROM divided)
		SELECT string_agg(format('%s: %s records read, %s in the table, %s dead, %s dead letters',
			name, read.n, have.n, read.dead, have.dead), '; ')
		FROM read JOIN have USING (name)
		WHERE coalesce(read.n, 0) <> coalesce(have.n, 0) OR read.dead <> have.dead};
	my ($rc, $out, $err);

	wait_for(30, sub { ($rc, $out, $err) = try_sql($node, $db, $check); $rc == 0 });
	return $rc == 0 ? $out : "error: $err";
}

# One fault: while work is going on, and then everything goes on again.
sub strike
{
	my ($name) = @_;
	my $before = progress();
	my ($from, $mark, $moves);

	sleep rand 0.7;
	$busy++ if progress() > $before;
	$total++;
	$done{$name}++;
	$faults{$name}->();
	$from = time();
	wait_for(30, sub { ($mark = progress()) >= 0 });
	# faults follow each other so closely that workers would start with a pause; a reload ends it
	$node->reload;
	$moves = wait_for(60, sub { progress() > $mark });
	push @recovery, time() - $from;
	if (!$moves)
	{
		ok(0, "the queries go on after $name");
		diag($node->safe_psql($db, 'SELECT name, state, last_error, detail FROM kstream.queries'));
		return;
	}
	my $trouble = in_step();
	ok(0, "tables and positions are in step after $name: $trouble") if $trouble;
}

wait_for(30, sub { progress() > 1000 }) or die 'the queries do not start';
{
	my @names = sort keys %faults;
	my @plan = shuffle @names;

	push @plan, $names[ int rand @names ] while @plan < $kills;
	strike($_) foreach (@plan[ 0 .. $kills - 1 ]);
}
@recovery = sort { $a <=> $b } @recovery;
note "$_: $done{$_}" foreach (sort keys %done);
note sprintf('until the next batch: median %.2f s, greatest %.2f s; work was going on at %d of %d faults',
	$recovery[ @recovery / 2 ], $recovery[-1], $busy || 0, $total);
pass("$total faults survived");
cmp_ok($busy || 0, '>=', $total / 4, 'work was going on at many of them');

# --- the end: everything is counted by somebody else --------------------------

my @sent = map { stop_load($_) } @loads;
note "records sent: @sent";
{
	my $error;

	# a query that failed by the last fault is tried again by itself
	wait_for(120, sub { ($error = sql_error($node, $db, 'SELECT kstream.wait(timeout => $$10 min$$)')) !~ /^KS002/ });
	is($error, '', 'all queries get to the end');
}
archive_topic($node, $db, $events, 'events_archive');
archive_topic($node, $db, $names, 'names_archive');
$node->safe_psql(
	$db, q{
	CREATE TABLE ev AS SELECT partition AS p, "offset" AS o, (j->>'id')::bigint AS id, j->>'k' AS k, (j->>'v')::int AS v
		FROM events_archive, LATERAL (SELECT convert_from(value, 'UTF8')::jsonb AS j) x;
	CREATE TABLE nm AS SELECT partition AS p, "offset" AS o, (j->>'id')::bigint AS id, convert_from(key, 'UTF8') AS k, (j->>'v')::int AS v
		FROM names_archive, LATERAL (SELECT convert_from(value, 'UTF8')::jsonb AS j) x;
	CREATE TABLE dm AS SELECT 'k' || i AS k, 'g' || i % 7 AS grp FROM generate_series(0, 149) i});
note 'records counted: ', $node->safe_psql($db, 'SELECT (SELECT count(*) FROM ev), (SELECT count(*) FROM nm)');

# The table must equal the reference, as multisets.
sub compare
{
	my ($table, $reference) = @_;

	is( $node->safe_psql(
			$db, "
			SELECT count(*), (array_agg(x::text))[1:5] FROM (
				(SELECT 'missing', * FROM ($reference) r EXCEPT ALL SELECT 'missing', * FROM $table)
				UNION ALL (SELECT 'too much', * FROM $table EXCEPT ALL SELECT 'too much', * FROM ($reference) r)) x"),
		'0|', "$table equals an independent count of the topic");
}

compare('appended', 'SELECT p, o, id, k, v FROM ev');
compare('counts', 'SELECT k, count(*), sum(v), min(v), max(id), avg(v) FROM ev GROUP BY k');
compare('distincts', 'SELECT k, count(DISTINCT v % 10) FROM ev GROUP BY k');
compare('joined', 'SELECT grp, count(*), sum(v) FROM ev LEFT JOIN dm USING (k) GROUP BY grp');
compare('divided', 'SELECT p, o, 1000 / (v % 500) FROM ev WHERE v % 500 <> 0');
compare('latest', 'SELECT DISTINCT ON (k) k, id, v FROM nm ORDER BY k, p, o DESC');
is($node->safe_psql($db, 'SELECT count(*) FROM (SELECT FROM appended GROUP BY p, o HAVING count(*) > 1) d'), '0', 'no record twice');
is( $node->safe_psql(
		$db, q{SELECT count(*) FROM (
			(SELECT partition, "offset" FROM kstream.dead_letters WHERE query = 'divided' EXCEPT ALL SELECT p, o FROM ev WHERE v % 500 = 0)
			UNION ALL (SELECT p, o FROM ev WHERE v % 500 = 0 EXCEPT ALL SELECT partition, "offset" FROM kstream.dead_letters WHERE query = 'divided')) x}),
	'0', 'each bad record is a dead letter once');
foreach my $query (@queries)
{
	my $topic = $query eq 'latest' ? $names : $query eq 'dims' ? $dims : $events;

	is($node->safe_psql($db, "SELECT string_agg(partition || ':' || position, ' ' ORDER BY partition) FROM kstream.stat_partition WHERE query = '$query'"),
		topic_ends($topic), "positions of $query are the ends of its topic");
}
is(unexpected_log_lines($node), '', 'nothing odd in the log');
$node->stop;
done_testing();
