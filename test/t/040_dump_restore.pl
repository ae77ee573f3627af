# pg_dump and restore: definitions, results, states and positions are one
# consistent cut; restored queries wait for resume and then go on exactly there.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use KstreamTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $dump = $node->data_dir . '/../kstream.dump';
my $plain = $node->data_dir . '/../kstream.sql';

# orphans: the relations in our schemas that belong to no other.
sub orphans
{
	my ($db) = @_;

	return sql($node, q(
		SELECT c.oid::regclass FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE nspname IN ('kstream_query', 'kstream_state') AND relkind IN ('r', 'v', 'f')
			AND NOT EXISTS (SELECT FROM pg_depend d
				WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'i'
					AND d.refclassid = 'pg_class'::regclass)), $db);
}

# catalog: what the catalog says of the queries, in words that do not change.
sub catalog
{
	my ($db) = @_;

	return sql($node, q(
		SELECT relation, kind, view IS NULL, source IS NULL, state IS NULL, inputs IS NULL, key_columns, start, settings, grace, retention, emit, idle_timeout
		FROM kstream_catalog.query ORDER BY relation::text;
		SELECT q.relation, p.source, p.partition, p.next_offset, p.records, p.rows_out, p.dead, p.stream_time, p.late, p.watermark
		FROM kstream_catalog.position p JOIN kstream_catalog.query q ON q.id = p.query ORDER BY q.relation::text, p.source::text, p.partition;
		SELECT id, source, partition, "offset", value, sqlstate, message FROM kstream_catalog.dead_letter ORDER BY id;
		SELECT relation, partitions FROM kstream_catalog.local_log ORDER BY relation::text;
		SELECT q.relation, d.source, d.key_columns, d."window" FROM kstream_catalog.dedup d JOIN kstream_catalog.query q ON q.id = d.query;
		SELECT relation, number, low, high FROM kstream_catalog.dedup_part ORDER BY number), $db);
}

# restore: into a new database, from the custom or the plain format.
sub restore
{
	my ($db, @how) = @_;

	sql($node, "CREATE DATABASE $db");
	return @how
	  ? run_log([ 'pg_restore', '-d', $node->connstr($db), '--exit-on-error', @how, $dump ])
	  : run_log([ 'psql', '-X', '-q', '-o', '/dev/null', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($db), '-f', $plain ]);
}

# law: waits for the queries over the stream orders, then compares their tables with their SELECTs.
sub law
{
	my ($name, $db) = @_;
	my $differences = '';
	my %queries = (
		totals => 'SELECT who, count(*), sum(amount), avg(amount) FROM orders GROUP BY who',
		large => 'SELECT id, who, amount FROM orders WHERE amount > 500',
		overall => 'SELECT count(*), max(id) FROM orders',
		lists => q(SELECT who, string_agg(id::text, ',' ORDER BY id) FROM orders GROUP BY who),
		sessions => q(SELECT tstzrange(min(_timestamp), max(_timestamp) + '1 day'), who, count(*) FROM orders GROUP BY who),
		named => q(SELECT id, name, 1000 / (amount - 37)::int FROM orders JOIN names USING (who) WHERE amount <> 37));

	for my $table (sort keys %queries)
	{
		my $state = sqlstate($node, "SELECT kstream.wait('$table', '30 s')", $db);
		my $n = sql($node, qq(
			SELECT count(*) FROM (
				(SELECT * FROM $table EXCEPT ALL ($queries{$table}))
				UNION ALL
				(($queries{$table}) EXCEPT ALL SELECT * FROM $table)) d), $db);

		$differences .= "$table: $state $n " if $state ne '' || $n ne '0';
	}
	return is($differences, '', $name);
}

setup_queries($node);
sql($node, q(
	CREATE ROLE owner;
	GRANT CREATE ON SCHEMA public TO owner;
	CREATE SERVER kafka FOREIGN DATA WRAPPER kstream OPTIONS (bootstrap_servers 'localhost:1');
	SELECT kstream.create_stream('remote', 'a int, b text OPTIONS (path ''x.y'') CHECK (b <> '''')', server => 'kafka', key => 'a');
	CREATE TABLE names (who text PRIMARY KEY, name text);
	INSERT INTO names VALUES ('user 1', 'Ann')));
sql($node, q(
	SELECT kstream.create_table('followed', 'id bigint PRIMARY KEY, note text NOT NULL, n int CHECK (n > 0)', server => 'kafka');
	SELECT kstream.pause('followed')));
sql($node, q(
	SELECT kstream.create_table_as('lists', 'SELECT who, string_agg(id::text, '','' ORDER BY id) AS ids FROM orders GROUP BY who');
	SELECT kstream.create_table_as('sessions', 'SELECT kstream.session(_timestamp, ''1 day'') AS w, who, count(*) AS n FROM orders GROUP BY 1, 2', grace => '1 day', retention => '30 days');
	SELECT kstream.create_table_as('closing', 'SELECT kstream.tumble(_timestamp, ''1 s'') AS w, who, count(*) AS n FROM orders GROUP BY 1, 2', emit => 'final');
	SELECT kstream.create_table_as('named', 'SELECT id, name, 1000 / (amount - 37)::int AS q FROM orders JOIN names USING (who)')));
sql($node, q(
	SET ROLE owner;
	SELECT kstream.create_stream('own', 'v int', server => 'local', partitions => 2);
	SELECT kstream.create_table_as('own_sum', 'SELECT avg(v) AS a FROM own');
	INSERT INTO own SELECT generate_series(1, 10)));
sql($node, q(
	SELECT kstream.create_stream('repeated', 'id int, "at" timestamptz', "timestamp" => 'at', server => 'local', dedup_key => 'id', dedup_window => '1 h');
	SELECT kstream.create_table_as('unrepeated', 'SELECT id FROM repeated');
	INSERT INTO repeated SELECT i, timestamptz '2024-01-01' + i % 100 * interval '1 min' FROM generate_series(1, 300) i));
produce($node, 500);
sql($node, "INSERT INTO orders (id, who, amount) VALUES (0, 'user 1', 37)");
law('before the dump');
sql($node, "SELECT kstream.wait('unrepeated')");
isnt(sql($node, 'SELECT count(*) FROM kstream_catalog.dedup_part'), '0', 'there are tables of keys');
isnt(sql($node, 'SELECT count(*) FROM kstream.dead_letters'), '0', 'there are dead letters');

# A dump while records come in; what it holds fits together.
my $load = start_load($node);
ok(run_log([ 'pg_dump', '-Fc', '-f', $dump, '-d', $node->connstr('postgres') ]), 'pg_dump during load');
stop_load($load);
law('the source database goes on');
sql($node, 'SELECT kstream.pause(name) FROM kstream.queries');
ok(run_log([ 'pg_dump', '-f', $plain, '-d', $node->connstr('postgres') ]), 'pg_dump as text');

ok(restore('copy', '-j1'), 'pg_restore');
is(sql($node, "SELECT string_agg(DISTINCT state, ',') FROM kstream.queries", 'copy'), 'blocked', 'restored queries are blocked');
is(orphans('copy'), '', 'their parts belong to them again');
is(sql($node, "SELECT string_agg(DISTINCT relowner::regrole::text, ',') FROM pg_class c JOIN kstream_catalog.query q
	ON c.oid IN (q.relation, q.view, q.state) WHERE q.relation = 'own_sum'::regclass", 'copy'),
	'owner', 'and to their owner');
is(sqlstate($node, "SELECT kstream.wait('totals', '5 s')", 'copy'), 'KS002', 'nothing runs them');
is(sqlstate($node, "INSERT INTO totals VALUES ('x')", 'copy'), '42809', 'their tables are guarded');

sql($node, "INSERT INTO orders (id, who, amount) VALUES (-1, 'user 1', 600)", 'copy');
sql($node, "SELECT kstream.resume(name) FROM kstream.queries WHERE kind NOT LIKE '%table'", 'copy');
law('after resume they go on exactly where the dump was', 'copy');
sql($node, "INSERT INTO repeated SELECT i, timestamptz '2024-01-01 01:39' FROM generate_series(1, 320) i", 'copy');
sql($node, "SELECT kstream.wait('unrepeated', '30 s')", 'copy');
is(sql($node, 'SELECT count(*), count(DISTINCT id) FROM unrepeated WHERE id % 100 >= 39 OR id > 300', 'copy'), '203|203', 'and know the keys they have seen');
is(sql($node, "SELECT string_agg(name, ',') FROM kstream.queries WHERE state = 'blocked'", 'copy'), 'followed', 'the others stay blocked');
is(sqlstate($node, "SELECT kstream.create_stream('more', 'a int', server => 'local')", 'copy'), '', 'numbers go on after those restored');
sql($node, 'DROP FOREIGN TABLE orders CASCADE; DROP TABLE followed; DROP FOREIGN TABLE own CASCADE; DROP FOREIGN TABLE repeated CASCADE', 'copy');
is(sql($node, "SELECT count(*) FROM kstream.queries", 'copy'), '0', 'drop takes along what was restored');
is(orphans('copy'), '', 'and all parts');

# The text of a dump, restored by psql, says how to go on.
sql($node, 'CREATE DATABASE text_copy');
my ($stdout, $stderr);
ok(IPC::Run::run([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('text_copy'), '-f', $plain ],
	'>', \$stdout, '2>', \$stderr), 'restore of a dump as text');
like($stderr, qr/NOTICE:  restored continuous queries are paused.*kstream\.resume/s, 'a notice says how to go on');
unlike($stderr, qr/WARNING|ERROR/, 'and nothing else is said');
is(catalog('text_copy'), catalog('postgres'), 'the catalog is the same');

# In parallel, and definitions only.
ok(restore('parallel_copy', '-j3'), 'parallel pg_restore');
is(orphans('parallel_copy'), '', 'with all links');
ok(restore('empty_copy', '--schema-only'), 'pg_restore of definitions only');
is(sqlstate($node, "INSERT INTO orders (id) VALUES (1)", 'empty_copy'), '', 'its streams work');

# A copy made from a template has the same rows, but its queries belong to the original.
is(sqlstate($node, 'CREATE DATABASE twin TEMPLATE text_copy'), '', 'a database as a template');
sql($node, "SELECT kstream.resume('totals')", 'text_copy');
sql($node, 'CREATE DATABASE twin2 TEMPLATE text_copy');
is(sql($node, "SELECT state FROM kstream.queries WHERE name = 'totals'", 'twin2'), 'blocked', 'a copy does not run its queries');
$node->stop;
done_testing();
