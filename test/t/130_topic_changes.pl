
# 130_topic_changes.pl: what may happen to a topic behind the back of a query: it
# is deleted, created again, filled beyond the old position, cut off by
# retention, given more partitions; the server option leads to another cluster.
# Each is reported, nothing is silently passed over, kstream.reset recovers.

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use KafkaTest;

plan skip_all => 'KAFKA_BOOTSTRAP names no broker' unless bootstrap();

my $node = new_node('topics');
my $db = 'topics';

create_db($node, $db);

# Sends records {"n": $from} .. {"n": $to} to one partition, by a new client: one
# that has seen the topic deleted may remember that.
sub fill
{
	my ($topic, $from, $to, $partition, $server) = @_;
	my $producer = KafkaTest::Producer->new($server);

	$producer->send($topic, "k$_", qq({"n": $_}), partition => $partition || 0) for ($from .. $to);
	$producer->flush;
}

# A stream over a topic, and a table that holds its records.
sub make_query
{
	my ($name, $topic, $server) = @_;

	$server = $server ? ", server => '$server'" : '';
	$node->safe_psql($db, "SELECT kstream.create_stream('${name}_s', 'n int', topic => '$topic'$server)");
	$node->safe_psql($db, "SELECT kstream.create_table_as('$name', 'SELECT _partition AS p, _offset AS o, n FROM ${name}_s')");
	$node->safe_psql($db, "SELECT kstream.wait('$name', '30 s')");
}

# What a query returns.
sub value
{
	return $node->safe_psql($db, $_[0]);
}

# The query must be reported as failed, with a message that matches.
sub is_reported
{
	my ($name, $like, $what, $seconds) = @_;
	my $from = time();
	my $found = query_until($node, $db, "SELECT state || ': ' || last_error FROM kstream.queries WHERE name = '$name'",
		qr/^failed: .*(?:$like)/, $seconds || 40);

	like($found, qr/^failed: .*(?:$like)/, $what);
	note sprintf('reported after %.1f s: %s', time() - $from, $found);
	like(sql_error($node, $db, "SELECT kstream.wait('$name', '30 s')"), qr/^KS002/, "$what: wait fails at once");
}

# The table is as it was.
sub is_kept
{
	my ($name, $wanted, $what) = @_;

	is(value("SELECT count(*), sum(n) FROM $name"), $wanted, "$what: the table is as it was");
}

# After a reset everything is read that is there now.
sub is_recovered
{
	my ($name, $wanted, $what) = @_;

	value("SELECT kstream.reset('$name')");
	is(query_until($node, $db, "SELECT count(*), sum(n) FROM $name", $wanted, 40), $wanted, "$what: reset builds the table anew");
	is(sql_error($node, $db, "SELECT kstream.wait('$name', '30 s')"), '', "$what: wait works again");
	is(value("SELECT state IN ('running', 'waiting') AND last_error IS NULL FROM kstream.queries WHERE name = '$name'"), 't', "$what: the error is gone");
}

# Deletes a topic and creates it anew.
sub create_again
{
	my ($topic, $partitions) = @_;

	kafkactl('delete', $topic);
	kafkactl('create', $topic, $partitions);
}

# --- deleted, and there again empty ------------------------------------------

my $deleted = create_topic('deleted', 1);
fill($deleted, 1, 10);
make_query('deleted', $deleted);
kafkactl('delete', $deleted);
is_reported('deleted', 'does not exist', 'topic deleted', 40);
is_kept('deleted', '10|55', 'topic deleted');
kafkactl('create', $deleted, 1);
is_reported('deleted', 'truncated|replaced|not in the topic', 'topic created again, empty', 90);
is_kept('deleted', '10|55', 'topic created again, empty');
fill($deleted, 1, 3);
is_recovered('deleted', '3|6', 'topic created again');

# --- replaced while the query does not run -------------------------------------

my $replaced = create_topic('replaced', 1);
my $shorter = create_topic('shorter', 1);
my $gone = create_topic('gone', 1);
fill($_, 1, 10) foreach ($replaced, $shorter, $gone);
make_query('replaced', $replaced);
make_query('shorter', $shorter);
make_query('gone', $gone);
value("SELECT kstream.pause('$_')") foreach qw(replaced shorter gone);
create_again($replaced, 1);
fill($replaced, 101, 130);
create_again($shorter, 1);
fill($shorter, 101, 104);
fill($gone, 11, 30);
kafkactl('delete-records', $gone, 0, 20);
value("SELECT kstream.resume('$_')") foreach qw(replaced shorter gone);
is_reported('replaced', 'replaced', 'topic created again and filled beyond the position');
is_kept('replaced', '10|55', 'topic replaced');
is_recovered('replaced', '30|3465', 'topic replaced');
is_reported('shorter', 'truncated or replaced', 'topic created again and filled less');
is_kept('shorter', '10|55', 'topic cut off');
is_recovered('shorter', '4|410', 'topic cut off');
is_reported('gone', 'removed before they were read', 'retention has overtaken the query');
is_kept('gone', '10|55', 'retention');
is_recovered('gone', '10|255', 'retention');

# --- the same while the query runs ----------------------------------------------

my $live = create_topic('live', 1);
fill($live, 1, 10);
make_query('live', $live);
create_again($live, 1);
fill($live, 101, 150);
is_reported('live', 'replaced|truncated|not in the topic|does not exist', 'topic replaced under a running query', 30);
is_kept('live', '10|55', 'topic replaced under a running query');
# the state may first be that there is no topic; the end must be that it is another one
is_reported('live', 'replaced|truncated|not in the topic', 'topic replaced under a running query', 30);
is_kept('live', '10|55', 'topic replaced under a running query, at the end');
is_recovered('live', '50|6275', 'topic replaced under a running query');

my $cut = create_topic('cut', 1);
fill($cut, 1, 10);
make_query('cut', $cut);
kafkactl('delete-records', $cut, 0, 10);
fill($cut, 11, 20);
is(query_until($node, $db, 'SELECT count(*), sum(n) FROM cut', '20|210', 20), '20|210', 'removal of what was read already does no harm');
value("SELECT kstream.pause('cut')");
kafkactl('delete-records', $cut, 0, 20);
value("SELECT kstream.resume('cut')");
fill($cut, 21, 25);
is(query_until($node, $db, 'SELECT count(*), sum(n) FROM cut', '25|325', 30), '25|325', 'also when the query opens the topic again');

# --- more partitions --------------------------------------------------------------

my $grown = create_topic('grown', 2);
make_query('grown', $grown);
value("SELECT kstream.create_table_as('grown_latest', 'SELECT n FROM grown_s', start => 'latest')");
my $load = start_load($grown, partitions => 2, rate => 200, keys => 20);
sleep 1;
kafkactl('partitions', $grown, 4);
{
	my $from = time();

	fill($grown, 1001, 1010, 3);
	fill($grown, 2001, 2010, 2);
	is(query_until($node, $db, 'SELECT count(*), sum(n), min(o) FROM grown WHERE p >= 2', '20|30110|0', 40), '20|30110|0',
		'records of new partitions are read from the beginning');
	cmp_ok(time() - $from, '<', 30, 'they are noticed within 30 s');
	note sprintf('new partitions noticed after %.1f s', time() - $from);
	is(query_until($node, $db, 'SELECT count(*), sum(n) FROM grown_latest WHERE n IS NOT NULL', '20|30110', 40), '20|30110',
		'also where the query starts at the end');
}
stop_load($load);
is(sql_error($node, $db, "SELECT kstream.wait('grown', '30 s')"), '', 'wait works with them');
is(value('SELECT count(*) FROM grown'), scalar(my @all = topic_rows($grown)), 'no record is missing, none is there twice');

# --- another cluster ----------------------------------------------------------------

SKIP:
{
	my $other = eval { KafkaTest::Broker->new };

	skip 'no second broker', 6 unless $other;
	my $topic = create_topic('moved', 1);

	create_topic('moved', 1, name => $topic, bootstrap => $other->bootstrap);
	fill($topic, 1, 10);
	fill($topic, 101, 130, 0, $other->bootstrap);
	value("CREATE SERVER moving FOREIGN DATA WRAPPER kstream OPTIONS (bootstrap_servers '" . bootstrap() . "')");
	make_query('moved', $topic, 'moving');
	value("ALTER SERVER moving OPTIONS (SET bootstrap_servers '" . $other->bootstrap . "')");
	is_reported('moved', 'replaced', 'server leads to another cluster');
	is_kept('moved', '10|55', 'another cluster');
	is_recovered('moved', '30|3465', 'another cluster');
	$node->safe_psql($db, 'DROP FOREIGN TABLE moved_s CASCADE; DROP SERVER moving');
	$other->run('destroy');
}

# --- a KTable -----------------------------------------------------------------------

my $table = create_topic('ktable', 1);
fill($table, 1, 5);
value("SELECT kstream.create_table('kt', 'k text PRIMARY KEY, n int', topic => '$table')");
value("SELECT kstream.wait('kt', '30 s')");
value("SELECT kstream.pause('kt')");
create_again($table, 1);
fill($table, 3, 9);
value("SELECT kstream.resume('kt')");
is_reported('kt', 'replaced', 'topic of a table replaced');
is_kept('kt', '5|15', 'topic of a table replaced');
is_recovered('kt', '7|42', 'topic of a table replaced');

is(unexpected_log_lines($node), '', 'nothing odd in the log');
$node->stop;
done_testing();
