
# 220_sinks.pl: sinks on a real broker.  The fold of a topic (the last record of
# each key, gone where that is a tombstone) equals the table, whatever was rolled
# back and whoever was killed; topics are read by a reader that knows nothing of
# the client library.

use strict;
use warnings;

use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use KafkaTest;

plan skip_all => 'KAFKA_BOOTSTRAP names no broker' unless bootstrap();

my $node = new_node('main', 'kstream.max_workers = 2');
my $json = JSON::PP->new->canonical->allow_nonref;

create_db($node, 'sinks');

sub sql { return $node->safe_psql('sinks', $_[0]) }

# Waits until a sink has published everything; dies when it does not.
sub drained
{
	my ($name) = @_;

	query_until($node, 'sinks', "SELECT lag_rows = 0 FROM kstream.sinks WHERE name = '$name'", 't', 60) eq 't'
	  or die "sink $name: " . sql("SELECT * FROM kstream.sinks WHERE name = '$name'");
}

# The last value of each key, decoded; offsets within a partition are the order.
sub fold
{
	my ($topic) = @_;
	my %rows;

	foreach my $row (topic_rows($topic))
	{
		my ($partition, $offset, $time, $key, $value) = @$row;

		if   (defined $value) { $rows{$key} = $value }
		else                  { delete $rows{$key} }
	}
	return join "\n", map { "$_ " . $json->encode($json->decode($rows{$_})) } sort keys %rows;
}

# The table in the same form.
sub table_as_fold
{
	my ($table, $key) = @_;
	my @lines = split /\n/, sql("SELECT $key || ' ' || row_to_json(t) FROM $table t");

	return join "\n", sort map { my ($k, $v) = split / /, $_, 2; "$k " . $json->encode($json->decode($v)) } @lines;
}

# ---- a user's own table

my $accounts = create_topic('accounts', 3);
my $history = create_topic('history', 1);

sql(q{
	CREATE TABLE owners (id int PRIMARY KEY);
	INSERT INTO owners SELECT generate_series(1, 20);
	CREATE TABLE accounts (id int PRIMARY KEY, owner int REFERENCES owners ON DELETE CASCADE ON UPDATE CASCADE, v bigint, note text);
	INSERT INTO accounts SELECT i, 1 + i % 20, i, 'first ' || i FROM generate_series(1, 50) i});
sql("SELECT kstream.create_sink('accounts', 'accounts', '$accounts', headers => 'jsonb_build_object(''owner'', owner::text)')");
sql("SELECT kstream.create_sink('history', 'accounts', '$history', envelope => 'debezium')");
drained('accounts');
is(fold($accounts), table_as_fold('accounts', 'id'), 'the snapshot is the table');

# Random statements; a third of the transactions is rolled back.
srand 4711;

sub random_statement
{
	my $a = 1 + int rand 200;
	my $b = 1 + int rand 200;
	my @statements = (
		"INSERT INTO accounts VALUES ($a, 1 + $a % 20, $b, 'x') ON CONFLICT (id) DO UPDATE SET v = accounts.v + 1",
		"INSERT INTO accounts SELECT i, 1 + i % 20, i, repeat('y', i % 50) FROM generate_series($a, $a + 20) i ON CONFLICT DO NOTHING",
		"UPDATE accounts SET v = v + 1, note = 'n$b' WHERE id % 7 = $a % 7",
		"UPDATE accounts SET id = id + 1000 WHERE id = $a",
		"UPDATE accounts SET id = id - 1000 WHERE id = $a + 1000 AND NOT EXISTS (SELECT FROM accounts WHERE id = $a)",
		"DELETE FROM accounts WHERE id BETWEEN $a AND $a + 5",
		"MERGE INTO accounts t USING (SELECT $a AS k UNION SELECT $b) s ON t.id = s.k"
		  . " WHEN MATCHED AND k % 2 = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET v = -1"
		  . " WHEN NOT MATCHED THEN INSERT VALUES (s.k, 1, 0, 'merged')",
		"DELETE FROM owners WHERE id = 1 + $a % 20; INSERT INTO owners VALUES (1 + $a % 20)",
		"UPDATE owners SET id = id + 100 WHERE id = 1 + $a % 20; UPDATE owners SET id = id - 100 WHERE id > 100",
		"COPY accounts (id, v) FROM PROGRAM 'seq 5000 5009 | sed \"s/\$/\\\\t7/\"'; DELETE FROM accounts WHERE id >= 5000");

	return $statements[ int rand @statements ];
}

my @script;
foreach my $n (1 .. 150)
{
	my @body = map { random_statement() } 0 .. int rand 3;

	splice @body, 1, 0, 'SAVEPOINT s', random_statement(), 'ROLLBACK TO s' if $n % 4 == 0;
	push @script, 'BEGIN', @body, $n % 3 == 0 ? 'ROLLBACK' : 'COMMIT';
	push @script, 'BEGIN', 'TRUNCATE accounts', 'INSERT INTO accounts VALUES (1, 1, 1, NULL)', 'COMMIT' if $n == 70;
}
my ($code, $out, $err) = (0, '', '');
$node->psql('sinks', join(";\n", @script) . ';', stdout => \$out, stderr => \$err, on_error_stop => 0);
unlike($err, qr/sink|outbox|kstream/, 'statements fail for reasons of their own only');
drained('accounts');
drained('history');
is(fold($accounts), table_as_fold('accounts', 'id'), 'the fold of the topic is the table after random statements');
cmp_ok(scalar(split /\n/, table_as_fold('accounts', 'id')), '>', 10, 'the table is not empty');

# statements inside of statements: triggers and functions that change the table again
{
	my $topic = create_topic('nested', 2);
	my @statements = map { my $s = $_; sub { my ($a, $b) = map { 1 + int rand 40 } 1, 2; return $s =~ s/\$a/$a/gr =~ s/\$b/$b/gr } } (
		'INSERT INTO nested (id, v) VALUES ($a, $b)',
		'INSERT INTO nested (id, v) SELECT i, i * $b FROM generate_series($a, $a + 4) i',
		'INSERT INTO nested (id, v) SELECT change_the_last(i), $b FROM generate_series($a, $a + 4) i',
		'UPDATE nested SET v = v + 1 WHERE id % 3 = $b % 3',
		'UPDATE nested SET v = $b, id = id + 100 WHERE id = $a',
		'UPDATE nested SET id = $a WHERE id > 100 AND id = (SELECT min(id) FROM nested WHERE id > 100)',
		'DELETE FROM nested WHERE id BETWEEN $a AND $a + 2',
		'WITH o AS (INSERT INTO nested (id, v) VALUES ($a, 1) RETURNING id) INSERT INTO items SELECT id, $b FROM o',
		'WITH o AS (UPDATE nested SET v = 2 WHERE id = $a RETURNING id) INSERT INTO items SELECT id, $b FROM o',
		'INSERT INTO items VALUES ($a, $b)',
		q(DO 'BEGIN FOR i IN $a .. $a + 3 LOOP UPDATE nested SET v = v + i WHERE id = i; END LOOP; END'),
		q(DO 'DECLARE r record; BEGIN FOR r IN INSERT INTO nested (id, v) VALUES ($a, $b) RETURNING id LOOP UPDATE nested SET upd = 7 WHERE id = r.id; END LOOP; END'),
		q(COPY nested (id, v) FROM PROGRAM 'seq $a $b | sed "s/$/\\t3/"'));
	my ($out, $err) = ('', '');

	sql(q{
		CREATE TABLE nested (id int PRIMARY KEY, v int, upd int);
		CREATE TABLE items (id int, amount int);
		CREATE FUNCTION bump() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF NEW.v % 7 = 0 THEN DELETE FROM nested WHERE id = NEW.id;
			ELSE UPDATE nested SET upd = coalesce(upd, 0) + 1 WHERE id = NEW.id; END IF;
			RETURN NULL; END $$;
		CREATE TRIGGER bump AFTER INSERT OR UPDATE OF v ON nested FOR EACH ROW EXECUTE FUNCTION bump();
		CREATE FUNCTION spread() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF pg_trigger_depth() = 1 THEN UPDATE nested SET upd = coalesce(upd, 0) + 100 WHERE id % 5 = 0; END IF;
			RETURN NULL; END $$;
		CREATE TRIGGER spread AFTER UPDATE ON nested FOR EACH STATEMENT EXECUTE FUNCTION spread();
		CREATE FUNCTION make_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			DELETE FROM nested WHERE id = NEW.id; RETURN NEW; END $$;
		CREATE TRIGGER make_room BEFORE INSERT ON nested FOR EACH ROW EXECUTE FUNCTION make_room();
		CREATE FUNCTION total() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			UPDATE nested SET v = v + NEW.amount WHERE id = NEW.id; RETURN NULL; END $$;
		CREATE TRIGGER total AFTER INSERT ON items FOR EACH ROW EXECUTE FUNCTION total();
		CREATE FUNCTION change_the_last(i int) RETURNS int VOLATILE LANGUAGE plpgsql AS $$ BEGIN
			UPDATE nested SET upd = -i WHERE id = i - 1; RETURN i; END $$});
	sql("SELECT kstream.create_sink('nested', 'nested', '$topic')");
	$node->psql('sinks', join(";\n", map { $statements[ rand @statements ]->() } 1 .. 400) . ';', stdout => \$out, stderr => \$err, on_error_stop => 0);
	unlike($err, qr/sink|outbox|kstream/, 'statements inside of statements: errors of their own only');
	drained('nested');
	is(fold($topic), table_as_fold('nested', 'id'), 'statements inside of statements: the fold of the topic is the table');
	cmp_ok(sql('SELECT count(*) FROM nested'), '>', 10, 'and that is not empty');
}

# the history tells the same
{
	my %rows;
	my %ops;

	foreach my $row (topic_rows($history))
	{
		my ($partition, $offset, $time, $key, $value) = @$row;
		my $event = defined $value ? $json->decode($value) : undef;

		if (!defined $event) { delete $rows{$key}; next }
		$ops{ $event->{op} }++;
		if   ($event->{op} eq 'd') { delete $rows{$key} }
		else                       { $rows{$key} = $json->encode($event->{after}) }
	}
	is(join("\n", map { "$_ $rows{$_}" } sort keys %rows), table_as_fold('accounts', 'id'), 'the events fold to the table');
	is(join(' ', sort keys %ops), 'c d r u', 'all operations were seen');
	is($ops{r}, 50, 'rows that were there are marked as such');
}
is(sql("SELECT kstream.create_stream('read_accounts', 'id int, owner int', topic => '$accounts', key => 'id');
	SELECT count(*) FROM read_accounts WHERE owner IS NOT NULL AND _headers->>'owner' IS DISTINCT FROM owner::text"),
	"read_accounts\n0", 'headers come from the row');

# ---- foreign keys: what cascades is gathered, and its triggers fire late

my $children = create_topic('children', 1);
sql("CREATE TABLE parent (id int PRIMARY KEY);
	CREATE TABLE child (id int PRIMARY KEY REFERENCES parent ON UPDATE CASCADE ON DELETE CASCADE, note text);
	INSERT INTO parent SELECT generate_series(1, 6);
	INSERT INTO child SELECT i, 'first ' || i FROM generate_series(1, 6) i");
sql("SELECT kstream.create_sink('children', 'child', '$children')");
# child 1 is deleted, 2 becomes 1, 3 is deleted: one trigger for both deletions, after the update
sql("MERGE INTO parent p USING (VALUES (1, 0), (2, 1), (3, 0)) v(i, n) ON p.id = v.i
	WHEN MATCHED AND v.n = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET id = v.n");
drained('children');
is(fold($children), table_as_fold('child', 'id'), 'a key that was deleted and given to another row stays');
is(sql('SELECT note FROM child WHERE id = 1'), 'first 2', 'that is what happened');

# keys that are exchanged
my $exchanged = create_topic('exchanged', 1);
sql("CREATE TABLE exchanged (id int PRIMARY KEY DEFERRABLE, v text); INSERT INTO exchanged SELECT i, 'v' || i FROM generate_series(1, 6) i");
sql("SELECT kstream.create_sink('exchanged', 'exchanged', '$exchanged', key => '{id}')");
sql('UPDATE exchanged SET id = 7 - id');
drained('exchanged');
is(fold($exchanged), table_as_fold('exchanged', 'id'), 'an update may exchange keys');

# ---- kill -9 of workers and backends

my $killed = create_topic('killed', 2);
sql("CREATE TABLE killed (id int PRIMARY KEY, n int)");
sql("SELECT kstream.create_sink('killed', 'killed', '$killed')");
foreach my $round (1 .. 6)
{
	my ($out, $err) = ('', '');
	my $pid;
	my $writer;

	sql("INSERT INTO killed SELECT i % 500, $round FROM generate_series($round * 40, $round * 40 + 300) i ON CONFLICT (id) DO UPDATE SET n = $round");
	# a transaction that has captured changes is open when the server goes down
	$writer = IPC::Run::start([ 'psql', '-Xq', '-d', $node->connstr('sinks'), '-c', "BEGIN; DELETE FROM killed WHERE id % 3 = 0; SELECT pg_sleep(300)" ],
		'<', \undef, '>', \$out, '2>', \$err);
	wait_for(30, sub { $pid = (backend_pids($node, "query LIKE 'BEGIN; DELETE%' AND wait_event = 'PgSleep'"))[0] }) or die 'no writer';
	# after crashes in a row workers start with a pause
	wait_for(30, sub { ($pid) = worker_pids($node, 'sinks') }) or die 'no worker' if $round % 2;
	kill 9, $pid or die "kill $pid";
	$writer->finish;
	wait_for(60, sub { (try_sql($node, 'sinks', 'SELECT 1'))[0] == 0 }) or die 'the server did not come back';
	sql("UPDATE killed SET id = id + 10000 * $round WHERE id BETWEEN 100 AND 110");
	sql("DELETE FROM killed WHERE id BETWEEN 10000 * $round + 105 AND 10000 * $round + 107");
}
drained('killed');
is(fold($killed), table_as_fold('killed', 'id'), 'the fold is the table after kills');

# ---- a table that a query maintains, published from the first row on

my $input = create_topic('input', 2);
my $result = topic_name('result');
sql("SELECT kstream.create_stream('input', 'id bigint, k text, v int', topic => '$input')");
sql("SELECT kstream.create_table_as('result', 'SELECT k, count(*) AS n, sum(v) AS s FROM input GROUP BY k HAVING count(*) % 3 <> 0', topic => '$result')");
my $load = start_load($input, partitions => 2, rate => 4000, keys => 200);
sleep 3;
my $pid;
wait_for(30, sub { ($pid) = worker_pids($node, 'sinks') }) or die 'no worker';
kill 9, $pid;
sleep 5;
my $sent = stop_load($load);
wait_for(60, sub { (try_sql($node, 'sinks', 'SELECT 1'))[0] == 0 });
sql("SELECT kstream.wait('result', '60 s')");
drained('result');
is(fold($result), table_as_fold('result', 'k'), "the fold is the table after $sent records and a kill");
cmp_ok(scalar(grep { !defined $_->[4] } topic_rows($result)), '>', 0, 'groups that HAVING took away have tombstones');
is(scalar(split / /, topic_ends($result)), 2, 'the topic has as many partitions as the input');
sql("SELECT kstream.create_table('back', 'k text PRIMARY KEY, n bigint, s bigint', topic => '$result')");
sql("SELECT kstream.wait('back', '60 s')");
is(sql('SELECT count(*) FROM (TABLE back EXCEPT TABLE result) d'), '0', 'read back as a table it is the same');
is(sql('SELECT count(*) FROM (TABLE result EXCEPT TABLE back) d'), '0', 'and nothing is missing');

# a sink over a table that a worker is keeping up to date: what was there, and what comes
my $again = create_topic('again', 2);
$load = start_load($input, partitions => 2, rate => 2000, keys => 200);
sleep 1;
sql("SELECT kstream.create_sink('again', 'back', '$again', headers => 'jsonb_build_object(''n'', n::text)', guarantee => 'at_least_once')");
sleep 2;
stop_load($load);
sql("SELECT kstream.wait('result', '60 s')");
drained('result');
sql("SELECT kstream.wait('back', '60 s')");
sql("SELECT kstream.wait('again', '60 s')");
drained('again');
is(fold($again), table_as_fold('back', 'k'), 'a sink made while a worker writes the table folds to it');
is(fold($again), fold($result), 'two topics along the chain are the same');

# reset takes back what is not computed again
sql("SELECT kstream.pause('result')");
sql("SELECT kstream.reset('result', 'latest')");
drained('result');
is(fold($result), '', 'after reset every key has a tombstone');

# ---- put and remove

my $prices = create_topic('prices', 2);
sql("SELECT kstream.create_table('prices', 'id bigint PRIMARY KEY, price numeric', topic => '$prices')");
sql(q{
	BEGIN;
	SELECT kstream.put('prices', '{"id": 1, "price": 0.1234567890123456789}');
	SELECT kstream.put('prices', '{"id": 2, "price": 2}');
	COMMIT;
	BEGIN;
	SELECT kstream.put('prices', '{"id": 3, "price": 3}');
	ROLLBACK});
sql(q{SELECT kstream.remove('prices', '{"id": 2}')});
query_until($node, 'sinks', "SELECT lag_rows = 0 FROM kstream.sinks WHERE topic = '$prices'", 't', 60);
sql("SELECT kstream.wait('prices', '60 s')");
is(sql('SELECT * FROM prices'), '1|0.1234567890123456789', 'put and remove come back through the topic');
my $words = create_topic('words', 1);
sql("SELECT kstream.create_table('words', 'id int PRIMARY KEY, word text', topic => '$words')");
like(sql_error($node, 'sinks', q{SELECT kstream.put('words', jsonb_build_object('id', 1, 'word', repeat('x', 2000000)))}),
	qr/54000: a record of \d+ bytes from public\.words is too large for topic "$words"/, 'a row that is too large is refused in the name of the table');

# ---- dump and restore

my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-d', $node->connstr('sinks') ], 'dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'pg_restore', '-d', $node->connstr('restored'), $dump ], 'restore');
is($node->safe_psql('restored', 'SELECT DISTINCT state FROM kstream.sinks'), 'blocked', 'restored sinks publish nothing');
$node->safe_psql('restored', 'INSERT INTO killed VALUES (99999, 1)');
is($node->safe_psql('restored', "SELECT lag_rows FROM kstream.sinks WHERE name = 'killed'"), '1', 'their tables are captured');
is(fold($killed), table_as_fold('killed', 'id'), 'the topic belongs to the original');
is($node->safe_psql('restored', 'SELECT (SELECT count(*) FROM result) >= 0 AND (SELECT count(*) FROM accounts) > 0'), 't', 'the data came along');
$node->safe_psql('restored', 'DROP TABLE killed');
is($node->safe_psql('restored', "SELECT count(*) FROM kstream.sinks WHERE name = 'killed'"), '0', 'parts of a restored sink go with its table');
$node->safe_psql('postgres', 'DROP DATABASE restored WITH (FORCE)');

kafkactl('delete', $result);
$node->stop;
is(join("\n", unexpected_log_lines($node)), '', 'nothing unexpected in the log');
done_testing();
