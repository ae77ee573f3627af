
# 170_dedup.pl: duplicates in topics are dropped exactly, whatever is killed.
#
# A producer sends records with keys that come again and again; a second topic
# holds copies of records in other partitions, with times that run fast, so that
# keys expire all the time; a third one records whose key cannot be decoded.
# Workers and the server are killed in between.  At the end the tables must equal what
# plain SQL, which remembers every key, makes of what an independent reader finds in
# the topics.

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use KafkaTest;

plan skip_all => 'KAFKA_BOOTSTRAP names no broker' unless bootstrap();

my $db = 'postgres';
my $node = new_node('dedup', 'kstream.batch_rows = 100', "include_if_exists = 'faults.conf'");
my $events = create_topic('events', 3);
my $copies = create_topic('copies', 3);
my $broken = create_topic('broken', 1);
my $start = 1704067200000;		# 2024-01-01
my $copied = 0;

create_db($node, $db);
$node->safe_psql(
	$db, qq{
	SELECT kstream.create_stream('events', 'id bigint, k text, v int', topic => '$events', dedup_key => 'k', dedup_window => '100 ms');
	SELECT kstream.create_stream('copies', 'k text, n int', topic => '$copies', key => 'k', dedup_key => 'k', dedup_window => '5 min');
	SELECT kstream.create_stream('broken', 'k int, v int', topic => '$broken', dedup_key => 'k');
	SELECT kstream.create_table_as('accepted', 'SELECT _partition AS p, _offset AS o, id, k, v FROM events');
	SELECT kstream.create_table_as('counts', 'SELECT k, count(*) AS c, sum(v) AS s FROM events GROUP BY k');
	SELECT kstream.create_table_as('once', 'SELECT k, n FROM copies');
	SELECT kstream.create_table_as('good', 'SELECT v, _offset AS o FROM broken');
	SELECT kstream.create_table_as('halved', 'SELECT 100 / v AS x FROM broken')});

# --- records that cannot be decoded -------------------------------------------

{
	my $producer = KafkaTest::Producer->new;

	$producer->send($broken, undef, $_) foreach (
		'{"k": 1, "v": 1}',
		'{"k": "one", "v": 2}',		# no key: bad for every query that reads the stream
		'{"k": 1, "v": 3}',
		'no document',
		'{"k": 2, "v": "x"}',		# accepted, though bad for those who read v
		'{"k": 2, "v": 4}',
		'{"k": 3, "v": 0}',			# accepted, though bad for the second query
		'{"k": 3, "v": 5}',
		'{"v": 6}', '{"v": 6}');
	$producer->flush;
}
$node->safe_psql($db, q(SELECT kstream.wait('good'), kstream.wait('halved')));
is($node->safe_psql($db, q(SELECT string_agg(v || '@' || o, ' ' ORDER BY o) FROM good)), '1@0 0@6 6@8 6@9', 'accepted records');
is( $node->safe_psql(
		$db, q(SELECT query, string_agg("offset" || ' ' || sqlstate, ', ' ORDER BY "offset") FROM kstream.dead_letters GROUP BY 1 ORDER BY 1)),
	"good|1 22P02, 3 22P02, 4 22P02\nhalved|1 22P02, 3 22P02, 4 22P02, 6 22012",
	'a record is bad if its key is; one that is accepted may be bad for the query');
is($node->safe_psql($db, q(SELECT name, duplicates, dead FROM kstream.stat_query WHERE name IN ('good', 'halved') ORDER BY 1)),
	"good|3|3\nhalved|3|4", 'and so it is counted');

# --- kills ---------------------------------------------------------------------

# What a line of the file of fault points is; an empty one takes them away.
sub set_faults
{
	my ($points) = @_;

	open my $out, '>', $node->data_dir . '/faults.conf' or die $!;
	print $out "kstream.fault_points = '$points'\n";
	close $out or die $!;
	$node->reload;
}

# Two copies of each of n keys, in different partitions, a minute from key to key.
sub copy_keys
{
	my ($n) = @_;
	my $producer = KafkaTest::Producer->new;

	foreach (1 .. $n)
	{
		my $time = $start + 60000 * $copied++;
		my $partition = int rand 3;

		$producer->send($copies, "key $copied", '{"n": 1}', partition => $partition, timestamp => $time);
		$producer->send($copies, "key $copied", '{"n": 2}',
			partition => ($partition + 1 + int rand 2) % 3, timestamp => $time + int(rand 200000) - 100000);
	}
	$producer->flush;
}

# Records processed so far by all queries; -1 while the server is away.
sub progress
{
	my ($rc, $out) = try_sql($node, $db, 'SELECT coalesce(sum(records), 0) FROM kstream_catalog.position');

	return $rc == 0 ? $out : -1;
}

my $load = start_load($events, partitions => 3, rate => 1000, keys => 300, transaction_size => 50);
my $faults = (try_sql($node, $db, 'SHOW kstream.fault_points'))[0] == 0;
my @faults = qw(kill crash:after_dedup kill shutdown crash:after_positions kill error:after_dedup crash:before_commit kill);
my $struck = 0;

foreach my $fault (@faults)
{
	my ($what, $point) = split /:/, $fault;
	my $from = log_size($node);
	my $mark;

	copy_keys(100);
	if ($what eq 'kill')
	{
		set_faults('after_dedup:sleep=20') if $faults;
		sleep rand 0.4;
		$struck++ if wait_for(10, sub { my @pids = worker_pids($node, $db); @pids && kill 9, @pids });
		set_faults('');
	}
	elsif ($what eq 'shutdown')
	{
		$node->stop('immediate');
		$node->start;
		$struck++;
	}
	elsif ($faults)
	{
		set_faults("$point:$what:" . (1 + int rand 10));
		$struck++ if wait_for(20, sub { log_since($node, $from) =~ /terminated by signal 9|fault point "$point"/ });
		set_faults('');
	}
	wait_for(30, sub { ($mark = progress()) >= 0 });
	wait_for(60, sub { progress() > $mark }) or ok(0, "the queries go on after $fault");
}
cmp_ok($struck, '>=', $faults ? @faults : 5, 'all faults have struck');
note 'records sent: ', stop_load($load);
is(sql_error($node, $db, 'SELECT kstream.wait(timeout => $$5 min$$)'), '', 'all queries get to the end');

# --- the end: everything is counted by somebody else ----------------------------

archive_topic($node, $db, $events, 'archive');
$node->safe_psql(
	$db, q{
	CREATE FUNCTION reference(width bigint) RETURNS TABLE (p int, o bigint, k text, v int) LANGUAGE plpgsql AS $$
	DECLARE
		r record;
		seen jsonb := '{}';
		top bigint;
		last bigint;
	BEGIN
		p := -1;
		FOR r IN SELECT partition, "offset", "timestamp" AS ts, convert_from(value, 'UTF8')::jsonb AS j FROM archive ORDER BY 1, 2 LOOP
			IF r.partition <> p THEN top := NULL; END IF;
			p := r.partition; o := r."offset"; k := r.j ->> 'k'; v := r.j ->> 'v';
			top := greatest(top, r.ts);
			last := seen ->> k;
			IF r.ts >= top - 3 * width THEN
				CONTINUE WHEN r.ts BETWEEN last - width AND last + width;
				seen := jsonb_set(seen, ARRAY[k], to_jsonb(r.ts));
			END IF;
			RETURN NEXT;
		END LOOP;
	END $$;
	CREATE TABLE wanted AS SELECT * FROM reference(100)});
note 'accepted, of all: ', $node->safe_psql($db, 'SELECT (SELECT count(*) FROM wanted), (SELECT count(*) FROM archive)');
is( $node->safe_psql(
		$db, q{SELECT count(*), (array_agg(x::text))[1:5] FROM (
			(SELECT 'missing', p, o, k, v FROM wanted EXCEPT ALL SELECT 'missing', p, o, k, v FROM accepted)
			UNION ALL (SELECT 'too much', p, o, k, v FROM accepted EXCEPT ALL SELECT 'too much', p, o, k, v FROM wanted)) x}),
	'0|', 'what is accepted equals an independent walk over the topic');
is( $node->safe_psql(
		$db, q{SELECT count(*) FROM (
			(SELECT k, count(*), sum(v) FROM wanted GROUP BY k EXCEPT ALL SELECT k, c, s FROM counts)
			UNION ALL (SELECT k, c, s FROM counts EXCEPT ALL SELECT k, count(*), sum(v) FROM wanted GROUP BY k)) x}),
	'0', 'so does an aggregate');
is( $node->safe_psql(
		$db, q{SELECT name, records_in - duplicates = (SELECT count(*) FROM wanted), duplicates > 0
			FROM kstream.stat_query WHERE name IN ('accepted', 'counts') ORDER BY 1}),
	"accepted|t|t\ncounts|t|t", 'duplicates are counted exactly');
is($node->safe_psql($db, q(SELECT count(*), count(DISTINCT k) FROM once)), "$copied|$copied", 'of copies in several partitions each came once');
is($node->safe_psql($db, q(SELECT duplicates FROM kstream.stat_query WHERE name = 'once')), $copied, 'and was dropped once');
is( $node->safe_psql(
		$db, q(SELECT count(*) BETWEEN 1 AND 24, max(number) > 2 * count(*) FROM kstream_catalog.dedup_part WHERE source = 'copies'::regclass)),
	't|t', 'old keys are gone');
is( $node->safe_psql(
		$db, q(SELECT count(*) FROM pg_class c WHERE relname ~ '^d_\d+_\d+$' AND NOT EXISTS (SELECT FROM kstream_catalog.dedup_part WHERE relation = c.oid))),
	'0', 'and no table of theirs is left');
is(unexpected_log_lines($node), '', 'nothing odd in the log');
$node->stop;
done_testing();
