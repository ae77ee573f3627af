/*
 * emit.c
 *		The operator of queries whose rows go to a stream.
 *
 * Key and time of a record that the query does not give are those of the record
 * the row comes from, which the row statement names (plan/origin.c); where it
 * cannot, the statement runs record by record, and the record shown is the one.
 *
 * Rows of a key leave in the order in which their records came.  A join may give
 * them in another one; most often it does not, so nothing is sorted unless a row
 * is met that comes too late.
 *
 * For a stream over a topic the rows become bytes while the statement runs, so
 * that a row that cannot be encoded makes its record bad, as an expression that
 * fails does; apply puts them into the outbox.  For a local stream the rows are
 * kept and appended to its log.
 */
#include "postgres.h"

#include "access/table.h"
#include "executor/executor.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "exec/operator.h"
#include "exec/row_origin.h"
#include "format/decode.h"
#include "stream/batch.h"
#include "stream/log_append.h"
#include "stream/out_record.h"
#include "stream/outbox.h"

typedef struct EmitOperator
{
	KsOperator	base;
	const KsQueryRow *query;
	const KsPlan *plan;
	MemoryContext cxt;			/* of the attempt */
	MemoryContext row_cxt;		/* of one row */
	KsStreamDef *def;			/* while a batch is processed, as all below */
	TupleDesc	desc;
	Datum	   *values;
	bool	   *nulls;
	List	   *casts;			/* ExprState *, or NULL, for each column of the plan */
	ExprContext *cast_cxt;
	KsRowOrigin *origin;
	KsOutEncoder *encoder;		/* stream over a topic */
	KsPacker   *packer;
	HeapTuple  *tuples;			/* local stream */
	int			nrows;
	int			maxrows;
	int64	   *places;			/* of the rows' records, see row_origin.h */
	bool		ordered;		/* places do not descend */
	/* NOT NULL and CHECK of the stream */
	Relation	checked;		/* open while an attempt runs, or NULL */
	EState	   *estate;
	ResultRelInfo *rri;
	TupleTableSlot *check_slot;
} EmitOperator;

/* Prepares the check of constraints, if there are any. */
static void
open_constraints(EmitOperator *op, Relation rel)
{
	TupleConstr *constr = RelationGetDescr(rel)->constr;

	op->checked = NULL;
	if (constr == NULL || (!constr->has_not_null && constr->num_check == 0))
		return;
	op->checked = rel;
	op->estate = ks_create_estate(rel);
	op->rri = makeNode(ResultRelInfo);
	InitResultRelInfo(op->rri, rel, 1, NULL, 0);
	op->check_slot = MakeSingleTupleTableSlot(op->desc, &TTSOpsVirtual);
}

/* Prepares the casts to the types of the stream. */
static void
open_casts(EmitOperator *op)
{
	ListCell   *lc;

	op->cast_cxt = CreateStandaloneExprContext();
	op->casts = NIL;
	foreach(lc, op->plan->casts)
		op->casts = lappend(op->casts, lfirst(lc) == NULL ? NULL : ExecInitExpr(copyObject(lfirst(lc)), NULL));
}

/* Starts with no rows; looks at the stream as it is now. */
static void
emit_begin(KsOperator *base, MemoryContext cxt)
{
	EmitOperator *op = (EmitOperator *) base;
	MemoryContext old = MemoryContextSwitchTo(cxt);
	Relation	rel = table_open(op->query->relation, RowExclusiveLock);

	op->cxt = cxt;
	op->row_cxt = AllocSetContextCreate(cxt, "kstream row", ALLOCSET_DEFAULT_SIZES);
	op->def = ks_stream_def_load(rel);
	op->desc = CreateTupleDescCopyConstr(RelationGetDescr(rel));
	op->values = palloc0(sizeof(Datum) * op->desc->natts);
	op->nulls = palloc(sizeof(bool) * op->desc->natts);
	op->origin = ks_row_origin_create(op->plan->origin, op->plan->time);
	op->nrows = 0;
	op->maxrows = 1024;
	op->places = palloc(sizeof(int64) * op->maxrows);
	op->ordered = true;
	if (op->def->local)
		op->tuples = palloc(sizeof(HeapTuple) * op->maxrows);
	else
	{
		op->encoder = ks_out_encoder_create(op->def);
		op->packer = ks_packer_create(cxt);
	}
	open_casts(op);
	open_constraints(op, rel);
	if (op->checked == NULL)
		table_close(rel, NoLock);
	MemoryContextSwitchTo(old);
}

/* ---------------------------------------------------------------- rows */

/*
 * Carries the key over.  From topic to topic it stays as it is, byte by byte;
 * where a local log is involved it goes by its text.
 */
static void
carry_key(EmitOperator *op, KsBatch *batch, KsRow *row, KsOutOrigin *origin)
{
	AttrNumber	to = op->def->meta[KS_META_KEY];
	AttrNumber	from = batch->reader->def->meta[KS_META_KEY];
	KsRecordError *error = NULL;

	if (!op->def->local && !batch->local)
	{
		origin->key = row->rec.key;
		origin->keylen = row->rec.keylen;
		return;
	}
	if (to == 0 || !op->nulls[to - 1])
		return;
	if (!batch->local)
		op->values[to - 1] = ks_decode_key_text(batch->reader->decoder, &row->rec, &op->nulls[to - 1], &error);
	else if (from != 0)
	{
		op->values[to - 1] = row->values[from - 1];
		op->nulls[to - 1] = row->nulls[from - 1];
	}
}

/* Enforces NOT NULL and CHECK, in a short-lived context. */
static void
check_constraints(EmitOperator *op)
{
	TupleTableSlot *slot = op->check_slot;

	if (op->checked == NULL)
		return;
	ExecClearTuple(slot);
	memcpy(slot->tts_values, op->values, sizeof(Datum) * op->desc->natts);
	memcpy(slot->tts_isnull, op->nulls, sizeof(bool) * op->desc->natts);
	ExecStoreVirtualTuple(slot);
	ExecConstraints(op->rri, slot, op->estate);
	ResetPerTupleExprContext(op->estate);
}

/* Makes the row of the stream from the row in the slot. */
static void
make_row(EmitOperator *op, TupleTableSlot *slot, KsOutOrigin *origin)
{
	KsBatch    *batch;
	KsRow	   *row;

	slot_getallattrs(slot);
	memset(op->nulls, true, sizeof(bool) * op->desc->natts);
	op->cast_cxt->ecxt_scantuple = slot;
	for (int i = 0; i < op->plan->nout; i++)
	{
		AttrNumber	attnum = op->plan->attnums[i];
		ExprState  *cast = list_nth(op->casts, i);

		if (cast == NULL)
		{
			op->values[attnum - 1] = slot->tts_values[i];
			op->nulls[attnum - 1] = slot->tts_isnull[i];
		}
		else
			op->values[attnum - 1] = ExecEvalExpr(cast, op->cast_cxt, &op->nulls[attnum - 1]);
	}
	memset(origin, 0, sizeof(KsOutOrigin));
	origin->event_time = ks_row_event_time(op->origin, slot);
	if (op->plan->carry_key)
	{
		row = ks_row_origin_find(op->origin, slot, &batch);
		carry_key(op, batch, row, origin);
	}
	check_constraints(op);
}

/* Counts a row in, with the place of its record. */
static void
note_place(EmitOperator *op)
{
	int64		place = ks_row_origin_place(op->origin);

	if (op->nrows == op->maxrows)
	{
		op->maxrows *= 2;
		op->places = repalloc_huge(op->places, sizeof(int64) * op->maxrows);
		if (op->def->local)
			op->tuples = repalloc_huge(op->tuples, sizeof(HeapTuple) * op->maxrows);
	}
	if (op->nrows > 0 && place < op->places[op->nrows - 1])
		op->ordered = false;
	op->places[op->nrows++] = place;
}

/* Keeps a row, counted in already, for the log of a local stream. */
static void
keep_row(EmitOperator *op, const KsOutOrigin *origin)
{
	AttrNumber	time = op->def->meta[KS_META_TIMESTAMP];
	MemoryContext old;

	if (time != 0 && op->nulls[time - 1] && origin->event_time != DT_NOBEGIN)
	{
		op->values[time - 1] = TimestampTzGetDatum(origin->event_time);
		op->nulls[time - 1] = false;
	}
	old = MemoryContextSwitchTo(op->cxt);
	op->tuples[op->nrows - 1] = heap_form_tuple(op->desc, op->values, op->nulls);
	MemoryContextSwitchTo(old);
}

/* Takes one row. */
static void
emit_add(KsOperator *base, TupleTableSlot *slot)
{
	EmitOperator *op = (EmitOperator *) base;
	MemoryContext old = MemoryContextSwitchTo(op->row_cxt);
	KsOutOrigin origin;
	KsRecord	rec;

	make_row(op, slot, &origin);
	note_place(op);
	if (op->def->local)
		keep_row(op, &origin);
	else
	{
		ks_out_encode(op->encoder, op->values, op->nulls, &origin, &rec);
		ks_packer_add(op->packer, &rec);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(op->row_cxt);
}

/* Raises the error that the row itself is to blame for. */
static void
emit_check(KsOperator *base, TupleTableSlot *slot)
{
	EmitOperator *op = (EmitOperator *) base;
	MemoryContext old = MemoryContextSwitchTo(op->row_cxt);
	KsOutOrigin origin;
	KsRecord	rec;

	make_row(op, slot, &origin);
	if (!op->def->local)
		ks_out_encode(op->encoder, op->values, op->nulls, &origin, &rec);
	MemoryContextSwitchTo(old);
	MemoryContextReset(op->row_cxt);
}

/* Closes what the attempt held open. */
static void
emit_finish(KsOperator *base)
{
	EmitOperator *op = (EmitOperator *) base;

	if (op->checked == NULL)
		return;
	ExecDropSingleTupleTableSlot(op->check_slot);
	FreeExecutorState(op->estate);
	table_close(op->checked, NoLock);
	op->checked = NULL;
}

/* qsort_arg comparator of row numbers: by the places of their records, then as they came. */
static int
compare_rows(const void *a, const void *b, void *arg)
{
	const int64 *places = arg;
	int			left = *(const int *) a;
	int			right = *(const int *) b;

	if (places[left] != places[right])
		return places[left] < places[right] ? -1 : 1;
	return left - right;
}

/* The order in which the rows leave, or NULL: as they are. */
static int *
sort_rows(EmitOperator *op)
{
	int		   *order;

	if (op->ordered)
		return NULL;
	order = MemoryContextAllocHuge(op->cxt, sizeof(int) * op->nrows);
	for (int i = 0; i < op->nrows; i++)
		order[i] = i;
	qsort_arg(order, op->nrows, sizeof(int), compare_rows, op->places);
	return order;
}

/* Appends the rows to the local log. */
static void
write_local(EmitOperator *op)
{
	KsLogWriter *writer = ks_log_writer_open(op->def);
	const int  *order = sort_rows(op);

	for (int i = 0; i < op->nrows; i++)
	{
		heap_deform_tuple(op->tuples[order != NULL ? order[i] : i], op->desc, op->values, op->nulls);
		ks_log_writer_complete(writer, op->values, op->nulls);
		ks_log_writer_put(writer, op->values, op->nulls);
	}
	ks_log_writer_close(writer);
}

/* Puts the records into the outbox. */
static void
write_outbox(EmitOperator *op)
{
	const int  *order = sort_rows(op);

	if (order != NULL)
		op->packer = ks_packer_reorder(op->packer, order);
	ks_outbox_write(ks_outbox_of_stream(op->def), op->packer);
}

/* Writes the rows. */
static int64
emit_apply(KsOperator *base)
{
	EmitOperator *op = (EmitOperator *) base;
	MemoryContext old = MemoryContextSwitchTo(op->cxt);

	if (op->nrows > 0 && op->def->local)
		write_local(op);
	else if (op->nrows > 0)
		write_outbox(op);
	MemoryContextSwitchTo(old);
	return op->nrows;
}

/* See operator.h. */
KsOperator *
ks_emit_create(const KsQueryRow *query, const KsPlan *plan)
{
	EmitOperator *op = palloc0(sizeof(EmitOperator));

	op->base.begin = emit_begin;
	op->base.add = emit_add;
	op->base.check = emit_check;
	op->base.begin_to_check = true;
	op->base.finish = emit_finish;
	op->base.apply = emit_apply;
	op->query = query;
	op->plan = plan;
	return &op->base;
}
