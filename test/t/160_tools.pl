
# 160_tools.pl: the tools that prove exactly-once output are proved themselves: the
# verifier finds what is broken on purpose, the proxy does to connections what it is
# told, the generator's log says what it has committed.

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use KafkaTest;

plan skip_all => 'KAFKA_BOOTSTRAP names no broker' unless bootstrap();

my $broker = KafkaTest::Broker->new(proxy => 1);
my $server = $broker->bootstrap;
my $proxy = $broker->{proxy};
my $dir = PostgreSQL::Test::Utils::tempdir();

# --- the verifier: mutants ----------------------------------------------------

# What the generator of these records would have logged: 0..19 and 30..59 are
# committed, 20..29 aborted, 60..69 either all there or none.
PostgreSQL::Test::Utils::append_to_file("$dir/log", <<'LOG');
begin 1 0 20 .
committing 1 .
committed 1 .
begin 2 20 10 .
aborted 2 .
begin 3 30 30 .
committing 3 .
committed 3 .
begin 4 60 10 .
committing 4 .
LOG
my @good = map { { id => $_ } } 0 .. 19, 30 .. 59;

# A key's partition, of two, as Kafka's own producer chooses it.
my %partition = (k0 => 1, k1 => 1, k2 => 1, k3 => 0, k4 => 0);

# Adds what a right topic has: key, partition, dense numbers.
sub complete
{
	my $seq = 0;

	foreach my $record (@_)
	{
		$record->{k} = 'k' . $record->{id} % 5;
		$record->{partition} = $partition{ $record->{k} };
		$record->{seq} = ++$seq;
	}
	return @_;
}

# A copy of right records, some of them changed.
sub mutant
{
	my ($change) = @_;
	my @records = map { {%$_} } complete(@good);

	$change->(\@records) if $change;
	return \@records;
}

my %mutants = (
	'right' => mutant(),
	'right, the doubtful transaction is there' => [ complete(@good, map { { id => $_ } } 60 .. 69) ],
	'one dropped' => mutant(sub { splice @{ $_[0] }, 25, 1 }),
	'the last one dropped' => mutant(sub { pop @{ $_[0] } }),
	'one twice' => mutant(sub { splice @{ $_[0] }, 25, 0, { %{ $_[0][25] } } }),
	'the last one twice' => mutant(sub { push @{ $_[0] }, { %{ $_[0][-1] } } }),
	'two of a key swapped' => mutant(sub { @{ $_[0] }[ 25, 30 ] = @{ $_[0] }[ 30, 25 ] }),
	'an aborted one added' =>
	  mutant(sub { push @{ $_[0] }, { id => 25, k => 'k0', partition => 1, seq => 51 } }),
	'one that nobody wrote' =>
	  mutant(sub { push @{ $_[0] }, { id => 1000, k => 'k0', partition => 1, seq => 51 } }),
	'half of the doubtful transaction' => [ complete(@good, map { { id => $_ } } 60 .. 64) ],
	'all of a transaction dropped' => mutant(sub { splice @{ $_[0] }, 20, 30 }),
	'one in another partition' => mutant(sub { $_[0][25]{partition} ^= 1 }),
	'one without a number' => mutant(sub { delete $_[0][25]{seq} }));

# What each check must say about each.
my %wanted = (
	'right' => '',
	'right, the doubtful transaction is there' => '',
	'one dropped' => 'dense lost-write, set lost-write, set torn-txn',
	'the last one dropped' => 'fold fold-differs, set lost-write, set torn-txn, tail lost-write',
	'one twice' => 'dense duplicate, order reorder, set duplicate',
	'the last one twice' => 'dense duplicate, order reorder, set duplicate',
	'two of a key swapped' => 'dense reorder, order reorder',
	'an aborted one added' => 'fold fold-differs, order reorder, set aborted-read, tail phantom',
	'one that nobody wrote' => 'fold fold-differs, set phantom, tail phantom',
	'half of the doubtful transaction' => 'set torn-txn, tail phantom',
	'all of a transaction dropped' => 'set lost-write, fold fold-differs, tail lost-write',
	'one in another partition' => 'fold split-key, order split-key, partitioned wrong-partition',
	'one without a number' => 'dense lost-write, dense no-header');

# What is not a fault of these two: the numbers go on, so does the table.
my %allowed = map { ($_ => qr/^(tail phantom|fold fold-differs)$/) } grep { /doubtful/ } keys %mutants;

# Writes the records of a topic.
sub write_topic
{
	my ($producer, $topic, @records) = @_;

	foreach my $record (@records)
	{
		$producer->send($topic, $record->{k}, qq({"id": $record->{id}, "k": "$record->{k}"}),
			partition => $record->{partition},
			headers => defined $record->{seq} ? [ kstream_seq => $record->{seq} ] : []);
	}
	$producer->flush;
}

# The names of violations in what the verifier prints, of each topic.
sub violations
{
	my ($out) = @_;
	my %found;

	$found{$3}{"$1 $2"} = 1 while $out =~ /^violation (\S+) (\S+) topic=(\S+)/mg;
	return \%found;
}

{
	my $producer = KafkaTest::Producer->new($server);
	my (%topic, @checks, $folded);
	my %last = map { ($_->{k} => $_->{id}) } complete(@good);

	$folded = "$dir/folded";
	PostgreSQL::Test::Utils::append_to_file($folded, join '', map { "$_\t$last{$_}\n" } sort keys %last);
	foreach my $name (sort keys %mutants)
	{
		my $topic = $topic{$name} = topic_name('mutant');

		create_topic('', 2, name => $topic, bootstrap => $server);
		write_topic($producer, $topic, @{ $mutants{$name} });
		# "tail" is dense once more, with the end that must have been reached
		push @checks, "dense", "topic=$topic", "start=1", "set", "topic=$topic", "field=id", "log=$dir/log",
		  "order", "topic=$topic", "field=id", "strict=1", "partitioned", "topic=$topic",
		  "fold", "topic=$topic", "field=id", "file=$folded", "dense", "name=tail", "topic=$topic", "start=1", "end=50";
	}
	# and two topics against each other
	push @checks, 'same', "topic=$topic{'one dropped'}", "with=$topic{right}", 'field=id,k',
	  'same', "topic=$topic{'two of a key swapped'}", "with=$topic{right}", 'field=id,k',
	  'print', "topic=$topic{right}", "out=$dir/printed";
	my $from = time();
	my ($code, $out) = verify($server, @checks);
	note sprintf('%d checks of %d topics in %.1f s', scalar(() = $out =~ /^(ok|FAILED) /mg), scalar keys %topic, time() - $from);
	is($code, 1, 'what is violated shows in the exit code') or diag($out);
	like($out, qr/^FAILED same .* lost-write=1$/m, 'topics that differ are not the same');
	like($out, qr/^ok same .* wanted=50$/m, 'order does not matter there');
	is(scalar(() = PostgreSQL::Test::Utils::slurp_file("$dir/printed") =~ /\n/g), 50, 'a line for each record');
	my $found = violations($out);
	foreach my $name (sort keys %mutants)
	{
		my %got = %{ $found->{ $topic{$name} } || {} };
		my %should = map { ($_ => 1) } split /, /, $wanted{$name};

		# what one broken record does to the numbers is seen by both ways to look at them
		delete @got{ grep { /^tail / && !$should{$_} && $got{ s/^tail/dense/r } } keys %got };
		delete @got{ grep { $allowed{$name} && !$should{$_} && $_ =~ $allowed{$name} } keys %got };
		delete $got{'same lost-write'};
		is(join(', ', sort keys %got), join(', ', sort split /, /, $wanted{$name}), "mutant: $name");
	}

	# a transaction that nobody ends, until its producer is shut out
	my $open = create_topic('open', 1, name => topic_name('open'), bootstrap => $server);
	my $other = KafkaTest::Producer->new($server);
	$other->begin('slow one');
	$other->send($open, 'k', '{"id": 1}');
	$other->flush;
	($code, $out) = verify($server, 'settled', "topic=$open", 'for=0.3', 'transactions', 'group', 'group=nobody',
		'fence', 'id=slow one', 'settled', 'name=after', "topic=$open", 'print', 'topic=no_such_topic');
	like($out, qr/^violation settled stuck topic=$open partition=0 stable=0 end=1$/m, 'an open transaction is seen');
	like($out, qr/^slow one\t\d+\tOngoing$/m, 'and whose it is');
	like($out, qr/^ok group positions=0$/m, 'no positions of a group that is not there');
	like($out, qr/^ok after topic=$open$/m, 'another producer with its id ends it');
	ok(!eval { $other->commit; 1 }, 'its own producer is fenced');
	is($code, 2, 'no verdict about a topic that is not there');

	# records that come when all should be over
	my $late = IPC::Run::start([ "$ENV{KS_TOP}/test/verify/verify.sh", $server, 'nothing-extra', "topic=$topic{right}", 'for=60' ],
		'<', \undef, '>', \my $said, '2>&1');
	while ($late->pumpable)
	{
		write_topic($producer, $topic{right}, { id => 0, k => 'k0', partition => 1 });
		$late->pump_nb;
		sleep 0.2;
	}
	$late->finish;
	like($said, qr/^FAILED nothing-extra .* extra-write=\d+$/m, 'what comes after the end is seen');
}

# --- the proxy ----------------------------------------------------------------

# A connection through the proxy, or undef where it is refused.
sub connection
{
	return IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $proxy->{port}, Timeout => 10);
}

# Sends the request for the versions of APIs.
sub send_request
{
	my ($sock, $correlation) = @_;
	my $request = pack('n n N n/a*', 18, 0, $correlation, 'test');

	syswrite $sock, pack('N/a*', $request);
}

# The correlation of the next answer; "none" after so many seconds, "reset" or "end".
sub next_answer
{
	my ($sock, $seconds) = @_;
	my $data = '';

	while (IO::Select->new($sock)->can_read($seconds))
	{
		my $n = sysread $sock, $data, 4096, length $data;

		return 'reset' unless defined $n;
		return 'end' unless $n;
		return unpack('x4 N', $data) if length $data >= 8 && length $data >= 4 + unpack('N', $data);
	}
	return 'none';
}

# A request and what comes back.
sub ask
{
	my ($sock, $correlation, $seconds) = @_;

	send_request($sock, $correlation);
	return next_answer($sock, $seconds || 10);
}

# Waits until a count of the proxy's status is so much.
sub status_becomes
{
	my ($name, $count) = @_;

	wait_for(10, sub { my %status = $proxy->status; $status{$name} == $count });
	return { $proxy->status }->{$name};
}

{
	my $sock = connection();

	is(ask($sock, 1), 1, 'what is sent is answered');
	$proxy->command('cut');
	is(next_answer($sock, 10), 'reset', 'cut: connections are reset');
	is(connection(), undef, 'and new ones refused');
	$proxy->command('heal');
	$sock = connection();
	is(ask($sock, 2), 2, 'heal: all is well again');

	foreach my $direction ('up', 'down', '')
	{
		$proxy->command('blackhole', $direction);
		is(ask($sock, 3, 0.3), 'none', "black hole $direction: no answer");
		$proxy->command('heal');
		is(next_answer($sock, 10), 3, 'and after heal it is there');
	}
	$proxy->command('delay', 200);
	my $from = time();
	is(ask($sock, 4), 4, 'delay: it comes');
	cmp_ok(time() - $from, '>=', 0.4, 'later, in both directions');
	$proxy->command('heal');
	$proxy->command('throttle', 2000);
	$from = time();
	is(ask($sock, 5), 5, 'throttle: it comes');
	cmp_ok(time() - $from, '>=', 0.2, 'slowly');
	$proxy->command('heal');

	$proxy->command('drop response ApiVersions 1 1');
	is(ask($sock, 6), 6, 'drop: the one to be skipped');
	is(ask($sock, 7, 0.3), 'none', 'no answer for the next');
	is(ask($sock, 8), 8, 'for the one after it there is');
	$proxy->command('drop request 18');
	is(ask($sock, 9, 0.3), 'none', 'drop: the request');
	is(ask($sock, 10), 10, 'the one after it is answered');
	foreach my $what ('request', 'response')
	{
		$proxy->command("hold $what ApiVersions");
		is(ask($sock, 11, 0.3), 'none', "hold: no answer while the $what is held");
		is($proxy->command('release'), 1, 'one is released');
		is(next_answer($sock, 10), 11, 'and answered');
	}
	like($proxy->try('wait 0.1'), qr/^ok/, 'nothing to wait for');
	$proxy->command('drop request commit');
	like($proxy->try('wait 0.1'), qr/^error/, 'nothing came that the rule is for');
	is({ $proxy->status }->{rules}, 1, 'it is still there');
	$proxy->command('clear');

	$proxy->command('trace on');
	foreach my $verb ('lose', 'close')
	{
		$proxy->command("$verb ApiVersions");
		is(ask($sock, 100, 10), 'reset', "$verb: the connection is reset");
		is(status_becomes('orphans', 0), 0, 'once the broker has answered nothing is left');
		$sock = connection();
	}
	is(scalar(() = $proxy->events =~ /response ApiVersions connection=\d+ correlation=100/g), 3, 'the broker has answered both');
	$proxy->command('steal ApiVersions');
	is(ask($sock, 200, 10), 'reset', 'steal: the connection is reset');
	is(status_becomes('orphans', 1), 1, 'the request stays');
	unlike($proxy->events, qr/response \S+ connection=\d+ correlation=200/, 'the broker has not got it');
	is($proxy->command('release'), 1, 'until it is released');
	is(status_becomes('orphans', 0), 0, 'it is answered, to nobody');
	like($proxy->events, qr/response \S+ connection=\d+ correlation=200/, 'the broker has got it');
	$proxy->command('trace off');
	like($proxy->try($_), qr/^error/, "refused: $_") foreach ('drop Produce', 'lose nothing', 'drop response Produce 0', 'sing');
}

# --- the generator --------------------------------------------------------------

{
	my $topic = create_topic('generated', 3, name => topic_name('generated'), bootstrap => $server);
	my $log = "$dir/generated";
	my %options = (bootstrap => $broker->proxied, keys => 20, size => 50);
	my @checks = ('set', "topic=$topic", 'field=id', "log=$log", 'order', "topic=$topic", 'field=id', 'strict=1');
	my $live = IPC::Run::start([ "$ENV{KS_TOP}/test/verify/verify.sh", $server, "live=$dir/over", @checks ],
		'<', \undef, '>', \my $seen, '2>&1');
	my $generator = start_generator($topic, $log, %options, rate => 2000);
	my ($code, $out);

	# the answer to a commit is lost; the generator is killed while the next one's is held
	$proxy->command('lose commit 1 2');
	is($proxy->try('wait 60'), 'ok', 'the answer to a commit is lost');
	$proxy->command('hold response commit');
	is($proxy->try('wait 60'), 'ok', 'the answer to another one is held');
	kill_generator($generator);
	$proxy->command('release');
	is(stop_generator(start_generator($topic, $log, %options, records => 3000)), 3000, 'killed and started again');
	($code, $out) = verify($server, 'settled', "topic=$topic", @checks, 'order', "topic=$topic", 'key=k', 'field=ts', 'partitioned', "topic=$topic");
	is($code, 0, 'its log says what is in the topic') or diag($out);
	like($out, qr/^ok set .* committed=[1-9]\d* aborted=[1-9]\d* unknown=[1-9]/m, 'committed, aborted, and one in doubt');
	note $out;
	PostgreSQL::Test::Utils::append_to_file("$dir/over", '');
	ok($live->finish, 'so does a reader that was there all the time') or diag($seen);
}

$broker->run('destroy');
done_testing();
