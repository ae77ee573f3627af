/*
 * window_functions.c
 *		kstream.tumble, kstream.hop and kstream.session: windows of event time.
 *
 * Ordinary functions, to be used anywhere in SQL.  In the GROUP BY of a
 * continuous query over the event time of its stream they mean more: lateness,
 * closing and expiry (plan/window.c), and merging of sessions (exec/session.c).
 *
 * Windows lie on a grid of civil time: without a time zone that is UTC, so that
 * a result does not depend on the session.  The grid starts at 2000-01-03 (a
 * Monday, so that weeks begin there), for windows of months at 2000-01-01.
 * Days count 24 hours in UTC.  In a time zone a window begins at the first
 * instant of its day, whether or not there is a midnight: where clocks go back
 * over midnight at the first of the two, where they skip it at the end of the gap.
 *
 * What may be wrong about the arguments besides the time is checked here alone:
 * by the functions themselves, and through ks_window_check_call for the constants
 * of a continuous query when it is created.
 *
 * Runs in: any backend, any worker.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type_d.h"
#include "common/int.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/rangetypes.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "base/compat.h"
#include "sql/window_functions.h"

/* Monday 2000-01-03, on the scale of timestamps. */
#define DEFAULT_ORIGIN (2 * USECS_PER_DAY)

/* How far from midnight the clocks of its day may change. */
#define ZONE_CHANGE (3 * USECS_PER_HOUR)

/*
 * Windows that one record may be in.  Each is a row of its group; a slide written
 * in the wrong unit would make millions of them out of every record.
 */
#define MAX_WINDOWS_PER_RECORD 100000

/* The last argument of a function. */
typedef enum GridKind
{
	GRID_UTC,					/* none */
	GRID_ORIGIN,				/* a timestamptz */
	GRID_ZONE					/* a time zone's name */
} GridKind;

/* A length of civil time: months, or microseconds. */
typedef struct Span
{
	int64		months;			/* 0: us counts */
	int64		us;
} Span;

typedef struct Grid
{
	Span		step;
	pg_tz	   *zone;			/* NULL: UTC */
	Timestamp	origin;			/* civil time */
} Grid;

/* What a call site keeps between calls. */
typedef struct WindowCache
{
	TypeCacheEntry *range;
	pg_tz	   *zone;
	char	   *zone_name;
} WindowCache;

/* The hopping windows that hold an instant. */
typedef struct Hops
{
	Grid		grid;
	Span		size;
	int64		first;			/* numbers; none if last is before first */
	int64		last;
} Hops;

PG_FUNCTION_INFO_V1(ks_tumble);
PG_FUNCTION_INFO_V1(ks_tumble_origin);
PG_FUNCTION_INFO_V1(ks_tumble_zone);
PG_FUNCTION_INFO_V1(ks_hop);
PG_FUNCTION_INFO_V1(ks_hop_origin);
PG_FUNCTION_INFO_V1(ks_hop_zone);
PG_FUNCTION_INFO_V1(ks_session);

/* Raises the error for a window that the calendar does not have. */
static void
out_of_range(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
			 errmsg("timestamp out of range")));
}

/* What is kept for the call site. */
static WindowCache *
get_cache(FunctionCallInfo fcinfo)
{
	WindowCache *cache = fcinfo->flinfo->fn_extra;

	if (cache == NULL)
	{
		cache = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(WindowCache));
		cache->range = lookup_type_cache(TSTZRANGEOID, TYPECACHE_RANGE_INFO);
		fcinfo->flinfo->fn_extra = cache;
	}
	return cache;
}

/* The range [start, end). */
static Datum
make_window(TypeCacheEntry *type, TimestampTz start, TimestampTz end)
{
	RangeBound	lower = {TimestampTzGetDatum(start), false, true, true};
	RangeBound	upper = {TimestampTzGetDatum(end), false, false, false};

	if (!IS_VALID_TIMESTAMP(start) || !IS_VALID_TIMESTAMP(end))
		out_of_range();
	return RangeTypePGetDatum(ks_make_range(type, &lower, &upper));
}

/* Sum that is checked. */
static int64
plus(int64 a, int64 b)
{
	int64		result;

	if (pg_add_s64_overflow(a, b, &result))
		out_of_range();
	return result;
}

/* Product that is checked. */
static int64
times(int64 a, int64 b)
{
	int64		result;

	if (pg_mul_s64_overflow(a, b, &result))
		out_of_range();
	return result;
}

/* Quotient rounded down; b is above zero. */
static int64
floor_div(int64 a, int64 b)
{
	int64		result = a / b;

	return a % b < 0 ? result - 1 : result;
}

/* A length given as an interval; what names it in messages. */
static Span
get_span(const Interval *interval, const char *what, bool zoned)
{
	Span		span = {interval->month, 0};

	if (interval->month != 0 && (interval->day != 0 || interval->time != 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s of a window cannot mix months with days or smaller units", what),
				 errhint("Use either months and years, or weeks, days and smaller units.")));
	span.us = plus(times(interval->day, USECS_PER_DAY), interval->time);
	if (span.months < 0 || span.us < 0 || (span.months == 0 && span.us == 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s of a window must be greater than zero", what),
				 errhint("Give an interval such as '5 min'.")));
	if (zoned && span.us % USECS_PER_DAY != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s of a window in a time zone must be whole days or months", what),
				 errhint("Leave the time zone out for smaller windows.")));
	return span;
}

/* The zone of that name; cxt: where the call site's cache lives. */
static pg_tz *
get_zone(WindowCache *cache, MemoryContext cxt, text *name)
{
	char		zone[TZ_STRLEN_MAX + 1];

	text_to_cstring_buffer(name, zone, sizeof(zone));
	if (cache->zone_name == NULL || strcmp(cache->zone_name, zone) != 0)
	{
		pg_tz	   *found = pg_tzset(zone);

		if (found == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("time zone \"%s\" not recognized", zone),
					 errhint("Use a name from pg_timezone_names; an origin is written timestamptz '...'.")));
		cache->zone = found;
		if (cache->zone_name != NULL)
			pfree(cache->zone_name);
		cache->zone_name = MemoryContextStrdup(cxt, zone);
	}
	return cache->zone;
}

/* An origin, checked. */
static Timestamp
get_origin(TimestampTz origin)
{
	if (TIMESTAMP_NOT_FINITE(origin))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("origin out of range"),
				 errhint("Give a finite time at which one of the windows starts.")));
	return origin;
}

/* The gap of a session. */
static Span
get_gap(const Interval *interval)
{
	Span		gap = get_span(interval, "gap", false);

	if (gap.months != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("gap of a session cannot be in months"),
				 errhint("Use weeks, days and smaller units.")));
	return gap;
}

/* Length in microseconds for a comparison; a month counts 30 days, as between intervals. */
static double
span_length(const Span *span)
{
	return (double) span->months * DAYS_PER_MONTH * USECS_PER_DAY + (double) span->us;
}

/* Refuses a slide so short that a record would be in too many windows. */
static void
check_window_count(const Span *slide, const Span *size)
{
	double		count = ceil(span_length(size) / span_length(slide));

	if (count > MAX_WINDOWS_PER_RECORD)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a record would be in too many windows"),
				 errdetail("Slide and size put each record into %.0f windows; at most %d are possible.",
						   count, MAX_WINDOWS_PER_RECORD),
				 errhint("Give a longer slide or a smaller size; the slide is the second argument of kstream.hop, the size the third.")));
}

/* The grid that the second argument and the one at grid_arg, if any, describe. */
static Grid
get_grid(FunctionCallInfo fcinfo, WindowCache *cache, MemoryContext cxt, GridKind kind, int grid_arg)
{
	Grid		grid;

	grid.step = get_span(PG_GETARG_INTERVAL_P(1), grid_arg == 3 ? "slide" : "size", kind == GRID_ZONE);
	grid.zone = NULL;
	grid.origin = grid.step.months != 0 ? 0 : DEFAULT_ORIGIN;
	if (kind == GRID_ORIGIN)
		grid.origin = get_origin(PG_GETARG_TIMESTAMPTZ(grid_arg));
	else if (kind == GRID_ZONE)
		grid.zone = get_zone(cache, cxt, PG_GETARG_TEXT_PP(grid_arg));
	return grid;
}

/* Microseconds that civil time in the zone is ahead of UTC at an instant. */
static int64
zone_offset(pg_tz *zone, TimestampTz instant)
{
	int			tz;
	struct pg_tm tm;
	fsec_t		fsec;

	if (timestamp2tm(instant, &tz, &tm, &fsec, NULL, zone) != 0)
		out_of_range();
	return -(int64) tz * USECS_PER_SEC;
}

/* Civil time in the grid's zone. */
static Timestamp
to_civil(const Grid *grid, TimestampTz instant)
{
	return grid->zone == NULL ? instant : plus(instant, zone_offset(grid->zone, instant));
}

/*
 * from_civil
 *		The first instant at which the civil time, a midnight, has come.  Around a
 *		change of the clocks there are two candidates: by the offset before it and
 *		by the one after it.  The earlier one that exists is it; where the clocks
 *		skip midnight, neither does, and it is the moment of the change.
 */
static TimestampTz
from_civil(const Grid *grid, Timestamp civil)
{
	int64		guess;
	TimestampTz before;
	TimestampTz after;

	if (grid->zone == NULL)
		return civil;
	guess = plus(civil, -zone_offset(grid->zone, civil));
	before = civil - zone_offset(grid->zone, guess - ZONE_CHANGE);
	after = civil - zone_offset(grid->zone, guess + ZONE_CHANGE);
	if (before <= after && to_civil(grid, before) == civil)
		return before;
	if (to_civil(grid, after) == civil)
		return after;
	/* Skipped: from "after", when it is still too early, to "before". */
	while (before - after > 1)
	{
		TimestampTz middle = after + (before - after) / 2;

		if (to_civil(grid, middle) >= civil)
			before = middle;
		else
			after = middle;
	}
	return before;
}

/* Civil time some steps later. */
static Timestamp
civil_plus(Timestamp civil, const Span *span, int64 n)
{
	if (span->months != 0)
	{
		Interval	interval = {0};
		int64		months = times(span->months, n);

		if (months != (int32) months)
			out_of_range();
		interval.month = (int32) months;
		return DatumGetTimestamp(DirectFunctionCall2(timestamp_pl_interval, TimestampGetDatum(civil),
													 IntervalPGetDatum(&interval)));
	}
	return plus(civil, times(span->us, n));
}

/* Start of window n of the grid. */
static TimestampTz
window_start(const Grid *grid, int64 n)
{
	return from_civil(grid, civil_plus(grid->origin, &grid->step, n));
}

/* Months from year 0 to the civil time. */
static int64
civil_months(Timestamp civil)
{
	struct pg_tm tm;
	fsec_t		fsec;

	if (timestamp2tm(civil, NULL, &tm, &fsec, NULL, NULL) != 0)
		out_of_range();
	return tm.tm_year * INT64CONST(12) + tm.tm_mon;
}

/* Number of the last window that starts at or before the instant. */
static int64
window_number(const Grid *grid, TimestampTz instant)
{
	Timestamp	civil = to_civil(grid, instant);
	int64		n;

	if (grid->step.months == 0 && grid->zone == NULL)
		return floor_div(plus(civil, -grid->origin), grid->step.us);
	if (grid->step.months != 0)
		n = floor_div(civil_months(civil) - civil_months(grid->origin), grid->step.months);
	else
		n = floor_div(plus(civil, -grid->origin), grid->step.us);
	while (window_start(grid, n) > instant)
		n--;
	while (window_start(grid, n + 1) <= instant)
		n++;
	return n;
}

/* The tumbling window of the instant. */
static Datum
tumble(FunctionCallInfo fcinfo, GridKind kind)
{
	WindowCache *cache = get_cache(fcinfo);
	TimestampTz instant = PG_GETARG_TIMESTAMPTZ(0);
	Grid		grid = get_grid(fcinfo, cache, fcinfo->flinfo->fn_mcxt, kind, 2);
	int64		n;

	/* An infinite time lies in no window. */
	if (TIMESTAMP_NOT_FINITE(instant))
		PG_RETURN_NULL();
	n = window_number(&grid, instant);
	return make_window(cache->range, window_start(&grid, n), window_start(&grid, n + 1));
}

/* tumble(ts, size) */
Datum
ks_tumble(PG_FUNCTION_ARGS)
{
	return tumble(fcinfo, GRID_UTC);
}

/* tumble(ts, size, origin) */
Datum
ks_tumble_origin(PG_FUNCTION_ARGS)
{
	return tumble(fcinfo, GRID_ORIGIN);
}

/* tumble(ts, size, zone) */
Datum
ks_tumble_zone(PG_FUNCTION_ARGS)
{
	return tumble(fcinfo, GRID_ZONE);
}

/*
 * hop_end
 *		End of window n of a hopping grid.  Months are counted from the origin, so that a
 *		start that the end of a short month has moved (31 January, 29 February) does not
 *		move the end as well: where one window ends another may start.
 */
static TimestampTz
hop_end(const Hops *hops, int64 n)
{
	const Grid *grid = &hops->grid;

	if (grid->step.months != 0 && hops->size.months != 0)
	{
		Span		whole = {plus(times(grid->step.months, n), hops->size.months), 0};

		return from_civil(grid, civil_plus(grid->origin, &whole, 1));
	}
	return from_civil(grid, civil_plus(civil_plus(grid->origin, &grid->step, n), &hops->size, 1));
}

/* Finds the windows that hold the instant. */
static void
find_hops(FunctionCallInfo fcinfo, WindowCache *cache, MemoryContext cxt, GridKind kind, Hops *hops)
{
	TimestampTz instant = PG_GETARG_TIMESTAMPTZ(0);

	hops->grid = get_grid(fcinfo, cache, cxt, kind, 3);
	hops->size = get_span(PG_GETARG_INTERVAL_P(2), "size", kind == GRID_ZONE);
	check_window_count(&hops->grid.step, &hops->size);
	if (TIMESTAMP_NOT_FINITE(instant))
	{
		hops->first = 0;
		hops->last = -1;
		return;
	}
	hops->last = window_number(&hops->grid, instant);
	if (hops->grid.step.months == 0 && hops->size.months == 0)
	{
		/* The first with start + size > instant, or a little before it in a zone. */
		hops->first = floor_div(plus(plus(to_civil(&hops->grid, instant), -hops->grid.origin), -hops->size.us),
								hops->grid.step.us) - (hops->grid.zone != NULL ? 1 : 0);
		while (hops->first <= hops->last && hop_end(hops, hops->first) <= instant)
			hops->first++;
		return;
	}
	hops->first = hops->last + 1;
	while (hop_end(hops, hops->first - 1) > instant)
	{
		hops->first--;
		CHECK_FOR_INTERRUPTS();
	}
}

/* Window n of them. */
static Datum
make_hop(TypeCacheEntry *range, const Hops *hops, int64 n)
{
	return make_window(range, window_start(&hops->grid, n), hop_end(hops, n));
}

/* The windows all at once, as FROM wants them. */
static void
put_hops(FunctionCallInfo fcinfo, GridKind kind)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	WindowCache *cache = get_cache(fcinfo);
	Hops		hops = {0};

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	find_hops(fcinfo, cache, fcinfo->flinfo->fn_mcxt, kind, &hops);
	for (int64 n = hops.first; n <= hops.last; n++)
	{
		bool		isnull = false;
		Datum		window = make_hop(cache->range, &hops, n);

		CHECK_FOR_INTERRUPTS();
		tuplestore_putvalues(result->setResult, result->setDesc, &window, &isnull);
	}
}

/* The hopping windows of the instant: one per call in a select list, which may need some of them only. */
static Datum
hop(FunctionCallInfo fcinfo, GridKind kind)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	FuncCallContext *context;
	Hops	   *hops;

	if (result != NULL && IsA(result, ReturnSetInfo) && (result->allowedModes & SFRM_Materialize_Preferred) != 0)
	{
		put_hops(fcinfo, kind);
		return (Datum) 0;
	}
	if (SRF_IS_FIRSTCALL())
	{
		WindowCache cache = {0};
		MemoryContext old;

		context = SRF_FIRSTCALL_INIT();
		old = MemoryContextSwitchTo(context->multi_call_memory_ctx);
		context->user_fctx = hops = palloc0(sizeof(Hops));
		find_hops(fcinfo, &cache, CurrentMemoryContext, kind, hops);
		MemoryContextSwitchTo(old);
	}
	context = SRF_PERCALL_SETUP();
	hops = context->user_fctx;
	if (hops->first > hops->last)
		SRF_RETURN_DONE(context);
	SRF_RETURN_NEXT(context, make_hop(lookup_type_cache(TSTZRANGEOID, TYPECACHE_RANGE_INFO), hops, hops->first++));
}

/* hop(ts, slide, size) */
Datum
ks_hop(PG_FUNCTION_ARGS)
{
	return hop(fcinfo, GRID_UTC);
}

/* hop(ts, slide, size, origin) */
Datum
ks_hop_origin(PG_FUNCTION_ARGS)
{
	return hop(fcinfo, GRID_ORIGIN);
}

/* hop(ts, slide, size, zone) */
Datum
ks_hop_zone(PG_FUNCTION_ARGS)
{
	return hop(fcinfo, GRID_ZONE);
}

/* session(ts, gap): the session of one event alone. */
Datum
ks_session(PG_FUNCTION_ARGS)
{
	WindowCache *cache = get_cache(fcinfo);
	TimestampTz instant = PG_GETARG_TIMESTAMPTZ(0);
	Span		gap = get_gap(PG_GETARG_INTERVAL_P(1));

	if (TIMESTAMP_NOT_FINITE(instant))
		PG_RETURN_NULL();
	return make_window(cache->range, instant, plus(instant, gap.us));
}

/* The interval of a constant that is not NULL. */
static const Interval *
const_interval(const Const *value)
{
	return DatumGetIntervalP(value->constvalue);
}

/* Checks an origin or a time zone. */
static void
check_grid_const(const Const *value)
{
	WindowCache cache = {0};

	if (value->consttype == TIMESTAMPTZOID)
		(void) get_origin(DatumGetTimestampTz(value->constvalue));
	else
		(void) get_zone(&cache, CurrentMemoryContext, DatumGetTextPP(value->constvalue));
}

/* See window_functions.h. */
bool
ks_window_check_call(const char *function, Const **args, bool zoned)
{
	bool		hop = strcmp(function, "hop") == 0;
	bool		meet = true;
	Span		step;
	Span		size;

	if (strcmp(function, "session") == 0)
	{
		if (args[1] != NULL)
			(void) get_gap(const_interval(args[1]));
		return true;
	}
	if (args[1] != NULL)
		step = get_span(const_interval(args[1]), hop ? "slide" : "size", zoned);
	if (hop && args[2] != NULL)
		size = get_span(const_interval(args[2]), "size", zoned);
	if (hop && args[1] != NULL && args[2] != NULL)
	{
		check_window_count(&step, &size);
		meet = span_length(&size) >= span_length(&step);
	}
	if (args[hop ? 3 : 2] != NULL)
		check_grid_const(args[hop ? 3 : 2]);
	return meet;
}
