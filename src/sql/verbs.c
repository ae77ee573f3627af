/*
 * verbs.c
 *		kstream.pause, resume, reset and explain.
 *
 * A verb takes effect when its transaction commits; workers are told then.
 *
 * Runs in: any backend.  Transaction: needed.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type_d.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "plan/analyze.h"
#include "sql/ddl_query.h"
#include "sql/ddl_util.h"
#include "sql/restore.h"
#include "sql/verbs.h"
#include "store/position.h"
#include "worker/wakeup.h"

/* The query behind a table; an error if there is none. */
KsQueryRow *
ks_query_by_name(const char *name)
{
	Oid			relid = ks_relation_by_name(name);
	KsQueryRow *row = ks_query_load_by_relation(relid);

	if (row == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table that kstream keeps up to date", name),
				 errhint("The view kstream.queries lists those tables.")));
	return row;
}

/* The query of the first argument, which the caller must own. */
static KsQueryRow *
own_query(FunctionCallInfo fcinfo)
{
	KsQueryRow *row = ks_query_by_name(ks_arg_required(fcinfo, 0, "name"));

	ks_query_check_owner(row);
	return row;
}

/* Owners, and those who may monitor the server. */
bool
ks_may_see_query(const KsQueryRow *row)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(row->relation));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		return false;
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return has_privs_of_role(GetUserId(), owner) ||
		has_privs_of_role(GetUserId(), ROLE_PG_MONITOR);
}

/* What the query reads. */
List *
ks_query_streams(const KsQueryRow *row, List **lookups)
{
	KsAnalysis *analysis;

	if (lookups)
		*lookups = NIL;
	if (OidIsValid(row->source))
		return list_make1_oid(row->source);
	analysis = ks_analyze_view(row->view);
	if (lookups)
		*lookups = analysis->lookups;
	return analysis->streams;
}

PG_FUNCTION_INFO_V1(ks_pause);

/* pause(name): its worker stops after the batch it is in. */
Datum
ks_pause(PG_FUNCTION_ARGS)
{
	KsQueryRow *row = own_query(fcinfo);

	ks_query_set_paused(row->id, true);
	ks_notify_definitions_changed();
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(ks_resume);

/* resume(name): goes on from its positions, here, also after a restore. */
Datum
ks_resume(PG_FUNCTION_ARGS)
{
	KsQueryRow *row = own_query(fcinfo);

	ks_relink_query(row);
	ks_relink_local_logs();
	ks_query_set_paused(row->id, false);
	ks_notify_definitions_changed();
	ks_warn_not_preloaded(row->relation);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(ks_reset);

/* reset(name, start): everything the query has computed is forgotten; it begins anew. */
Datum
ks_reset(PG_FUNCTION_ARGS)
{
	KsQueryRow *row = own_query(fcinfo);
	Oid			types[2] = {INT4OID, TEXTOID};
	Datum		values[2];

	row->start = ks_parse_start(ks_arg_required(fcinfo, 1, "start"));
	if (OidIsValid(row->source) && strcmp(row->start, "earliest") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a table that follows a topic must be read from its beginning"),
				 errhint("Use start => 'earliest'.")));
	ks_query_take_over(row->id);

	values[0] = Int32GetDatum(row->id);
	values[1] = CStringGetTextDatum(row->start);
	SPI_connect();
	ks_clear_state(row);
	ks_positions_delete(row->id);
	ks_spi_execute("DELETE FROM kstream_catalog.dead_letter WHERE query = $1",
				   false, 1, types, values, NULL);
	ks_spi_execute("DELETE FROM kstream_catalog.late_record WHERE query = $1",
				   false, 1, types, values, NULL);
	ks_spi_execute("UPDATE kstream_catalog.query SET start = $2, generation = generation + 1,"
				   " last_sqlstate = NULL, last_error = NULL, last_error_at = NULL"
				   " WHERE id = $1", false, 2, types, values, NULL);
	SPI_finish();
	row->generation++;
	ks_positions_start(row, ks_query_streams(row, NULL));
	ks_notify_definitions_changed();
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(ks_explain);

/* explain(name): operators and statements of the query. */
Datum
ks_explain(PG_FUNCTION_ARGS)
{
	KsQueryRow *row = ks_query_by_name(ks_arg_required(fcinfo, 0, "name"));

	if (!ks_may_see_query(row))
		ks_query_check_owner(row);
	PG_RETURN_TEXT_P(cstring_to_text(ks_explain_query(row)));
}
