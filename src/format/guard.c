/*
 * guard.c
 *		Calls functions that may raise an error because of what a record holds.
 *
 * Input functions and domain constraints are user code: they may do anything
 * and fail in any way.  A failure that comes from the value makes the record
 * bad; a cancel request, a full disk, a deadlock or a bug does not, and goes on
 * to whoever called the decoder.
 */
#include "postgres.h"

#include "access/xact.h"
#include "base/compat.h"
#include "format/encoding.h"
#include "format/guard.h"
#include "utils/memutils.h"

/* Can a record be the reason of an error? */
static bool
is_record_error(int sqlstate)
{
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case MAKE_SQLSTATE('2', '2', '0', '0', '0'):	/* data exception */
		case MAKE_SQLSTATE('2', '3', '0', '0', '0'):	/* constraint violation */
		case MAKE_SQLSTATE('5', '4', '0', '0', '0'):	/* limit exceeded */
		case MAKE_SQLSTATE('0', 'A', '0', '0', '0'):	/* not supported */
		case MAKE_SQLSTATE('P', '0', '0', '0', '0'):	/* raised by a function */
		case MAKE_SQLSTATE('2', '1', '0', '0', '0'):	/* cardinality violation */
			return true;
		case MAKE_SQLSTATE('4', '2', '0', '0', '0'):	/* e.g. no such relation, for regclass */
			return sqlstate != ERRCODE_INSUFFICIENT_PRIVILEGE;
		default:
			return false;
	}
}

/* Begins the subtransaction unless there is one. */
static void
begin_guard(KsGuard *guard)
{
	MemoryContext context = CurrentMemoryContext;

	if (guard->active)
		return;
	guard->owner = CurrentResourceOwner;
	BeginInternalSubTransaction(NULL);
	guard->active = true;
	guard->used = true;
	MemoryContextSwitchTo(context);
}

/* Rolls the subtransaction back. */
static void
abort_guard(KsGuard *guard)
{
	MemoryContext context = CurrentMemoryContext;

	guard->active = false;
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = guard->owner;
}

/* See guard.h. */
void
ks_guard_end(KsGuard *guard)
{
	MemoryContext context = CurrentMemoryContext;

	if (!guard->active)
		return;
	guard->active = false;
	ReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = guard->owner;
}

/* See guard.h. */
void
ks_guard_rethrow(KsGuard *guard)
{
	ErrorData  *edata;

	if (!guard->active)
		PG_RE_THROW();
	MemoryContextSwitchTo(TopTransactionContext);
	edata = CopyErrorData();
	FlushErrorState();
	abort_guard(guard);
	ReThrowError(edata);
}

/* See guard.h. */
bool
ks_guard_run(KsGuard *guard, KsGuarded function, void *arg, int *sqlstate, char **message)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool ok = true;

	begin_guard(guard);
	PG_TRY();
	{
		function(arg);
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(context);
		edata = CopyErrorData();
		FlushErrorState();
		abort_guard(guard);
		if (!is_record_error(edata->sqlerrcode))
			ReThrowError(edata);
		*sqlstate = edata->sqlerrcode;
		*message = ks_clean_message(edata->message ? edata->message : "");
		FreeErrorData(edata);
		ok = false;
	}
	PG_END_TRY();
	if (!guard->hold)
		ks_guard_end(guard);
	return ok;
}

/* A call of an input function, for ks_guard_run. */
typedef struct InputCall
{
	FmgrInfo   *input;
	char	   *str;
	Oid			ioparam;
	int32		typmod;
	Datum		result;
} InputCall;

/* Makes the call. */
static void
call_input(void *arg)
{
	InputCall  *call = arg;

	call->result = InputFunctionCall(call->input, call->str, call->ioparam, call->typmod);
}

/* See guard.h. */
bool
ks_guard_input(KsGuard *guard, FmgrInfo *input, char *str, Oid ioparam, int32 typmod,
			   bool trusted, Datum *result, int *sqlstate, char **message)
{
	InputCall	call = {input, str, ioparam, typmod, (Datum) 0};

#if KS_HAVE_SOFT_ERRORS
	if (trusted)
	{
		ErrorSaveContext soft = {T_ErrorSaveContext};

		soft.details_wanted = true;
		if (InputFunctionCallSafe(input, str, ioparam, typmod, (Node *) &soft, result))
			return true;
		*sqlstate = soft.error_data->sqlerrcode;
		*message = ks_clean_message(soft.error_data->message);
		return false;
	}
#endif
	if (!ks_guard_run(guard, call_input, &call, sqlstate, message))
		return false;
	*result = call.result;
	return true;
}
