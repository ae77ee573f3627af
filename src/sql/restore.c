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

#include "catalog/dedup_cat.h"
#include "sql/ddl_sink.h"
#include "catalog/changelog_cat.h"
#include "sql/ddl_util.h"
#include "sql/restore.h"
#include "store/join_buffer.h"
#include "worker/wakeup.h"

/* Makes the parts of the query belong to its table again. */
void
ks_relink_query(const KsQueryRow *row)
{
	Oid			parts[] = {row->view, row->source, row->state, row->inputs};
	List	   *of_view = ks_dedup_part_relations(row->id);
	ListCell   *lc;

	if (get_rel_relkind(row->relation) == '\0')
		return;
	for (int i = 0; i < lengthof(parts); i++)
	{
		if (!OidIsValid(parts[i]) || get_rel_relkind(parts[i]) == '\0')
			continue;
		if (row->name == NULL)
			ks_depend_internally(parts[i], row->relation);
		else
			ks_depend_automatically(parts[i], row->relation);
	}
	if (row->kind == KS_QUERY_STREAM)
		of_view = list_concat(of_view, ks_join_buffers(row->id));
	else
	{
		foreach(lc, ks_join_buffers(row->id))
			ks_depend_internally(lfirst_oid(lc), row->relation);
	}
	foreach(lc, of_view)
	{
		if (get_rel_relkind(lfirst_oid(lc)) != '\0' && get_rel_relkind(row->view) != '\0')
			ks_depend_internally(lfirst_oid(lc), row->view);
	}
}

/* Makes the parts of all sinks belong to what they publish again. */
void
ks_relink_sinks(void)
{
	ListCell   *lc;

	foreach(lc, ks_sink_ids())
		ks_relink_sink(ks_sink_load(lfirst_int(lc)));
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

/* Says something although a dump lowers client_min_messages to warning. */
static void
notice(const char *message, const char *hint)
{
	int			nestlevel = NewGUCNestLevel();

	(void) set_config_option("client_min_messages", "notice", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	ereport(NOTICE,
			(errmsg("%s", message),
			 errhint("%s", hint)));
	AtEOXact_GUC(true, nestlevel);
}

PG_FUNCTION_INFO_V1(ks_restore_query_row);

/* BEFORE INSERT ROW on kstream_catalog.query and sink: the row belongs to no database yet. */
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
	ListCell   *lc;

	if (trigdata->tg_newtable == NULL || tuplestore_tuple_count(trigdata->tg_newtable) == 0)
		return PointerGetDatum(NULL);
	CommandCounterIncrement();	/* makes the new rows visible */
	foreach(lc, ks_query_ids())
		ks_relink_query(ks_query_load(lfirst_int(lc)));
	ks_notify_definitions_changed();
	notice("restored continuous queries are paused",
		   "Let each go on with kstream.resume(name); view kstream.queries lists them.");
	return PointerGetDatum(NULL);
}

PG_FUNCTION_INFO_V1(ks_restore_sink);

/* AFTER INSERT STATEMENT on kstream_catalog.sink: links the parts, says how to go on. */
Datum
ks_restore_sink(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = trigger_data(fcinfo);

	if (trigdata->tg_newtable == NULL || tuplestore_tuple_count(trigdata->tg_newtable) == 0)
		return PointerGetDatum(NULL);
	CommandCounterIncrement();	/* makes the new rows visible */
	ks_relink_sinks();
	ks_notify_definitions_changed();
	notice("restored sinks are paused",
		   "Let each go on with kstream.resume(name); view kstream.sinks lists them.");
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

PG_FUNCTION_INFO_V1(ks_restore_dedup_part);

/* AFTER INSERT STATEMENT on kstream_catalog.dedup_part: links the tables with queries that are there already. */
Datum
ks_restore_dedup_part(PG_FUNCTION_ARGS)
{
	ListCell   *lc;

	(void) trigger_data(fcinfo);
	CommandCounterIncrement();	/* makes the new rows visible */
	foreach(lc, ks_query_ids())
		ks_relink_query(ks_query_load(lfirst_int(lc)));
	return PointerGetDatum(NULL);
}

/* Makes the tables of one changelog belong to their relation again. */
static void
relink_changelog(const KsChangelogRow *row)
{
	if (get_rel_relkind(row->relation) == '\0')
		return;
	for (int i = 0; i < 2; i++)
	{
		const Oid	parts[2] = {row->halves[i].rows, row->halves[i].segments};

		for (int j = 0; j < 2; j++)
		{
			if (OidIsValid(parts[j]) && get_rel_relkind(parts[j]) != '\0')
				ks_depend_internally(parts[j], row->relation);
		}
	}
}

/* Makes the tables of all changelogs belong to their relations again. */
void
ks_relink_changelogs(void)
{
	ListCell   *lc;

	foreach(lc, ks_changelog_relations())
	{
		KsChangelogRow *row = ks_changelog_load(lfirst_oid(lc), NULL);

		if (row != NULL)
			relink_changelog(row);
	}
}

PG_FUNCTION_INFO_V1(ks_restore_changelog);

/* AFTER INSERT STATEMENT on kstream_catalog.changelog: links all. */
Datum
ks_restore_changelog(PG_FUNCTION_ARGS)
{
	(void) trigger_data(fcinfo);
	CommandCounterIncrement();
	ks_relink_changelogs();
	return PointerGetDatum(NULL);
}

PG_FUNCTION_INFO_V1(ks_instance_id_sql);

/* instance_id(): see ks_instance_id. */
Datum
ks_instance_id_sql(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(ks_instance_id()));
}
