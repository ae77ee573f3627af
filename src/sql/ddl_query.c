/*
 * ddl_query.c
 *		kstream.create_table_as: a table that a continuous query keeps up to date.
 *
 * The query text becomes a view (kstream_query.q_<id>), so that Postgres itself
 * analyses it, tracks what it depends on, and dumps it.  View and table are
 * created as the caller; the view is then moved to our schema and made an
 * internal part of the table.
 *
 * Runs in: any backend.  Transaction: needed.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/defrem.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/analyze.h"
#include "parser/parse_relation.h"
#include "parser/parser.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "plan/analyze.h"
#include "sql/ddl_query.h"
#include "sql/ddl_util.h"
#include "store/guard.h"
#include "store/position.h"
#include "worker/wakeup.h"

#define MAX_BATCH_INTERVAL_MS (3600 * 1000)
#define MAX_BATCH_ROWS 10000000

/* Arguments of create_table_as, in the order of the SQL declaration. */
enum
{
	ARG_NAME,
	ARG_QUERY,
	ARG_PRIMARY_KEY,
	ARG_TOPIC,
	ARG_KEY_FORMAT,
	ARG_FORMAT,
	ARG_SERVER,
	ARG_START,
	ARG_GRACE,
	ARG_RETENTION,
	ARG_EMIT,
	ARG_IDLE_TIMEOUT,
	ARG_ON_ERROR,
	ARG_GUARANTEE,
	ARG_BATCH_ROWS,
	ARG_BATCH_INTERVAL,
	ARG_WORKERS,
	ARG_STORE,
	ARG_KEEP_CHANGES,
	ARG_PAUSED
};

/* An argument that has one of a few words as its value. */
static void
invalid_word(const char *name, const char *value, const char *words)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for argument \"%s\": \"%s\"", name, value),
			 errhint("It is one of %s.", words)));
}

/* Tells what a start may be when the timestamp does not parse. */
static void
start_error(void *arg)
{
	errhint("A start is 'earliest', 'latest' or a timestamp.");
}

/* 'earliest', 'latest', or a timestamp, which is returned in UTC. */
char *
ks_parse_start(const char *start)
{
	ErrorContextCallback callback = {.callback = start_error,.previous = error_context_stack};
	TimestampTz when;
	struct pg_tm tm;
	fsec_t		fsec;
	char		buf[MAXDATELEN + 1];

	if (strcmp(start, "earliest") == 0 || strcmp(start, "latest") == 0)
		return pstrdup(start);

	error_context_stack = &callback;
	when = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(start),
												   ObjectIdGetDatum(InvalidOid),
												   Int32GetDatum(-1)));
	if (TIMESTAMP_NOT_FINITE(when) || timestamp2tm(when, NULL, &tm, &fsec, NULL, NULL) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp \"%s\" is out of range", start)));
	error_context_stack = callback.previous;
	tm.tm_isdst = 0;			/* UTC, and to be printed with its zone */
	EncodeDateTime(&tm, fsec, true, 0, NULL, USE_ISO_DATES, buf);
	return pstrdup(buf);
}

/* A batch interval in milliseconds, -1 for NULL. */
static int
batch_interval_ms(FunctionCallInfo fcinfo)
{
	Interval   *interval;
	int64		ms;

	if (PG_ARGISNULL(ARG_BATCH_INTERVAL))
		return -1;
	interval = PG_GETARG_INTERVAL_P(ARG_BATCH_INTERVAL);
	ms = interval->day * INT64CONST(86400000) + interval->time / 1000;
	if (interval->month != 0 || ms < 0 || ms > MAX_BATCH_INTERVAL_MS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"batch_interval\" is out of range"),
				 errhint("It is an interval from 0 to 1 hour.")));
	return (int) ms;
}

/* Refuses options of the contract that this version cannot keep. */
static void
refuse_unsupported(FunctionCallInfo fcinfo)
{
	static const struct
	{
		int			arg;
		const char *name;
		const char *hint;
	}			absent[] = {
		{ARG_TOPIC, "topic", "Leave it out; the result is a table only."},
		{ARG_KEY_FORMAT, "key_format", "Leave it out; the result is a table only."},
		{ARG_FORMAT, "format", "Leave it out; the result is a table only."},
		{ARG_SERVER, "server", "Leave it out; the result is a table only."},
		{ARG_KEEP_CHANGES, "keep_changes", "Leave it out; read the table itself."},
	};
	const char *guarantee = ks_arg_required(fcinfo, ARG_GUARANTEE, "guarantee");

	for (int i = 0; i < lengthof(absent); i++)
	{
		if (!PG_ARGISNULL(absent[i].arg))
			ks_refuse_argument(absent[i].name, absent[i].hint);
	}
	if (strcmp(guarantee, "at_least_once") == 0)
		ks_refuse_argument("guarantee => 'at_least_once'", "Use guarantee => 'exactly_once'.");
	if (strcmp(guarantee, "exactly_once") != 0)
		invalid_word("guarantee", guarantee, "'exactly_once', 'at_least_once'");
	if (!PG_ARGISNULL(ARG_WORKERS) && PG_GETARG_INT32(ARG_WORKERS) > 1)
		ks_refuse_argument("workers", "Use workers => 1.");
	if (!PG_ARGISNULL(ARG_WORKERS) && PG_GETARG_INT32(ARG_WORKERS) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"workers\" must be at least 1")));
}

/* The options of event time; what they mean for the query is checked with it (plan/window.c). */
static void
read_time_arguments(FunctionCallInfo fcinfo, KsQueryRow *row)
{
	const char *emit = ks_arg_required(fcinfo, ARG_EMIT, "emit");

	row->grace_us = ks_arg_interval_us(fcinfo, ARG_GRACE, "grace", 0);
	row->retention_us = ks_arg_interval_us(fcinfo, ARG_RETENTION, "retention", -1);
	row->idle_timeout_us = ks_arg_interval_us(fcinfo, ARG_IDLE_TIMEOUT, "idle_timeout", USECS_PER_MINUTE);
	row->emit_final = strcmp(emit, "final") == 0;
	if (!row->emit_final && strcmp(emit, "changes") != 0)
		invalid_word("emit", emit, "'changes', 'final'");
}

/* The access method of the result table, NULL for the default one. */
static const char *
table_access_method(FunctionCallInfo fcinfo)
{
	const char *store = ks_arg_required(fcinfo, ARG_STORE, "store");

	if (strcmp(store, "logged") == 0)
		return NULL;
	if (strcmp(store, "unlogged") == 0)
		ks_refuse_argument("store => 'unlogged'", "Use store => 'logged' or the name of a table access method.");
	get_table_am_oid(store, false);
	return store;
}

/* Fills in what the arguments say about how the query runs. */
static void
read_arguments(FunctionCallInfo fcinfo, KsQueryRow *row)
{
	const char *on_error = ks_arg_required(fcinfo, ARG_ON_ERROR, "on_error");

	refuse_unsupported(fcinfo);
	read_time_arguments(fcinfo, row);
	row->start = ks_parse_start(ks_arg_required(fcinfo, ARG_START, "start"));
	row->stop_on_error = strcmp(on_error, "stop") == 0;
	if (!row->stop_on_error && strcmp(on_error, "dead_letter") != 0)
		invalid_word("on_error", on_error, "'dead_letter', 'stop'");
	if (!PG_ARGISNULL(ARG_BATCH_ROWS))
	{
		row->batch_rows = PG_GETARG_INT32(ARG_BATCH_ROWS);
		if (row->batch_rows < 1 || row->batch_rows > MAX_BATCH_ROWS)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("argument \"batch_rows\" is out of range"),
					 errhint("It is an integer from 1 to %d.", MAX_BATCH_ROWS)));
	}
	row->batch_interval_ms = batch_interval_ms(fcinfo);
	row->paused = !PG_ARGISNULL(ARG_PAUSED) && PG_GETARG_BOOL(ARG_PAUSED);
	row->settings = ks_pinned_settings();
}

/* Parses the query: one SELECT, over nothing temporary. */
static Node *
parse_query(KsUserText *text)
{
	List	   *parsed;
	RawStmt    *raw;

	text->source = text->text;
	ks_user_text_begin(text);
	parsed = raw_parser(text->source, RAW_PARSE_DEFAULT);
	raw = list_length(parsed) == 1 ? linitial_node(RawStmt, parsed) : NULL;
	if (raw == NULL || !IsA(raw->stmt, SelectStmt) || ((SelectStmt *) raw->stmt)->intoClause)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a continuous query is one SELECT"),
				 errhint("Give the text of one SELECT statement without INTO.")));
	if (isQueryUsingTempRelation(parse_analyze_fixedparams(copyObject(raw), text->source,
														   NULL, 0, NULL)))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a continuous query cannot use temporary tables"),
				 errhint("Use a permanent table.")));
	ks_user_text_end(text);
	return raw->stmt;
}

/* Creates the stored view as the caller beside the table to be, and moves it away. */
static Oid
create_view(KsUserText *text, int32 id, const char *schema)
{
	ViewStmt   *stmt = makeNode(ViewStmt);
	Oid			relid;

	stmt->query = parse_query(text);
	stmt->view = makeRangeVar(pstrdup(schema), psprintf("q_%d", id), -1);
	stmt->withCheckOption = NO_CHECK_OPTION;
	ks_user_text_begin(text);
	ks_run_utility((Node *) stmt, text->source);
	ks_user_text_end(text);

	relid = RangeVarGetRelid(stmt->view, NoLock, false);
	ks_move_to_schema(relid, "kstream_query");
	return relid;
}

/* Runs SQL as the caller, under their settings. */
static void
execute_as_caller(const char *sql)
{
	int			rc;

	SPI_connect();
	rc = SPI_execute(sql, false, 0);
	if (rc < 0)
		elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(rc));
	SPI_finish();
}

/*
 * Creates the result table, empty, as the caller.  Before, EXPLAIN of the view
 * checks that the caller may read and call everything the query uses.
 */
static Oid
create_result(RangeVar *name, Oid view, const char *access_method)
{
	const char *using = "";

	execute_as_caller(psprintf("EXPLAIN (COSTS OFF) SELECT * FROM %s", ks_qualified_name(view)));
	if (access_method)
		using = psprintf(" USING %s", quote_identifier(access_method));
	execute_as_caller(psprintf("CREATE TABLE %s%s AS SELECT * FROM %s WITH NO DATA",
							   quote_qualified_identifier(name->schemaname, name->relname),
							   using, ks_qualified_name(view)));
	return RangeVarGetRelid(name, NoLock, false);
}

/* Creates key, state and kept inputs of the result, and makes all one unit. */
static void
complete_result(KsAnalysis *analysis, KsQueryRow *row, List *primary_key)
{
	SPI_connect();
	ks_create_state(analysis, row, primary_key);
	SPI_finish();
	CommandCounterIncrement();
	ks_guard_install(row->relation);
	ks_depend_internally(row->view, row->relation);
}

PG_FUNCTION_INFO_V1(ks_create_table_as);

/* create_table_as(name, query, ...): the table. */
Datum
ks_create_table_as(PG_FUNCTION_ARGS)
{
	RangeVar   *name = ks_parse_new_name(ks_arg_required(fcinfo, ARG_NAME, "name"));
	KsUserText	query = {.text = ks_arg_required(fcinfo, ARG_QUERY, "query")};
	List	   *primary_key = ks_arg_text_array(fcinfo, ARG_PRIMARY_KEY, "primary_key");
	const char *access_method = table_access_method(fcinfo);
	KsQueryRow	row = {0};
	KsAnalysis *analysis;

	read_arguments(fcinfo, &row);
	row.id = ks_object_id_next();
	row.view = create_view(&query, row.id, name->schemaname);
	analysis = ks_analyze_view(row.view);
	row.kind = analysis->kind;
	row.relation = create_result(name, row.view, access_method);
	row.generation = 1;
	complete_result(analysis, &row, primary_key);
	ks_query_insert(&row);
	ks_positions_start(&row, analysis->streams);
	ks_notify_definitions_changed();
	ks_warn_not_preloaded(row.relation);
	PG_RETURN_OID(row.relation);
}
