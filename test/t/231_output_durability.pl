
# 231_output_durability.pl: what must hold between Postgres and a topic at single
# moments, each brought about on purpose: nothing is published that Postgres may
# forget; after a crash the topic's position counts, not ours; a commit that arrives
# late does not end the next transaction; nothing leaves the outbox unpublished.
#
# These are the tests that mutants of the publisher must not survive
# (test/chaos/mutants.sh).

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use KafkaTest;

plan skip_all => 'KAFKA_BOOTSTRAP names no broker' unless bootstrap();

my $db = 'durability';
my $broker = KafkaTest::Broker->new(proxy => 1);
my $server = $broker->bootstrap;
my $proxy = $broker->{proxy};

# Nobody but the WAL writer flushes what is committed here, and everybody commits as workers do.
my $node = new_node(
	'durability',
	'synchronous_commit = off',
	'wal_level = replica',
	'max_wal_senders = 2',
	'autovacuum = off',
	'checkpoint_timeout = 1h',
	'bgwriter_lru_maxpages = 0',
	'kstream.max_workers = 2',
	"include_if_exists = 'faults.conf'");

create_db($node, $db, bootstrap => $broker->proxied);

sub sql { return $node->safe_psql($db, $_[0]) }

# The numbers in a topic, in the order of offsets.
sub numbers
{
	return map { $_->[4] =~ /"n":(\d+)/ } sort { $a->[0] <=> $b->[0] || $a->[1] <=> $b->[1] } topic_rows($_[0], $server);
}

# What happens at fault points from now on; empty: nothing.
sub set_faults
{
	my ($points) = @_;

	open my $out, '>', $node->data_dir . '/faults.conf' or die $!;
	print $out "kstream.fault_points = '$points'\n";
	close $out or die $!;
	$node->reload;
}

# Waits until a stream is published; a test that it is.
sub published
{
	my ($stream) = @_;

	is(sql_error($node, $db, "SELECT kstream.wait('$stream', '60 s')"), '', "$stream is published")
	  or diag(sql("SELECT name, state, position, last_error FROM kstream.sinks WHERE last_error IS NOT NULL"));
}

# One try to run a statement once, whatever becomes of the server meanwhile; true when it has been run.
sub try_once
{
	my ($mark, $statement) = @_;
	my ($rc, $out) = try_sql($node, $db, "SELECT count(*) FROM marks WHERE mark = '$mark'");

	return 0 if $rc != 0;
	return 1 if $out ne '0';
	try_sql($node, $db, "BEGIN; INSERT INTO marks VALUES ('$mark'); $statement; COMMIT");
	return 0;
}

# Runs it once.
sub once
{
	my @arguments = @_;

	wait_for(60, sub { try_once(@arguments) }) or die "@arguments";
}

# --- the lost tail -----------------------------------------------------------

my $tail = create_topic('tail', 1, bootstrap => $server);
my $source = create_topic('source', 2, bootstrap => $server);
my $derived = create_topic('derived', 2, bootstrap => $server);
sql(qq{
	CREATE TABLE kept (n int);
	CREATE TABLE marks (mark text PRIMARY KEY);
	CREATE TABLE unsent (n int);
	SELECT kstream.create_stream('tail', 'n int', topic => '$tail');
	SELECT kstream.create_stream('src', 'n int', topic => '$source');
	SELECT kstream.create_stream_as('derived', 'SELECT n FROM src', topic => '$derived')});

my ($sent, $forgotten) = (0, 0);
my $producer = KafkaTest::Producer->new($server);

foreach my $round (1 .. 3)
{
	my @walwriter;
	my $pid = $node->{_pid};
	my @children = split /\s+/, `pgrep -P $pid`;

	sql('CHECKPOINT');
	@walwriter = backend_pids($node, "backend_type = 'walwriter'");
	kill 'STOP', @walwriter;
	my $want = numbers($tail) + 40;
	foreach (1 .. 40)
	{
		$sent++;
		sql("BEGIN; INSERT INTO tail (n) VALUES ($sent); INSERT INTO kept VALUES ($sent); COMMIT");
		$producer->send($source, "k$sent", qq({"n": $sent}), partition => $sent % 2);
	}
	$producer->flush;
	ok(wait_for(60, sub { numbers($tail) >= $want && numbers($derived) >= $sent }), "round $round: everything is published")
	  or diag(sql('SELECT name, state, position, last_error FROM kstream.sinks'));
	# committed, but neither flushed nor published by anybody
	sql("INSERT INTO unsent VALUES ($round)");
	$node->kill9;
	kill 9, @walwriter;
	wait_for(20, sub { !grep { alive($_) } $pid, @children });
	wait_for(3, sub { !-e "/proc/$pid" }) or unlink $node->data_dir . '/postmaster.pid';
	$node->start;
	$forgotten += sql("SELECT count(*) FROM unsent WHERE n = $round") eq '0';
	is(sql('SELECT count(*) FROM kept') + 0, scalar(numbers($tail)), "round $round: what is in the topic is in the table");
	published('tail');
}
cmp_ok($forgotten, '>', 0, 'the server had forgotten what was not published');
is(sql(q(SELECT string_agg(n::text, ' ' ORDER BY n) FROM kept)), join(' ', numbers($tail)), 'the topic has what was committed, in its order');
is(join(' ', sort { $a <=> $b } numbers($derived)), join(' ', 1 .. $sent), 'a query has put out each record once');
is(sql(q(SELECT count(*) FROM kstream.sinks WHERE last_error IS NOT NULL)), '0', 'no sink has found the topic ahead of it');

# --- after a crash the topic says what it has ----------------------------------

foreach my $point (qw(publish_begin publish_produced publish_commit publish_committed))
{
	my $topic = create_topic($point, 1, bootstrap => $server);
	my $from;

	sql("SELECT kstream.create_stream('$point', 'n int', topic => '$topic')");
	sql("INSERT INTO $point (n) VALUES (1)");
	published($point);
	$from = log_size($node);
	set_faults("$point:crash");
	# another sink may get there first
	try_once($point, "INSERT INTO $point (n) SELECT generate_series(2, 5)");
	ok(wait_for(60, sub { log_since($node, $from) =~ /was terminated by signal 9/ }), "a worker dies at $point");
	wait_for(30, sub { (try_sql($node, $db, 'SELECT 1'))[0] == 0 });
	set_faults('');
	once($point, "INSERT INTO $point (n) SELECT generate_series(2, 5)");
	once("$point 6", "INSERT INTO $point (n) VALUES (6)");
	published($point);
	is(join(' ', numbers($topic)), '1 2 3 4 5 6', "killed at $point: each record once, in order")
	  or diag(sql("SELECT name, state, position, last_error FROM kstream.sinks WHERE name LIKE '%$point'"));
}

# --- a commit that arrives late -----------------------------------------------

# The first commit is held back on its way and its connection lost: the client
# repeats it on another one and is told that all is well.  Then it arrives while the
# next transaction is open with its records sent; the worker dies before it adds the
# position.  Had that transaction been ended by the late commit, its records would
# be in the topic without their position, and come again.
{
	my $topic = create_topic('late', 1, bootstrap => $server);

	sql("SELECT kstream.create_stream('late', 'n int', topic => '$topic')");
	sql('INSERT INTO late (n) VALUES (1)');
	published('late');
	# no heartbeat of another sink may take the rule's place
	sql("UPDATE kstream_catalog.sink SET paused = true, generation = generation + 1 WHERE relation <> 'late'::regclass");
	sql("SELECT kstream.pause('derived')");
	sleep 1;
	$proxy->command('steal', 'commit', 1, 0);
	sql('INSERT INTO late (n) VALUES (2)');
	like($proxy->try('wait', 30), qr/^ok/, 'a commit is held back, its connection lost');
	wait_for(60, sub { numbers($topic) >= 2 });
	set_faults('publish_produced:sleep=4000');
	my $from = log_size($node);
	sql('INSERT INTO late (n) SELECT generate_series(3, 5)');
	sleep 2;
	$proxy->command('release');
	sleep 1;
	kill 9, worker_pids($node, $db);
	wait_for(30, sub { (try_sql($node, $db, 'SELECT 1'))[0] == 0 });
	set_faults('');
	$proxy->command('heal');
	once('late', 'INSERT INTO late (n) VALUES (6)');
	published('late');
	is(join(' ', numbers($topic)), '1 2 3 4 5 6', 'a late commit ends no other transaction')
	  or diag(sql("SELECT name, state, position, last_error FROM kstream.sinks WHERE name LIKE '%late'"));
	sql("UPDATE kstream_catalog.sink SET paused = false, generation = generation + 1 WHERE paused");
	sql("SELECT kstream.resume('derived')");
}

# --- a backlog of several outboxes ---------------------------------------------

{
	my $topic = topic_name('backlog');

	sql("SELECT kstream.create_stream('backlog', 'n int, t text', topic => '$topic')");
	foreach my $part (0 .. 5)
	{
		sql("INSERT INTO backlog (n, t) SELECT $part * 8000 + i, repeat(md5(i::text), 30) FROM generate_series(1, 8000) i");
	}
	query_until($node, $db, "SELECT last_error FROM kstream_catalog.sink WHERE relation = 'backlog'::regclass", qr/does not exist/, 30);
	create_topic(undef, 1, name => $topic, bootstrap => $server);
	sql("INSERT INTO backlog (n, t) VALUES (48001, 'last')");
	query_until($node, $db, "SELECT position FROM kstream_catalog.published p JOIN kstream_catalog.sink s ON s.id = p.sink WHERE relation = 'backlog'::regclass", '48001', 90);
	my @numbers = numbers($topic);
	is(scalar(@numbers), 48001, 'all of a long backlog is published');
	is(scalar(grep { $numbers[$_] != $_ + 1 } 0 .. $#numbers), 0, 'in order');
	ok(wait_for(30, sub { sql("SELECT sum(pg_table_size(r)) < 40 * 1024 * 1024 FROM kstream_catalog.sink, unnest(array[outbox0, outbox1]) r WHERE relation = 'backlog'::regclass") eq 't' }),
		'and its space given back');
}

# --- a standby that must have it first ------------------------------------------

{
	my $topic = create_topic('replicated', 1, bootstrap => $server);
	my $standby = PostgreSQL::Test::Cluster->new('standby');
	my ($receiver, $detail);

	$node->backup('base');
	$standby->init_from_backup($node, 'base', has_streaming => 1);
	$standby->start;
	$node->append_conf('postgresql.conf', "synchronous_standby_names = '*'\nkstream.output_durability = 'replicated'\n");
	$node->reload;
	sql("SELECT kstream.create_stream('replicated', 'n int', topic => '$topic'); INSERT INTO replicated (n) VALUES (1)");
	published('replicated');
	wait_for(30, sub { ($receiver) = backend_pids($standby, "backend_type = 'walreceiver'") });
	kill 'STOP', $receiver;
	sql('INSERT INTO replicated (n) VALUES (2)');
	$detail = query_until($node, $db, "SELECT detail FROM kstream.sinks WHERE name = 'replicated'", qr/standby/, 30);
	is($detail, 'waiting for a synchronous standby', 'what a synchronous standby does not have waits, and says so');
	is(join(' ', numbers($topic)), '1', 'and is not published');
	kill 'CONT', $receiver;
	published('replicated');
	is(join(' ', numbers($topic)), '1 2', 'it is published when the standby has it');
	$standby->stop;
}

is(unexpected_log_lines($node), '', 'nothing odd in the log');
$node->stop;
done_testing();
