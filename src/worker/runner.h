/*
 * runner.h
 *		One continuous query or sink in a worker: when it runs, and what happens to its errors.
 */
#ifndef KS_RUNNER_H
#define KS_RUNNER_H

#include "worker/publisher.h"
#include "worker/task.h"

/* What the catalog says about a query or a sink that is to run. */
typedef struct KsRunnable
{
	int32		id;
	bool		is_sink;
	int32		generation;
	char	   *name;			/* qualified, quoted */
	bool		paused;
	bool		runnable;
	bool		has_error;
	int			batch_rows;		/* 0: kstream.batch_rows */
	int			batch_interval_ms;	/* -1: kstream.batch_interval */
} KsRunnable;

typedef struct KsRunner
{
	int32		id;
	int32		generation;		/* of the definition it runs */
	char	   *name;			/* qualified, quoted */
	int			batch_rows;		/* 0: kstream.batch_rows */
	int			batch_interval_ms;	/* -1: kstream.batch_interval */

	bool		is_sink;
	KsTask	   *task;			/* NULL: not open */
	KsPublisher *publisher;		/* of a sink; NULL: not open */
	MemoryContext cxt;			/* of the open task */
	bool		locked;			/* holds the query's lock */
	bool		ready;			/* there may be something to do */
	bool		unpublished;	/* positions in shared memory are behind */
	bool		changed;		/* the definition is not what it was: reload */
	bool		slow;			/* its last opening failed after a long time */
	bool		settled;		/* told kstream.wait() that no window is to be closed */
	bool		has_error;		/* the catalog shows an error */
	int			failures;		/* in a row */
	int			conflicts;		/* of these, the passing ones */
	int			row_limit;		/* of a batch, after one that needed too much memory; 0: none */
	TimestampTz retry_at;		/* 0: no need to wait */
	TimestampTz look_at;		/* look then though nothing has arrived; 0: no need to */
	TimestampTz batch_at;		/* start of the last batch */
	TimestampTz published_at;
	TimestampTz logged_at;
	int			logged_sqlstate;
} KsRunner;

extern KsRunner *ks_runner_create(const KsRunnable *what);
extern void ks_runner_destroy(KsRunner *r);

extern bool ks_runner_due(const KsRunner *r, TimestampTz now, TimestampTz *when);
extern void ks_runner_run(KsRunner *r);
extern void ks_runner_publish(KsRunner *r, bool force);
extern bool ks_runner_serve_release(KsRunner *r);
extern int	ks_runner_eventfd(const KsRunner *r);

/* Parts of a run that queries and sinks share (runner.c). */
extern bool ks_runner_open(KsRunner *r);
extern void ks_runner_failed(KsRunner *r, ErrorData *edata);
extern void ks_runner_healthy(KsRunner *r);
/* Runs fn(arg) outside of a transaction; on error cleans up and returns the error's copy. */
extern ErrorData *ks_unguarded(void (*fn) (void *arg), void *arg);

/* One turn of a sink (sink_runner.c). */
extern void ks_sink_run(KsRunner *r);
extern void ks_runner_drain_eventfd(KsRunner *r);

/* Raised whenever a runner opens or closes a task: event descriptors have changed. */
extern uint64 ks_runner_changes;

/* Runs fn(arg) in a transaction of its own; on error aborts it and returns the error's copy, else NULL. */
typedef void (*KsGuarded) (void *arg);
extern ErrorData *ks_guarded(KsGuarded fn, void *arg);

#endif							/* KS_RUNNER_H */
