
# 232_output_errors.pl: what a broker refuses for good, and what becomes of it: a
# record that is too large for its topic, a topic that is deleted while it is
# published to, a producer that takes our transactional id, a login and permissions
# that are wrong.  The view says what it is, nothing is lost, and publishing goes on
# by itself where it can, or when it is told how.
#
# Long: some two minutes.

use strict;
use warnings;

use List::Util qw(uniq);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use KafkaTest;

plan skip_all => 'KAFKA_BOOTSTRAP names no broker' unless bootstrap();

my $db = 'errors';
my $broker = KafkaTest::Broker->new;
my $server = $broker->bootstrap;
my $secure_port = PostgreSQL::Test::Cluster::get_free_port();

# A second listener with users; bob may do nothing.
{
	my $file = "$broker->{dir}/server.properties";
	my $text = PostgreSQL::Test::Utils::slurp_file($file);

	$text =~ s/^((?:advertised\.)?listeners=.*)$/$1,SECURE:\/\/127.0.0.1:$secure_port/mg;
	$text =~ s/^(listener\.security\.protocol\.map=.*)$/$1,SECURE:SASL_PLAINTEXT/m;
	$text .= qq(sasl.enabled.mechanisms=PLAIN
listener.name.secure.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_alice="alice-Secret" user_bob="bob-Secret";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:alice
);
	$broker->run('stop');
	open my $out, '>', $file or die "$file: $!";
	print $out $text;
	close $out or die "$file: $!";
	$broker->run('start');
}

my $node = new_node('errors', 'kstream.max_workers = 2');

create_db($node, $db, bootstrap => $server);

sub sql { return $node->safe_psql($db, $_[0]) }

# The numbers in a topic, in the order of partitions and offsets.
sub numbers
{
	return join ' ', map { $_->[4] =~ /"n":(\d+)/ } topic_rows($_[0], $server);
}

# Waits for a sink's error; the last one.
sub sink_error
{
	my ($name, $pattern, $seconds) = @_;

	return query_until($node, $db, "SELECT last_error FROM kstream.sinks WHERE name = '$name'", $pattern, $seconds || 60);
}

# The same without what came again, which at least once allows.
sub first_numbers
{
	return join ' ', uniq split / /, numbers($_[0]);
}

# Waits until a topic holds these numbers.
sub becomes
{
	my ($topic, $wanted, $name, $guarantee) = @_;
	my $numbers = ($guarantee // '') eq 'at_least_once' ? \&first_numbers : \&numbers;

	wait_for(60, sub { $numbers->($topic) eq $wanted });
	is($numbers->($topic), $wanted, $name) or diag(sql('SELECT name, state, position, last_error FROM kstream.sinks'));
}

# --- too large for the topic ---------------------------------------------------

foreach my $guarantee (qw(exactly_once at_least_once))
{
	my $short = $guarantee =~ s/_.*//r;
	my $topic = create_topic($short, 1, bootstrap => $server, config => ['max.message.bytes=5000']);

	sql(qq{SELECT kstream.create_stream('$short', 'n int, t text', topic => '$topic', key => 'n', options => '{"guarantee": "$guarantee"}')});
	sql("INSERT INTO $short (n, t) SELECT n, CASE WHEN n = 38 THEN repeat('x', 20000) ELSE 'small' END FROM generate_series(1, 40) n");
	like(sink_error($short, qr/record 37 of/), qr/record 37 of "public.$short" is too large for topic "$topic"\nDETAIL:  Its key has 2 bytes, its value 20\d\d\d: .*MSG_SIZE_TOO_LARGE.*\nHINT:  .*max\.message\.bytes.*kstream\.resync/s,
		"$guarantee: the record that is too large is found and named");
	is(sql("SELECT state, position, lag_rows FROM kstream.sinks WHERE name = '$short'"), 'failed|37|3', 'what is before it is published, what is behind it waits');
	sql("SELECT kstream.resync('$short', 'skip')");
	becomes($topic, join(' ', 1 .. 37, 39, 40), 'it is left out when told', $guarantee);
	is(query_until($node, $db, "SELECT position, last_error IS NULL FROM kstream.sinks WHERE name = '$short'", '40|t', 30), '40|t', 'and all is well');
	like(sql_error($node, $db, "SELECT kstream.resync('$short', 'skip')"), qr/55000: no record stops "$short"/, 'nothing is left out where nothing is refused');
	sql("INSERT INTO $short (n, t) VALUES (41, repeat('y', 20000)), (42, 'small')");
	like(sink_error($short, qr/record 40 of/), qr/record 40 of/, 'the next one stops it again');
	kafkactl({ bootstrap => $server }, 'config', $topic, 'max.message.bytes=100000');
	becomes($topic, join(' ', 1 .. 37, 39 .. 42), 'with a greater limit it goes on by itself', $guarantee);
}
{
	my $topic = create_topic('narrow', 1, bootstrap => $server, config => ['max.message.bytes=3000']);

	sql("SELECT kstream.create_stream('narrow', 'n int, t text', topic => '$topic')");
	sql("INSERT INTO narrow (n, t) SELECT n, md5(n::text) FROM generate_series(1, 500) n");
	becomes($topic, join(' ', 1 .. 500), 'where only batches are too large, they become smaller by themselves');
}
is(scalar(() = log_since($node, 0) =~ /is left out of topic/g), 2, 'the log says what was left out');

# --- a topic that is deleted -----------------------------------------------------

foreach my $guarantee (qw(exactly_once at_least_once))
{
	my $short = 'deleted_' . $guarantee =~ s/_.*//r;
	my $topic = create_topic($short, 1, bootstrap => $server);

	sql(qq{SELECT kstream.create_stream('$short', 'n int', topic => '$topic', options => '{"guarantee": "$guarantee"}')});
	sql("INSERT INTO $short (n) VALUES (1), (2)");
	becomes($topic, '1 2', "$guarantee: published");
	kafkactl({ bootstrap => $server }, 'delete', $topic);
	sql("INSERT INTO $short (n) VALUES (3)");
	like(sink_error($short, qr/topic/, 120), qr/topic "$topic"|UNKNOWN_TOPIC/, 'that the topic is gone is said');
	sql("INSERT INTO $short (n) VALUES (4)");
	create_topic(undef, 1, name => $topic, bootstrap => $server);
	if ($guarantee eq 'exactly_once')
	{
		like(sink_error($short, qr/no longer knows a position/, 90), qr/no longer knows a position.*kstream\.resync/s, 'a new topic of that name does not hold what was published: blocked');
		is(sql("SELECT state FROM kstream.sinks WHERE name = '$short'"), 'blocked', 'the state says so');
		sql("SELECT kstream.resync('$short', 'republish')");
	}
	becomes($topic, '3 4', 'what waited is published');
}

# --- somebody else takes the transactional id --------------------------------------

{
	my $topic = create_topic('fenced', 1, bootstrap => $server);
	my ($id, $code, $out);

	sql("SELECT kstream.create_stream('fenced', 'n int', topic => '$topic')");
	sql('INSERT INTO fenced (n) VALUES (1)');
	becomes($topic, '1', 'published');
	$id = 'kstream.' . sql("SELECT incarnation FROM kstream_catalog.sink WHERE relation = 'fenced'::regclass");
	($code, $out) = verify($server, 'fence', "id=$id");
	is($code, 0, 'a foreign producer takes the id') or diag($out);
	sql('INSERT INTO fenced (n) VALUES (2)');
	becomes($topic, '1 2', 'once may be the broker\'s doing: it goes on');
	verify($server, 'fence', "id=$id");
	sql('INSERT INTO fenced (n) VALUES (3)');
	like(query_until($node, $db, "SELECT last_error FROM kstream_catalog.sink WHERE relation = 'fenced'::regclass", qr/./, 5) . log_since($node, 0),
		qr/another producer has taken over the publishing of "public.fenced"/, 'twice is another producer, and said so');
	becomes($topic, '1 2 3', 'nothing is lost, and nothing comes twice');
}

# --- a wrong login, no permission ----------------------------------------------------

{
	my $topic = create_topic('secure', 1, bootstrap => $server);

	sql("CREATE SERVER secure FOREIGN DATA WRAPPER kstream OPTIONS (bootstrap_servers '127.0.0.1:$secure_port', security_protocol 'sasl_plaintext', sasl_mechanism 'PLAIN')");
	sql("CREATE USER MAPPING FOR CURRENT_USER SERVER secure OPTIONS (sasl_username 'bob', sasl_password 'wrong-Secret')");
	sql("SELECT kstream.create_stream('secure', 'n int', topic => '$topic', server => 'secure')");
	sql('INSERT INTO secure (n) VALUES (1), (2)');
	like(sink_error('secure', qr/./), qr/AUTHENTICATION.*HINT:  Check the user mapping/s, 'a wrong password is reported');
	sql("ALTER USER MAPPING FOR CURRENT_USER SERVER secure OPTIONS (SET sasl_password 'bob-Secret')");
	like(sink_error('secure', qr/AUTHORIZATION/), qr/AUTHORIZATION_FAILED.*HINT:  Check the user mapping, and the permissions/s, 'a missing permission is reported');
	is(sql("SELECT state, lag_rows FROM kstream.sinks WHERE name = 'secure'"), 'failed|2', 'the records wait');
	sql("ALTER USER MAPPING FOR CURRENT_USER SERVER secure OPTIONS (SET sasl_username 'alice', SET sasl_password 'alice-Secret')");
	becomes($topic, '1 2', 'it goes on by itself when that is put right');
	is(scalar(grep { /Secret/ && !/STATEMENT|statement:|USER MAPPING/ } split /\n/, log_since($node, 0)), 0, 'no password is in the log');
}

is(unexpected_log_lines($node), '', 'nothing odd in the log');
$node->stop;
done_testing();
