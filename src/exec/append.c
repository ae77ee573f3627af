/*
 * append.c
 *		The operator of row-wise queries: every row goes to the end of the table.
 *
 * Rows are collected while the row statement runs and written when it has
 * succeeded, many at a time.
 */
#include "postgres.h"

#include "access/table.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "exec/operator.h"
#include "exec/row_origin.h"
#include "store/table_writer.h"

typedef struct AppendOperator
{
	KsOperator	base;
	Oid			relation;
	MemoryContext cxt;			/* of the attempt */
	TupleDesc	desc;			/* of the result table, while a batch is processed */
	int			ncolumns;		/* of the row statement: the table's first attributes */
	int			origin_column;	/* see KsPlan */
	bool		listening;
	Datum	   *values;
	bool	   *nulls;
	HeapTuple  *tuples;
	TimestampTz *event_times;	/* of each; NULL: nobody wants to know */
	KsRowOrigin *origin;
	int			ntuples;
	int			maxtuples;
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
	op->maxtuples = 1024;
	op->tuples = palloc(sizeof(HeapTuple) * op->maxtuples);
	if (op->listening)
	{
		op->event_times = palloc(sizeof(TimestampTz) * op->maxtuples);
		op->origin = ks_row_origin_create(op->origin_column);
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
	old = MemoryContextSwitchTo(op->cxt);
	if (op->ntuples == op->maxtuples)
	{
		op->maxtuples *= 2;
		op->tuples = repalloc_huge(op->tuples, sizeof(HeapTuple) * op->maxtuples);
		if (op->listening)
			op->event_times = repalloc_huge(op->event_times, sizeof(TimestampTz) * op->maxtuples);
	}
	if (op->listening)
	{
		KsBatch    *batch;

		op->event_times[op->ntuples] = ks_row_origin_find(op->origin, slot, &batch)->event_time;
	}
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
	return op->ntuples;
}

/* See operator.h. */
KsOperator *
ks_append_create(const KsQueryRow *query, const KsPlan *plan)
{
	AppendOperator *op = palloc0(sizeof(AppendOperator));

	op->base.begin = append_begin;
	op->base.add = append_add;
	op->base.finish = append_finish;
	op->base.apply = append_apply;
	op->relation = query->relation;
	op->ncolumns = plan->nout;
	op->origin_column = plan->origin;
	op->listening = plan->wants_origin;
	return &op->base;
}
