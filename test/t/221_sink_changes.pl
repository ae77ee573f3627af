# 221_sink_changes.pl: the guarantee of a stream is changed while it is published:
# nothing is lost, and what is inserted under exactly_once comes once; drops say
# what they leave unpublished; a restored sink must have its key.

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use KafkaTest;

plan skip_all => 'KAFKA_BOOTSTRAP names no broker' unless bootstrap();

my $node = new_node('main', 'kstream.max_workers = 2');

create_db($node, 'changes');

sub sql { return $node->safe_psql('changes', $_[0]) }

# What psql says to standard error.
sub warnings_of
{
	my ($command) = @_;
	my ($out, $err) = ('', '');

	$node->psql('changes', $command, stdout => \$out, stderr => \$err);
	return $err;
}

# How often each number is in the topic.
sub numbers
{
	my ($topic) = @_;
	my %seen;

	foreach my $row (topic_rows($topic))
	{
		$seen{$1}++ if defined $row->[4] && $row->[4] =~ /"n": ?(\d+)/;
	}
	return \%seen;
}

sub published
{
	my ($name) = @_;

	sql("SELECT kstream.wait('$name', '60 s')");
	return query_until($node, 'changes', "SELECT lag_rows = 0 AND state NOT IN ('failed', 'blocked') FROM kstream.sinks WHERE name = '$name'", 't', 60);
}

# ---- the guarantee

my $topic = create_topic('out', 2);
my $at = 0;

# Inserts so many numbers, in transactions of their own.
sub insert
{
	my ($n) = @_;

	sql(join '', map { "INSERT INTO sent (n) VALUES ($_);" } $at + 1 .. $at + $n);
	$at += $n;
	return;
}

sql("SELECT kstream.create_stream('sent', 'n int', topic => '$topic', options => '{\"guarantee\": \"at_least_once\"}')");
insert(50);
is(published('sent'), 't', 'at least once');
foreach my $round (1 .. 3)
{
	my $first = $at + 1;

	insert(20);
	sql("ALTER FOREIGN TABLE sent OPTIONS (SET guarantee 'exactly_once')");
	insert(20) if $round > 1;
	is(published('sent'), 't', "round $round: goes on exactly once");
	is(sql("SELECT guarantee FROM kstream.sinks WHERE name = 'sent'"), 'exactly_once', 'the view says so');
	# the position under the new name is in Kafka before the catalog counts on it
	my ($pid) = worker_pids($node, 'changes');
	if ($pid && kill 9, $pid)
	{
		wait_for(60, sub { (try_sql($node, 'changes', 'SELECT 1'))[0] == 0 }) or die 'the server did not come back';
	}
	my $once = $at + 1;
	insert(30);
	is(published('sent'), 't', 'also after a crash');
	my $seen = numbers($topic);
	is(scalar(grep { !$seen->{$_} } 1 .. $at), 0, 'nothing is missing');
	is(scalar(grep { $seen->{$_} != 1 } $once .. $at), 0, 'what came later is there once');
	sql("ALTER FOREIGN TABLE sent OPTIONS (SET guarantee 'at_least_once')");
	insert(10);
	is(published('sent'), 't', 'and at least once again');
	$seen = numbers($topic);
	is(scalar(grep { !$seen->{$_} } $first .. $at), 0, 'nothing is missing then');
}

# ---- drops

is(warnings_of('DROP FOREIGN TABLE sent'), '', 'a drop says nothing where all is published');
my $kept = create_topic('kept', 1);
sql('CREATE TABLE kept (id int PRIMARY KEY, v int)');
sql("SELECT kstream.create_sink('kept', 'kept', '$kept')");
sql('INSERT INTO kept SELECT i, i FROM generate_series(1, 7) i');
is(published('kept'), 't', 'published');
sql("SELECT kstream.pause('kept')");
sql('TRUNCATE kept');
like(warnings_of('BEGIN; DROP TABLE kept; ROLLBACK'), qr/7 records of "kept" will not be published/, 'DROP TABLE tells what goes');
like(warnings_of('BEGIN; DROP TABLE kept; ROLLBACK'), qr/kstream\.wait\('kept'\)/, 'and what to do');
sql("SELECT kstream.resume('kept')");
is(published('kept'), 't', 'after the wait');
is(warnings_of('DROP TABLE kept'), '', 'nothing is said');

# ---- a dump

my $dump = $node->basedir . '/changes.sql';
sql("CREATE TABLE dumped (id int PRIMARY KEY, u int NOT NULL, v int); INSERT INTO dumped VALUES (1, 1, 1); CREATE UNIQUE INDEX dumped_u ON dumped (u)");
sql("SELECT kstream.create_sink('by_id', 'dumped', '$kept'), kstream.create_sink('by_u', 'dumped', '$kept', key => '{u}')");
command_ok([ 'pg_dump', '-d', $node->connstr('changes'), '-f', $dump ], 'dumped');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('restored'), '-f', $dump ], 'restored');
$node->safe_psql('restored', 'DROP INDEX dumped_u');
like(sql_error($node, 'restored', "SELECT kstream.resume('by_u')"), qr/key \(u\) of sink "by_u"/, 'a sink without its key is not resumed');
$node->safe_psql('restored', 'CREATE UNIQUE INDEX dumped_u ON dumped (u)');
$node->safe_psql('restored', "SELECT kstream.resume('by_u')");
like(sql_error($node, 'restored', 'DROP INDEX dumped_u'), qr/cannot drop index/, 'resumed, it keeps its index');

is(join("\n", unexpected_log_lines($node)), '', 'nothing unexpected in the log');
done_testing();
