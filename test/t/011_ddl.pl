# DDL that workers must get out of the way of: nothing blocks, nothing is left behind.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use KstreamTest;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = new_node('main');

# timed_ok: the statement succeeds, in time.
sub timed_ok
{
	my ($limit, $sql, $name) = @_;
	my $state;
	my $took = seconds(sub { $state = sqlstate($node, $sql) });

	return ok($state eq '' && $took < $limit, $name)
	  || diag(sprintf '%s: "%s" after %.2f s', $sql, $state, $took);
}

#
# Databases
#
sql($node, 'CREATE DATABASE one');
setup_queries($node, 'one');
produce($node, 1000, 'one');
law_holds($node, 'a second database has workers of its own', 'one');
is(scalar(worker_pids($node, 'one')), 2, 'two of them');

sql($node, q(CREATE TABLESPACE elsewhere LOCATION ''));
my $load = start_load($node, 'one');
sleep 0.3;
stop_load($load);    # the load itself would be in the way
timed_ok(5, 'CREATE DATABASE copy TEMPLATE one', 'CREATE DATABASE TEMPLATE');
timed_ok(5, 'ALTER DATABASE one SET TABLESPACE elsewhere', 'ALTER DATABASE SET TABLESPACE');
timed_ok(5, 'ALTER DATABASE one RENAME TO uno', 'ALTER DATABASE RENAME');
law_holds($node, 'its workers come back', 'uno');

is(scalar(worker_pids($node, 'copy')), 0, 'a copy has no workers');
is(sql($node, 'SELECT string_agg(DISTINCT state, $$ $$) FROM kstream.queries', 'copy'), 'blocked', 'its queries are blocked');
is(sqlstate($node, 'SELECT kstream.wait()', 'copy'), 'KS002', 'wait says so');
$node->restart;
is(scalar(worker_pids($node, 'copy')), 0, 'also after a restart');
sql($node, q(SELECT kstream.resume(name) FROM kstream.queries), 'copy');
produce($node, 500, 'copy');
law_holds($node, 'resumed, the copy goes on from the same positions', 'copy');
law_holds($node, 'and the original is undisturbed', 'uno');

# A command that fails brings the workers back.
my $other = $node->background_psql('uno');
$other->query_safe('SELECT 1') if $other->can('query_safe');
my $psql_there = eventually(5, sub { sql($node, q(SELECT count(*) FROM pg_stat_activity WHERE datname = 'uno'
	AND backend_type = 'client backend')) > 0 });
SKIP:
{
	skip 'no second session', 1 unless $psql_there;
	is(sqlstate($node, 'DROP DATABASE uno'), '55006', 'DROP DATABASE fails while a session is connected');
}
$other->can('quit') ? $other->quit : $other->finish;
ok(eventually(5, sub { worker_pids($node, 'uno') == 2 }), 'then workers come back');
produce($node, 100, 'uno');
law_holds($node, 'and go on', 'uno');

# Who may not drop it does not disturb it.
sql($node, 'CREATE ROLE nobody LOGIN CREATEDB');
my @before = worker_pids($node, 'uno');
for my $sql ('DROP DATABASE uno', 'CREATE DATABASE theft TEMPLATE uno', 'ALTER DATABASE uno RENAME TO theirs')
{
	is(sqlstate($node, "SET SESSION AUTHORIZATION nobody; $sql"), '42501', "refused: $sql");
}
is_deeply([ worker_pids($node, 'uno') ], \@before, 'refused commands stop no worker');

timed_ok(5, 'DROP DATABASE uno', 'DROP DATABASE');
timed_ok(5, 'DROP DATABASE copy', 'DROP DATABASE of a resumed copy');
is(scalar(worker_pids($node)), 0, 'no worker is left');

# In a loop, at any moment of a worker's life.
sql($node, 'CREATE DATABASE seed');
setup_queries($node, 'seed');
produce($node, 100, 'seed');
my $failed = 0;
for my $round (1 .. 10)
{
	for my $sql ("CREATE DATABASE loop TEMPLATE seed", 'ALTER DATABASE loop RENAME TO loop2')
	{
		$failed++ if sqlstate($node, $sql) ne '';
	}
	sql($node, q(SELECT kstream.resume(name) FROM kstream.queries), 'loop2');
	sleep rand 0.05;
	$failed++ if seconds(sub { $failed++ if sqlstate($node, 'DROP DATABASE loop2') ne '' }) > 5;
}
is($failed, 0, 'copied, renamed and dropped ten times');
law_holds($node, 'the template is undisturbed', 'seed');

#
# The extension
#
$load = start_load($node, 'seed');
timed_ok(5, 'SELECT 1', 'the server answers');
is(sqlstate($node, 'BEGIN; DROP EXTENSION kstream CASCADE; SELECT pg_sleep(1); ROLLBACK', 'seed'), '', 'DROP EXTENSION rolled back');
stop_load($load);
law_holds($node, 'workers go on', 'seed');
is(sqlstate($node, 'DROP EXTENSION kstream CASCADE', 'seed'), '', 'DROP EXTENSION');
ok(eventually(2, sub { worker_pids($node) == 0 }), 'workers are gone in two seconds');
is(sql($node, q(SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'kstream%'), 'seed'), '0', 'nothing is left');
is(sql($node, q(SELECT count(*) FROM pg_class WHERE relname IN ('orders', 'totals', 'large', 'overall')), 'seed'), '0', 'neither in the schema of the user');
$failed = 0;
for my $round (1 .. 10)
{
	sql($node, 'DROP SEQUENCE IF EXISTS order_id', 'seed');
	setup_queries($node, 'seed');
	produce($node, 50, 'seed') if $round % 2;
	sleep rand 0.05;
	$failed++ if sqlstate($node, 'DROP EXTENSION kstream CASCADE', 'seed') ne '';
}
is($failed, 0, 'created and dropped ten times');
ok(eventually(2, sub { worker_pids($node) == 0 }), 'no worker is left');
sql($node, 'DROP SEQUENCE IF EXISTS order_id', 'seed');
setup_queries($node, 'seed');
produce($node, 500, 'seed');
law_holds($node, 'created again, it works', 'seed');

# A version the library does not know is not run.
sql($node, q(UPDATE pg_extension SET extversion = '0.9' WHERE extname = 'kstream'), 'seed');
sql($node, q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'kstream worker'));
ok(eventually(5, sub { count_in_log($node, qr/extension kstream has version 0.9/) > 0 }), 'another version is reported');
ok(eventually(5, sub { worker_pids($node) == 0 }), 'and not run');
sql($node, q(UPDATE pg_extension SET extversion = '1.0' WHERE extname = 'kstream'), 'seed');
$node->restart;
law_holds($node, 'the right one is', 'seed');

#
# Relations
#
$load = start_load($node, 'seed');
$failed = 0;
for my $round (1 .. 15)
{
	$failed++ if sqlstate($node, q(SELECT kstream.create_table_as('shortlived', 'SELECT who, count(*) AS n FROM orders GROUP BY who')), 'seed') ne '';
	sleep rand 0.1;
	$failed++ if seconds(sub { $failed++ if sqlstate($node, 'DROP TABLE shortlived', 'seed') ne '' }) > 3;
}
is($failed, 0, 'a query is created and dropped fifteen times under load');
for my $sql ('ALTER TABLE totals RENAME TO sums', 'ALTER TABLE sums RENAME TO totals',
	'VACUUM FULL totals', 'VACUUM FULL kstream_catalog.position', 'CREATE INDEX ON large (who)',
	'REINDEX TABLE CONCURRENTLY large', 'CLUSTER totals USING totals_pkey', 'ANALYZE')
{
	my $state;
	my $took = seconds(sub { $state = sqlstate($node, $sql, 'seed') });
	ok(($state eq '' || $state eq '42704') && $took < 5, "under load: $sql") || diag("$state after $took s");
}
stop_load($load);
law_holds($node, 'all of it changed no result', 'seed');
is(sqlstate($node, 'DROP FOREIGN TABLE orders', 'seed'), '2BP01', 'a stream that is read is not dropped');
is(sqlstate($node, 'DROP FOREIGN TABLE orders CASCADE', 'seed'), '', 'but with CASCADE');
ok(eventually(5, sub { worker_pids($node) == 0 }), 'and the workers go');

# A prepared transaction that creates a query starts workers when it is committed.
sql($node, q(SELECT kstream.create_stream('s', 'id bigint', server => 'local')), 'seed');
sql($node, q(INSERT INTO s (id) SELECT generate_series(1, 100)), 'seed');
if (sqlstate($node, q(BEGIN; SELECT kstream.create_table_as('t', 'SELECT id FROM s'); PREPARE TRANSACTION 'p'), 'seed') eq '')
{
	is(scalar(worker_pids($node)), 0, 'no worker for a prepared query');
	sql($node, q(COMMIT PREPARED 'p'), 'seed');
	is(sqlstate($node, q(SELECT kstream.wait('t', '10 s')), 'seed'), '', 'it runs when committed');
	is(sql($node, 'SELECT count(*) FROM t', 'seed'), '100', 'with every record');
}

is(count_in_log($node, qr/PANIC|TRAP|signal (6|11)/), 0, 'no crash');
is(count_in_log($node, qr/continuous query .* failed/), 0, 'no query was reported as failed');
$node->stop('fast');
done_testing();
