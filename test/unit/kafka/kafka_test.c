/*
 * kafka_test.c
 *		SQL-callable functions around src/kafka, for its test.
 *
 * One consumer per session is kept between calls.  kafka_test.py drives them.
 */
#include "postgres.h"

#include <sys/time.h>

#include <librdkafka/rdkafka.h>

#include "access/attnum.h"

#include "kafka/client.h"
#include "kafka/conf.h"
#include "kafka/consumer.h"
#include "kafka/consumer_int.h"
#include "kafka/logbridge.h"
#include "kafka/property.h"

#include "access/reloptions.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_type.h"
#include "catalog/pg_user_mapping.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/latch.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

PG_MODULE_MAGIC;

static KsConsumer *consumer = NULL;

static const char *const class_names[] = {
	"unknown", "allowed", "secret", "server_file", "superuser", "fixed", "forbidden"
};

static const char *const code_names[] = {
	"ok", "retry", "out_of_range", "topic_missing", "denied", "corrupt"
};

static const char *const kind_names[] = {"record", "eof", "error"};

/* Seconds since start. */
static double
since(instr_time start)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, start);
	return INSTR_TIME_GET_DOUBLE(now);
}

PG_FUNCTION_INFO_V1(kt_validator);

/* The validator of the test's foreign-data wrapper. */
Datum
kt_validator(PG_FUNCTION_ARGS)
{
	List	   *options = untransformRelOptions(PG_GETARG_DATUM(0));
	Oid			catalog = PG_GETARG_OID(1);

	if (catalog == ForeignServerRelationId)
		ks_validate_server_options(options);
	else if (catalog == UserMappingRelationId)
		ks_validate_user_mapping_options(options);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(kt_class);

/* Name of an option's class. */
Datum
kt_class(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(class_names[ks_property_class(text_to_cstring(PG_GETARG_TEXT_PP(0)))]));
}

PG_FUNCTION_INFO_V1(kt_linked_properties);

/* What the linked library prints of its properties. */
Datum
kt_linked_properties(PG_FUNCTION_ARGS)
{
	char	   *lines = NULL;
	size_t		len = 0;
	FILE	   *out = open_memstream(&lines, &len);
	text	   *result;

	rd_kafka_conf_properties_show(out);
	fclose(out);
	result = cstring_to_text_with_len(lines, len);
	free(lines);
	PG_RETURN_TEXT_P(result);
}

PG_FUNCTION_INFO_V1(kt_table_names);

/* All names of the table, separated by blanks: to find doubles. */
Datum
kt_table_names(PG_FUNCTION_ARGS)
{
	StringInfoData buf;
	int			count;
	const KsProperty *table = ks_property_table(&count);

	initStringInfo(&buf);
	for (int i = 0; i < count; i++)
		appendStringInfo(&buf, "%s ", ks_property_option_name(&table[i]));
	PG_RETURN_TEXT_P(cstring_to_text(buf.data));
}

/* Oid of the server named in the first argument. */
static Oid
server_arg(FunctionCallInfo fcinfo)
{
	return get_foreign_server_oid(text_to_cstring(PG_GETARG_TEXT_PP(0)), false);
}

PG_FUNCTION_INFO_V1(kt_open);

/* Opens the session's consumer on a server. */
Datum
kt_open(PG_FUNCTION_ARGS)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	if (consumer)
		ks_consumer_close(consumer);
	consumer = NULL;
	consumer = ks_consumer_open(server_arg(fcinfo), GetUserId(), "test");
	MemoryContextSwitchTo(old);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(kt_close);

/* Closes it; milliseconds that took. */
Datum
kt_close(PG_FUNCTION_ARGS)
{
	instr_time	start;

	INSTR_TIME_SET_CURRENT(start);
	ks_consumer_close(consumer);
	consumer = NULL;
	PG_RETURN_FLOAT8(since(start) * 1000);
}

PG_FUNCTION_INFO_V1(kt_open_and_fail);

/* Opens a consumer, takes a batch, and leaves by an error: nothing may leak. */
Datum
kt_open_and_fail(PG_FUNCTION_ARGS)
{
	KsConsumer *mine = ks_consumer_open(server_arg(fcinfo), GetUserId(), "failing");

	ks_consumer_assign(mine, text_to_cstring(PG_GETARG_TEXT_PP(1)), 0, 0);
	(void) ks_consumer_poll(mine, 100, 0, 2000);
	elog(ERROR, "failed on purpose");
}

PG_FUNCTION_INFO_V1(kt_close_before_free);

/* Closes a consumer while a batch is held, then frees the batch: records in it. */
Datum
kt_close_before_free(PG_FUNCTION_ARGS)
{
	KsConsumer *mine = ks_consumer_open(server_arg(fcinfo), GetUserId(), "early");
	KsEventBatch *batch;
	int			count;

	ks_consumer_assign(mine, text_to_cstring(PG_GETARG_TEXT_PP(1)), 0, 0);
	batch = ks_consumer_poll(mine, 100, 0, 5000);
	count = batch->nevents;
	ks_consumer_close(mine);
	ks_event_batch_free(batch);
	PG_RETURN_INT32(count);
}

PG_FUNCTION_INFO_V1(kt_live);

/* Handles not destroyed yet. */
Datum
kt_live(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(ks_client_live_count());
}

PG_FUNCTION_INFO_V1(kt_assign);

/* Assigns a partition. */
Datum
kt_assign(PG_FUNCTION_ARGS)
{
	ks_consumer_assign(consumer, text_to_cstring(PG_GETARG_TEXT_PP(0)), PG_GETARG_INT32(1),
					   PG_GETARG_INT64(2));
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(kt_unassign);

/* Takes it away. */
Datum
kt_unassign(PG_FUNCTION_ARGS)
{
	ks_consumer_unassign(consumer, text_to_cstring(PG_GETARG_TEXT_PP(0)), PG_GETARG_INT32(1));
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(kt_pause);

/* Pauses or resumes it. */
Datum
kt_pause(PG_FUNCTION_ARGS)
{
	ks_consumer_pause(consumer, text_to_cstring(PG_GETARG_TEXT_PP(0)), PG_GETARG_INT32(1),
					  PG_GETARG_BOOL(2));
	PG_RETURN_VOID();
}

/* Headers as an array of name=value. */
static Datum
headers_datum(const KsRecord *rec)
{
	Datum	   *elems = palloc(sizeof(Datum) * (rec->nheaders + 1));

	for (int i = 0; i < rec->nheaders; i++)
	{
		const KsHeader *header = &rec->headers[i];
		char	   *value = header->value ? pnstrdup(header->value, header->len) : "(null)";

		elems[i] = CStringGetTextDatum(psprintf("%s=%s", header->name, value));
	}
	return PointerGetDatum(construct_array(elems, rec->nheaders, TEXTOID, -1, false, TYPALIGN_INT));
}

/* Bytes, or NULL. */
static Datum
bytes_datum(const char *bytes, size_t len, bool *isnull)
{
	*isnull = bytes == NULL;
	return *isnull ? (Datum) 0 : PointerGetDatum(cstring_to_text_with_len(bytes, len));
}

PG_FUNCTION_INFO_V1(kt_poll);

/* Polls once and shows everything. */
Datum
kt_poll(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	KsEventBatch *batch;

	InitMaterializedSRF(fcinfo, 0);
	batch = ks_consumer_poll(consumer, PG_GETARG_INT32(0), PG_GETARG_INT64(1), PG_GETARG_INT32(2));
	for (int i = 0; i < batch->nevents; i++)
	{
		KsEvent    *event = &batch->events[i];
		KsRecord   *rec = &event->record;
		Datum		values[10];
		bool		nulls[10] = {false};

		values[0] = CStringGetTextDatum(kind_names[event->kind]);
		values[1] = CStringGetTextDatum(event->topic);
		values[2] = Int32GetDatum(rec->partition);
		values[3] = Int64GetDatum(rec->offset);
		values[4] = CStringGetTextDatum(code_names[event->code]);
		nulls[5] = event->message == NULL;
		values[5] = nulls[5] ? (Datum) 0 : CStringGetTextDatum(event->message);
		values[6] = bytes_datum(rec->key, rec->keylen, &nulls[6]);
		values[7] = bytes_datum(rec->value, rec->valuelen, &nulls[7]);
		values[8] = TimestampTzGetDatum(rec->timestamp);
		values[9] = headers_datum(rec);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	ks_event_batch_free(batch);
	return (Datum) 0;
}

PG_FUNCTION_INFO_V1(kt_drain);

/*
 * Reads until so many partitions were at their end, or seconds have passed.
 * Text: records, bytes, polls, seconds, longest poll in ms, errors, sum of
 * offsets, checks that failed (order, text of the value).
 */
Datum
kt_drain(PG_FUNCTION_ARGS)
{
	int			max_events = PG_GETARG_INT32(0);
	int			ends = PG_GETARG_INT32(1);
	double		limit = PG_GETARG_FLOAT8(2);
	int64		records = 0;
	int64		bytes = 0;
	int64		sum = 0;
	int64		last[64];
	int			polls = 0;
	int			errors = 0;
	int			bad = 0;
	int			at_end = 0;
	double		longest = 0;
	instr_time	start;

	memset(last, 0xff, sizeof(last));
	INSTR_TIME_SET_CURRENT(start);
	while (at_end < ends && since(start) < limit)
	{
		instr_time	before;
		KsEventBatch *batch;

		CHECK_FOR_INTERRUPTS();
		INSTR_TIME_SET_CURRENT(before);
		batch = ks_consumer_poll(consumer, max_events, 0, 0);
		longest = Max(longest, since(before));
		polls++;
		for (int i = 0; i < batch->nevents; i++)
		{
			KsEvent    *event = &batch->events[i];

			if (event->kind == KS_EVENT_EOF)
				at_end++;
			else if (event->kind == KS_EVENT_ERROR)
				errors++;
			else
			{
				records++;
				sum += event->record.offset;
				bad += event->record.offset <= last[event->record.partition & 63];
				last[event->record.partition & 63] = event->record.offset;
			}
		}
		bytes += batch->bytes;
		if (batch->nevents == 0)
		{
			(void) WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_SOCKET_READABLE | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
									 ks_consumer_eventfd(consumer), 100, PG_WAIT_EXTENSION);
			ResetLatch(MyLatch);
			ks_consumer_drain_eventfd(consumer);
		}
		ks_event_batch_free(batch);
	}
	PG_RETURN_TEXT_P(cstring_to_text(psprintf(INT64_FORMAT " " INT64_FORMAT " %d %f %f %d " INT64_FORMAT " %d",
											  records, bytes, polls, since(start), longest * 1000, errors, sum, bad)));
}

/* Comparator of doubles. */
static int
compare_doubles(const void *a, const void *b)
{
	double		x = *(const double *) a;
	double		y = *(const double *) b;

	return x < y ? -1 : x > y;
}

PG_FUNCTION_INFO_V1(kt_latency);

/*
 * Reads count records as they come.  Text: their age when seen in milliseconds
 * (median, 99th percentile, greatest), and records per poll.
 */
Datum
kt_latency(PG_FUNCTION_ARGS)
{
	int			count = PG_GETARG_INT32(0);
	double	   *ages = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(double) * count);
	int			seen = 0;
	int			polls = 0;

	while (seen < count)
	{
		KsEventBatch *batch = ks_consumer_poll(consumer, 10000, 0, 1000);
		struct timeval tv;

		CHECK_FOR_INTERRUPTS();
		gettimeofday(&tv, NULL);
		for (int i = 0; i < batch->nevents && seen < count; i++)
		{
			if (batch->events[i].kind == KS_EVENT_RECORD)
				ages[seen++] = (tv.tv_sec * 1e6 + tv.tv_usec - strtod(batch->events[i].record.value, NULL)) / 1000;
		}
		polls++;
		ks_event_batch_free(batch);
	}
	qsort(ages, count, sizeof(double), compare_doubles);
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("p50 %.2f p99 %.2f max %.2f records_per_poll %.1f",
											  ages[count / 2], ages[(int) (count * 0.99)],
											  ages[count - 1], (double) count / polls)));
}

PG_FUNCTION_INFO_V1(kt_wait_event);

/* Waits for the event descriptor; milliseconds, or -1 if it did not fire. */
Datum
kt_wait_event(PG_FUNCTION_ARGS)
{
	instr_time	start;
	int			rc;

	INSTR_TIME_SET_CURRENT(start);
	rc = WaitLatchOrSocket(NULL, WL_SOCKET_READABLE | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						   ks_consumer_eventfd(consumer), PG_GETARG_INT32(0), PG_WAIT_EXTENSION);
	ks_consumer_drain_eventfd(consumer);
	PG_RETURN_FLOAT8(rc & WL_SOCKET_READABLE ? since(start) * 1000 : -1);
}

PG_FUNCTION_INFO_V1(kt_down);

/* Why no broker can be reached, or NULL. */
Datum
kt_down(PG_FUNCTION_ARGS)
{
	const char *why;

	if (!ks_consumer_broker_down(consumer, &why))
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(why));
}

PG_FUNCTION_INFO_V1(kt_cached_end);

/* Last end seen. */
Datum
kt_cached_end(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(ks_consumer_cached_end(consumer, text_to_cstring(PG_GETARG_TEXT_PP(0)),
										   PG_GETARG_INT32(1)));
}

PG_FUNCTION_INFO_V1(kt_partition_count);

/* Number of partitions. */
Datum
kt_partition_count(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(ks_topic_partition_count(consumer, text_to_cstring(PG_GETARG_TEXT_PP(0)),
											 PG_GETARG_INT32(1)));
}

PG_FUNCTION_INFO_V1(kt_offsets);

/* First and end offset as an array. */
Datum
kt_offsets(PG_FUNCTION_ARGS)
{
	int64		first;
	int64		end;

	ks_topic_offsets(consumer, text_to_cstring(PG_GETARG_TEXT_PP(0)), PG_GETARG_INT32(1),
					 PG_GETARG_INT32(2), &first, &end);
	PG_RETURN_TEXT_P(cstring_to_text(psprintf(INT64_FORMAT " " INT64_FORMAT, first, end)));
}

PG_FUNCTION_INFO_V1(kt_offset_for_time);

/* Offset by time. */
Datum
kt_offset_for_time(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(ks_topic_offset_for_time(consumer, text_to_cstring(PG_GETARG_TEXT_PP(0)),
											 PG_GETARG_INT32(1), PG_GETARG_TIMESTAMPTZ(2), 5000));
}

PG_FUNCTION_INFO_V1(kt_fingerprint);

/* Offset found and fingerprint, or NULL. */
Datum
kt_fingerprint(PG_FUNCTION_ARGS)
{
	int64		found;
	uint64		fingerprint;

	if (!ks_topic_fingerprint(consumer, text_to_cstring(PG_GETARG_TEXT_PP(0)), PG_GETARG_INT32(1),
							  PG_GETARG_INT64(2), 5000, &found, &fingerprint))
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(psprintf(INT64_FORMAT " " UINT64_FORMAT, found, fingerprint)));
}

PG_FUNCTION_INFO_V1(kt_polled_fingerprint);

/* Fingerprint of the first record of the next batch. */
Datum
kt_polled_fingerprint(PG_FUNCTION_ARGS)
{
	KsEventBatch *batch = ks_consumer_poll(consumer, 1, 0, 5000);
	text	   *result;

	if (batch->nevents == 0 || batch->events[0].kind != KS_EVENT_RECORD)
		PG_RETURN_NULL();
	result = cstring_to_text(psprintf(INT64_FORMAT " " UINT64_FORMAT, batch->events[0].record.offset,
									  ks_record_fingerprint(&batch->events[0].record)));
	ks_event_batch_free(batch);
	PG_RETURN_TEXT_P(result);
}

PG_FUNCTION_INFO_V1(kt_cluster_id);

/* The cluster. */
Datum
kt_cluster_id(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(ks_cluster_id(consumer, PG_GETARG_INT32(0))));
}

PG_FUNCTION_INFO_V1(kt_create);

/* Creates a topic. */
Datum
kt_create(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(ks_topic_create(server_arg(fcinfo), GetUserId(),
								   text_to_cstring(PG_GETARG_TEXT_PP(1)), PG_GETARG_INT32(2),
								   PG_GETARG_INT32(3), false, PG_GETARG_INT32(4)));
}

PG_FUNCTION_INFO_V1(kt_clean_text);

/* How text of the library is shown by the session's consumer. */
Datum
kt_clean_text(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(ks_client_clean_text(ks_consumer_client(consumer),
														  text_to_cstring(PG_GETARG_TEXT_PP(0)))));
}
