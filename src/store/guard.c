/*
 * guard.c
 *		Keeps everybody but kstream from writing to the tables it maintains.
 *
 * A BEFORE STATEMENT trigger refuses INSERT, UPDATE, DELETE, TRUNCATE, COPY and
 * MERGE whatever way they come; it costs nothing per row.  It is enabled ALWAYS,
 * so that session_replication_role = replica does not get around it.  pg_dump
 * restores triggers after the data, so a restore is not hindered.
 *
 * Runs in: any backend.  Transaction: needed.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "catalog/names.h"
#include "catalog/query_cat.h"
#include "store/guard.h"

/* The table that may be written now, and the subtransaction in which it may. */
static Oid	pass_relid = InvalidOid;
static SubTransactionId pass_subid = InvalidSubTransactionId;

/* The end of a transaction ends the pass. */
static void
guard_xact_callback(XactEvent event, void *arg)
{
	pass_relid = InvalidOid;
}

/* So does the abort of the subtransaction it was given in. */
static void
guard_subxact_callback(SubXactEvent event, SubTransactionId subid,
					   SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB && subid == pass_subid)
		pass_relid = InvalidOid;
}

/* Lets statements of this subtransaction write to the table. */
void
ks_guard_pass_begin(Oid relid)
{
	static bool registered = false;

	if (!registered)
	{
		RegisterXactCallback(guard_xact_callback, NULL);
		RegisterSubXactCallback(guard_subxact_callback, NULL);
		registered = true;
	}
	pass_relid = relid;
	pass_subid = GetCurrentSubTransactionId();
}

/* Takes the pass back. */
void
ks_guard_pass_end(void)
{
	pass_relid = InvalidOid;
}

/* Puts the trigger on a table, as the extension's owner. */
void
ks_guard_install(Oid relid)
{
	const char *table = ks_qualified_name(relid);

	SPI_connect();
	ks_spi_execute(psprintf("CREATE OR REPLACE TRIGGER " KS_GUARD_TRIGGER
							" BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON %s"
							" FOR EACH STATEMENT EXECUTE FUNCTION kstream_catalog.guard_write()",
							table), false, 0, NULL, NULL, NULL);
	ks_spi_execute(psprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER " KS_GUARD_TRIGGER, table),
				   false, 0, NULL, NULL, NULL);
	SPI_finish();
}

/* What was tried, for the message. */
static const char *
event_verb(TriggerEvent event)
{
	if (TRIGGER_FIRED_BY_INSERT(event))
		return "insert into";
	if (TRIGGER_FIRED_BY_UPDATE(event))
		return "update";
	if (TRIGGER_FIRED_BY_DELETE(event))
		return "delete from";
	return "truncate";
}

PG_FUNCTION_INFO_V1(ks_guard_write);

/* The trigger: refuses the statement unless it is ours. */
Datum
ks_guard_write(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	Relation	rel;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called by trigger manager", "guard_write")));
	rel = trigdata->tg_relation;
	if (RelationGetRelid(rel) == pass_relid && GetCurrentSubTransactionId() == pass_subid)
		return PointerGetDatum(NULL);

	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("cannot %s table \"%s\"", event_verb(trigdata->tg_event),
					RelationGetRelationName(rel)),
			 errdetail("The table is kept up to date by kstream."),
			 errhint("Change what it is computed from: insert into the stream it reads, or produce to its topic.")));
	return PointerGetDatum(NULL);	/* keep compilers quiet */
}
