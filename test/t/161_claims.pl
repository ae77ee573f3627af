# 161_claims.pl: many workers take queries that come and go in a row: each is
# run by the worker that has claimed it, and none is left over.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use KstreamTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('claims', conf => "kstream.max_workers = 6\n");

# The worker that a query's row names, and the one that holds the query's lock.
my $claims = q(SELECT count(*), count(l.pid), count(*) FILTER (WHERE q.worker_pid = l.pid)
	FROM kstream.queries q
	JOIN kstream_catalog.query c ON c.relation = q.relation
	LEFT JOIN pg_locks l ON l.locktype = 'advisory' AND l.classid = 0 AND l.objid::int = c.id
		AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()));

sql($node, q(CREATE EXTENSION kstream; SELECT kstream.create_stream('s', 'id int', server => 'local')));
my $seen = '';
my $rounds = 0;
for my $round (1 .. 12)
{
	sql($node, join ';', map { "SELECT kstream.create_table_as('t$_', 'SELECT id FROM s')" } 1 .. 6) if $round % 2;
	# each in a transaction of its own: workers come and read the definitions between them
	sql($node, "SELECT kstream.create_table_as('t$_', 'SELECT id FROM s')") for ($round % 2 ? () : 1 .. 6);
	last unless eventually(15, sub { ($seen = sql($node, $claims)) eq '6|6|6' });
	sql($node, "DROP TABLE t$_") for 1 .. 6;
	$rounds++;
}
is($rounds, 12, 'each query is run by the worker that has claimed it') or diag("queries, locks, agreeing: $seen");

sql($node, "SELECT kstream.create_table_as('t$_', 'SELECT id FROM s')") for 1 .. 6;
sql($node, "SELECT kstream.pause('t1')");
ok(eventually(15, sub { sql($node, "SELECT state FROM kstream.queries WHERE name = 't1'") eq 'paused' }), 'a paused query shows that');
sql($node, "SELECT kstream.resume('t1')");
ok(eventually(15, sub { sql($node, $claims) eq '6|6|6' }), 'a resumed one finds a worker');
done_testing();
