/*
 * restore.c
 *		Triggers that a restore of a dump fires on the catalog's tables.
 *
 * Our own inserts into kstream_catalog.query do not fire triggers, so a row
 * that does comes from a dump.  It gets an instance that no database has: the
 * query stays blocked until kstream.resume.  The dependencies between a query
 * and its hidden parts, which a dump does not hold, are made anew.
 *
 * Runs in: any backend.  Transaction: needed.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

#include "sql/ddl_util.h"
#include "sql/restore.h"
#include "store/join_buffer.h"
#include "worker/wakeup.h"

/* Never the name of a database: see ks_instance_id. */
#define KS_RESTORED_INSTANCE "restored"

/* Makes the parts of the query belong to its table again. */
void
ks_relink_query(const KsQueryRow *row)
{
	List	   *parts = lappend_oid(lappend_oid(lappend_oid(lappend_oid(ks_join_buffers(row->id), row->view),
															row->source), row->state), row->inputs);
	ListCell   *lc;

	if (get_rel_relkind(row->relation) == '\0')
		return;
	foreach(lc, parts)
	{
		if (OidIsValid(lfirst_oid(lc)) && get_rel_relkind(lfirst_oid(lc)) != '\0')
			ks_depend_internally(lfirst_oid(lc), row->relation);
	}
}

/* Makes the tables of one log belong to their stream again. */
static void
relink_local_log(Oid stream, Oid log, Oid segments)
{
	if (get_rel_relkind(stream) == '\0')
		return;
	if (get_rel_relkind(log) != '\0')
		ks_depend_internally(log, stream);
	if (get_rel_relkind(segments) != '\0')
		ks_depend_internally(segments, stream);
}

/* Makes the logs of local streams belong to their streams again. */
void
ks_relink_local_logs(void)
{
	SPI_connect();
	ks_spi_execute("SELECT relation::oid, log::oid, segments::oid FROM kstream_catalog.local_log",
				   false, 0, NULL, NULL, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;

		relink_local_log(DatumGetObjectId(SPI_getbinval(tuple, desc, 1, &isnull)),
						 DatumGetObjectId(SPI_getbinval(tuple, desc, 2, &isnull)),
						 DatumGetObjectId(SPI_getbinval(tuple, desc, 3, &isnull)));
	}
	SPI_finish();
}

/* An error unless called as a trigger. */
static TriggerData *
trigger_data(FunctionCallInfo fcinfo)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function was not called by trigger manager")));
	return (TriggerData *) fcinfo->context;
}

PG_FUNCTION_INFO_V1(ks_restore_query_row);

/* BEFORE INSERT ROW on kstream_catalog.query: the row belongs to no database yet. */
Datum
ks_restore_query_row(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = trigger_data(fcinfo);
	TupleDesc	desc = RelationGetDescr(trigdata->tg_relation);
	int			attnum = SPI_fnumber(desc, "instance");
	Datum		value = CStringGetTextDatum(KS_RESTORED_INSTANCE);
	bool		isnull = false;

	return PointerGetDatum(heap_modify_tuple_by_cols(trigdata->tg_trigtuple, desc, 1,
													 &attnum, &value, &isnull));
}

PG_FUNCTION_INFO_V1(ks_restore_query);

/* AFTER INSERT STATEMENT on kstream_catalog.query: links the parts, says how to go on. */
Datum
ks_restore_query(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = trigger_data(fcinfo);
	int			nestlevel;
	ListCell   *lc;

	if (trigdata->tg_newtable == NULL || tuplestore_tuple_count(trigdata->tg_newtable) == 0)
		return PointerGetDatum(NULL);
	CommandCounterIncrement();	/* makes the new rows visible */
	foreach(lc, ks_query_ids())
		ks_relink_query(ks_query_load(lfirst_int(lc)));
	ks_notify_definitions_changed();

	/* a dump lowers client_min_messages to warning */
	nestlevel = NewGUCNestLevel();
	(void) set_config_option("client_min_messages", "notice", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	ereport(NOTICE,
			(errmsg("restored continuous queries are paused"),
			 errhint("Let each go on with kstream.resume(name); view kstream.queries lists them.")));
	AtEOXact_GUC(true, nestlevel);
	return PointerGetDatum(NULL);
}

PG_FUNCTION_INFO_V1(ks_restore_local_log);

/* AFTER INSERT STATEMENT on kstream_catalog.local_log: links the logs that were inserted. */
Datum
ks_restore_local_log(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = trigger_data(fcinfo);
	TupleDesc	desc = RelationGetDescr(trigdata->tg_relation);
	TupleTableSlot *slot;

	if (trigdata->tg_newtable == NULL)
		return PointerGetDatum(NULL);
	slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	while (tuplestore_gettupleslot(trigdata->tg_newtable, true, false, slot))
	{
		bool		isnull;

		relink_local_log(DatumGetObjectId(slot_getattr(slot, 1, &isnull)),
						 DatumGetObjectId(slot_getattr(slot, 2, &isnull)),
						 DatumGetObjectId(slot_getattr(slot, 3, &isnull)));
	}
	ExecDropSingleTupleTableSlot(slot);
	return PointerGetDatum(NULL);
}

PG_FUNCTION_INFO_V1(ks_instance_id_sql);

/* instance_id(): see ks_instance_id. */
Datum
ks_instance_id_sql(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(ks_instance_id()));
}
