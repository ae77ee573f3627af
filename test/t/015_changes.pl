# Changes: a follower that takes a snapshot and goes on with changes() has the
# table, whatever runs beside it; it is told when it was away for too long, and
# what it was told survives a crash.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use KstreamTest;
use IPC::Run qw(start finish);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = new_node('main', conf => "wal_writer_delay = 10s\nautovacuum = off\n");

my $scripts = 0;

# background: psql that runs a script beside the test; finish it with IPC::Run.
sub background
{
	my ($script, $out) = @_;
	my $file = $node->data_dir . '/../script.' . ++$scripts;

	open my $handle, '>', $file;
	print $handle $script;
	close $handle;
	return start([ 'psql', '-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-f', $file ],
		'<', \undef, '>', $out, '2>', $out);
}

# differences: between a table and the copy of it that a follower made.
sub differences
{
	my ($table) = @_;

	return sql($node, qq(
		SELECT count(*) FROM (
			(SELECT to_jsonb(t) FROM $table t EXCEPT ALL SELECT row FROM copy WHERE name = '$table')
			UNION ALL
			(SELECT row FROM copy WHERE name = '$table' EXCEPT ALL SELECT to_jsonb(t) FROM $table t)) d));
}

setup_queries($node);
sql($node, q(
	CREATE TABLE copy (name text, row jsonb, snapshot bigint, last bigint);
	CREATE INDEX ON copy (name, md5(row::text));
	CREATE TABLE stop_at (name text PRIMARY KEY, last bigint);
	-- takes a snapshot, then follows until stop_at says how far
	CREATE PROCEDURE follow(name text) LANGUAGE plpgsql AS $$
	DECLARE
		change record;
		at bigint;
	BEGIN
		-- one statement, one snapshot
		EXECUTE format('WITH p AS (SELECT kstream.position(%1$L) AS p), c AS (
				INSERT INTO copy (name, row) SELECT %1$L, to_jsonb(t) FROM %1$I t)
			SELECT p FROM p', name) INTO at;
		RAISE WARNING 'snapshot at %', at;
		COMMIT;
		LOOP
			FOR change IN SELECT * FROM kstream.changes(name::regclass, at, wait => '5 s', max_rows => 500) LOOP
				IF change.position <> at + 1 THEN
					RAISE EXCEPTION 'change % comes after change %', change.position, at;
				END IF;
				at := change.position;
				IF change.old IS NOT NULL THEN
					DELETE FROM copy c WHERE ctid = (SELECT min(ctid) FROM copy c
						WHERE c.name = follow.name AND md5(row::text) = md5(change.old::text) AND row = change.old);
					IF NOT FOUND THEN
						RAISE EXCEPTION 'change % deletes what is not there: %', at, change.old;
					END IF;
				END IF;
				IF change.new IS NOT NULL THEN
					INSERT INTO copy (name, row) VALUES (name, change.new);
				END IF;
			END LOOP;
			COMMIT;
			EXIT WHEN EXISTS (SELECT FROM stop_at s WHERE s.name = follow.name AND s.last <= at);
		END LOOP;
	END $$));

#
# Followers beside a load; changes are switched on while it runs.
#
my @loads = map { start_load($node) } 1 .. 2;
ok(eventually(20, sub { sql($node, 'SELECT count(*) > 3 FROM totals') eq 't' }), 'the queries run');
sql($node, "SELECT kstream.keep_changes('$_', '1 hour')") for qw(totals large overall);
my %follower;
for my $table (qw(totals large overall))
{
	$follower{$table}{out} = '';
	$follower{$table}{psql} = background("CALL follow('$table');", \$follower{$table}{out});
}
my %late = (out => '');
sleep 2;
# one that comes later, at REPEATABLE READ
$late{psql} = background(q(
	BEGIN ISOLATION LEVEL REPEATABLE READ;
	SELECT count(*) FROM totals;
	SELECT pg_sleep(0.5);
	CREATE TABLE late AS SELECT to_jsonb(t) AS row FROM totals t;
	CREATE TABLE late_position AS SELECT kstream.position('totals') AS at;
	COMMIT;), \$late{out});
sleep 3;
stop_load($_) for @loads;
sql($node, "SELECT kstream.wait()");
for my $table (sort keys %follower)
{
	sql($node, "INSERT INTO stop_at SELECT '$table', kstream.position('$table')");
	ok(finish($follower{$table}{psql}), "the follower of $table saw no gap and nothing twice")
	  or diag($follower{$table}{out});
	is(differences($table), '0', "the copy of $table is the table");
	cmp_ok(sql($node, "SELECT last FROM stop_at WHERE name = '$table'"), '>', 50, "$table has changed all the time");
}
law_holds($node, 'the queries are right');
ok(finish($late{psql}), 'a snapshot of a transaction') or diag($late{out});
is(sql($node, q(
	WITH c AS (SELECT * FROM kstream.changes('totals', (SELECT at FROM late_position), max_rows => NULL)),
		image AS (
			SELECT row, 1 AS n FROM late
			UNION ALL SELECT new, 1 FROM c WHERE new IS NOT NULL
			UNION ALL SELECT old, -1 FROM c WHERE old IS NOT NULL),
		folded AS (SELECT row, sum(n) AS n FROM image GROUP BY row HAVING sum(n) <> 0)
	SELECT count(*) FROM (
		(SELECT row, n FROM folded EXCEPT SELECT to_jsonb(t), 1 FROM totals t)
		UNION ALL
		(SELECT to_jsonb(t), 1 FROM totals t EXCEPT SELECT row, n FROM folded)) d)),
	'0', 'a snapshot of a REPEATABLE READ transaction and the changes after it are the table');
is(sql($node, q(SELECT count(*) FROM kstream.changes('totals', max_rows => NULL) WHERE event_time IS NULL)), '0',
	'changes have event times');

#
# Waiting and being told
#
my $poll = '';
my $start = time();
my $waiting = background(
	"SELECT op FROM kstream.changes('totals', kstream.position('totals'), wait => '100 s') LIMIT 1;", \$poll);
ok(eventually(10, sub { sql($node, "SELECT count(*) FROM pg_stat_activity WHERE query ~ '100 s' AND pid <> pg_backend_pid() AND wait_event IS NOT NULL") eq '1' }),
	'a reader waits');
produce($node, 1);
ok(finish($waiting), 'it is woken') or diag($poll);
is($poll, "update\n", 'and has the change');
cmp_ok(time() - $start, '<', 50, 'long before its time is up');

my ($code, $out, $err) = try_sql($node, q(
	LISTEN "kstream.public.totals";
	INSERT INTO orders (id, who, amount) VALUES (1, 'user 1', 1), (2, 'user 2', 1);
	SELECT kstream.wait();
	SELECT 'position ' || kstream.position('totals')));
my ($position) = $out =~ /position (\d+)/;
like($out, qr/Asynchronous notification "kstream.public.totals" with payload "$position" received/,
	'the channel is notified, with the position');
($code, $out, $err) = try_sql($node, q(
	SELECT kstream.keep_changes('overall', NULL);
	LISTEN "kstream.public.overall";
	INSERT INTO orders (id, who, amount) VALUES (1, 'user 1', 1);
	SELECT kstream.wait();
	SELECT 1));
unlike($out, qr/notification/, 'not where no changes are kept');

#
# What a reader was told survives a crash: no worker runs afterwards, which would
# process lost records again and give the same positions to the same changes.
# Nobody writes the log to disk by chance.
#
sub stop_wal_writer
{
	return kill 'STOP', sql($node, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'");
}

sub crash
{
	$node->stop('immediate');
	$node->append_conf('postgresql.conf', 'kstream.start_workers = off');
	$node->start;
}

# workers_again: after a crash.
sub workers_again
{
	$node->append_conf('postgresql.conf', 'kstream.start_workers = on');
	$node->restart;
}

ok(stop_wal_writer(), 'the WAL writer is stopped');
produce($node, 500);
sql($node, "SELECT kstream.wait()");
my $told = sql($node, q(SELECT max(position), md5(string_agg(c::text, ',' ORDER BY position)) FROM kstream.changes('totals', max_rows => NULL) c));
my ($last) = split /\|/, $told;
crash();
is(sql($node, qq(SELECT max(position), md5(string_agg(c::text, ',' ORDER BY position)) FROM kstream.changes('totals', max_rows => NULL) c WHERE position <= $last)),
	$told, 'changes that were told are there after a crash');
workers_again();
ok(stop_wal_writer(), 'the WAL writer is stopped');
produce($node, 500);
sql($node, "SELECT kstream.wait()");
my $snapshot = sql($node, "SELECT kstream.position('totals')");
crash();
cmp_ok(sql($node, "SELECT kstream.position('totals')"), '>=', $snapshot, 'a position that was told is there after a crash');
workers_again();
law_holds($node, 'the queries are right after it');

#
# Dump and restore
#
my $dump = $node->data_dir . '/../changes.dump';
sql($node, 'CREATE DATABASE copy');
command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-d', $node->connstr('postgres') ], 'dump');
command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('copy'), $dump ], 'restore');
my $all = q(SELECT count(*), md5(string_agg(c::text, ',' ORDER BY position)) FROM kstream.changes('totals', max_rows => NULL) c);
is(sql($node, $all, 'copy'), sql($node, $all), 'changes are dumped and restored');
sql($node, "SELECT kstream.resume('totals'); INSERT INTO orders (id, who, amount) VALUES (1, 'user 1', 1); SELECT kstream.wait('totals')", 'copy');
is(sql($node, "SELECT kstream.position('totals')", 'copy') - sql($node, "SELECT kstream.position('totals')"), 1,
	'the restored table goes on where it was');
sql($node, 'DROP TABLE totals', 'copy');
is(sql($node, "SELECT count(*) FROM pg_class WHERE relname ~ '^(chg|cseg)_' AND relkind = 'r'", 'copy'), '4',
	'the restored changelog goes with its table');
sql($node, 'DROP DATABASE copy WITH (FORCE)');

#
# Retention
#
produce($node, 100);
sql($node, "SELECT kstream.wait()");
my $before = sql($node, "SELECT kstream.position('totals')");
my $oldest = sql($node, "SELECT min(position) FROM kstream.changes('totals')");
sql($node, "SELECT kstream.keep_changes('totals', '1 s')");
ok(eventually(30, sub { sql($node, "SELECT count(*) FROM kstream.changes('totals')") eq '0' }),
	'old changes go, though nothing new comes');
is(sql($node, "SELECT kstream.position('totals')"), $before, 'the position stays');
is(sql($node, "SELECT count(*) FROM kstream.changes('totals', $before)"), '0', 'whoever is at the end has missed nothing');
is(sqlstate($node, "SELECT kstream.changes('totals', $before - 1)"), '22023', 'whoever is behind is told');
ok( eventually(
		30,
		sub {
			sql($node, "SELECT sum(pg_relation_size(store)) FROM kstream.stat_store WHERE name = 'totals' AND role = 'changes'") eq '0';
		}),
	'the halves are empty');
my $old = '';
my $old_snapshot = background(q(
	BEGIN ISOLATION LEVEL REPEATABLE READ;
	SELECT kstream.position('totals') AS at \gset
	SELECT set_config('my.at', :'at', true);
	DO $$
	BEGIN
		LOOP
			PERFORM kstream.changes('totals', current_setting('my.at')::bigint, max_rows => 1);
			PERFORM pg_sleep(0.02);
		END LOOP;
	EXCEPTION WHEN invalid_parameter_value THEN
	END $$;
	SELECT 'gone';
	SELECT kstream.position('totals');), \$old);
ok(eventually(20, sub { sql($node, "SELECT count(*) FROM pg_stat_activity WHERE query ~ 'DO' AND query ~ 'my.at' AND pid <> pg_backend_pid()") eq '1' }),
	'a transaction has a snapshot');
my $load = start_load($node);
finish($old_snapshot);
stop_load($load);
like($old, qr/gone\n.*not kept as far back/s, 'a snapshot older than what is kept has no position');
sql($node, "SELECT kstream.wait()");
is(sql($node, "SELECT count(*) FROM kstream.changes('totals', kstream.position('totals'))"), '0', 'a new one has');
law_holds($node, 'the queries are right to the end');
is(count_in_log($node, 'PANIC|TRAP|missing in relation'), 0, 'nothing in the log');
$node->stop;
done_testing();
