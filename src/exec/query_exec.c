/*
 * query_exec.c
 *		Running the row statement of a query over a batch, and finding the
 *		records that make it fail.
 *
 * The row statement runs through saved plans (statement.c); scanning a stream shows the rows of
 * the batch.  Errors in decoding never become errors here: the scan leaves such
 * a row out and reports it.  An error of an expression is different: it ends the
 * statement.  Then the row that the scan returned last is suspected; if the
 * statement fails on that record alone it is bad, and the batch is run again
 * without it.  After a few of those, the bad ones are looked for in one pass.  An
 * error that needs no record, or that no single record reproduces, is the
 * query's own and is raised.  In a join of streams records may fail together; then
 * the batch is processed in several rounds, as if they had come in several batches.
 *
 * Plans are made anew when the tables they read have grown much, since a plan
 * without parameters is never reconsidered.
 *
 * Runs in: worker or a backend that steps; inside a transaction.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "storage/bufmgr.h"
#include "tcop/dest.h"
#include "utils/plancache.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/guc.h"
#include "base/subxact.h"
#include "exec/operator.h"
#include "exec/join.h"
#include "exec/query_exec.h"
#include "exec/state_ddl.h"
#include "exec/statement.h"
#include "plan/compile.h"
#include "plan/window.h"
#include "store/change.h"
#include "store/dedup.h"
#include "store/join_buffer.h"

/* Errors found by retrying the batch before bad records are looked for one after the other. */
#define MAX_RETRIES 3

/* Grown tables are looked for at most this often. */
#define GROWTH_CHECK_MS 1000

/* After so many rows the memory of a batch is looked at. */
#define CHECK_MEMORY_EVERY 1024

struct KsQueryExec
{
	MemoryContext cxt;
	MemoryContext attempt_cxt;	/* reset for every attempt */
	const KsQueryRow *query;
	KsStatement *rows;			/* the row statement */
	bool		record_by_record;	/* see KsPlan */
	bool		joins_streams;
	bool		joins_by_hash;	/* streams, and nothing else, and by what can be hashed */
	List	   *lookups;
	List	   *state;			/* tables of ours that its statements read (oid list) */
	KsOperator *op;
	uint64		rows_added;		/* by the row statement, to look at the memory now and then */
	double		lookup_blocks;	/* size of the tables looked up when the plans were made */
	TimestampTz growth_checked;
};

/* Receives the rows of the row statement. */
typedef struct RowReceiver
{
	DestReceiver pub;
	KsQueryExec *exec;
	bool		check_only;		/* look for a bad record, do not process */
} RowReceiver;

/* State of one ks_exec_run. */
typedef struct ExecRun
{
	KsQueryExec *exec;
	List	   *batches;
	KsExecResult *result;
	MemoryContext cxt;			/* caller's: for the result */
	int			nrows;			/* of all batches, in their order */
	int			from;			/* rows from..to are run and applied in this round, see find_bad_match */
	int			to;
	int			next_rows;		/* rows of the round after it */
	bool		each_alone;		/* run record by record, see run_first_phase */
} ExecRun;

/*
 * check_memory
 *		A record may make many rows, and these many groups.  The error has whoever
 *		runs batches try again with fewer records.
 */
static void
check_memory(KsQueryExec *exec)
{
	if (MemoryContextMemAllocated(exec->attempt_cxt, true) / 1024 <= (Size) ks_batch_mem)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OUT_OF_MEMORY),
			 errmsg("the rows that the records of a batch make need more memory than kstream.batch_mem"),
			 errhint("Raise kstream.batch_mem, or process fewer records at a time.")));
}

/* Hands one row of the row statement to the operator. */
static bool
receive_row(TupleTableSlot *slot, DestReceiver *self)
{
	RowReceiver *receiver = (RowReceiver *) self;
	KsOperator *op = receiver->exec->op;

	if (receiver->check_only)
	{
		if (op->check != NULL)
			op->check(op, slot);
		return true;
	}
	op->add(op, slot);
	if (++receiver->exec->rows_added % CHECK_MEMORY_EVERY == 0)
		check_memory(receiver->exec);
	return true;
}

/* Blocks of all tables that the statements read. */
static double
count_lookup_blocks(KsQueryExec *exec)
{
	List	   *tables = list_concat_copy(exec->lookups, exec->state);
	double		blocks = 0;
	ListCell   *lc;

	foreach(lc, tables)
	{
		Relation	rel = try_table_open(lfirst_oid(lc), AccessShareLock);

		if (rel == NULL)
			continue;
		if (RELKIND_HAS_STORAGE(rel->rd_rel->relkind))
			blocks += RelationGetNumberOfBlocks(rel);
		table_close(rel, AccessShareLock);
	}
	return blocks;
}

/* Drops plans made for much smaller tables. */
static void
check_growth(KsQueryExec *exec)
{
	TimestampTz now;
	double		blocks;

	if (exec->lookups == NIL && exec->state == NIL)
		return;
	now = GetCurrentTimestamp();
	if (!TimestampDifferenceExceeds(exec->growth_checked, now, GROWTH_CHECK_MS))
		return;
	exec->growth_checked = now;
	blocks = count_lookup_blocks(exec);
	if (blocks > 2 * exec->lookup_blocks + 8 || blocks * 2 + 8 < exec->lookup_blocks)
	{
		ks_statement_forget_plans(exec->rows);
		if (exec->joins_streams)
			ks_join_forget_plans(exec->op);
		exec->lookup_blocks = blocks;
	}
}

/*
 * check_result_columns
 *		The result's first attributes are the columns of the query, in order: the
 *		table was made from it.
 */
static void
check_result_columns(const KsQueryRow *query, KsAnalysis *analysis)
{
	Relation	rel = table_open(query->relation, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	ListCell   *lc;

	foreach(lc, analysis->query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (tle->resjunk)
			continue;
		if (tle->resno > desc->natts || TupleDescAttr(desc, tle->resno - 1)->attisdropped ||
			TupleDescAttr(desc, tle->resno - 1)->atttypid != exprType((Node *) tle->expr))
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("column %d of relation \"%s\" is no longer what its query makes",
							tle->resno, RelationGetRelationName(rel)),
					 errdetail("The query makes \"%s\" of type %s there.", tle->resname,
							   format_type_be(exprType((Node *) tle->expr))),
					 errhint("The columns of a result table must stay as the query makes them; drop the table and create the query anew.")));
	}
	table_close(rel, NoLock);
}

/* See query_exec.h. */
KsQueryExec *
ks_exec_open(const KsQueryRow *query)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "kstream query", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	KsQueryExec *exec = palloc0(sizeof(KsQueryExec));
	const Oid	watermark_type = TIMESTAMPTZOID;
	KsOwnerScope scope;

	exec->cxt = cxt;
	exec->attempt_cxt = AllocSetContextCreate(cxt, "kstream batch attempt", ALLOCSET_DEFAULT_SIZES);
	exec->query = query;
	ks_owner_enter(query, &scope);
	if (OidIsValid(query->source))
	{
		exec->rows = ks_statement_create(query, ks_compile_source(query->source, query->relation), 1, 0, NULL);
		exec->op = ks_upsert_create(query);
	}
	else
	{
		KsAnalysis *analysis = ks_analyze_view(query->view);
		KsPlan	   *plan;

		ks_window_bind(analysis, query);
		if (query->kind == KS_QUERY_STREAM)
			plan = ks_compile_stream(analysis, query);
		else
		{
			plan = ks_compile(analysis, query, ks_changes_wanted(query->relation));
			check_result_columns(query, analysis);
			ks_check_state(analysis, plan, query);
		}
		exec->rows = ks_statement_create(query, plan->row_sql, analysis->join != NULL ?
										 plan->join->scans : analysis->stream_references,
										 analysis->join != NULL && analysis->join->watermark_is_late, &watermark_type);
		exec->record_by_record = plan->record_by_record;
		exec->lookups = analysis->lookups;
		if (plan->kind == KS_QUERY_STREAM)
			exec->op = ks_emit_create(query, plan);
		else if (plan->kind == KS_QUERY_APPEND)
			exec->op = ks_append_create(query, plan, analysis);
		else
			exec->op = ks_aggregate_create(query, plan, analysis);
		if (analysis->join != NULL)
		{
			exec->joins_streams = true;
			exec->joins_by_hash = exec->lookups == NIL && ks_join_can_hash(analysis->join);
			exec->state = ks_join_buffers(query->id);
			exec->op = ks_join_create(query, plan, analysis, exec->op);
		}
	}
	exec->lookup_blocks = count_lookup_blocks(exec);
	ks_owner_leave(&scope);
	MemoryContextSwitchTo(old);
	return exec;
}

/* See query_exec.h. */
void
ks_exec_close(KsQueryExec *exec)
{
	MemoryContextDelete(exec->cxt);
}

/* See query_exec.h. */
List *
ks_exec_lookups(const KsQueryExec *exec)
{
	return exec->lookups;
}

/* See query_exec.h. */
bool
ks_exec_joins_streams(const KsQueryExec *exec)
{
	return exec->joins_streams;
}

/* See query_exec.h. */
bool
ks_exec_needs_watermark(const KsQueryExec *exec)
{
	return exec->op->close != NULL;
}

/* See query_exec.h. */
void
ks_exec_set_watermark(KsQueryExec *exec, TimestampTz watermark)
{
	exec->op->watermark = watermark;
}

/* See query_exec.h. */
TimestampTz
ks_exec_next_close(const KsQueryExec *exec)
{
	return exec->op->next_close(exec->op);
}

/* See query_exec.h. */
int64
ks_exec_close_windows(KsQueryExec *exec, TimestampTz watermark, int limit, bool *more, List **dead)
{
	MemoryContext cxt = CurrentMemoryContext;
	KsOwnerScope scope;
	MemoryContext old;
	ListCell   *lc;
	int64		rows;

	*more = false;
	*dead = exec->op->dead = NIL;
	SPI_connect();
	ks_owner_enter(exec->query, &scope);
	old = MemoryContextSwitchTo(exec->attempt_cxt);
	rows = exec->op->close(exec->op, watermark, limit, more);
	MemoryContextSwitchTo(cxt);
	foreach(lc, exec->op->dead)
		*dead = lappend(*dead, ks_dead_record_copy(lfirst(lc)));
	exec->op->dead = NIL;
	MemoryContextSwitchTo(old);
	ks_owner_leave(&scope);
	SPI_finish();
	MemoryContextReset(exec->attempt_cxt);
	return rows;
}

/* See query_exec.h. */
void
ks_exec_start(KsQueryExec *exec)
{
	KsOwnerScope scope;

	SPI_connect();
	ks_owner_enter(exec->query, &scope);
	exec->op->late = NIL;
	exec->op->begin(exec->op, exec->attempt_cxt);
	exec->op->finish(exec->op);
	(void) exec->op->apply(exec->op);
	ks_owner_leave(&scope);
	SPI_finish();
	MemoryContextReset(exec->attempt_cxt);
}

/* See query_exec.h. */
bool
ks_may_be_a_records_fault(int sqlstate)
{
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case ERRCODE_INTERNAL_ERROR:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_OPERATOR_INTERVENTION:
		case ERRCODE_SYSTEM_ERROR:
		case ERRCODE_TRANSACTION_ROLLBACK:
		case ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE:	/* 55: locks too */
		case ERRCODE_CONNECTION_EXCEPTION:
		case ERRCODE_INVALID_TRANSACTION_STATE:
			return false;
		case ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION:
			/* Not a dropped or forbidden object, but text that a cast does not take. */
			return sqlstate == ERRCODE_SYNTAX_ERROR || sqlstate == ERRCODE_INVALID_NAME ||
				sqlstate == ERRCODE_UNDEFINED_OBJECT;
		default:
			return true;
	}
}

/* Remembers the row as bad and hides it from the query. */
static void
mark_bad(ExecRun *run, KsBatch *batch, int row, int sqlstate, const char *message)
{
	MemoryContext old = MemoryContextSwitchTo(run->cxt);
	KsBadRow   *bad = palloc(sizeof(KsBadRow));

	bad->batch = batch;
	bad->row = row;
	bad->sqlstate = sqlstate;
	bad->message = pstrdup(message);
	run->result->bad = lappend(run->result->bad, bad);
	MemoryContextSwitchTo(old);
	batch->skip[row] = true;
}

/* The scan met a row that cannot be decoded. */
static void
bad_row_handler(KsBatch *batch, int row, const KsRecordError *error, void *arg)
{
	mark_bad((ExecRun *) arg, batch, row, error->sqlstate, error->message);
}

/* Runs the row statement once over what the batches show now. */
static void
execute_rows(ExecRun *run, int nrows, bool check_only)
{
	KsQueryExec *exec = run->exec;
	RowReceiver receiver = {ks_row_receiver(receive_row), exec, check_only};
	Datum		watermark = TimestampTzGetDatum(exec->op->watermark);

	(void) ks_statement_run(exec->rows, nrows, &watermark, &receiver.pub);
	if (check_only && exec->op->check_records != NULL)
		exec->op->check_records(exec->op);
}

/* A row of all batches, in their order, as one of a batch that comes after so many rows. */
static int
row_of_batch(const KsBatch *batch, int row, int before)
{
	return Min(Max(row - before, 0), batch->nrows);
}

/* Shows rows from..to of all batches, in their order. */
static void
show_range(ExecRun *run, int from, int to)
{
	int			before = 0;
	ListCell   *lc;

	ks_alone_batch = NULL;
	foreach(lc, run->batches)
	{
		KsBatch    *batch = lfirst(lc);

		batch->first = row_of_batch(batch, from, before);
		batch->last = row_of_batch(batch, to, before);
		before += batch->nrows;
	}
}

/* Shows all rows of the round. */
static void
show_all(ExecRun *run)
{
	show_range(run, run->from, run->to);
}

/* Shows nothing but rows from..to of one batch. */
static void
show_rows(ExecRun *run, KsBatch *only, int from, int to)
{
	ListCell   *lc;

	ks_alone_batch = to - from == 1 ? only : NULL;
	ks_alone_row = from;
	foreach(lc, run->batches)
	{
		KsBatch    *batch = lfirst(lc);

		batch->first = batch == only ? from : 0;
		batch->last = batch == only ? to : 0;
	}
}

/*
 * execute_marked_row
 *		Runs the row statement over the one record shown, in a subtransaction.  If it
 *		fails now, after those before it, the record is bad and has done nothing.
 */
static void
execute_marked_row(ExecRun *run, KsBatch *batch, int row)
{
	KsOperator *op = run->exec->op;
	KsSubxact	sub;
	ErrorData  *volatile edata = NULL;

	op->mark(op);
	ks_subxact_begin(&sub);
	PG_TRY();
	{
		execute_rows(run, 1, false);
		ks_subxact_commit(&sub);
	}
	PG_CATCH();
	{
		edata = ks_subxact_abort(&sub);
	}
	PG_END_TRY();
	if (edata == NULL)
		return;
	if (!ks_may_be_a_records_fault(edata->sqlerrcode))
		ReThrowError(edata);
	op->undo(op);
	mark_bad(run, batch, row, edata->sqlerrcode, edata->message);
	FreeErrorData(edata);
}

/* Runs the row statement over one record after the other. */
static void
execute_each_row(ExecRun *run)
{
	bool		marked = run->each_alone && run->exec->op->mark != NULL;
	ListCell   *lc;

	foreach(lc, run->batches)
	{
		KsBatch    *batch = lfirst(lc);

		for (int row = 0; row < batch->nrows; row++)
		{
			if (batch->skip[row])
				continue;
			show_rows(run, batch, row, row + 1);
			if (marked)
				execute_marked_row(run, batch, row);
			else
				execute_rows(run, 1, false);
			CHECK_FOR_INTERRUPTS();
		}
	}
	show_all(run);
}

/*
 * try_rows
 *		Runs the row statement in a subtransaction.  Returns NULL, or the error if
 *		it is one that a record can be guilty of; others are raised.
 */
static ErrorData *
try_rows(ExecRun *run, int nrows, bool check_only)
{
	KsQueryExec *exec = run->exec;
	KsSubxact	sub;
	ErrorData  *volatile edata = NULL;
	bool		begin = !check_only || exec->op->begin_to_check;

	MemoryContextReset(exec->attempt_cxt);
	ks_subxact_begin(&sub);
	PG_TRY();
	{
		if (begin)
		{
			exec->op->late = NIL;
			exec->op->begin(exec->op, exec->attempt_cxt);
		}
		if ((exec->record_by_record || run->each_alone) && !check_only)
			execute_each_row(run);
		else
			execute_rows(run, nrows, check_only);
		if (begin)
			exec->op->finish(exec->op);
		ks_subxact_commit(&sub);
	}
	PG_CATCH();
	{
		edata = ks_subxact_abort(&sub);
		if (!check_only && exec->op->explain_error != NULL)
			exec->op->explain_error(exec->op, edata);
	}
	PG_END_TRY();
	if (edata != NULL && !ks_may_be_a_records_fault(edata->sqlerrcode))
		ReThrowError(edata);
	return edata;
}

/* Tries one record alone; marks it if it is bad. */
static bool
record_is_bad(ExecRun *run, KsBatch *batch, int row)
{
	ErrorData  *edata;

	if (batch->skip[row])
		return true;
	show_rows(run, batch, row, row + 1);
	edata = try_rows(run, 1, true);
	if (edata == NULL)
		return batch->skip[row];
	mark_bad(run, batch, row, edata->sqlerrcode, edata->message);
	FreeErrorData(edata);
	return true;
}

/*
 * raise_own_error
 *		Raises the error of a statement that fails over no records as well, as one
 *		does that cannot be planned or has a condition on constants that fails:
 *		every record tried alone would get the blame.
 */
static void
raise_own_error(ExecRun *run)
{
	ErrorData  *edata;

	show_rows(run, NULL, 0, 0);
	edata = try_rows(run, 0, true);
	if (edata != NULL)
		ThrowErrorData(edata);
}

/*
 * find_bad_rows
 *		Finds the bad rows from..to of a batch; returns true if there is one that
 *		was not known, for only then the batch need be run again.  The
 *		statement runs over them until it fails; the row it stopped at is tried
 *		alone, and the search goes on behind it.  Where the row it stopped at is not
 *		to blame, halves are searched.  The plan for few rows is used throughout: it
 *		costs nothing to start.
 */
static bool
find_bad_rows(ExecRun *run, KsBatch *batch, int from, int to)
{
	bool		found = false;

	check_stack_depth();
	while (from < to)
	{
		ErrorData  *edata;
		int			row;

		CHECK_FOR_INTERRUPTS();
		if (run->exec->record_by_record)
		{
			found |= !batch->skip[from] && record_is_bad(run, batch, from);
			from++;
			continue;
		}
		if (to - from == 1)
			return (!batch->skip[from] && record_is_bad(run, batch, from)) || found;
		ks_current_batch = NULL;
		show_rows(run, batch, from, to);
		edata = try_rows(run, 1, true);
		if (edata == NULL)
			return found;
		FreeErrorData(edata);
		row = ks_current_row;
		if (ks_current_batch == batch && row >= from && row < to && !batch->skip[row] &&
			record_is_bad(run, batch, row))
		{
			found = true;
			from = row + 1;
		}
		else
		{
			int			middle = from + (to - from) / 2;

			found |= find_bad_rows(run, batch, from, middle);
			from = middle;
		}
	}
	return found;
}

/* Finds the bad rows of the round; returns true if there is one. */
static bool
find_all_bad_rows(ExecRun *run)
{
	ListCell   *lc;
	int			before = 0;
	bool		found = false;

	foreach(lc, run->batches)
	{
		KsBatch    *batch = lfirst(lc);

		found |= find_bad_rows(run, batch, row_of_batch(batch, run->from, before),
							   row_of_batch(batch, run->to, before));
		before += batch->nrows;
	}
	return found;
}

/* Marks row n of all batches, in their order. */
static void
mark_nth_bad(ExecRun *run, int n, const ErrorData *edata)
{
	ListCell   *lc;

	foreach(lc, run->batches)
	{
		KsBatch    *batch = lfirst(lc);

		if (n < batch->nrows)
		{
			mark_bad(run, batch, n, edata->sqlerrcode, edata->message);
			return;
		}
		n -= batch->nrows;
	}
}

/* Hides the duplicates among the rows that are shown. */
static void
hide_duplicates(ExecRun *run)
{
	ListCell   *lc;

	foreach(lc, run->batches)
	{
		KsBatch    *batch = lfirst(lc);

		if (batch->dedup != NULL)
			ks_dedup_decide(batch->dedup, batch);
	}
}

/*
 * hold_back
 *		on_error = 'stop': hides everything from the first bad record of a
 *		partition on, so that only what is before it is applied.  What is hidden
 *		makes no other record a duplicate.
 */
static void
hold_back(ExecRun *run)
{
	ListCell   *lc;

	foreach(lc, run->batches)
	{
		KsBatch    *batch = lfirst(lc);

		memset(batch->skip, 0, sizeof(bool) * Max(batch->nrows, 1));
	}
	foreach(lc, run->result->bad)
	{
		KsBadRow   *bad = lfirst(lc);
		KsRecord   *first = &bad->batch->rows[bad->row].rec;

		for (int row = 0; row < bad->batch->nrows; row++)
		{
			KsRecord   *rec = &bad->batch->rows[row].rec;

			if (rec->partition == first->partition && rec->offset >= first->offset)
				bad->batch->skip[row] = true;
		}
	}
	hide_duplicates(run);
}

/*
 * find_bad_match
 *		Streams joined with each other: records of a batch may fail together
 *		though none does alone.  The one that comes last is bad, as if the others
 *		had been processed before it: the shortest beginning of the round that
 *		fails ends with it.
 *
 *		Then the others are processed before it: the round ends there.  What fails
 *		together with them fails alone in the rounds after it.  These begin small, since
 *		more may fail together.  With on_error = 'stop' nothing of the partition comes
 *		after it.
 */
static bool
find_bad_match(ExecRun *run)
{
	ErrorData  *failure;
	int			good = run->from;
	int			bad = run->to;

	show_all(run);
	failure = try_rows(run, run->to - run->from, true);
	if (failure == NULL)
		return false;
	while (bad - good > 1)
	{
		int			middle = good + (bad - good) / 2;
		ErrorData  *edata;

		CHECK_FOR_INTERRUPTS();
		show_range(run, run->from, middle);
		edata = try_rows(run, middle - run->from, true);
		if (edata == NULL)
			good = middle;
		else
		{
			failure = edata;
			bad = middle;
		}
	}
	mark_nth_bad(run, bad - 1, failure);
	if (run->exec->query->stop_on_error)
		hold_back(run);
	else
	{
		run->to = bad;
		run->next_rows = 1;
	}
	return true;
}

/*
 * run_first_phase
 *		Runs the row statement until it ends without an error, leaving bad
 *		records out.  A statement that fails although no record does on its own
 *		(another plan may evaluate in another order, or an aggregate fails at what
 *		the records give together) is run record by record once.  So it ends: every
 *		round before that finds another bad record.
 */
static void
run_first_phase(ExecRun *run)
{
	int			retries = 0;

	for (;;)
	{
		ErrorData  *edata;
		KsBatch    *suspect;
		int			row;

		ks_current_batch = NULL;
		show_all(run);
		edata = try_rows(run, run->to - run->from, false);
		if (edata == NULL)
			return;
		suspect = ks_current_batch;
		row = ks_current_row;
		CHECK_FOR_INTERRUPTS();
		if (run->each_alone)
			ThrowErrorData(edata);
		if (retries == 0)
			raise_own_error(run);
		if (retries++ < MAX_RETRIES && suspect != NULL && row >= 0 && !suspect->skip[row] &&
			record_is_bad(run, suspect, row))
			continue;
		if (find_all_bad_rows(run))
			continue;
		if (!run->exec->joins_streams)
			run->each_alone = true;
		else if (!find_bad_match(run))
			ThrowErrorData(edata);
	}
}

/*
 * run_before_stop
 *		on_error = 'stop': runs the query over what is before the first bad record
 *		of each partition.  A record that was a duplicate of one held back is not
 *		any more, and may be bad.
 */
static void
run_before_stop(ExecRun *run)
{
	int			known;

	do
	{
		known = list_length(run->result->bad);
		hold_back(run);
		run_first_phase(run);
	} while (list_length(run->result->bad) > known);
}

/* Prepares the batches to be scanned by this query. */
static void
show_batches(ExecRun *run)
{
	ListCell   *lc;

	ks_batch_set_bad_handler(bad_row_handler, run);
	foreach(lc, run->batches)
	{
		KsBatch    *batch = lfirst(lc);

		batch->skip = MemoryContextAllocZero(batch->cxt, sizeof(bool) * Max(batch->nrows, 1));
		ks_batch_show(batch);
		run->nrows += batch->nrows;
	}
	run->to = run->nrows;
	show_all(run);
	hide_duplicates(run);
}

/* Copies what was left out as late, from the attempt's memory. */
static void
take_late_rows(ExecRun *run)
{
	MemoryContext old = MemoryContextSwitchTo(run->cxt);
	ListCell   *lc;

	foreach(lc, run->exec->op->late)
	{
		KsLateRow  *late = palloc(sizeof(KsLateRow));

		*late = *(KsLateRow *) lfirst(lc);
		run->result->late = lappend(run->result->late, late);
	}
	run->exec->op->late = NIL;
	MemoryContextSwitchTo(old);
}

/* Runs and applies the rows of the round. */
static void
run_round(ExecRun *run)
{
	KsOperator *op = run->exec->op;

	run_first_phase(run);
	if (run->exec->query->stop_on_error && run->result->bad != NIL)
		run_before_stop(run);
	/* The rest looks at tables only; streams read there are not this batch's. */
	ks_batch_hide_all();
	run->result->rows_out += op->apply(op);
	take_late_rows(run);
}

/* Goes on to the rows that the round has left over, and that see what it has written; false if there are none. */
static bool
next_round(ExecRun *run)
{
	ListCell   *lc;

	if (run->to == run->nrows)
		return false;
	CommandCounterIncrement();
	UpdateActiveSnapshotCommandId();
	foreach(lc, run->batches)
		ks_batch_show(lfirst(lc));
	run->from = run->to;
	run->to = Min(run->from + run->next_rows, run->nrows);
	run->next_rows *= 2;
	return true;
}

/* See query_exec.h. */
void
ks_exec_run(KsQueryExec *exec, List *batches, KsExecResult *result)
{
	ExecRun		run = {.exec = exec,.batches = batches,.result = result,.cxt = CurrentMemoryContext};
	KsOwnerScope scope;

	memset(result, 0, sizeof(*result));
	SPI_connect();
	ks_owner_enter(exec->query, &scope);
	PG_TRY();
	{
		show_batches(&run);
		if (exec->joins_streams)
			ks_join_planner_settings(exec->joins_by_hash);
		check_growth(exec);
		do
		{
			run_round(&run);
		} while (next_round(&run));
	}
	PG_FINALLY();
	{
		ks_batch_hide_all();
		ks_batch_statement = NULL;
		ks_batch_planned_rows = 0;
	}
	PG_END_TRY();
	ks_owner_leave(&scope);
	SPI_finish();
	MemoryContextReset(exec->attempt_cxt);
}
