# 161_crashes.pl: a query that takes the server down whenever it runs leaves time
# to pause it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use KstreamTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = new_node('crashes');

plan skip_all => 'built without fault points' unless has_faults($node);
sql($node, q(
	CREATE EXTENSION kstream;
	SELECT kstream.create_stream('s', 'id int', server => 'local');
	SELECT kstream.create_table_as('t', 'SELECT id FROM s', paused => true);
	INSERT INTO s SELECT generate_series(1, 10);
	ALTER SYSTEM SET kstream.fault_points = 'before_commit:crash'));
$node->restart;
try_sql($node, q(SELECT kstream.resume('t')));
ok(eventually(60, sub { count_in_log($node, qr/continuous queries are not run for 5 s/) > 0 }), 'after some crashes in a row there is a pause');
ok(count_in_log($node, qr/The server has crashed 3 times in a row/) > 0, 'the log says why');
ok(eventually(10, sub { (try_sql($node, q(SELECT kstream.pause('t'))))[0] == 0 }), 'in which the query can be paused');
my $crashes = count_in_log($node, qr/terminated by signal 9/);
cmp_ok($crashes, '<=', 4, 'it does not crash meanwhile');
sleep 7;
is(count_in_log($node, qr/terminated by signal 9/), $crashes, 'nor afterwards');
sql($node, 'ALTER SYSTEM RESET kstream.fault_points');
sql($node, 'SELECT pg_reload_conf()');
sleep 0.5;
sql($node, q(SELECT kstream.resume('t')));
is(sqlstate($node, q(SELECT kstream.wait('t', '30 s'))), '', 'when the cause is gone it runs');
is(sql($node, 'SELECT count(*) FROM t'), '10', 'and has everything once');
done_testing();
