/*
 * fdw_modify.c
 *		INSERT and COPY into a stream; why UPDATE, DELETE and TRUNCATE do not work.
 *
 * A row is checked against the constraints of the foreign table (the executor
 * leaves that to the wrapper), gets its missing metadata and goes to the log,
 * where it appears for readers when the transaction commits, or to the outbox of
 * a stream over a topic, from which it is produced after the commit.
 *
 * Runs in: any backend, any worker, in a transaction.
 */
#include "postgres.h"

#include "access/table.h"
#include "executor/executor.h"
#include "foreign/fdwapi.h"
#include "nodes/parsenodes.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "stream/fdw_modify.h"
#include "stream/stream_writer.h"

typedef struct KsInsert
{
	KsStreamDef *def;
	KsStreamWriter *writer;
	TupleTableSlot *slot;		/* the completed row */
	bool		constraints;	/* NOT NULL or CHECK to be enforced */
} KsInsert;

static void begin_insert(ResultRelInfo *rinfo);
static bool is_tombstone(const KsInsert *insert);


/* ---------------------------------------------------------------- refusals */

/* A stream is an append-only log: called while UPDATE, DELETE or MERGE is planned. */
void
ks_add_foreign_update_targets(PlannerInfo *root, Index rtindex,
							  RangeTblEntry *target_rte, Relation target_relation)
{
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg(root->parse->commandType == CMD_UPDATE ?
					"cannot update stream \"%s\"" : "cannot delete from stream \"%s\"",
					RelationGetRelationName(target_relation)),
			 errdetail("The records of a stream do not change."),
			 errhint("INSERT a record that corrects the earlier one, or keep a table up to date from the stream.")));
}

/* Records leave a log by its retention. */
void
ks_exec_foreign_truncate(List *rels, DropBehavior behavior, bool restart_seqs)
{
	Relation	rel = linitial(rels);

	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("cannot truncate stream \"%s\"", RelationGetRelationName(rel)),
			 errdetail("The records of a stream do not change."),
			 errhint("Drop the stream and create it anew.")));
}

/* Streams take INSERT only. */
int
ks_is_foreign_rel_updatable(Relation rel)
{
	return 1 << CMD_INSERT;
}

/* Refuses early what cannot work. */
List *
ks_plan_foreign_modify(PlannerInfo *root, ModifyTable *plan, Index result_relation, int subplan_index)
{
	if (plan->onConflictAction == ONCONFLICT_UPDATE)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("INSERT with ON CONFLICT DO UPDATE is not supported for streams"),
				 errhint("A stream has no unique key; every record is kept.")));
	return NIL;
}

/* ---------------------------------------------------------------- INSERT */

/* INSERT begins. */
void
ks_begin_foreign_modify(ModifyTableState *mtstate, ResultRelInfo *rinfo,
						List *fdw_private, int subplan_index, int eflags)
{
	if (eflags & EXEC_FLAG_EXPLAIN_ONLY)
		return;
	begin_insert(rinfo);
}

/* COPY, or routing of rows to a partition, begins. */
void
ks_begin_foreign_insert(ModifyTableState *mtstate, ResultRelInfo *rinfo)
{
	begin_insert(rinfo);
}

/* Opens the stream. */
static void
begin_insert(ResultRelInfo *rinfo)
{
	Relation	rel = rinfo->ri_RelationDesc;
	TupleConstr *constr = RelationGetDescr(rel)->constr;
	KsInsert   *insert = palloc0(sizeof(KsInsert));

	insert->def = ks_stream_def_load(rel);
	insert->writer = ks_stream_writer_open(insert->def);
	insert->slot = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsVirtual);
	insert->slot->tts_tableOid = RelationGetRelid(rel);
	insert->constraints = constr != NULL && (constr->has_not_null || constr->num_check > 0);
	rinfo->ri_FdwState = insert;
}

/* One row.  The slot returned has the metadata filled in, for RETURNING and triggers. */
TupleTableSlot *
ks_exec_foreign_insert(EState *estate, ResultRelInfo *rinfo, TupleTableSlot *slot, TupleTableSlot *plan_slot)
{
	KsInsert   *insert = rinfo->ri_FdwState;
	TupleTableSlot *row = insert->slot;
	int			natts = row->tts_tupleDescriptor->natts;
	MemoryContext old;

	slot_getallattrs(slot);
	ExecClearTuple(row);
	memcpy(row->tts_values, slot->tts_values, sizeof(Datum) * natts);
	memcpy(row->tts_isnull, slot->tts_isnull, sizeof(bool) * natts);

	old = MemoryContextSwitchTo(GetPerTupleMemoryContext(estate));
	ks_stream_writer_complete(insert->writer, row->tts_values, row->tts_isnull);
	MemoryContextSwitchTo(old);
	ExecStoreVirtualTuple(row);

	if (insert->constraints && !is_tombstone(insert))
		ExecConstraints(rinfo, row, estate);
	ks_stream_writer_put(insert->writer, row->tts_values, row->tts_isnull);
	return row;
}

/* A deletion has no values that could violate a constraint. */
static bool
is_tombstone(const KsInsert *insert)
{
	AttrNumber	attnum = insert->def->meta[KS_META_TOMBSTONE];

	return attnum != 0 && DatumGetBool(insert->slot->tts_values[attnum - 1]);
}

/* INSERT or COPY has ended: writes what is collected. */
void
ks_end_foreign_modify(EState *estate, ResultRelInfo *rinfo)
{
	KsInsert   *insert = rinfo->ri_FdwState;

	if (insert == NULL)
		return;
	ks_stream_writer_close(insert->writer);
	ExecDropSingleTupleTableSlot(insert->slot);
	rinfo->ri_FdwState = NULL;
}
