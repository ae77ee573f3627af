/*
 * sink_runner.c
 *		One turn of a sink in a worker.
 *
 * A turn goes on until the sink waits for something, or has had its share of the
 * worker's time.  What needs a transaction gets one of its own; calls of the
 * client are made outside of any.
 *
 * Runs in: workers.
 */
#include "postgres.h"

#include "utils/backend_status.h"
#include "utils/timestamp.h"

#include "pgstat.h"
#include "base/clock.h"
#include "worker/runner.h"
#include "worker/slots.h"
#include "worker/stats.h"

/* After this time other queries of the worker have their turn. */
#define KS_TURN_MS 20

/* What the guarded parts work on. */
typedef struct KsSinkTurn
{
	KsRunner   *runner;
	KsPublisherNeed need;
	KsPublisherProgress progress;
} KsSinkTurn;

/* work_body: what is done outside of transactions. */
static void
work_body(void *arg)
{
	KsSinkTurn *turn = arg;

	ks_publisher_drain_eventfd(turn->runner->publisher);
	turn->need = ks_publisher_work(turn->runner->publisher, &turn->progress);
}

/* transact_body: what is done inside one. */
static void
transact_body(void *arg)
{
	ks_publisher_transact(((KsSinkTurn *) arg)->runner->publisher);
}

/* count_body: a commit whose result nobody has told is counted. */
static void
count_body(void *arg)
{
	ks_sink_count_in_doubt(((KsSinkTurn *) arg)->runner->id);
}

/* failed: counts a commit in doubt, then what happens to any error. */
static void
failed(KsSinkTurn *turn, ErrorData *edata)
{
	KsRunner   *r = turn->runner;

	if (r->publisher != NULL && ks_publisher_in_doubt(r->publisher))
	{
		ErrorData  *second = ks_guarded(count_body, turn);

		if (second != NULL)
			FreeErrorData(second);
	}
	ks_runner_failed(r, edata);
}

/* account: statistics, and those who wait are told. */
static void
account(KsRunner *r, const KsPublisherProgress *progress)
{
	if (progress->records > 0)
	{
		ks_stat_batch(r->id, progress->records, progress->records, 0, Max(progress->latency_us, 0),
					  progress->latency_us);
		ks_runner_healthy(r);
		ks_stat_state(r->id, r->generation, KS_STATE_RUNNING, NULL);
	}
	else if (progress->idle && (r->failures > 0 || r->conflicts > 0 || r->has_error))
		ks_runner_healthy(r);
}

/* ks_sink_run: see runner.h. */
void
ks_sink_run(KsRunner *r)
{
	KsSinkTurn	turn = {r, KS_NEED_CALL};
	TimestampTz start = ks_clock_now();
	ErrorData  *edata;

	r->batch_at = start;
	pgstat_report_activity(STATE_RUNNING, r->name);
	do
	{
		edata = ks_unguarded(work_body, &turn);
		if (edata == NULL)
			account(r, &turn.progress);
		if (edata == NULL && turn.need == KS_NEED_TRANSACTION)
		{
			edata = ks_guarded(transact_body, &turn);
			if (edata == NULL)
			{
				ks_publisher_committed(r->publisher);
				ks_worker_progress();
			}
		}
	} while (edata == NULL && turn.need != KS_NEED_EVENT &&
			 !TimestampDifferenceExceeds(start, ks_clock_now(), KS_TURN_MS));
	pgstat_report_activity(STATE_IDLE, NULL);
	if (edata != NULL)
	{
		failed(&turn, edata);
		return;
	}
	if (turn.need != KS_NEED_EVENT)
	{
		r->ready = true;
		return;
	}
	r->ready = turn.progress.call_at != 0;
	r->retry_at = turn.progress.call_at;
	/* A try after an error is no better than that error before it has got somewhere. */
	if (turn.progress.watching && r->has_error)
		return;
	if (turn.progress.idle || turn.progress.trouble != NULL)
		ks_stat_state(r->id, r->generation, KS_STATE_WAITING, turn.progress.trouble);
}
