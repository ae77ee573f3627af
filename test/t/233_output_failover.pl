
# 233_output_failover.pl: an asynchronous standby that had not got everything is
# promoted.  The topics have more than it knows: what comes from topics is computed
# anew and not published again, what was inserted and lost blocks its sink until
# somebody says how to go on.  The old primary, when it comes back, finds that
# another one publishes, and keeps quiet.  (Not where the new one was told to
# continue: then they are two publishers.)
#
# Long: some minute.

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use KafkaTest;

plan skip_all => 'KAFKA_BOOTSTRAP names no broker' unless bootstrap();

my $db = 'failover';
my $node = new_node('primary', 'kstream.max_workers = 2', 'wal_level = replica', 'max_wal_senders = 4', 'autovacuum = off');
my ($source, $derived, $direct) = map { create_topic($_, 1) } qw(source derived direct);
my $producer = KafkaTest::Producer->new;

sub sql { return $node->safe_psql($db, $_[0]) }

# The numbers in a topic, in the order of offsets.
sub numbers
{
	return map { $_->[4] =~ /"n":(\d+)/ } topic_rows($_[0]);
}

# Records for the query, from one number to another.
sub produce
{
	my ($first, $last) = @_;

	$producer->send($source, "k$_", qq({"n": $_})) foreach ($first .. $last);
	$producer->flush;
}

create_db($node, $db);
sql(qq{
	SELECT kstream.create_stream('src', 'n int', topic => '$source');
	SELECT kstream.create_stream_as('derived', 'SELECT n FROM src', topic => '$derived');
	SELECT kstream.create_stream('direct', 'n int', topic => '$direct')});
produce(1, 50);
sql('INSERT INTO direct (n) SELECT generate_series(1, 5)');
sql(q(SELECT kstream.wait(timeout => '60 s')));

# --- the standby stays behind ----------------------------------------------------

my $standby = PostgreSQL::Test::Cluster->new('standby');

$node->backup('base');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
$standby->stop;
produce(51, 100);
sql('INSERT INTO direct (n) SELECT generate_series(6, 10)');
ok(wait_for(60, sub { numbers($derived) == 100 && numbers($direct) == 10 }), 'the primary publishes more than the standby has');
{
	my $pid = $node->{_pid};
	my @children = split /\s+/, `pgrep -P $pid`;

	$node->kill9;
	wait_for(20, sub { !grep { alive($_) } $pid, @children });
}
$standby->start;
$standby->promote;
like(query_until($standby, $db, "SELECT state || ': ' || last_error FROM kstream.sinks WHERE name = 'direct'", qr/is not what/, 120),
	qr/^blocked: what "public.direct" has published to topic .* is not what this database holds\nDETAIL:  The topic has 10 records, the database 5: it was restored, or promoted with records missing.*kstream\.resync/s,
	'what was inserted and lost blocks its sink');
is(scalar(numbers($direct)), 10, 'which publishes nothing');

# --- what comes from topics ------------------------------------------------------

produce(101, 110);
{
	my $state = query_until($standby, $db, "SELECT state FROM kstream.sinks WHERE name = 'derived' AND (position = 110 OR state = 'blocked')", qr/./, 120);

	note "derived is $state after the promotion";
	$standby->safe_psql($db, q(SELECT kstream.resync('derived', 'replay'))) if $state eq 'blocked';
}
is(query_until($standby, $db, "SELECT position FROM kstream.sinks WHERE name = 'derived'", '110', 120), '110', 'what a query had put out is computed anew, and publishing goes on behind it');
is(join(' ', numbers($derived)), join(' ', 1 .. 110), 'nothing is lost, nothing is published twice');

# --- replay waits, continue goes on ---------------------------------------------------

$standby->safe_psql($db, q(SELECT kstream.resync('direct', 'replay')));
$standby->safe_psql($db, 'INSERT INTO direct (n) SELECT generate_series(6, 8)');
is(query_until($standby, $db, "SELECT state FROM kstream.sinks WHERE name = 'direct' AND last_error IS NULL", 'waiting', 60), 'waiting', 'replay waits while the database has less than the topic');
$standby->safe_psql($db, 'INSERT INTO direct (n) SELECT generate_series(9, 10)');
like(query_until($standby, $db, "SELECT last_error FROM kstream.sinks WHERE name = 'direct'", qr/differ/, 60), qr/The first 10 records differ/, 'rows inserted anew are other records');
is(scalar(numbers($direct)), 10, 'and are not published');
$standby->safe_psql($db, q(SELECT kstream.resync('direct', 'continue')));
query_until($standby, $db, "SELECT lag_rows FROM kstream.sinks WHERE name = 'direct'", '0', 60);
$standby->safe_psql($db, 'INSERT INTO direct (n) SELECT generate_series(11, 12)');
ok(wait_for(60, sub { numbers($direct) == 12 }), 'told to continue, it publishes what is new')
  or diag($standby->safe_psql($db, 'SELECT * FROM kstream.sinks'));
is(join(' ', numbers($direct)), join(' ', 1 .. 12), 'each once');

# --- the old primary comes back ---------------------------------------------------------

unlink $node->data_dir . '/postmaster.pid';
$node->start;
like(query_until($node, $db, "SELECT state || ': ' || last_error FROM kstream.sinks WHERE name = 'derived'", qr/./, 120),
	qr/^blocked: another installation publishes "public.derived"/, 'the old primary notices that it has a successor');
produce(111, 120);
ok(wait_for(60, sub { numbers($derived) >= 120 }), 'which is not disturbed');
is(query_until($node, $db, "SELECT sum(count) FROM (SELECT count(*) FROM src) x", '120', 30), '120', 'the old one still reads');
is(join(' ', numbers($derived)), join(' ', 1 .. 120), 'but publishes nothing');
is($standby->safe_psql($db, "SELECT count(*) FROM kstream.sinks WHERE last_error IS NOT NULL"), '0', 'and the new one has no error');
is(unexpected_log_lines($standby), '', 'nothing odd in the log');
$node->stop('immediate');
$standby->stop;
done_testing();
