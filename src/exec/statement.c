/*
 * statement.c
 *		Running a statement of a continuous query through its saved plans.
 *
 * A cached plan without parameters is never reconsidered, so there is one for
 * small batches and one for large ones; the caller has plans made anew when the
 * tables behind have grown much.
 *
 * Runs in: worker or a backend that steps; inside a transaction with SPI.
 */
#include "postgres.h"

#include "nodes/params.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "utils/resowner.h"

#include "base/guc.h"
#include "exec/statement.h"
#include "stream/batch.h"

/* Batches up to SMALL_BATCH rows run the plan made for a few rows. */
#define SMALL_BATCH 300
#define SMALL_BATCH_PLANNED 20
#define LARGE_BATCH_PLANNED 10000

/* See statement.h. */
void
ks_statement_forget_plans(KsStatement *statement)
{
	for (int i = 0; i < KS_PLAN_CLASSES; i++)
	{
		if (statement->plans[i] != NULL)
			SPI_freeplan(statement->plans[i]);
		statement->plans[i] = NULL;
	}
}

/* Memory context callback: saved plans live elsewhere and would stay. */
static void
forget_plans_callback(void *arg)
{
	ks_statement_forget_plans(arg);
}

/* See statement.h. */
KsStatement *
ks_statement_create(const KsQueryRow *query, const char *sql, int stream_scans,
					int nargs, const Oid *argtypes)
{
	KsStatement *statement = palloc0(sizeof(KsStatement));

	Assert(nargs <= lengthof(statement->argtypes));
	statement->query = query;
	statement->sql = sql;
	statement->stream_scans = stream_scans;
	statement->nargs = nargs;
	for (int i = 0; i < nargs; i++)
		statement->argtypes[i] = argtypes[i];
	statement->callback.func = forget_plans_callback;
	statement->callback.arg = statement;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &statement->callback);
	return statement;
}

/*
 * check_stream_scans
 *		A set-returning SQL function in FROM may be inlined, and its body may read
 *		a stream: then the plan reads streams more often than the query does.
 */
static void
check_stream_scans(KsStatement *statement, SPIPlanPtr plan)
{
	CachedPlan *cached = SPI_plan_get_cached_plan(plan);
	PlannedStmt *stmt;
	ListCell   *lc;
	int			n = 0;

	if (cached == NULL)
		return;
	stmt = linitial_node(PlannedStmt, cached->stmt_list);
	foreach(lc, stmt->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_FOREIGN_TABLE && ks_is_stream(rte->relid))
			n++;
	}
	ReleaseCachedPlan(cached, CurrentResourceOwner);
	if (n <= statement->stream_scans)
		return;
	SPI_freeplan(plan);
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("a function of continuous query \"%s\" reads a stream",
					get_rel_name(statement->query->relation)),
			 errhint("Read the stream in the FROM clause of the query itself.")));
}

/* The plan for a batch of this size. */
static SPIPlanPtr
get_plan(KsStatement *statement, int nrows)
{
	KsPlanClass class = nrows <= SMALL_BATCH ? KS_PLAN_SMALL : KS_PLAN_LARGE;

	/* Also in force when a cached plan is made anew after an invalidation. */
	ks_batch_planned_rows = class == KS_PLAN_SMALL ? SMALL_BATCH_PLANNED : LARGE_BATCH_PLANNED;
	if (statement->plans[class] == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare_cursor(statement->sql, statement->nargs, statement->argtypes,
											  CURSOR_OPT_GENERIC_PLAN);

		if (plan == NULL)
			elog(ERROR, "could not prepare the statement of a continuous query: %s",
				 SPI_result_code_string(SPI_result));
		SPI_keepplan(plan);
		check_stream_scans(statement, plan);
		statement->plans[class] = plan;
	}
	return statement->plans[class];
}

/* See statement.h. */
DestReceiver
ks_row_receiver(bool (*receive) (TupleTableSlot *slot, DestReceiver *self))
{
	DestReceiver receiver = *None_Receiver;

	receiver.receiveSlot = receive;
	return receiver;
}

/* The values as parameters, or NULL. */
static ParamListInfo
make_params(const KsStatement *statement, const Datum *values)
{
	ParamListInfo params;

	if (statement->nargs == 0)
		return NULL;
	params = makeParamList(statement->nargs);
	for (int i = 0; i < statement->nargs; i++)
	{
		params->params[i].value = values[i];
		params->params[i].isnull = false;
		params->params[i].pflags = PARAM_FLAG_CONST;
		params->params[i].ptype = statement->argtypes[i];
	}
	return params;
}

/* See statement.h. */
uint64
ks_statement_run(KsStatement *statement, int nrows, const Datum *values, DestReceiver *dest)
{
	SPIExecuteOptions options = {0};
	int			rc;

	if (ks_log_statements)
		ereport(LOG,
				(errmsg("continuous query \"%s\" runs over %d rows: %s",
						get_rel_name(statement->query->relation), nrows, statement->sql),
				 errhidestmt(true)));
	options.params = make_params(statement, values);
	options.dest = dest;
	options.read_only = false;
	ks_batch_statement = statement->sql;
	rc = SPI_execute_plan_extended(get_plan(statement, nrows), &options);
	if (rc < 0)
		elog(ERROR, "could not run the statement of a continuous query: %s", SPI_result_code_string(rc));
	return SPI_processed;
}
