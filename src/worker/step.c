/*
 * step.c
 *		kstream.step(relation, max_rows): one micro-batch in the calling session.
 *
 * For tests and for debugging: the same code as in a worker, from decoding on,
 * at a moment and of a size the caller chooses, in the caller's transaction.
 * The query must not be running elsewhere, so it is paused first.
 */
#include "postgres.h"

#include "fmgr.h"
#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "base/clock.h"
#include "catalog/query_cat.h"
#include "sql/ddl_util.h"
#include "stream/batch.h"
#include "worker/task.h"
#include "worker/wakeup.h"

/* How long a step waits for the broker to hand on the first records. */
#define STEP_TIMEOUT_MS 10000

PG_FUNCTION_INFO_V1(ks_step);

/* Takes the query's lock for this transaction; the query must not be running. */
static void
lock_query(const KsQueryRow *query)
{
	if (ks_query_lock(query->id, false, false))
		return;
	if (!query->paused)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("continuous query \"%s\" is being run by a worker", get_rel_name(query->relation)),
				 errhint("Call kstream.pause() first.")));
	ks_query_take_over(query->id);
}

/* Fetches until there is a batch, or nothing more to be had; an error where that cannot be known. */
static bool
fetch_batch(KsTask *task, int max_rows)
{
	TimestampTz start = ks_clock_now();

	while (!ks_task_fetch(task, max_rows))
	{
		if (ks_task_caught_up(task))
			return false;
		if (TimestampDifferenceExceeds(start, ks_clock_now(), STEP_TIMEOUT_MS))
		{
			const char *trouble = ks_task_trouble(task);

			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("it is not known yet whether there is something to be read"),
					 trouble != NULL ? errdetail_internal("%s", trouble) : 0,
					 errhint("Call kstream.step() again when its brokers answer and its output is published.")));
		}
		(void) WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_SOCKET_READABLE | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
								 ks_task_eventfd(task), 100, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		ks_task_drain_eventfd(task);
		CHECK_FOR_INTERRUPTS();
	}
	return true;
}

/*
 * ks_step
 *		SQL: kstream.step(relation text, max_rows int, elapsed interval) returns
 *		int: records consumed, 0 when there was nothing left.
 */
Datum
ks_step(PG_FUNCTION_ARGS)
{
	char	   *name = ks_arg_required(fcinfo, 0, "relation");
	int			max_rows = PG_ARGISNULL(1) ? 1000 : PG_GETARG_INT32(1);
	KsQueryRow *query = ks_query_load_by_name(name);
	int64		quiet_us = ks_arg_interval_us(fcinfo, 2, "elapsed", 0);
	KsTaskProgress progress = {0};
	KsTask	   *task;

	if (query == NULL)
		query = ks_query_load_by_relation(ks_relation_by_name(name));
	if (query == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("relation \"%s\" is not kept by a continuous query", name)));
	if (ks_batches_active())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("kstream.step() cannot be called from within a continuous query"),
				 errhint("Call it in a statement of its own.")));
	if (max_rows <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_rows must be greater than zero")));
	ks_query_check_owner(query);
	if (strcmp(query->instance, ks_instance_id()) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("continuous query \"%s\" was restored or copied from another database", name),
				 errhint("Call kstream.resume() to run it here.")));
	lock_query(query);

	CommandCounterIncrement();
	task = ks_task_open(query->id, false);
	ks_task_set_quiet(task, quiet_us);
	/* Waiting for tables to be loaded takes a turn that consumes nothing. */
	for (int turn = 0; turn < 2; turn++)
	{
		if (!fetch_batch(task, max_rows))
			break;
		ks_task_run(task, &progress);
		if (progress.advanced || !progress.more)
			break;
	}
	ks_task_close(task);
	PG_RETURN_INT32(progress.records);
}
