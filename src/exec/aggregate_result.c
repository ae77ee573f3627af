/*
 * aggregate_result.c
 *		From touched groups to rows of the result table.
 *
 * Three ways to compute a row: take keys and final values as they are; run the
 * final statement (select list and HAVING) over the touched groups, shown to it
 * as an in-memory relation; or, with kept inputs, recompute each group.  Then
 * the row is compared with the one in the table and written only if it differs;
 * a group that HAVING turns away has no row.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "tcop/dest.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

#include "base/compat.h"
#include "base/guc.h"
#include "base/subxact.h"
#include "exec/aggregate_int.h"
#include "exec/statement.h"

/* Receives the rows of the final statement. */
typedef struct FinalReceiver
{
	DestReceiver pub;
	AggregateOperator *op;
	TupleDesc	desc;			/* of the result table */
} FinalReceiver;

/* Row type of KS_GROUPS_RELATION. */
static TupleDesc
make_groups_desc(const KsPlan *plan)
{
	TupleDesc	desc = CreateTemplateTupleDesc(plan->nkeys + plan->naggs + 1);
	AttrNumber	attnum = 1;

	for (int i = 0; i < plan->nkeys; i++, attnum++)
	{
		TupleDescInitEntry(desc, attnum, psprintf("k%d", i + 1), plan->key_types[i], plan->key_typmods[i], 0);
		TupleDescInitEntryCollation(desc, attnum, plan->key_collations[i]);
	}
	for (int i = 0; i < plan->naggs; i++, attnum++)
	{
		TupleDescInitEntry(desc, attnum, psprintf("a%d", i + 1), plan->aggs[i].aggref->aggtype, -1, 0);
		TupleDescInitEntryCollation(desc, attnum, plan->aggs[i].aggref->aggcollid);
	}
	TupleDescInitEntry(desc, attnum, "g", INT4OID, -1, 0);
	return desc;
}

/* Keys, final values and number of a group, as a row of KS_GROUPS_RELATION. */
static void
fill_group_values(AggregateOperator *op, AggGroup *group, Datum *values, bool *nulls)
{
	int			nkeys = op->plan->nkeys;

	for (int i = 0; i < nkeys; i++)
	{
		values[i] = group->group.keys[i];
		nulls[i] = group->group.nulls[i];
	}
	for (int i = 0; i < op->plan->naggs; i++)
		values[nkeys + i] = ks_agg_final(op->aggs[i], &group->values[i], &nulls[nkeys + i]);
	values[nkeys + op->plan->naggs] = Int32GetDatum(group->group.number);
	nulls[nkeys + op->plan->naggs] = false;
}

/* Result rows that simply are keys and final values. */
static void
compute_plain_rows(AggregateOperator *op, TupleDesc desc)
{
	int			n = ks_group_table_count(op->groups);
	int			width = op->plan->nkeys + op->plan->naggs + 1;
	Datum	   *values = palloc(sizeof(Datum) * width);
	bool	   *nulls = palloc(sizeof(bool) * width);
	Datum	   *out = palloc0(sizeof(Datum) * desc->natts);
	bool	   *outnull = palloc(sizeof(bool) * desc->natts);

	memset(outnull, true, sizeof(bool) * desc->natts);
	for (int g = 0; g < n; g++)
	{
		AggGroup   *group = (AggGroup *) ks_group_table_nth(op->groups, g);

		if (!group->changed)
			continue;
		op->culprit = group;
		fill_group_values(op, group, values, nulls);
		for (int i = 0; i < op->plan->nout; i++)
		{
			KsPlanOutput *output = &op->plan->outputs[i];
			int			from = output->is_key ? output->index : op->plan->nkeys + output->index;

			out[i] = values[from];
			outnull[i] = nulls[from];
		}
		op->rows[g] = ks_form_minimal_tuple(desc, out, outnull);
	}
	op->culprit = NULL;
}

/* Keeps one row of the final statement under its group's number. */
static bool
final_receive(TupleTableSlot *slot, DestReceiver *self)
{
	FinalReceiver *receiver = (FinalReceiver *) self;
	AggregateOperator *op = receiver->op;
	MemoryContext old = MemoryContextSwitchTo(op->cxt);
	int			natts = receiver->desc->natts;
	Datum	   *values = palloc0(sizeof(Datum) * natts);
	bool	   *nulls = palloc(sizeof(bool) * natts);
	int			nout = op->plan->nout;

	slot_getallattrs(slot);
	memset(nulls, true, sizeof(bool) * natts);
	memcpy(values, slot->tts_values, sizeof(Datum) * nout);
	memcpy(nulls, slot->tts_isnull, sizeof(bool) * nout);
	op->rows[DatumGetInt32(slot->tts_values[nout])] = ks_form_minimal_tuple(receiver->desc, values, nulls);
	pfree(values);
	pfree(nulls);
	MemoryContextSwitchTo(old);
	return true;
}

/* The in-memory relation with groups from..to. */
static Tuplestorestate *
make_groups_store(AggregateOperator *op, int from, int to)
{
	Tuplestorestate *store = tuplestore_begin_heap(false, false, work_mem);
	int			width = op->groups_desc->natts;
	Datum	   *values = palloc(sizeof(Datum) * width);
	bool	   *nulls = palloc(sizeof(bool) * width);

	for (int g = from; g < to; g++)
	{
		AggGroup   *group = (AggGroup *) ks_group_table_nth(op->groups, g);

		if (!group->changed)
			continue;
		fill_group_values(op, group, values, nulls);
		tuplestore_putvalues(store, op->groups_desc, values, nulls);
	}
	return store;
}

/* Runs the final statement over groups from..to. */
static void
run_final_statement(AggregateOperator *op, TupleDesc desc, int from, int to)
{
	FinalReceiver receiver = {ks_row_receiver(final_receive), op, desc};
	EphemeralNamedRelation enr = palloc0(sizeof(EphemeralNamedRelationData));
	SPIExecuteOptions options = {0};
	int			rc;

	enr->md.name = KS_GROUPS_RELATION;
	enr->md.tupdesc = op->groups_desc;
	enr->md.enrtype = ENR_NAMED_TUPLESTORE;
	enr->md.enrtuples = to - from;
	enr->reldata = make_groups_store(op, from, to);
	/* One may be left over from an attempt that failed. */
	(void) SPI_unregister_relation(KS_GROUPS_RELATION);
	if (SPI_register_relation(enr) != SPI_OK_REL_REGISTER)
		elog(ERROR, "could not register relation \"%s\"", KS_GROUPS_RELATION);
	if (op->final_plan == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare(op->plan->final_sql, 0, NULL);

		if (plan == NULL)
			elog(ERROR, "could not prepare the final statement: %s", SPI_result_code_string(SPI_result));
		SPI_keepplan(plan);
		op->final_plan = plan;
	}
	if (ks_log_statements)
		ereport(LOG,
				(errmsg("continuous query \"%s\" runs over %d groups: %s",
						get_rel_name(op->query->relation), to - from, op->plan->final_sql),
				 errhidestmt(true)));
	options.dest = &receiver.pub;
	rc = SPI_execute_plan_extended(op->final_plan, &options);
	if (rc < 0)
		elog(ERROR, "could not run the final statement: %s", SPI_result_code_string(rc));
	SPI_unregister_relation(KS_GROUPS_RELATION);
	tuplestore_end(enr->reldata);
}

/*
 * compute_final_rows
 *		Result rows by the final statement.  An error in it belongs to a group, not
 *		to a record; to name the group, the statement is run again group by group.
 */
static void
compute_final_rows(AggregateOperator *op, TupleDesc desc)
{
	int			n = ks_group_table_count(op->groups);
	KsSubxact	sub;
	ErrorData  *volatile edata = NULL;

	ks_subxact_begin(&sub);
	PG_TRY();
	{
		run_final_statement(op, desc, 0, n);
		ks_subxact_commit(&sub);
	}
	PG_CATCH();
	{
		edata = ks_subxact_abort(&sub);
	}
	PG_END_TRY();
	if (edata == NULL)
		return;
	/* A cancelled statement is nobody's fault. */
	if (ERRCODE_TO_CATEGORY(edata->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
		ReThrowError(edata);
	for (int g = 0; g < n; g++)
	{
		op->culprit = (AggGroup *) ks_group_table_nth(op->groups, g);
		run_final_statement(op, desc, g, g + 1);
	}
	op->culprit = NULL;
}

/* Result rows recomputed from kept inputs, group by group. */
static void
recompute_rows(AggregateOperator *op, TupleDesc desc)
{
	int			n = ks_group_table_count(op->groups);
	int			nkeys = op->plan->nkeys;
	Datum	   *args = palloc(sizeof(Datum) * (nkeys + 1));
	char	   *argnulls = palloc(nkeys + 2);

	if (op->recompute_plan == NULL)
	{
		Oid		   *types = palloc(sizeof(Oid) * (nkeys + 1));

		types[0] = INT8OID;
		memcpy(types + 1, op->plan->key_types, sizeof(Oid) * nkeys);
		op->recompute_plan = SPI_prepare(op->plan->recompute_sql, nkeys + 1, types);
		if (op->recompute_plan == NULL)
			elog(ERROR, "could not prepare the recomputing statement: %s", SPI_result_code_string(SPI_result));
		SPI_keepplan(op->recompute_plan);
	}
	if (ks_log_statements)
		ereport(LOG,
				(errmsg("continuous query \"%s\" runs for each of %d groups: %s",
						get_rel_name(op->query->relation), n, op->plan->recompute_sql),
				 errhidestmt(true)));
	for (int g = 0; g < n; g++)
	{
		AggGroup   *group = (AggGroup *) ks_group_table_nth(op->groups, g);
		Datum	   *values;
		bool	   *nulls;

		if (!group->changed)
			continue;
		op->culprit = group;
		args[0] = Int64GetDatum(group->gid);
		argnulls[0] = ' ';
		for (int i = 0; i < nkeys; i++)
		{
			args[i + 1] = group->group.keys[i];
			argnulls[i + 1] = group->group.nulls[i] ? 'n' : ' ';
		}
		if (SPI_execute_plan(op->recompute_plan, args, argnulls, false, 0) != SPI_OK_SELECT)
			elog(ERROR, "could not run the recomputing statement");
		if (SPI_processed == 0)
			continue;
		values = palloc0(sizeof(Datum) * Max(desc->natts, op->plan->nout));
		nulls = palloc(sizeof(bool) * Max(desc->natts, op->plan->nout));
		memset(nulls, true, sizeof(bool) * desc->natts);
		heap_deform_tuple(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, values, nulls);
		op->rows[g] = ks_form_minimal_tuple(desc, values, nulls);
		SPI_freetuptable(SPI_tuptable);
	}
	op->culprit = NULL;
}

/* Writes the row of one group, if it differs from the one in the table. */
static bool
write_row(AggregateOperator *op, KsTableWriter *writer, TupleTableSlot *row_slot, AggGroup *group)
{
	MinimalTuple row = op->rows[group->group.number];
	bool		exists = group->exists &&
		ks_writer_find(writer, group->group.hash, group->group.keys, group->group.nulls);
	TupleTableSlot *slot = writer->slot;

	writer->event_time = group->event_time;
	if (row == NULL)
	{
		if (exists)
			ks_writer_delete(writer, group->group.hash, &writer->old_slot->tts_tid);
		return exists;
	}
	ExecStoreMinimalTuple(row, row_slot, false);
	slot_getallattrs(row_slot);
	ExecClearTuple(slot);
	memcpy(slot->tts_values, row_slot->tts_values, sizeof(Datum) * slot->tts_tupleDescriptor->natts);
	memcpy(slot->tts_isnull, row_slot->tts_isnull, sizeof(bool) * slot->tts_tupleDescriptor->natts);
	ExecStoreVirtualTuple(slot);
	if (!exists)
	{
		ks_writer_insert(writer, group->group.hash);
		if (op->query->emit_final && !group->group.nulls[op->plan->window_key])
			ks_aggregate_note_window(op, group->group.keys[op->plan->window_key], true);
	}
	else if (!ks_slots_identical(writer->old_slot, slot))
		ks_writer_update(writer, group->group.hash, &writer->old_slot->tts_tid);
	else
		return false;
	return true;
}

/* See aggregate_int.h. */
int64
ks_aggregate_write_result(AggregateOperator *op)
{
	int			n = ks_group_table_count(op->groups);
	KsTableWriter *writer;
	TupleTableSlot *row_slot;
	int64		changed = 0;

	op->rows = palloc0(sizeof(MinimalTuple) * n);
	op->groups_desc = make_groups_desc(op->plan);
	writer = ks_writer_open(op->query->relation, op->result_keys, op->result_hints);
	ks_writer_listen(writer);
	if (op->plan->keep_inputs)
		recompute_rows(op, RelationGetDescr(writer->rel));
	else if (op->plan->outputs != NULL)
		compute_plain_rows(op, RelationGetDescr(writer->rel));
	else
		compute_final_rows(op, RelationGetDescr(writer->rel));

	row_slot = MakeSingleTupleTableSlot(RelationGetDescr(writer->rel), &TTSOpsMinimalTuple);
	for (int g = 0; g < n; g++)
	{
		AggGroup   *group = (AggGroup *) ks_group_table_nth(op->groups, g);

		op->culprit = group;
		if (group->changed && write_row(op, writer, row_slot, group))
			changed++;
	}
	ExecDropSingleTupleTableSlot(row_slot);
	ks_writer_close(writer);
	op->culprit = NULL;
	return changed;
}
