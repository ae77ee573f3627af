# A standby runs nothing; promoted, it goes on by itself at the replicated positions.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use KstreamTest;
use PostgreSQL::Test::Cluster;
use Test::More;
use Time::HiRes qw(sleep time);

my $primary = new_node('primary', streaming => 1);
setup_queries($primary);
sql($primary, "SELECT kstream.keep_changes('totals', '1 hour')");
produce($primary, 1000);
law_holds($primary, 'the primary runs its queries');

$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
# a call that waits for changes would hold up the replay of what it waits for
$standby->append_conf('postgresql.conf', 'hot_standby_feedback = on');
$standby->start;

my $load = start_load($primary);
sleep 1;
is(sql($standby, q(SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'kstream%')), '0',
	'a standby has neither launcher nor workers');
is(sqlstate($standby, 'SELECT kstream.wait()'), 'KS002', 'wait on a standby says so');
is(sqlstate($standby, 'SELECT count(*) FROM totals'), '', 'tables can be read on a standby');
my $before = sql($standby, "SELECT kstream.position('totals')");
is(sql($standby, "SELECT min(position) - $before FROM kstream.changes('totals', $before, wait => '60 s')"), '1',
	'changes can be followed on a standby');

# What is seen on the standby is a consistent cut: table and positions belong together.
my $cuts = 0;
for (1 .. 10)
{
	my $same = sql($standby, q(
		SELECT (SELECT coalesce(sum(n), 0) FROM totals) =
			(SELECT coalesce(sum(p.next_offset), 0) FROM kstream_catalog.position p
				JOIN kstream_catalog.query q ON q.id = p.query WHERE q.relation = 'totals'::regclass)));
	$cuts++ if $same eq 't';
	sleep 0.05;
}
is($cuts, 10, 'state and positions agree in every snapshot of the standby');

$primary->stop('immediate');
stop_load($load);
my $took = seconds(sub {
	$standby->promote;
	eventually(20, sub { worker_pids($standby) == 2 });
});
cmp_ok($took, '<', 10, 'after promotion workers start by themselves');
law_holds($standby, 'and go on where they were');
produce($standby, 1000);
law_holds($standby, 'with new records too');
$standby->stop('immediate');
$standby->start;
law_holds($standby, 'also after a crash');
is(sql($standby, "SELECT count(*) = kstream.position('totals') FROM kstream.changes('totals', max_rows => NULL)"), 't',
	'no change is missing');
is(count_in_log($standby, qr/PANIC|TRAP|signal (6|11)/), 0, 'no crash of ours');
$standby->stop('fast');
done_testing();
