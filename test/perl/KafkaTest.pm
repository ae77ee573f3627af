
# KafkaTest.pm: what the tests on a real broker share.
#
# Topics have names of their own (topic_name) and are deleted at the end, so that
# tests can share a broker, also one that is not ours.  Records are produced by
# test/chaos/producer.c and counted by test/chaos/topic_read.py, which speaks the
# protocol itself and so owes nothing to the client library under test.  Topics that
# are written to are verified by test/verify, and test/proxy disturbs the network.

package KafkaTest;

use strict;
use warnings;

use Cwd qw(abs_path);
use Exporter 'import';
use File::Basename;
use IO::Socket::UNIX;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use POSIX ();
use Symbol ();
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT = qw(
  bootstrap
  topic_name
  create_topic
  kafkactl
  topic_rows
  topic_ends
  archive_topic
  start_load
  stop_load
  start_generator
  stop_generator
  kill_generator
  verify
  new_node
  create_db
  wait_for
  try_sql
  query_until
  worker_pids
  backend_pids
  cpu_seconds
  alive
  sql_error
  log_size
  log_since
  unexpected_log_lines
);

my $top = $ENV{KS_TOP} || abs_path(dirname(__FILE__) . '/../..');
my $cache = $ENV{KS_CACHE} || "$top/.cache";
my $default_bootstrap = $ENV{KAFKA_BOOTSTRAP};
my $number = 0;
my @topics;
my @loads;
my @proxies;

# The broker that tests share.
sub bootstrap
{
	return $default_bootstrap;
}

# Calls a program and returns what it prints; dies if it fails.
sub output_of
{
	my (@command) = @_;
	my ($out, $err) = ('', '');

	IPC::Run::run(\@command, '<', \undef, '>', \$out, '2>', \$err)
	  or die "@command failed: $out$err";
	return $out;
}

# A name that no other test uses.
sub topic_name
{
	my ($base) = @_;

	$number++;
	return sprintf('%s_%d_%d_%d', $base || 'topic', time(), $$, $number);
}

# The rig's tool, on the shared broker or the one given by { bootstrap => }.
sub kafkactl
{
	my (@args) = @_;
	my $options = ref $args[0] ? shift @args : {};

	return output_of("$cache/kafka/kafkactl",
		$options->{bootstrap} || $default_bootstrap, @args);
}

# Creates a topic, deleted at the end, and returns its name.
sub create_topic
{
	my ($base, $partitions, %options) = @_;
	my $name = $options{name} || topic_name($base);
	my $server = $options{bootstrap} || $default_bootstrap;

	kafkactl({ bootstrap => $server }, 'create', $name, $partitions || 1,
		@{ $options{config} || [] });
	push @topics, $name if $server eq ($default_bootstrap || '');
	return $name;
}

# A program of the tests, compiled once per work directory.
sub compiled
{
	my ($name, @libraries) = @_;
	my $source = "$top/test/$name.c";
	my $program = ($ENV{TESTDIR} || $PostgreSQL::Test::Utils::tmp_check) . '/' . basename($name);

	if (!-e $program || -M $program > -M $source)
	{
		output_of('gcc', '-O1', '-o', "$program.$$", $source, @libraries);
		rename "$program.$$", $program or die "$program: $!";
	}
	return $program;
}

sub producer_program { return compiled('chaos/producer', '-lrdkafka') }
sub mock_program { return compiled('chaos/mock', '-lrdkafka') }

# All committed records of a topic: [partition, offset, timestamp, key, value],
# keys and values as bytes, undef for none.
sub topic_rows
{
	my ($topic, $server) = @_;
	my @rows;

	foreach my $line (split /\n/,
		output_of('python3', "$top/test/chaos/topic_read.py", $server || $default_bootstrap, $topic))
	{
		my ($partition, $offset, $time, $key, $value) = split /,/, $line, -1;
		push @rows,
		  [ $partition, $offset, $time, map { /^\\x(.*)/ ? pack('H*', $1) : undef } $key, $value ];
	}
	return @rows;
}

# The ends of all partitions, as "partition:end partition:end".
sub topic_ends
{
	my ($topic, $server) = @_;

	return join ' ', map { my @f = split /,/; "$f[0]:$f[2]" } split /\n/,
	  output_of('python3', "$top/test/chaos/topic_read.py", $server || $default_bootstrap,
		$topic, 'ends');
}

# Puts all committed records of a topic into an ordinary table of the database:
# partition, "offset", "timestamp" (ms), key, value (bytea).
sub archive_topic
{
	my ($node, $db, $topic, $table, $server) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir() . '/topic.csv';

	open my $out, '>', $file or die "$file: $!";
	print $out output_of('python3', "$top/test/chaos/topic_read.py",
		$server || $default_bootstrap, $topic);
	close $out or die "$file: $!";
	$node->safe_psql(
		$db, qq{
		DROP TABLE IF EXISTS $table;
		CREATE TABLE $table (partition int, "offset" bigint, "timestamp" bigint, key bytea, value bytea,
			PRIMARY KEY (partition, "offset"));
		COPY $table FROM '$file' (FORMAT csv);
		ANALYZE $table});
	unlink $file;
}

# Starts to produce JSON records {id, k, v} until stop_load:
# partitions, rate (records/s), keys, transaction_size.
sub start_load
{
	my ($topic, %options) = @_;
	my ($in, $out) = ('', '');
	my @command = (
		producer_program(), $options{bootstrap} || $default_bootstrap,
		'load', $topic, $options{partitions} || 1,
		$options{rate} || 1000, $options{keys} || 100);
	my $load;

	push @command, $options{transaction_size} if $options{transaction_size};
	$load = { in => \$in, out => \$out };
	$load->{handle} = IPC::Run::start(\@command, '<pipe', my $pipe = Symbol::gensym(), '>', \$out);
	$load->{pipe} = $pipe;
	push @loads, $load;
	return $load;
}

# Ends a load when all its records are stored; returns how many it has sent.
sub stop_load
{
	my ($load) = @_;

	@loads = grep { $_ != $load } @loads;
	close $load->{pipe};
	$load->{handle}->finish or die "the producer failed: ${$load->{out}}";
	return ${ $load->{out} } + 0;
}

# Starts to fill a topic in transactions, of which the log tells what is committed:
# test/chaos/generator.c and its options; { bootstrap => }.
sub start_generator
{
	my ($topic, $log, %options) = @_;
	my $server = delete $options{bootstrap} || $default_bootstrap;
	my $out = '';
	my $load = { out => \$out };

	$load->{handle} = IPC::Run::start(
		[ compiled('chaos/generator', '-lrdkafka'), $server, $topic, $log, map { "$_=$options{$_}" } sort keys %options ],
		'<pipe', my $pipe = Symbol::gensym(), '>', \$out);
	$load->{pipe} = $pipe;
	push @loads, $load;
	return $load;
}

# Ends it after its transaction, or waits for it where records= says how many;
# returns how many records it has sent.
sub stop_generator { return stop_load(@_) }

# SIGKILL; it can be started again with the same log.
sub kill_generator
{
	my ($load) = @_;

	@loads = grep { $_ != $load } @loads;
	$load->{handle}->signal('KILL');
	close $load->{pipe};
	$load->{handle}->finish;
}

# Checks topics by Apache Kafka's own client: test/verify/README.md.  Returns the
# exit code (0: all well, 1: violated, else no verdict) and all that it prints.
sub verify
{
	my ($server, @checks) = @_;
	my $out = '';

	IPC::Run::run([ "$top/test/verify/verify.sh", $server, @checks ], '<', \undef, '>', \$out, '2>&1');
	return ($? >> 8, $out);
}

# A cluster that preloads kstream and goes on after a crash.
sub new_node
{
	my ($name, @settings) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init;
	$node->append_conf(
		'postgresql.conf', join "\n",
		q(shared_preload_libraries = 'kstream'),
		'restart_after_crash = on',
		'max_worker_processes = 32',
		'max_connections = 50',
		'log_statement = none',
		'log_min_messages = info',
		'autovacuum_naptime = 5s',
		@settings, '');
	$node->start;
	return $node;
}

# A database with the extension and, where a broker is known, the server "kafka".
sub create_db
{
	my ($node, $db, %options) = @_;
	my $server = exists $options{bootstrap} ? $options{bootstrap} : $default_bootstrap;

	$node->safe_psql('postgres', "CREATE DATABASE $db") if $db ne 'postgres';
	$node->safe_psql($db, 'CREATE EXTENSION kstream');
	$node->safe_psql($db,
		"CREATE SERVER kafka FOREIGN DATA WRAPPER kstream OPTIONS (bootstrap_servers '$server')")
	  if $server;
}

# Calls a function until it returns true; false after so many seconds.
sub wait_for
{
	my ($seconds, $done) = @_;
	my $end = time() + $seconds;
	my $result;

	until ($result = $done->())
	{
		return $result if time() > $end;
		sleep 0.1;
	}
	return $result;
}

# Exit code of psql, result and messages of a statement; the server may be away
# (then nothing must be written to psql, hence not $node->psql).
sub try_sql
{
	my ($node, $db, $sql) = @_;
	my ($out, $err) = ('', '');

	IPC::Run::run([ 'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-d', $node->connstr($db), '-c', $sql ],
		'<', \undef, '>', \$out, '2>', \$err);
	my $rc = $? >> 8;
	chomp $out;
	return ($rc, $out, $err);
}

# Runs a query until its result is the one wanted, also while the server is
# away; returns the last result.
sub query_until
{
	my ($node, $db, $query, $wanted, $seconds) = @_;
	my $result;

	wait_for(
		$seconds || 60,
		sub {
			my ($rc, $out, $err) = try_sql($node, $db, $query);
			$result = $rc == 0 ? $out : "error: $err";
			return ref $wanted ? $result =~ $wanted : $result eq $wanted;
		});
	return $result;
}

# Process ids of the backends of one type; empty while the server is away.
sub backend_pids
{
	my ($node, $where) = @_;
	my ($rc, $out) = try_sql($node, 'postgres', "SELECT pid FROM pg_stat_activity WHERE $where");

	return $rc == 0 ? split(/\n/, $out) : ();
}

# Process ids of the workers, of one database or of all.
sub worker_pids
{
	my ($node, $db) = @_;

	return backend_pids($node,
		"backend_type = 'kstream worker'" . ($db ? " AND datname = '$db'" : ''));
}

# Is the process there, and no zombie?
sub alive
{
	my ($pid) = @_;

	open my $stat, '<', "/proc/$pid/stat" or return 0;
	return <$stat> !~ /^\d+ \(.*\) Z/;
}

# Processor time a process has used so far, all threads, in seconds.
sub cpu_seconds
{
	my ($pid) = @_;
	my $ticks = POSIX::sysconf(POSIX::_SC_CLK_TCK());

	open my $stat, '<', "/proc/$pid/stat" or return 0;
	my @field = split ' ', (<$stat> =~ s/^.*\) //r);
	return ($field[11] + $field[12]) / $ticks;
}

# What a statement fails with: "SQLSTATE: message"; empty if it succeeds.
sub sql_error
{
	my ($node, $db, $sql) = @_;
	my ($rc, $out, $err) = try_sql($node, $db, $sql);

	return $rc == 0 ? '' : $err =~ /(?:ERROR|FATAL):\s+(.*)/ ? $1 : $err;
}

# The size of the server's log now, and what was written to it since.
sub log_size
{
	my ($node) = @_;

	return -s $node->logfile;
}

sub log_since
{
	my ($node, $from) = @_;

	return PostgreSQL::Test::Utils::slurp_file($node->logfile, $from);
}

# Lines that no test may cause: crashes of processes that nobody killed, failed
# assertions, leaks and warnings about our own books.
sub unexpected_log_lines
{
	my ($node) = @_;

	return join "\n", grep {
		/TRAP|PANIC|Assert|leak|corrupt|server process .* was terminated by signal (?!9\b)/
		  && !/Connection|leaked|HINT:  This probably means that some data is corrupted/
	} split /\n/, PostgreSQL::Test::Utils::slurp_file($node->logfile);
}

# Deletes the topics and ends what still runs.
END
{
	my $status = $?;

	foreach my $load (@loads)
	{
		eval { $load->{handle}->kill_kill };
	}
	foreach my $proxy (@proxies)
	{
		eval { $proxy->{handle}->kill_kill } if $proxy->{owner} == $$;
	}
	foreach my $topic (@topics)
	{
		eval { kafkactl('delete', $topic) };
	}
	$? = $status;
}

# Produces records one by one.
package KafkaTest::Producer;

use IPC::Open2;

# A producer on the shared broker, or on the one given.
sub new
{
	my ($class, $server) = @_;
	my $self = bless {}, $class;

	$self->{pid} = open2($self->{out}, $self->{in}, KafkaTest::producer_program(),
		$server || KafkaTest::bootstrap());
	return $self;
}

# Hexadecimal, "-" for none, "." for empty.
sub hex_of
{
	my ($bytes) = @_;

	return '-' unless defined $bytes;
	return '.' if $bytes eq '';
	utf8::encode($bytes) if utf8::is_utf8($bytes);
	return unpack 'H*', $bytes;
}

# One command and its answer.
sub command
{
	my ($self, @fields) = @_;
	my $answer;

	print { $self->{in} } join("\t", @fields), "\n";
	$self->{in}->flush;
	$answer = readline $self->{out};
	die "@fields: " . ($answer || "no answer\n") unless defined $answer && $answer eq "ok\n";
}

# send($topic, $key, $value, partition =>, timestamp => ms, headers => [name, value, ...])
sub send
{
	my ($self, $topic, $key, $value, %options) = @_;

	$self->command('send', $topic, $options{partition} // 0, $options{timestamp} // 0,
		hex_of($key), hex_of($value), map { hex_of($_) } @{ $options{headers} || [] });
}

sub flush { $_[0]->command('flush') }
sub begin { my ($self, @id) = @_; $self->command('begin', @id) }
sub commit { $_[0]->command('commit') }
sub abort { $_[0]->command('abort') }

# Ends the program; an open transaction stays open.
sub leave
{
	my ($self) = @_;

	print { $self->{in} } "leave\n";
	close $self->{in};
	waitpid $self->{pid}, 0;
	delete $self->{pid};
}

sub DESTROY
{
	my ($self) = @_;

	return unless $self->{pid};
	local ($?, $!);
	close $self->{in};
	waitpid $self->{pid}, 0;
}

# The client library's mock cluster (test/chaos/mock.c); command() as of a producer.
package KafkaTest::Mock;

our @ISA = ('KafkaTest::Producer');

sub new
{
	my ($class) = @_;
	my $self = bless {}, $class;

	$self->{pid} = IPC::Open2::open2($self->{out}, $self->{in}, KafkaTest::mock_program());
	chomp($self->{bootstrap} = readline $self->{out});
	return $self;
}

sub bootstrap { return $_[0]->{bootstrap} }

# Makes trouble between clients and a broker: test/proxy.
package KafkaTest::Proxy;

# Starts one that forwards from one port to another.
sub new
{
	my ($class, $port, $back) = @_;
	my $self = bless {
		port => $port,
		dir => PostgreSQL::Test::Utils::tempdir_short(),
		owner => $$
	}, $class;
	my $events = "$self->{dir}/events";

	$self->{handle} = IPC::Run::start([ KafkaTest::compiled('proxy/proxy'), $port, $back, "$self->{dir}/control" ],
		'<', \undef, '>', $events, '2>&1');
	KafkaTest::wait_for(10, sub { -S "$self->{dir}/control" && -s $events }) or die 'the proxy does not start';
	$self->{control} = IO::Socket::UNIX->new("$self->{dir}/control") or die "control socket: $!";
	push @proxies, $self;
	return $self;
}

# One command; what is answered after "ok", or death.
sub command
{
	my ($self, @words) = @_;
	my $answer = $self->try(@words);

	$answer =~ s/^ok ?// or die "proxy: @words: $answer";
	return $answer;
}

# One command and its answer, whatever it is.
sub try
{
	my ($self, @words) = @_;

	print { $self->{control} } "@words\n";
	my $answer = readline($self->{control}) // 'no answer';
	chomp $answer;
	return $answer;
}

# The counts of the command status, by name.
sub status { return map { split /=/ } split ' ', $_[0]->command('status') }

# All events so far.
sub events { return PostgreSQL::Test::Utils::slurp_file("$_[0]->{dir}/events") }

# A broker of the test's own, which it may kill and freeze.
package KafkaTest::Broker;

# Starts one, in a directory and on a port of its own; with (proxy => 1) there is a
# second way to it, which leads through $broker->{proxy}.
sub new
{
	my ($class, %options) = @_;
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	my $self = bless {
		port => $port,
		dir => PostgreSQL::Test::Utils::tempdir_short() . '/broker',
		owner => $$
	}, $class;

	if ($options{proxy})
	{
		my ($front, $back) = map { PostgreSQL::Test::Cluster::get_free_port() } 1, 2;

		local $ENV{KS_BROKER_PROXY} = "$front:$back";
		$self->run('start');
		$self->{proxy} = KafkaTest::Proxy->new($front, $back);
	}
	else
	{
		$self->run('start');
	}
	return $self;
}

sub bootstrap { return "127.0.0.1:$_[0]->{port}" }

# The way through the proxy.
sub proxied { return "127.0.0.1:$_[0]->{proxy}{port}" }

# start, stop, kill, freeze, thaw, destroy: see test/kafka/broker.sh.
sub run
{
	my ($self, $verb) = @_;
	delete local $ENV{KAFKA_BOOTSTRAP};
	KafkaTest::output_of("$top/test/kafka/broker.sh", $verb, $self->{dir}, $self->{port});
}

sub DESTROY
{
	my ($self) = @_;

	return if $self->{owner} != $$;
	local ($?, $!, $@);
	eval { $self->run('destroy') };
}

1;
