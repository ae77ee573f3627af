/*
 * drop.c
 *		Event trigger sql_drop: catalog rows go with what they describe, triggers do not
 *		go before.
 *
 * Parts of a query are dropped with its table through pg_depend; what lost its
 * link (after a restore of data only) is dropped here.
 *
 * Runs in: any backend.  Transaction: needed.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type_d.h"
#include "commands/event_trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "catalog/dedup_cat.h"
#include "catalog/query_cat.h"
#include "sql/ddl_sink.h"
#include "sql/sink_guard.h"
#include "store/join_buffer.h"
#include "worker/wakeup.h"

/* Drops a part that the drop of the whole has left. */
static void
drop_leftover(Oid relid)
{
	ObjectAddress address;

	if (!OidIsValid(relid) || get_rel_relkind(relid) == '\0')
		return;
	ObjectAddressSet(address, RelationRelationId, relid);
	performDeletion(&address, DROP_RESTRICT, PERFORM_DELETION_INTERNAL);
	CommandCounterIncrement();
}

/* The relations the command dropped, as oid[]; NULL if there are none. */
static ArrayType *
dropped_relations(void)
{
	Datum	   *oids;
	ArrayType  *result;

	ks_spi_execute("SELECT objid FROM pg_event_trigger_dropped_objects()"
				   " WHERE classid = 'pg_class'::regclass AND objsubid = 0",
				   false, 0, NULL, NULL, NULL);
	if (SPI_processed == 0)
		return NULL;
	oids = palloc(SPI_processed * sizeof(Datum));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;

		oids[i] = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);
	}
	result = construct_array(oids, (int) SPI_processed, OIDOID, sizeof(Oid), true, TYPALIGN_INT);
	return result;
}

/* The ids that a statement finds for the relations. */
static List *
ids_with_relation(const char *sql, ArrayType *relations)
{
	Oid			types[1] = {OIDARRAYOID};
	Datum		values[1] = {PointerGetDatum(relations)};
	List	   *ids = NIL;

	ks_spi_execute(sql, false, 1, types, values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;

		ids = lappend_int(ids, DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i],
														   SPI_tuptable->tupdesc, 1, &isnull)));
	}
	return ids;
}

/* Removes the queries that have lost their table or a part. */
static void
drop_queries(ArrayType *relations)
{
	List	   *ids = ids_with_relation("SELECT id FROM kstream_catalog.query"
									" WHERE ARRAY[relation, view, source, state, inputs]::oid[] && $1", relations);
	ListCell   *lc;

	foreach(lc, ids)
	{
		KsQueryRow *row = ks_query_load(lfirst_int(lc));
		List	   *parts;
		ListCell   *lc2;

		if (row == NULL)
			continue;
		parts = list_concat(ks_dedup_part_relations(row->id), ks_join_buffers(row->id));
		ks_query_delete(row->id);
		drop_leftover(row->view);
		drop_leftover(row->source);
		drop_leftover(row->state);
		drop_leftover(row->inputs);
		foreach(lc2, parts)
			drop_leftover(lfirst_oid(lc2));
	}
	if (ids != NIL)
		ks_notify_definitions_changed();
}

/* Removes the sinks that have lost their relation, their target or their outbox. */
static void
drop_sinks(ArrayType *relations)
{
	List	   *ids = ids_with_relation("SELECT id FROM kstream_catalog.sink"
									" WHERE ARRAY[relation, target, outbox0, segments0, outbox1, segments1]::oid[] && $1 ORDER BY id", relations);
	ListCell   *lc;

	foreach(lc, ids)
	{
		KsSinkRow  *sink = ks_sink_load(lfirst_int(lc));

		if (sink != NULL)
			ks_sink_drop(sink);
	}
}

/* Removes the logs of local streams that are gone. */
static void
drop_local_logs(ArrayType *relations)
{
	Oid			types[1] = {OIDARRAYOID};
	Datum		values[1] = {PointerGetDatum(relations)};
	List	   *leftovers = NIL;
	ListCell   *lc;

	ks_spi_execute("DELETE FROM kstream_catalog.local_log"
				   " WHERE relation = ANY ($1) RETURNING log::oid, segments::oid",
				   false, 1, types, values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		for (int col = 1; col <= 2; col++)
		{
			bool		isnull;

			leftovers = lappend_oid(leftovers,
									DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i],
																   SPI_tuptable->tupdesc,
																   col, &isnull)));
		}
	}
	foreach(lc, leftovers)
		drop_leftover(lfirst_oid(lc));
}

/* Forgets the changelogs of tables that are gone, and of those that have lost a part. */
static void
drop_changelogs(ArrayType *relations)
{
	Oid			types[1] = {OIDARRAYOID};
	Datum		values[1] = {PointerGetDatum(relations)};
	List	   *leftovers = NIL;
	ListCell   *lc;

	ks_spi_execute("DELETE FROM kstream_catalog.changelog"
				   " WHERE ARRAY[relation, log0, segments0, log1, segments1]::oid[] && $1"
				   " RETURNING log0::oid, segments0::oid, log1::oid, segments1::oid",
				   false, 1, types, values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		for (int col = 1; col <= 4; col++)
		{
			bool		isnull;
			Datum		part = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, col, &isnull);

			if (!isnull)
				leftovers = lappend_oid(leftovers, DatumGetObjectId(part));
		}
	}
	foreach(lc, leftovers)
		drop_leftover(lfirst_oid(lc));
}

/* Raises an error if triggers that kstream needs were dropped, and not their tables. */
static void
check_triggers(void)
{
	ks_spi_execute("SELECT address_names[1], address_names[2], address_names[3]"
				   " FROM pg_event_trigger_dropped_objects()"
				   " WHERE object_type = 'trigger' AND address_names[3] LIKE 'kstream\\_%'",
				   false, 0, NULL, NULL, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		Oid			schema = get_namespace_oid(SPI_getvalue(tuple, desc, 1), true);

		if (OidIsValid(schema))
			ks_check_trigger_stays(get_relname_relid(SPI_getvalue(tuple, desc, 2), schema),
								   SPI_getvalue(tuple, desc, 3), "drop");
	}
}

PG_FUNCTION_INFO_V1(ks_sql_drop);

/* The event trigger. */
Datum
ks_sql_drop(PG_FUNCTION_ARGS)
{
	ArrayType  *relations;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called by event trigger manager", "sql_drop")));
	SPI_connect();
	check_triggers();
	relations = dropped_relations();
	if (relations)
	{
		drop_queries(relations);
		drop_sinks(relations);
		drop_local_logs(relations);
		drop_changelogs(relations);
	}
	SPI_finish();
	PG_RETURN_NULL();
}
