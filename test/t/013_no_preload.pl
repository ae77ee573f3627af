# Without shared_preload_libraries everything that needs no worker works.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use KstreamTest;
use Test::More;

my $node = new_node('plain', conf => "shared_preload_libraries = ''");

sql($node, q(
	CREATE EXTENSION kstream;
	SELECT kstream.create_stream('s', 'id bigint, v int', server => 'local')));
my ($code, $out, $err) = try_sql($node, q(SELECT kstream.create_table_as('t', 'SELECT id, v FROM s WHERE v > 0')));
is($code, 0, 'a query can be created');
like($err, qr/WARNING.*HINT.*shared_preload_libraries/s, 'with a warning and a hint');
sql($node, q(INSERT INTO s (id, v) SELECT i, i % 2 FROM generate_series(1, 10) i));
is(sql($node, 'SELECT count(*) FROM s'), '10', 'a stream can be read');
is(sql($node, q(SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'kstream%')), '0', 'no process of ours');
is(sqlstate($node, 'SELECT kstream.wait()'), 'KS002', 'wait says that nothing runs');
is(sql($node, 'SELECT count(*) FROM kstream_catalog.stat_query_shmem()'), '0', 'no statistics of queries');
is(sql($node, 'SELECT count(*) FROM kstream_catalog.stat_partition_shmem()'), '0', 'nor of partitions');
is(sqlstate($node, 'SELECT * FROM kstream.queries; SELECT * FROM kstream.stat_query; SELECT * FROM kstream.stat_partition'),
	'', 'views can be read');
sql($node, q(SELECT kstream.pause('t')));
is(sql($node, q(SELECT kstream.step('t', 100))), '10', 'a paused query can be stepped');
is(sql($node, 'SELECT count(*) FROM t'), '5', 'with the right result');
is(sqlstate($node, q(SELECT kstream.reset('t'))), '', 'and reset');
is(sqlstate($node, q(LOAD 'kstream'; SET kstream.no_such_setting = 1)), '42602', 'the prefix kstream is reserved');
is(sqlstate($node, 'DROP EXTENSION kstream CASCADE'), '', 'the extension can be dropped');

# The same data directory goes on with the library preloaded.
sql($node, q(
	CREATE EXTENSION kstream;
	SELECT kstream.create_stream('s', 'id bigint, v int', server => 'local');
	SELECT kstream.create_table_as('t', 'SELECT id, v FROM s WHERE v > 0');
	INSERT INTO s (id, v) SELECT i, i % 2 FROM generate_series(1, 10) i));
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'kstream'");
$node->restart;
is(sqlstate($node, 'SELECT kstream.wait()'), '', 'after a restart with preload the query runs');
is(sql($node, 'SELECT count(*) FROM t'), '5', 'with the right result');

# Who may wait for what.
sql($node, 'CREATE ROLE reader LOGIN; CREATE ROLE stranger LOGIN; GRANT SELECT ON t TO reader');
is(sqlstate($node, q(SET SESSION AUTHORIZATION reader; SELECT kstream.wait('t'))), '', 'who may read a table may wait for it');
is(sqlstate($node, q(SET SESSION AUTHORIZATION stranger; SELECT kstream.wait('t'))), '42501', 'others may not');
sql($node, q(SELECT kstream.pause('t')));
is(sqlstate($node, q(SET SESSION AUTHORIZATION stranger; SELECT kstream.wait())), '', 'wait without a name is for the own queries');
is(sqlstate($node, q(SELECT kstream.wait())), 'KS002', 'which are all, for a superuser');
is(sqlstate($node, q(SELECT kstream.wait('no_such_table'))), '42P01', 'wait for a table that does not exist');

$node->stop('fast');
done_testing();
