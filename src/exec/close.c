/*
 * close.c
 *		What the watermark does with the groups of a windowed aggregate.
 *
 * emit = 'final': when a window closes, its groups leave the state and their
 * rows come into the table, once, in one transaction.  retention: some time
 * later the groups leave table and state.
 *
 * Groups that are due are found by an index over the end of the window, in its
 * order, a bounded number at a time: that costs what is due, not what there is.
 * The least watermark at which something is due is kept in memory between
 * batches, so that batches that close nothing do not look.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type_d.h"
#include "nodes/primnodes.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/faultpoint.h"
#include "catalog/names.h"
#include "exec/aggregate_int.h"

/* See aggregate_int.h. */
TimestampTz
ks_aggregate_window_time(AggregateOperator *op, Datum window)
{
	TimestampTz end = ks_window_end(op->late_filter.range, window);

	return TIMESTAMP_IS_NOEND(end) ? DT_NOBEGIN : end - (op->session_gap_us > 0 ? op->session_gap_us : 1);
}

/* Is the expression upper(window)?  A domain over the range makes no difference. */
static bool
is_end_of(Node *node, AttrNumber window)
{
	if (!IsA(node, FuncExpr) || ((FuncExpr *) node)->funcid != F_UPPER_ANYRANGE)
		return false;
	node = linitial(((FuncExpr *) node)->args);
	while (IsA(node, RelabelType))
		node = (Node *) ((RelabelType *) node)->arg;
	return IsA(node, Var) && ((Var *) node)->varattno == window;
}

/* Says which index is missing.  On a state table, users have nothing to do. */
static void
raise_no_index(AggregateOperator *op, KsTableWriter *writer, AttrNumber window)
{
	Oid			relid = RelationGetRelid(writer->rel);
	bool		is_state = relid == op->query->state;

	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 is_state ?
			 errmsg("the state of query \"%s\" has no index over the end of its windows", ks_query_display_name(op->query)) :
			 errmsg("table %s has no index over the end of its windows", ks_qualified_name(relid)),
			 is_state ?
			 errhint("Drop the query and create it again.") :
			 errhint("Create it again: CREATE INDEX ON %s (upper(%s));", ks_qualified_name(relid),
					 quote_identifier(get_attname(relid, window, false)))));
}

/* The index over upper(window) of a table. */
static Relation
end_index(AggregateOperator *op, KsTableWriter *writer, AttrNumber window)
{
	ResultRelInfo *rri = writer->rri;

	for (int i = 0; i < rri->ri_NumIndices; i++)
	{
		Relation	index = rri->ri_IndexRelationDescs[i];

		if (index->rd_index->indkey.values[0] == 0 && ks_index_is_in_order(index) &&
			is_end_of(linitial(RelationGetIndexExpressions(index)), window))
			return index;
	}
	raise_no_index(op, writer, window);
	return NULL;
}

/*
 * A scan of the windows that end from first to last, in order.  Whoever knows that
 * there are none before some end says so: entries of those that have left may
 * still be in the index.
 */
static IndexScanDesc
begin_scan(AggregateOperator *op, KsTableWriter *writer, TimestampTz first, TimestampTz last)
{
	AttrNumber	window = writer->keys->columns[op->plan->window_key].attnum;
	IndexScanDesc scan = ks_index_beginscan(writer->rel, end_index(op, writer, window), GetActiveSnapshot(), 2);
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_TIMESTAMP_GE, TimestampTzGetDatum(first));
	ScanKeyInit(&keys[1], 1, BTLessEqualStrategyNumber, F_TIMESTAMP_LE, TimestampTzGetDatum(last));
	index_rescan(scan, keys, 2, NULL, 0);
	return scan;
}

/* End of the window in the row at hand, or DT_NOEND. */
static TimestampTz
end_in_slot(AggregateOperator *op, KsTableWriter *writer)
{
	bool		isnull;
	Datum		window = slot_getattr(writer->old_slot, writer->keys->columns[op->plan->window_key].attnum, &isnull);

	return isnull ? DT_NOEND : ks_window_end(op->late_filter.range, window);
}

/* The least end of a window in the table behind the writer, from first on, or DT_NOEND. */
static TimestampTz
least_end(AggregateOperator *op, KsTableWriter *writer, TimestampTz first)
{
	IndexScanDesc scan = begin_scan(op, writer, first, END_TIMESTAMP);
	TimestampTz result = DT_NOEND;

	if (index_getnext_slot(scan, ForwardScanDirection, writer->old_slot))
		result = end_in_slot(op, writer);
	ExecClearTuple(writer->old_slot);
	index_endscan(scan);
	return result;
}

/*
 * collect_due
 *		Makes groups of the rows whose windows end at or before last, about limit of
 *		them; true if there are more.  No row ends before first; *rest becomes the
 *		least end that the other ones can have.
 */
static bool
collect_due(AggregateOperator *op, KsTableWriter *writer, TimestampTz first, TimestampTz last, int limit,
			TimestampTz *rest)
{
	KsKeySpec  *keys = writer->keys;
	IndexScanDesc scan = begin_scan(op, writer, first, last);
	Datum	   *values = palloc(sizeof(Datum) * keys->nkeys);
	bool	   *nulls = palloc(sizeof(bool) * keys->nkeys);
	bool		more = false;
	int			n = 0;

	op->groups = ks_group_table_create(keys, sizeof(AggGroup), 0);
	*rest = last + 1;
	while (index_getnext_slot(scan, ForwardScanDirection, writer->old_slot))
	{
		AggGroup   *group;
		bool		isnew;

		if (n++ >= limit)
		{
			*rest = end_in_slot(op, writer);
			more = true;
			break;
		}
		for (int i = 0; i < keys->nkeys; i++)
			values[i] = slot_getattr(writer->old_slot, keys->columns[i].attnum, &nulls[i]);
		group = (AggGroup *) ks_group_table_get(op->groups, values, nulls, &isnew);
		group->event_time = ks_aggregate_window_time(op, group->group.keys[op->plan->window_key]);
	}
	ExecClearTuple(writer->old_slot);
	index_endscan(scan);
	return more;
}

/* Deletes the row of a group, if there is one. */
static bool
delete_row(KsTableWriter *writer, AggGroup *group)
{
	if (!ks_writer_find(writer, group->group.hash, group->group.keys, group->group.nulls))
		return false;
	writer->event_time = group->event_time;
	ks_writer_delete(writer, group->group.hash, &writer->old_slot->tts_tid);
	return true;
}

/*
 * delete_collected
 *		Deletes the rows that collect_due has found.  One that is not found again by
 *		its key would be due for ever.
 */
static int64
delete_collected(AggregateOperator *op, KsTableWriter *writer)
{
	int			n = ks_group_table_count(op->groups);

	for (int g = 0; g < n; g++)
	{
		if (!delete_row(writer, (AggGroup *) ks_group_table_nth(op->groups, g)))
			elog(ERROR, "row of a closed window is not found by its key in \"%s\"",
				 RelationGetRelationName(writer->rel));
	}
	return n;
}

/* See aggregate_int.h. */
IndexScanDesc
ks_aggregate_scan_inputs(KsTableWriter *writer)
{
	for (int i = 0; i < writer->rri->ri_NumIndices; i++)
	{
		Relation	index = writer->rri->ri_IndexRelationDescs[i];

		if (index->rd_index->indkey.values[0] == 1)
			return ks_index_beginscan(writer->rel, index, GetActiveSnapshot(), 1);
	}
	elog(ERROR, "the index of kept inputs is missing");
	return NULL;
}

/* Deletes the kept inputs of the groups collected. */
static void
delete_inputs(AggregateOperator *op)
{
	KsTableWriter *writer;
	IndexScanDesc scan;

	if (!op->plan->keep_inputs)
		return;
	writer = ks_writer_open(op->query->inputs, NIL, NULL);
	scan = ks_aggregate_scan_inputs(writer);
	for (int g = 0; g < ks_group_table_count(op->groups); g++)
	{
		AggGroup   *group = (AggGroup *) ks_group_table_nth(op->groups, g);
		ScanKeyData key;

		ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(group->gid));
		index_rescan(scan, &key, 1, NULL, 0);
		while (index_getnext_slot(scan, ForwardScanDirection, writer->old_slot))
			ks_writer_delete(writer, 0, &writer->old_slot->tts_tid);
	}
	index_endscan(scan);
	ks_writer_close(writer);
}

/* Starts work on groups that are not of a batch. */
static void
begin_close(AggregateOperator *op)
{
	ks_agg_batch_reset(op->runner);
	CommandCounterIncrement();
	UpdateActiveSnapshotCommandId();
}

/* Loads the groups collected; with kept inputs that is their number only. */
static void
load_groups(AggregateOperator *op)
{
	for (int g = 0; g < ks_group_table_count(op->groups); g++)
	{
		AggGroup   *group = (AggGroup *) ks_group_table_nth(op->groups, g);

		ks_aggregate_load_group(op, group);
		group->changed = true;
	}
}

/* Writes the result rows of the groups; an error names the group. */
static int64
write_result(AggregateOperator *op)
{
	volatile int64 written = 0;

	op->culprit = NULL;
	PG_TRY();
	{
		written = ks_aggregate_write_result(op);
	}
	PG_CATCH();
	{
		ks_aggregate_raise(op, op->cxt);
	}
	PG_END_TRY();
	return written;
}

/*
 * emit_windows
 *		emit = 'final': rows of the windows that end at or before end come into the
 *		table, and their state goes.
 */
static int64
emit_windows(AggregateOperator *op, TimestampTz end, int limit, bool *more)
{
	KsTableWriter *writer;
	TimestampTz rest;
	int64		written;

	begin_close(op);
	op->writer = writer = ks_writer_open(op->query->state, op->state_keys, op->state_hints);
	*more = collect_due(op, writer, op->next_emit, end, limit, &rest);
	load_groups(op);
	written = write_result(op);
	KS_FAULT("between_emit_and_delete");
	(void) delete_collected(op, writer);
	delete_inputs(op);
	op->next_emit = least_end(op, writer, rest);
	ks_writer_close(writer);
	op->writer = NULL;
	return written;
}

/* retention: the windows that end at or before end leave table and state. */
static int64
expire_windows(AggregateOperator *op, TimestampTz end, int limit, bool *more)
{
	bool		from_result = op->state_is_visible || op->query->emit_final;
	KsTableWriter *writer;
	TimestampTz rest;
	int64		deleted = 0;
	int64		collected;

	begin_close(op);
	writer = from_result ? ks_writer_open(op->query->relation, op->result_keys, op->result_hints) :
		ks_writer_open(op->query->state, op->state_keys, op->state_hints);
	op->writer = writer;
	if (from_result)
		ks_writer_listen(writer);
	*more = collect_due(op, writer, op->next_expiry, end, limit, &rest);
	if (!from_result)
	{
		KsTableWriter *result = ks_writer_open(op->query->relation, op->result_keys, op->result_hints);

		ks_writer_listen(result);
		load_groups(op);
		delete_inputs(op);
		for (int g = 0; g < ks_group_table_count(op->groups); g++)
			deleted += delete_row(result, (AggGroup *) ks_group_table_nth(op->groups, g));
		ks_writer_close(result);
	}
	KS_FAULT("between_table_and_state");
	collected = delete_collected(op, writer);
	op->next_expiry = least_end(op, writer, rest);
	ks_writer_close(writer);
	op->writer = NULL;
	return from_result ? collected : deleted;
}

/* See operator.h. */
static TimestampTz
aggregate_next_close(KsOperator *base)
{
	AggregateOperator *op = (AggregateOperator *) base;

	return Min(ks_time_plus(op->next_emit, op->close_us), ks_time_plus(op->next_expiry, op->expiry_us));
}

/* See operator.h. */
static int64
aggregate_close(KsOperator *base, TimestampTz watermark, int limit, bool *more)
{
	AggregateOperator *op = (AggregateOperator *) base;
	int64		changed = 0;
	bool		emits = false;
	bool		expires = false;

	op->cxt = CurrentMemoryContext;
	if (ks_time_plus(op->next_emit, op->close_us) <= watermark)
		changed += emit_windows(op, watermark - op->close_us, limit, &emits);
	if (ks_time_plus(op->next_expiry, op->expiry_us) <= watermark)
		changed += expire_windows(op, watermark - op->expiry_us, limit, &expires);
	*more = emits || expires;
	return changed;
}

/* See aggregate_int.h. */
void
ks_aggregate_note_window(AggregateOperator *op, Datum window, bool in_result)
{
	TimestampTz end = ks_window_end(op->late_filter.range, window);

	if (op->query->emit_final && !in_result)
		op->next_emit = Min(op->next_emit, end);
	else if (op->query->retention_us >= 0)
		op->next_expiry = Min(op->next_expiry, end);
}

/* The least end of a window in a table. */
static TimestampTz
least_end_of(AggregateOperator *op, Oid relid, List *keys)
{
	KsTableWriter *writer = ks_writer_open(relid, keys, NULL);
	TimestampTz result = least_end(op, writer, DT_NOBEGIN);

	ks_writer_close(writer);
	return result;
}

/* See aggregate_int.h. */
void
ks_aggregate_init_close(AggregateOperator *op, KsAnalysis *analysis)
{
	const KsQueryRow *query = op->query;

	op->next_emit = op->next_expiry = DT_NOEND;
	if (analysis->window == KS_WINDOW_NONE)
		return;
	ks_late_filter_init(&op->late_filter, op->plan, query);
	op->session_gap_us = analysis->session_gap_us;
	if (!query->emit_final && query->retention_us < 0)
		return;
	op->close_us = ks_window_close_us(analysis, query);
	op->expiry_us = ks_window_expiry_us(analysis, query);
	op->base.next_close = aggregate_next_close;
	op->base.close = aggregate_close;
	if (query->emit_final)
		op->next_emit = least_end_of(op, query->state, op->state_keys);
	if (query->retention_us >= 0)
		op->next_expiry = op->state_is_visible || query->emit_final ?
			least_end_of(op, query->relation, op->result_keys) :
			least_end_of(op, query->state, op->state_keys);
}
