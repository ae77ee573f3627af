/*
 * latency.c
 *		Latency: from the producer's clock to the moment a reader sees the record.
 *
 *	latency BOOTSTRAP TOPIC RATE WARMUP SECONDS PID table CONNINFO RELATION
 *	latency BOOTSTRAP TOPIC RATE WARMUP SECONDS PID topic OUTPUT
 *
 * One thread produces RATE records a second, evenly, in ticks of a millisecond;
 * each carries the time (tus, microseconds) taken just before it is handed to
 * the Kafka client, whose linger.ms is 1.  So the latency contains the producer's
 * client, the broker, the system measured and the reader.
 *
 * table: every tenth record after the warm-up is a probe, whatever happens to
 * the ones before it.  The main thread, in a session of its own, asks again and
 * again for the newest tus of the keys of all probes still under way; a probe
 * has arrived when its key's row shows its tus or a later one (records of a key
 * keep their order).  Between two questions it rests 100 us, which, like the
 * question itself, counts as latency.
 *
 * topic: the system writes every change, with the newest tus of its key, to
 * topic OUTPUT; the latency of every record that arrives there is taken, by a
 * consumer that reads only committed records.
 *
 * PID is the process whose CPU is reported, or several with commas between.  Prints one line of JSON.
 */
#include "common.h"

#include <pthread.h>

#include <libpq-fe.h>

#define NKEYS 10000
#define PROBE_EVERY 10
#define MAX_OPEN 200			/* probes asked for at once */
#define REST_US 100
#define LAST_CHANCE 10			/* seconds to wait for the rest after the end */

/* A record whose arrival is waited for. */
typedef struct Probe
{
	char		key[24];
	int64_t		tus;
} Probe;

static const char *bootstrap;
static const char *topic;
static int	rate;
static int	warmup;
static int	duration;
static int64_t measure_from_us;	/* records before are warm-up */

static Probe *probes;			/* filled by the producer, emptied in order by the reader */
static long nprobes = 0;		/* atomic */
static bool produced_all = false;	/* atomic */
static long nproduced = 0;
static long failed = 0;

static int64_t *latencies;
static long nlatencies = 0;
static long maxlatencies;

/* Counts records that were not delivered. */
static void
delivered(rd_kafka_t *client, const rd_kafka_message_t *message, void *arg)
{
	if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
		failed++;
}

/* Notes one latency. */
static void
note_latency(int64_t us)
{
	if (nlatencies < maxlatencies)
		latencies[nlatencies++] = us;
}

/* The producing thread. */
static void *
produce(void *arg)
{
	rd_kafka_t *client = make_producer(bootstrap, "1", delivered);
	uint64_t	state = 7;
	long		total = (long) rate * (warmup + duration);
	int64_t		start = clock_us();
	Record		record;

	measure_from_us = start + warmup * INT64_C(1000000);
	for (long i = 0; i < total; i++)
	{
		int64_t		due = start + (int64_t) (i * 1000000.0 / rate) / 1000 * 1000;
		int64_t		now = clock_us();

		if (due > now)
		{
			rd_kafka_poll(client, 0);
			usleep(due - now);
			now = clock_us();
		}
		make_record(&record, &state, NKEYS, now);
		produce_record(client, topic, &record, now);
		if (now >= measure_from_us && i % PROBE_EVERY == 0)
		{
			Probe	   *probe = &probes[nprobes];

			strcpy(probe->key, record.key);
			probe->tus = now;
			__atomic_store_n(&nprobes, nprobes + 1, __ATOMIC_RELEASE);
		}
	}
	rd_kafka_flush(client, 30000);
	nproduced = total;
	rd_kafka_destroy(client);
	__atomic_store_n(&produced_all, true, __ATOMIC_RELEASE);
	return NULL;
}

/* Takes new probes over into the list of those under way. */
static int
take_probes(Probe *open, int nopen, long *taken)
{
	long		there = __atomic_load_n(&nprobes, __ATOMIC_ACQUIRE);

	while (*taken < there && nopen < MAX_OPEN)
		open[nopen++] = probes[(*taken)++];
	return nopen;
}

/* Drops the probes that the result shows to have arrived. */
static int
drop_arrived(Probe *open, int nopen, PGresult *result, int64_t now)
{
	int			left = 0;

	for (int i = 0; i < nopen; i++)
	{
		bool		arrived = false;

		for (int row = 0; row < PQntuples(result) && !arrived; row++)
			arrived = strcmp(PQgetvalue(result, row, 0), open[i].key) == 0 &&
				atoll(PQgetvalue(result, row, 1)) >= open[i].tus;
		if (arrived)
			note_latency(now - open[i].tus);
		else
			open[left++] = open[i];
	}
	return left;
}

/* Polls the table until all probes have arrived.  Returns how many questions were asked. */
static long
read_table(PGconn *conn)
{
	static Probe open[MAX_OPEN];
	static char keys[MAX_OPEN * 26 + 3];
	const char *params[1] = {keys};
	int			nopen = 0;
	long		taken = 0;
	long		questions = 0;
	double		end = 0;

	for (;;)
	{
		PGresult   *result;
		char	   *at = keys;

		nopen = take_probes(open, nopen, &taken);
		if (nopen == 0 && __atomic_load_n(&produced_all, __ATOMIC_ACQUIRE) && taken == nprobes)
			return questions;
		if (end == 0 && __atomic_load_n(&produced_all, __ATOMIC_ACQUIRE))
			end = seconds();
		if (end > 0 && seconds() - end > LAST_CHANCE)
			die("records did not arrive in", topic);
		if (nopen > 0)
		{
			*at++ = '{';
			for (int i = 0; i < nopen; i++)
				at += sprintf(at, "%s%s", i > 0 ? "," : "", open[i].key);
			strcpy(at, "}");
			result = PQexecPrepared(conn, "newest", 1, params, NULL, NULL, 0);
			if (PQresultStatus(result) != PGRES_TUPLES_OK)
				die("cannot read the table", PQerrorMessage(conn));
			nopen = drop_arrived(open, nopen, result, clock_us());
			PQclear(result);
			questions++;
		}
		usleep(REST_US);
	}
}

/* Opens the reader's session and prepares its question. */
static PGconn *
open_session(const char *conninfo, const char *relation)
{
	PGconn	   *conn = PQconnectdb(conninfo);
	PGresult   *result;
	char		sql[256];

	if (PQstatus(conn) != CONNECTION_OK)
		die("cannot connect", PQerrorMessage(conn));
	snprintf(sql, sizeof(sql), "SELECT user_id, last_us FROM %s WHERE user_id = ANY ($1::text[])", relation);
	result = PQprepare(conn, "newest", sql, 1, NULL);
	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		die(relation, PQerrorMessage(conn));
	PQclear(result);
	return conn;
}

/* The number after "tus": in a JSON document; 0 when there is none. */
static int64_t
newest_time(const rd_kafka_message_t *message)
{
	static const char field[] = "\"tus\":";
	const char *at = memmem(message->payload, message->len, field, sizeof(field) - 1);

	return at == NULL ? 0 : atoll(at + sizeof(field) - 1);
}

/* Reads the output topic until nothing more comes.  Returns how many records came. */
static long
read_output(const char *output)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_t *client;
	rd_kafka_queue_t *queue;
	pthread_t	thread;
	long		records = 0;
	double		quiet = 0;

	set_property(conf, "bootstrap.servers", bootstrap);
	set_property(conf, "group.id", "latency");
	set_property(conf, "enable.auto.commit", "false");
	set_property(conf, "isolation.level", "read_committed");
	client = make_client(RD_KAFKA_CONSUMER, conf);
	queue = read_topic(client, output, RD_KAFKA_OFFSET_END);
	sleep(2);					/* the client has found the end by then */
	pthread_create(&thread, NULL, produce, NULL);
	while (quiet == 0 || seconds() - quiet < 2)
	{
		rd_kafka_message_t *message = rd_kafka_consume_queue(queue, 100);
		int64_t		now = clock_us();

		if (message == NULL || message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			if (quiet == 0 && __atomic_load_n(&produced_all, __ATOMIC_ACQUIRE))
				quiet = seconds();
		}
		else
		{
			int64_t		tus = newest_time(message);

			records++;
			if (quiet > 0)
				quiet = seconds();
			if (tus >= measure_from_us)
				note_latency(now - tus);
		}
		if (message != NULL)
			rd_kafka_message_destroy(message);
	}
	pthread_join(thread, NULL);
	return records;
}

/* For qsort. */
static int
compare_latencies(const void *a, const void *b)
{
	int64_t		left = *(const int64_t *) a;
	int64_t		right = *(const int64_t *) b;

	return left < right ? -1 : left > right;
}

/* A percentile in milliseconds, of the sorted latencies. */
static double
percentile(double p)
{
	return latencies[(long) ((nlatencies - 1) * p)] / 1000.0;
}

/* CPU seconds of the processes of a list. */
static double
processes_cpu(const char *list)
{
	double		total = 0;

	for (const char *at = list; at != NULL && *at != '\0'; at = strchr(at, ','), at += at != NULL)
		total += process_cpu(atoi(at));
	return total;
}

/* Runs producer and reader together, and prints the percentiles. */
int
main(int argc, char **argv)
{
	const char *pid;
	long		looks;
	double		cpu;
	double		start;
	bool		table = argc == 10 && strcmp(argv[7], "table") == 0;

	if (!table && !(argc == 9 && strcmp(argv[7], "topic") == 0))
		die("usage", "latency BOOTSTRAP TOPIC RATE WARMUP SECONDS PID table CONNINFO RELATION | ... topic OUTPUT");
	bootstrap = argv[1];
	topic = argv[2];
	rate = atoi(argv[3]);
	warmup = atoi(argv[4]);
	duration = atoi(argv[5]);
	pid = argv[6];
	maxlatencies = (long) rate * (warmup + duration);
	latencies = malloc(sizeof(int64_t) * maxlatencies);
	probes = malloc(sizeof(Probe) * (maxlatencies / PROBE_EVERY + 1));

	start = seconds();
	cpu = processes_cpu(pid);
	if (table)
	{
		PGconn	   *conn = open_session(argv[8], argv[9]);
		pthread_t	thread;

		pthread_create(&thread, NULL, produce, NULL);
		looks = read_table(conn);
		pthread_join(thread, NULL);
		PQfinish(conn);
	}
	else
		looks = read_output(argv[8]);
	cpu = processes_cpu(pid) - cpu;
	if (failed > 0 || nlatencies == 0)
		die("records got lost on the way to", topic);
	qsort(latencies, nlatencies, sizeof(int64_t), compare_latencies);
	printf("{\"records\":%ld,\"samples\":%ld,\"looks\":%ld,\"p50_ms\":%.2f,\"p90_ms\":%.2f,\"p99_ms\":%.2f,"
		   "\"max_ms\":%.2f,\"cpu_share\":%.2f,\"peak_mb\":%.0f}\n",
		   nproduced, nlatencies, looks, percentile(0.5), percentile(0.9), percentile(0.99), percentile(1),
		   cpu / (seconds() - start), process_mb(atoi(pid), "VmHWM"));
	return 0;
}
