/*
 * agg_test.c
 *		SQL-callable functions that run an aggregate through exec/aggstate.c.
 *
 * Each takes an aggregate call and a source query with a column g.  The rows of
 * the source are loaded with the arguments of the call evaluated, then fed to
 * the runner, group by group of g; agg_test.sql compares with GROUP BY g.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/toast_compression.h"
#include "access/toast_internals.h"
#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "portability/instr_time.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "exec/aggstate.h"

PG_MODULE_MAGIC;

/* One input row: its group, whether FILTER lets it pass, the arguments. */
typedef struct TestRow
{
	int			group;
	bool		pass;
	NullableDatum *args;
} TestRow;

/* One group, as a state table would keep it between batches. */
typedef struct TestGroup
{
	char	   *key;			/* NULL: the group of NULL */
	HeapTuple	saved;			/* NULL: not yet there */
	bool		has_value;
	bool		active;			/* value is valid in this batch */
	KsAggValue	value;
} TestGroup;

/* A call with its loaded input. */
typedef struct TestRun
{
	Aggref	   *aggref;
	KsAggKind	kind;
	KsAggRunner *runner;
	KsAgg	   *agg;
	TupleDesc	desc;			/* one column: the saved form */
	pg_prng_state random;
	int			nrows;
	TestRow    *rows;
	int			ngroups;
	TestGroup  *groups;
} TestRun;

PG_FUNCTION_INFO_V1(ks_test_agg);
PG_FUNCTION_INFO_V1(ks_test_agg_again);
PG_FUNCTION_INFO_V1(ks_test_agg_info);
PG_FUNCTION_INFO_V1(ks_test_agg_cost);
PG_FUNCTION_INFO_V1(ks_test_agg_cycle_cost);
PG_FUNCTION_INFO_V1(ks_test_agg_growth);
PG_FUNCTION_INFO_V1(ks_test_agg_permissions);

/*
 * analyze_call
 *		Analyse the call over the source; its second column counts g.
 */
static Query *
analyze_call(const char *call, const char *source)
{
	char	   *sql = psprintf("SELECT %s, count(g) FROM (%s) source",
							   call, source);
	List	   *raw = pg_parse_query(sql);
	List	   *queries;

	queries = pg_analyze_and_rewrite_fixedparams(linitial_node(RawStmt, raw),
												 sql, NULL, 0, NULL);
	return linitial_node(Query, queries);
}

/*
 * target_aggref
 *		The aggregate call in the nth column of the query.
 */
static Aggref *
target_aggref(Query *query, int n)
{
	return castNode(Aggref,
					list_nth_node(TargetEntry, query->targetList, n)->expr);
}

/*
 * input_query
 *		Turn the query into one for: g, FILTER, the arguments.
 */
static Query *
input_query(Query *query)
{
	Aggref	   *aggref = target_aggref(query, 0);
	Aggref	   *counter = target_aggref(query, 1);
	Expr	   *filter = aggref->aggfilter;
	List	   *targets = NIL;
	ListCell   *lc;

	if (filter == NULL)
		filter = (Expr *) makeBoolConst(true, false);
	targets = lappend(targets,
					  makeTargetEntry(linitial_node(TargetEntry,
													counter->args)->expr,
									  1, pstrdup("g"), false));
	targets = lappend(targets, makeTargetEntry(filter, 2, pstrdup("f"), false));
	foreach(lc, aggref->args)
		targets = lappend(targets,
						  makeTargetEntry(lfirst_node(TargetEntry, lc)->expr,
										  list_length(targets) + 1,
										  psprintf("x%d",
												   foreach_current_index(lc)),
										  false));
	query = copyObject(query);
	query->targetList = targets;
	query->hasAggs = false;
	return query;
}

/*
 * group_of
 *		Number of the group with this key, a new one if needed.
 */
static int
group_of(TestRun *run, char *key)
{
	for (int i = 0; i < run->ngroups; i++)
	{
		char	   *other = run->groups[i].key;

		if (key == NULL ? other == NULL : other != NULL && strcmp(key, other) == 0)
			return i;
	}
	run->groups = repalloc(run->groups, (run->ngroups + 1) * sizeof(TestGroup));
	memset(&run->groups[run->ngroups], 0, sizeof(TestGroup));
	run->groups[run->ngroups].key = key;
	return run->ngroups++;
}

/*
 * load_row
 *		Append a row of the input query.
 */
static void
load_row(TestRun *run, TupleTableSlot *slot)
{
	TupleDesc	desc = slot->tts_tupleDescriptor;
	TestRow    *row;
	char	   *key = NULL;
	Oid			output;
	bool		varlena;
	bool		isnull;
	Datum		value;

	run->rows = repalloc_huge(run->rows, (run->nrows + 1) * sizeof(TestRow));
	row = &run->rows[run->nrows++];
	value = slot_getattr(slot, 1, &isnull);
	if (!isnull)
	{
		getTypeOutputInfo(TupleDescAttr(desc, 0)->atttypid, &output, &varlena);
		key = OidOutputFunctionCall(output, value);
	}
	row->group = group_of(run, key);
	value = slot_getattr(slot, 2, &isnull);
	row->pass = !isnull && DatumGetBool(value);
	row->args = palloc0((desc->natts - 1) * sizeof(NullableDatum));
	for (int i = 2; i < desc->natts; i++)
	{
		NullableDatum *arg = &row->args[i - 2];

		value = slot_getattr(slot, i + 1, &arg->isnull);
		if (!arg->isnull)
			arg->value = datumCopy(value, TupleDescAttr(desc, i)->attbyval,
								   TupleDescAttr(desc, i)->attlen);
	}
}

/*
 * load_input
 *		Run the input query and keep its rows.
 */
static void
load_input(TestRun *run, Query *query)
{
	PlannedStmt *plan = pg_plan_query(query, "", 0, NULL);
	QueryDesc  *desc;
	TupleTableSlot *slot;

	run->rows = palloc(1);
	run->groups = palloc(1);
	desc = CreateQueryDesc(plan, "", GetActiveSnapshot(), InvalidSnapshot,
						   None_Receiver, NULL, NULL, 0);
	ExecutorStart(desc, 0);
	for (;;)
	{
		ResetPerTupleExprContext(desc->estate);
		slot = ExecProcNode(desc->planstate);
		if (TupIsNull(slot))
			break;
		load_row(run, slot);
	}
	ExecutorFinish(desc);
	ExecutorEnd(desc);
	FreeQueryDesc(desc);
}

/*
 * prepare_run
 *		Analyse the call, load its input and make a runner for it.
 */
static TestRun *
prepare_run(text *call, text *source, int seed)
{
	Query	   *query = analyze_call(text_to_cstring(call),
									 text_to_cstring(source));
	TestRun    *run = palloc0(sizeof(TestRun));

	run->aggref = target_aggref(query, 0);
	run->kind = ks_agg_kind(run->aggref);
	pg_prng_seed(&run->random, seed);
	load_input(run, input_query(query));
	run->runner = ks_agg_runner_create();
	run->agg = ks_agg_create(run->runner, run->aggref);
	if (ks_agg_nargs(run->agg) != list_length(run->aggref->args))
		elog(ERROR, "wrong number of arguments");
	if (run->kind != KS_AGG_INPUTS)
	{
		run->desc = CreateTemplateTupleDesc(1);
		TupleDescInitEntry(run->desc, 1, "saved",
						   ks_agg_saved_type(run->aggref), -1, 0);
	}
	return run;
}

/*
 * chance
 *		True once in n times.
 */
static bool
chance(TestRun *run, int n)
{
	return pg_prng_uint64_range(&run->random, 1, n) == 1;
}

/*
 * activate
 *		Make the group's value ready in this batch.
 */
static void
activate(TestRun *run, TestGroup *group)
{
	Datum		saved;
	bool		isnull;

	if (group->active)
		return;
	group->active = true;
	if (group->saved == NULL)
	{
		ks_agg_init(run->agg, &group->value);
		return;
	}
	saved = heap_getattr(group->saved, 1, run->desc, &isnull);
	ks_agg_restore(run->agg, &group->value, saved, isnull, group->has_value);
}

/*
 * store
 *		Keep the saved form as a table would: in a tuple, perhaps compressed.
 */
static void
store(TestRun *run, TestGroup *group)
{
	Form_pg_attribute att = TupleDescAttr(run->desc, 0);
	Datum		compressed = (Datum) 0;
	bool		isnull;
	Datum		saved = ks_agg_save(run->agg, &group->value, &isnull,
									&group->has_value);

	/* for a built-in aggregate the flag need not be kept */
	if (run->aggref->aggfnoid < 10000)
		group->has_value = chance(run, 2);
	if (!isnull && att->attlen == -1 && chance(run, 2))
		compressed = toast_compress_datum(saved, TOAST_PGLZ_COMPRESSION);
	if (DatumGetPointer(compressed) != NULL)
		saved = compressed;
	if (group->saved != NULL)
		heap_freetuple(group->saved);
	group->saved = heap_form_tuple(run->desc, &saved, &isnull);
	if (DatumGetPointer(compressed) != NULL)
		pfree(DatumGetPointer(compressed));
	group->active = false;
}

/*
 * disturb
 *		Look at the value in the midst; that must not change it.
 */
static void
disturb(TestRun *run, TestGroup *group)
{
	bool		isnull;
	bool		has_value;

	if (chance(run, 4))
		(void) ks_agg_final(run->agg, &group->value, &isnull);
	if (chance(run, 4))
		(void) ks_agg_save(run->agg, &group->value, &isnull, &has_value);
}

/*
 * feed
 *		Feed all rows, in batches of random size, up to the given one.
 */
static void
feed(TestRun *run, int max_batch)
{
	int			left = max_batch;

	for (int i = 0; i < run->nrows; i++)
	{
		TestGroup  *group = &run->groups[run->rows[i].group];

		activate(run, group);
		if (run->rows[i].pass)
			ks_agg_advance(run->agg, &group->value, run->rows[i].args);
		if (max_batch == 0)
			continue;

		disturb(run, group);
		if (--left > 0)
			continue;
		for (int g = 0; g < run->ngroups; g++)
			if (run->groups[g].active)
				store(run, &run->groups[g]);
		ks_agg_batch_reset(run->runner);
		left = pg_prng_uint64_range(&run->random, 1, max_batch);
	}
}

/*
 * check_saved_is_result
 *		Raise an error if the saved form ought to be the result but is not.
 */
static void
check_saved_is_result(TestRun *run, TestGroup *group, const char *result)
{
	Datum		saved;
	bool		isnull;
	bool		has_value;
	Oid			output;
	bool		varlena;
	char	   *string = NULL;

	if (!ks_agg_saved_is_result(run->aggref))
		return;
	getTypeOutputInfo(ks_agg_saved_type(run->aggref), &output, &varlena);
	saved = ks_agg_save(run->agg, &group->value, &isnull, &has_value);
	if (!isnull)
		string = OidOutputFunctionCall(output, saved);
	if ((string == NULL) != (result == NULL) ||
		(string != NULL && strcmp(string, result) != 0))
		elog(ERROR, "saved form is %s but result is %s", string, result);
}

/*
 * emit_results
 *		Return the results of all groups.
 */
static void
emit_results(FunctionCallInfo fcinfo, TestRun *run)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Oid			output;
	bool		varlena;

	getTypeOutputInfo(run->aggref->aggtype, &output, &varlena);
	for (int i = 0; i < run->ngroups; i++)
	{
		TestGroup  *group = &run->groups[i];
		Datum		values[2] = {0};
		bool		nulls[2];
		bool		isnull;
		Datum		result;
		char	   *string = NULL;

		activate(run, group);
		result = ks_agg_final(run->agg, &group->value, &isnull);
		if (!isnull)
			string = OidOutputFunctionCall(output, result);
		check_saved_is_result(run, group, string);

		nulls[0] = group->key == NULL;
		nulls[1] = isnull;
		if (!nulls[0])
			values[0] = CStringGetTextDatum(group->key);
		if (!isnull)
			values[1] = CStringGetTextDatum(string);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
}

/*
 * ks_test_agg(call, source, max_batch, seed) -> setof (g text, result text)
 *
 * max_batch 0: all rows in one batch.
 */
Datum
ks_test_agg(PG_FUNCTION_ARGS)
{
	TestRun    *run = prepare_run(PG_GETARG_TEXT_PP(0), PG_GETARG_TEXT_PP(1),
								  PG_GETARG_INT32(3));

	InitMaterializedSRF(fcinfo, 0);
	feed(run, PG_GETARG_INT32(2));
	emit_results(fcinfo, run);
	ks_agg_batch_reset(run->runner);
	return (Datum) 0;
}

/*
 * ks_test_agg_again(call, source) -> setof (g text, result text)
 *
 * Feeds the source once more as one batch to a runner that is kept for the
 * session, until there is another call.  A failed batch leaves no trace.
 */
Datum
ks_test_agg_again(PG_FUNCTION_ARGS)
{
	static MemoryContext kept = NULL;
	static TestRun *run = NULL;
	static char *kept_call = NULL;
	char	   *call = text_to_cstring(PG_GETARG_TEXT_PP(0));
	MemoryContext old;

	InitMaterializedSRF(fcinfo, 0);
	if (kept == NULL)
		kept = AllocSetContextCreate(TopMemoryContext, "kept run",
									 ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(kept);
	if (run == NULL || strcmp(kept_call, call) != 0)
	{
		run = NULL;
		MemoryContextReset(kept);
		kept_call = pstrdup(call);
		run = prepare_run(PG_GETARG_TEXT_PP(0), PG_GETARG_TEXT_PP(1), 1);
	}

	/* as a worker does after an error, and in any case */
	ks_agg_batch_reset(run->runner);
	for (int i = 0; i < run->ngroups; i++)
		run->groups[i].active = false;

	feed(run, 0);
	for (int i = 0; i < run->ngroups; i++)
		store(run, &run->groups[i]);
	MemoryContextSwitchTo(old);
	emit_results(fcinfo, run);
	ks_agg_batch_reset(run->runner);
	for (int i = 0; i < run->ngroups; i++)
		run->groups[i].active = false;
	return (Datum) 0;
}

/*
 * ks_test_agg_info(call, source) -> text: kind, saved type, properties
 */
Datum
ks_test_agg_info(PG_FUNCTION_ARGS)
{
	static const char *const kinds[] = {"direct", "serial", "add", "inputs"};
	Query	   *query = analyze_call(text_to_cstring(PG_GETARG_TEXT_PP(0)),
									 text_to_cstring(PG_GETARG_TEXT_PP(1)));
	Aggref	   *aggref = target_aggref(query, 0);
	KsAggKind	kind = ks_agg_kind(aggref);
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoString(&buf, kinds[kind]);
	if (kind != KS_AGG_INPUTS)
		appendStringInfo(&buf, " %s",
						 format_type_be(ks_agg_saved_type(aggref)));
	if (ks_agg_saved_is_result(aggref))
		appendStringInfoString(&buf, " result");
	if (ks_agg_order_insensitive(aggref))
		appendStringInfoString(&buf, " any-order");
	PG_RETURN_TEXT_P(cstring_to_text_with_len(buf.data, buf.len));
}

/*
 * ks_test_agg_cost(call, source, rounds) -> microseconds per advance
 */
Datum
ks_test_agg_cost(PG_FUNCTION_ARGS)
{
	TestRun    *run = prepare_run(PG_GETARG_TEXT_PP(0), PG_GETARG_TEXT_PP(1), 0);
	int			rounds = PG_GETARG_INT32(2);
	instr_time	start;
	instr_time	end;

	INSTR_TIME_SET_CURRENT(start);
	for (int round = 0; round < rounds; round++)
	{
		CHECK_FOR_INTERRUPTS();
		feed(run, 0);
	}
	INSTR_TIME_SET_CURRENT(end);
	INSTR_TIME_SUBTRACT(end, start);
	PG_RETURN_FLOAT8(INSTR_TIME_GET_DOUBLE(end) * 1e6 / run->nrows / rounds);
}

/*
 * ks_test_agg_cycle_cost(call, source, rounds) -> microseconds per group
 *
 * What a group costs that gets one row in a batch: restore, advance, save and
 * finalize; with a batch of as many groups as the source has rows.
 */
Datum
ks_test_agg_cycle_cost(PG_FUNCTION_ARGS)
{
	TestRun    *run = prepare_run(PG_GETARG_TEXT_PP(0), PG_GETARG_TEXT_PP(1), 0);
	int			rounds = PG_GETARG_INT32(2);
	TestGroup  *group = &run->groups[0];
	KsAggValue	value;
	Datum		saved;
	bool		isnull;
	bool		has_value;
	instr_time	start;
	instr_time	end;

	feed(run, 0);
	store(run, group);
	ks_agg_batch_reset(run->runner);
	INSTR_TIME_SET_CURRENT(start);
	for (int round = 0; round < rounds; round++)
	{
		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < run->nrows; i++)
		{
			saved = heap_getattr(group->saved, 1, run->desc, &isnull);
			ks_agg_restore(run->agg, &value, saved, isnull, true);
			ks_agg_advance(run->agg, &value, run->rows[i].args);
			(void) ks_agg_save(run->agg, &value, &isnull, &has_value);
			(void) ks_agg_final(run->agg, &value, &isnull);
		}
		ks_agg_batch_reset(run->runner);
	}
	INSTR_TIME_SET_CURRENT(end);
	INSTR_TIME_SUBTRACT(end, start);
	PG_RETURN_FLOAT8(INSTR_TIME_GET_DOUBLE(end) * 1e6 / run->nrows / rounds);
}

/*
 * ks_test_agg_growth(call, source, rounds) -> bytes
 *
 * Feeds the source over and over, in batches that go on from saved states, and
 * returns by how much the process grew after the first tenth of it.
 */
Datum
ks_test_agg_growth(PG_FUNCTION_ARGS)
{
	TestRun    *run = prepare_run(PG_GETARG_TEXT_PP(0), PG_GETARG_TEXT_PP(1), 1);
	int			rounds = PG_GETARG_INT32(2);
	Size		before = 0;
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext,
												  "saved states",
												  ALLOCSET_DEFAULT_SIZES);

	for (int round = 0; round < rounds; round++)
	{
		CHECK_FOR_INTERRUPTS();
		feed(run, 0);
		for (int g = 0; g < run->ngroups; g++)
		{
			bool		isnull;
			MemoryContext old;

			(void) ks_agg_final(run->agg, &run->groups[g].value, &isnull);
			old = MemoryContextSwitchTo(scratch);
			if (run->kind != KS_AGG_INPUTS)
				store(run, &run->groups[g]);
			run->groups[g].active = false;
			MemoryContextSwitchTo(old);
		}
		ks_agg_batch_reset(run->runner);
		if (round == rounds / 10)
			before = MemoryContextMemAllocated(TopMemoryContext, true);
	}
	PG_RETURN_INT64((int64) MemoryContextMemAllocated(TopMemoryContext, true) -
					(int64) before);
}

/*
 * ks_test_agg_permissions(call, source, role): error if the role may not
 */
Datum
ks_test_agg_permissions(PG_FUNCTION_ARGS)
{
	Query	   *query = analyze_call(text_to_cstring(PG_GETARG_TEXT_PP(0)),
									 text_to_cstring(PG_GETARG_TEXT_PP(1)));

	ks_agg_check_permissions(target_aggref(query, 0), PG_GETARG_OID(2));
	PG_RETURN_VOID();
}
