/*
 * generator.c
 *		Fills a topic in transactions, and keeps a log of what it has committed.
 *
 *	generator BOOTSTRAP TOPIC LOG [NAME=VALUE ...]
 *
 * Produces JSON records {"id", "txn", "k", "v", "ts"} until standard input ends or
 * so many records are sent: id counts from 0 and is never used twice, txn is the
 * number of the transaction, k the key (also the record's key), v an integer, ts the
 * time in milliseconds, never falling.  A key's partition is the one that Kafka's own
 * producer would choose.  When it ends it prints how many records it has sent.
 *
 *	rate=N			records per second (0: as fast as possible)
 *	records=N		ends after so many (0: when standard input ends)
 *	keys=N			how many keys (100); the low ones are much more frequent
 *	size=N			a transaction has 1 to N records (1000), small ones as often as large
 *	aborted=PERCENT	transactions that are aborted (20)
 *	seed=N			the same data again (1)
 *	timeout=MS		transaction.timeout.ms (60000)
 *
 * The log, in plain lines that end with " .", so that a cut one is noticed:
 *	begin TXN FIRST_ID COUNT .	before the first record is sent
 *	committing TXN .			before the commit is asked for
 *	committed TXN . | aborted TXN . | unknown TXN .
 *
 * Started again with the same log, also after SIGKILL, it goes on after the last id:
 * what it had left open is settled by the broker first (the transactional id is
 * made of the topic's name).  A commit that was asked for and whose outcome is not
 * known is "unknown": all of it is in the topic, or nothing.  A broker that is away
 * is waited for.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <librdkafka/rdkafka.h>

#define REQUEST_MS 30000

/* How a transaction has ended. */
typedef enum Outcome
{
	COMMITTED, ABORTED, UNKNOWN
} Outcome;

static const char *bootstrap;
static const char *topic;
static int	log_fd;
static rd_kafka_t *client;

static double rate = 0;
static long records = 0;
static int	keys = 100;
static int	max_size = 1000;
static int	aborted_percent = 20;
static long seed = 1;
static const char *timeout = "60000";

static long next_txn = 1;
static long next_id = 0;
static long sent = 0;
static long long last_time;

/* Ends the program with a message. */
static void
fail(const char *what, const char *why)
{
	fprintf(stderr, "generator: %s: %s\n", what, why);
	exit(1);
}

/* Seconds since some fixed moment. */
static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* Milliseconds since 1970, never falling. */
static long long
event_time(void)
{
	struct timespec ts;
	long long	ms;

	clock_gettime(CLOCK_REALTIME, &ts);
	ms = ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
	if (ms > last_time)
		last_time = ms;
	return last_time;
}

/* Writes a line of the log in one piece: it is there even if we are killed now. */
static void
note(const char *line)
{
	size_t		len = strlen(line);

	if (write(log_fd, line, len) != (ssize_t) len)
		fail("log", "cannot be written");
}

/* Brokers come and go in tests: the client's own log lines would only confuse. */
static void
no_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
}

/* Sets a property. */
static void
set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char		why[256];

	if (rd_kafka_conf_set(conf, name, value, why, sizeof(why)) != RD_KAFKA_CONF_OK)
		fail(name, why);
}

/* True once standard input has ended. */
static int
told_to_stop(void)
{
	struct pollfd fd = {.fd = 0, .events = POLLIN};
	char		c;

	return records == 0 && poll(&fd, 1, 0) > 0 && read(0, &c, 1) <= 0;
}

/* Makes the client and settles what its predecessor has left; tries for two minutes. */
static void
connect_client(void)
{
	double		end = now() + 120;

	for (;;)
	{
		rd_kafka_conf_t *conf = rd_kafka_conf_new();
		char		why[512];
		char		id[300];
		rd_kafka_error_t *error;

		snprintf(id, sizeof(id), "generator-%s", topic);
		set(conf, "bootstrap.servers", bootstrap);
		set(conf, "transactional.id", id);
		set(conf, "transaction.timeout.ms", timeout);
		set(conf, "partitioner", "murmur2_random");
		set(conf, "linger.ms", "2");
		set(conf, "reconnect.backoff.max.ms", "200");
		set(conf, "topic.metadata.refresh.interval.ms", "1000");
		rd_kafka_conf_set_log_cb(conf, no_log);
		client = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof(why));
		if (client == NULL)
			fail("client", why);
		error = rd_kafka_init_transactions(client, REQUEST_MS);
		if (error == NULL)
			return;
		snprintf(why, sizeof(why), "%s", rd_kafka_error_string(error));
		rd_kafka_error_destroy(error);
		rd_kafka_destroy(client);
		if (now() > end)
			fail("init_transactions", why);
		usleep(200000);
	}
}

/* A new client in the place of one whose transaction cannot be ended. */
static void
reconnect_client(const char *what, const char *why)
{
	fprintf(stderr, "generator: %s: %s; with a new client\n", what, why);
	rd_kafka_destroy(client);
	connect_client();
}

/* Produces the records of a transaction; false if one cannot be. */
static int
send_records(long txn, long count, double started, long before)
{
	for (long i = 0; i < count; i++)
	{
		/* the low keys are frequent: the product of two even numbers between 0 and 1 */
		int			k = (int) (drand48() * drand48() * keys);
		double		wait = rate > 0 ? started + (before + i) / rate - now() : 0;
		long long	when = event_time();
		char		key[32];
		char		value[192];
		rd_kafka_resp_err_t err;

		if (wait > 0.002)
			usleep(wait * 1e6);
		snprintf(key, sizeof(key), "k%d", k);
		snprintf(value, sizeof(value), "{\"id\": %ld, \"txn\": %ld, \"k\": \"%s\", \"v\": %d, \"ts\": %lld}",
				 next_id + i, txn, key, (int) (drand48() * 2001) - 1000, when);
		while ((err = rd_kafka_producev(client, RD_KAFKA_V_TOPIC(topic),
										RD_KAFKA_V_KEY(key, strlen(key)), RD_KAFKA_V_VALUE(value, strlen(value)),
										RD_KAFKA_V_TIMESTAMP(when),
										RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END)) ==
			   RD_KAFKA_RESP_ERR__QUEUE_FULL)
			rd_kafka_poll(client, 10);
		if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
			return 0;
		if (i % 64 == 0)
			rd_kafka_poll(client, 0);
	}
	return 1;
}

/* Aborts; the records are to be in the topic all the same. */
static Outcome
abort_transaction(void)
{
	rd_kafka_error_t *error;

	rd_kafka_flush(client, REQUEST_MS);
	while ((error = rd_kafka_abort_transaction(client, REQUEST_MS)) != NULL)
	{
		char		why[512];
		int			again = rd_kafka_error_is_retriable(error) && !rd_kafka_error_is_fatal(error);

		snprintf(why, sizeof(why), "%s", rd_kafka_error_string(error));
		rd_kafka_error_destroy(error);
		if (again)
			continue;
		/* no commit was asked for: a new client's start aborts it */
		reconnect_client("abort", why);
		break;
	}
	return ABORTED;
}

/* Commits; a call that has timed out is repeated, as the client's manual says. */
static Outcome
commit_transaction(long txn)
{
	rd_kafka_error_t *error;
	char		line[64];

	snprintf(line, sizeof(line), "committing %ld .\n", txn);
	note(line);
	while ((error = rd_kafka_commit_transaction(client, REQUEST_MS)) != NULL)
	{
		char		why[512];
		int			fatal = rd_kafka_error_is_fatal(error);
		int			must_abort = rd_kafka_error_txn_requires_abort(error);
		int			again = rd_kafka_error_is_retriable(error);

		snprintf(why, sizeof(why), "%s", rd_kafka_error_string(error));
		rd_kafka_error_destroy(error);
		if (!fatal && must_abort)
		{
			error = rd_kafka_abort_transaction(client, REQUEST_MS);
			if (error == NULL)
				return ABORTED;
			rd_kafka_error_destroy(error);
		}
		else if (!fatal && again)
			continue;
		reconnect_client("commit", why);
		return UNKNOWN;
	}
	return COMMITTED;
}

/* One transaction, and what the log says about it. */
static void
run_transaction(double started)
{
	static const char *const words[] = {"committed", "aborted", "unknown"};
	long		count = 1 + (long) (drand48() * (drand48() < 0.5 ? max_size : max_size / 10.0));
	int			commits = drand48() * 100 >= aborted_percent;
	long		txn = next_txn++;
	Outcome		outcome;
	rd_kafka_error_t *error;
	char		line[128];

	if (records > 0 && count > records - sent)
		count = records - sent;
	while ((error = rd_kafka_begin_transaction(client)) != NULL)
	{
		char		why[512];

		snprintf(why, sizeof(why), "%s", rd_kafka_error_string(error));
		rd_kafka_error_destroy(error);
		reconnect_client("begin", why);
	}
	snprintf(line, sizeof(line), "begin %ld %ld %ld .\n", txn, next_id, count);
	note(line);
	outcome = send_records(txn, count, started, sent) && commits ? commit_transaction(txn) : abort_transaction();
	next_id += count;
	sent += count;
	snprintf(line, sizeof(line), "%s %ld .\n", words[outcome], txn);
	note(line);
}

/*
 * Reads what an earlier run has logged.  Its last transaction, where it has no end,
 * gets one: the broker has settled it when the client was made.
 */
static void
read_log(const char *path)
{
	FILE	   *in = fopen(path, "r");
	char		line[256];
	char		word[32];
	char		last_word[32] = "";
	long		txn,
				first,
				count;
	size_t		len = 0;

	while (in && fgets(line, sizeof(line), in))
	{
		len = strlen(line);
		if (sscanf(line, "begin %ld %ld %ld .", &txn, &first, &count) == 3)
		{
			next_txn = txn + 1;
			next_id = first + count;
			strcpy(last_word, "begin");
		}
		else if (sscanf(line, "%31s %ld .", word, &txn) == 2)
			strcpy(last_word, word);
	}
	if (in)
		fclose(in);
	if (len > 0 && line[len - 1] != '\n')
		note("\n");
	if (strcmp(last_word, "begin") == 0 || strcmp(last_word, "committing") == 0)
	{
		snprintf(line, sizeof(line), "%s %ld .\n", strcmp(last_word, "begin") == 0 ? "aborted" : "unknown", next_txn - 1);
		note(line);
	}
	/* other data than the run before */
	seed += next_txn;
}

/* Takes an option; false if there is none of that name. */
static int
take_option(const char *option)
{
	const char *value = strchr(option, '=');

	if (value == NULL)
		return 0;
	value++;
	if (strncmp(option, "rate=", 5) == 0)
		rate = atof(value);
	else if (strncmp(option, "records=", 8) == 0)
		records = atol(value);
	else if (strncmp(option, "keys=", 5) == 0)
		keys = atoi(value);
	else if (strncmp(option, "size=", 5) == 0)
		max_size = atoi(value);
	else if (strncmp(option, "aborted=", 8) == 0)
		aborted_percent = atoi(value);
	else if (strncmp(option, "seed=", 5) == 0)
		seed = atol(value);
	else if (strncmp(option, "timeout=", 8) == 0)
		timeout = value;
	else
		return 0;
	return 1;
}

/* See the head of this file. */
int
main(int argc, char **argv)
{
	double		started;

	if (argc < 4)
		fail("usage", "BOOTSTRAP TOPIC LOG [NAME=VALUE ...]");
	bootstrap = argv[1];
	topic = argv[2];
	for (int i = 4; i < argc; i++)
	{
		if (!take_option(argv[i]))
			fail("unknown option", argv[i]);
	}
	log_fd = open(argv[3], O_WRONLY | O_CREAT | O_APPEND, 0644);
	if (log_fd < 0)
		fail(argv[3], "cannot be written");
	connect_client();
	read_log(argv[3]);
	srand48(seed);
	started = now();
	while (!told_to_stop() && (records == 0 || sent < records))
		run_transaction(started);
	rd_kafka_destroy(client);
	printf("%ld\n", sent);
	return 0;
}
