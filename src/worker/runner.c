/*
 * runner.c
 *		One continuous query in a worker: when it runs, and what happens to its errors.
 *
 * A runner takes the query's lock, opens its task and runs its batches, each in
 * a transaction of its own; between batches there is neither transaction nor
 * snapshot.  Everything that may fail runs guarded, so that an error of one
 * query touches nothing but that query: the transaction is aborted, the task is
 * closed, and the query is opened again, at the committed positions, after a
 * delay that doubles from 1 s to 60 s until a batch is committed.  Errors that
 * pass by themselves (a conflict, a lock not granted in time,
 * pg_cancel_backend) are tried again at once a few times before anybody is
 * told.  A broker that does not answer is no failure either: the query waits
 * for it.
 *
 * An error that comes from the query being dropped, paused or changed at this
 * moment is no error: the definition is looked at before one is reported.
 *
 * Runs in: workers.
 */
#include "postgres.h"

#include "access/xact.h"
#include "base/clock.h"
#include "base/faultpoint.h"
#include "base/guc.h"
#include "commands/extension.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lwlock.h"
#include "utils/backend_status.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"
#include "worker/runner.h"
#include "worker/slots.h"
#include "worker/stats.h"

#define KS_BATCH_TIMEOUT_MS (10 * 60 * 1000)
#define KS_BACKOFF_MIN_MS 1000
#define KS_BACKOFF_MAX_MS 60000
#define KS_BROKER_MAX_MS 5000	/* greatest delay while a broker is away */
#define KS_SLOW_OPEN_MS 200
#define KS_CONFLICT_MS 20		/* first delay after a passing error */
#define KS_CONFLICTS_QUIET 5	/* so many of them in a row tell nobody */
#define KS_LOCK_RETRY_MS 100
#define KS_LOOK_AGAIN_MS 100
#define KS_PUBLISH_MS 50
#define KS_LOG_EVERY_MS 60000

uint64		ks_runner_changes = 0;

/* No query whose last opening failed slowly is opened before this time. */
static TimestampTz slow_open_after = 0;

/* ks_runner_create: in the current context; nothing is opened yet. */
KsRunner *
ks_runner_create(const KsRunnable *what)
{
	KsRunner   *r = palloc0(sizeof(KsRunner));

	r->id = what->id;
	r->is_sink = what->is_sink;
	r->generation = what->generation;
	r->name = pstrdup(what->name);
	r->batch_rows = what->batch_rows;
	r->batch_interval_ms = what->batch_interval_ms;
	r->has_error = what->has_error;
	r->ready = true;
	ks_stat_state(r->id, r->generation, KS_STATE_STARTING, NULL);
	return r;
}

/* close_body: ks_task_close or ks_publisher_close, guarded. */
static void
close_body(void *arg)
{
	KsRunner   *r = arg;

	if (r->task != NULL)
		ks_task_close(r->task);
	if (r->publisher != NULL)
		ks_publisher_close(r->publisher);
}

/* close_task: lets go of the task's client and memory; the lock stays. */
static void
close_task(KsRunner *r)
{
	ErrorData  *edata = NULL;

	/* for how long nothing has come, above all: the next task goes on from there */
	if (r->task != NULL)
		ks_runner_publish(r, true);
	if (r->task != NULL || r->publisher != NULL)
		edata = ks_guarded(close_body, r);
	if (edata != NULL)
		FreeErrorData(edata);
	r->task = NULL;
	r->publisher = NULL;
	r->settled = false;
	if (r->cxt != NULL)
		MemoryContextDelete(r->cxt);
	r->cxt = NULL;
	ks_runner_changes++;
}

/* release_query: closes the task and gives the query's lock away. */
static void
release_query(KsRunner *r)
{
	close_task(r);
	if (r->locked)
		ks_query_unlock(r->id);
	r->locked = false;
}

/* ks_runner_destroy: another worker, or nobody, runs the query from now on. */
void
ks_runner_destroy(KsRunner *r)
{
	release_query(r);
	pfree(r->name);
	pfree(r);
}

/* ks_guarded: see runner.h. */
ErrorData *
ks_guarded(KsGuarded fn, void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	ErrorData  *volatile edata = NULL;

	PG_TRY();
	{
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		fn(arg);
		PopActiveSnapshot();
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		disable_timeout(STATEMENT_TIMEOUT, false);
		MemoryContextSwitchTo(caller);
		edata = CopyErrorData();
		FlushErrorState();
		AbortOutOfAnyTransaction();
		QueryCancelPending = false;
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	return edata;
}

/* definition_body: is the query still the one that this runner knows?  Sets changed. */
static void
definition_body(void *arg)
{
	KsRunner   *r = arg;

	r->changed = true;
	if (!OidIsValid(get_extension_oid("kstream", true)))
		return;
	if (r->is_sink)
	{
		KsSinkRow  *row = ks_sink_load(r->id);

		r->changed = row == NULL || row->paused || row->generation != r->generation;
	}
	else
	{
		KsQueryRow *row = ks_query_load(r->id);

		r->changed = row == NULL || row->paused || row->generation != r->generation;
	}
}

/* definition_changed: see definition_body; what cannot be looked at now has changed. */
static bool
definition_changed(KsRunner *r)
{
	ErrorData  *edata = ks_guarded(definition_body, r);

	if (edata != NULL)
	{
		r->changed = true;
		FreeErrorData(edata);
	}
	return r->changed;
}

/* What remember_body stores. */
typedef struct KsErrorNote
{
	int32		id;
	bool		is_sink;
	int			sqlstate;		/* 0: the query goes on again */
	const char *message;
} KsErrorNote;

/* remember_body: stores or clears the error in the catalog. */
static void
remember_body(void *arg)
{
	KsErrorNote *note = arg;

	if (note->is_sink && note->sqlstate != 0)
		ks_sink_set_error(note->id, note->sqlstate, note->message);
	else if (note->is_sink)
		ks_sink_clear_error(note->id);
	else if (note->sqlstate != 0)
		ks_query_set_error(note->id, note->sqlstate, note->message);
	else
		ks_query_clear_error(note->id);
}

/* remember_error: tells the catalog; that it cannot be told now is no reason to stop. */
static void
remember_error(KsRunner *r, int sqlstate, const char *message)
{
	KsErrorNote note = {r->id, r->is_sink, sqlstate, message};
	ErrorData  *edata = ks_guarded(remember_body, &note);

	if (edata != NULL)
		FreeErrorData(edata);
	else
		r->has_error = sqlstate != 0;
}

/* is_passing: will the same batch probably succeed when tried again? */
static bool
is_passing(int sqlstate)
{
	return sqlstate == ERRCODE_T_R_SERIALIZATION_FAILURE ||
		sqlstate == ERRCODE_T_R_DEADLOCK_DETECTED ||
		sqlstate == ERRCODE_T_R_STATEMENT_COMPLETION_UNKNOWN ||
		sqlstate == ERRCODE_LOCK_NOT_AVAILABLE ||
		sqlstate == ERRCODE_QUERY_CANCELED;
}

/* is_broker_away: is it a client's error that goes when the broker comes? */
static bool
is_broker_away(int sqlstate)
{
	return ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_CONNECTION_EXCEPTION;
}

/* is_blocking: must somebody decide how a sink goes on? */
static bool
is_blocking(const KsRunner *r, int sqlstate)
{
	return r->is_sink &&
		(sqlstate == ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE || sqlstate == ERRCODE_OBJECT_IN_USE);
}

/* jittered: the delay, 20 % up or down. */
static long
jittered(long ms)
{
	return (long) (ms * (0.8 + 0.4 * pg_prng_double(&pg_global_prng_state)));
}

/* log_failure: once a minute per kind of error. */
static void
log_failure(KsRunner *r, int elevel, const char *what, const ErrorData *edata, TimestampTz now)
{
	if (r->logged_sqlstate == edata->sqlerrcode && r->logged_at != 0 &&
		now < TimestampTzPlusMilliseconds(r->logged_at, KS_LOG_EVERY_MS))
		return;
	r->logged_at = now;
	r->logged_sqlstate = edata->sqlerrcode;
	ereport(elevel,
			(errcode(edata->sqlerrcode),
			 errmsg("%s %s %s: %s", r->is_sink ? "sink" : "continuous query", r->name, what, edata->message),
			 edata->detail_log ? errdetail_internal("%s", edata->detail_log) :
			 edata->detail ? errdetail_internal("%s", edata->detail) : 0,
			 edata->hint ? errhint("%s", edata->hint) : 0,
			 edata->context ? errcontext("%s", edata->context) : 0));
}

/* error_text: message, detail and hint, as a user is to read them in last_error. */
static char *
error_text(const ErrorData *edata)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoString(&buf, edata->message);
	if (edata->detail != NULL)
		appendStringInfo(&buf, "\nDETAIL:  %s", edata->detail);
	if (edata->hint != NULL)
		appendStringInfo(&buf, "\nHINT:  %s", edata->hint);
	return buf.data;
}

/*
 * add_hint: where Postgres gives none for what users do to a result table.  A
 * statement that runs as the owner fires no deferred triggers, nor checks
 * deferred constraints, which are such triggers.
 */
static void
add_hint(ErrorData *edata)
{
	if (edata->hint == NULL && edata->message_id != NULL &&
		strcmp(edata->message_id, "cannot fire deferred trigger within security-restricted operation") == 0)
		edata->hint = pstrdup("A trigger or constraint of the table is INITIALLY DEFERRED: make it INITIALLY IMMEDIATE, or drop it.");
}

/* batch_rows: how many records a batch of the query may have. */
static int
batch_rows(const KsRunner *r)
{
	int			rows = r->batch_rows > 0 ? r->batch_rows : ks_batch_rows;

	return r->row_limit > 0 ? Min(rows, r->row_limit) : rows;
}

/*
 * shrink_batch: after one that needed too much memory, or took too long, the next
 * ones have fewer records.  False if that is no remedy.
 */
static bool
shrink_batch(KsRunner *r, const ErrorData *edata, TimestampTz now)
{
	int			rows = batch_rows(r);
	bool		too_long = edata->sqlerrcode == ERRCODE_QUERY_CANCELED &&
		now >= TimestampTzPlusMilliseconds(r->batch_at, KS_BATCH_TIMEOUT_MS);

	if (r->is_sink || rows <= 1 || (edata->sqlerrcode != ERRCODE_OUT_OF_MEMORY && !too_long))
		return false;
	r->row_limit = Max(rows / (r->row_limit > 0 ? 2 : 4), 1);
	log_failure(r, LOG, psprintf("goes on with %d records a batch", r->row_limit), edata, now);
	return true;
}

/* grow_batch: slowly, since too much costs a batch; up to what is set. */
static void
grow_batch(KsRunner *r)
{
	if (r->row_limit == 0)
		return;
	r->row_limit += r->row_limit / 16 + 1;
	if (batch_rows(r) < r->row_limit)
		r->row_limit = 0;
}

/* ks_runner_failed: decides when the query is tried again, and who is told why. */
void
ks_runner_failed(KsRunner *r, ErrorData *edata)
{
	TimestampTz now = ks_clock_now();
	long		delay_ms;

	close_task(r);
	r->ready = true;
	add_hint(edata);
	if (definition_changed(r))
	{
		r->retry_at = TimestampTzPlusMilliseconds(now, KS_LOCK_RETRY_MS);
		FreeErrorData(edata);
		return;
	}
	if (shrink_batch(r, edata, now))
	{
		FreeErrorData(edata);
		return;
	}
	if (is_passing(edata->sqlerrcode) && r->conflicts < KS_CONFLICTS_QUIET)
	{
		delay_ms = jittered(KS_CONFLICT_MS << r->conflicts);
		r->conflicts++;
		ks_stat_error(r->id, r->generation, false, edata->sqlerrcode, edata->message, delay_ms);
		ereport(DEBUG1,
				(errmsg_internal("continuous query %s: %s, trying again", r->name, edata->message)));
	}
	else if (is_broker_away(edata->sqlerrcode))
	{
		delay_ms = jittered(Min((long) KS_BACKOFF_MIN_MS << Min(r->failures, 6), KS_BROKER_MAX_MS));
		r->failures++;
		ks_stat_state(r->id, r->generation, KS_STATE_WAITING,
					  edata->detail != NULL ? edata->detail : edata->message);
		log_failure(r, LOG, "waits for its broker", edata, now);
	}
	else
	{
		delay_ms = jittered(Min((long) KS_BACKOFF_MIN_MS << Min(r->failures, 6),
								KS_BACKOFF_MAX_MS));
		r->failures++;
		ks_stat_error(r->id, r->generation, true, edata->sqlerrcode, error_text(edata), delay_ms);
		if (is_blocking(r, edata->sqlerrcode))
			ks_stat_state(r->id, r->generation, KS_STATE_BLOCKED, error_text(edata));
		log_failure(r, WARNING, "failed", edata, now);
		remember_error(r, edata->sqlerrcode, error_text(edata));
		ks_worker_progress();
	}
	r->retry_at = TimestampTzPlusMilliseconds(now, delay_ms);
	FreeErrorData(edata);
}

/* ks_runner_healthy: the query works again. */
void
ks_runner_healthy(KsRunner *r)
{
	r->failures = 0;
	r->conflicts = 0;
	r->logged_at = 0;
	if (r->has_error)
		remember_error(r, 0, NULL);
}

/* open_body: takes the lock and opens the task. */
static void
open_body(void *arg)
{
	KsRunner   *r = arg;
	MemoryContext old;

	if (!r->locked && !ks_query_lock(r->id, true, false))
		return;
	r->locked = true;
	r->cxt = AllocSetContextCreate(TopMemoryContext, "kstream query", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(r->cxt);
	if (r->is_sink)
		r->publisher = ks_publisher_open(r->id);
	else
		r->task = ks_task_open(r->id, true);
	MemoryContextSwitchTo(old);
}

/*
 * note_slow_open: an opening that failed after a long time (a broker that does
 * not answer) kept all other queries of the worker waiting.  Such openings may
 * take at most half of the worker's time.
 */
static void
note_slow_open(KsRunner *r, TimestampTz start)
{
	TimestampTz now = ks_clock_now();
	long		ms = TimestampDifferenceMilliseconds(start, now);

	r->slow = ms >= KS_SLOW_OPEN_MS;
	if (r->slow)
		slow_open_after = TimestampTzPlusMilliseconds(now, ms);
}

/* ks_runner_open: false if the query cannot run now; retry_at says when to try again. */
bool
ks_runner_open(KsRunner *r)
{
	TimestampTz start = ks_clock_now();
	ErrorData  *edata;

	if (r->slow && start < slow_open_after)
	{
		r->retry_at = slow_open_after;
		return false;
	}
	edata = ks_guarded(open_body, r);
	if (edata != NULL)
		note_slow_open(r, start);
	ks_runner_changes++;
	if (edata != NULL)
	{
		ks_runner_failed(r, edata);
		return false;
	}
	if (r->task == NULL && r->publisher == NULL)
	{
		r->retry_at = TimestampTzPlusMilliseconds(ks_clock_now(), KS_LOCK_RETRY_MS);
		return false;
	}
	KS_FAULT("after_open");
	return true;
}

/* batch_interval: least time from batch to batch, in ms. */
static int
batch_interval(const KsRunner *r)
{
	return r->batch_interval_ms >= 0 ? r->batch_interval_ms : ks_batch_interval;
}

/* ks_unguarded: see runner.h. */
ErrorData *
ks_unguarded(void (*fn) (void *arg), void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	ErrorData  *volatile edata = NULL;

	PG_TRY();
	{
		fn(arg);
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(caller);
		edata = CopyErrorData();
		FlushErrorState();
		AbortOutOfAnyTransaction();
		LWLockReleaseAll();
		pgstat_report_wait_end();
		QueryCancelPending = false;
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	return edata;
}

/* What fetch_body works on. */
typedef struct KsFetch
{
	KsRunner   *runner;
	bool		found;
} KsFetch;

/* fetch_body: takes what has arrived. */
static void
fetch_body(void *arg)
{
	KsFetch    *fetch = arg;

	ks_task_drain_eventfd(fetch->runner->task);
	fetch->found = ks_task_fetch(fetch->runner->task, batch_rows(fetch->runner));
	KS_FAULT("after_fetch");
}

/*
 * fetch: takes what has arrived, outside of any transaction.  Returns 1 if
 * there is a batch, 0 if not, -1 after an error.
 */
static int
fetch(KsRunner *r)
{
	KsFetch		what = {r, false};
	ErrorData  *edata = ks_unguarded(fetch_body, &what);

	if (edata != NULL)
	{
		ks_runner_failed(r, edata);
		return -1;
	}
	return what.found ? 1 : 0;
}

/* What batch_body works on. */
typedef struct KsBatchRun
{
	KsRunner   *runner;
	KsTaskProgress progress;
} KsBatchRun;

/* tell_settled: for kstream.wait(): before the commit that leaves windows to be closed, after the one that leaves none. */
static void
tell_settled(KsRunner *r, bool settled)
{
	if (r->settled == settled || !ks_task_closes_windows(r->task))
		return;
	ks_stat_settled(r->id, settled);
	r->settled = settled;
}

/* publish_partition: ks_task_visit_partitions' visitor. */
static void
publish_partition(Oid source, int32 partition, const KsPartitionState *state, void *arg)
{
	KsRunner   *r = arg;

	ks_stat_partition(r->id, source, partition, r->generation, state);
}

/* ks_runner_publish: shows committed positions in shared memory; now and then, or by force. */
void
ks_runner_publish(KsRunner *r, bool force)
{
	TimestampTz now = ks_clock_now();

	r->unpublished = true;
	if (r->task == NULL ||
		(!force && now < TimestampTzPlusMilliseconds(r->published_at, KS_PUBLISH_MS)))
		return;
	ks_task_visit_partitions(r->task, publish_partition, r);
	r->unpublished = false;
	r->published_at = now;
}

/*
 * show_work: a batch begins, and may take long: the query is running, and behind
 * by what the batch has.  One that has failed stays so until it has succeeded.
 */
static void
show_work(void *arg)
{
	KsRunner   *r = arg;

	if (r->failures > 0 || r->conflicts > 0 || r->has_error)
		return;
	ks_stat_state(r->id, r->generation, KS_STATE_RUNNING, NULL);
	/* not in the place of what is shown after the commit */
	if (ks_clock_now() >= TimestampTzPlusMilliseconds(r->published_at, KS_PUBLISH_MS))
		ks_task_visit_partitions(r->task, publish_partition, r);
}

/* batch_body: the batch, in its transaction. */
static void
batch_body(void *arg)
{
	KsBatchRun *run = arg;

	ks_task_set_observer(run->runner->task, show_work, run->runner);
	enable_timeout_after(STATEMENT_TIMEOUT, KS_BATCH_TIMEOUT_MS);
	ks_task_run(run->runner->task, &run->progress);
	disable_timeout(STATEMENT_TIMEOUT, false);
	if (run->progress.closing)
		tell_settled(run->runner, false);
	KS_FAULT("before_commit");
}

/* count_batch: for stat_query. */
static void
count_batch(KsRunner *r, const KsTaskProgress *progress, TimestampTz end)
{
	int64		latency_us = -1;

	if (!TIMESTAMP_NOT_FINITE(progress->newest) && progress->newest != 0)
		latency_us = GetCurrentTimestamp() - progress->newest;
	ks_stat_batch(r->id, progress->records, progress->rows_out, progress->dead,
				  end - r->batch_at, latency_us);
}

/* rest: nothing has arrived; shows what the query waits for. */
static void
rest(KsRunner *r)
{
	int			look_again_ms = ks_task_look_again_ms(r->task);
	int			clock_ms = ks_task_clock_ms(r->task);

	if (!ks_task_is_held_up(r->task))
		tell_settled(r, true);
	r->look_at = clock_ms > 0 ? TimestampTzPlusMilliseconds(ks_clock_now(), clock_ms) : 0;
	r->ready = look_again_ms > 0;
	r->retry_at = r->ready ? TimestampTzPlusMilliseconds(ks_clock_now(), look_again_ms) : 0;
	if ((r->failures > 0 || r->has_error) && !ks_task_caught_up(r->task))
		return;
	if (r->failures > 0 || r->conflicts > 0 || r->has_error)
		ks_runner_healthy(r);
	ks_stat_state(r->id, r->generation, KS_STATE_WAITING, ks_task_trouble(r->task));
	ks_runner_publish(r, false);
}

/* run_batch: commits what was fetched, or handles the error. */
static void
run_batch(KsRunner *r)
{
	KsBatchRun	run = {r};
	ErrorData  *edata;

	run.progress.newest = DT_NOBEGIN;
	r->batch_at = ks_clock_now();
	pgstat_report_activity(STATE_RUNNING, r->name);
	edata = ks_guarded(batch_body, &run);
	if (edata != NULL)
	{
		pgstat_report_activity(STATE_IDLE, NULL);
		ks_runner_failed(r, edata);
		return;
	}
	KS_FAULT("after_commit");
	ks_task_committed(r->task);
	if (!run.progress.closing)
		tell_settled(r, true);
	pgstat_report_activity(STATE_IDLE, NULL);
	r->ready = run.progress.more || run.progress.advanced;
	if (!run.progress.advanced)
	{
		if (!r->ready)
			rest(r);
		if (!r->ready && !ks_task_caught_up(r->task))
		{
			/* it waits for something that no event tells: look again soon */
			r->ready = true;
			r->retry_at = TimestampTzPlusMilliseconds(r->batch_at, KS_LOOK_AGAIN_MS);
		}
		return;
	}
	grow_batch(r);
	count_batch(r, &run.progress, ks_clock_now());
	ks_runner_healthy(r);
	ks_stat_state(r->id, r->generation, KS_STATE_RUNNING, NULL);
	ks_runner_publish(r, false);
	ks_worker_progress();
}

/* ks_runner_run: one step: opens the task if it must be, then runs at most one batch. */
void
ks_runner_run(KsRunner *r)
{
	int			fetched;

	r->retry_at = r->look_at = 0;
	if (r->task == NULL && r->publisher == NULL && !ks_runner_open(r))
		return;
	if (r->is_sink)
	{
		ks_sink_run(r);
		return;
	}
	fetched = fetch(r);
	if (fetched > 0)
		run_batch(r);
	else if (fetched == 0)
		rest(r);
}

/* ks_runner_due: should it run now?  If not, *when is the time it may (0: when woken). */
bool
ks_runner_due(const KsRunner *r, TimestampTz now, TimestampTz *when)
{
	TimestampTz due = r->retry_at;
	int			interval = batch_interval(r);

	*when = 0;
	if (!r->ready)
	{
		*when = r->look_at;
		return r->look_at != 0 && r->look_at <= now;
	}
	if (interval > 0 && r->task != NULL && r->batch_at != 0)
		due = Max(due, TimestampTzPlusMilliseconds(r->batch_at, interval));
	if (due <= now)
		return true;
	*when = due;
	return false;
}

/* ks_runner_serve_release: gives the lock away if a session wants it; true if it did. */
bool
ks_runner_serve_release(KsRunner *r)
{
	if (!ks_stat_release_wanted(r->id))
		return false;
	release_query(r);
	r->ready = true;
	r->retry_at = TimestampTzPlusMilliseconds(ks_clock_now(), KS_LOCK_RETRY_MS);
	return true;
}

/* ks_runner_eventfd: the descriptor that tells of new records, or -1. */
int
ks_runner_eventfd(const KsRunner *r)
{
	if (r->publisher != NULL)
		return ks_publisher_eventfd(r->publisher);
	return r->task != NULL ? ks_task_eventfd(r->task) : -1;
}

/* ks_runner_drain_eventfd: so that it does not wake us for the same thing again. */
void
ks_runner_drain_eventfd(KsRunner *r)
{
	if (r->publisher != NULL)
		ks_publisher_drain_eventfd(r->publisher);
	if (r->task != NULL)
		ks_task_drain_eventfd(r->task);
}
