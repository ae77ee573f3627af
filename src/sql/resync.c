/*
 * resync.c
 *		kstream.resync: how a sink goes on when its database and its topic differ.
 *
 * A database that was restored, or a standby that was promoted with records
 * missing, may hold other records than it has published.  The publisher finds
 * out and stops (worker/publisher.c); what to do then only a human knows.  The same
 * is true of a record that is too large for its topic.
 *
 * Runs in: any backend.  Transaction: needed.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "fmgr.h"
#include "utils/builtins.h"

#include "catalog/cat_util.h"
#include "catalog/query_cat.h"
#include "catalog/sink_cat.h"
#include "sql/ddl_util.h"
#include "sql/query_options.h"
#include "stream/outbox.h"
#include "worker/wakeup.h"

/* The sink of that name, or of the relation of that name. */
static KsSinkRow *
find_sink(const char *name)
{
	KsSinkRow  *sink = ks_sink_load_by_name(name);

	if (sink == NULL)
		sink = ks_sink_load_by_relation(ks_relation_by_name(name));
	if (sink == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not published to a topic", name),
				 errhint("The view kstream.sinks lists what is published.")));
	return sink;
}

/* What the outbox holds now is not published; what comes is, however late the worker looks. */
static void
continue_at_end(const KsSinkRow *sink, const char *name)
{
	int64		end = ks_outbox_end(sink);
	Oid			types[2] = {INT4OID, INT8OID};
	Datum		values[2] = {Int32GetDatum(sink->id), Int64GetDatum(end)};
	KsPublished published;

	ks_catalog_execute("UPDATE kstream_catalog.published SET resync_end = $2 WHERE sink = $1", 2, types, values);
	if (ks_published_load(sink->id, &published) && end > published.position)
		ereport(NOTICE,
				(errmsg(INT64_FORMAT " records of \"%s\" that wait will not be published", end - published.position, name),
				 errhint("To publish them, call kstream.resync(name, 'republish') in this transaction.")));
}

PG_FUNCTION_INFO_V1(ks_resync);

/* resync(name, mode): takes effect when the worker opens the sink anew. */
Datum
ks_resync(PG_FUNCTION_ARGS)
{
	char	   *name = ks_arg_required(fcinfo, 0, "name");
	KsSinkRow  *sink = find_sink(name);
	char	   *mode = ks_arg_required(fcinfo, 1, "mode");
	Oid			types[3] = {INT4OID, TEXTOID, TEXTOID};
	Datum		values[3] = {Int32GetDatum(sink->id)};
	bool		anew = strcmp(mode, "continue") == 0 || strcmp(mode, "republish") == 0;

	if (!anew && strcmp(mode, "replay") != 0 && strcmp(mode, "skip") != 0)
		ks_invalid_word("mode", mode, "'replay', 'continue', 'republish', 'skip'");
	ks_sink_check_owner(sink);
	if (strcmp(mode, "skip") == 0 &&
		(sink->last_sqlstate == NULL || strcmp(sink->last_sqlstate, unpack_sql_state(ERRCODE_PROGRAM_LIMIT_EXCEEDED)) != 0))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no record stops \"%s\"", name),
				 errhint("Only a record that the topic refuses for its size is left out; see last_error in the view kstream.sinks.")));
	values[1] = CStringGetTextDatum(mode);
	ks_catalog_execute("UPDATE kstream_catalog.published SET resync = $2 WHERE sink = $1", 2, types, values);
	if (strcmp(mode, "continue") == 0)
		continue_at_end(sink, name);
	/* a publisher of its own: it neither fences another one nor takes its position for ours */
	values[1] = CStringGetTextDatum(anew ? ks_outbox_new_incarnation() : sink->incarnation);
	values[2] = CStringGetTextDatum(ks_instance_id());
	ks_catalog_execute("UPDATE kstream_catalog.sink SET incarnation = $2, instance = $3,"
					   " generation = generation + 1,"
					   " last_sqlstate = NULL, last_error = NULL, last_error_at = NULL WHERE id = $1",
					   3, types, values);
	ks_notify_definitions_changed();
	PG_RETURN_VOID();
}
