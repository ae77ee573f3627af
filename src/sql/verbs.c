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
#include "sql/ddl_sink.h"
#include "sql/ddl_util.h"
#include "sql/query_options.h"
#include "sql/restore.h"
#include "sql/verbs.h"
#include "store/dedup.h"
#include "store/position.h"
#include "worker/wakeup.h"

/* The query behind a name; an error if there is none. */
KsQueryRow *
ks_query_by_name(const char *name)
{
	KsQueryRow *row = ks_query_load_by_name(name);

	if (row != NULL)
		return row;
	row = ks_query_load_by_relation(ks_relation_by_name(name));
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

/* Adds the sink of a relation that has no name of its own. */
static void
add_unnamed_sink(KsNamed *named, Oid relation)
{
	KsSinkRow  *sink = OidIsValid(relation) ? ks_sink_load_by_relation(relation) : NULL;

	if (sink != NULL)
		named->sinks = lappend(named->sinks, sink);
}

/* See verbs.h. */
void
ks_named_lookup(const char *name, KsNamed *named)
{
	KsSinkRow  *sink;
	Oid			relid;

	named->sinks = NIL;
	named->query = ks_query_load_by_name(name);
	if (named->query != NULL)
		return;
	sink = ks_sink_load_by_name(name);
	if (sink != NULL)
	{
		named->sinks = list_make1(sink);
		return;
	}
	relid = ks_relation_by_name(name);
	named->query = ks_query_load_by_relation(relid);
	add_unnamed_sink(named, relid);
	if (named->query != NULL)
		add_unnamed_sink(named, named->query->source);
	if (named->query == NULL && named->sinks == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table that kstream keeps up to date", name),
				 errhint("The views kstream.queries and kstream.sinks list what has a name here.")));
}

/* What the first argument names, which the caller must own. */
static void
own_named(FunctionCallInfo fcinfo, KsNamed *named)
{
	ListCell   *lc;

	ks_named_lookup(ks_arg_required(fcinfo, 0, "name"), named);
	if (named->query != NULL)
		ks_query_check_owner(named->query);
	foreach(lc, named->sinks)
		ks_sink_check_owner(lfirst(lc));
}

/* Owners, and those who may monitor the server. */
bool
ks_may_see_relation(Oid relation)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		return false;
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return has_privs_of_role(GetUserId(), owner) ||
		has_privs_of_role(GetUserId(), ROLE_PG_MONITOR);
}

/* See verbs.h. */
bool
ks_may_see_query(const KsQueryRow *row)
{
	return ks_may_see_relation(row->relation);
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

/*
 * pause(name): its worker stops after the batch it is in.  A query is paused, not
 * the publishing of what it has computed, unless there is only that.
 */
Datum
ks_pause(PG_FUNCTION_ARGS)
{
	KsNamed		named;
	ListCell   *lc;

	own_named(fcinfo, &named);
	if (named.query != NULL)
		ks_query_set_paused(named.query->id, true);
	else
	{
		foreach(lc, named.sinks)
			ks_sink_set_paused(((KsSinkRow *) lfirst(lc))->id, true);
	}
	ks_notify_definitions_changed();
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(ks_resume);

/* resume(name): goes on from its positions, here, also after a restore. */
Datum
ks_resume(PG_FUNCTION_ARGS)
{
	KsNamed		named;
	ListCell   *lc;

	own_named(fcinfo, &named);
	ks_relink_local_logs();
	if (named.query != NULL)
	{
		ks_relink_query(named.query);
		ks_query_set_paused(named.query->id, false);
		ks_warn_not_preloaded(named.query->relation);
	}
	foreach(lc, named.sinks)
	{
		KsSinkRow  *sink = lfirst(lc);

		ks_relink_sink(sink);
		ks_sink_set_paused(sink->id, false);
		ks_sink_check(ks_sink_load(sink->id));
	}
	ks_relink_changelogs();
	ks_notify_definitions_changed();
	PG_RETURN_VOID();
}

/* What was written into a stream cannot be taken back, so it would be there twice. */
static void
check_resettable(const KsQueryRow *row)
{
	if (get_rel_relkind(row->relation) == RELKIND_FOREIGN_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("continuous query \"%s\" cannot be reset, because it writes into a stream",
						ks_query_display_name(row)),
				 errdetail("Records of a stream cannot be taken back; they would be written once more."),
				 errhint("Create another stream with the same query.")));
}

PG_FUNCTION_INFO_V1(ks_reset);

/* reset(name, start): everything the query has computed is forgotten; it begins anew. */
Datum
ks_reset(PG_FUNCTION_ARGS)
{
	KsQueryRow *row = own_query(fcinfo);
	Oid			types[2] = {INT4OID, TEXTOID};
	Datum		values[2];

	check_resettable(row);
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
	ks_dedup_clear(row->id);
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

/* explain(name): operators and statements of the query, and what is published of it. */
Datum
ks_explain(PG_FUNCTION_ARGS)
{
	KsNamed		named;
	StringInfoData buf;
	ListCell   *lc;

	ks_named_lookup(ks_arg_required(fcinfo, 0, "name"), &named);
	initStringInfo(&buf);
	if (named.query != NULL)
	{
		if (!ks_may_see_query(named.query))
			ks_query_check_owner(named.query);
		appendStringInfoString(&buf, ks_explain_query(named.query));
	}
	foreach(lc, named.sinks)
	{
		KsSinkRow  *sink = lfirst(lc);

		if (!ks_may_see_relation(sink->relation))
			ks_sink_check_owner(sink);
		ks_explain_sink(&buf, sink);
	}
	PG_RETURN_TEXT_P(cstring_to_text_with_len(buf.data, buf.len));
}
