/*
 * kafka_produce.c
 *		Produces numbered records for the tests of src/kafka.
 *
 *	kafka_produce BOOTSTRAP TOPIC PARTITION COUNT SIZE MODE [RATE]
 *
 * Values are "<microseconds since 1970> <number>", filled up to SIZE bytes with
 * 'x'.  PARTITION -1 takes partitions in turn.  MODE: plain; commit or abort
 * (one transaction); open (a transaction that is left open: killed at once
 * after its flush); shapes (records with odd keys, values, headers, times).
 * RATE: records per second.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include <librdkafka/rdkafka.h>

static rd_kafka_t *rk;
static int	failures;

/* Microseconds since 1970. */
static long long
now_us(void)
{
	struct timeval tv;

	gettimeofday(&tv, NULL);
	return (long long) tv.tv_sec * 1000000 + tv.tv_usec;
}

/* Ends the program with a message. */
static void
fail(const char *what, const char *why)
{
	fprintf(stderr, "kafka_produce: %s: %s\n", what, why);
	_exit(1);
}

/* Counts records that could not be delivered. */
static void
delivered(rd_kafka_t *handle, const rd_kafka_message_t *message, void *opaque)
{
	(void) handle;
	(void) opaque;
	if (message->err)
		failures++;
}

/* Sets a property. */
static void
set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char		why[256];

	if (rd_kafka_conf_set(conf, name, value, why, sizeof(why)) != RD_KAFKA_CONF_OK)
		fail(name, why);
}

/* Fails if a transactional call failed. */
static void
check(const char *what, rd_kafka_error_t *error)
{
	if (error)
		fail(what, rd_kafka_error_string(error));
}

/* Makes the client. */
static void
connect_to(const char *bootstrap, int transactional, const char *linger)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char		why[512];
	char		id[64];

	set(conf, "bootstrap.servers", bootstrap);
	set(conf, "linger.ms", linger);
	set(conf, "queue.buffering.max.messages", "1000000");
	rd_kafka_conf_set_dr_msg_cb(conf, delivered);
	if (transactional)
	{
		snprintf(id, sizeof(id), "kafka_produce-%d-%lld", (int) getpid(), now_us());
		set(conf, "transactional.id", id);
	}
	rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof(why));
	if (rk == NULL)
		fail("client", why);
	if (transactional)
	{
		check("init", rd_kafka_init_transactions(rk, 30000));
		check("begin", rd_kafka_begin_transaction(rk));
	}
}

/* Sends one record, waiting while the queue is full. */
static void
send_one(const char *topic, int partition, const char *value, size_t size)
{
	for (;;)
	{
		rd_kafka_resp_err_t err = rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(topic),
													RD_KAFKA_V_PARTITION(partition),
													RD_KAFKA_V_VALUE((void *) value, size),
													RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
													RD_KAFKA_V_END);

		if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
			break;
		if (err != RD_KAFKA_RESP_ERR__QUEUE_FULL)
			fail("produce", rd_kafka_err2str(err));
		rd_kafka_poll(rk, 10);
	}
}

/* Sends count numbered records, all partitions of four in turn if it is -1. */
static void
send_numbered(const char *topic, int partition, long count, size_t size, double rate)
{
	char	   *value = malloc(size + 64);
	long long	start = now_us();

	memset(value, 'x', size + 64);
	for (long i = 0; i < count; i++)
	{
		long long	wait = rate > 0 ? start + (long long) (i * 1e6 / rate) - now_us() : 0;
		int			len;

		if (wait > 0)
			usleep(wait);
		len = snprintf(value, size + 64, "%lld %ld ", now_us(), i);
		value[len] = 'x';
		send_one(topic, partition < 0 ? (int) (i % 4) : partition, value,
				 size > (size_t) len ? size : (size_t) len);
		if (i % 64 == 0)
			rd_kafka_poll(rk, 0);
	}
	free(value);
}

/* Records that are not like others. */
static void
send_shapes(const char *topic, int partition)
{
	rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(partition),
					  RD_KAFKA_V_KEY("k1", 2), RD_KAFKA_V_VALUE("v1", 2),
					  RD_KAFKA_V_TIMESTAMP(1700000000123LL),
					  RD_KAFKA_V_HEADER("h1", "one", 3), RD_KAFKA_V_HEADER("h2", NULL, 0),
					  RD_KAFKA_V_HEADER("h1", "two", 3), RD_KAFKA_V_END);
	rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(partition),
					  RD_KAFKA_V_KEY("k2", 2), RD_KAFKA_V_END);
	rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(partition),
					  RD_KAFKA_V_KEY("", 0), RD_KAFKA_V_VALUE("", 0), RD_KAFKA_V_END);
	rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(partition),
					  RD_KAFKA_V_VALUE("late", 4), RD_KAFKA_V_TIMESTAMP(9223372036854775LL),
					  RD_KAFKA_V_END);
}

/* Does what the arguments say. */
int
main(int argc, char **argv)
{
	const char *mode = argc > 6 ? argv[6] : "";
	int			transactional = !strcmp(mode, "commit") || !strcmp(mode, "abort") ||
		!strcmp(mode, "open");

	if (argc < 7)
		fail("usage", "BOOTSTRAP TOPIC PARTITION COUNT SIZE MODE [RATE]");
	connect_to(argv[1], transactional, argc > 7 ? "1" : "5");
	if (!strcmp(mode, "shapes"))
		send_shapes(argv[2], atoi(argv[3]));
	else
		send_numbered(argv[2], atoi(argv[3]), atol(argv[4]), atol(argv[5]),
					  argc > 7 ? atof(argv[7]) : 0);
	if (rd_kafka_flush(rk, 60000) != RD_KAFKA_RESP_ERR_NO_ERROR || failures > 0)
		fail("flush", "records were not delivered");
	if (!strcmp(mode, "open"))
		_exit(0);
	if (!strcmp(mode, "commit"))
		check("commit", rd_kafka_commit_transaction(rk, 30000));
	if (!strcmp(mode, "abort"))
		check("abort", rd_kafka_abort_transaction(rk, 30000));
	rd_kafka_destroy(rk);
	return 0;
}
