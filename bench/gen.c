/*
 * gen.c
 *		Fills a topic with the records of the benchmark.
 *
 *	gen BOOTSTRAP TOPIC RECORDS KEYS SEED [RATE]
 *	gen BOOTSTRAP TOPIC USERS
 *
 * With RATE it takes its time: so many records a second, which have the clock's
 * time; else all at once, 300 us of their time apart.
 *
 * The second form writes the table of users, a row for each, an hour older than
 * all other records.  Prints one line of JSON with what a correct system must find in the topic:
 * the number of records, the exact sum of amounts in hundredths, and how many
 * different keys occur.
 */
#include "common.h"

#define FIRST_TIME_US INT64_C(1735689600000000)	/* 2025-01-01; one record per 300 us */

static long failed = 0;

/* Counts records that were not delivered. */
static void
delivered(rd_kafka_t *client, const rd_kafka_message_t *message, void *arg)
{
	if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
		failed++;
}

/* Makes and produces the rows of the users. */
static void
produce_users(rd_kafka_t *client, const char *topic, long nusers)
{
	Record		record;

	for (long user = 0; user < nusers; user++)
	{
		make_user(&record, user);
		produce_record(client, topic, &record, FIRST_TIME_US - INT64_C(3600000000));
	}
	rd_kafka_flush(client, 120000);
	if (failed > 0 || rd_kafka_outq_len(client) > 0)
		die("records were not delivered to", topic);
	printf("{\"topic\":\"%s\",\"records\":%ld}\n", topic, nusers);
	rd_kafka_destroy(client);
}

/* Waits until record i is due at rate records a second; returns its time in microseconds. */
static int64_t
time_of_record(long i, double rate, double start)
{
	double		early;

	if (rate == 0)
		return FIRST_TIME_US + i * 300;
	early = start + i / rate - seconds();
	if (early > 0.001)
		usleep((useconds_t) (early * 1e6));
	return clock_us();
}

/* Makes and produces the records. */
int
main(int argc, char **argv)
{
	rd_kafka_t *client;
	Record		record;
	uint64_t	state;
	long		nrecords;
	long		nkeys;
	long		keys = 0;
	int64_t		cents = 0;
	int64_t		bytes = 0;
	double		rate;
	bool	   *seen;
	double		start = seconds();

	if (argc == 4)
	{
		produce_users(make_producer(argv[1], "20", delivered), argv[2], atol(argv[3]));
		return 0;
	}
	if (argc != 6 && argc != 7)
		die("usage", "gen BOOTSTRAP TOPIC RECORDS KEYS SEED [RATE] | gen BOOTSTRAP TOPIC USERS");
	nrecords = atol(argv[3]);
	nkeys = atol(argv[4]);
	state = (uint64_t) atoll(argv[5]);
	rate = argc == 7 ? atof(argv[6]) : 0;
	seen = calloc(nkeys, sizeof(bool));
	client = make_producer(argv[1], "20", delivered);
	for (long i = 0; i < nrecords; i++)
	{
		int64_t		time_us = time_of_record(i, rate, start);

		make_record(&record, &state, nkeys, time_us);
		produce_record(client, argv[2], &record, time_us);
		keys += !seen[record.user];
		seen[record.user] = true;
		cents += record.cents;
		bytes += record.valuelen;
		if (i % 1024 == 0 || rate > 0)
			rd_kafka_poll(client, 0);
	}
	rd_kafka_flush(client, 120000);
	if (failed > 0 || rd_kafka_outq_len(client) > 0)
		die("records were not delivered to", argv[2]);
	printf("{\"topic\":\"%s\",\"records\":%ld,\"cents\":%lld,\"keys\":%ld,\"value_bytes\":%.1f,\"seconds\":%.2f}\n",
		   argv[2], nrecords, (long long) cents, keys, (double) bytes / nrecords, seconds() - start);
	rd_kafka_destroy(client);
	free(seen);
	return 0;
}
