/*
 * query_options.c
 *		The options that all functions which create queries have.
 *
 * Runs in: any backend.  Transaction: needed.
 */
#include "postgres.h"

#include "commands/defrem.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "sql/ddl_util.h"
#include "sql/query_options.h"

#define MAX_BATCH_INTERVAL_MS (3600 * 1000)
#define MAX_BATCH_ROWS 10000000

/* The options in the order of the SQL declarations, from "start" on. */
enum
{
	OPT_START,
	OPT_GRACE,
	OPT_RETENTION,
	OPT_EMIT,
	OPT_IDLE_TIMEOUT,
	OPT_ON_ERROR,
	OPT_GUARANTEE,
	OPT_BATCH_ROWS,
	OPT_BATCH_INTERVAL,
	OPT_WORKERS,
	OPT_STORE,
	OPT_KEEP_CHANGES,
	OPT_PAUSED
};

/* See query_options.h. */
void
ks_invalid_word(const char *name, const char *value, const char *words)
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
batch_interval_ms(FunctionCallInfo fcinfo, int arg)
{
	Interval   *interval;
	int64		ms;

	if (PG_ARGISNULL(arg))
		return -1;
	interval = PG_GETARG_INTERVAL_P(arg);
	ms = interval->day * INT64CONST(86400000) + interval->time / 1000;
	if (interval->month != 0 || ms < 0 || ms > MAX_BATCH_INTERVAL_MS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"batch_interval\" is out of range"),
				 errhint("It is an interval from 0 to 1 hour.")));
	return (int) ms;
}

/* The options of event time; what they mean for the query is checked with it (plan/window.c). */
static void
read_time_options(FunctionCallInfo fcinfo, int first, KsQueryRow *row)
{
	const char *emit = ks_arg_required(fcinfo, first + OPT_EMIT, "emit");

	ks_arg_check_given(fcinfo, first + OPT_GRACE, "grace");
	ks_arg_check_given(fcinfo, first + OPT_IDLE_TIMEOUT, "idle_timeout");
	row->grace_us = ks_arg_interval_us(fcinfo, first + OPT_GRACE, "grace", 0);
	row->retention_us = ks_arg_interval_us(fcinfo, first + OPT_RETENTION, "retention", -1);
	row->idle_timeout_us = ks_arg_interval_us(fcinfo, first + OPT_IDLE_TIMEOUT, "idle_timeout", USECS_PER_MINUTE);
	row->emit_final = strcmp(emit, "final") == 0;
	if (!row->emit_final && strcmp(emit, "changes") != 0)
		ks_invalid_word("emit", emit, "'changes', 'final'");
}

/* How many workers may run the query at once. */
static void
check_workers(FunctionCallInfo fcinfo, int arg)
{
	if (!PG_ARGISNULL(arg) && PG_GETARG_INT32(arg) > 1)
		ks_refuse_argument("workers", "Use workers => 1.");
	if (!PG_ARGISNULL(arg) && PG_GETARG_INT32(arg) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"workers\" must be at least 1")));
}

/* See query_options.h. */
bool
ks_at_least_once(const char *guarantee)
{
	if (strcmp(guarantee, "at_least_once") == 0)
		return true;
	if (strcmp(guarantee, "exactly_once") != 0)
		ks_invalid_word("guarantee", guarantee, "'exactly_once', 'at_least_once'");
	return false;
}

/* The access method of the result table, NULL for the default one. */
static const char *
table_access_method(FunctionCallInfo fcinfo, int arg)
{
	const char *store = ks_arg_required(fcinfo, arg, "store");

	if (strcmp(store, "logged") == 0)
		return NULL;
	if (strcmp(store, "unlogged") == 0)
		ks_refuse_argument("store => 'unlogged'", "Use store => 'logged' or the name of a table access method.");
	get_table_am_oid(store, false);
	return store;
}

/* See query_options.h. */
void
ks_read_query_options(FunctionCallInfo fcinfo, int first, KsQueryRow *row, KsQueryOptions *options)
{
	const char *on_error = ks_arg_required(fcinfo, first + OPT_ON_ERROR, "on_error");

	read_time_options(fcinfo, first, row);
	check_workers(fcinfo, first + OPT_WORKERS);
	options->at_least_once = ks_at_least_once(ks_arg_required(fcinfo, first + OPT_GUARANTEE, "guarantee"));
	options->access_method = table_access_method(fcinfo, first + OPT_STORE);
	options->keep_changes = PG_ARGISNULL(first + OPT_KEEP_CHANGES) ? NULL :
		PG_GETARG_INTERVAL_P(first + OPT_KEEP_CHANGES);
	row->start = ks_parse_start(ks_arg_required(fcinfo, first + OPT_START, "start"));
	row->stop_on_error = strcmp(on_error, "stop") == 0;
	if (!row->stop_on_error && strcmp(on_error, "dead_letter") != 0)
		ks_invalid_word("on_error", on_error, "'dead_letter', 'stop'");
	if (!PG_ARGISNULL(first + OPT_BATCH_ROWS))
	{
		row->batch_rows = PG_GETARG_INT32(first + OPT_BATCH_ROWS);
		if (row->batch_rows < 1 || row->batch_rows > MAX_BATCH_ROWS)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("argument \"batch_rows\" is out of range"),
					 errhint("It is an integer from 1 to %d.", MAX_BATCH_ROWS)));
	}
	row->batch_interval_ms = batch_interval_ms(fcinfo, first + OPT_BATCH_INTERVAL);
	row->paused = !PG_ARGISNULL(first + OPT_PAUSED) && PG_GETARG_BOOL(first + OPT_PAUSED);
	row->settings = ks_pinned_settings();
}
