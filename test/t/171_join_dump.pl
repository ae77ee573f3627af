# 171_join_dump.pl: what a snapshot shows of a join's buffers fits the positions it shows.
#
# A dump may take its snapshot long before it reads a buffer, and without a lock on
# it: rows that are open by the positions it has seen must be there when it comes.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use IPC::Run;
use KstreamTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = new_node('main', conf => "kstream.max_workers = 0\nautovacuum = off\n");

# Rows of the buffer of stream a that wait for a record of the minute from 03:20 on.
my $waiting = q(SELECT count(*) FROM buffer WHERE _event_time >= '2024-03-01 03:19:00+00' AND _event_time < '2024-03-01 03:20:00+00');

# step: processes one more record of each stream, at that time.
sub step
{
	my ($at) = @_;

	sql($node, qq(
		INSERT INTO a VALUES ('none', 0, timestamptz '2024-03-01 $at+00');
		INSERT INTO b VALUES ('none', 0, timestamptz '2024-03-01 $at+00');
		SELECT kstream.step('j', 100000)));
}

sql($node, q(
	CREATE EXTENSION kstream;
	SELECT kstream.create_stream('a', 'k text, v int, ts timestamptz', "timestamp" => 'ts', server => 'local');
	SELECT kstream.create_stream('b', 'k text, w int, ts timestamptz', "timestamp" => 'ts', server => 'local');
	SELECT kstream.create_table_as('j', 'SELECT a.v, b.w FROM a JOIN b ON a.k = b.k AND b.ts BETWEEN a.ts - interval ''1 min'' AND a.ts + interval ''1 min''', paused => true);
	INSERT INTO a SELECT 'k', i, timestamptz '2024-03-01 00:00+00' + i * interval '1 s' FROM generate_series(1, 12000) i;
	SELECT kstream.step('j', 100000);
	DO $$BEGIN
		EXECUTE (SELECT format('CREATE VIEW buffer AS SELECT * FROM %s', store) FROM kstream.stat_store
			WHERE name = 'j' AND role = 'buffer' AND store::text ~ '_\d+_\d+$' ORDER BY rows DESC, store::text LIMIT 1);
	END$$));
step('03:20:01');
is(sql($node, $waiting), '60', 'rows wait in the first half');

my ($in, $out) = ('', '');
my $reader = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres') ], '<', \$in, '>', \$out);
$in = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 'there', sum(next_offset) FROM kstream_catalog.position;\n";
$reader->pump until $out =~ /there\|12002\n/;
$out = '';

step($_) for ('03:30:00', '03:40:00', '03:50:00');
$in = "$waiting; SELECT sum(next_offset) FROM kstream_catalog.position; COMMIT;\n";
$reader->pump until $out =~ /\n.*\n/;
is($out, "60\n12002\n", 'a snapshot from before they were closed goes on to show them, as it does the positions');
$reader->finish;

step('04:00:00');
is(sql($node, $waiting), '0', 'afterwards the half is emptied');

is(sql($node, q(
	INSERT INTO b VALUES ('none', 9, timestamptz '2024-03-01 04:00:30+00');
	SELECT kstream.step('j', 100000);
	SELECT count(*) FROM j WHERE w = 9)), "1\n1", 'and the join goes on');

$node->stop;
done_testing();
