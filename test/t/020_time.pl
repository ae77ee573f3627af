# Windows in workers: that each is closed once and in time, whatever crashes
# around it, by event time and by the clock; that wait() waits for it; that
# retention keeps tables small.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use KstreamTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = new_node('main', conf => "kstream.batch_rows = 40\n");

# tick: one record per partition and key, event times going on by so many seconds, a few out of order.
sub tick
{
	my ($from, $to, $step) = @_;

	sql($node, qq(
		INSERT INTO events (k, ts, v, _partition)
		SELECT 'k' || k, timestamptz '2024-01-01' + (i * $step - (i * 7 % 3)) * interval '1 s', i + k, p
		FROM generate_series($from, $to) i, generate_series(1, 3) k, generate_series(0, 1) p));
}

# no_difference: between a table and a query.
sub no_difference
{
	my ($table, $query, $name) = @_;
	my $n = sql($node, "SELECT count(*) FROM ((TABLE $table EXCEPT ALL ($query)) UNION ALL (($query) EXCEPT ALL TABLE $table)) d");

	return is($n, '0', $name);
}

my $late = q(SELECT *, max(ts) OVER (PARTITION BY _partition ORDER BY _offset) AS st FROM events);
my $rows = qq(SELECT k, kstream.tumble(ts, '10 s') AS w, v FROM ($late) x WHERE upper(kstream.tumble(ts, '10 s')) + interval '5 s' > st);
my $mark = q((SELECT min(m) FROM (SELECT max(ts) AS m FROM events GROUP BY _partition) y));

sql($node, q(
	CREATE EXTENSION kstream;
	SELECT kstream.create_stream('events', 'k text, ts timestamptz, v int', server => 'local', "timestamp" => 'ts', partitions => 2);
	SELECT kstream.create_table_as('changes', 'SELECT k, kstream.tumble(ts, ''10 s'') AS w, count(*) AS n, sum(v) AS s FROM events GROUP BY 1, 2', grace => '5 s');
	SELECT kstream.create_table_as('final', 'SELECT k, kstream.tumble(ts, ''10 s'') AS w, count(*) AS n, sum(v) AS s FROM events GROUP BY 1, 2', grace => '5 s', emit => 'final', idle_timeout => '1 day');
	SELECT kstream.create_table_as('lists', 'SELECT k, kstream.tumble(ts, ''10 s'') AS w, string_agg(v::text, '','' ORDER BY v) AS l FROM events GROUP BY 1, 2', grace => '5 s', emit => 'final', idle_timeout => '1 day');
	SELECT kstream.create_table_as('recent', 'SELECT k, kstream.tumble(ts, ''10 s'') AS w, count(*) AS n, sum(v) AS s FROM events GROUP BY 1, 2', grace => '5 s', retention => '30 s', idle_timeout => '1 day');
	SELECT kstream.create_table_as('tail', 'SELECT k, ts, v FROM events', retention => '30 s', idle_timeout => '1 day');
	SELECT kstream.create_table_as('sessions', 'SELECT k, kstream.session(ts, ''4 s'') AS w, count(*) AS n, sum(v) AS s FROM events GROUP BY 1, 2', grace => '5 s', emit => 'final', idle_timeout => '1 day');
	CREATE TABLE seen (relation regclass, k text, w tstzrange);
	CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO seen VALUES (TG_RELID, NEW.k, NEW.w); RETURN NULL; END $$;
	CREATE TRIGGER note AFTER INSERT OR UPDATE ON final FOR EACH ROW EXECUTE FUNCTION note();
	CREATE TRIGGER note AFTER INSERT OR UPDATE ON lists FOR EACH ROW EXECUTE FUNCTION note();
	CREATE TRIGGER note AFTER INSERT OR UPDATE ON sessions FOR EACH ROW EXECUTE FUNCTION note()));

# check: every table is what it has to be at this moment.
sub check
{
	my ($name) = @_;
	my $state = '';

	eventually(40, sub { $state = sqlstate($node, q(SELECT kstream.wait(NULL, '10 s'))); $state eq '' });
	is($state, '', "$name: wait");
	no_difference('changes', "SELECT k, w, count(*), sum(v) FROM ($rows) r GROUP BY 1, 2", "$name: emit => 'changes'");
	no_difference('final', "SELECT k, w, count(*), sum(v) FROM ($rows) r WHERE upper(w) + interval '5 s' <= $mark GROUP BY 1, 2", "$name: emit => 'final'");
	no_difference('lists', "SELECT k, w, string_agg(v::text, ',' ORDER BY v) FROM ($rows) r WHERE upper(w) + interval '5 s' <= $mark GROUP BY 1, 2", "$name: final from kept inputs");
	no_difference('recent', "SELECT k, w, count(*), sum(v) FROM ($rows) r WHERE upper(w) + interval '30 s' > $mark GROUP BY 1, 2", "$name: retention");
	no_difference('tail', "SELECT k, ts, v FROM events WHERE ts + interval '30 s' > $mark", "$name: retention of rows");
	is(sql($node, 'SELECT count(*) FROM (SELECT 1 FROM seen GROUP BY relation, k, w HAVING count(*) > 1) d'), '0', "$name: no row came twice");
	is(sql($node, "SELECT count(*) FROM seen WHERE relation = 'sessions'::regclass"), sql($node, 'SELECT count(*) FROM sessions'), "$name: sessions came once");
	is(sql($node, q(SELECT count(*) FROM kstream_catalog.position p JOIN kstream_catalog.query q ON q.id = p.query
		WHERE q.relation = 'final'::regclass AND p.watermark > p.stream_time)), '0', "$name: the watermark is not ahead");
}

# no_faults: takes the fault points away; until that is done the server may go down again and again.
sub no_faults
{
	eventually(30, sub { (try_sql($node, 'ALTER SYSTEM RESET kstream.fault_points'))[0] == 0 });
	eventually(30, sub {
		return (try_sql($node, 'SELECT pg_reload_conf()'))[0] == 0 && do { sleep 0.5; 1 }
		  && (try_sql($node, 'SHOW kstream.fault_points'))[1] eq '' && (try_sql($node, 'SELECT 1'))[0] == 0;
	});
}

tick(0, 50, 1);
check('at first');

# Crashes and errors at each point around close and expiry, while windows close.
SKIP:
{
	my $from = 51;

	skip 'built without fault points', 1 unless has_faults($node);
	for my $point (qw(before_close between_emit_and_delete between_table_and_state after_close after_expiry after_positions before_commit after_commit))
	{
		my $restarts = count_in_log($node, 'was terminated by signal 9');
		my $action = $point =~ /^(before_close|after_expiry|after_positions)$/ ? 'error' : 'crash';

		sql($node, "ALTER SYSTEM SET kstream.fault_points = '$point:$action:1'");
		try_sql($node, 'SELECT pg_reload_conf()');
		sleep 0.3;
		eval { tick($from, $from + 40, 1) };
		my $hit = eventually(20, sub {
			$action eq 'crash' ? count_in_log($node, 'was terminated by signal 9') > $restarts :
			  count_in_log($node, "fault point \"$point\"") > 0 });
		ok($hit, "the worker gets to $point");
		no_faults();
		$from = 1 + sql($node, q(SELECT extract(epoch FROM max(ts) - timestamptz '2024-01-01')::int + 3 FROM events));
		check("$action at $point");
	}
}

# wait() returns when all that was read has closed what it closes, however much that is.
sql($node, q(
	SELECT kstream.create_stream('many', 'k int, ts timestamptz', server => 'local', "timestamp" => 'ts');
	SELECT kstream.create_table_as('burst', 'SELECT k, kstream.tumble(ts, ''1 s'') AS w, count(*) AS n FROM many GROUP BY 1, 2', emit => 'final', batch_rows => 100000);
	SELECT kstream.create_table_as('gone', 'SELECT k, kstream.tumble(ts, ''1 s'') AS w, count(*) AS n FROM many GROUP BY 1, 2', retention => '1 s', batch_rows => 100000);
	INSERT INTO many SELECT i, '2024-01-01' FROM generate_series(1, 25000) i;
	SELECT kstream.wait('burst'), kstream.wait('gone');
	INSERT INTO many VALUES (0, '2024-01-02');
	SELECT kstream.wait('burst'), kstream.wait('gone')));
is(sql($node, "SELECT kstream.wait('burst') IS NULL, (SELECT count(*) FROM burst)"), 'f|25000', 'wait includes the windows that are closed');
is(sql($node, 'SELECT count(*) FROM gone'), '1', 'and those that expire');
is(sql($node, q(SELECT sum(pg_relation_size(q.state)) > 0 FROM kstream_catalog.query q WHERE relation = 'burst'::regclass)), 't', 'there was a state');

# The clock: nothing comes any more.
sql($node, q(
	SELECT kstream.create_stream('live', 'k text', server => 'local', partitions => 2);
	SELECT kstream.create_table_as('clocked', 'SELECT k, kstream.tumble(_timestamp, ''1 s'') AS w, count(*) AS n FROM live GROUP BY 1, 2', emit => 'final', idle_timeout => '1 s');
	INSERT INTO live (k, _partition) VALUES ('a', 0), ('b', 0)));
ok(eventually(10, sub { sql($node, 'SELECT count(*) FROM clocked') eq '2' }), 'the last window closes by the clock');
my $rows_then = sql($node, 'SELECT k, w, n FROM clocked ORDER BY k');
my $mark_then = sql($node, q(SELECT watermark FROM kstream.stat_query WHERE name = 'clocked'));
# workers commit asynchronously: what is not flushed would be done again
sql($node, 'CHECKPOINT');
$node->stop('immediate');
$node->start;
is(sql($node, 'SELECT k, w, n FROM clocked ORDER BY k'), $rows_then, 'after a crash they are there');
# a partition that was empty comes with a record of the past: on time by itself, but its window is closed
sql($node, q(INSERT INTO live (k, _partition, _timestamp) SELECT 'a', 1, lower(w) FROM clocked WHERE k = 'a'));
eventually(20, sub { sqlstate($node, q(SELECT kstream.wait('clocked', '5 s'))) eq '' });
is(sql($node, 'SELECT k, w, n FROM clocked ORDER BY k'), $rows_then, 'what the clock has closed stays closed');
is(sql($node, q(SELECT late FROM kstream.stat_query WHERE name = 'clocked')), '1', 'and the record is late');
is(sql($node, "SELECT watermark >= '$mark_then' FROM kstream.stat_query WHERE name = 'clocked'"), 't', 'the watermark has not gone back');

# Waiting for the clock costs no processor time.
sql($node, q(INSERT INTO live (k, _partition, _timestamp) VALUES ('z', 0, now() + interval '1 hour')));
sleep 1.5;
my @pids = worker_pids($node);
my $ticks = sub { my $n = 0; for my $pid (@pids) { my @f = split / /, (slurp_file("/proc/$pid/stat") =~ s/^.*\) //sr); $n += $f[11] + $f[12]; } return $n; };
my $before = $ticks->();
sleep 3;
cmp_ok($ticks->() - $before, '<', 60, 'workers that wait for the clock sleep');
is(count_in_log($node, 'PANIC|TRAP'), 0, 'no assertion failed');
done_testing();
