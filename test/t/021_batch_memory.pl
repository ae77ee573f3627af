# Batches whose records make more rows than memory is given for: run in smaller
# ones, with the same result.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use KstreamTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "kstream.batch_mem = '2MB'\n");

sql($node, q(
	CREATE EXTENSION kstream;
	SELECT kstream.create_stream('events', 'k int, ts timestamptz', server => 'local', "timestamp" => 'ts');
	SELECT kstream.create_table_as('hops', 'SELECT k, w, count(*) AS n FROM events e, kstream.hop(e.ts, ''1 min'', ''1 hour'') w GROUP BY 1, 2', paused => true);
	SELECT kstream.create_table_as('series', 'SELECT k, i FROM events, generate_series(1, 40) i', paused => true);
	SELECT kstream.create_table_as('one', 'SELECT k, i, count(*) AS n FROM events, generate_series(1, 40000) i WHERE k = 7 GROUP BY 1, 2', paused => true);
	INSERT INTO events SELECT i, timestamptz '2024-01-01' + i * interval '1 s' FROM generate_series(1, 2000) i));
my ($out, $err) = ('', '');
$node->psql('postgres', q(SELECT kstream.step('hops', 2000)), stderr => \$err);
like($err, qr/need more memory than kstream.batch_mem.*HINT: .*process fewer records at a time/s, 'a step says what to do');

my $log = -s $node->logfile;
sql($node, q(SELECT kstream.resume('hops'), kstream.resume('series')));
sql($node, q(SELECT kstream.wait('hops', '2 min'), kstream.wait('series', '2 min')));
is(sql($node, q(SELECT count(*), sum(n) FROM hops)), '120000|120000', 'all windows, each once');
is(sql($node, q(SELECT count(*), count(DISTINCT (k, i)) FROM series)), '80000|80000', 'all rows, each once');
is(sql($node, q(SELECT count(*) FROM kstream.queries WHERE name IN ('hops', 'series') AND last_error IS NOT NULL)), '0', 'no query has failed');
my $text = slurp_file($node->logfile, $log);
like($text, qr/continuous query public\.hops goes on with \d+ records a batch: the rows that the records of a batch make/, 'the log tells');
my @batches = split /\|/, sql($node, q(SELECT (SELECT batches FROM kstream.stat_query WHERE name = 'hops'), (SELECT batches FROM kstream.stat_query WHERE name = 'series')));
cmp_ok($batches[0], '>', 10, 'in smaller batches');

# what a single record makes cannot be cut: the query says so, and goes on when it is given the memory
sql($node, q(SELECT kstream.resume('one')));
$node->poll_query_until('postgres', q(SELECT state = 'failed' AND last_error ~ 'kstream.batch_mem' FROM kstream.queries WHERE name = 'one'))
  or die 'no error';
pass('a record that makes too much is told');
$node->append_conf('postgresql.conf', "kstream.batch_mem = '200MB'");
$node->reload;
sql($node, q(SELECT kstream.resume('one')));
sql($node, q(SELECT kstream.wait('one', '1 min')));
is(sql($node, q(SELECT count(*), sum(n) FROM one)), '40000|40000', 'and goes on with more memory');

$node->stop;
done_testing();
