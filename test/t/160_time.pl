
# 160_time.pl: event time over Kafka: a silent partition of four, all silent, a
# partition that lags while records are replayed, windows of the record's own
# timestamp, and a broker that goes away.

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use KafkaTest;

plan skip_all => 'KAFKA_BOOTSTRAP names no broker' unless bootstrap();

my $node = new_node('time', 'kstream.max_workers = 2');
my $db = 'timing';
my $producer = KafkaTest::Producer->new;
my $base = 1704067200;    # 2024-01-01 00:00 UTC

create_db($node, $db);

# What a query returns.
sub value
{
	return $node->safe_psql($db, $_[0]);
}

# One record: seconds after the base, partition.
sub event
{
	my ($topic, $at, $partition) = @_;

	$producer->send($topic, "k$partition", sprintf('{"at": %d, "p": %d}', ($base + $at) * 1000, $partition), partition => $partition, timestamp => ($base + $at) * 1000);
}

# Rows of a table: windows as minutes after the base, and counts.
sub rows
{
	my ($table) = @_;

	return value("SELECT string_agg((extract(epoch FROM lower(w)) - $base)::int / 60 || ':' || n, ' ' ORDER BY w) FROM $table") // '';
}

# --- one silent partition of four ------------------------------------------------

my $topic = create_topic('silent', 4);
value(qq(SELECT kstream.create_stream('silent', 'at timestamptz, p int', topic => '$topic', "timestamp" => 'at')));
for my $minute (0 .. 3)
{
	event($topic, $minute * 60 + $_, $_) for (0 .. 2);
}
$producer->flush;
value(q(SELECT kstream.create_table_as('patient', 'SELECT kstream.tumble(at, ''1 min'') AS w, count(*) AS n FROM silent GROUP BY 1', emit => 'final', idle_timeout => '1 hour')));
value(q(SELECT kstream.create_table_as('quick', 'SELECT kstream.tumble(at, ''1 min'') AS w, count(*) AS n FROM silent GROUP BY 1', emit => 'final', idle_timeout => '2 s')));
value("SELECT kstream.wait('patient', '30 s')");
is(rows('patient'), '0:3 1:3 2:3', 'a partition that is empty is idle from the start');
event($topic, 30, 3);
$producer->flush;
value("SELECT kstream.wait('patient', '30 s')");
is(value("SELECT late FROM kstream.stat_query WHERE name = 'patient'"), '1', 'what it brings later is late where the window is closed');
for my $minute (4 .. 6)
{
	event($topic, $minute * 60 + $_, $_) for (0 .. 2);
}
event($topic, 130, 3);
$producer->flush;
value("SELECT kstream.wait('patient', '30 s')");
is(rows('patient'), '0:3 1:3 2:3', 'then it holds the watermark, while the others go on');
is(value(q(SELECT watermark FROM kstream.stat_query WHERE name = 'patient')), value(q(SELECT timestamptz '2024-01-01 00:03:00+00')), 'which does not go back');
# keep the others talking until the silent one counts as idle
my $second = 430;
my $closed = wait_for(20, sub { event($topic, $second++, $_) for (0 .. 2); $producer->flush; sleep 0.3; rows('quick') =~ /6:\d+/ });
ok($closed, 'it is idle after idle_timeout, and windows close without it');
unlike(rows('patient'), qr/ 3:/, 'but not where idle_timeout is long');

# --- all silent: the clock ---------------------------------------------------------

my $open = value(q(SELECT max(upper(kstream.tumble(at, '1 min'))) FROM silent));
ok(wait_for(75, sub { value("SELECT coalesce(max(upper(w)), '-infinity') FROM quick") eq $open }), 'when all are silent, the clock closes the last window');
is(value(q(SELECT count(*) FROM (SELECT 1 FROM quick GROUP BY w HAVING count(*) > 1) x)), '0', 'each window came once');

# --- a lagging partition in replay ----------------------------------------------------

# Partition 0 holds ten hours in few records, partition 1 many, partition 2 is written to last.
my $replay = create_topic('replay', 3);
event($replay, $_ * 360, 0) for (0 .. 100);
event($replay, $_ * 6, 1) for (0 .. 6000);
event($replay, $_ * 60, 2) for (0 .. 600);
$producer->flush;
value(qq(SELECT kstream.create_stream('replay', 'at timestamptz, p int', topic => '$replay', "timestamp" => 'at')));
for my $round (1 .. 2)
{
	value(qq(SELECT kstream.create_table_as('replayed', 'SELECT kstream.tumble(at, ''10 min'') AS w, count(*) AS n FROM replay GROUP BY 1', emit => 'final', batch_rows => 97, idle_timeout => '1 hour')));
	value(qq(SELECT kstream.create_table_as('grouped', 'SELECT w, p, count(*) AS n FROM (SELECT kstream.tumble(at, ''10 min'') AS w, p FROM replay) x GROUP BY 1, 2', batch_rows => 500, retention => '1 hour', idle_timeout => '1 hour')));
	value("SELECT kstream.wait('replayed', '60 s'), kstream.wait('grouped', '60 s')");
	is(value("SELECT sum(late) FROM kstream.stat_query WHERE name IN ('replayed', 'grouped')"), '0', "round $round: no record of a slow partition is late");
	is(value(q(SELECT count(*) FROM ((SELECT w, n FROM replayed) EXCEPT ALL
		(SELECT kstream.tumble(at, '10 min') AS w, count(*) AS n FROM replay GROUP BY 1)) x)), '0', "round $round: the windows are complete when they come");
	is(value(q(SELECT count(*) FROM replayed)), '60', "round $round: and all that the watermark has closed are there");
	is(value(q(SELECT count(DISTINCT w) FROM grouped)), '7', "round $round: those that are an hour old are gone");
	value('DROP TABLE replayed, grouped');
}

# --- a time that cannot be -------------------------------------------------------

{
	my $wrong = create_topic('wrong', 1);

	value(q(CREATE DOMAIN plausible AS timestamptz CHECK (VALUE BETWEEN '2020-01-01 00:00+00' AND '2040-01-01 00:00+00')));
	value(qq(SELECT kstream.create_stream('unguarded', 'at timestamptz, p int', topic => '$wrong', "timestamp" => 'at')));
	value(qq(SELECT kstream.create_stream('guarded', 'at plausible NOT NULL, p int', topic => '$wrong', "timestamp" => 'at')));
	event($wrong, 0, 0);
	$producer->send($wrong, 'micros', sprintf('{"at": %d000000, "p": 0}', $base), partition => 0);
	$producer->send($wrong, 'none', '{"p": 0}', partition => 0);
	event($wrong, $_, 0) for (10, 70, 140);
	$producer->flush;
	for my $stream ('unguarded', 'guarded')
	{
		value(qq(SELECT kstream.create_table_as('of_$stream', 'SELECT kstream.tumble(at, ''1 min'') AS w, count(*) AS n FROM $stream GROUP BY 1')));
		value("SELECT kstream.wait('of_$stream', '30 s')");
	}
	is(value(q(SELECT late FROM kstream.stat_query WHERE name = 'of_unguarded')), '3', 'a wrong time makes all that comes after it late');
	is(value(q(SELECT query FROM kstream.stat_partition WHERE partition_time > now() + interval '1 hour')), 'of_unguarded', 'which the time of the partition shows');
	is(value(q(SELECT late || ' ' || dead FROM kstream.stat_query WHERE name = 'of_guarded')), '0 2', 'a domain makes it a dead letter');
	is(rows('of_guarded'), '0:2 1:1 2:1', 'and keeps it out of the time of the partition');
	value('DROP TABLE of_unguarded, of_guarded');
}

# --- a broker that is away ----------------------------------------------------------------

SKIP:
{
	my $broker = eval { KafkaTest::Broker->new };

	skip 'no second broker', 2 unless $broker;
	value(sprintf(q(CREATE SERVER second FOREIGN DATA WRAPPER kstream OPTIONS (bootstrap_servers '%s')), $broker->bootstrap));
	my $away = create_topic('away', 1, bootstrap => $broker->bootstrap);
	my $other = KafkaTest::Producer->new($broker->bootstrap);

	value(qq(SELECT kstream.create_stream('away', 'k text', topic => '$away', server => 'second')));
	value(q(SELECT kstream.create_table_as('waiting', 'SELECT kstream.tumble(_timestamp, ''1 s'') AS w, count(*) AS n FROM away GROUP BY 1', emit => 'final', idle_timeout => '4 s')));
	$other->send($away, 'a', '{"k": "a"}');
	$other->flush;
	value("SELECT kstream.wait('waiting', '30 s')");
	$broker->run('stop');
	sleep 8;
	is(value('SELECT count(*) FROM waiting'), '0', 'while the broker is away nobody knows that nothing comes');
	$broker->run('start');
	ok(wait_for(40, sub { value('SELECT count(*) FROM waiting') eq '1' }), 'when it is back, the clock goes on');
}

is(unexpected_log_lines($node), '', 'nothing odd in the log');
$node->stop;
done_testing();
