/*
 * ddl_stream.c
 *		kstream.create_stream: sugar for CREATE FOREIGN TABLE.
 *
 * Runs in: any backend.  Transaction: needed.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "catalog/dedup_cat.h"
#include "catalog/stream_def.h"
#include "sql/ddl_util.h"
#include "stream/local_log.h"
#include "worker/wakeup.h"

/* Arguments of create_stream, in the order of the SQL declaration. */
enum
{
	ARG_NAME,
	ARG_COLUMNS,
	ARG_TOPIC,
	ARG_FORMAT,
	ARG_KEY,
	ARG_KEY_FORMAT,
	ARG_TIMESTAMP,
	ARG_SERVER,
	ARG_PARTITIONS,
	ARG_DEDUP_KEY,
	ARG_DEDUP_WINDOW,
	ARG_RETENTION,
	ARG_OPTIONS
};

/*
 * The value of option dedup_window.  The argument has a default, so where there
 * is no dedup_key only another value tells that the caller has given it.
 */
static char *
dedup_window(FunctionCallInfo fcinfo)
{
	Interval   *window;
	int64		usec;

	if (PG_ARGISNULL(ARG_DEDUP_WINDOW))
		return NULL;
	window = PG_GETARG_INTERVAL_P(ARG_DEDUP_WINDOW);
	usec = ks_dedup_window_usec(window);
	if (usec < 0)
		return DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(window)));
	if (PG_ARGISNULL(ARG_DEDUP_KEY) && usec == USECS_PER_DAY)
		return NULL;
	return ks_dedup_window_text(usec);
}

/* The options of the foreign table that the arguments stand for. */
static List *
stream_options(FunctionCallInfo fcinfo, const char *topic, bool local)
{
	List	   *options = NIL;

	if (!local || !PG_ARGISNULL(ARG_TOPIC))
		options = ks_add_option(options, "topic", topic);
	options = ks_add_option(options, "format", ks_arg_text(fcinfo, ARG_FORMAT));
	options = ks_add_option(options, "key", ks_arg_text(fcinfo, ARG_KEY));
	options = ks_add_option(options, "key_format", ks_arg_text(fcinfo, ARG_KEY_FORMAT));
	options = ks_add_option(options, "timestamp", ks_arg_text(fcinfo, ARG_TIMESTAMP));
	if (!PG_ARGISNULL(ARG_PARTITIONS))
		options = ks_add_option(options, "partitions",
								psprintf("%d", PG_GETARG_INT32(ARG_PARTITIONS)));
	options = ks_add_option(options, "dedup_key", ks_arg_text(fcinfo, ARG_DEDUP_KEY));
	options = ks_add_option(options, "dedup_window", dedup_window(fcinfo));
	return ks_add_jsonb_options(options, fcinfo, ARG_OPTIONS);
}

PG_FUNCTION_INFO_V1(ks_create_stream);

/* create_stream(name, columns, ...): the stream. */
Datum
ks_create_stream(PG_FUNCTION_ARGS)
{
	RangeVar   *name = ks_parse_new_name(ks_arg_required(fcinfo, ARG_NAME, "name"));
	char	   *server = ks_choose_server(PG_ARGISNULL(ARG_SERVER) ? NULL :
										  NameStr(*PG_GETARG_NAME(ARG_SERVER)));
	bool		local = ks_server_is_local(server);
	char	   *topic = ks_arg_text(fcinfo, ARG_TOPIC);
	KsUserText	columns = {.text = ks_arg_required(fcinfo, ARG_COLUMNS, "columns")};
	CreateForeignTableStmt *stmt;
	Oid			relid;

	if (!PG_ARGISNULL(ARG_RETENTION))
		ks_refuse_argument("retention", "Leave it out; a local log keeps all records.");
	if (topic == NULL)
		topic = name->relname;

	stmt = ks_parse_columns(&columns);
	stmt->base.relation = name;
	stmt->base.tableElts = ks_add_metadata_columns(stmt->base.tableElts, false);
	stmt->servername = server;
	stmt->options = stream_options(fcinfo, topic, local);
	ks_user_text_begin(&columns);
	ks_run_utility((Node *) stmt, columns.source);
	ks_user_text_end(&columns);

	relid = RangeVarGetRelid(name, NoLock, false);
	ks_check_stream(relid);
	if (local)
		ks_local_log_create(relid, PG_ARGISNULL(ARG_PARTITIONS) ? 1 : PG_GETARG_INT32(ARG_PARTITIONS));
	else if (!PG_ARGISNULL(ARG_PARTITIONS))
		ks_ensure_topic(server, topic, PG_GETARG_INT32(ARG_PARTITIONS));
	ks_notify_definitions_changed();
	PG_RETURN_OID(relid);
}
