/*
 * aggregate.c
 *		The operator of GROUP BY queries: states per group, kept between batches.
 *
 * While the row statement runs, each row finds its group; a group met for the
 * first time in the batch is loaded from the state table, and its aggregates go
 * on from their saved states.  Applying writes every touched group's state once
 * and brings the result table up to date (aggregate_result.c).
 *
 * Where the visible values are the states (count, sum, min ...), the result
 * table is the state table and there is only one write.
 *
 * Aggregates whose state cannot be saved keep their inputs: the state row holds
 * the number of the group, the inputs table its rows in order of arrival, and
 * the group is computed anew from them.
 *
 * One writer per group: whoever runs batches holds the query's lock.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "exec/aggregate_int.h"
#include "exec/index_key.h"

/* Columns of the state table after the keys, with kept inputs. */
#define STATE_GID 1
#define STATE_NINPUTS 2

/* Names the state's and the result's key columns have now. */
static void
name_keys(AggregateOperator *op, KsAnalysis *analysis)
{
	ListCell   *lc;
	int			i = 0;

	op->result_keys = op->state_keys = NIL;
	foreach(lc, analysis->group_exprs)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		op->result_keys = lappend(op->result_keys, get_attname(op->query->relation, tle->resno, false));
		op->state_keys = lappend(op->state_keys, psprintf("k%d", ++i));
	}
	if (op->state_is_visible)
		op->state_keys = op->result_keys;
}

/* Row type of inputs that are not kept, but wait until their session is known. */
static TupleDesc
make_inputs_desc(const KsPlan *plan)
{
	TupleDesc	desc = CreateTemplateTupleDesc(plan->ninputs + 2);

	TupleDescInitEntry(desc, 1, "_gid", INT8OID, -1, 0);
	TupleDescInitEntry(desc, 2, "_n", INT8OID, -1, 0);
	for (int i = 0; i < plan->ninputs; i++)
		TupleDescInitEntry(desc, i + 3, psprintf("c%d", i + 1), plan->input_types[i], -1, 0);
	return desc;
}

/* Starts an attempt: opens the state for reading. */
static void
aggregate_begin(KsOperator *base, MemoryContext cxt)
{
	AggregateOperator *op = (AggregateOperator *) base;
	MemoryContext old = MemoryContextSwitchTo(cxt);
	static KsKeySpec no_keys = {0, NULL};

	op->cxt = cxt;
	op->owner = CurrentResourceOwner;
	op->culprit = NULL;
	op->mark = 0;
	op->kept = NIL;
	ks_late_filter_begin(&op->late_filter);
	ks_agg_batch_reset(op->runner);
	op->writer = ks_writer_open(op->state_is_visible ? op->query->relation : op->query->state,
								op->state_keys, op->state_hints);
	op->groups = ks_group_table_create(op->writer->keys != NULL ? op->writer->keys : &no_keys,
									   sizeof(AggGroup), op->ngroups_before);
	op->origin = ks_row_origin_create(op->plan->origin, op->plan->time);
	op->ninputs = 0;
	op->maxinputs = 256;
	if (op->plan->keep_inputs)
	{
		Relation	rel = table_open(op->query->inputs, AccessShareLock);

		op->inputs_desc = CreateTupleDescCopy(RelationGetDescr(rel));
		table_close(rel, NoLock);
	}
	else if (op->plan->window == KS_WINDOW_SESSION)
		op->inputs_desc = make_inputs_desc(op->plan);
	if (op->inputs_desc != NULL)
		op->inputs = palloc(sizeof(AggInput) * op->maxinputs);
	if (op->plan->window == KS_WINDOW_SESSION)
		ks_session_begin(op);
	MemoryContextSwitchTo(old);
}

/* Attribute number in the state of aggregate i. */
static AttrNumber
state_attnum(AggregateOperator *op, int agg)
{
	if (!op->state_is_visible)
		return op->plan->nkeys + agg + 1;
	for (int i = 0; i < op->plan->nout; i++)
	{
		if (!op->plan->outputs[i].is_key && op->plan->outputs[i].index == agg)
			return i + 1;
	}
	elog(ERROR, "aggregate %d is not a result column", agg);
	return 0;
}

/* Does the flag column (a character per aggregate) say that there is a value? */
static bool
flag_is_set(AggregateOperator *op, TupleTableSlot *slot, int agg)
{
	bool		isnull;
	Datum		flags;

	if (!op->has_flags)
		return true;
	flags = slot_getattr(slot, op->plan->nkeys + op->plan->naggs + 1, &isnull);
	return isnull || TextDatumGetCString(flags)[agg] == '1';
}

/* See aggregate_int.h. */
void
ks_aggregate_read_inputs_state(AggregateOperator *op, TupleTableSlot *slot, int64 *gid, int64 *ninputs)
{
	bool		isnull;

	*gid = DatumGetInt64(slot_getattr(slot, op->plan->nkeys + STATE_GID, &isnull));
	*ninputs = DatumGetInt64(slot_getattr(slot, op->plan->nkeys + STATE_NINPUTS, &isnull));
}

/* See aggregate_int.h.  slot: NULL for a group that is new. */
void
ks_aggregate_restore(AggregateOperator *op, AggGroup *group, TupleTableSlot *slot, bool first)
{
	if (first)
		group->values = palloc0(sizeof(KsAggValue) * Max(op->plan->naggs, 1));
	for (int i = 0; i < op->plan->naggs; i++)
	{
		bool		isnull;
		Datum		saved;

		if (slot == NULL)
		{
			ks_agg_init(op->aggs[i], &group->values[i]);
			continue;
		}
		saved = slot_getattr(slot, state_attnum(op, i), &isnull);
		if (first)
			ks_agg_restore(op->aggs[i], &group->values[i], saved, isnull, flag_is_set(op, slot, i));
		else
			ks_agg_merge(op->aggs[i], &group->values[i], saved, isnull, flag_is_set(op, slot, i));
	}
}

/* See aggregate_int.h. */
void
ks_aggregate_load_group(AggregateOperator *op, AggGroup *group)
{
	KsTableWriter *writer = op->writer;

	group->exists = ks_writer_find(writer, group->group.hash, group->group.keys, group->group.nulls);
	group->changed = !group->exists;
	if (group->exists)
		group->tid = writer->old_slot->tts_tid;
	if (op->plan->keep_inputs)
	{
		if (group->exists)
			ks_aggregate_read_inputs_state(op, writer->old_slot, &group->gid, &group->ninputs);
		return;
	}
	ks_aggregate_restore(op, group, group->exists ? writer->old_slot : NULL, true);
}

/* See aggregate_int.h. */
int
ks_aggregate_keep_input(AggregateOperator *op, AggGroup *group, TupleTableSlot *slot, int64 number)
{
	int			ninputs = op->plan->ninputs;
	Datum	   *values = palloc0(sizeof(Datum) * (ninputs + 2));
	bool	   *nulls = palloc0(sizeof(bool) * (ninputs + 2));
	AggInput   *input;

	for (int i = 0; i < ninputs; i++)
	{
		values[i + 2] = slot->tts_values[op->plan->nkeys + i];
		nulls[i + 2] = slot->tts_isnull[op->plan->nkeys + i];
	}
	if (op->ninputs == op->maxinputs)
	{
		op->maxinputs *= 2;
		op->inputs = repalloc_huge(op->inputs, sizeof(AggInput) * op->maxinputs);
	}
	/* Its number; the group's is put in when it is known. */
	values[0] = Int64GetDatum(0);
	values[1] = Int64GetDatum(number);
	input = &op->inputs[op->ninputs];
	input->group = group;
	input->row = heap_form_tuple(op->inputs_desc, values, nulls);
	pfree(values);
	pfree(nulls);
	return op->ninputs++;
}

/* See aggregate_int.h.  values: columns of the row statement. */
void
ks_aggregate_advance(AggregateOperator *op, AggGroup *group, const Datum *values, const bool *nulls)
{
	NullableDatum args[FUNC_MAX_ARGS];

	op->culprit = group;
	for (int i = 0; i < op->plan->naggs; i++)
	{
		const KsPlanAgg *agg = &op->plan->aggs[i];

		if (agg->filtercol >= 0 && (nulls[agg->filtercol] || !DatumGetBool(values[agg->filtercol])))
			continue;
		for (int j = 0; j < agg->nargs; j++)
		{
			args[j].value = values[agg->argcols[j]];
			args[j].isnull = nulls[agg->argcols[j]];
		}
		ks_agg_advance(op->aggs[i], &group->values[i], args);
		group->changed = true;
	}
	op->culprit = NULL;
}

/* Has the window of the row closed? */
static bool
is_late(AggregateOperator *op, TupleTableSlot *slot)
{
	KsBatch    *batch;
	KsRow	   *row = ks_row_origin_find(op->origin, slot, &batch);

	return ks_late_filter_drops(&op->late_filter, &op->base, slot, batch, row);
}

/* Finds the group of a row, or loads it. */
static AggGroup *
find_group(AggregateOperator *op, TupleTableSlot *slot)
{
	bool		isnew;
	AggGroup   *group = (AggGroup *) ks_group_table_get(op->groups, slot->tts_values, slot->tts_isnull, &isnew);

	if (isnew)
	{
		/* what the writer pins stays pinned, though the record may have a subtransaction of its own */
		ResourceOwner old = CurrentResourceOwner;

		CurrentResourceOwner = op->owner;
		ks_aggregate_load_group(op, group);
		CurrentResourceOwner = old;
		group->changed = false;
		if (op->plan->wants_time)
			group->event_time = DT_NOBEGIN;
	}
	if (op->mark != 0)
		ks_aggregate_keep_group(op, group);
	/* whichever record makes it: the first one may be taken back */
	if (!group->exists)
		group->changed = true;
	return group;
}

/* Takes one row of the row statement. */
static void
aggregate_add(KsOperator *base, TupleTableSlot *slot)
{
	AggregateOperator *op = (AggregateOperator *) base;
	MemoryContext old = MemoryContextSwitchTo(op->cxt);
	AggGroup   *group;

	slot_getallattrs(slot);
	if (base->check != NULL)
		base->check(base, slot);
	/* of a join only records are late, and have been left out */
	if (op->plan->window != KS_WINDOW_NONE && op->plan->join == NULL && is_late(op, slot))
	{
		MemoryContextSwitchTo(old);
		return;
	}
	if (op->sessions != NULL && !slot->tts_isnull[op->plan->window_key])
	{
		ks_session_add(op, slot);
		MemoryContextSwitchTo(old);
		return;
	}
	group = find_group(op, slot);
	if (op->plan->wants_time)
		group->event_time = Max(group->event_time, ks_row_event_time(op->origin, slot));
	if (op->plan->keep_inputs)
	{
		(void) ks_aggregate_keep_input(op, group, slot, ++group->ninputs);
		group->changed = true;
	}
	else
		ks_aggregate_advance(op, group, slot->tts_values, slot->tts_isnull);
	MemoryContextSwitchTo(old);
}

/* A group key too long for the index makes a bad record. */
static void
aggregate_check(KsOperator *base, TupleTableSlot *slot)
{
	AggregateOperator *op = (AggregateOperator *) base;
	Size		size;

	slot_getallattrs(slot);
	size = ks_index_key_size(slot, 0, op->plan->nkeys);
	if (size > KS_MAX_KEY_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("group key of %zu bytes exceeds the limit of %d bytes", size, KS_MAX_KEY_BYTES),
				 errhint("Group by a hash of the value, for example md5().")));
}

/* Ends the first phase: the state was only read so far. */
static void
aggregate_finish(KsOperator *base)
{
	AggregateOperator *op = (AggregateOperator *) base;

	/* A global aggregate has its one group from the beginning. */
	if (op->plan->nkeys == 0)
	{
		MemoryContext old = MemoryContextSwitchTo(op->cxt);
		bool		isnew;
		AggGroup   *group = (AggGroup *) ks_group_table_get(op->groups, NULL, NULL, &isnew);

		if (isnew)
		{
			ks_aggregate_load_group(op, group);
			group->event_time = DT_NOBEGIN;
		}
		MemoryContextSwitchTo(old);
	}
	if (op->sessions != NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(op->cxt);

		ks_session_merge(op);
		MemoryContextSwitchTo(old);
	}
	ks_writer_close(op->writer);
	op->writer = NULL;
	op->ngroups_before = ks_group_table_count(op->groups);
}

/* Fills the writer's slot with the state of a group. */
static void
fill_state_slot(AggregateOperator *op, AggGroup *group)
{
	TupleTableSlot *slot = op->writer->slot;
	char	   *flags = op->has_flags ? palloc0(op->plan->naggs + 1) : NULL;

	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, sizeof(bool) * slot->tts_tupleDescriptor->natts);
	for (int i = 0; i < op->plan->nkeys; i++)
	{
		AttrNumber	attnum = op->writer->keys->columns[i].attnum;

		slot->tts_values[attnum - 1] = group->group.keys[i];
		slot->tts_isnull[attnum - 1] = group->group.nulls[i];
	}
	if (op->plan->keep_inputs)
	{
		slot->tts_values[op->plan->nkeys + STATE_GID - 1] = Int64GetDatum(group->gid);
		slot->tts_isnull[op->plan->nkeys + STATE_GID - 1] = false;
		slot->tts_values[op->plan->nkeys + STATE_NINPUTS - 1] = Int64GetDatum(group->ninputs);
		slot->tts_isnull[op->plan->nkeys + STATE_NINPUTS - 1] = false;
	}
	else
	{
		for (int i = 0; i < op->plan->naggs; i++)
		{
			AttrNumber	attnum = state_attnum(op, i);
			bool		has_value;

			slot->tts_values[attnum - 1] = ks_agg_save(op->aggs[i], &group->values[i],
													   &slot->tts_isnull[attnum - 1], &has_value);
			if (flags != NULL)
				flags[i] = has_value ? '1' : '0';
		}
		if (flags != NULL)
		{
			slot->tts_values[op->plan->nkeys + op->plan->naggs] = CStringGetTextDatum(flags);
			slot->tts_isnull[op->plan->nkeys + op->plan->naggs] = false;
		}
	}
	/* A column repeated in the select list is repeated in the table. */
	if (op->state_is_visible)
	{
		for (int i = 0; i < op->plan->nout; i++)
		{
			KsPlanOutput *out = &op->plan->outputs[i];
			AttrNumber	from = out->is_key ? op->writer->keys->columns[out->index].attnum :
				state_attnum(op, out->index);

			slot->tts_values[i] = slot->tts_values[from - 1];
			slot->tts_isnull[i] = slot->tts_isnull[from - 1];
		}
	}
	ExecStoreVirtualTuple(slot);
}

/* A changed group and where it belongs among the others. */
typedef struct WriteOrder
{
	bool		isnew;
	uint64		place;
	AggGroup   *group;
} WriteOrder;

/*
 * The first bytes of the first key column, so that they compare as unsigned
 * numbers roughly as the index orders them.
 */
static uint64
key_place(AggregateOperator *op, AggGroup *group)
{
	const KsKeyColumn *column;
	unsigned char bytes[8] = {0};
	uint64		place = 0;
	const char *data;
	Size		len;

	if (op->plan->nkeys == 0 || group->group.nulls[0])
		return PG_UINT64_MAX;
	column = &op->writer->keys->columns[0];
	if (column->typbyval)
		return (uint64) group->group.keys[0] ^ (UINT64CONST(1) << 63);
	data = DatumGetPointer(group->group.keys[0]);
	len = column->typlen > 0 ? column->typlen : 0;
	if (column->typlen == -1 && !VARATT_IS_EXTENDED(data) && !VARATT_IS_SHORT(data))
	{
		len = VARSIZE(data) - VARHDRSZ;
		data = VARDATA(data);
	}
	else if (column->typlen == -1 && VARATT_IS_SHORT(data) && !VARATT_IS_EXTERNAL(data))
	{
		len = VARSIZE_SHORT(data) - VARHDRSZ_SHORT;
		data = VARDATA_SHORT(data);
	}
	memcpy(bytes, data, Min(len, sizeof(bytes)));
	for (int i = 0; i < sizeof(bytes); i++)
		place = place << 8 | bytes[i];
	return place;
}

/* Rows that exist come first. */
static int
compare_places(const void *a, const void *b)
{
	const WriteOrder *left = a;
	const WriteOrder *right = b;

	if (left->isnew != right->isnew)
		return left->isnew ? 1 : -1;
	if (left->place != right->place)
		return left->place < right->place ? -1 : 1;
	return left->group->group.number < right->group->group.number ? -1 : 1;
}

/*
 * changed_groups
 *		The groups that the batch changed, in the order in which they are written:
 *		rows of one page, and new keys that are neighbours in the index, together,
 *		since thousands of visits at random cost more than the writing itself.
 */
static WriteOrder *
changed_groups(AggregateOperator *op, int *count)
{
	int			n = ks_group_table_count(op->groups);
	WriteOrder *order = palloc(sizeof(WriteOrder) * n);

	*count = 0;
	for (int i = 0; i < n; i++)
	{
		AggGroup   *group = (AggGroup *) ks_group_table_nth(op->groups, i);
		WriteOrder *next = &order[*count];

		if (!group->changed)
			continue;
		next->isnew = !group->exists;
		next->group = group;
		next->place = group->exists ?
			(uint64) ItemPointerGetBlockNumber(&group->tid) << 16 | ItemPointerGetOffsetNumber(&group->tid) :
			key_place(op, group);
		(*count)++;
	}
	qsort(order, *count, sizeof(WriteOrder), compare_places);
	return order;
}

/* Writes the states of all changed groups; returns how many. */
static int64
write_states(AggregateOperator *op)
{
	WriteOrder *order;
	int			changed;

	op->writer = ks_writer_open(op->state_is_visible ? op->query->relation : op->query->state,
								op->state_keys, op->state_hints);
	if (op->state_is_visible)
		ks_writer_listen(op->writer);
	if (op->sessions != NULL)
		(void) ks_session_write(op);
	order = changed_groups(op, &changed);
	for (int i = 0; i < changed; i++)
	{
		AggGroup   *group = order[i].group;

		op->culprit = group;
		op->writer->event_time = group->event_time;
		if (op->plan->keep_inputs && !group->exists)
			group->gid = nextval_internal(get_relname_relid("log_batch", get_namespace_oid("kstream_catalog", false)),
										  false);
		fill_state_slot(op, group);
		if (group->exists)
			ks_writer_update(op->writer, group->group.hash, &group->tid);
		else
			ks_writer_insert(op->writer, group->group.hash);
		if (op->base.close != NULL && (!group->exists || op->sessions != NULL) &&
			!group->group.nulls[op->plan->window_key])
			ks_aggregate_note_window(op, group->group.keys[op->plan->window_key], false);
	}
	ks_writer_close(op->writer);
	op->writer = NULL;
	op->culprit = NULL;
	return changed;
}

/* Appends the kept inputs, now that their groups have numbers. */
static void
write_inputs(AggregateOperator *op)
{
	KsTableWriter *writer;
	HeapTuple  *tuples;

	if (op->ninputs == 0)
		return;
	tuples = palloc(sizeof(HeapTuple) * op->ninputs);
	for (int i = 0; i < op->ninputs; i++)
	{
		Datum		gid = Int64GetDatum(op->inputs[i].group->gid);
		bool		isnull = false;
		int			attnum = 1;

		tuples[i] = heap_modify_tuple_by_cols(op->inputs[i].row, op->inputs_desc, 1, &attnum, &gid, &isnull);
	}
	writer = ks_writer_open(op->query->inputs, NIL, NULL);
	ks_writer_append(writer, tuples, NULL, op->ninputs);
	ks_writer_close(writer);
}

/* Writes what the batch changed. */
static int64
aggregate_apply(KsOperator *base)
{
	AggregateOperator *op = (AggregateOperator *) base;
	MemoryContext old;
	volatile int64 changed = 0;

	if (ks_group_table_count(op->groups) == 0)
		return 0;
	old = MemoryContextSwitchTo(op->cxt);
	op->culprit = NULL;
	PG_TRY();
	{
		changed = write_states(op);
		if (op->plan->keep_inputs)
			write_inputs(op);
		if (op->query->emit_final)
			changed = 0;
		else if (!op->state_is_visible)
			changed = ks_aggregate_write_result(op);
	}
	PG_CATCH();
	{
		ks_aggregate_raise(op, old);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	return changed;
}

/* Memory context callback: saved plans live elsewhere and would stay. */
static void
drop_plans_callback(void *arg)
{
	AggregateOperator *op = arg;

	if (op->final_plan != NULL)
		SPI_freeplan(op->final_plan);
	if (op->recompute_plan != NULL)
		SPI_freeplan(op->recompute_plan);
	op->final_plan = op->recompute_plan = NULL;
}

/* See operator.h. */
KsOperator *
ks_aggregate_create(const KsQueryRow *query, const KsPlan *plan, KsAnalysis *analysis)
{
	AggregateOperator *op = palloc0(sizeof(AggregateOperator));

	op->base.begin = aggregate_begin;
	op->base.add = aggregate_add;
	op->base.check = plan->nkeys > 0 ? aggregate_check : NULL;
	/* kept inputs and sessions are aggregated when all records have come */
	if (!plan->keep_inputs && plan->window != KS_WINDOW_SESSION)
	{
		op->base.mark = ks_aggregate_mark;
		op->base.undo = ks_aggregate_undo;
	}
	op->base.explain_error = ks_aggregate_name_group;
	op->base.finish = aggregate_finish;
	op->base.apply = aggregate_apply;
	op->callback.func = drop_plans_callback;
	op->callback.arg = op;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &op->callback);
	op->query = query;
	op->plan = plan;
	op->state_is_visible = analysis->state_is_visible;
	op->runner = ks_agg_runner_create();
	op->state_hints = ks_table_hints_create();
	op->result_hints = ks_table_hints_create();
	name_keys(op, analysis);
	ks_aggregate_init_close(op, analysis);
	if (!plan->keep_inputs)
	{
		op->aggs = palloc(sizeof(KsAgg *) * Max(plan->naggs, 1));
		for (int i = 0; i < plan->naggs; i++)
			op->aggs[i] = ks_agg_create(op->runner, plan->aggs[i].aggref);
		op->has_flags = !op->state_is_visible &&
			get_attnum(query->state, "_has") != InvalidAttrNumber;
	}
	return &op->base;
}
