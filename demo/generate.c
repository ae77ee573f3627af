/*
 * generate.c
 *		The shop of the demo: what its customers do, as records in two topics.
 *
 *	generate BOOTSTRAP customers TOPIC COUNT
 *		Signs COUNT customers up, and ends.
 *	generate BOOTSTRAP orders CUSTOMERS_TOPIC ORDERS_TOPIC COUNT RATE
 *		Produces RATE orders a second until SIGTERM or SIGINT, then waits until
 *		all of them are stored, and ends.
 *
 * Customers never move to another country, so that revenue by country can be
 * counted again by anybody.  What changes is their tier; and there are guests,
 * who sign up, never order, and of whom most leave again (a tombstone).  Some
 * orders are from people nobody knows, and about one in 1,700 is damaged: cut off,
 * an amount that is no number, or no items.  A broker that is away is waited for.
 */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <librdkafka/rdkafka.h>

#define DAMAGED 5000			/* one order in so many, per kind of damage */

static const char *const first_names[] = {"Ada", "Ben", "Chloe", "Dario", "Emma", "Felix", "Greta",
"Hugo", "Ines", "Jonas", "Kaja", "Liam", "Mara", "Nils", "Olga", "Paul", "Rosa", "Sven", "Tara", "Uwe"};
static const char *const last_names[] = {"Almeida", "Bauer", "Costa", "Dubois", "Eklund", "Ferrari",
	"Garcia", "Horak", "Ivanov", "Jansen", "Kowalski", "Larsen", "Moreau", "Novak", "Olsen", "Petit",
"Rossi", "Schmidt", "Toth", "Weber"};
static const char *const countries[] = {"DE", "FR", "IT", "ES", "PL", "NL", "SE", "PT"};
static const char *const tiers[] = {"basic", "silver", "gold"};

#define PICK(list, number) ((list)[(number) % (sizeof(list) / sizeof((list)[0]))])

static rd_kafka_t *client;
static volatile sig_atomic_t stopped;
static long lost;				/* records the broker has refused */

/* Ends the program with a message. */
static void
fail(const char *what, const char *why)
{
	fprintf(stderr, "generate: %s: %s\n", what, why);
	exit(1);
}

/* Asks the main loop to end. */
static void
on_signal(int number)
{
	stopped = 1;
}

/* Seconds since some fixed moment. */
static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* A random number; the same ones in every run. */
static uint64_t
any(void)
{
	static uint64_t state = 88172645463325252ULL;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state >> 11;
}

/* The number of a customer; some order much more than others. */
static unsigned
any_customer(unsigned count)
{
	double		r = (any() % 1000000) / 1e6;

	return (unsigned) (count * r * r * r);
}

/* Brokers come and go in the demo: the client's own log lines would only confuse. */
static void
no_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
}

/* Counts what could not be stored. */
static void
delivered(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
	if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
		lost++;
}

/* Makes the client: records of a key stay in order, none is stored twice, none given up. */
static void
connect_to(const char *bootstrap)
{
	const char *const settings[][2] = {{"bootstrap.servers", bootstrap}, {"enable.idempotence", "true"},
	{"linger.ms", "2"}, {"delivery.timeout.ms", "0"}, {"partitioner", "murmur2_random"},
	{"queue.buffering.max.messages", "1000000"}, {"reconnect.backoff.max.ms", "500"}};
	char		why[512];
	rd_kafka_conf_t *conf = rd_kafka_conf_new();

	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
	{
		if (rd_kafka_conf_set(conf, settings[i][0], settings[i][1], why, sizeof(why)) != RD_KAFKA_CONF_OK)
			fail(settings[i][0], why);
	}
	rd_kafka_conf_set_log_cb(conf, no_log);
	rd_kafka_conf_set_dr_msg_cb(conf, delivered);
	client = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof(why));
	if (client == NULL)
		fail("cannot make a client", why);
}

/* Sends one record; value NULL is a tombstone. */
static void
send_record(const char *topic, const char *key, const char *value)
{
	rd_kafka_resp_err_t err;

	for (;;)
	{
		err = rd_kafka_producev(client, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_KEY(key, strlen(key)),
								RD_KAFKA_V_VALUE((void *) value, value ? strlen(value) : 0),
								RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
		if (err != RD_KAFKA_RESP_ERR__QUEUE_FULL)
			break;
		rd_kafka_poll(client, 100);
	}
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		fail("cannot produce", rd_kafka_err2str(err));
}

/* A customer signs up, or gets another tier. */
static void
send_customer(const char *topic, const char *key, unsigned number, unsigned tier)
{
	char		value[200];

	snprintf(value, sizeof(value), "{\"name\":\"%s %s\",\"country\":\"%s\",\"tier\":\"%s\"}",
			 PICK(first_names, number * 7), PICK(last_names, number * 13 + number / 20),
			 PICK(countries, number * 5 + number / 8), PICK(tiers, tier));
	send_record(topic, key, value);
}

/* One order, rarely a damaged one. */
static void
send_order(const char *topic, unsigned long id, unsigned count)
{
	char		key[32];
	char		value[200];
	unsigned	cents = 500 + any() % 9500 + (any() % 20 == 0 ? any() % 100000 : 0);
	unsigned	items = 1 + any() % 5;
	unsigned	damage = any() % DAMAGED;

	if (any() % 100 == 0)
		snprintf(key, sizeof(key), "x%04u", (unsigned) (any() % 20));
	else
		snprintf(key, sizeof(key), "c%04u", any_customer(count));

	if (damage == 0)
		snprintf(value, sizeof(value), "{\"id\":%lu,\"amount\":%u.%02u,\"ite", id, cents / 100, cents % 100);
	else if (damage == 1)
		snprintf(value, sizeof(value), "{\"id\":%lu,\"amount\":\"a lot\",\"items\":%u}", id, items);
	else
		snprintf(value, sizeof(value), "{\"id\":%lu,\"amount\":%u.%02u,\"items\":%u}", id,
				 cents / 100, cents % 100, damage == 2 ? 0 : items);
	send_record(topic, key, value);
}

/* What happens to customers meanwhile: other tiers, and guests who come and go. */
static void
send_changes(const char *topic, unsigned count, unsigned *guests)
{
	char		key[32];
	unsigned	number = any_customer(count);

	snprintf(key, sizeof(key), "c%04u", number);
	send_customer(topic, key, number, any() % 3);
	snprintf(key, sizeof(key), "g%06u", *guests);
	send_customer(topic, key, *guests, 0);
	if (*guests >= 50 && *guests % 4 != 0)
	{
		snprintf(key, sizeof(key), "g%06u", *guests - 50);
		send_record(topic, key, NULL);
	}
	(*guests)++;
}

/* Waits until everything is stored. */
static void
finish(void)
{
	rd_kafka_resp_err_t err = rd_kafka_flush(client, 60000);

	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		fail("the last records are not stored", rd_kafka_err2str(err));
	if (lost > 0)
		fail("records were refused", rd_kafka_err2str(rd_kafka_last_error()));
	rd_kafka_destroy(client);
}

/* Signs up the customers there are from the beginning. */
static void
produce_customers(const char *topic, unsigned count)
{
	char		key[32];

	for (unsigned i = 0; i < count; i++)
	{
		snprintf(key, sizeof(key), "c%04u", i);
		send_customer(topic, key, i, any() % 3);
		rd_kafka_poll(client, 0);
	}
}

/* Keeps producing until a signal comes, evenly, a few orders every five milliseconds. */
static void
produce_orders(const char *customers, const char *orders, unsigned count, double rate)
{
	double		start = now();
	unsigned long sent = 0;
	unsigned long changes = 0;
	unsigned	guests = 0;

	while (!stopped)
	{
		double		passed = now() - start;

		while (sent < passed * rate && !stopped)
			send_order(orders, ++sent, count);
		while (changes < passed * 20)
		{
			send_changes(customers, count, &guests);
			changes++;
		}
		rd_kafka_poll(client, 5);
		nanosleep(&(struct timespec){.tv_nsec = 4000000}, NULL);
	}
}

/* Does what the command line says; see the top of the file. */
int
main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_signal};

	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	if (argc == 5 && strcmp(argv[2], "customers") == 0)
	{
		connect_to(argv[1]);
		produce_customers(argv[3], atoi(argv[4]));
	}
	else if (argc == 7 && strcmp(argv[2], "orders") == 0)
	{
		connect_to(argv[1]);
		produce_orders(argv[3], argv[4], atoi(argv[5]), atof(argv[6]));
	}
	else
		fail("usage", "generate BOOTSTRAP customers TOPIC COUNT | orders CUSTOMERS_TOPIC ORDERS_TOPIC COUNT RATE");
	finish();
	return 0;
}
