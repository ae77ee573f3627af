
# 230_output_chaos.pl: from topic to topics, exactly once, whatever is killed, cut or
# delayed on the way: a worker at each named point of publishing, the postmaster with
# commits that nobody had flushed, the broker, the network, a commit that arrives
# when its client is already at the next transaction.
#
# A generator goes on all the time, in transactions of which each fifth is aborted.
# After each fault every sink must publish again.  At the end an independent
# consumer (test/verify) says whether anything was lost, came twice, or in another
# order, and the fold of the topics equals the tables.
#
# KS_ROUNDS: how many faults (12; there are 15 kinds, each comes once before any comes
# again).  KS_SEED: the same faults again.

use strict;
use warnings;

use List::Util qw(min shuffle);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use KafkaTest;

plan skip_all => 'KAFKA_BOOTSTRAP names no broker' unless bootstrap();

my $rounds = $ENV{KS_ROUNDS} || 12;
my $seed = $ENV{KS_SEED} || time() % 100000;
my $db = 'chaos';
my $broker = KafkaTest::Broker->new(proxy => 1);
my $server = $broker->bootstrap;
my $proxy = $broker->{proxy};
my $node = new_node(
	'chaos',
	'kstream.max_workers = 2',
	'kstream.batch_rows = 200',
	"include_if_exists = 'faults.conf'");
my %topic = map { $_->[0] => create_topic($_->[0], $_->[1], bootstrap => $server) }
  (['input', 4], ['echo', 4], ['again', 2], ['sums', 4], ['grouped', 2], ['sunk', 3], ['least', 2]);
my $log = PostgreSQL::Test::Utils::tempdir() . '/intents';
my (@recovery, %done);

srand $seed;
note "KS_ROUNDS=$rounds KS_SEED=$seed";

# --- the queries -----------------------------------------------------------

create_db($node, $db, bootstrap => $broker->proxied);
$node->safe_psql(
	$db, qq{
	SELECT kstream.create_stream('events', 'id bigint, txn bigint, k text, v int, ts bigint', topic => '$topic{input}');
	SELECT kstream.create_stream_as('echo', 'SELECT id, txn, k, v, ts FROM events', topic => '$topic{echo}', key => 'k');
	SELECT kstream.create_stream_as('again', 'SELECT id, right(k, 1) AS grp, v FROM echo', topic => '$topic{again}', key => 'grp');
	SELECT kstream.create_table_as('sums', 'SELECT k, count(*) AS c, sum(v) AS s, max(id) AS hi FROM events GROUP BY k', topic => '$topic{sums}');
	SELECT kstream.create_table_as('grouped', 'SELECT grp, count(*) AS c, sum(v) AS s FROM again GROUP BY grp', topic => '$topic{grouped}');
	SELECT kstream.create_sink('sunk', 'sums', topic => '$topic{sunk}');
	SELECT kstream.create_stream_as('least', 'SELECT id, k, v FROM events', topic => '$topic{least}', key => 'k', guarantee => 'at_least_once')});

my @load = ($topic{input}, $log, bootstrap => $server, rate => 800, keys => 100, size => 200, seed => $seed);
my $load = start_generator(@load);

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

# A worker dies, or fails, at a named point, the n-th time it gets there.
sub fault_at
{
	my ($point) = @_;
	my $action = qw(crash error) [ int rand 2 ];
	my $from = log_size($node);

	set_faults("$point:$action:" . (1 + int rand 20));
	my $hit = wait_for(30,
		sub { log_since($node, $from) =~ ($action eq 'crash' ? qr/was terminated by signal 9/ : qr/fault point "$point"/) });
	set_faults('');
	ok(0, "no worker has got to $point") unless $hit;
}

# SIGKILL of the postmaster; what the WAL writer had not flushed may be gone.
sub kill_postmaster
{
	my ($forget) = @_;
	my $pid = $node->{_pid};
	my @children = split /\s+/, `pgrep -P $pid`;
	my @walwriter = $forget ? backend_pids($node, "backend_type = 'walwriter'") : ();

	kill 'STOP', @walwriter;
	sleep 0.3 + rand 1.5 if $forget;
	$node->kill9;
	kill 9, @walwriter;
	wait_for(20, sub { !grep { alive($_) } $pid, @children });
	wait_for(3, sub { !-e "/proc/$pid" }) or unlink $node->data_dir . '/postmaster.pid';
	$node->start;
}

# Something happens to the n-th request of a kind, or to its answer.
sub rule
{
	my ($action, $api) = @_;

	$proxy->command($action, $api, 1, int rand 6);
	ok(0, "nobody has sent $api") unless $proxy->try('wait', 30) =~ /^ok/;
	# what is held arrives while the client is already at its next transaction
	sleep 0.3 + rand 1.2;
	$proxy->command('release');
	sleep rand 0.5;
	$proxy->command('reset');
	$proxy->command('heal');
}

# A state of the network that ends.
sub network
{
	$proxy->command(split ' ', (shuffle('cut', 'blackhole', 'blackhole up', 'blackhole down', 'delay 100 50', 'throttle 64000'))[0]);
	sleep 0.3 + rand 3;
	$proxy->command('heal');
}

# The broker goes and comes back.
sub broker_goes
{
	my ($away, $back) = @{ (shuffle([ 'kill', 'start' ], [ 'freeze', 'thaw' ]))[0] };

	$broker->run($away);
	sleep rand 2;
	$broker->run($back);
}

# The load dies with its transaction open.
sub kill_load
{
	kill_generator($load);
	$load = start_generator(@load);
}

my %faults = (
	'kill -9 of a worker' => sub { kill 9, (shuffle(worker_pids($node, $db)))[0] // return },
	'workers terminated' => sub { kill 'TERM', worker_pids($node, $db) },
	'kill -9 of the postmaster' => sub { kill_postmaster(0) },
	'unflushed commits forgotten' => sub { kill_postmaster(1) },
	'the broker goes' => \&broker_goes,
	'the network is bad' => \&network,
	'connections reset' => sub { $proxy->command('reset') },
	'kill -9 of the load' => \&kill_load,
	'a commit is late' => sub { rule((shuffle('steal', 'hold request'))[0], 'commit') },
	'the answer of a commit is lost' => sub { rule((shuffle('lose', 'drop response'))[0], 'commit') },
	'a request is lost' => sub { rule((shuffle('close', 'steal', 'lose'))[0], (shuffle(qw(Produce AddPartitionsToTxn TxnOffsetCommit)))[0]) },
	map { my $point = $_; ("at $point" => sub { fault_at($point) }) } qw(publish_begin publish_produced publish_commit publish_committed));

# Positions of all sinks, by id; nothing while the server is away.
sub published
{
	my ($rc, $out) = try_sql($node, $db, 'SELECT sink, position FROM kstream_catalog.published');

	return $rc == 0 && $out ne '' ? { map { split /\|/ } split /\n/, $out } : undef;
}

# Has every sink published something since?
sub all_move
{
	my ($before) = @_;
	my $now = published();

	return $now && !grep { $now->{$_} <= $before->{$_} } keys %$before;
}

# One fault: while work is going on, and then it goes on again.
sub strike
{
	my ($name) = @_;
	my ($from, $mark);

	$done{$name}++;
	note "fault: $name";
	$faults{$name}->();
	$from = time();
	wait_for(60, sub { $mark = published() });
	if (wait_for(60, sub { all_move($mark) })) { push @recovery, time() - $from }
	else
	{
		ok(0, "every sink goes on after: $name");
		diag($node->safe_psql($db, 'SELECT name, state, position, last_error FROM kstream.sinks ORDER BY 1'));
	}
}

wait_for(60, sub { my $now = published(); $now && keys %$now == 6 && min(values %$now) > 0 }) or die 'the sinks do not start';
{
	my @names = shuffle sort keys %faults;
	my @plan;

	push @plan, @names while @plan < $rounds;
	strike($_) foreach (@plan[ 0 .. $rounds - 1 ]);
}
@recovery = sort { $a <=> $b } @recovery;
note "$_: $done{$_}" foreach (sort keys %done);
note sprintf('until every sink had published again: median %.2f s, greatest %.2f s', $recovery[ @recovery / 2 ] // 0, $recovery[-1] // 0);
is(scalar @recovery, $rounds, "$rounds faults survived");

# --- the end: an independent consumer judges ----------------------------------

note 'records sent: ', stop_generator($load);
{
	my $error;

	# a query that failed by the last fault is tried again by itself
	wait_for(120, sub { ($error = sql_error($node, $db, 'SELECT kstream.wait(timeout => $$5 min$$)')) !~ /^KS002/ });
	is($error, '', 'everything is processed and published');
}

# A table as the verifier's fold writes it: key, tab, one field.
sub expected
{
	my ($table, $key, $field) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir() . "/$table.$field";

	PostgreSQL::Test::Utils::append_to_file($file,
		$node->safe_psql($db, "SELECT $key || E'\\t' || $field FROM $table ORDER BY $key COLLATE \"C\"") . "\n");
	return "file=$file";
}

my ($code, $out) = verify(
	$server,
	(map { ('settled', "topic=$topic{$_}", 'for=60') } qw(input echo again sums grouped sunk)),
	'set', "topic=$topic{echo}", 'field=id', "log=$log",
	'same', "topic=$topic{echo}", "with=$topic{input}", 'field=id,txn,k,v,ts',
	'order', "topic=$topic{echo}", 'field=id', 'strict=1',
	'partitioned', "topic=$topic{echo}",
	'same', "topic=$topic{again}", "with=$topic{input}", 'field=id,v',
	'set', "topic=$topic{least}", 'field=id', "log=$log", 'dedup=kstream_seq',
	'order', "topic=$topic{least}", 'field=id', 'strict=1', 'dedup=kstream_seq',
	'dense', "topic=$topic{least}", 'start=0', 'dedup=kstream_seq',
	(map { ('order', "topic=$topic{$_}", 'field=c', 'strict=1') } qw(sums grouped sunk)),
	'fold', "topic=$topic{sums}", 'field=s', expected('sums', 'k', 's'),
	'fold', "topic=$topic{sunk}", 'field=hi', expected('sums', 'k', 'hi'),
	'fold', "topic=$topic{grouped}", 'field=c', expected('grouped', 'grp', 'c'),
	'nothing-extra', 'topic=' . join(',', @topic{qw(echo again sums grouped sunk)}), 'for=2');
is($code, 0, 'nothing is lost, nothing comes twice, order and folds are right') or diag($out);
is($node->safe_psql($db, 'SELECT sum(c), sum(s) FROM sums'), $node->safe_psql($db, 'SELECT sum(c), sum(s) FROM grouped'),
	'a chain of three has counted the same');
is(unexpected_log_lines($node), '', 'nothing odd in the log');
$node->stop;
done_testing();
