/*
 * fdw_scan.c
 *		Reading a stream: the rows of the batch at hand, or a bounded read.
 *
 * Which of the two it is is decided when the first row is asked for: if a batch
 * of the stream is shown in this process (stream/batch.h), the scan shows its
 * rows, and bad ones are reported to the runner of the batch.  Otherwise it is a
 * bounded read of the log, from the oldest record (or where the conditions on
 * _partition, _offset and _timestamp allow) to the end captured at the start of
 * the scan, in chunks, so that LIMIT stops early.  A local log is read partition
 * after partition; of a topic all are read at a time, because a broker that has
 * no more of one partition makes the client wait before it asks for the next.
 * Bad records are skipped, counted and reported in one WARNING.
 *
 * _timestamp narrows a read at its lower end only: records need not be ordered
 * by time, so nothing follows for later ones.
 *
 * EndForeignScan is not called after an error: the client and all memory hang
 * on the scan's context under the executor's.
 *
 * Runs in: any backend, any worker, but never while a parallel query runs there.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/array.h"
#include "utils/date.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "kafka/consumer.h"
#include "stream/batch.h"
#include "stream/fdw.h"
#include "stream/fdw_scan.h"
#include "stream/local_log.h"

/* Rows of the first chunk of a bounded read, and of the largest. */
#define CHUNK_ROWS_FIRST	100
#define CHUNK_ROWS_MAX		5000
#define CHUNK_BYTES_MAX		(16 * 1024 * 1024)

/* Waiting for a broker: for one answer, for one poll, and without any progress. */
#define REQUEST_TIMEOUT_MS	10000
#define POLL_TIMEOUT_MS		500
#define RETRY_PAUSE_MS		100
#define STALL_TIMEOUT_MS	30000

/* Empty polls after which a partition that ends before its captured end is done. */
#define POLLS_AFTER_EOF		4

typedef enum KsScanMode
{
	KS_SCAN_BATCH,
	KS_SCAN_LOCAL,
	KS_SCAN_TOPIC
} KsScanMode;

/* What the conditions allow. */
typedef struct KsScanRange
{
	bool		empty;
	int64		first_partition;
	int64		last_partition;
	List	   *partitions;		/* integer list, or NIL with any_partition */
	bool		any_partition;
	int64		first_offset;
	int64		end_offset;		/* one past the last */
	TimestampTz since;			/* DT_NOBEGIN: no bound */
} KsScanRange;

/* One partition of a bounded read. */
typedef struct KsScanPartition
{
	bool		captured;		/* first and end are known */
	int64		first;
	int64		end;
	int64		next;			/* next offset to read in this pass */
	int64		stop;			/* where this pass ends */
	TimestampTz stream_time;
	bool		assigned;		/* topics: the client fetches it */
	bool		eof;			/* topics: nothing was behind next */
} KsScanPartition;

typedef struct KsScan
{
	MemoryContext cxt;
	KsScanMode	mode;
	bool		started;
	bool	   *wanted;			/* [natts] */
	KsPushedQual *quals;
	int			nquals;
	List	   *exprs;			/* ExprState *, parallel to quals */

	KsBatch    *batch;			/* the batch shown, or the chunk at hand */
	int			row;			/* next row of it */

	/* bounded read */
	KsReader   *reader;
	bool		want_stream_time;
	int			npartitions;	/* -1: not known yet */
	KsScanPartition *partitions;
	int			current;		/* local: partition being read */
	int			chunk_rows;
	int64		nbad;			/* bad records in this pass */
	int64		max_bad;		/* ... in the pass with most of them */
	char	   *first_bad;		/* what was wrong with the first one */

	/* topics */
	KsConsumer *consumer;
	KsEventBatch *events;
	int			nassigned;
	int			eof_polls;
	TimestampTz progress;		/* when something arrived last */
	char	   *trouble;		/* last passing error */
} KsScan;

static void start_scan(ForeignScanState *node, KsScan *scan);
static void start_batch(ForeignScanState *node, KsScan *scan);
static TupleTableSlot *next_of_batch(KsScan *scan, TupleTableSlot *slot);
static TupleTableSlot *next_of_log(KsScan *scan, TupleTableSlot *slot);
static inline TupleTableSlot *store_row(const KsRow *row, TupleTableSlot *slot);
static void note_bad(KsScan *scan, const KsRow *row, const KsRecordError *error);

static void compute_range(ForeignScanState *node, KsScan *scan, KsScanRange *range);
static void narrow(KsScanRange *range, const KsPushedQual *qual, Datum value);
static void narrow_partitions(KsScanRange *range, Oid typid, Datum array);
static int64 datum_to_int64(Datum value, Oid typid);
static TimestampTz datum_to_timestamptz(Datum value, Oid typid);

static void start_log(KsScan *scan, const KsScanRange *range);
static bool partition_allowed(const KsScanRange *range, int partition);
static void open_topic(KsScan *scan);
static void capture_partition(KsScan *scan, int partition);
static int64 offset_for_time(KsScan *scan, int partition, TimestampTz when);
static void assign_partitions(KsScan *scan);
static void unassign_partition(KsScan *scan, int partition);
static bool next_chunk(KsScan *scan);
static bool fetch_chunk(KsScan *scan);
static void drop_chunk(KsScan *scan);
static bool fetch_local(KsScan *scan);
static bool fetch_topic(KsScan *scan);
static void take_event(KsScan *scan, const KsEvent *event);
static void fetch_error(KsScan *scan, int partition, const KsEvent *event);
static void reposition(KsScan *scan, int partition);
static void check_stall(KsScan *scan);
static TimestampTz *stream_time_slot(int32 partition, void *arg);


/* ---------------------------------------------------------------- callbacks */

/*
 * forbid_parallel_mode
 *		Decoding takes subtransactions, so that a bad record is skipped, and a
 *		process that has parallel workers cannot begin any.  Other parts of the
 *		statement may have been planned for workers: have the executor run them
 *		without.  Its plan always holds this scan, so the plan may be marked for good,
 *		and that is possible until ExecutorRun looks at the mark.  (The planner could
 *		be told only through a hook in every session, and sub-plans come before us.)
 */
static void
forbid_parallel_mode(ForeignScanState *node)
{
	if (IsInParallelMode())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot read stream \"%s\" while a parallel query runs",
						RelationGetRelationName(node->ss.ss_currentRelation)),
				 errhint("Mark the function that reads it PARALLEL UNSAFE.")));
	node->ss.ps.state->es_plannedstmt->parallelModeNeeded = false;
}

/* Prepares a scan; reading starts with the first row asked for. */
void
ks_begin_foreign_scan(ForeignScanState *node, int eflags)
{
	ForeignScan *plan = castNode(ForeignScan, node->ss.ps.plan);
	Relation	rel = node->ss.ss_currentRelation;
	KsScan	   *scan;

	forbid_parallel_mode(node);
	if (eflags & EXEC_FLAG_EXPLAIN_ONLY)
		return;

	scan = palloc0(sizeof(KsScan));
	scan->cxt = AllocSetContextCreate(CurrentMemoryContext, "kstream scan", ALLOCSET_SMALL_SIZES);
	scan->wanted = ks_private_columns(plan->fdw_private, RelationGetDescr(rel)->natts);
	scan->quals = ks_private_quals(plan->fdw_private, &scan->nquals);
	scan->exprs = ExecInitExprList(plan->fdw_exprs, (PlanState *) node);
	scan->npartitions = -1;
	node->fdw_state = scan;
}

/* Returns the next row. */
TupleTableSlot *
ks_iterate_foreign_scan(ForeignScanState *node)
{
	KsScan	   *scan = node->fdw_state;
	TupleTableSlot *slot = node->ss.ss_ScanTupleSlot;

	ExecClearTuple(slot);
	if (unlikely(!scan->started))
		start_scan(node, scan);
	if (scan->mode == KS_SCAN_BATCH)
		return next_of_batch(scan, slot);
	return next_of_log(scan, slot);
}

/* Starts over.  A bounded read keeps the ends it has captured. */
void
ks_rescan_foreign_scan(ForeignScanState *node)
{
	KsScan	   *scan = node->fdw_state;

	if (!scan->started)
		return;
	if (scan->mode == KS_SCAN_BATCH)
	{
		scan->row = scan->batch->first;
		return;
	}
	drop_chunk(scan);
	for (int p = 0; p < scan->npartitions; p++)
		unassign_partition(scan, p);
	scan->max_bad = Max(scan->max_bad, scan->nbad);
	scan->nbad = 0;
	scan->started = false;
}

/* Ends the scan; says how many bad records were skipped. */
void
ks_end_foreign_scan(ForeignScanState *node)
{
	KsScan	   *scan = node->fdw_state;
	int64		nbad;

	if (scan == NULL)
		return;
	nbad = Max(scan->max_bad, scan->nbad);
	if (nbad > 0)
		ereport(WARNING,
				(errmsg_plural("skipped %lld bad record of stream %s",
							   "skipped %lld bad records of stream %s",
							   (unsigned long) nbad, (long long) nbad, scan->reader->def->relname),
				 errdetail("First one: %s", scan->first_bad)));
	drop_chunk(scan);
	if (scan->consumer != NULL)
		ks_consumer_close(scan->consumer);
	MemoryContextDelete(scan->cxt);
	node->fdw_state = NULL;
}

/* Decides what is read, and from where to where. */
static void
start_scan(ForeignScanState *node, KsScan *scan)
{
	KsBatch    *batch = ks_batch_shown(RelationGetRelid(node->ss.ss_currentRelation));
	const char *statement = node->ss.ps.state->es_sourceText;
	KsScanRange range;

	scan->started = true;
	if (batch != NULL)
	{
		if (ks_batch_statement != NULL && (statement == NULL || strcmp(statement, ks_batch_statement) != 0))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("a function of a continuous query reads stream \"%s\"",
							RelationGetRelationName(node->ss.ss_currentRelation)),
					 errhint("Read the stream in the FROM clause of the query itself.")));
		scan->mode = KS_SCAN_BATCH;
		scan->batch = batch;
		start_batch(node, scan);
		return;
	}

	if (scan->reader == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(scan->cxt);
		AttrNumber	stream_time;

		scan->reader = ks_reader_create(node->ss.ss_currentRelation);
		MemoryContextSwitchTo(old);
		stream_time = scan->reader->def->meta[KS_META_STREAM_TIME];
		scan->want_stream_time = stream_time != 0 && scan->wanted[stream_time - 1];
		scan->mode = scan->reader->def->local ? KS_SCAN_LOCAL : KS_SCAN_TOPIC;
	}
	compute_range(node, scan, &range);
	start_log(scan, &range);
}

/* ---------------------------------------------------------------- the batch at hand */

/* Decodes the columns that the scan reads, for the whole batch. */
static void
start_batch(ForeignScanState *node, KsScan *scan)
{
	TupleDesc	desc = node->ss.ss_ScanTupleSlot->tts_tupleDescriptor;
	TupleDesc	shown = scan->batch->reader->desc;
	bool		same = desc->natts == shown->natts;

	for (int i = 0; same && i < desc->natts; i++)
		same = TupleDescAttr(desc, i)->attisdropped == TupleDescAttr(shown, i)->attisdropped &&
			TupleDescAttr(desc, i)->atttypid == TupleDescAttr(shown, i)->atttypid;
	if (!same)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("definition of stream %s has changed since the batch was read",
						scan->batch->reader->def->relname)));
	ks_batch_decode(scan->batch, scan->wanted);
	scan->row = scan->batch->first;
}

/* The next row of the batch that is not bad. */
static TupleTableSlot *
next_of_batch(KsScan *scan, TupleTableSlot *slot)
{
	KsBatch    *batch = scan->batch;

	while (scan->row < batch->last)
	{
		int			i = scan->row++;
		KsRow	   *row = &batch->rows[i];

		if (batch->skip != NULL && batch->skip[i])
			continue;
		if (unlikely(row->errors != NULL))
		{
			const KsRecordError *error = ks_batch_row_error(batch, i, scan->wanted);

			if (error != NULL)
			{
				ks_batch_report_bad(batch, i, error);
				continue;
			}
		}
		ks_current_batch = batch;
		ks_current_row = i;
		return store_row(row, slot);
	}
	ks_current_row = -1;
	return slot;
}

/* Puts a row into the slot.  Columns nobody asked for are NULL. */
static inline TupleTableSlot *
store_row(const KsRow *row, TupleTableSlot *slot)
{
	int			natts = slot->tts_tupleDescriptor->natts;

	memcpy(slot->tts_values, row->values, sizeof(Datum) * natts);
	memcpy(slot->tts_isnull, row->nulls, sizeof(bool) * natts);
	return ExecStoreVirtualTuple(slot);
}

/* ---------------------------------------------------------------- bounded reads */

/* The next row of the log that is not bad. */
static TupleTableSlot *
next_of_log(KsScan *scan, TupleTableSlot *slot)
{
	for (;;)
	{
		while (scan->batch != NULL && scan->row < scan->batch->nrows)
		{
			int			i = scan->row++;
			KsRow	   *row = &scan->batch->rows[i];
			const KsRecordError *error = NULL;

			if (unlikely(row->errors != NULL))
				error = ks_batch_row_error(scan->batch, i, scan->wanted);
			if (error == NULL)
				return store_row(row, slot);
			note_bad(scan, row, error);
		}
		CHECK_FOR_INTERRUPTS();
		if (!next_chunk(scan))
			return slot;
	}
}

/* Counts a bad record; keeps what is wrong with the first. */
static void
note_bad(KsScan *scan, const KsRow *row, const KsRecordError *error)
{
	scan->nbad++;
	if (scan->first_bad == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(scan->cxt);

		scan->first_bad = psprintf(_("partition %d, offset %lld: %s"), row->rec.partition,
								   (long long) row->rec.offset, error->message);
		MemoryContextSwitchTo(old);
	}
}

/* ---------------------------------------------------------------- conditions */

/* Evaluates the conditions' values and works out what they leave. */
static void
compute_range(ForeignScanState *node, KsScan *scan, KsScanRange *range)
{
	ExprContext *econtext = node->ss.ps.ps_ExprContext;
	ListCell   *lc;
	int			n = 0;

	range->empty = false;
	range->first_partition = 0;
	range->last_partition = PG_INT32_MAX;
	range->partitions = NIL;
	range->any_partition = true;
	range->first_offset = 0;
	range->end_offset = PG_INT64_MAX;
	range->since = DT_NOBEGIN;

	foreach(lc, scan->exprs)
	{
		bool		isnull;
		Datum		value = ExecEvalExprSwitchContext(lfirst(lc), econtext, &isnull);

		if (isnull)
			range->empty = true;
		else
			narrow(range, &scan->quals[n], value);
		n++;
	}
}

/* Takes one condition into account. */
static void
narrow(KsScanRange *range, const KsPushedQual *qual, Datum value)
{
	int64		low = PG_INT64_MIN;
	int64		high = PG_INT64_MAX;	/* inclusive */
	int64		bound;

	if (qual->column == KS_META_TIMESTAMP)
	{
		if (qual->strategy >= BTEqualStrategyNumber)
			range->since = Max(range->since, datum_to_timestamptz(value, qual->typid));
		return;
	}
	if (qual->array)
	{
		narrow_partitions(range, qual->typid, value);
		return;
	}

	bound = datum_to_int64(value, qual->typid);
	switch (qual->strategy)
	{
		case BTLessStrategyNumber:
			high = bound == PG_INT64_MIN ? bound : bound - 1;
			break;
		case BTLessEqualStrategyNumber:
			high = bound;
			break;
		case BTEqualStrategyNumber:
			low = high = bound;
			break;
		case BTGreaterEqualStrategyNumber:
			low = bound;
			break;
		case BTGreaterStrategyNumber:
			low = bound == PG_INT64_MAX ? bound : bound + 1;
			break;
	}
	if (qual->column == KS_META_PARTITION)
	{
		range->first_partition = Max(range->first_partition, low);
		range->last_partition = Min(range->last_partition, high);
	}
	else
	{
		range->first_offset = Max(range->first_offset, low);
		if (high < PG_INT64_MAX)
			range->end_offset = Min(range->end_offset, Max(high + 1, 0));
	}
}

/* _partition = ANY (array) */
static void
narrow_partitions(KsScanRange *range, Oid typid, Datum array)
{
	ArrayType  *values = DatumGetArrayTypeP(array);
	List	   *allowed = NIL;
	Datum	   *elems;
	bool	   *nulls;
	int			nelems;

	deconstruct_array(values, typid, typid == INT2OID ? 2 : typid == INT4OID ? 4 : 8, true,
					  typid == INT2OID ? TYPALIGN_SHORT : typid == INT4OID ? TYPALIGN_INT : TYPALIGN_DOUBLE,
					  &elems, &nulls, &nelems);
	for (int i = 0; i < nelems; i++)
	{
		int64		partition;

		if (nulls[i])
			continue;
		partition = datum_to_int64(elems[i], typid);
		if (partition >= 0 && partition <= PG_INT32_MAX &&
			(range->any_partition || list_member_int(range->partitions, (int) partition)))
			allowed = list_append_unique_int(allowed, (int) partition);
	}
	range->partitions = allowed;
	range->any_partition = false;
}

/* An integer of any width. */
static int64
datum_to_int64(Datum value, Oid typid)
{
	switch (typid)
	{
		case INT2OID:
			return DatumGetInt16(value);
		case INT4OID:
			return DatumGetInt32(value);
		case INT8OID:
			return DatumGetInt64(value);
		default:
			elog(ERROR, "unexpected type %u of a condition on a stream", typid);
	}
}

/* A time of any kind, as a comparison with a timestamptz takes it. */
static TimestampTz
datum_to_timestamptz(Datum value, Oid typid)
{
	switch (typid)
	{
		case TIMESTAMPTZOID:
			return DatumGetTimestampTz(value);
		case TIMESTAMPOID:
			return DatumGetTimestampTz(DirectFunctionCall1(timestamp_timestamptz, value));
		case DATEOID:
			return DatumGetTimestampTz(DirectFunctionCall1(date_timestamptz, value));
		default:
			elog(ERROR, "unexpected type %u of a condition on a stream", typid);
	}
}

/* ---------------------------------------------------------------- partitions */

/* Captures the ends of the partitions to be read, and sets where to start and stop. */
static void
start_log(KsScan *scan, const KsScanRange *range)
{
	MemoryContext old = MemoryContextSwitchTo(scan->cxt);

	scan->chunk_rows = CHUNK_ROWS_FIRST;
	scan->current = range->empty ? PG_INT32_MAX : 0;
	if (!range->empty)
	{
		if (scan->npartitions < 0)
		{
			if (scan->mode == KS_SCAN_TOPIC)
				open_topic(scan);
			else
				scan->npartitions = ks_local_log_partitions(scan->reader->def->relid);
			scan->partitions = palloc0(sizeof(KsScanPartition) * Max(scan->npartitions, 1));
		}
		for (int p = 0; p < scan->npartitions; p++)
		{
			KsScanPartition *part = &scan->partitions[p];

			part->next = part->stop = 0;
			part->stream_time = DT_NOBEGIN;
			if (!partition_allowed(range, p))
				continue;
			if (!part->captured)
				capture_partition(scan, p);
			part->next = Max(part->first, range->first_offset);
			part->stop = Min(part->end, range->end_offset);
			if (range->since != DT_NOBEGIN && part->next < part->stop)
				part->next = Max(part->next, offset_for_time(scan, p, range->since));
		}
		if (scan->mode == KS_SCAN_TOPIC)
			assign_partitions(scan);
	}
	MemoryContextSwitchTo(old);
}

/* True if the conditions allow the partition. */
static bool
partition_allowed(const KsScanRange *range, int partition)
{
	return partition >= range->first_partition && partition <= range->last_partition &&
		(range->any_partition || list_member_int(range->partitions, partition));
}

/* Opens a client for this statement and asks how many partitions there are. */
static void
open_topic(KsScan *scan)
{
	const KsStreamDef *def = scan->reader->def;

	scan->consumer = ks_consumer_open(def->serverid, GetUserId(), "select");
	scan->npartitions = ks_topic_partition_count(scan->consumer, def->topic, REQUEST_TIMEOUT_MS);
	if (scan->npartitions <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("topic \"%s\" of stream %s does not exist", def->topic, def->relname),
				 errhint("Create the topic, or correct option topic of the stream.")));
}

/* Asks where the partition starts and ends now. */
static void
capture_partition(KsScan *scan, int partition)
{
	KsScanPartition *part = &scan->partitions[partition];
	const KsStreamDef *def = scan->reader->def;

	if (scan->mode == KS_SCAN_TOPIC)
		ks_topic_offsets(scan->consumer, def->topic, partition, REQUEST_TIMEOUT_MS,
						 &part->first, &part->end);
	else
		ks_local_log_range(def->relid, partition, &part->first, &part->end);
	part->captured = true;
}

/* First offset of the partition that may have a record from that time on. */
static int64
offset_for_time(KsScan *scan, int partition, TimestampTz when)
{
	const KsStreamDef *def = scan->reader->def;

	if (when == DT_NOEND)
		return scan->partitions[partition].stop;
	if (scan->mode == KS_SCAN_TOPIC)
		return ks_topic_offset_for_time(scan->consumer, def->topic, partition, when, REQUEST_TIMEOUT_MS);
	return ks_local_log_offset_for_time(def->relid, partition, when);
}

/* Makes the client fetch all partitions that have something to be read. */
static void
assign_partitions(KsScan *scan)
{
	for (int p = 0; p < scan->npartitions; p++)
	{
		KsScanPartition *part = &scan->partitions[p];

		if (part->next >= part->stop)
			continue;
		ks_consumer_assign(scan->consumer, scan->reader->def->topic, p, part->next);
		part->assigned = true;
		part->eof = false;
		scan->nassigned++;
	}
	scan->eof_polls = 0;
	scan->progress = GetCurrentTimestamp();
}

/* The scan is done with the partition. */
static void
unassign_partition(KsScan *scan, int partition)
{
	if (!scan->partitions[partition].assigned)
		return;
	ks_consumer_unassign(scan->consumer, scan->reader->def->topic, partition);
	scan->partitions[partition].assigned = false;
	scan->nassigned--;
}

/* ---------------------------------------------------------------- chunks */

/* Reads and decodes the next rows into a new chunk; false when all partitions are done. */
static bool
next_chunk(KsScan *scan)
{
	drop_chunk(scan);
	for (;;)
	{
		scan->batch = ks_batch_create(scan->reader, scan->cxt);
		scan->row = 0;
		if (!fetch_chunk(scan))
		{
			drop_chunk(scan);
			return false;
		}
		if (scan->batch->nrows > 0)
			break;
		drop_chunk(scan);
		CHECK_FOR_INTERRUPTS();
	}
	if (scan->want_stream_time)
		ks_batch_set_times(scan->batch, 0, stream_time_slot, scan);
	ks_batch_decode(scan->batch, scan->wanted);
	scan->chunk_rows = Min(scan->chunk_rows * 2, CHUNK_ROWS_MAX);
	return true;
}

/* Adds what there is to the chunk, possibly nothing; false when all partitions are done. */
static bool
fetch_chunk(KsScan *scan)
{
	return scan->mode == KS_SCAN_LOCAL ? fetch_local(scan) : fetch_topic(scan);
}

/* Frees the chunk at hand and the records it points into. */
static void
drop_chunk(KsScan *scan)
{
	if (!scan->started || scan->mode == KS_SCAN_BATCH)
		return;
	if (scan->batch != NULL)
		ks_batch_destroy(scan->batch);
	if (scan->events != NULL)
		ks_event_batch_free(scan->events);
	scan->batch = NULL;
	scan->events = NULL;
}

/* Reads from the table of a local log. */
static bool
fetch_local(KsScan *scan)
{
	KsScanPartition *part;
	int64		next;

	while (scan->current < scan->npartitions &&
		   scan->partitions[scan->current].next >= scan->partitions[scan->current].stop)
		scan->current++;
	if (scan->current >= scan->npartitions)
		return false;

	part = &scan->partitions[scan->current];
	next = ks_local_log_read(scan->batch, scan->current, part->next, part->stop, scan->chunk_rows);
	/* nothing there means that retention took it away */
	part->next = scan->batch->nrows > 0 ? next : part->stop;
	return true;
}

/* Polls for records of the topic. */
static bool
fetch_topic(KsScan *scan)
{
	MemoryContext old;

	if (scan->nassigned == 0)
		return false;
	old = MemoryContextSwitchTo(scan->cxt);
	scan->events = ks_consumer_poll(scan->consumer, scan->chunk_rows, CHUNK_BYTES_MAX, POLL_TIMEOUT_MS);
	MemoryContextSwitchTo(old);

	for (int i = 0; i < scan->events->nevents; i++)
		take_event(scan, &scan->events->events[i]);
	if (scan->batch->nrows > 0)
	{
		scan->progress = GetCurrentTimestamp();
		scan->eof_polls = 0;
	}
	else
		check_stall(scan);
	return true;
}

/* Deals with one event. */
static void
take_event(KsScan *scan, const KsEvent *event)
{
	int32		partition = event->record.partition;
	KsScanPartition *part;

	if (partition < 0 || partition >= scan->npartitions)
	{
		if (event->kind == KS_EVENT_ERROR && event->message != NULL)
			scan->trouble = MemoryContextStrdup(scan->cxt, event->message);
		return;
	}
	part = &scan->partitions[partition];
	if (!part->assigned)
		return;
	switch (event->kind)
	{
		case KS_EVENT_RECORD:
			if (event->record.offset < part->next)
				break;			/* fetched before a reposition */
			if (event->record.offset < part->stop)
				ks_batch_add_record(scan->batch, &event->record);
			part->next = event->record.offset + 1;
			part->eof = false;
			break;
		case KS_EVENT_EOF:
			part->next = Max(part->next, event->record.offset);
			part->eof = true;
			break;
		case KS_EVENT_ERROR:
			fetch_error(scan, partition, event);
			break;
	}
	if (part->next >= part->stop)
		unassign_partition(scan, partition);
}

/* The client has stopped the partition for an error that may pass. */
static void
read_again(KsScan *scan, int partition)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, RETRY_PAUSE_MS, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	ks_consumer_assign(scan->consumer, scan->reader->def->topic, partition, scan->partitions[partition].next);
}

/* A partition cannot go on, or not now. */
static void
fetch_error(KsScan *scan, int partition, const KsEvent *event)
{
	const KsStreamDef *def = scan->reader->def;
	const char *reason = event->message ? event->message : "";
	int			code = ERRCODE_FDW_ERROR;

	switch (event->code)
	{
		case KS_FETCH_OK:
			return;
		case KS_FETCH_RETRY:
			scan->trouble = MemoryContextStrdup(scan->cxt, reason);
			read_again(scan, partition);
			return;
		case KS_FETCH_OUT_OF_RANGE:
			reposition(scan, partition);
			return;
		case KS_FETCH_TOPIC_MISSING:
			code = ERRCODE_UNDEFINED_OBJECT;
			break;
		case KS_FETCH_DENIED:
			code = ERRCODE_INSUFFICIENT_PRIVILEGE;
			break;
		case KS_FETCH_CORRUPT:
			code = ERRCODE_DATA_CORRUPTED;
			break;
	}
	ereport(ERROR,
			(errcode(code),
			 errmsg("could not read partition %d of topic \"%s\" at offset %lld: %s",
					partition, def->topic, (long long) scan->partitions[partition].next, reason)));
}

/* Retention removed records while they were read: goes on where the partition starts now. */
static void
reposition(KsScan *scan, int partition)
{
	const KsStreamDef *def = scan->reader->def;
	KsScanPartition *part = &scan->partitions[partition];
	int64		first;
	int64		end;

	ks_topic_offsets(scan->consumer, def->topic, partition, REQUEST_TIMEOUT_MS, &first, &end);
	ereport(WARNING,
			(errmsg("offset %lld of partition %d of topic \"%s\" is gone",
					(long long) part->next, partition, def->topic),
			 errdetail("The partition holds offsets %lld to %lld now.", (long long) first, (long long) end)));
	/* cut at its end, or made anew: nothing of what was meant is left */
	part->next = first <= part->next ? part->stop : first;
	if (part->next < part->stop)
		ks_consumer_assign(scan->consumer, def->topic, partition, part->next);
}

/*
 * Nothing arrived.  Partitions may end before their captured ends, if
 * transactions are open in them; otherwise the broker is waited for, but not for
 * ever.
 */
static void
check_stall(KsScan *scan)
{
	const char *why = scan->trouble;
	bool		all_eof = true;

	for (int p = 0; p < scan->npartitions; p++)
		all_eof &= !scan->partitions[p].assigned || scan->partitions[p].eof;
	if (all_eof && ++scan->eof_polls > POLLS_AFTER_EOF)
	{
		for (int p = 0; p < scan->npartitions; p++)
			unassign_partition(scan, p);
		return;
	}
	if (!TimestampDifferenceExceeds(scan->progress, GetCurrentTimestamp(), STALL_TIMEOUT_MS))
		return;
	(void) ks_consumer_broker_down(scan->consumer, &why);
	ereport(ERROR,
			(errcode(ERRCODE_CONNECTION_FAILURE),
			 errmsg("no records of topic \"%s\" arrived for %d s",
					scan->reader->def->topic, STALL_TIMEOUT_MS / 1000),
			 why ? errdetail("Last error of the client: %s", why) : 0,
			 errhint("Check that the brokers of the stream's server can be reached.")));
}

/* Callback of ks_batch_set_times. */
static TimestampTz *
stream_time_slot(int32 partition, void *arg)
{
	KsScan	   *scan = arg;

	return &scan->partitions[partition].stream_time;
}
