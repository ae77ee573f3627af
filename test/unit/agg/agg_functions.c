/*
 * agg_functions.c
 *		Functions of aggregates that lean on everything an AggState offers.
 *
 * trace(VARIADIC "any") writes down its arguments with their types.  Its state
 * is internal; the functions check that they are called the way nodeAgg.c calls
 * them, and count the callbacks they register.
 */
#include "postgres.h"

#include "catalog/pg_aggregate.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "nodes/primnodes.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "base/compat.h"

/* The transition value of trace(). */
typedef struct TraceState
{
	int64		magic;
	StringInfoData text;
} TraceState;

#define TRACE_MAGIC INT64CONST(0x7472616365)

static int64 callbacks_registered = 0;
static int64 callbacks_run = 0;

PG_FUNCTION_INFO_V1(trace_trans);
PG_FUNCTION_INFO_V1(trace_final);
PG_FUNCTION_INFO_V1(trace_serial);
PG_FUNCTION_INFO_V1(trace_deserial);
PG_FUNCTION_INFO_V1(trace_combine);
PG_FUNCTION_INFO_V1(null_pointer_trans);
PG_FUNCTION_INFO_V1(callbacks_missing);

/*
 * aggregate_context
 *		Check the call context, and the Aggref if the function takes part in it.
 */
static MemoryContext
aggregate_context(FunctionCallInfo fcinfo, int nargs)
{
	MemoryContext context;
	Aggref	   *aggref = AggGetAggref(fcinfo);

	if (AggCheckCallContext(fcinfo, &context) != AGG_CONTEXT_AGGREGATE)
		elog(ERROR, "not called as an aggregate");
	if (aggref == NULL)
		elog(ERROR, "no Aggref");
	if (nargs >= 0 && list_length(aggref->args) != nargs)
		elog(ERROR, "Aggref of another call");
	if (AggStateIsShared(fcinfo))
		elog(ERROR, "state is shared");
	if (AggGetTempMemoryContext(fcinfo) == NULL)
		elog(ERROR, "no temporary context");
	return context;
}

/*
 * count_callback
 *		Called when the transition value goes away.
 */
static void
count_callback(Datum arg)
{
	if (((TraceState *) DatumGetPointer(arg))->magic != TRACE_MAGIC)
		elog(ERROR, "transition value was gone before its callback");
	callbacks_run++;
}

/*
 * make_state
 *		A new transition value in the current memory context.
 */
static TraceState *
make_state(FunctionCallInfo fcinfo)
{
	TraceState *state = palloc(sizeof(TraceState));

	state->magic = TRACE_MAGIC;
	initStringInfo(&state->text);
	AggRegisterCallback(fcinfo, count_callback, PointerGetDatum(state));
	callbacks_registered++;
	return state;
}

/*
 * trace_trans(internal, VARIADIC "any") -> internal
 */
Datum
trace_trans(PG_FUNCTION_ARGS)
{
	MemoryContext context = aggregate_context(fcinfo, PG_NARGS() - 1);
	MemoryContext old = MemoryContextSwitchTo(context);
	TraceState *state;

	state = PG_ARGISNULL(0) ? make_state(fcinfo) :
		(TraceState *) PG_GETARG_POINTER(0);
	if (get_fn_expr_variadic(fcinfo->flinfo))
		appendStringInfoString(&state->text, "variadic ");
	for (int i = 1; i < PG_NARGS(); i++)
	{
		Oid			type = get_fn_expr_argtype(fcinfo->flinfo, i);
		Oid			output;
		bool		varlena;

		getTypeOutputInfo(type, &output, &varlena);
		appendStringInfo(&state->text, "%s:%s;", format_type_be(type),
						 PG_ARGISNULL(i) ? "NULL" :
						 OidOutputFunctionCall(output, PG_GETARG_DATUM(i)));
	}
	MemoryContextSwitchTo(old);
	(void) palloc(1000);		/* garbage for the temporary context */
	PG_RETURN_POINTER(state);
}

/*
 * trace_final(internal, VARIADIC "any") -> text; changes the state, as allowed
 */
Datum
trace_final(PG_FUNCTION_ARGS)
{
	MemoryContext context = aggregate_context(fcinfo, PG_NARGS() - 1);
	MemoryContext old;
	TraceState *state;

	for (int i = 1; i < PG_NARGS(); i++)
		if (!PG_ARGISNULL(i))
			elog(ERROR, "dummy argument is not NULL");
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	state = (TraceState *) PG_GETARG_POINTER(0);
	old = MemoryContextSwitchTo(context);
	appendStringInfoString(&state->text, "end");
	MemoryContextSwitchTo(old);
	PG_RETURN_TEXT_P(cstring_to_text(state->text.data));
}

/*
 * trace_serial(internal) -> bytea
 */
Datum
trace_serial(PG_FUNCTION_ARGS)
{
	TraceState *state = (TraceState *) PG_GETARG_POINTER(0);
	StringInfoData buf;

	(void) aggregate_context(fcinfo, -1);
	pq_begintypsend(&buf);
	pq_sendbytes(&buf, state->text.data, state->text.len);
	PG_RETURN_BYTEA_P(pq_endtypsend(&buf));
}

/*
 * trace_deserial(bytea, internal) -> internal
 */
Datum
trace_deserial(PG_FUNCTION_ARGS)
{
	bytea	   *saved = PG_GETARG_BYTEA_PP(0);
	TraceState *state;

	if (PG_ARGISNULL(1) || PG_GETARG_POINTER(1) != NULL)
		elog(ERROR, "second argument is not the customary null pointer");
	(void) aggregate_context(fcinfo, -1);
	state = palloc(sizeof(TraceState));
	state->magic = TRACE_MAGIC;
	initStringInfo(&state->text);
	appendBinaryStringInfo(&state->text, VARDATA_ANY(saved),
						   VARSIZE_ANY_EXHDR(saved));
	PG_RETURN_POINTER(state);
}

/*
 * trace_combine(internal, internal) -> internal: for restoring, nothing else
 */
Datum
trace_combine(PG_FUNCTION_ARGS)
{
	MemoryContext context = aggregate_context(fcinfo, -1);
	MemoryContext old = MemoryContextSwitchTo(context);
	TraceState *state;

	if (!PG_ARGISNULL(0) || PG_ARGISNULL(1))
		elog(ERROR, "saved state is not combined with an empty one");
	state = make_state(fcinfo);
	appendStringInfoString(&state->text,
						   ((TraceState *) PG_GETARG_POINTER(1))->text.data);
	MemoryContextSwitchTo(old);
	PG_RETURN_POINTER(state);
}

/*
 * null_pointer_trans(internal, integer) -> internal
 *
 * Makes no state for inputs below 100, yet does not call the result NULL.
 */
Datum
null_pointer_trans(PG_FUNCTION_ARGS)
{
	MemoryContext context = aggregate_context(fcinfo, 1);
	TraceState *state = NULL;

	if (!PG_ARGISNULL(0))
		state = (TraceState *) PG_GETARG_POINTER(0);
	if (!PG_ARGISNULL(1) && PG_GETARG_INT32(1) >= 100)
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		if (state == NULL)
			state = make_state(fcinfo);
		appendStringInfo(&state->text, "%d;", PG_GETARG_INT32(1));
		MemoryContextSwitchTo(old);
	}
	PG_RETURN_POINTER(state);
}

/*
 * callbacks_missing() -> bigint: callbacks registered but not run
 */
Datum
callbacks_missing(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(callbacks_registered - callbacks_run);
}

PG_FUNCTION_INFO_V1(null_pointer_text);

/*
 * null_pointer_text(internal) -> text: the state written out, even if none
 */
Datum
null_pointer_text(PG_FUNCTION_ARGS)
{
	TraceState *state = NULL;

	(void) aggregate_context(fcinfo, 1);
	if (!PG_ARGISNULL(0))
		state = (TraceState *) PG_GETARG_POINTER(0);
	PG_RETURN_TEXT_P(cstring_to_text(state ? state->text.data : "no state"));
}
