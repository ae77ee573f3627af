/*
 * enrich.c
 *		Starts a join of a full topic with a table, and reads what it writes to
 *		another topic, to the last record.
 *
 *	enrich BOOTSTRAP OUTPUT RECORDS CENTS kstream CONNINFO RELATION
 *	enrich BOOTSTRAP OUTPUT RECORDS CENTS streams PID FILE FD
 *
 * A consumer that reads only committed records follows OUTPUT from its end
 * before the start; the run ends when it holds the last record.  Every record is
 * checked: it must have the country of its user, and the amounts must add up to
 * CENTS.  Then nothing more may come for a while.
 *
 * kstream: the query that makes RELATION was created paused; time and CPU of all
 * workers count from the moment it is resumed.  streams: the program waits for a
 * line on FD, and writes "first TIME_US CPU_S" to FILE when the first record has
 * reached its join; time and CPU of process PID count from there, so its start
 * and the loading of its table are left out; from_start_s is from that line on.
 *
 * Prints one line of JSON.
 */
#include "common.h"

#include <libpq-fe.h>

#define CHUNK			1000
#define LOOK_EVERY		0.05	/* seconds between two looks at memory */
#define GIVE_UP_AFTER	600
#define QUIET_S			2
#define MAX_PIDS		16

static int	pids[MAX_PIDS];
static int	npids = 0;

/* What has come so far. */
static long records = 0;
static long wrong = 0;
static int64_t cents = 0;

/* The text behind a name in a JSON document that this benchmark knows; NULL if it is not there. */
static const char *
field(const rd_kafka_message_t *message, const char *name, size_t len)
{
	const char *at = memmem(message->payload, message->len, name, len);

	return at == NULL ? NULL : at + len;
}

/* Takes a record in. */
static void
check_record(const rd_kafka_message_t *message)
{
	const char *amount = field(message, "\"amount\":", 9);
	const char *country = field(message, "\"country\":\"", 11);
	char		text[32] = "";

	records++;
	if (amount == NULL || country == NULL || message->key_len < 2 || message->key_len >= sizeof(text))
	{
		wrong++;
		return;
	}
	memcpy(text, message->key, message->key_len);
	if (strncmp(country, country_of(atol(text + 1)), 2) != 0)
		wrong++;
	cents += (int64_t) (atof(amount) * 100 + 0.5);
}

/* CPU seconds of all processes watched. */
static double
cpu_now(void)
{
	double		total = 0;

	for (int i = 0; i < npids; i++)
		total += process_cpu(pids[i]);
	return total;
}

/* Sum over the processes of a value of their status, in MB. */
static double
mb_now(const char *name)
{
	double		total = 0;

	for (int i = 0; i < npids; i++)
		total += process_mb(pids[i], name);
	return total;
}

/* Notes the workers of the database. */
static void
find_workers(PGconn *conn)
{
	PGresult   *result = PQexec(conn, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'kstream worker' AND datname = current_database()");

	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		die("cannot find the workers", PQerrorMessage(conn));
	npids = 0;
	for (int i = 0; i < PQntuples(result) && npids < MAX_PIDS; i++)
		pids[npids++] = atoi(PQgetvalue(result, i, 0));
	PQclear(result);
}

/* Reads the output to its last record.  Returns the time of the last one; *private_mb: greatest RssAnon. */
static double
follow(rd_kafka_queue_t *queue, long expected, PGconn *conn, double *first, double *private_mb)
{
	static rd_kafka_message_t *chunk[CHUNK];
	double		start = seconds();
	double		looked = 0;

	while (records < expected)
	{
		ssize_t		n = rd_kafka_consume_batch_queue(queue, 50, chunk, CHUNK);
		double		now = seconds();

		for (ssize_t i = 0; i < n; i++)
		{
			if (chunk[i]->err == RD_KAFKA_RESP_ERR_NO_ERROR)
				check_record(chunk[i]);
			rd_kafka_message_destroy(chunk[i]);
		}
		if (records > 0 && *first == 0)
			*first = now;
		if (now - looked > LOOK_EVERY)
		{
			double		mb;

			if (conn != NULL && looked - start < 2)
				find_workers(conn);
			looked = now;
			mb = mb_now("RssAnon");
			*private_mb = mb > *private_mb ? mb : *private_mb;
		}
		if (now - start > GIVE_UP_AFTER)
			die("records do not come", "the output topic");
	}
	return seconds();
}

/* Whatever comes after the last record is too much. */
static void
follow_rest(rd_kafka_queue_t *queue)
{
	double		end = seconds() + QUIET_S;

	while (seconds() < end)
	{
		rd_kafka_message_t *message = rd_kafka_consume_queue(queue, 100);

		if (message != NULL && message->err == RD_KAFKA_RESP_ERR_NO_ERROR)
			records++;
		if (message != NULL)
			rd_kafka_message_destroy(message);
	}
}

/* Opens the consumer at the end of the output. */
static rd_kafka_queue_t *
open_output(const char *bootstrap, const char *output)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_t *client;
	rd_kafka_queue_t *queue;

	set_property(conf, "bootstrap.servers", bootstrap);
	set_property(conf, "group.id", "enrich");
	set_property(conf, "enable.auto.commit", "false");
	set_property(conf, "isolation.level", "read_committed");
	client = make_client(RD_KAFKA_CONSUMER, conf);
	queue = read_topic(client, output, RD_KAFKA_OFFSET_END);
	sleep(2);					/* the client has found the end by then */
	return queue;
}

/* Resumes the query; its workers are there or come now. */
static PGconn *
resume(const char *conninfo, const char *relation)
{
	PGconn	   *conn = PQconnectdb(conninfo);
	const char *params[1] = {relation};
	PGresult   *result;

	if (PQstatus(conn) != CONNECTION_OK)
		die("cannot connect", PQerrorMessage(conn));
	find_workers(conn);
	result = PQexecParams(conn, "SELECT kstream.resume($1)", 1, NULL, params, NULL, NULL, 0);
	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		die("cannot resume the query", PQerrorMessage(conn));
	PQclear(result);
	return conn;
}

/* When the first record reached the join of Kafka Streams, and its CPU time then. */
static void
read_first(const char *path, double *time, double *cpu)
{
	char		line[256];
	long long	us = 0;
	FILE	   *file = fopen(path, "r");

	while (file != NULL && fgets(line, sizeof(line), file))
	{
		if (sscanf(line, "first %lld %lf", &us, cpu) == 2)
			break;
	}
	if (us == 0)
		die("cannot find when the first record came", path);
	*time = us / 1e6;
	fclose(file);
}

/* Starts the join, follows it to its end, and prints what it took. */
int
main(int argc, char **argv)
{
	bool		kstream = argc == 8 && strcmp(argv[5], "kstream") == 0;
	long		expected;
	PGconn	   *conn = NULL;
	rd_kafka_queue_t *queue;
	double		resumed;
	double		start;
	double		end;
	double		first = 0;
	double		cpu;
	double		cpu_end;
	double		private_mb = 0;
	double		offset;

	if (!kstream && !(argc == 9 && strcmp(argv[5], "streams") == 0))
		die("usage", "enrich BOOTSTRAP OUTPUT RECORDS CENTS kstream CONNINFO RELATION | ... streams PID FILE FD");
	expected = atol(argv[3]);
	queue = open_output(argv[1], argv[2]);
	offset = clock_us() / 1e6 - seconds();
	resumed = start = seconds();
	if (kstream)
		conn = resume(argv[6], argv[7]);
	else
	{
		pids[npids++] = atoi(argv[6]);
		if (write(atoi(argv[8]), "\n", 1) != 1)
			die("cannot start", "Kafka Streams");
	}
	cpu = cpu_now();
	end = follow(queue, expected, conn, &first, &private_mb);
	cpu_end = cpu_now();
	if (!kstream)
	{
		read_first(argv[7], &start, &cpu);
		start -= offset;
	}
	follow_rest(queue);
	printf("{\"records\":%ld,\"right\":%s,\"seconds\":%.3f,\"rate\":%.0f,\"from_start_s\":%.2f,\"first_to_last_s\":%.2f,"
		   "\"cpu_us\":%.3f,\"peak_mb\":%.0f,\"private_mb\":%.0f}\n",
		   records, records == expected && wrong == 0 && cents == atoll(argv[4]) ? "true" : "false",
		   end - start, expected / (end - start), end - resumed, end - first,
		   (cpu_end - cpu) / expected * 1e6, mb_now("VmHWM"), private_mb);
	fflush(stdout);
	_exit(0);					/* nothing is left that is worth closing */
}
