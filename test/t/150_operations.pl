
# 150_operations.pl: what an operator does and sees: wait, pause, resume, reset,
# the views, workers shared by queries and kept apart by databases, an idle
# worker that costs nothing, DROP with what depends.

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use KafkaTest;

plan skip_all => 'KAFKA_BOOTSTRAP names no broker' unless bootstrap();

my $node = new_node('ops', 'kstream.max_workers = 2');
my $db = 'ops';
my $events = create_topic('events', 2);
my $names = create_topic('names', 1);
my $producer = KafkaTest::Producer->new;
my $sent = 0;

create_db($node, $db);

# What a query returns.
sub value
{
	return $node->safe_psql($_[1] || $db, $_[0]);
}

# Sends so many events; keys k0 .. k4, v 1.
sub fill
{
	my ($count) = @_;

	for (1 .. $count)
	{
		$producer->send($events, 'k' . $sent % 5, sprintf('{"k": "k%d", "v": %d}', $sent % 5, 1), partition => $sent % 2);
		$sent++;
	}
	$producer->flush;
}

$producer->send($names, "k$_", qq({"name": "name $_"})) for (0 .. 4);
value("SELECT kstream.create_stream('events', 'k text, v int', topic => '$events')");
value("SELECT kstream.create_table('names', 'k text PRIMARY KEY, name text', topic => '$names')");
value("SELECT kstream.create_table_as('appended', 'SELECT k, v, _offset AS o, _partition AS p FROM events')");
value("SELECT kstream.create_table_as('counts', 'SELECT k, count(*) AS c, sum(v) AS s FROM events GROUP BY k')");
value("SELECT kstream.create_table_as('named', 'SELECT n.name, count(*) AS c FROM events JOIN names n USING (k) GROUP BY n.name')");

# --- wait ----------------------------------------------------------------------

for (1 .. 5)
{
	fill(20);
	value("SELECT kstream.wait('counts', '30 s')");
	is(value('SELECT sum(c) FROM counts'), $sent, 'wait: what was produced before is in the table');
}
value("SELECT kstream.wait(timeout => '30 s')");
is(value('SELECT (SELECT count(*) FROM appended), (SELECT sum(c) FROM named)'), "$sent|$sent", 'wait for everything');
like(sql_error($node, $db, "SELECT kstream.wait('pg_class')"), qr/^42809/, 'a table that is none of ours cannot be waited for');
like(sql_error($node, $db, "SELECT kstream.wait('nothing')"), qr/^42P01/, 'nor what does not exist');

# a query that is held up
{
	my $from = time();

	value("SELECT kstream.pause('counts')");
	like(sql_error($node, $db, "SELECT kstream.wait('counts', '30 s')"), qr/^KS002/, 'wait for a paused query fails');
	cmp_ok(time() - $from, '<', 10, 'at once');
	value("SELECT kstream.resume('counts')");
	my $lock = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr($db), '-c', 'BEGIN; LOCK counts IN EXCLUSIVE MODE; SELECT pg_sleep(4)' ],
		'<', \undef, '>', \my $out, '2>', \my $err);
	wait_for(5, sub { value("SELECT count(*) FROM pg_locks WHERE relation = 'counts'::regclass AND mode = 'ExclusiveLock' AND granted") });
	fill(10);
	like(sql_error($node, $db, "SELECT kstream.wait('counts', '500 ms')"), qr/^KS001/, 'wait times out');
	is(sql_error($node, $db, "SELECT kstream.wait('appended', '30 s')"), '', 'another query is not held up by a lock on a table');
	$lock->finish;
	is(sql_error($node, $db, "SELECT kstream.wait('counts', '30 s')"), '', 'the query goes on when the lock is gone');
	is(value('SELECT sum(c) FROM counts'), $sent, 'and has lost nothing');
}

# --- pause, resume, reset ---------------------------------------------------------

value("SELECT kstream.pause('counts')");
wait_for(10, sub { value("SELECT worker_pid IS NULL OR state = 'paused' FROM kstream.queries WHERE name = 'counts'") eq 't' });
fill(30);
value("SELECT kstream.wait('appended', '30 s')");
is(value("SELECT state FROM kstream.queries WHERE name = 'counts'"), 'paused', 'paused');
is(value('SELECT sum(c) FROM counts'), $sent - 30, 'a paused query does nothing');
value("SELECT kstream.resume('counts'); SELECT kstream.wait('counts', '30 s')");
is(value('SELECT sum(c) FROM counts'), $sent, 'resumed, it goes on where it was');
$node->safe_psql($db, "BEGIN; SELECT kstream.pause('counts'); ROLLBACK");
fill(5);
is(sql_error($node, $db, "SELECT kstream.wait('counts', '30 s')"), '', 'a pause that is rolled back never was');
foreach my $table (qw(counts appended named names))
{
	my $columns = $table eq 'appended' ? 'k, v, o, p' : '*';
	my $before = value("SELECT md5(string_agg(t::text, ';' ORDER BY t::text)) FROM $table t");

	value("SELECT kstream.reset('$table')");
	is(sql_error($node, $db, "SELECT kstream.wait('$table', '30 s')"), '', "reset of $table");
	is(value("SELECT md5(string_agg(t::text, ';' ORDER BY t::text)) FROM $table t"), $before, "it comes to the same result");
}
value("SELECT kstream.reset('appended', 'latest')");
fill(4);
value("SELECT kstream.wait('appended', '30 s')");
is(value('SELECT count(*) FROM appended'), '4', 'reset to the end');

# --- views -------------------------------------------------------------------------

is(value("SELECT name, server, topic, format FROM kstream.streams"), "events|kafka|$events|json", 'streams');
is(value("SELECT string_agg(name || ' ' || kind, ', ' ORDER BY name) FROM kstream.tables"),
	'appended append, counts aggregate, named aggregate, names table', 'tables');
is(query_until($node, $db, "SELECT count(*) FROM kstream.queries WHERE state IN ('running', 'waiting') AND last_error IS NULL AND owner::text = current_user AND restarts >= 0", '4', 10),
	'4', 'queries');
like(value("SELECT definition FROM kstream.queries WHERE name = 'counts'"), qr/GROUP BY/, 'with their definition');
is(value("SELECT records_in, dead, late FROM kstream.stat_query WHERE name = 'counts'"), "$sent|0|0", 'stat_query: exact counters');
is(value("SELECT batches > 0 AND rows_per_batch > 0 AND commit_p50_ms > 0 AND commit_p99_ms >= commit_p50_ms AND e2e_p99_ms >= e2e_p50_ms FROM kstream.stat_query WHERE name = 'counts'"),
	't', 'stat_query: batches and latencies');
is( query_until($node, $db,
		"SELECT count(*), sum(position), sum(lag), count(*) FILTER (WHERE position = end_offset) FROM kstream.stat_partition WHERE query = 'counts'", "2|$sent|0|2", 10),
	"2|$sent|0|2", 'stat_partition');
cmp_ok(value("SELECT count(*) FROM kstream.stat_store WHERE bytes > 0"), '>=', 4, 'stat_store');
like(value("SELECT kstream.explain('named')"), qr/names/, 'explain');
like(value("SELECT kstream.topology()"), qr/counts/, 'topology');
like(value("SELECT kstream.topology('named', 'mermaid')"), qr/named/, 'topology as mermaid');
value('CREATE ROLE nobody; CREATE ROLE watcher IN ROLE pg_monitor; GRANT SELECT ON counts TO nobody');
is(value('SET ROLE nobody; SELECT count(*) FROM kstream.queries'), '0', 'others see nothing');
is(value('SET ROLE watcher; SELECT count(*) FROM kstream.queries'), '4', 'pg_monitor sees all');
is(sql_error($node, $db, "SET ROLE nobody; SELECT kstream.wait('counts', '30 s')"), '', 'who may read a table may wait for it');
like(sql_error($node, $db, "SET ROLE nobody; SELECT kstream.pause('counts')"), qr/^42501/, 'but may not stop it');

# --- workers ---------------------------------------------------------------------------

cmp_ok(scalar(worker_pids($node, $db)), '<=', 2, 'no more workers than max_workers');
is(value("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'kstream launcher'"), '1', 'one launcher');
create_db($node, 'ops2');
value("SELECT kstream.create_stream('events', 'k text, v int', topic => '$events')", 'ops2');
value("SELECT kstream.create_table_as('counts', 'SELECT k, count(*) AS c FROM events GROUP BY k')", 'ops2');
is(sql_error($node, 'ops2', "SELECT kstream.wait('counts', '30 s')"), '', 'a second database has workers of its own');
is(value('SELECT sum(c) FROM counts', 'ops2'), $sent, 'and counts the same');
is(scalar(worker_pids($node, 'ops2')), 1, 'as many as it needs');
is(value("SELECT count(*) FROM kstream.queries", 'ops2'), '1', 'it sees only its own queries');
value("SELECT kstream.pause('counts')", 'ops2');
fill(10);
is(sql_error($node, $db, "SELECT kstream.wait('counts', '30 s')"), '', 'a pause there does not matter here');

# idle
{
	my (%cpu, $percent);

	wait_for(10, sub { worker_pids($node, $db) == 2 });
	value("SELECT kstream.wait(timeout => '30 s')");
	sleep 2;
	$cpu{$_} = cpu_seconds($_) foreach worker_pids($node, $db);
	my $from = time();
	sleep 8;
	$percent = 0;
	$percent += 100 * (cpu_seconds($_) - $cpu{$_}) / (time() - $from) foreach keys %cpu;
	note sprintf('%d idle workers with 4 queries use %.2f %% of a processor', scalar(keys %cpu), $percent);
	cmp_ok($percent, '<', 5, 'idle workers use next to no processor time');
	is( value("SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'kstream%' AND (backend_xmin IS NOT NULL OR xact_start IS NOT NULL)"),
		'0', 'and hold no snapshot');
}

# --- DROP ------------------------------------------------------------------------------

like(sql_error($node, $db, 'DROP FOREIGN TABLE events'), qr/^2BP01/, 'a stream that queries read cannot be dropped');
like(sql_error($node, $db, 'DROP TABLE names'), qr/^2BP01/, 'nor a table that they look up');
like(sql_error($node, $db, 'ALTER FOREIGN TABLE events DROP COLUMN v'), qr/^2BP01/, 'nor a column that they read');
$node->safe_psql($db, 'BEGIN; DROP TABLE counts; ROLLBACK');
fill(6);
is(sql_error($node, $db, "SELECT kstream.wait('counts', '30 s')"), '', 'a DROP that is rolled back never was');
is(value('SELECT sum(c) FROM counts'), $sent, 'and nothing is lost');
is(sql_error($node, $db, 'DROP TABLE counts'), '', 'a table is dropped while its query runs');
is(value("SELECT count(*) FROM kstream.queries WHERE name = 'counts'"), '0', 'its query is gone');
is(sql_error($node, $db, 'ALTER TABLE appended RENAME TO renamed; CREATE SCHEMA s; ALTER TABLE renamed SET SCHEMA s'), '', 'a table can be renamed and moved');
fill(3);
is(sql_error($node, $db, "SELECT kstream.wait('s.renamed', '30 s')"), '', 'and is kept up to date');
is(value('SELECT count(*) FROM s.renamed'), $sent - ($sent - 4 - 10 - 6 - 3), 'without loss');
is(sql_error($node, $db, 'DROP FOREIGN TABLE events CASCADE'), '', 'a stream is dropped with its queries');
is(value('SELECT string_agg(name, $$ $$) FROM kstream.queries'), 'names', 'which leaves the others');
is(sql_error($node, $db, 'DROP TABLE names'), '', 'the last one is dropped');
is( value(
		q{SELECT (SELECT count(*) FROM pg_class WHERE relnamespace IN ('kstream_query'::regnamespace, 'kstream_state'::regnamespace)),
			(SELECT count(*) FROM kstream_catalog.query), (SELECT count(*) FROM kstream_catalog.position), (SELECT count(*) FROM kstream_catalog.dead_letter)}),
	'0|0|0|0', 'nothing of them is left');
ok(wait_for(20, sub { worker_pids($node, $db) == 0 }), 'workers leave when there is nothing to do');
is(sql_error($node, 'ops2', 'DROP EXTENSION kstream CASCADE'), '', 'the extension is dropped');
ok(wait_for(20, sub { worker_pids($node) == 0 }), 'no worker is left');
is(sql_error($node, 'postgres', 'DROP DATABASE ops2; '), '', 'databases can be dropped');
is(sql_error($node, 'postgres', 'DROP DATABASE ops'), '', 'at once');
is(scalar(topic_rows($events)), $sent, 'topics stay');

is(unexpected_log_lines($node), '', 'nothing odd in the log');
$node->stop;
done_testing();
