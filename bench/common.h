/*
 * common.h
 *		What the programs of the benchmark share: clocks, CPU times of processes,
 *		the records, and a Kafka client.
 *
 * A record is a JSON object of 170 bytes on average; its key is user_id.  All
 * records follow from the seed, so that every system reads the same bytes.
 * Amounts have two decimals; their sum is kept in hundredths and is exact.
 */
#ifndef KS_BENCH_COMMON_H
#define KS_BENCH_COMMON_H

#define _GNU_SOURCE
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <librdkafka/rdkafka.h>

#define RECORD_MAX 256
#define PARTITIONS 4

/* One record, ready to be produced. */
typedef struct Record
{
	char		key[24];
	int			keylen;
	char		value[RECORD_MAX];
	int			valuelen;
	long		user;
	long		cents;
} Record;

/* Ends the program with a message. */
static inline void
die(const char *what, const char *why)
{
	fprintf(stderr, "bench: %s: %s\n", what, why);
	exit(1);
}

/* Seconds of a clock that never jumps. */
static inline double
seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* Microseconds since 1970. */
static inline int64_t
clock_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec * INT64_C(1000000) + ts.tv_nsec / 1000;
}

/* CPU seconds, user and system, that a process and its threads have used; 0 when it is gone. */
static inline double
process_cpu(int pid)
{
	char		path[64];
	char		line[1024];
	unsigned long user;
	unsigned long system;
	double		result = 0;
	char	   *after;
	FILE	   *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "r");
	if (file == NULL)
		return 0;
	/* The name, in parentheses, may contain anything. */
	if (fgets(line, sizeof(line), file) && (after = strrchr(line, ')')) != NULL &&
		sscanf(after + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) == 2)
		result = (double) (user + system) / sysconf(_SC_CLK_TCK);
	fclose(file);
	return result;
}

/* A value of /proc/PID/status in MB, for example "VmHWM"; 0 when it is not there. */
static inline double
process_mb(int pid, const char *name)
{
	char		path[64];
	char		line[256];
	double		result = 0;
	FILE	   *file;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	file = fopen(path, "r");
	if (file == NULL)
		return 0;
	while (fgets(line, sizeof(line), file))
	{
		if (strncmp(line, name, strlen(name)) == 0 && line[strlen(name)] == ':')
			result = atof(line + strlen(name) + 1) / 1024;
	}
	fclose(file);
	return result;
}

/* The next number of a splitmix64 generator. */
static inline uint64_t
next_random(uint64_t *state)
{
	uint64_t	z = (*state += UINT64_C(0x9E3779B97F4A7C15));

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

/* Makes the next record of one of nkeys users, produced at time_us. */
static inline void
make_record(Record *record, uint64_t *state, long nkeys, int64_t time_us)
{
	static const char text[] =
	"the quick brown fox jumps over the lazy dog and keeps on running until the sun goes down again";
	uint64_t	r = next_random(state);

	record->user = (long) (r % (uint64_t) nkeys);
	r = next_random(state);
	record->cents = (long) ((r >> 20) % 10000);
	record->keylen = snprintf(record->key, sizeof(record->key), "u%ld", record->user);
	record->valuelen =
		snprintf(record->value, sizeof(record->value),
				 "{\"user_id\":\"%s\",\"item\":\"i%d\",\"amount\":%ld.%02ld,\"ts\":%lld,\"tus\":%lld,\"note\":\"%.*s\"}",
				 record->key, (int) (r % 1000), record->cents / 100, record->cents % 100,
				 (long long) (time_us / 1000), (long long) time_us, 55 + (int) ((r >> 40) % 31), text);
}

/* The country of a user, by which a join is checked. */
static inline const char *
country_of(long user)
{
	static const char *const countries[] = {"DE", "FR", "US", "JP", "BR", "IN", "PL", "KE"};

	return countries[user % 8];
}

/* Makes the row of a user in the table that is joined; one of 100 bytes. */
static inline void
make_user(Record *record, long user)
{
	static const char *const tiers[] = {"basic", "silver", "gold"};

	record->user = user;
	record->cents = 0;
	record->keylen = snprintf(record->key, sizeof(record->key), "u%ld", user);
	record->valuelen = snprintf(record->value, sizeof(record->value),
								"{\"user_id\":\"%s\",\"name\":\"User number %ld\",\"country\":\"%s\",\"tier\":\"%s\"}",
								record->key, user, country_of(user), tiers[user % 3]);
}

/* Sets a property of a client; name and value come from here, so failing is a bug. */
static inline void
set_property(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char		why[512];

	if (rd_kafka_conf_set(conf, name, value, why, sizeof(why)) != RD_KAFKA_CONF_OK)
		die(name, why);
}

/* Makes a client; the configuration is consumed. */
static inline rd_kafka_t *
make_client(rd_kafka_type_t type, rd_kafka_conf_t *conf)
{
	char		why[512];
	rd_kafka_t *client = rd_kafka_new(type, conf, why, sizeof(why));

	if (client == NULL)
		die("cannot make a client", why);
	return client;
}

/* Makes a producer that spreads keys over partitions as Java's does. */
static inline rd_kafka_t *
make_producer(const char *bootstrap, const char *linger_ms,
			  void (*delivered) (rd_kafka_t *, const rd_kafka_message_t *, void *))
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();

	set_property(conf, "bootstrap.servers", bootstrap);
	set_property(conf, "partitioner", "murmur2");
	set_property(conf, "acks", "all");
	set_property(conf, "linger.ms", linger_ms);
	set_property(conf, "queue.buffering.max.messages", "400000");
	rd_kafka_conf_set_dr_msg_cb(conf, delivered);
	return make_client(RD_KAFKA_PRODUCER, conf);
}

/* Produces one record, waiting while the client's queue is full. */
static inline void
produce_record(rd_kafka_t *client, const char *topic, const Record *record, int64_t time_us)
{
	rd_kafka_resp_err_t error;

	while ((error = rd_kafka_producev(client, RD_KAFKA_V_TOPIC(topic),
									  RD_KAFKA_V_KEY(record->key, record->keylen),
									  RD_KAFKA_V_VALUE((void *) record->value, record->valuelen),
									  RD_KAFKA_V_TIMESTAMP(time_us / 1000),
									  RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
									  RD_KAFKA_V_END)) == RD_KAFKA_RESP_ERR__QUEUE_FULL)
		rd_kafka_poll(client, 20);
	if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
		die("cannot produce", rd_kafka_err2str(error));
}

/* Reads all partitions of a topic from an offset on; returns the queue they arrive in. */
static inline rd_kafka_queue_t *
read_topic(rd_kafka_t *client, const char *topic, int64_t offset)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(PARTITIONS);

	rd_kafka_poll_set_consumer(client);
	for (int p = 0; p < PARTITIONS; p++)
		rd_kafka_topic_partition_list_add(list, topic, p)->offset = offset;
	if (rd_kafka_assign(client, list) != RD_KAFKA_RESP_ERR_NO_ERROR)
		die("cannot read", topic);
	rd_kafka_topic_partition_list_destroy(list);
	return rd_kafka_queue_get_consumer(client);
}

#endif
