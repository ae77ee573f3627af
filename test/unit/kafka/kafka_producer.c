/*
 * kafka_producer.c
 *		SQL-callable functions around src/kafka/producer.h, and a mock cluster.
 *
 * One producer and one mock cluster per session are kept between calls.
 * kafka_producer.py drives them.
 */
#include "postgres.h"

#include <signal.h>
#include <sys/resource.h>

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include "access/attnum.h"

#include "kafka/client.h"
#include "kafka/kerror.h"
#include "kafka/producer.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/latch.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

static KsProducer *producer = NULL;
static rd_kafka_t *mock_handle = NULL;
static rd_kafka_mock_cluster_t *mock = NULL;

static const char *const outcome_names[] = {
	"ok", "again", "broker_away", "reopen", "fenced", "too_large", "topic_missing", "denied", "fatal"
};

static const char *const state_names[] = {
	"unconnected", "connecting", "ready", "in_transaction", "failed", "committing", "dead"
};

/* An outcome as a result. */
static Datum
outcome_text(KsProducerOutcome outcome)
{
	return PointerGetDatum(cstring_to_text(outcome_names[outcome]));
}

/* A text argument, or NULL. */
static char *
text_arg(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

PG_FUNCTION_INFO_V1(kp_open);

/* Opens the session's producer: (server, transactional id, group). */
Datum
kp_open(PG_FUNCTION_ARGS)
{
	Oid			server = get_foreign_server_oid(text_arg(fcinfo, 0), false);
	char	   *id = text_arg(fcinfo, 1);
	char	   *group = text_arg(fcinfo, 2);
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	if (producer)
		ks_producer_close(producer);
	producer = NULL;
	producer = ks_producer_open(server, GetUserId(), "test", id, group);
	MemoryContextSwitchTo(old);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(kp_open_and_fail);

/* Opens a producer, does things with it and raises an error. */
Datum
kp_open_and_fail(PG_FUNCTION_ARGS)
{
	KsProducer *mine = ks_producer_open(get_foreign_server_oid(text_arg(fcinfo, 0), false),
										GetUserId(), "test", "fails", "fails");
	KsProducerPosition position;

	(void) ks_producer_position(mine, "nothing", &position, 0);
	(void) ks_producer_connect(mine, 0);
	elog(ERROR, "on purpose");
}

PG_FUNCTION_INFO_V1(kp_close);

/* Closes it; milliseconds that took. */
Datum
kp_close(PG_FUNCTION_ARGS)
{
	instr_time	start;
	instr_time	end;

	INSTR_TIME_SET_CURRENT(start);
	if (producer)
		ks_producer_close(producer);
	producer = NULL;
	INSTR_TIME_SET_CURRENT(end);
	INSTR_TIME_SUBTRACT(end, start);
	PG_RETURN_FLOAT8(INSTR_TIME_GET_MILLISEC(end));
}

PG_FUNCTION_INFO_V1(kp_state);

/* Name of the state. */
Datum
kp_state(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(state_names[ks_producer_state(producer)]));
}

PG_FUNCTION_INFO_V1(kp_connect);

/* (slice) -> outcome */
Datum
kp_connect(PG_FUNCTION_ARGS)
{
	return outcome_text(ks_producer_connect(producer, PG_GETARG_INT32(0)));
}

PG_FUNCTION_INFO_V1(kp_position);

/* (topic, slice) -> "position metadata", "none" or an outcome */
Datum
kp_position(PG_FUNCTION_ARGS)
{
	KsProducerPosition position;
	KsProducerOutcome outcome = ks_producer_position(producer, text_arg(fcinfo, 0), &position,
													 PG_GETARG_INT32(1));

	if (outcome != KS_PRODUCER_OK)
		return outcome_text(outcome);
	if (!position.found)
		PG_RETURN_TEXT_P(cstring_to_text("none"));
	PG_RETURN_TEXT_P(cstring_to_text(psprintf(INT64_FORMAT " %s", position.position,
											  position.metadata)));
}

PG_FUNCTION_INFO_V1(kp_partitions);

/* (topic, slice) -> number or outcome */
Datum
kp_partitions(PG_FUNCTION_ARGS)
{
	int			count;
	KsProducerOutcome outcome = ks_producer_partition_count(producer, text_arg(fcinfo, 0), &count,
															PG_GETARG_INT32(1));

	if (outcome != KS_PRODUCER_OK)
		return outcome_text(outcome);
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%d", count)));
}

PG_FUNCTION_INFO_V1(kp_begin);

/* Starts a transaction. */
Datum
kp_begin(PG_FUNCTION_ARGS)
{
	return outcome_text(ks_producer_begin(producer));
}

PG_FUNCTION_INFO_V1(kp_send);

/* (topic, partition, key, value, milliseconds, headers as "name=value" or "name", sequence) */
Datum
kp_send(PG_FUNCTION_ARGS)
{
	KsOutRecord record = {0};
	Datum	   *items = NULL;
	int			n = 0;

	record.topic = text_arg(fcinfo, 0);
	record.partition = PG_GETARG_INT32(1);
	record.key = text_arg(fcinfo, 2);
	record.keylen = record.key ? strlen(record.key) : 0;
	record.value = text_arg(fcinfo, 3);
	record.valuelen = record.value ? strlen(record.value) : 0;
	record.timestamp = PG_ARGISNULL(4) ? 0 : PG_GETARG_INT64(4);
	record.sequence = PG_GETARG_INT64(6);
	if (!PG_ARGISNULL(5))
	{
		KsHeader   *headers;

		deconstruct_array(PG_GETARG_ARRAYTYPE_P(5), TEXTOID, -1, false, TYPALIGN_INT,
						  &items, NULL, &n);
		headers = palloc0(sizeof(KsHeader) * Max(n, 1));
		for (int i = 0; i < n; i++)
		{
			char	   *item = TextDatumGetCString(items[i]);
			char	   *sep = strchr(item, '=');

			headers[i].name = item;
			if (sep)
			{
				*sep = '\0';
				headers[i].value = sep + 1;
				headers[i].len = strlen(sep + 1);
			}
		}
		record.headers = headers;
		record.nheaders = n;
	}
	return outcome_text(ks_producer_send(producer, &record));
}

/* Waits for the producer's descriptor. */
static void
wait_for_producer(int timeout_ms)
{
	int			rc = WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_SOCKET_READABLE | WL_TIMEOUT |
									   WL_EXIT_ON_PM_DEATH, ks_producer_eventfd(producer), timeout_ms,
									   PG_WAIT_EXTENSION);

	if (rc & WL_LATCH_SET)
		ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	if (rc & WL_SOCKET_READABLE)
		ks_producer_drain_eventfd(producer);
}

/* Sends numbered records to partitions in turn, waiting for room. */
static KsProducerOutcome
fill(const char *topic, int partitions, int64 first, int64 count, int size)
{
	char	   *value = palloc(size + 32);
	KsOutRecord record = {0};

	memset(value, 'x', size + 32);
	record.topic = topic;
	record.value = value;
	record.valuelen = size;
	record.timestamp = INT64CONST(1700000000123);
	for (int64 i = first; i < first + count; i++)
	{
		char		key[32];
		KsProducerOutcome outcome;

		pg_lltoa(i, key);
		record.key = key;
		record.keylen = strlen(key);
		record.partition = i % partitions;
		record.sequence = i;
		while ((outcome = ks_producer_send(producer, &record)) == KS_PRODUCER_AGAIN)
			wait_for_producer(1000);
		if (outcome != KS_PRODUCER_OK)
			return outcome;
	}
	pfree(value);
	return KS_PRODUCER_OK;
}

PG_FUNCTION_INFO_V1(kp_fill);

/* (topic, partitions, first sequence, count, size) -> outcome */
Datum
kp_fill(PG_FUNCTION_ARGS)
{
	return outcome_text(fill(text_arg(fcinfo, 0), PG_GETARG_INT32(1), PG_GETARG_INT64(2),
							 PG_GETARG_INT64(3), PG_GETARG_INT32(4)));
}

PG_FUNCTION_INFO_V1(kp_commit);

/* (topic, position, metadata, slice) -> outcome */
Datum
kp_commit(PG_FUNCTION_ARGS)
{
	return outcome_text(ks_producer_commit(producer, text_arg(fcinfo, 0), PG_GETARG_INT64(1),
										   text_arg(fcinfo, 2), PG_GETARG_INT32(3)));
}

PG_FUNCTION_INFO_V1(kp_commit_by_events);

/*
 * (topic, position, metadata, milliseconds) -> outcome.  Never waits inside;
 * calls again only when the descriptor says so, so a missing event shows.
 */
Datum
kp_commit_by_events(PG_FUNCTION_ARGS)
{
	KsProducerOutcome outcome;
	instr_time	start;
	instr_time	now;

	INSTR_TIME_SET_CURRENT(start);
	for (;;)
	{
		outcome = ks_producer_commit(producer, text_arg(fcinfo, 0), PG_GETARG_INT64(1),
									 text_arg(fcinfo, 2), 0);
		if (outcome != KS_PRODUCER_AGAIN)
			return outcome_text(outcome);
		INSTR_TIME_SET_CURRENT(now);
		INSTR_TIME_SUBTRACT(now, start);
		if (INSTR_TIME_GET_MILLISEC(now) > PG_GETARG_INT32(3))
			PG_RETURN_TEXT_P(cstring_to_text("no event"));
		wait_for_producer(60000);
	}
}

PG_FUNCTION_INFO_V1(kp_poll);

/* (slice) -> outcome */
Datum
kp_poll(PG_FUNCTION_ARGS)
{
	return outcome_text(ks_producer_poll(producer, PG_GETARG_INT32(0)));
}

PG_FUNCTION_INFO_V1(kp_acked);

/* Greatest sequence acknowledged with all before it. */
Datum
kp_acked(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(ks_producer_acked(producer));
}

PG_FUNCTION_INFO_V1(kp_pending);

/* "records bytes" */
Datum
kp_pending(PG_FUNCTION_ARGS)
{
	int64		bytes;
	int			count = ks_producer_pending(producer, &bytes);

	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%d " INT64_FORMAT, count, bytes)));
}

PG_FUNCTION_INFO_V1(kp_error);

/* The parts of the last error: a field's name -> text or null. */
Datum
kp_error(PG_FUNCTION_ARGS)
{
	const KsProducerError *error = ks_producer_error(producer);
	char	   *field = text_arg(fcinfo, 0);
	const char *result;

	if (strcmp(field, "name") == 0)
		result = error->name;
	else if (strcmp(field, "message") == 0)
		result = error->message;
	else if (strcmp(field, "hint") == 0)
		result = error->hint;
	else if (strcmp(field, "sqlstate") == 0)
		result = unpack_sql_state(error->sqlstate);
	else if (strcmp(field, "resource") == 0)
		result = error->resource;
	else if (strcmp(field, "topic") == 0)
		result = error->topic;
	else if (strcmp(field, "partition") == 0)
		result = psprintf("%d", error->partition);
	else if (strcmp(field, "sequence") == 0)
		result = psprintf(INT64_FORMAT, error->sequence);
	else if (strcmp(field, "refused") == 0)
		result = psprintf("%d", error->refused);
	else if (strcmp(field, "fenced") == 0)
		result = error->fenced ? "yes" : "no";
	else
		elog(ERROR, "no field \"%s\"", field);
	if (result == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(result));
}

PG_FUNCTION_INFO_V1(kp_throw);

/* Raises it. */
Datum
kp_throw(PG_FUNCTION_ARGS)
{
	ks_producer_throw(producer, text_arg(fcinfo, 0));
}

PG_FUNCTION_INFO_V1(kp_outcome);

/* What a code means: (code) -> outcome */
Datum
kp_outcome(PG_FUNCTION_ARGS)
{
	bool		fenced;

	return outcome_text(ks_producer_outcome(PG_GETARG_INT32(0), &fenced));
}

PG_FUNCTION_INFO_V1(kp_code_name);

/* Name of a code. */
Datum
kp_code_name(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(rd_kafka_err2name(PG_GETARG_INT32(0))));
}

/* Seconds of CPU this process, all its threads, has used. */
static double
cpu_seconds(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_utime.tv_sec + usage.ru_utime.tv_usec / 1e6 +
		usage.ru_stime.tv_sec + usage.ru_stime.tv_usec / 1e6;
}

/* Seconds of CPU of this thread. */
static double
thread_seconds(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_utime.tv_sec + usage.ru_utime.tv_usec / 1e6 +
		usage.ru_stime.tv_sec + usage.ru_stime.tv_usec / 1e6;
}

PG_FUNCTION_INFO_V1(kp_speed);

/* (topic, partitions, transactions, records of each, size): figures as text */
Datum
kp_speed(PG_FUNCTION_ARGS)
{
	char	   *topic = text_arg(fcinfo, 0);
	int			partitions = PG_GETARG_INT32(1);
	int64		transactions = PG_GETARG_INT64(2);
	int64		count = PG_GETARG_INT64(3);
	instr_time	start;
	instr_time	now;
	double		cpu = cpu_seconds();
	double		own = thread_seconds();
	double		seconds;
	double		total = (double) transactions * count;

	INSTR_TIME_SET_CURRENT(start);
	for (int64 t = 0; t < transactions; t++)
	{
		KsProducerOutcome outcome = ks_producer_begin(producer);

		if (outcome == KS_PRODUCER_OK)
			outcome = fill(topic, partitions, t * count, count, PG_GETARG_INT32(4));
		while (outcome == KS_PRODUCER_OK || outcome == KS_PRODUCER_AGAIN)
		{
			outcome = ks_producer_commit(producer, topic, (t + 1) * count, "speed", 0);
			if (outcome == KS_PRODUCER_OK)
				break;
			wait_for_producer(1000);
		}
		if (outcome != KS_PRODUCER_OK)
			return outcome_text(outcome);
	}
	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, start);
	seconds = INSTR_TIME_GET_DOUBLE(now);
	cpu = cpu_seconds() - cpu;
	own = thread_seconds() - own;
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%.0f records/s, %.2f ms per transaction, CPU %.2f us per record (main thread %.2f)",
											  total / seconds, seconds * 1000 / transactions,
											  cpu * 1e6 / total, own * 1e6 / total)));
}

PG_FUNCTION_INFO_V1(kp_latency);

/* (topic, rounds, records of each) -> microseconds at p50 and p99 of begin to commit */
Datum
kp_latency(PG_FUNCTION_ARGS)
{
	char	   *topic = text_arg(fcinfo, 0);
	int			rounds = PG_GETARG_INT32(1);
	int			records = PG_GETARG_INT32(2);
	double	   *took = palloc(sizeof(double) * rounds);
	StringInfoData buf;

	for (int i = 0; i < rounds; i++)
	{
		instr_time	start;
		instr_time	now;
		KsProducerOutcome outcome;

		INSTR_TIME_SET_CURRENT(start);
		outcome = ks_producer_begin(producer);
		if (outcome == KS_PRODUCER_OK)
			outcome = fill(topic, 1, i * records, records, 170);
		while (outcome == KS_PRODUCER_OK || outcome == KS_PRODUCER_AGAIN)
		{
			outcome = ks_producer_commit(producer, topic, i, "latency", 0);
			if (outcome == KS_PRODUCER_OK)
				break;
			wait_for_producer(1000);
		}
		if (outcome != KS_PRODUCER_OK)
			return outcome_text(outcome);
		INSTR_TIME_SET_CURRENT(now);
		INSTR_TIME_SUBTRACT(now, start);
		took[i] = INSTR_TIME_GET_MILLISEC(now);
		/* insertion sort: few */
		for (int j = i; j > 0 && took[j] < took[j - 1]; j--)
		{
			double		t = took[j];

			took[j] = took[j - 1];
			took[j - 1] = t;
		}
	}
	initStringInfo(&buf);
	appendStringInfo(&buf, "p50 %.2f ms, p90 %.2f ms, p99 %.2f ms", took[rounds / 2],
					 took[rounds * 9 / 10], took[rounds * 99 / 100]);
	PG_RETURN_TEXT_P(cstring_to_text(buf.data));
}

PG_FUNCTION_INFO_V1(kp_mock_start);

/* (brokers) -> their addresses */
Datum
kp_mock_start(PG_FUNCTION_ARGS)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char		why[256];
	sigset_t	all;
	sigset_t	old;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	mock_handle = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof(why));
	mock = mock_handle ? rd_kafka_mock_cluster_new(mock_handle, PG_GETARG_INT32(0)) : NULL;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (mock == NULL)
		elog(ERROR, "no mock cluster");
	PG_RETURN_TEXT_P(cstring_to_text(rd_kafka_mock_cluster_bootstraps(mock)));
}

PG_FUNCTION_INFO_V1(kp_mock_stop);

/* Ends it. */
Datum
kp_mock_stop(PG_FUNCTION_ARGS)
{
	if (mock)
		rd_kafka_mock_cluster_destroy(mock);
	mock = NULL;
	if (mock_handle)
		rd_kafka_destroy(mock_handle);
	mock_handle = NULL;
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(kp_mock_topic);

/* (topic, partitions) */
Datum
kp_mock_topic(PG_FUNCTION_ARGS)
{
	rd_kafka_mock_topic_create(mock, text_arg(fcinfo, 0), PG_GETARG_INT32(1), 1);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(kp_mock_topic_error);

/* (topic, code): what the mock says when asked about the topic */
Datum
kp_mock_topic_error(PG_FUNCTION_ARGS)
{
	rd_kafka_mock_topic_set_error(mock, text_arg(fcinfo, 0), PG_GETARG_INT32(1));
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(kp_mock_errors);

/* (api, code, times): the next requests of the kind are answered with the code */
Datum
kp_mock_errors(PG_FUNCTION_ARGS)
{
	int			times = PG_GETARG_INT32(2);
	rd_kafka_resp_err_t *errors = palloc(sizeof(rd_kafka_resp_err_t) * Max(times, 1));

	rd_kafka_mock_clear_request_errors(mock, PG_GETARG_INT32(0));
	for (int i = 0; i < times; i++)
		errors[i] = PG_GETARG_INT32(1);
	if (times > 0)
		rd_kafka_mock_push_request_errors_array(mock, PG_GETARG_INT32(0), times, errors);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(kp_mock_slow);

/* (broker, api, code, milliseconds): the next request of the kind is answered late */
Datum
kp_mock_slow(PG_FUNCTION_ARGS)
{
	rd_kafka_mock_broker_push_request_error_rtts(mock, PG_GETARG_INT32(0), PG_GETARG_INT32(1), 1,
												 (rd_kafka_resp_err_t) PG_GETARG_INT32(2),
												 PG_GETARG_INT32(3));
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(kp_mock_left);

/* (broker, api) -> answers still to be given: whether the errors were used */
Datum
kp_mock_left(PG_FUNCTION_ARGS)
{
	size_t		count = 0;

	rd_kafka_mock_broker_error_stack_cnt(mock, PG_GETARG_INT32(0), PG_GETARG_INT32(1), &count);
	PG_RETURN_INT32((int32) count);
}

PG_FUNCTION_INFO_V1(kp_mock_up);

/* (broker, up) */
Datum
kp_mock_up(PG_FUNCTION_ARGS)
{
	if (PG_GETARG_BOOL(1))
		rd_kafka_mock_broker_set_up(mock, PG_GETARG_INT32(0));
	else
		rd_kafka_mock_broker_set_down(mock, PG_GETARG_INT32(0));
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(kp_mock_coordinator);

/* (transactional id, broker) */
Datum
kp_mock_coordinator(PG_FUNCTION_ARGS)
{
	rd_kafka_mock_coordinator_set(mock, text_arg(fcinfo, 0), text_arg(fcinfo, 1), PG_GETARG_INT32(2));
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(kp_mock_leader);

/* (topic, partition, broker) */
Datum
kp_mock_leader(PG_FUNCTION_ARGS)
{
	rd_kafka_mock_partition_set_leader(mock, text_arg(fcinfo, 0), PG_GETARG_INT32(1),
									   PG_GETARG_INT32(2));
	PG_RETURN_VOID();
}
