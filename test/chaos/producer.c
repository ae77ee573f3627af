/*
 * producer.c
 *		Produces records for the tests on a real broker.
 *
 *	producer BOOTSTRAP
 *		Obeys lines from standard input, fields separated by tabs, and answers
 *		each with "ok" or "error TEXT":
 *
 *			send TOPIC PARTITION TIMESTAMP KEY VALUE [HEADER VALUE]...
 *				Keys, values and headers are hexadecimal, "-" is none, "." is
 *				empty.  The timestamp is milliseconds since 1970, 0 is now.
 *			flush					waits until all records sent are stored
 *			begin [ID]				a transaction of the records sent since, the first one
 *									with this transactional id (else one of its own)
 *			commit | abort			ends it
 *			leave					leaves an open transaction behind and ends
 *
 *	producer BOOTSTRAP load TOPIC PARTITIONS RATE KEYS [TRANSACTION_SIZE]
 *		Produces JSON records {"id", "k", "v"} until standard input ends: id
 *		counts from 0 within a partition, k is one of KEYS keys, of which some are
 *		much more frequent than others, v an integer.  A key always goes to the same
 *		partition.  With TRANSACTION_SIZE every so many records are one
 *		transaction, and each fifth of those is aborted.  RATE 0: as fast as
 *		possible; a broker that is away is waited for.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <librdkafka/rdkafka.h>

#define MAX_FIELDS 64
#define REQUEST_MS 30000

static rd_kafka_t *plain;		/* for records outside of transactions */
static rd_kafka_t *transactional;
static const char *bootstrap;
static int	in_transaction;
static long failed;				/* records that could not be stored */

/* Ends the program with a message. */
static void
fail(const char *what, const char *why)
{
	fprintf(stderr, "producer: %s: %s\n", what, why);
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

/* Brokers come and go in tests: the client's own log lines would only confuse. */
static void
no_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
}

/* Counts what could not be stored. */
static void
delivered(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
	if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR && rk == plain)
		failed++;
}

/* Sets a property. */
static void
set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char		why[256];

	if (rd_kafka_conf_set(conf, name, value, why, sizeof(why)) != RD_KAFKA_CONF_OK)
		fail(name, why);
}

/* Makes a client; with an id it is a transactional one. */
static rd_kafka_t *
make_client(const char *id)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_t *rk;
	char		why[512];

	set(conf, "bootstrap.servers", bootstrap);
	set(conf, "linger.ms", "2");
	set(conf, "enable.idempotence", "true");
	set(conf, "message.max.bytes", "50000000");
	set(conf, "message.timeout.ms", id ? "60000" : "0");
	set(conf, "reconnect.backoff.max.ms", "200");
	set(conf, "topic.metadata.refresh.interval.ms", "1000");
	rd_kafka_conf_set_log_cb(conf, no_log);
	rd_kafka_conf_set_dr_msg_cb(conf, delivered);
	if (id)
	{
		set(conf, "transactional.id", id);
		set(conf, "transaction.timeout.ms", "60000");
	}
	rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof(why));
	if (rk == NULL)
		fail("client", why);
	return rk;
}

/* The client to send with now. */
static rd_kafka_t *
client(void)
{
	if (in_transaction)
		return transactional;
	if (plain == NULL)
		plain = make_client(NULL);
	return plain;
}

/* Text of a transactional call's error, or NULL. */
static const char *
error_text(rd_kafka_error_t *error)
{
	static char text[512];

	if (error == NULL)
		return NULL;
	snprintf(text, sizeof(text), "%s", rd_kafka_error_string(error));
	rd_kafka_error_destroy(error);
	return text;
}

/* Starts a transaction; the first one may be given an id. */
static const char *
begin(const char *wanted_id)
{
	const char *why;

	if (transactional == NULL)
	{
		char		id[300];

		if (wanted_id)
			snprintf(id, sizeof(id), "%s", wanted_id);
		else
			snprintf(id, sizeof(id), "producer-%d-%ld", (int) getpid(), (long) time(NULL));
		transactional = make_client(id);
		why = error_text(rd_kafka_init_transactions(transactional, REQUEST_MS));
		if (why)
			return why;
	}
	why = error_text(rd_kafka_begin_transaction(transactional));
	if (why == NULL)
		in_transaction = 1;
	return why;
}

/* Waits until everything sent is stored. */
static const char *
flush(void)
{
	rd_kafka_resp_err_t err = rd_kafka_flush(client(), 2 * REQUEST_MS);

	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		return rd_kafka_err2str(err);
	return failed > 0 ? "records could not be stored" : NULL;
}

/* Ends a transaction. */
static const char *
end_transaction(int commit)
{
	const char *why;

	if (!in_transaction)
		return "no transaction";
	/* what is aborted shall be in the topic, too */
	if (!commit)
		rd_kafka_flush(transactional, REQUEST_MS);
	why = commit ? error_text(rd_kafka_commit_transaction(transactional, REQUEST_MS)) :
		error_text(rd_kafka_abort_transaction(transactional, REQUEST_MS));
	in_transaction = 0;
	return why;
}

/* Decodes hexadecimal in place; returns the length, -1 for "-". */
static long
decode(char *text)
{
	long		n = 0;

	if (strcmp(text, "-") == 0)
		return -1;
	for (char *p = text; p[0] && p[1]; p += 2)
	{
		char		pair[3] = {p[0], p[1], 0};

		text[n++] = (char) strtol(pair, NULL, 16);
	}
	return n;
}

/* The command send. */
static const char *
send_record(char **field, int nfields)
{
	rd_kafka_headers_t *headers = rd_kafka_headers_new(8);
	long		key_length = decode(field[4]);
	long		value_length = decode(field[5]);
	char	   *key_data = key_length < 0 ? NULL : field[4];
	char	   *value_data = value_length < 0 ? NULL : field[5];
	size_t		key_size = key_data ? (size_t) key_length : 0;
	size_t		value_size = value_data ? (size_t) value_length : 0;
	rd_kafka_resp_err_t err;

	for (int i = 6; i + 1 < nfields; i += 2)
	{
		long		name = decode(field[i]);
		long		content = decode(field[i + 1]);

		rd_kafka_header_add(headers, field[i], name, content < 0 ? NULL : field[i + 1],
							content < 0 ? 0 : content);
	}
	for (;;)
	{
		err = rd_kafka_producev(client(), RD_KAFKA_V_TOPIC(field[1]),
								RD_KAFKA_V_PARTITION(atoi(field[2])),
								RD_KAFKA_V_TIMESTAMP(atoll(field[3])),
								RD_KAFKA_V_KEY(key_data, key_size),
								RD_KAFKA_V_VALUE(value_data, value_size),
								RD_KAFKA_V_HEADERS(headers),
								RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
		if (err != RD_KAFKA_RESP_ERR__QUEUE_FULL)
			break;
		rd_kafka_poll(client(), 10);
	}
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		rd_kafka_headers_destroy(headers);
		return rd_kafka_err2str(err);
	}
	return NULL;
}

/* Does what one line says; NULL or what is wrong. */
static const char *
obey(char **field, int nfields)
{
	if (nfields >= 6 && strcmp(field[0], "send") == 0)
		return send_record(field, nfields);
	if (strcmp(field[0], "flush") == 0)
		return flush();
	if (strcmp(field[0], "begin") == 0)
		return begin(nfields > 1 ? field[1] : NULL);
	if (strcmp(field[0], "commit") == 0)
		return end_transaction(1);
	if (strcmp(field[0], "abort") == 0)
		return end_transaction(0);
	if (strcmp(field[0], "leave") == 0)
	{
		flush();
		_exit(0);
	}
	return "unknown command";
}

/* Obeys standard input. */
static void
serve(void)
{
	char	   *line = NULL;
	size_t		room = 0;
	ssize_t		len;

	while ((len = getline(&line, &room, stdin)) > 0)
	{
		char	   *field[MAX_FIELDS];
		int			nfields = 0;
		char	   *save = NULL;
		const char *why;

		if (line[len - 1] == '\n')
			line[len - 1] = '\0';
		for (char *p = strtok_r(line, "\t", &save); p && nfields < MAX_FIELDS; p = strtok_r(NULL, "\t", &save))
			field[nfields++] = p;
		why = nfields > 0 ? obey(field, nfields) : "empty line";
		printf(why ? "error %s\n" : "ok\n", why);
		fflush(stdout);
	}
	free(line);
}

/* True once standard input has ended. */
static int
told_to_stop(void)
{
	struct pollfd fd = {.fd = 0, .events = POLLIN};
	char		c;

	return poll(&fd, 1, 0) > 0 && read(0, &c, 1) <= 0;
}

/*
 * A transaction that failed (it ran into a time limit, say) is given up, and if
 * need be the client with it; the load goes on with a new one.
 */
static void
start_over(const char *what, const char *why)
{
	fprintf(stderr, "producer: %s: %s; starting over\n", what, why);
	for (int i = 0; i < 60; i++)
	{
		if (in_transaction && end_transaction(0) == NULL && begin(NULL) == NULL)
			return;
		in_transaction = 0;
		if (transactional)
			rd_kafka_destroy(transactional);
		transactional = NULL;
		if (begin(NULL) == NULL)
			return;
		sleep(1);
	}
	fail(what, why);
}

/* One record of the load. */
static void
send_load(const char *topic, int partitions, int keys, long *ids, long number)
{
	/* the low keys are frequent: the product of two even numbers between 0 and 1 */
	int			k = (int) (drand48() * drand48() * keys);
	int			partition = k % partitions;
	char		key[32];
	char		value[128];
	rd_kafka_resp_err_t err;

	snprintf(key, sizeof(key), "k%d", k);
	snprintf(value, sizeof(value), "{\"id\": %ld, \"k\": \"%s\", \"v\": %d}",
			 ids[partition]++, key, (int) (drand48() * 2001) - 1000);
	for (;;)
	{
		err = rd_kafka_producev(client(), RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(partition),
								RD_KAFKA_V_KEY(key, strlen(key)), RD_KAFKA_V_VALUE(value, strlen(value)),
								RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
		if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
			break;
		if (err == RD_KAFKA_RESP_ERR__QUEUE_FULL)
			rd_kafka_poll(client(), 10);
		else if (in_transaction)
			start_over("produce", rd_kafka_err2str(err));
		else
			fail("produce", rd_kafka_err2str(err));
	}
	if (number % 64 == 0)
		rd_kafka_poll(client(), 0);
}

/* Ends or starts a transaction of the load where one is due. */
static void
load_transaction(long number, long size)
{
	const char *why = NULL;

	if (size <= 0 || number % size != 0)
		return;
	if (in_transaction)
		why = end_transaction((number / size) % 5 != 0);
	if (why == NULL)
		why = begin(NULL);
	if (why)
		start_over("transaction", why);
}

/* Produces until told to stop. */
static void
load(const char *topic, int partitions, double rate, int keys, long size)
{
	long	   *ids = calloc(partitions, sizeof(long));
	double		start = now();
	long		number;
	const char *why;

	srand48(getpid());
	for (number = 0; (number % 32 != 0 && rate > 100) || !told_to_stop(); number++)
	{
		double		wait = rate > 0 ? start + number / rate - now() : 0;

		if (wait > 0.002)
			usleep(wait * 1e6);
		load_transaction(number, size);
		send_load(topic, partitions, keys, ids, number);
	}
	why = in_transaction ? end_transaction(1) : flush();
	if (why)
		fprintf(stderr, "producer: end: %s\n", why);
	printf("%ld\n", number);
	free(ids);
}

/* See the head of this file. */
int
main(int argc, char **argv)
{
	if (argc < 2)
		fail("usage", "BOOTSTRAP [load TOPIC PARTITIONS RATE KEYS [TRANSACTION_SIZE]]");
	bootstrap = argv[1];
	if (argc >= 7 && strcmp(argv[2], "load") == 0)
		load(argv[3], atoi(argv[4]), atof(argv[5]), atoi(argv[6]), argc > 7 ? atol(argv[7]) : 0);
	else
		serve();
	if (plain)
		rd_kafka_destroy(plain);
	if (transactional)
		rd_kafka_destroy(transactional);
	return 0;
}
