/*
 * append.c
 *		The operator of row-wise queries: every row goes to the end of the table.
 *
 * Rows are collected while the row statement runs and written when it has
 * succeeded, many at a time.
 *
 * With retention, rows leave the table when the watermark has passed their event
 * time by that much: in the order of an index over it, a bounded number at a time.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/faultpoint.h"
#include "catalog/names.h"
#include "exec/late.h"
#include "exec/operator.h"
#include "exec/row_origin.h"
#include "plan/window.h"
#include "store/table_writer.h"

typedef struct AppendOperator
{
	KsOperator	base;
	Oid			relation;
	MemoryContext cxt;			/* of the attempt */
	TupleDesc	desc;			/* of the result table, while a batch is processed */
	int			ncolumns;		/* of the row statement: the table's first attributes */
	const KsPlan *plan;
	bool		listening;
	Datum	   *values;
	bool	   *nulls;
	HeapTuple  *tuples;
	TimestampTz *event_times;	/* of each; NULL: nobody wants to know */
	KsRowOrigin *origin;
	int			ntuples;
	int			maxtuples;
	/* retention */
	AttrNumber	time_column;	/* event time, or 0 */
	int64		expiry_us;
	TimestampTz least_added;	/* event time in the attempt, DT_NOEND: none */
	TimestampTz next_expiry;	/* least event time in the table, DT_NOEND: none */
} AppendOperator;

/* Starts with no rows; looks at the table's columns as they are now. */
static void
append_begin(KsOperator *base, MemoryContext cxt)
{
	AppendOperator *op = (AppendOperator *) base;
	MemoryContext old = MemoryContextSwitchTo(cxt);
	Relation	rel = table_open(op->relation, AccessShareLock);

	op->cxt = cxt;
	op->desc = CreateTupleDescCopy(RelationGetDescr(rel));
	table_close(rel, NoLock);
	op->ntuples = 0;
	op->least_added = DT_NOEND;
	op->maxtuples = 1024;
	op->tuples = palloc(sizeof(HeapTuple) * op->maxtuples);
	if (op->listening)
	{
		op->event_times = palloc(sizeof(TimestampTz) * op->maxtuples);
		op->origin = ks_row_origin_create(op->plan->origin, op->plan->time);
	}
	op->values = palloc0(sizeof(Datum) * op->desc->natts);
	op->nulls = palloc(sizeof(bool) * op->desc->natts);
	memset(op->nulls, true, sizeof(bool) * op->desc->natts);
	MemoryContextSwitchTo(old);
}

/* Keeps one row. */
static void
append_add(KsOperator *base, TupleTableSlot *slot)
{
	AppendOperator *op = (AppendOperator *) base;
	MemoryContext old;

	slot_getallattrs(slot);
	memcpy(op->values, slot->tts_values, sizeof(Datum) * op->ncolumns);
	memcpy(op->nulls, slot->tts_isnull, sizeof(bool) * op->ncolumns);
	if (op->time_column != 0 && !op->nulls[op->time_column - 1])
		op->least_added = Min(op->least_added, DatumGetTimestampTz(op->values[op->time_column - 1]));
	old = MemoryContextSwitchTo(op->cxt);
	if (op->ntuples == op->maxtuples)
	{
		op->maxtuples *= 2;
		op->tuples = repalloc_huge(op->tuples, sizeof(HeapTuple) * op->maxtuples);
		if (op->listening)
			op->event_times = repalloc_huge(op->event_times, sizeof(TimestampTz) * op->maxtuples);
	}
	if (op->listening)
		op->event_times[op->ntuples] = ks_row_event_time(op->origin, slot);
	op->tuples[op->ntuples++] = heap_form_tuple(op->desc, op->values, op->nulls);
	MemoryContextSwitchTo(old);
}

/* The first phase holds nothing open. */
static void
append_finish(KsOperator *base)
{
}

/* Writes the rows. */
static int64
append_apply(KsOperator *base)
{
	AppendOperator *op = (AppendOperator *) base;
	KsTableWriter *writer;

	if (op->ntuples == 0)
		return 0;
	writer = ks_writer_open(op->relation, NIL, NULL);
	if (op->listening)
		ks_writer_listen(writer);
	ks_writer_append(writer, op->tuples, op->event_times, op->ntuples);
	ks_writer_close(writer);
	op->next_expiry = Min(op->next_expiry, op->least_added);
	return op->ntuples;
}

/* A scan of the rows from an event time on, in its order. */
static IndexScanDesc
scan_from(AppendOperator *op, KsTableWriter *writer, TimestampTz first)
{
	for (int i = 0; i < writer->rri->ri_NumIndices; i++)
	{
		Relation	index = writer->rri->ri_IndexRelationDescs[i];
		ScanKeyData key;
		IndexScanDesc scan;

		if (index->rd_index->indkey.values[0] != op->time_column || !ks_index_is_in_order(index))
			continue;
		scan = ks_index_beginscan(writer->rel, index, GetActiveSnapshot(), 1);
		ScanKeyInit(&key, 1, BTGreaterEqualStrategyNumber, F_TIMESTAMP_GE, TimestampTzGetDatum(first));
		index_rescan(scan, &key, 1, NULL, 0);
		return scan;
	}
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("table %s has no index over its event time", ks_qualified_name(op->relation)),
			 errhint("Create it again: CREATE INDEX ON %s (%s);", ks_qualified_name(op->relation),
					 quote_identifier(get_attname(op->relation, op->time_column, false)))));
	return NULL;
}

/*
 * Deletes about limit rows up to an event time; finds the least one that stays.
 * Entries of rows that have left before may still be in the index: the scan
 * begins behind them.
 */
static int64
delete_up_to(AppendOperator *op, TimestampTz last, int limit, bool *more)
{
	KsTableWriter *writer = ks_writer_open(op->relation, NIL, NULL);
	IndexScanDesc scan = scan_from(op, writer, limit > 0 ? op->next_expiry : DT_NOBEGIN);
	int64		deleted = 0;

	if (limit > 0)
		ks_writer_listen(writer);
	op->next_expiry = DT_NOEND;
	while (index_getnext_slot(scan, ForwardScanDirection, writer->old_slot))
	{
		bool		isnull;
		TimestampTz time = DatumGetTimestampTz(slot_getattr(writer->old_slot, op->time_column, &isnull));

		if (isnull)
			break;
		if (time > last || deleted >= limit)
		{
			op->next_expiry = time;
			*more = time <= last;
			break;
		}
		writer->event_time = time;
		ks_writer_delete(writer, 0, &writer->old_slot->tts_tid);
		deleted++;
	}
	KS_FAULT("after_expiry");
	index_endscan(scan);
	ks_writer_close(writer);
	return deleted;
}

/* See operator.h. */
static TimestampTz
append_next_close(KsOperator *base)
{
	AppendOperator *op = (AppendOperator *) base;

	return ks_time_plus(op->next_expiry, op->expiry_us);
}

/* Rows whose time has come leave. */
static int64
append_close(KsOperator *base, TimestampTz watermark, int limit, bool *more)
{
	CommandCounterIncrement();
	UpdateActiveSnapshotCommandId();
	return delete_up_to((AppendOperator *) base, watermark - ((AppendOperator *) base)->expiry_us, limit, more);
}

/* Makes the operator delete rows by their event time. */
static void
init_retention(AppendOperator *op, const KsQueryRow *query, KsAnalysis *analysis)
{
	bool		more = false;

	op->time_column = analysis->time_column;
	op->expiry_us = ks_window_expiry_us(analysis, query);
	op->base.next_close = append_next_close;
	op->base.close = append_close;
	(void) delete_up_to(op, DT_NOBEGIN, 0, &more);
}

/* See operator.h. */
KsOperator *
ks_append_create(const KsQueryRow *query, const KsPlan *plan, KsAnalysis *analysis)
{
	AppendOperator *op = palloc0(sizeof(AppendOperator));

	op->base.begin = append_begin;
	op->base.add = append_add;
	op->base.finish = append_finish;
	op->base.apply = append_apply;
	op->relation = query->relation;
	op->ncolumns = plan->nout;
	op->plan = plan;
	op->listening = plan->wants_time;
	op->next_expiry = DT_NOEND;
	if (query->retention_us >= 0)
		init_retention(op, query, analysis);
	return &op->base;
}
