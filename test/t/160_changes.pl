# 160_changes.pl: changes of tables that follow a topic: upserts, tombstones,
# versions, composite keys, folded batches; a follower beside a producer.

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use KafkaTest;

plan skip_all => 'KAFKA_BOOTSTRAP names no broker' unless bootstrap();

my $node = new_node('changes');
my $db = 'changes';
my $producer = KafkaTest::Producer->new;
my $topic;

create_db($node, $db);

# The rows a query returns.
sub rows
{
	return $node->safe_psql($db, $_[0]);
}

# --- one change after the other ----------------------------------------------

$topic = create_topic('users', 1);
rows("SELECT kstream.create_table('users', 'id int PRIMARY KEY, name text NOT NULL', topic => '$topic');
	SELECT kstream.keep_changes('users', '1 hour')");

# Produces and waits until the table has it.
sub send_and_wait
{
	my ($table, @records) = @_;

	$producer->send($topic, $_->[0], $_->[1], timestamp => $_->[2]) for @records;
	$producer->flush;
	rows("SELECT kstream.wait('$table', '30 s')");
}

send_and_wait('users', [ 1, '{"name": "ann"}', 1700000000000 ]);
send_and_wait('users', [ 1, '{"name": "anna"}', 1700000001000 ]);
send_and_wait('users', [ 1, '{"name": "anna"}', 1700000002000 ]);
send_and_wait('users', [ 2, undef, 1700000003000 ]);
send_and_wait('users', [ 1, undef, 1700000004000 ]);
is( rows('SELECT position, op, key, old, new, extract(epoch FROM event_time)::bigint FROM kstream.changes(\'users\')'),
	'1|insert|{"id": 1}||{"id": 1, "name": "ann"}|1700000000' . "\n"
	  . '2|update|{"id": 1}|{"id": 1, "name": "ann"}|{"id": 1, "name": "anna"}|1700000001' . "\n"
	  . '3|delete|{"id": 1}|{"id": 1, "name": "anna"}||1700000004',
	'upsert, change, tombstone; what changes nothing is no change');

$topic = create_topic('composite', 1);
rows("SELECT kstream.create_global_table('composite', 'a text, b int, v int, ver int, PRIMARY KEY (a, b)', topic => '$topic', version_column => 'ver');
	SELECT kstream.keep_changes('composite', '1 hour')");
send_and_wait('composite', [ '{"a":"x","b":1}', '{"v": 1, "ver": 5}', 1700000000000 ]);
send_and_wait('composite', [ '{"a":"x","b":1}', '{"v": 2, "ver": 4}', 1700000000000 ]);
send_and_wait('composite', [ '{"a":"x","b":1}', '{"v": 3, "ver": 6}', 1700000000000 ]);
is( rows('SELECT position, op, key, new FROM kstream.changes(\'composite\')'),
	'1|insert|{"a": "x", "b": 1}|{"a": "x", "b": 1, "v": 1, "ver": 5}' . "\n"
	  . '2|update|{"a": "x", "b": 1}|{"a": "x", "b": 1, "v": 3, "ver": 6}',
	'composite keys; an older version is no change');

# --- beside a producer -------------------------------------------------------

$topic = create_topic('busy', 2);
rows("SELECT kstream.create_table('busy', 'id int PRIMARY KEY, v int', topic => '$topic');
	SELECT kstream.keep_changes('busy', '1 hour')");
$producer->send($topic, $_ % 50, "{\"v\": $_}") for 1 .. 200;
$producer->flush;
rows("SELECT kstream.wait('busy', '30 s');
	CREATE TABLE snapshot AS SELECT id, v, kstream.position('busy') AS at FROM busy");
for my $round (1 .. 30)
{
	$producer->send($topic, ($_ * $round) % 60, ($_ + $round) % 7 == 0 ? undef : "{\"v\": $round}") for 1 .. 100;
	$producer->flush;
}
rows("SELECT kstream.wait('busy', '30 s')");
is( rows(q(
	WITH c AS (SELECT DISTINCT ON (key) key, new FROM kstream.changes('busy', (SELECT max(at) FROM snapshot)) ORDER BY key, position DESC),
		followed AS (
			SELECT to_jsonb(s) - 'at' AS row FROM snapshot s WHERE jsonb_build_object('id', id) NOT IN (SELECT key FROM c)
			UNION ALL SELECT new FROM c WHERE new IS NOT NULL)
	SELECT count(*) FROM (
		(SELECT row FROM followed EXCEPT ALL SELECT to_jsonb(b) FROM busy b)
		UNION ALL
		(SELECT to_jsonb(b) FROM busy b EXCEPT ALL SELECT row FROM followed)) d)),
	'0', 'the last change of each key since a snapshot gives the table');
cmp_ok(rows("SELECT count(*) FROM kstream.changes('busy') WHERE op = 'delete'"), '>', 0, 'with deletes among them');
is(rows("SELECT count(*) = max(position) FROM kstream.changes('busy')"), 't', 'positions are dense');

$node->stop;
done_testing();
