/*
 * stream_test.c
 *		SQL-callable functions around src/stream for stream_test.py.
 *
 * Compiled into the library itself (see run.sh), so that a batch can be shown
 * to ordinary queries without a broker and without a worker.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "portability/instr_time.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "stream/batch.h"
#include "stream/log_append.h"

#define MAX_PARTITIONS 16

/* What a run of a query over a batch is made of. */
typedef struct Run
{
	KsReader   *reader;
	KsBatch    *batch;
	ArrayType  *records;
	TimestampTz times[MAX_PARTITIONS];
	int64		offsets[MAX_PARTITIONS];
	ReturnSetInfo *rsinfo;
} Run;

PG_FUNCTION_INFO_V1(stream_test_show);
PG_FUNCTION_INFO_V1(stream_test_scan_speed);
PG_FUNCTION_INFO_V1(stream_test_trim);
PG_FUNCTION_INFO_V1(stream_test_partition);

/* Adds a line to the function's result. */
static void
put_line(ReturnSetInfo *rsinfo, const char *line)
{
	Datum		value = CStringGetTextDatum(line);
	bool		isnull = false;

	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &value, &isnull);
}

/* Callback of ks_batch_set_times. */
static TimestampTz *
time_slot(int32 partition, void *arg)
{
	return &((Run *) arg)->times[partition];
}

/* Handler of bad rows: a line for each; shows them no more. */
static void
bad_row(KsBatch *batch, int row, const KsRecordError *error, void *arg)
{
	Run		   *run = arg;

	put_line(run->rsinfo, psprintf("bad %d/%d %s %s", batch->rows[row].rec.partition,
								   (int) batch->rows[row].rec.offset,
								   unpack_sql_state(error->sqlstate), error->message));
	batch->skip[row] = true;
}

/* Text of an element of the array, or NULL. */
static char *
element(ArrayType *array, int row, int column)
{
	int			subscripts[2] = {row + 1, column + 1};
	bool		isnull;
	Datum		value = array_get_element(PointerGetDatum(array), 2, subscripts, -1, -1, false, 'i', &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

/* Adds records [from, to): rows of (partition, key, value, timestamp). */
static void
add_records(Run *run, int from, int to)
{
	for (int i = from; i < to; i++)
	{
		KsRecord	rec = {0};
		char	   *time = element(run->records, i, 3);

		rec.partition = atoi(element(run->records, i, 0));
		rec.offset = run->offsets[rec.partition]++;
		rec.leader_epoch = -1;
		rec.key = element(run->records, i, 1);
		rec.keylen = rec.key ? strlen(rec.key) : 0;
		rec.value = element(run->records, i, 2);
		rec.valuelen = rec.value ? strlen(rec.value) : 0;
		rec.timestamp = time ? DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in,
																	   CStringGetDatum(time), ObjectIdGetDatum(0),
																	   Int32GetDatum(-1))) : DT_NOBEGIN;
		ks_batch_add_record(run->batch, &rec);
	}
	ks_batch_set_times(run->batch, from, time_slot, run);
}

/* Runs one query over the batch; its rows become lines. */
static void
run_query(Run *run, const char *query)
{
	SPI_connect();
	SPI_execute(query, false, 0);
	for (uint64 i = 0; SPI_tuptable != NULL && i < SPI_processed; i++)
	{
		StringInfoData line;

		initStringInfo(&line);
		for (int c = 1; c <= SPI_tuptable->tupdesc->natts; c++)
		{
			char	   *value = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, c);

			appendStringInfo(&line, "%s%s", c > 1 ? "|" : "", value ? value : "");
		}
		put_line(run->rsinfo, line.data);
	}
	SPI_finish();
}

/* Makes the reader and an empty batch. */
static void
begin_run(Run *run, Oid relid)
{
	Relation	rel = table_open(relid, AccessShareLock);

	memset(run, 0, sizeof(Run));
	for (int p = 0; p < MAX_PARTITIONS; p++)
		run->times[p] = DT_NOBEGIN;
	run->reader = ks_reader_create(rel);
	run->batch = ks_batch_create(run->reader, CurrentMemoryContext);
	table_close(rel, NoLock);
}

/*
 * show(stream, records text[][], first_part int, queries text[], first int, last int)
 *		Shows a batch of the records, added in two parts, to the queries in turn.
 *		last -1: all.  Lines: result rows, "bad ..." for bad rows, "marker N"
 *		after an error.
 */
Datum
stream_test_show(PG_FUNCTION_ARGS)
{
	Run			run;
	ArrayType  *queries = PG_GETARG_ARRAYTYPE_P(3);
	Datum	   *texts;
	int			nqueries;
	int			nrecords;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	begin_run(&run, PG_GETARG_OID(0));
	run.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	run.records = PG_GETARG_ARRAYTYPE_P(1);
	nrecords = ARR_NDIM(run.records) == 2 ? ARR_DIMS(run.records)[0] : 0;

	add_records(&run, 0, Min(PG_GETARG_INT32(2), nrecords));
	run.batch->skip = palloc0(sizeof(bool) * Max(nrecords, 1));
	ks_batch_set_bad_handler(bad_row, &run);
	deconstruct_array(queries, TEXTOID, -1, false, TYPALIGN_INT, &texts, NULL, &nqueries);
	for (int q = 0; q < nqueries; q++)
	{
		if (q == 0)
			add_records(&run, Min(PG_GETARG_INT32(2), nrecords), nrecords);
		memset(run.batch->skip, 0, sizeof(bool) * nrecords);
		run.batch->first = PG_GETARG_INT32(4);
		run.batch->last = PG_GETARG_INT32(5) < 0 ? nrecords : PG_GETARG_INT32(5);
		ks_batch_show(run.batch);
		run_query(&run, TextDatumGetCString(texts[q]));
		ks_batch_hide_all();
	}
	ks_batch_set_bad_handler(NULL, NULL);
	ks_batch_destroy(run.batch);
	return (Datum) 0;
}

/* scan_speed(stream, value text, rows int, query text): ns per row of the query over decoded rows. */
Datum
stream_test_scan_speed(PG_FUNCTION_ARGS)
{
	Run			run;
	char	   *value = text_to_cstring(PG_GETARG_TEXT_PP(1));
	int			nrows = PG_GETARG_INT32(2);
	char	   *query = text_to_cstring(PG_GETARG_TEXT_PP(3));
	instr_time	start;
	instr_time	duration;
	SPIPlanPtr	plan;

	begin_run(&run, PG_GETARG_OID(0));
	for (int i = 0; i < nrows; i++)
	{
		KsRecord	rec = {0};

		rec.offset = i;
		rec.value = value;
		rec.valuelen = strlen(value);
		rec.timestamp = i;
		ks_batch_add_record(run.batch, &rec);
	}
	ks_batch_set_times(run.batch, 0, time_slot, &run);
	ks_batch_show(run.batch);
	SPI_connect();
	plan = SPI_prepare(query, 0, NULL);
	SPI_execute_plan(plan, NULL, NULL, true, 0);
	INSTR_TIME_SET_CURRENT(start);
	SPI_execute_plan(plan, NULL, NULL, true, 0);
	INSTR_TIME_SET_CURRENT(duration);
	INSTR_TIME_SUBTRACT(duration, start);
	SPI_finish();
	ks_batch_hide_all();
	ks_batch_destroy(run.batch);
	PG_RETURN_FLOAT8(INSTR_TIME_GET_DOUBLE(duration) * 1e9 / nrows);
}

/* trim(stream): see ks_local_log_trim. */
Datum
stream_test_trim(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(ks_local_log_trim(PG_GETARG_OID(0)));
}

/* partition(key, partitions): see ks_partition_for_key. */
Datum
stream_test_partition(PG_FUNCTION_ARGS)
{
	char	   *key = text_to_cstring(PG_GETARG_TEXT_PP(0));

	PG_RETURN_INT32(ks_partition_for_key(key, strlen(key), PG_GETARG_INT32(1)));
}
