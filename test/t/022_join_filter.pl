# 022_join_filter.pl: joins whose new rows are tested against what memory knows of
# the buffers, over many small batches of one worker.
#
# Queries stay open over all batches, which no test with kstream.step() has; records
# come out of order by less than the grace, so none is late, and at the end each
# table must equal the join in plain SQL.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use KstreamTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $seed = $ENV{KS_SEED} || time() % 100000;
my $commits = $ENV{KS_COMMITS} || 300;

# Tables of filters are to become too large: 64 kB are 4,096 places.
my $node = new_node('main', conf => "kstream.max_workers = 1\nwork_mem = 64kB\nhash_mem_multiplier = 1\n");
my %queries = (
	inner_text => q{SELECT a.id AS a, b.id AS b FROM a JOIN b ON a.t = b.t AND b.ts BETWEEN a.ts - interval '20 s' AND a.ts + interval '20 s'},
	of_types => q{SELECT a.id AS a, b.id AS b FROM a JOIN b ON a.k = b.big AND a.t = b.t AND b.ts >= a.ts AND b.ts < a.ts + interval '40 s'},
	kept => q{SELECT a.id AS a, b.id AS b FROM a LEFT JOIN b ON a.k = b.big AND b.ts > a.ts - interval '30 s' AND b.ts <= a.ts},
	both_kept => q{SELECT a.id AS a, b.id AS b FROM a FULL JOIN b ON a.n = b.n AND b.ts BETWEEN a.ts - interval '5 s' AND a.ts + interval '30 s'},
	three => q{SELECT a.id AS a, b.id AS b, c.id AS c FROM a JOIN b ON a.k = b.big AND b.ts BETWEEN a.ts - interval '20 s' AND a.ts
		JOIN a c ON c.t = b.t AND c.ts > b.ts - interval '15 s' AND c.ts < b.ts + interval '1 s'},
	guarded => q{SELECT a.id AS a, b.id AS b FROM a JOIN b ON a.k > 0 AND b.big > 0 AND 100000000 / a.k = 100000000 / b.big AND b.ts BETWEEN a.ts - interval '10 s' AND a.ts + interval '10 s'});

my $began = time();
srand $seed;
note "KS_SEED=$seed";
sql($node, q(
	CREATE EXTENSION kstream;
	SELECT kstream.create_stream('a', 'id int, k int, t text, n numeric, ts timestamptz', "timestamp" => 'ts', server => 'local', partitions => 2);
	SELECT kstream.create_stream('b', 'id int, big bigint, t text, n numeric, ts timestamptz', "timestamp" => 'ts', server => 'local', partitions => 2);
	CREATE TABLE all_a (id int, k int, t text, n numeric, ts timestamptz);
	CREATE TABLE all_b (id int, big bigint, t text, n numeric, ts timestamptz)));
sql($node, "SELECT kstream.create_table_as('$_', \$\$$queries{$_}\$\$, grace => '20 s')") foreach (sort keys %queries);

# So many commits of a few rows each, from that second on: two seconds of event time a commit, out of order by up to
# 18 s; a tenth of the rows, in a partition of their own, are far ahead.  Keys are those of few or of many, so that
# most rows have no partner, and some have many.
sub write_rows
{
	my ($from, $n, $keys) = @_;

	sql($node, qq(
		DO \$\$
		BEGIN
			PERFORM setseed(@{[ rand() ]});
			FOR i IN $from .. $from + $n - 1 LOOP
				WITH rows AS (
					SELECT 1000 * i + j AS id, CASE WHEN random() < 0.3 THEN 5 ELSE $keys END AS keys, (random() < 0.1)::int AS ahead
					FROM generate_series(1, 1 + (random() * 6)::int) j),
				made AS (
					SELECT id, nullif((random() * keys)::int, 3) AS k, 'key ' || (random() * keys)::int AS t,
						(random() * keys)::int / 2.0 AS n, ahead,
						timestamptz '2024-03-01 12:00+00' + interval '1 s' * (2 * i + 18 * random() + 200 * ahead) AS ts
					FROM rows),
				as_a AS (INSERT INTO all_a SELECT id, k, t, n, ts FROM made WHERE id % 2 = 0),
				as_b AS (INSERT INTO all_b SELECT id, k, t, n, ts FROM made WHERE id % 2 = 1),
				to_a AS (INSERT INTO a (id, k, t, n, ts, _partition) SELECT id, k, t, n, ts, ahead FROM made WHERE id % 2 = 0)
				INSERT INTO b (id, big, t, n, ts, _partition) SELECT id, k, t, n, ts, ahead FROM made WHERE id % 2 = 1;
				COMMIT;
				PERFORM pg_sleep(0.004);
			END LOOP;
		END\$\$));
}

# The watermark passes everything before.
sub end_of_time
{
	my ($at) = @_;

	sql($node, qq(INSERT INTO $_ (id, ts, _partition)
		SELECT 0, timestamptz '2024-03-01 12:00+00' + interval '2 s' * $at, p FROM generate_series(0, 1) p)) foreach ('a', 'b');
	sql($node, "SELECT kstream.wait(timeout => '2 min')");
}

# Each table must equal its query over all rows, as multisets; what has ended time has no place in it.
sub compare
{
	my ($when) = @_;

	foreach my $name (sort keys %queries)
	{
		my $plain = $queries{$name} =~ s/\b(FROM|JOIN) (a|b)\b/$1 all_$2 $2/gr =~ s/all_a a c/all_a c/r;
		my $columns = $name eq 'three' ? 'a, b, c' : 'a, b';

		note sprintf('%.1f s: %s', time() - $began, $name);
		is(sql($node, "SELECT count(*), (array_agg(x::text ORDER BY random()))[1:8] FROM (
				(SELECT 'missing', $columns FROM ($plain) p EXCEPT ALL SELECT 'missing', $columns FROM $name)
				UNION ALL (SELECT 'too much', $columns FROM $name WHERE a IS DISTINCT FROM 0 AND b IS DISTINCT FROM 0
					EXCEPT ALL SELECT 'too much', $columns FROM ($plain) p)) x"),
			'0|', "$when: $name equals the join in plain SQL");
		cmp_ok(sql($node, "SELECT count(*) FROM $name WHERE a > 0 AND b > 0"), '>', 10, "$when: $name has matches");
	}
}

write_rows(1, $commits, 300);
end_of_time($commits + 200);
compare('many batches');
cmp_ok(sql($node, q(SELECT min(batches) FROM kstream.stat_query)), '>', $commits / 10, 'there were many batches');

# More keys within a few seconds than a table has room for; then rows that meet them.
sql($node, qq(
	WITH rows AS (
		SELECT 10000000 + j AS id, 1000 + j AS k, 'key ' || 1000 + j AS t, 1000 + j AS n,
			timestamptz '2024-03-01 12:00+00' + interval '2 s' * ($commits + 200) AS ts
		FROM generate_series(1, 9000) j),
	as_a AS (INSERT INTO all_a SELECT * FROM rows RETURNING *)
	INSERT INTO a SELECT * FROM as_a));
sql($node, "SELECT kstream.wait(timeout => '2 min')");
sql($node, qq(
	WITH rows AS (
		SELECT 20000000 + j AS id, 1000 + j AS big, 'key ' || 1000 + j AS t, 1000 + j AS n,
			timestamptz '2024-03-01 12:00+00' + interval '2 s' * ($commits + 200) AS ts
		FROM generate_series(1, 9000, 7) j),
	as_b AS (INSERT INTO all_b SELECT * FROM rows RETURNING *)
	INSERT INTO b SELECT * FROM as_b));
write_rows($commits + 202, 60, 300);
end_of_time($commits + 500);
compare('after very many keys');

is(sql($node, 'SELECT count(*) FROM kstream.dead_letters'), '0', 'no record was bad');
is(sql($node, 'SELECT sum(late) FROM kstream.stat_query'), '0', 'none was late');
is(count_in_log($node, 'WARNING|ERROR|FATAL|PANIC|TRAP'), 0, 'nothing odd in the log');
$node->stop;
done_testing();
