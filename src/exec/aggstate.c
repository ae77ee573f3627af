/*
 * aggstate.c
 *		Running any aggregate outside an Agg node, its state kept between batches.
 *
 * A continuous query aggregates for ever: a group's state is read from the
 * state table at the start of a batch, advanced by the rows of the batch and
 * written back.  PostgreSQL's own Agg node cannot start from a saved state, so
 * this file calls the functions of the aggregate itself, in the order and with
 * the rules of nodeAgg.c (strictness, initcond, who owns and frees transition
 * values, read-only expanded objects, dummy arguments of final functions).
 *
 * Why going on from the saved state and not combining partial states: it needs
 * no combine function (user-defined aggregates almost never have one), and a
 * float sum is bit-equal however the input is cut into batches.  An internal
 * state that comes back from its serialized form does pass through the combine
 * function, if there is one, which joins it to an empty state.  For deserialfn
 * need not return more than the combine function can read: the ones of numeric
 * and integer variance return, in many releases, a state that ignores the
 * squares of further rows.
 *
 * What the functions see.  Many aggregate functions insist on being called by
 * an aggregate (AggCheckCallContext), keep things in its memory, register
 * callbacks or ask for the call's Aggref.  A runner therefore owns a genuine
 * AggState: the executor initializes an Agg node with no aggregates over an
 * empty Result, and the current AggStatePerTransData or AggStatePerAggData is
 * put in while a function runs.
 *
 * Memory.  All transition values, and the results handed out, live in the
 * aggregate context of that AggState ("batch memory"); ks_agg_batch_reset()
 * runs the callbacks registered there and empties it.  What a function leaves
 * behind goes to a temporary context that is reset after every call.  After an
 * error the runner may be used again once ks_agg_batch_reset() was called.  A
 * context deleted with a runner in it takes the runner along without running
 * callbacks, just as an aborted query does.
 *
 * The saved form, by kind:
 *
 * DIRECT	the transition value itself.
 * SERIAL	what serialfn makes of it.  A transition value that is a null
 *			pointer though not marked NULL (some functions return that) is
 *			saved as NULL.
 * ADD		the visible sum.  The batch runs the real aggregate from its
 *			initial state; its result is added to the saved sum by numeric
 *			addition, which has the aggregate's own rules for the display
 *			scale (the largest seen), NaN and the infinities.
 * INPUTS	none.  A plain call of such an aggregate can still be run within one
 *			batch; only saving is refused.
 *
 * The has_value rule.  A strict transition function without an initcond takes
 * the first non-NULL input as the transition value; but if it returns NULL
 * later on, the value stays NULL for ever.  The saved form is NULL in both
 * situations, and has_value tells them apart: it is false exactly while such
 * an aggregate has seen no non-NULL input, and ks_agg_restore() then starts
 * afresh.  In every other case it is true.  No built-in strict transition
 * function returns NULL, so for built-in aggregates NULL means "nothing yet"
 * whatever has_value says, and a caller who keeps only the visible value of a
 * built-in count, sum or min needs no flag beside it.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/nodeAgg.h"
#include "fmgr.h"
#include "parser/parse_agg.h"
#include "parser/parse_coerce.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/expandeddatum.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "exec/aggstate.h"

/* The catalogs' view of one aggregate call, types resolved for its arguments. */
typedef struct AggDef
{
	Oid			transfn;
	Oid			finalfn;
	Oid			serialfn;
	Oid			deserialfn;
	Oid			combinefn;
	Oid			transtype;
	bool		final_extra;	/* finalfn wants dummies for the arguments */
	char		final_modify;	/* AGGMODIFY_xxx of finalfn */
	int			nargs;
	Oid			argtypes[FUNC_MAX_ARGS];
} AggDef;

struct KsAggRunner
{
	MemoryContext context;		/* the runner and its calls */
	AggState   *state;			/* what aggregate functions get as context */
	MemoryContext batch;		/* its aggregate context: transition values */
	MemoryContext temp;			/* garbage of one call */
};

struct KsAgg
{
	KsAggRunner *runner;
	KsAggKind	kind;
	bool		builtin;		/* see the has_value rule above */
	bool		trans_strict;
	bool		trans_byval;
	bool		final_copies;	/* finalfn may change the state: show it a copy */
	int			nargs;
	AggStatePerTransData trans; /* also what AggGetAggref() looks at */
	AggStatePerAggData peragg;
	FunctionCallInfo final_fcinfo;	/* NULL: no finalfn */
	FmgrInfo	combinefn;
	FunctionCallInfo combine_fcinfo;	/* NULL: not for restoring this one */
	FmgrInfo	mergefn;
	FunctionCallInfo merge_fcinfo;	/* NULL: not mergeable by a function */
};

static void load_definition(const Aggref *aggref, AggDef *def);
static KsAggKind kind_of(const Aggref *aggref, const AggDef *def);
static void check_plain_call(const Aggref *aggref);
static void setup_transition(KsAgg *agg, const AggDef *def);
static void setup_serialization(KsAgg *agg, const AggDef *def);
static void setup_combine(KsAgg *agg, const AggDef *def);
static void setup_merge(KsAgg *agg, const AggDef *def);
static void setup_final(KsAgg *agg, const AggDef *def);
static void load_initcond(KsAgg *agg);
static Datum copy_to_batch(KsAgg *agg, Datum value, bool byval, int16 len);
static Datum copy_saved(KsAgg *agg, Datum saved, bool byval, int16 len);
static void advance_byref(KsAgg *agg, KsAggValue *v, FunctionCallInfo fcinfo);
static Datum serialize(KsAgg *agg, const KsAggValue *v, bool *isnull);
static Datum deserialize(KsAgg *agg, Datum saved, bool *isnull);
static Datum combine_with_empty(KsAgg *agg, Datum value, bool *isnull);
static Datum run_final(KsAgg *agg, const KsAggValue *v, bool *isnull);
static Datum private_copy(KsAgg *agg, const KsAggValue *v, bool *isnull);
static Datum add_to_base(KsAgg *agg, const KsAggValue *v, bool *isnull);

/*
 * reset_temp
 *		Forget what the last function call left behind.
 */
static inline void
reset_temp(KsAggRunner *runner)
{
	if (!runner->temp->isReset || runner->temp->firstchild != NULL)
		MemoryContextReset(runner->temp);
}

/* ----------------------------------------------------------------
 * Questions about a call, answered from the catalogs
 * ----------------------------------------------------------------
 */

/*
 * ks_agg_kind
 *		Tell how the state of an aggregate call can be kept between batches.
 */
KsAggKind
ks_agg_kind(const Aggref *aggref)
{
	AggDef		def;

	if (aggref->aggkind != AGGKIND_NORMAL ||
		aggref->aggdistinct != NIL ||
		aggref->aggorder != NIL)
		return KS_AGG_INPUTS;

	load_definition(aggref, &def);
	return kind_of(aggref, &def);
}

/*
 * kind_of
 *		The part of ks_agg_kind() for calls without DISTINCT or ORDER BY.
 */
static KsAggKind
kind_of(const Aggref *aggref, const AggDef *def)
{
	if (aggref->aggkind != AGGKIND_NORMAL)
		return KS_AGG_INPUTS;
	if (aggref->aggfnoid == F_SUM_INT8 || aggref->aggfnoid == F_SUM_NUMERIC)
		return KS_AGG_ADD;
	if (def->transtype == INTERNALOID)
		return OidIsValid(def->serialfn) && OidIsValid(def->deserialfn) &&
			ks_agg_serialfn_usable(aggref, def->serialfn) ?
			KS_AGG_SERIAL : KS_AGG_INPUTS;

	/* anyelement may have become record, for one: not a type for a column */
	if (get_typtype(def->transtype) == TYPTYPE_PSEUDO)
		return KS_AGG_INPUTS;
	return KS_AGG_DIRECT;
}

/*
 * ks_agg_saved_type
 *		Type of a column that can hold the saved form.
 *
 * For a transition type that is a domain this is its base type: a transition
 * value may be NULL where the domain says NOT NULL.
 */
Oid
ks_agg_saved_type(const Aggref *aggref)
{
	AggDef		def;

	switch (ks_agg_kind(aggref))
	{
		case KS_AGG_DIRECT:
			load_definition(aggref, &def);
			return getBaseType(def.transtype);
		case KS_AGG_SERIAL:
			return BYTEAOID;
		case KS_AGG_ADD:
			return NUMERICOID;
		case KS_AGG_INPUTS:
			break;
	}
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("state of aggregate %s cannot be saved",
					format_procedure(aggref->aggfnoid))));
	return InvalidOid;			/* keep compiler quiet */
}

/*
 * ks_agg_saved_is_result
 *		True if the saved form is always the result, too.
 */
bool
ks_agg_saved_is_result(const Aggref *aggref)
{
	AggDef		def;

	switch (ks_agg_kind(aggref))
	{
		case KS_AGG_ADD:
			return true;
		case KS_AGG_DIRECT:
			load_definition(aggref, &def);
			return !OidIsValid(def.finalfn) && def.transtype == aggref->aggtype;
		default:
			return false;
	}
}

/*
 * ks_agg_mergeable
 *		True if two states can be put together without a trace of the order.
 */
bool
ks_agg_mergeable(const Aggref *aggref)
{
	KsAggKind	kind = ks_agg_kind(aggref);
	AggDef		def;

	if (kind == KS_AGG_INPUTS || !ks_agg_order_insensitive(aggref))
		return false;
	if (kind == KS_AGG_ADD)
		return true;
	load_definition(aggref, &def);
	return OidIsValid(def.combinefn);
}

/*
 * ks_agg_check_permissions
 *		Raise an error unless the user may run the aggregate.
 *
 * As in nodeAgg.c, the user needs EXECUTE on the aggregate, and the owner of
 * the aggregate needs it on the functions the aggregate consists of.
 */
void
ks_agg_check_permissions(const Aggref *aggref, Oid userid)
{
	AggDef		def;
	Oid			parts[5];
	Oid			owner;
	HeapTuple	tuple;
	AclResult	result;

	result = ks_function_aclcheck(aggref->aggfnoid, userid);
	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_AGGREGATE,
					   get_func_name(aggref->aggfnoid));
	InvokeFunctionExecuteHook(aggref->aggfnoid);

	load_definition(aggref, &def);
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(aggref->aggfnoid));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", aggref->aggfnoid);
	owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);

	parts[0] = def.transfn;
	parts[1] = def.finalfn;
	parts[2] = def.serialfn;
	parts[3] = def.deserialfn;
	parts[4] = OidIsValid(def.deserialfn) ? def.combinefn : InvalidOid;
	for (int i = 0; i < lengthof(parts); i++)
	{
		if (!OidIsValid(parts[i]))
			continue;
		result = ks_function_aclcheck(parts[i], owner);
		if (result != ACLCHECK_OK)
			aclcheck_error(result, OBJECT_FUNCTION, get_func_name(parts[i]));
		InvokeFunctionExecuteHook(parts[i]);
	}
}

/*
 * load_definition
 *		Read pg_aggregate, and resolve the transition type for the call.
 */
static void
load_definition(const Aggref *aggref, AggDef *def)
{
	HeapTuple	tuple;
	Form_pg_aggregate form;

	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(aggref->aggfnoid));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for aggregate %u", aggref->aggfnoid);
	form = (Form_pg_aggregate) GETSTRUCT(tuple);
	def->transfn = form->aggtransfn;
	def->finalfn = form->aggfinalfn;
	def->serialfn = form->aggserialfn;
	def->deserialfn = form->aggdeserialfn;
	def->combinefn = form->aggcombinefn;
	def->final_extra = form->aggfinalextra;
	def->final_modify = form->aggfinalmodify;
	def->transtype = form->aggtranstype;
	ReleaseSysCache(tuple);

	/* get_aggregate_argtypes() only reads, but is not declared so */
	def->nargs = get_aggregate_argtypes((Aggref *) aggref, def->argtypes);
	def->transtype = resolve_aggregate_transtype(aggref->aggfnoid,
												 def->transtype,
												 def->argtypes, def->nargs);
}

/* ----------------------------------------------------------------
 * Making runners and calls
 * ----------------------------------------------------------------
 */

/*
 * ks_agg_runner_create
 *		Make a runner, which lives in the current memory context.
 *
 * The executor builds the AggState, so every field an aggregate function may
 * look at is what it would be under a plain, ungrouped Agg node.
 */
KsAggRunner *
ks_agg_runner_create(void)
{
	MemoryContext context;
	MemoryContext old;
	KsAggRunner *runner;
	EState	   *estate;
	Agg		   *plan;

	context = AllocSetContextCreate(CurrentMemoryContext,
									"kstream aggregates",
									ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(context);

	plan = makeNode(Agg);
	plan->aggstrategy = AGG_PLAIN;
	plan->aggsplit = AGGSPLIT_SIMPLE;
	plan->numGroups = 1;
	plan->plan.lefttree = (Plan *) makeNode(Result);
	estate = CreateExecutorState();

	runner = palloc0(sizeof(KsAggRunner));
	runner->context = context;
	MemoryContextSwitchTo(estate->es_query_cxt);
	runner->state = castNode(AggState, ExecInitNode((Plan *) plan, estate, 0));
	runner->batch = runner->state->curaggcontext->ecxt_per_tuple_memory;
	runner->temp = runner->state->tmpcontext->ecxt_per_tuple_memory;

	MemoryContextSwitchTo(old);
	return runner;
}

/*
 * ks_agg_batch_reset
 *		Free transition values and results of all groups.
 *
 * Runs the callbacks that aggregate functions registered.
 */
void
ks_agg_batch_reset(KsAggRunner *runner)
{
	AggState   *state = runner->state;

	/* an error may have left these set */
	state->curperagg = NULL;
	state->curpertrans = NULL;
	state->pertrans = NULL;

	ReScanExprContext(state->curaggcontext);
	ReScanExprContext(state->tmpcontext);
}

/*
 * ks_agg_create
 *		Make a call ready to run.
 *
 * It lives as long as the runner.  The functions' own caches live there too,
 * so a runner should not outlive a change of the functions' definitions.
 */
KsAgg *
ks_agg_create(KsAggRunner *runner, const Aggref *aggref)
{
	MemoryContext old;
	AggDef		def;
	KsAgg	   *agg;

	check_plain_call(aggref);
	load_definition(aggref, &def);

	old = MemoryContextSwitchTo(runner->context);
	agg = palloc0(sizeof(KsAgg));
	agg->runner = runner;
	agg->kind = kind_of(aggref, &def);
	agg->builtin = aggref->aggfnoid < FirstUnpinnedObjectId;
	agg->nargs = def.nargs;
	agg->trans.aggref = agg->peragg.aggref = copyObject((Aggref *) aggref);

	setup_transition(agg, &def);
	load_initcond(agg);
	if (agg->kind == KS_AGG_SERIAL)
	{
		setup_serialization(agg, &def);
		setup_combine(agg, &def);
	}
	if (ks_agg_mergeable(aggref) && agg->kind != KS_AGG_ADD)
		setup_merge(agg, &def);
	setup_final(agg, &def);
	MemoryContextSwitchTo(old);

	/*
	 * As in nodeAgg.c: the first input becomes the transition value, which
	 * CREATE AGGREGATE checked; but the function may have been replaced.
	 */
	if (agg->trans_strict && agg->trans.initValueIsNull &&
		(def.nargs < 1 || !IsBinaryCoercible(def.argtypes[0], def.transtype)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("aggregate %s needs to have compatible input type and transition type",
						format_procedure(aggref->aggfnoid))));
	return agg;
}

/*
 * check_plain_call
 *		Refuse calls that sort or deduplicate their input, or are ordered-set.
 */
static void
check_plain_call(const Aggref *aggref)
{
	ListCell   *lc;
	bool		plain = aggref->aggkind == AGGKIND_NORMAL &&
		aggref->aggdistinct == NIL && aggref->aggorder == NIL;

	foreach(lc, aggref->args)
		plain = plain && !lfirst_node(TargetEntry, lc)->resjunk;

	if (!plain)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("aggregate %s with DISTINCT, ORDER BY or WITHIN GROUP cannot be run row by row",
						format_procedure(aggref->aggfnoid))));
}

/*
 * setup_transition
 *		Look up the transition function, told the types it is called with.
 */
static void
setup_transition(KsAgg *agg, const AggDef *def)
{
	AggStatePerTransData *trans = &agg->trans;
	Aggref	   *aggref = trans->aggref;
	Expr	   *expr;

	trans->numInputs = trans->numTransInputs = def->nargs;
	trans->transfn_oid = def->transfn;
	trans->serialfn_oid = def->serialfn;
	trans->deserialfn_oid = def->deserialfn;
	trans->aggtranstype = def->transtype;
	trans->aggCollation = aggref->inputcollid;
	get_typlenbyval(def->transtype,
					&trans->transtypeLen, &trans->transtypeByVal);

	build_aggregate_transfn_expr((Oid *) def->argtypes, def->nargs, 0,
								 aggref->aggvariadic, def->transtype,
								 aggref->inputcollid, def->transfn, InvalidOid,
								 &expr, NULL);
	fmgr_info(def->transfn, &trans->transfn);
	fmgr_info_set_expr((Node *) expr, &trans->transfn);

	trans->transfn_fcinfo = palloc0(SizeForFunctionCallInfo(def->nargs + 1));
	InitFunctionCallInfoData(*trans->transfn_fcinfo, &trans->transfn,
							 def->nargs + 1, aggref->inputcollid,
							 (Node *) agg->runner->state, NULL);

	agg->trans_strict = trans->transfn.fn_strict;
	agg->trans_byval = trans->transtypeByVal;
}

/*
 * setup_serialization
 *		Look up the functions that save and restore an internal state.
 */
static void
setup_serialization(KsAgg *agg, const AggDef *def)
{
	AggStatePerTransData *trans = &agg->trans;
	Node	   *context = (Node *) agg->runner->state;
	Expr	   *expr;

	build_aggregate_serialfn_expr(def->serialfn, &expr);
	fmgr_info(def->serialfn, &trans->serialfn);
	fmgr_info_set_expr((Node *) expr, &trans->serialfn);
	trans->serialfn_fcinfo = palloc0(SizeForFunctionCallInfo(1));
	InitFunctionCallInfoData(*trans->serialfn_fcinfo, &trans->serialfn, 1,
							 InvalidOid, context, NULL);

	build_aggregate_deserialfn_expr(def->deserialfn, &expr);
	fmgr_info(def->deserialfn, &trans->deserialfn);
	fmgr_info_set_expr((Node *) expr, &trans->deserialfn);
	trans->deserialfn_fcinfo = palloc0(SizeForFunctionCallInfo(2));
	InitFunctionCallInfoData(*trans->deserialfn_fcinfo, &trans->deserialfn, 2,
							 InvalidOid, context, NULL);
}

/*
 * setup_combine
 *		Look up the function that makes a deserialized state fit to go on from.
 *
 * CREATE AGGREGATE wants it not to be strict where the state is internal; had
 * somebody made it so later, it could not be called with an empty state.
 */
static void
setup_combine(KsAgg *agg, const AggDef *def)
{
	Oid			inputcollid = agg->trans.aggref->inputcollid;
	Oid			argtype = def->transtype;
	Expr	   *expr;

	if (!OidIsValid(def->combinefn) || func_strict(def->combinefn))
		return;
	build_aggregate_transfn_expr(&argtype, 1, 0, false, def->transtype,
								 inputcollid, def->combinefn, InvalidOid,
								 &expr, NULL);
	fmgr_info(def->combinefn, &agg->combinefn);
	fmgr_info_set_expr((Node *) expr, &agg->combinefn);
	agg->combine_fcinfo = palloc0(SizeForFunctionCallInfo(2));
	InitFunctionCallInfoData(*agg->combine_fcinfo, &agg->combinefn, 2,
							 inputcollid, (Node *) agg->runner->state, NULL);
}

/*
 * setup_merge
 *		Make the combine function ready to put two groups together.
 */
static void
setup_merge(KsAgg *agg, const AggDef *def)
{
	Oid			inputcollid = agg->trans.aggref->inputcollid;
	Oid			argtype = def->transtype;
	Expr	   *expr;

	build_aggregate_transfn_expr(&argtype, 1, 0, false, def->transtype,
								 inputcollid, def->combinefn, InvalidOid,
								 &expr, NULL);
	fmgr_info(def->combinefn, &agg->mergefn);
	fmgr_info_set_expr((Node *) expr, &agg->mergefn);
	agg->merge_fcinfo = palloc0(SizeForFunctionCallInfo(2));
	InitFunctionCallInfoData(*agg->merge_fcinfo, &agg->mergefn, 2,
							 inputcollid, (Node *) agg->runner->state, NULL);
}

/*
 * setup_final
 *		Look up the final function, if there is one.
 */
static void
setup_final(KsAgg *agg, const AggDef *def)
{
	AggStatePerAggData *peragg = &agg->peragg;
	Aggref	   *aggref = peragg->aggref;
	Expr	   *expr;

	peragg->transno = 0;
	peragg->finalfn_oid = def->finalfn;
	peragg->numFinalArgs = def->final_extra ? def->nargs + 1 : 1;
	peragg->shareable = def->final_modify != AGGMODIFY_READ_WRITE;
	get_typlenbyval(aggref->aggtype,
					&peragg->resulttypeLen, &peragg->resulttypeByVal);
	agg->final_copies = def->final_modify != AGGMODIFY_READ_ONLY;

	if (!OidIsValid(def->finalfn))
		return;
	build_aggregate_finalfn_expr((Oid *) def->argtypes, peragg->numFinalArgs,
								 def->transtype, aggref->aggtype,
								 aggref->inputcollid, def->finalfn, &expr);
	fmgr_info(def->finalfn, &peragg->finalfn);
	fmgr_info_set_expr((Node *) expr, &peragg->finalfn);

	agg->final_fcinfo =
		palloc0(SizeForFunctionCallInfo(peragg->numFinalArgs));
	InitFunctionCallInfoData(*agg->final_fcinfo, &peragg->finalfn,
							 peragg->numFinalArgs, aggref->inputcollid,
							 (Node *) agg->runner->state, NULL);
	for (int i = 1; i < peragg->numFinalArgs; i++)
		agg->final_fcinfo->args[i].isnull = true;
}

/*
 * load_initcond
 *		Read the initial transition value with the input function of its type.
 */
static void
load_initcond(KsAgg *agg)
{
	AggStatePerTransData *trans = &agg->trans;
	HeapTuple	tuple;
	Datum		initcond;
	Oid			typinput;
	Oid			typioparam;
	char	   *string;

	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(trans->aggref->aggfnoid));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for aggregate %u",
			 trans->aggref->aggfnoid);
	initcond = SysCacheGetAttr(AGGFNOID, tuple, Anum_pg_aggregate_agginitval,
							   &trans->initValueIsNull);
	if (!trans->initValueIsNull)
	{
		string = TextDatumGetCString(initcond);
		getTypeInputInfo(trans->aggtranstype, &typinput, &typioparam);
		trans->initValue = OidInputFunctionCall(typinput, string,
												typioparam, -1);
		pfree(string);
	}
	ReleaseSysCache(tuple);
}

/*
 * ks_agg_nargs
 *		Number of aggregated arguments.
 */
int
ks_agg_nargs(const KsAgg *agg)
{
	return agg->nargs;
}

/* ----------------------------------------------------------------
 * Running
 * ----------------------------------------------------------------
 */

/*
 * ks_agg_init
 *		Start the value of a new group.
 */
void
ks_agg_init(KsAgg *agg, KsAggValue *v)
{
	const AggStatePerTransData *trans = &agg->trans;

	v->isnull = trans->initValueIsNull;
	v->novalue = trans->initValueIsNull && agg->trans_strict;
	if (trans->initValueIsNull)
		v->value = (Datum) 0;
	else
		v->value = copy_to_batch(agg, trans->initValue,
								 trans->transtypeByVal, trans->transtypeLen);
	v->base = (Datum) 0;
	v->base_isnull = true;
}

/* Calls a function with the state as its first argument; what it returns is the new state. */
static inline void
call_for_state(KsAgg *agg, KsAggValue *v, FunctionCallInfo fcinfo)
{
	KsAggRunner *runner = agg->runner;
	MemoryContext old = MemoryContextSwitchTo(runner->temp);

	fcinfo->isnull = false;
	runner->state->curpertrans = &agg->trans;
	if (agg->trans_byval)
	{
		v->value = FunctionCallInvoke(fcinfo);
		v->isnull = fcinfo->isnull;
	}
	else
		advance_byref(agg, v, fcinfo);
	MemoryContextSwitchTo(old);
	runner->state->curpertrans = NULL;
	reset_temp(runner);
}

/*
 * ks_agg_merge
 *		Add the saved form of another group.
 *
 * A built-in aggregate's NULL state means that nothing was aggregated.
 */
void
ks_agg_merge(KsAgg *agg, KsAggValue *v, Datum saved, bool isnull, bool has_value)
{
	KsAggRunner *runner = agg->runner;
	FunctionCallInfo fcinfo = agg->merge_fcinfo;
	KsAggValue	other;
	MemoryContext old;

	if (isnull)
		return;
	ks_agg_restore(agg, &other, saved, isnull, has_value);
	if (agg->kind == KS_AGG_ADD)
	{
		old = MemoryContextSwitchTo(runner->batch);
		v->base = v->base_isnull ? other.base : DirectFunctionCall2(numeric_add, v->base, other.base);
		v->base_isnull = false;
		MemoryContextSwitchTo(old);
		return;
	}
	if (v->novalue || v->isnull)
	{
		*v = other;
		return;
	}
	fcinfo->args[0].value = v->value;
	fcinfo->args[0].isnull = false;
	fcinfo->args[1].value = other.value;
	fcinfo->args[1].isnull = other.isnull;
	call_for_state(agg, v, fcinfo);
}

/*
 * ks_agg_restore
 *		Let a group go on from its saved form.
 *
 * Nothing of "saved" is referenced afterwards.
 */
void
ks_agg_restore(KsAgg *agg, KsAggValue *v, Datum saved, bool isnull,
			   bool has_value)
{
	const AggStatePerTransData *trans = &agg->trans;

	if (agg->kind == KS_AGG_ADD)
	{
		ks_agg_init(agg, v);
		v->base_isnull = isnull;
		if (!isnull)
			v->base = copy_saved(agg, saved, false, -1);
		return;
	}
	if (isnull && agg->trans_strict && trans->initValueIsNull &&
		(agg->builtin || !has_value))
	{
		ks_agg_init(agg, v);
		return;
	}

	v->value = (Datum) 0;
	v->isnull = isnull;
	v->novalue = false;
	v->base = (Datum) 0;
	v->base_isnull = true;
	if (agg->kind == KS_AGG_SERIAL)
	{
		/* a strict serialfn is not shown NULL, so this NULL is the state */
		if (!isnull || !(trans->serialfn.fn_strict ||
						 trans->deserialfn.fn_strict))
			v->value = deserialize(agg, saved, &v->isnull);
	}
	else if (!isnull)
		v->value = copy_saved(agg, saved,
							  trans->transtypeByVal, trans->transtypeLen);
}

/*
 * ks_agg_advance
 *		Aggregate one row.
 */
void
ks_agg_advance(KsAgg *agg, KsAggValue *v, const NullableDatum *args)
{
	FunctionCallInfo fcinfo = agg->trans.transfn_fcinfo;
	int			nargs = agg->nargs;

	for (int i = 0; i < nargs; i++)
	{
		if (args[i].isnull && agg->trans_strict)
			return;				/* a NULL input changes nothing */
		fcinfo->args[i + 1] = args[i];
	}
	if (agg->trans_strict)
	{
		if (v->novalue)
		{
			/* the first input is the state; types were checked before */
			v->value = copy_to_batch(agg, args[0].value, agg->trans_byval,
									 agg->trans.transtypeLen);
			v->isnull = false;
			v->novalue = false;
			return;
		}
		if (v->isnull)
			return;				/* once NULL, always NULL */
	}

	fcinfo->args[0].value = v->value;
	fcinfo->args[0].isnull = v->isnull;
	call_for_state(agg, v, fcinfo);
}

/*
 * advance_byref
 *		Call a transition function whose value is passed by reference.
 *
 * A new value is moved to batch memory and the old one freed, unless the
 * function changed the old one in place, or handed back an expanded object that
 * it made in batch memory itself.
 */
static void
advance_byref(KsAgg *agg, KsAggValue *v, FunctionCallInfo fcinfo)
{
	int16		len = agg->trans.transtypeLen;
	MemoryContext batch = agg->runner->batch;
	Datum		newval;
	Datum		oldval = v->value;

	newval = FunctionCallInvoke(fcinfo);
	if (DatumGetPointer(newval) == DatumGetPointer(oldval) &&
		fcinfo->isnull == v->isnull)
		return;

	if (fcinfo->isnull)
		newval = (Datum) 0;
	else if (!DatumIsReadWriteExpandedObject(newval, false, len) ||
			 MemoryContextGetParent(DatumGetEOHP(newval)->eoh_context) != batch)
		newval = copy_to_batch(agg, newval, false, len);

	if (!v->isnull)
	{
		if (DatumIsReadWriteExpandedObject(oldval, false, len))
			DeleteExpandedObject(oldval);
		else
			pfree(DatumGetPointer(oldval));
	}
	v->value = newval;
	v->isnull = fcinfo->isnull;
}

/*
 * ks_agg_save
 *		The form of a group's value that a state table keeps.
 */
Datum
ks_agg_save(KsAgg *agg, const KsAggValue *v, bool *isnull, bool *has_value)
{
	*has_value = !v->novalue;
	*isnull = v->isnull;
	switch (agg->kind)
	{
		case KS_AGG_ADD:
			*has_value = true;
			return add_to_base(agg, v, isnull);
		case KS_AGG_SERIAL:
			return serialize(agg, v, isnull);
		case KS_AGG_DIRECT:
			if (v->isnull)
				return (Datum) 0;
			return copy_to_batch(agg, v->value, agg->trans_byval,
								 agg->trans.transtypeLen);
		case KS_AGG_INPUTS:
			break;
	}
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("state of aggregate %s cannot be saved",
					format_procedure(agg->trans.aggref->aggfnoid))));
	return (Datum) 0;			/* keep compiler quiet */
}

/*
 * ks_agg_final
 *		The result of a group as it stands; the value can go on afterwards.
 */
Datum
ks_agg_final(KsAgg *agg, const KsAggValue *v, bool *isnull)
{
	if (agg->kind == KS_AGG_ADD)
		return add_to_base(agg, v, isnull);
	return run_final(agg, v, isnull);
}

/*
 * run_final
 *		Call the final function, and move its result to batch memory.
 */
static Datum
run_final(KsAgg *agg, const KsAggValue *v, bool *isnull)
{
	KsAggRunner *runner = agg->runner;
	AggState   *state = runner->state;
	FunctionCallInfo fcinfo = agg->final_fcinfo;
	Datum		value = v->value;
	Datum		result;
	MemoryContext old;

	*isnull = v->isnull;
	if (fcinfo == NULL)
		return v->isnull ? (Datum) 0 :
			copy_to_batch(agg, value, agg->peragg.resulttypeByVal,
						  agg->peragg.resulttypeLen);
	if (agg->final_copies)
		value = private_copy(agg, v, isnull);
	if (fcinfo->flinfo->fn_strict && (*isnull || fcinfo->nargs > 1))
	{
		*isnull = true;
		return (Datum) 0;
	}

	fcinfo->args[0].value = MakeExpandedObjectReadOnly(value, *isnull,
													   agg->trans.transtypeLen);
	fcinfo->args[0].isnull = *isnull;
	fcinfo->isnull = false;

	/* AggStateIsShared() looks for the transition part in this array */
	state->pertrans = &agg->trans;
	state->curperagg = &agg->peragg;
	old = MemoryContextSwitchTo(runner->temp);
	result = FunctionCallInvoke(fcinfo);
	MemoryContextSwitchTo(old);
	state->curperagg = NULL;
	state->pertrans = NULL;

	*isnull = fcinfo->isnull;
	if (*isnull)
		result = (Datum) 0;
	else
		result = copy_to_batch(agg, result, agg->peragg.resulttypeByVal,
							   agg->peragg.resulttypeLen);
	reset_temp(runner);
	return result;
}

/*
 * private_copy
 *		Copy a transition value for a final function that may change it.
 *
 * An internal value is copied by way of its saved form.  One that cannot be
 * saved cannot be copied either; but then nobody goes on from it.
 */
static Datum
private_copy(KsAgg *agg, const KsAggValue *v, bool *isnull)
{
	Datum		saved;

	*isnull = v->isnull;
	if (agg->kind == KS_AGG_SERIAL)
	{
		saved = serialize(agg, v, isnull);
		if (*isnull)
			return (Datum) 0;
		return deserialize(agg, saved, isnull);
	}
	if (v->isnull || agg->trans.aggtranstype == INTERNALOID)
		return v->value;
	return copy_to_batch(agg, v->value, agg->trans_byval,
						 agg->trans.transtypeLen);
}

/*
 * add_to_base
 *		The saved sum plus the sum of this batch; sums of nothing are NULL.
 */
static Datum
add_to_base(KsAgg *agg, const KsAggValue *v, bool *isnull)
{
	KsAggRunner *runner = agg->runner;
	MemoryContext old;
	Datum		sum;

	sum = run_final(agg, v, isnull);
	if (v->base_isnull)
		return sum;
	if (*isnull)
		sum = copy_to_batch(agg, v->base, false, -1);
	else
	{
		old = MemoryContextSwitchTo(runner->batch);
		sum = DirectFunctionCall2(numeric_add, v->base, sum);
		MemoryContextSwitchTo(old);
	}
	*isnull = false;
	return sum;
}

/*
 * serialize
 *		Save an internal transition value; the result is in batch memory.
 */
static Datum
serialize(KsAgg *agg, const KsAggValue *v, bool *isnull)
{
	KsAggRunner *runner = agg->runner;
	FunctionCallInfo fcinfo = agg->trans.serialfn_fcinfo;
	MemoryContext old;
	Datum		result;

	/* functions that return a null pointer mean NULL */
	*isnull = v->isnull || DatumGetPointer(v->value) == NULL;
	if (*isnull && agg->trans.serialfn.fn_strict)
		return (Datum) 0;

	fcinfo->args[0].value = v->value;
	fcinfo->args[0].isnull = *isnull;
	fcinfo->isnull = false;
	runner->state->curpertrans = &agg->trans;
	old = MemoryContextSwitchTo(runner->temp);
	result = FunctionCallInvoke(fcinfo);
	MemoryContextSwitchTo(old);
	runner->state->curpertrans = NULL;

	*isnull = fcinfo->isnull;
	result = *isnull ? (Datum) 0 : copy_to_batch(agg, result, false, -1);
	reset_temp(runner);
	return result;
}

/*
 * deserialize
 *		Make an internal transition value of its saved form, in batch memory.
 *
 * deserialfn makes its result in the current context.  That is a temporary one
 * if a combine function will copy it, as in nodeAgg.c; without one its garbage
 * has to stay in batch memory, too.
 */
static Datum
deserialize(KsAgg *agg, Datum saved, bool *isnull)
{
	KsAggRunner *runner = agg->runner;
	FunctionCallInfo fcinfo = agg->trans.deserialfn_fcinfo;
	MemoryContext old;
	Datum		result;

	fcinfo->args[0].value = saved;
	fcinfo->args[0].isnull = *isnull;
	fcinfo->args[1].value = PointerGetDatum(NULL);	/* by convention */
	fcinfo->args[1].isnull = false;
	fcinfo->isnull = false;
	runner->state->curpertrans = &agg->trans;
	old = MemoryContextSwitchTo(agg->combine_fcinfo ? runner->temp :
								runner->batch);
	result = FunctionCallInvoke(fcinfo);
	*isnull = fcinfo->isnull || DatumGetPointer(result) == NULL;
	if (agg->combine_fcinfo && !*isnull)
		result = combine_with_empty(agg, result, isnull);
	MemoryContextSwitchTo(old);
	runner->state->curpertrans = NULL;
	reset_temp(runner);

	return *isnull ? (Datum) 0 : result;
}

/*
 * combine_with_empty
 *		Combine a deserialized state with an empty one, giving a full state.
 */
static Datum
combine_with_empty(KsAgg *agg, Datum value, bool *isnull)
{
	FunctionCallInfo fcinfo = agg->combine_fcinfo;
	Datum		result;

	fcinfo->args[0].value = (Datum) 0;
	fcinfo->args[0].isnull = true;
	fcinfo->args[1].value = value;
	fcinfo->args[1].isnull = false;
	fcinfo->isnull = false;
	result = FunctionCallInvoke(fcinfo);
	*isnull = fcinfo->isnull || DatumGetPointer(result) == NULL;
	return result;
}

/*
 * copy_to_batch
 *		Copy a non-NULL value to batch memory; expanded objects get flattened.
 */
static Datum
copy_to_batch(KsAgg *agg, Datum value, bool byval, int16 len)
{
	MemoryContext old;

	if (byval)
		return value;
	old = MemoryContextSwitchTo(agg->runner->batch);
	value = datumCopy(value, byval, len);
	MemoryContextSwitchTo(old);
	return value;
}

/*
 * copy_saved
 *		Copy a value that comes from a table to batch memory, detoasted.
 *
 * Functions that change their transition value in place cannot do so with a
 * toasted or short-header one, and would detoast it for every row.
 */
static Datum
copy_saved(KsAgg *agg, Datum saved, bool byval, int16 len)
{
	MemoryContext old;

	if (byval || len != -1)
		return copy_to_batch(agg, saved, byval, len);
	old = MemoryContextSwitchTo(agg->runner->batch);
	saved = PointerGetDatum(PG_DETOAST_DATUM_COPY(saved));
	MemoryContextSwitchTo(old);
	return saved;
}
