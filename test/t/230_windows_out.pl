
# 230_windows_out.pl: windows and sessions on their way out to topics: what a topic
# holds folds to the table, through closings, retention and a crash; wait()
# follows a chain with windows in its middle.

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;
use KafkaTest;

plan skip_all => 'KAFKA_BOOTSTRAP names no broker' unless bootstrap();

my $node = new_node('windows_out', 'kstream.max_workers = 3');
my $db = 'windows_out';
my $producer = KafkaTest::Producer->new;
my $base = 1704067200;    # 2024-01-01 00:00 UTC

create_db($node, $db);

# What a query returns.
sub value
{
	return $node->safe_psql($db, $_[0]) // '';
}

# The values of n that the records of a topic leave, key by key.
sub folded
{
	my %rows;

	foreach my $record (topic_rows($_[0]))
	{
		my ($key, $value) = @{$record}[ 3, 4 ];

		delete $rows{$key};
		$rows{$key} = $1 if defined $value && $value =~ /"n":(\d+)/;
	}
	return join ' ', sort { $a <=> $b } values %rows;
}

my $topic = create_topic('events', 3);
my %out = map { $_ => topic_name($_) } qw(changing final sessions);
value(qq(SELECT kstream.create_stream('events', 'at timestamptz, k text, v int', topic => '$topic', "timestamp" => 'at')));
value(qq(SELECT kstream.create_table_as('changing', 'SELECT kstream.tumble(at, ''1 min'') AS w, k, sum(v) AS n FROM events GROUP BY 1, 2', topic => '$out{changing}', retention => '3 min', idle_timeout => '1 h')));
value(qq(SELECT kstream.create_table_as('final', 'SELECT kstream.tumble(at, ''1 min'') AS w, k, count(*) AS n FROM events GROUP BY 1, 2', topic => '$out{final}', emit => 'final', idle_timeout => '1 h')));
value(qq(SELECT kstream.create_table_as('sessions', 'SELECT kstream.session(at, ''20 s'') AS w, k, count(*) AS n FROM events GROUP BY 1, 2', topic => '$out{sessions}', grace => '2 min', idle_timeout => '1 h')));
# a chain: final windows through their topic into a table
value(qq(SELECT kstream.create_stream('windows', 'k text, n bigint', topic => '$out{final}')));
value(q(SELECT kstream.create_table_as('total', 'SELECT k, sum(n) AS n, count(*) AS windows FROM windows GROUP BY k')));

my $second = 0;
my $sent = 0;
foreach my $round (1 .. 4)
{
	foreach (1 .. 400)
	{
		my $at = $base + $second - ($_ % 7 == 0 ? 25 : 0);

		$producer->send($topic, 'k' . $_ % 5, sprintf('{"at": %d, "k": "k%d", "v": %d}', $at * 1000, $_ % 5, $_), partition => $_ % 3, timestamp => $at * 1000);
		$second += $_ % 3 == 0 ? 1 : 0;
		$second += 30 if $_ % 97 == 0;
		$sent++;
	}
	$producer->flush;
	kill 'KILL', $_ foreach $round == 2 ? worker_pids($node, $db) : ();
	query_until($node, $db, 'SELECT 1', '1', 60);
	value(q(SELECT kstream.wait('total', '60 s')));
	is(value('SELECT sum(n) = (SELECT sum(n) FROM final) FROM total'), 't', "round $round: the end of the chain has every window that has closed");
	value(q(SELECT kstream.wait(NULL, '60 s')));
	foreach my $table (qw(changing final sessions))
	{
		is(folded($out{$table}), value("SELECT string_agg(n::text, ' ' ORDER BY n) FROM $table"), "round $round: $table is what its topic leaves");
	}
}
is(scalar(topic_rows($out{final})), value('SELECT count(*) FROM final'), 'a final row is published once');
cmp_ok(scalar(grep { !defined $_->[4] } topic_rows($out{changing})), '>', 5, 'windows that have expired are tombstones');
cmp_ok(scalar(grep { !defined $_->[4] } topic_rows($out{sessions})), '>', 5, 'so are sessions absorbed');
is(value('SELECT sum(n) + (SELECT late FROM kstream.stat_query WHERE name = $$sessions$$) FROM sessions'), $sent, 'no record is lost');
undef $producer;
is(unexpected_log_lines($node), '', 'no assertion failed');
$node->stop;
done_testing();
