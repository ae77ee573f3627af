
# 140_dump_restore.pl: a dump holds definitions, states and positions of one
# moment; restored or copied queries do nothing until they are told to, and then
# go on where the dump was made.

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use KafkaTest;

plan skip_all => 'KAFKA_BOOTSTRAP names no broker' unless bootstrap();

my $node = new_node('first');
my $other = new_node('second');
my $events = create_topic('events', 2);
my $names = create_topic('names', 1);
my $producer = KafkaTest::Producer->new;
my @queries = qw(names appended counts kept local_counts);
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';

# Runs a program; its messages.
sub program
{
	my (@command) = @_;
	my ($out, $err) = ('', '');
	my $ok = IPC::Run::run(\@command, '<', \undef, '>', \$out, '2>', \$err);

	ok($ok, "$command[0] succeeds") or diag($err);
	return $err;
}

create_db($node, 'source');
$node->safe_psql(
	'source', qq{
	CREATE SCHEMA app;
	SELECT kstream.create_stream('app.events', 'id bigint, k text, v int CHECK (v <> 7)', topic => '$events');
	SELECT kstream.create_table('names', 'k text PRIMARY KEY, id bigint, v int', topic => '$names');
	SELECT kstream.create_table_as('app.appended', 'SELECT _partition AS p, _offset AS o, v FROM app.events');
	SELECT kstream.create_table_as('app.counts', 'SELECT e.k, count(*) AS c, sum(e.v) AS s, avg(e.v) AS a FROM app.events e GROUP BY e.k HAVING count(*) > 1');
	SELECT kstream.create_table_as('kept', 'SELECT k, count(DISTINCT v) AS d, string_agg(v::text, \$\$,\$\$ ORDER BY v) AS all_v FROM app.events GROUP BY k');
	SELECT kstream.create_stream('clicks', 'k text, n int', server => 'local');
	SELECT kstream.create_table_as('local_counts', 'SELECT k, sum(n) AS s FROM clicks GROUP BY k');
	INSERT INTO clicks VALUES ('a', 1), ('b', 2), ('a', 3)});

# Sends events with numbers from .. to.
sub fill
{
	my ($from, $to) = @_;

	for my $i ($from .. $to)
	{
		$producer->send($events, 'k' . $i % 13, sprintf('{"id": %d, "k": "k%d", "v": %d}', $i, $i % 13, $i % 40), partition => $i % 2);
		$producer->send($names, 'k' . $i % 17, sprintf('{"id": %d, "v": %d}', $i, $i));
	}
	$producer->flush;
}

fill(1, 300);
$node->safe_psql('source', "SELECT kstream.wait(timeout => '1 min')");

# The tables, in one row.
sub tables
{
	my ($where, $db) = @_;

	return $where->safe_psql(
		$db, q{
		SELECT (SELECT md5(string_agg(t::text, ';' ORDER BY k)) FROM names t),
			(SELECT md5(string_agg(t::text, ';' ORDER BY p, o)) FROM app.appended t),
			(SELECT md5(string_agg(t::text, ';' ORDER BY k)) FROM app.counts t),
			(SELECT md5(string_agg(t::text, ';' ORDER BY k)) FROM kept t),
			(SELECT string_agg(t::text, ';' ORDER BY k) FROM local_counts t),
			(SELECT string_agg(format('%s.%s', partition, "offset"), ' ' ORDER BY query, partition, "offset") FROM kstream.dead_letters)});
}

# Positions by query, partition.
sub positions
{
	my ($where, $db) = @_;

	return $where->safe_psql($db,
		q{SELECT string_agg(format('%s %s %s', query, partition, position), '; ' ORDER BY query, partition) FROM kstream.stat_partition});
}

my $at_dump = tables($node, 'source');
my $positions_at_dump = positions($node, 'source');
isnt($positions_at_dump, '', 'there are positions');
program('pg_dump', '-Fp', '-f', "$dump.sql", '-d', $node->connstr('source'));
program('pg_dump', '-Fc', '-f', "$dump.fc", '-d', $node->connstr('source'));

# life goes on at the source
fill(301, 500);
$node->safe_psql('source', "INSERT INTO clicks VALUES ('a', 10), ('c', 5); SELECT kstream.wait(timeout => '1 min')");
my $at_end = tables($node, 'source');

# A restored or copied database: nothing runs, then everything is let go on.
sub check_copy
{
	my ($where, $db, $what, $wanted_before, $wanted_positions, $wanted_after) = @_;
	my $count = @queries;

	sleep 1;
	is($where->safe_psql($db, "SELECT count(*) FROM kstream.queries WHERE state = 'blocked'"), $count, "$what: all queries are blocked");
	is(tables($where, $db), $wanted_before, "$what: the tables are those of the dump");
	is(positions($where, $db), $wanted_positions, "$what: so are the positions");
	like(sql_error($where, $db, "SELECT kstream.wait('names')"), qr/^KS002/, "$what: wait says that nothing will come");
	like(sql_error($where, $db, 'INSERT INTO names VALUES ($$x$$, 1, 1)'), qr/^42809/, "$what: the tables are protected");
	$where->safe_psql($db, "INSERT INTO clicks VALUES ('a', 10), ('c', 5)") if $wanted_before ne $wanted_after;
	is(sql_error($where, $db, "SELECT kstream.resume(name) FROM kstream.queries"), '', "$what: resume");
	is(sql_error($where, $db, "SELECT kstream.wait(timeout => '1 min')"), '', "$what: the queries catch up");
	is(tables($where, $db), $wanted_after, "$what: and come to the same result");
	is($where->safe_psql($db, 'SELECT count(*) FROM (SELECT FROM app.appended GROUP BY p, o HAVING count(*) > 1) d'), '0', "$what: no record twice");
}

# --- into another cluster, as SQL ---------------------------------------------------

$other->safe_psql('postgres', 'CREATE DATABASE restored');
{
	my $messages = program('psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', "$dump.sql", '-d', $other->connstr('restored'));

	like($messages, qr/NOTICE:.*paused/, 'the restore says that queries are paused');
	like($messages, qr/HINT:.*kstream\.resume/, 'and how to go on');
	check_copy($other, 'restored', 'restore into another cluster', $at_dump, $positions_at_dump, $at_end);
}

# the parts of a restored query go with it, as those of an original one do
is(sql_error($other, 'restored', 'DROP TABLE app.counts'), '', 'a restored query is dropped with its table');
is($other->safe_psql('restored', "SELECT count(*) FROM pg_class WHERE relnamespace IN ('kstream_query'::regnamespace, 'kstream_state'::regnamespace) AND relkind IN ('r', 'v', 'f')")
	  - $node->safe_psql('source', "SELECT count(*) FROM pg_class WHERE relnamespace IN ('kstream_query'::regnamespace, 'kstream_state'::regnamespace) AND relkind IN ('r', 'v', 'f')"),
	-2, 'view and state are gone with it');
is(sql_error($other, 'restored', "SELECT kstream.create_table_as('another', 'SELECT count(*) AS c FROM app.events')"), '', 'new queries can be created beside restored ones');
is(query_until($other, 'restored', 'SELECT c FROM another', qr/^4\d\d$/, 20) > 0, 1, 'and run');

# --- into the same cluster, with pg_restore -------------------------------------------

$node->safe_psql('postgres', 'CREATE DATABASE restored');
program('pg_restore', '-d', $node->connstr('restored'), '--exit-on-error', "$dump.fc");
check_copy($node, 'restored', 'pg_restore into another database', $at_dump, $positions_at_dump, $at_end);

# --- a copy of the database -------------------------------------------------------------

{
	my $from = time();

	is(sql_error($node, 'postgres', 'CREATE DATABASE copied TEMPLATE source'), '', 'a database with running queries can be copied');
	note sprintf('copied in %.1f s', time() - $from);
	check_copy($node, 'copied', 'CREATE DATABASE TEMPLATE', $at_end, positions($node, 'source'), $at_end);
}

# the source goes on all the time
fill(501, 600);
is(sql_error($node, 'source', "SELECT kstream.wait(timeout => '1 min')"), '', 'the source goes on');
$node->safe_psql('restored', "SELECT kstream.wait(timeout => '1 min')");
$node->safe_psql('copied', "SELECT kstream.wait(timeout => '1 min')");
is(tables($node, 'restored'), tables($node, 'source'), 'the restored database stays equal to it');
is(tables($node, 'copied'), tables($node, 'source'), 'and so does the copy');

is(sql_error($node, 'postgres', "DROP DATABASE $_"), '', "$_ can be dropped while its queries run") foreach qw(copied restored);
is(unexpected_log_lines($_), '', 'nothing odd in the log') foreach ($node, $other);
$node->stop;
$other->stop;
done_testing();
