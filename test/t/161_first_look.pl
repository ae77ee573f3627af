# 161_first_look.pl: what a query does with topics when it is opened: a step waits
# until it knows where they end, and a topic that is missing is waited for.

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;
use KafkaTest;

plan skip_all => 'KAFKA_BOOTSTRAP names no broker' unless bootstrap();

my $node = new_node('first_look', 'kstream.max_workers = 2');
my $db = 'first_look';
my $producer = KafkaTest::Producer->new;

create_db($node, $db);

# What a query returns.
sub value
{
	return $node->safe_psql($db, $_[0]);
}

# --- steps ------------------------------------------------------------------------

my $topic = create_topic('steps', 3);
$producer->send($topic, "k$_", qq({"id": $_}), partition => $_ % 2) for 1 .. 5;
$producer->flush;
value(qq(SELECT kstream.create_stream('steps', 'id int', topic => '$topic')));
value(q(SELECT kstream.create_table_as('stepped', 'SELECT id FROM steps', paused => true)));
my $steps = 0;
$steps++ while $steps < 20 && value(q(SELECT kstream.step('stepped', 2))) > 0;
is(value('SELECT count(*) FROM stepped'), '5', 'stepping until 0 comes reads everything');
cmp_ok($steps, '<=', 5, 'in few steps');
is(value(q(SELECT kstream.step('stepped'))), '0', 'nothing is left');
$producer->send($topic, 'k6', '{"id": 6}', partition => 2);
$producer->flush;
is(value(q(SELECT kstream.step('stepped'))), '1', 'a step sees what has come');

# --- a table whose topic is missing -----------------------------------------------------

my $missing = topic_name('missing');
value(qq(SELECT kstream.create_table('names', 'id int PRIMARY KEY, name text', topic => '$missing')));
value(q(SELECT kstream.create_table_as('named', 'SELECT s.id, n.name FROM steps s LEFT JOIN names n USING (id)')));
like(query_until($node, $db, q(SELECT state || ': ' || detail FROM kstream.queries WHERE name = 'named'), qr/loaded: names/, 30),
	qr/^waiting: waiting for the tables it looks up to be loaded: names, whose topic "missing_\w+" does not exist$/, 'a query waits for a table whose topic is missing, and says so');
is(value('SELECT count(*) FROM named'), '0', 'it has read nothing');
create_topic('missing', 1, name => $missing);
$producer->send($missing, '{"id": 1}', '{"name": "one"}', partition => 0);
$producer->flush;
ok(wait_for(60, sub { value('SELECT count(*) FROM named') eq '6' }), 'it goes on when the topic is there');

is(unexpected_log_lines($node), '', 'nothing odd in the log');
$node->stop;
done_testing();
