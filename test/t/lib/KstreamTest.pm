# KstreamTest: what the TAP tests share.
#
# A test makes a node with kstream preloaded, a local stream with a few
# continuous queries over it, disturbs the server, and compares each table with
# the same SELECT run once over the stream (the law).
package KstreamTest;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT = qw(new_node sql try_sql sqlstate worker_pids launcher_pid
  eventually seconds produce setup_queries law_holds start_load stop_load
  has_faults kill_process process_alive count_in_log);

# new_node: an initialised and started node that preloads kstream.
sub new_node
{
	my ($name, %opt) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(allows_streaming => $opt{streaming} ? 1 : 0);
	$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'kstream'
max_worker_processes = 12
max_prepared_transactions = 4
allow_in_place_tablespaces = on
log_min_messages = warning
log_statement = none
autovacuum_naptime = 5s
restart_after_crash = on
CONF
	$node->append_conf('postgresql.conf', $opt{conf}) if $opt{conf};
	$node->start;
	return $node;
}

# sql: runs statements, each in a transaction of its own; dies on error.
sub sql
{
	my ($node, $sql, $db) = @_;

	return $node->safe_psql($db // 'postgres', $sql);
}

# try_sql: as sql, but an error is no reason to die; returns (code, stdout, stderr).
sub try_sql
{
	my ($node, $sql, $db) = @_;
	my ($out, $err) = ('', '');
	my $code = $node->psql(
		$db // 'postgres', $sql,
		stdout => \$out,
		stderr => \$err,
		extra_params => [ '-v', 'VERBOSITY=verbose' ]);

	return ($code, $out, $err);
}

# sqlstate: of the error a statement raises; '' if it raises none.
sub sqlstate
{
	my ($node, $sql, $db) = @_;
	my ($code, $out, $err) = try_sql($node, $sql, $db);

	return $err =~ /(?:ERROR|FATAL):  (\w{5}):/ ? $1 : $code ? $err : '';
}

# worker_pids: of the workers of a database (undef: of all).
sub worker_pids
{
	my ($node, $db) = @_;
	my $where = defined $db ? "AND datname = '$db'" : '';

	return split /\n/, sql($node,
		"SELECT pid FROM pg_stat_activity WHERE backend_type = 'kstream worker' $where ORDER BY 1");
}

# launcher_pid: '' while there is none.
sub launcher_pid
{
	my ($node) = @_;

	return sql($node, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'kstream launcher'");
}

# eventually: calls the function until it returns true, at most so many seconds.
sub eventually
{
	my ($limit, $check) = @_;
	my $end = time() + $limit;

	while (1)
	{
		my $result = $check->();

		return 1 if $result;
		return 0 if time() > $end;
		sleep 0.02;
	}
}

# seconds: how long the function takes.
sub seconds
{
	my ($code) = @_;
	my $start = time();

	$code->();
	return time() - $start;
}

# produce: n records into the stream orders, in transactions of up to 100.
sub produce
{
	my ($node, $n, $db) = @_;

	sql($node, qq(
		DO \$\$
		BEGIN
			FOR t IN 1 .. ($n + 99) / 100 LOOP
				INSERT INTO orders (id, who, amount)
				SELECT nextval('order_id'), 'user ' || i % 7, (i * 37 + t) % 1000
				FROM generate_series(1, least(100, $n - (t - 1) * 100)) i;
				COMMIT;
			END LOOP;
		END \$\$), $db);
}

# setup_queries: the extension, a local stream, and a query of each kind over it.
sub setup_queries
{
	my ($node, $db) = @_;

	sql($node, q(
		CREATE EXTENSION kstream;
		CREATE SEQUENCE order_id;
		SELECT kstream.create_stream('orders', 'id bigint, who text, amount numeric', server => 'local');
		SELECT kstream.create_table_as('totals',
			'SELECT who, count(*) AS n, sum(amount) AS total, avg(amount) AS mean FROM orders GROUP BY who');
		SELECT kstream.create_table_as('large',
			'SELECT id, who, amount FROM orders WHERE amount > 500');
		SELECT kstream.create_table_as('overall', 'SELECT count(*) AS n, max(id) AS last FROM orders')),
		$db);
}

# law_holds: waits, then compares every table with its SELECT over the stream.
sub law_holds
{
	my ($node, $name, $db, $limit) = @_;
	my %queries = (
		totals => 'SELECT who, count(*), sum(amount), avg(amount) FROM orders GROUP BY who',
		large => 'SELECT id, who, amount FROM orders WHERE amount > 500',
		overall => 'SELECT count(*), max(id) FROM orders');
	my $state = '';

	$limit //= 30;
	eventually($limit,
		sub { $state = sqlstate($node, "SELECT kstream.wait(NULL, '5 s')", $db); $state eq '' });
	my $differences = $state eq '' ? '' : "wait: $state ";
	for my $table (sort keys %queries)
	{
		my $n = sql($node, qq(
			SELECT count(*) FROM (
				(SELECT * FROM $table EXCEPT ALL ($queries{$table}))
				UNION ALL
				(($queries{$table}) EXCEPT ALL SELECT * FROM $table)) d), $db);
		$differences .= "$table: $n " if $n ne '0';
	}
	return is($differences, '', $name);
}

# start_load: a client that inserts all the time until stop_load, and survives crashes of the server.
sub start_load
{
	my ($node, $db) = @_;
	my $stop = $node->data_dir . '/../stop_load.' . int(rand(1e9));
	my $connstr = $node->connstr($db // 'postgres');
	my $parent = $$;
	my $pid = fork();

	die "cannot fork: $!" unless defined $pid;
	if ($pid == 0)
	{
		my $insert =
		  "INSERT INTO orders (id, who, amount) SELECT nextval('order_id'), 'user ' || i % 7, (i * 37) % 1000 FROM generate_series(1, 20) i;";
		my $script = "$insert\nSELECT pg_sleep(0.003);\n" x 20;

		open STDOUT, '>', '/dev/null';
		open STDERR, '>', '/dev/null';
		while (!-e $stop && getppid() == $parent)
		{
			if (open my $psql, '|-', 'psql', '-X', '-q', '-d', $connstr)
			{
				local $SIG{PIPE} = 'IGNORE';
				print $psql $script;
				close $psql;
			}
			sleep 0.02;
		}
		require POSIX;
		POSIX::_exit(0);
	}
	return { pid => $pid, stop => $stop };
}

# stop_load: ends what start_load began.
sub stop_load
{
	my ($load) = @_;

	open my $file, '>', $load->{stop};
	close $file;
	waitpid $load->{pid}, 0;
	unlink $load->{stop};
}

# has_faults: was the library built with fault points?
sub has_faults
{
	my ($node) = @_;

	return sql($node, q(SELECT count(*) FROM pg_settings WHERE name = 'kstream.fault_points')) eq '1'
	  || (try_sql($node, q(LOAD 'kstream'; SHOW kstream.fault_points)))[0] == 0;
}

# kill_process: as kill -9 from outside.
sub kill_process
{
	my ($pid) = @_;

	return kill 'KILL', $pid;
}

# process_alive: there, and no zombie.
sub process_alive
{
	my ($pid) = @_;

	open my $file, '<', "/proc/$pid/stat" or return 0;
	my $line = <$file> // '';
	return $line !~ /^\d+ \(.*\) Z/ && $line ne '';
}

# count_in_log: lines of the server's log that match.
sub count_in_log
{
	my ($node, $regexp) = @_;
	my @lines = grep { /$regexp/ } split /\n/, slurp_file($node->logfile);

	return scalar @lines;
}

1;
