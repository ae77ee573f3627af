# Workers: that they start, share, wait, fail alone, come back, and lose nothing
# when processes are cancelled, terminated or killed.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use KstreamTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = new_node('main');

# wait_ready: the server takes connections again.
sub wait_ready
{
	return eventually(30, sub { (try_sql($node, 'SELECT 1'))[0] == 0 });
}

# set_and_reload: changes a setting of the running server.
sub set_and_reload
{
	my ($setting) = @_;

	sql($node, "ALTER SYSTEM $setting");
	try_sql($node, 'SELECT pg_reload_conf()');    # a fault point may take this session with it
}

# cpu_ticks: processor time a process has used.
sub cpu_ticks
{
	my ($pid) = @_;
	my @fields = split / /, (slurp_file("/proc/$pid/stat") =~ s/^.*\) //sr);

	return $fields[11] + $fields[12];
}

#
# Start
#
ok(eventually(5, sub { launcher_pid($node) ne '' }), 'there is a launcher');
is(scalar(worker_pids($node)), 0, 'no worker without the extension');
sql($node, 'CREATE EXTENSION kstream');
sleep 0.3;
is(scalar(worker_pids($node)), 0, 'no worker without a query');
is(sqlstate($node, 'SELECT kstream.wait()'), '', 'wait without a query returns');
sql($node, 'DROP EXTENSION kstream');

setup_queries($node);
produce($node, 1000);
law_holds($node, 'queries run as soon as they are created');
is(scalar(worker_pids($node)), 2, 'two workers share the queries');

#
# Waiting
#
is(sqlstate($node, 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM totals; '
	  . 'SELECT kstream.wait(); COMMIT'), '', 'wait in REPEATABLE READ');
is(sqlstate($node, q(BEGIN; SELECT kstream.create_table_as('new', 'SELECT id FROM orders');
	SELECT kstream.wait('new', '5 s'))), 'KS002', 'wait for a query of this transaction');
sql($node, q(SELECT kstream.pause('totals')));
is(sqlstate($node, q(SELECT kstream.wait('totals'))), 'KS002', 'wait for a paused query');
produce($node, 100);
is(sqlstate($node, q(SELECT kstream.wait('large'))), '', 'the others go on');
is(sql($node, q(SELECT kstream.step('totals', 10))), '10', 'a paused query can be stepped');
sql($node, q(SELECT kstream.resume('totals')));
law_holds($node, 'after resume');
my $took = seconds(sub { sql($node, q(SELECT kstream.reset('totals'))) });
cmp_ok($took, '<', 2, 'reset takes a running query from its worker at once');
law_holds($node, 'after reset');

is(sqlstate($node, q(SELECT kstream.wait('orders'))), '', 'wait for a stream that nothing is to be published of');
is(sqlstate($node, q(SELECT kstream.wait('pg_class'))), '42809', 'wait for a table that is none of ours');
set_and_reload('SET kstream.start_workers = off');
ok(eventually(5, sub { worker_pids($node) == 0 }), 'start_workers = off stops the workers');
produce($node, 10);
like((try_sql($node, q(SELECT kstream.wait('totals', '10 s'))))[2],
	qr/KS002: continuous query totals does not run\nDETAIL:  kstream.start_workers is off. .*\nHINT:  Set kstream.start_workers = on/, 'wait says why nothing runs');
set_and_reload('RESET kstream.start_workers');
law_holds($node, 'workers come back');
sql($node, q(SELECT kstream.create_table_as('seldom', 'SELECT id FROM orders', batch_interval => '1 hour'); SELECT kstream.wait('seldom')));
produce($node, 10);
$took = seconds(sub { is(sqlstate($node, q(SELECT kstream.wait('seldom', '300 ms'))), 'KS001', 'wait times out') });
cmp_ok($took, '<', 2, 'and not too late');
sql($node, 'DROP TABLE seldom');

#
# What a query does while a batch takes long
#
sql($node, q{CREATE FUNCTION slow(int) RETURNS int STABLE LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.4); RETURN $1; END'});
sql($node, q{SELECT kstream.create_stream('slowly', 'a int', server => 'local', partitions => 1)});
sql($node, q{SELECT kstream.create_table_as('slow_result', 'SELECT slow(a) AS a FROM slowly')});
sql($node, q{INSERT INTO slowly VALUES (1)});
is(sqlstate($node, q(SELECT kstream.wait('slow_result'))), '', 'a slow query');
my $shown = q{SELECT q.state || ' ' || p.lag FROM kstream.queries q JOIN kstream.stat_partition p ON p.query = q.name WHERE q.name = 'slow_result'};
ok(eventually(5, sub { sql($node, $shown) eq 'waiting 0' }), 'waits for records');
sleep 1.5;
sql($node, q{INSERT INTO slowly SELECT i FROM generate_series(1, 10) i});
ok(eventually(3, sub { sql($node, $shown) eq 'running 10' }), 'is running while its batch is, and behind') or diag(sql($node, $shown));
is(sqlstate($node, q(SELECT kstream.wait('slow_result'))), '', 'it ends');
ok(eventually(5, sub { sql($node, $shown) eq 'waiting 0' }), 'and waits again');
sql($node, q{DROP FOREIGN TABLE slowly CASCADE});

#
# Idle
#
ok(eventually(10, sub { sql($node, q(SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'kstream%'
		AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL OR xact_start IS NOT NULL))) eq '0' }),
	'idle workers hold no transaction and no snapshot');
my %ticks = map { $_ => cpu_ticks($_) } worker_pids($node), launcher_pid($node);
sleep 10;
my ($most) = sort { $b <=> $a } map { cpu_ticks($_) - $ticks{$_} } keys %ticks;
cmp_ok($most, '<=', 5, 'idle processes use less than 0.5 % of a processor');

#
# Signals
#
my $load = start_load($node);
my @before = worker_pids($node);
for (1 .. 40)
{
	sql($node, q(SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'kstream%'));
	sleep 0.02;
}
is_deeply([ worker_pids($node) ], \@before, 'cancelled workers stay');
my $slowest = 0;
for (1 .. 5)
{
	my @old = worker_pids($node);

	sql($node, "SELECT pg_terminate_backend($_)") for @old;
	my $t = seconds(sub {
		eventually(10, sub { my %p = map { $_ => 1 } worker_pids($node); keys %p == 2 && !grep { $p{$_} } @old });
	});
	$slowest = $t if $t > $slowest;
}
cmp_ok($slowest, '<', 2, 'terminated workers are back in two seconds');
my $launcher = launcher_pid($node);
sql($node, "SELECT pg_terminate_backend($launcher)");
ok(eventually(10, sub { my $p = launcher_pid($node); $p ne '' && $p ne $launcher }), 'a terminated launcher comes back');
sql($node, "SELECT pg_terminate_backend($_)") for worker_pids($node);
ok(eventually(10, sub { worker_pids($node) == 2 }), 'and starts workers');
$node->reload for 1 .. 5;
stop_load($load);
law_holds($node, 'nothing lost by cancel, terminate and reload');
is(count_in_log($node, qr/server process .* was terminated|PANIC|TRAP/), 0, 'no crash');

#
# Kills
#
$load = start_load($node);
for my $round (1 .. 6)
{
	my @pids = worker_pids($node);

	sleep rand 0.3;
	@pids = split /\n/, sql($node, q(SELECT pid FROM pg_stat_activity WHERE application_name = 'psql'
		AND pid <> pg_backend_pid())) if $round % 3 == 0;
	kill_process($pids[ rand @pids ]) if @pids;
	wait_ready();
	ok(eventually(10, sub { worker_pids($node) > 0 }), "workers are back after kill $round");
}
stop_load($load);
wait_ready();
law_holds($node, 'nothing lost or doubled by kill -9 of workers and backends');

$load = start_load($node);
for (1 .. 5)
{
	sleep rand 0.3;
	$node->stop('immediate');
	$node->start;
}
stop_load($load);
law_holds($node, 'nothing lost or doubled by immediate shutdowns');

$load = start_load($node);
sleep 0.2;
my @pids = (worker_pids($node), launcher_pid($node));
my ($postmaster) = split /\n/, slurp_file($node->data_dir . '/postmaster.pid');
$node->kill9;
ok(eventually(2, sub { !grep { process_alive($_) } @pids }), 'all leave when the postmaster is killed');
eventually(5, sub { !process_alive($postmaster) });
sleep 0.5;
# where nobody collects dead processes, its number still looks taken
unlink $node->data_dir . '/postmaster.pid', glob($node->host . '/.s.PGSQL.*.lock')
  if kill 0, $postmaster;
$node->start;
stop_load($load);
law_holds($node, 'nothing lost or doubled by kill -9 of the postmaster');

#
# Fault points
#
SKIP:
{
	skip 'no fault points in this build', 3 unless has_faults($node);

	$load = start_load($node);
	for my $point (qw(after_fetch after_decode after_state after_positions before_commit after_commit))
	{
		my $crashes = count_in_log($node, qr/terminated by signal 9/);

		set_and_reload("SET kstream.fault_points = '$point:crash:3'");
		eventually(20, sub { count_in_log($node, qr/terminated by signal 9/) > $crashes });
		$node->stop('immediate');
		$node->adjust_conf('postgresql.auto.conf', 'kstream.fault_points', "''");
		$node->start;
		cmp_ok(count_in_log($node, qr/terminated by signal 9/), '>', $crashes, "crashed at $point");
	}
	stop_load($load);
	law_holds($node, 'nothing lost or doubled by crashes at any point of a batch');

	$load = start_load($node);
	for my $point (qw(after_fetch after_decode after_state after_positions before_commit after_commit))
	{
		set_and_reload("SET kstream.fault_points = '$point:error:2'");
		sleep 0.3;
	}
	set_and_reload('RESET kstream.fault_points');
	stop_load($load);
	law_holds($node, 'nothing lost or doubled by errors at any point of a batch');
}

#
# A query that fails
#
sql($node, q(
	SELECT kstream.create_table_as('fragile', 'SELECT id, amount FROM orders');
	SELECT kstream.wait('fragile');
	ALTER TABLE fragile ADD CONSTRAINT small CHECK (id < 0) NOT VALID));
produce($node, 100);
ok(eventually(10, sub { sqlstate($node, q(SELECT kstream.wait('fragile', '5 s'))) eq 'KS002' }), 'wait for a failing query');
unlike((try_sql($node, q(SELECT kstream.wait('fragile', '5 s'))))[2], qr/HINT:.*HINT:|replaced or truncated/s, 'with one hint, and none about topics');
is(sql($node, q(SELECT state FROM kstream.queries WHERE relation = 'fragile'::regclass)), 'failed', 'it is shown as failed');
like(sql($node, q(SELECT last_error FROM kstream.queries WHERE relation = 'fragile'::regclass)), qr/small/, 'with its error');
is(sqlstate($node, q(SELECT kstream.wait('totals'))), '', 'the others go on');
my $tries = sql($node, q(SELECT restarts FROM kstream_catalog.query WHERE relation = 'fragile'::regclass));
sleep 5;
cmp_ok(sql($node, q(SELECT restarts FROM kstream_catalog.query WHERE relation = 'fragile'::regclass)) - $tries,
	'<=', 4, 'it is tried again with growing delays');
cmp_ok(count_in_log($node, qr/continuous query public.fragile failed/), '<=', 2, 'the log is not flooded');
sql($node, q(ALTER TABLE fragile DROP CONSTRAINT small));
ok(eventually(30, sub { sqlstate($node, q(SELECT kstream.wait('fragile', '5 s'))) eq '' }), 'it goes on when the cause is gone');
is(sql($node, q(SELECT count(*) FROM fragile)), sql($node, q(SELECT count(*) FROM orders)), 'with every record');
is(sql($node, q(SELECT state || coalesce(last_error, '') FROM kstream.queries WHERE relation = 'fragile'::regclass)),
	'waiting', 'and no error is shown any more');

# What cannot be deferred says so.
sql($node, q(
	CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
	CREATE CONSTRAINT TRIGGER later AFTER INSERT ON fragile DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION nothing()));
produce($node, 10);
ok(eventually(10, sub { (try_sql($node, q(SELECT kstream.wait('fragile', '5 s'))))[2]
	=~ /cannot fire deferred trigger.*HINT:  A trigger or constraint of the table is INITIALLY DEFERRED/s }), 'a deferred trigger stops the query, with a hint');
sql($node, q(DROP TRIGGER later ON fragile; SELECT kstream.resume('fragile')));

# Passing conflicts are nobody's business.
my $failures = count_in_log($node, qr/failed:/);
sql($node, q(BEGIN; LOCK TABLE fragile IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(2); COMMIT));
produce($node, 100);
law_holds($node, 'after a lock was held');
is(count_in_log($node, qr/failed:/), $failures, 'a lock that was held for two seconds is not reported');
sql($node, 'DROP TABLE fragile');

#
# Many queries
#
sql($node, join '', map { "SELECT kstream.create_table_as('q$_', 'SELECT id FROM orders WHERE id % 50 = $_');" } 1 .. 50);
is(sqlstate($node, q(SELECT kstream.wait(NULL, '60 s'))), '', '53 queries run');
is(scalar(worker_pids($node)), 2, 'on two workers');
# shares: how many queries each worker has.
sub shares
{
	return sql($node, q(SELECT string_agg(n::text, ' ' ORDER BY n) FROM
		(SELECT count(*) AS n FROM kstream_catalog.stat_query_shmem() WHERE pid IS NOT NULL GROUP BY pid) s));
}
is(shares(), '26 27', 'which share them');
set_and_reload('SET kstream.max_workers = 4');
# 14 at most each; who gets less depends on who comes first
ok(eventually(40, sub { my @n = split / /, shares(); @n == 4 && $n[3] == 14 }), 'more workers take their share')
	or diag(shares());
set_and_reload('SET kstream.max_workers = 1');
ok(eventually(40, sub { shares() eq '53' }), 'one worker takes all');
set_and_reload('RESET kstream.max_workers');
ok(eventually(40, sub { shares() eq '26 27' }), 'and gives them back');
produce($node, 1000);
is(sqlstate($node, q(SELECT kstream.wait(NULL, '60 s'))), '', 'all go on');
is(sql($node, 'SELECT sum(n) FROM (' . join(' UNION ALL ', map { "SELECT count(*) AS n FROM q$_" } 1 .. 49) . ') c'),
	sql($node, 'SELECT count(*) FROM orders WHERE id % 50 <> 0'), 'with every record');
sql($node, join '', map { "DROP TABLE q$_;" } 1 .. 50);
is(sql($node, 'SELECT count(*) FROM kstream_catalog.query'), '3', 'dropped tables leave no query');
ok(eventually(5, sub { sql($node, 'SELECT count(*) FROM kstream_catalog.stat_query_shmem()') eq '3' }), 'nor statistics');

#
# Databases whose definitions cannot be read do not keep the others from starting
#
for my $db (qw(broken1 broken2 broken3))
{
	$node->safe_psql('postgres', "CREATE DATABASE $db");
	$node->safe_psql($db, q(CREATE EXTENSION kstream; UPDATE pg_class SET relname = 'was_query' WHERE oid = 'kstream_catalog.query'::regclass));
}
$node->safe_psql('postgres', 'CREATE DATABASE healthy');
$node->safe_psql('healthy', q(CREATE EXTENSION kstream;
	SELECT kstream.create_stream('s', 'n int', server => 'local');
	SELECT kstream.create_table_as('t', 'SELECT n FROM s')));
$node->restart;
$node->safe_psql('healthy', q(INSERT INTO s VALUES (1)));
is($node->safe_psql('healthy', q(SELECT kstream.wait('t', '60 s'); SELECT count(*) FROM t)), "\n1", 'broken databases do not keep others from starting');
ok(eventually(60, sub { count_in_log($node, qr/cannot read the definitions of its database/) > 0 }), 'and the log says what is wrong with them');
$node->safe_psql('postgres', "DROP DATABASE $_") for qw(broken1 broken2 broken3 healthy);

#
# No background worker left
#
$node->append_conf('postgresql.conf', 'max_worker_processes = 2');    # both launchers
$node->restart;
ok(eventually(5, sub { count_in_log($node, qr/no background worker left/) == 1 }), 'the log says that no worker can start');
sleep 5;
is(count_in_log($node, qr/no background worker left/), 1, 'once');
is(sqlstate($node, q(SELECT kstream.wait('totals', '200 ms'))), '', 'wait returns when nothing is to be done');
produce($node, 10);
is(sqlstate($node, q(SELECT kstream.wait('totals', '200 ms'))), 'KS001', 'else it times out');
$node->append_conf('postgresql.conf', 'max_worker_processes = 3');
$node->restart;
law_holds($node, 'one worker runs all queries');
is(scalar(worker_pids($node)), 1, 'where only one can start');

$node->stop('fast');
is(count_in_log($node, qr/PANIC|TRAP|segfault|signal (6|11)/), 0, 'nothing bad in the log');
done_testing();
