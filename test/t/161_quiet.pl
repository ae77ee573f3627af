# 161_quiet.pl: time in which a broker does not answer does not count as quiet:
# when the task is opened again meanwhile, and when the broker hangs.

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);
use KafkaTest;

plan skip_all => 'KAFKA_BOOTSTRAP names no broker' unless bootstrap();
my $broker = eval { KafkaTest::Broker->new };
plan skip_all => 'no broker of its own' unless $broker;

my $node = new_node('quiet', 'kstream.max_workers = 2');
my $db = 'quiet';
my $base = 1704067200;    # 2024-01-01 00:00 UTC
my $producer = KafkaTest::Producer->new($broker->bootstrap);

create_db($node, $db);

# What a query returns.
sub value
{
	return $node->safe_psql($db, $_[0]);
}

# A record for each partition of a topic, so many seconds after the base.
sub events
{
	my ($topic, $at) = @_;

	$producer->send($topic, "k$_", sprintf('{"at": %d}', ($base + $at) * 1000), partition => $_, timestamp => ($base + $at) * 1000) for (0, 1);
	$producer->flush;
}

# A stream over a new topic, and queries with windows of ten seconds.
sub windows
{
	my ($name, $idle, @queries) = @_;
	my $topic = create_topic($name, 2, bootstrap => $broker->bootstrap);

	value(qq(SELECT kstream.create_stream('$name', 'at timestamptz', topic => '$topic', "timestamp" => 'at')));
	value(qq(SELECT kstream.create_table_as('$_', 'SELECT kstream.tumble(at, ''10 s'') AS w, count(*) AS n FROM $name GROUP BY 1', emit => 'final', idle_timeout => '$idle'))) for @queries;
	events($topic, 1);
	value("SELECT kstream.wait('$_', '30 s')") for @queries;
	return $topic;
}

value(sprintf(q(CREATE SERVER own FOREIGN DATA WRAPPER kstream OPTIONS (bootstrap_servers '%s')), $broker->bootstrap));
value(q(ALTER DATABASE quiet SET kstream.default_server = 'own'));

# --- a broker that hangs for less than a client waits for an answer -------------------

my $hung = windows('hung', '4 s', 'hanging');
$broker->run('freeze');
sleep 7;
my $rows = value('SELECT count(*) FROM hanging');
$broker->run('thaw');
events($hung, 2);
value("SELECT kstream.wait('hanging', '30 s')");
is($rows, '0', 'a broker that hangs is not silent');
is(value(q(SELECT late FROM kstream.stat_query WHERE name = 'hanging')), '0', 'nothing is late when it goes on');
ok(wait_for(40, sub { value('SELECT sum(n) FROM hanging') eq '4' }), 'then the clock closes the window');

# --- a task that is opened again while the broker is away -------------------------------

my $away = windows('away', '10 s', 'reopened', 'steady');
# what a worker shows follows what it has committed
ok(wait_for(5, sub { value(q(SELECT bool_or(idle) FROM kstream.stat_partition WHERE query = 'steady')) eq 'f' }),
	'a partition is not idle before its time');
$broker->run('stop');
sleep 9;
value(q(SELECT kstream.pause('reopened')));
sleep 1;
value(q(SELECT kstream.resume('reopened')));
sleep 4;
$broker->run('start');
ok(wait_for(30, sub { value(q(SELECT count(*) FROM kstream.queries WHERE name IN ('reopened', 'steady') AND state IN ('running', 'waiting') AND detail IS NULL)) eq '2' }),
	'queries go on when the broker is back');
sleep 1;
events($away, 2);
value(q(SELECT kstream.wait('reopened', '30 s'), kstream.wait('steady', '30 s')));
is(value(q(SELECT string_agg(name || ' ' || late, ', ' ORDER BY name) FROM kstream.stat_query WHERE name IN ('reopened', 'steady'))),
	'reopened 0, steady 0', 'nothing is late after the outage');

# What was quiet before a task is opened again counts.
for (1 .. 4)
{
	sleep 4;
	value(q(SELECT kstream.pause('reopened')));
	value(q(SELECT kstream.resume('reopened')));
}
ok(wait_for(7, sub { value('SELECT sum(n) FROM reopened') eq '4' }), 'opening a task again does not put off the closing of windows');
ok(wait_for(20, sub { value('SELECT sum(n) FROM steady') eq '4' }), 'the other query closes its window as well');
ok(wait_for(20, sub { value(q(SELECT bool_and(idle) FROM kstream.stat_partition WHERE query = 'steady')) eq 't' }), 'and its partitions are shown as idle');

is(unexpected_log_lines($node), '', 'nothing odd in the log');
$node->stop;
done_testing();
