/*
 * task.h
 *		One continuous query made ready to run, and its micro-batches.
 *
 * A task holds the sources a query reads with the positions in them, the Kafka
 * client, and the compiled query.  The worker (worker/worker.c) decides when a
 * task runs, waits and is retried; the step driver runs the same batches in an
 * ordinary session.  Nothing here starts or ends a transaction.
 */
#ifndef KS_TASK_H
#define KS_TASK_H

#include "catalog/query_cat.h"
#include "worker/stats.h"

typedef struct KsTask KsTask;

typedef struct KsTaskProgress
{
	int			records;		/* records consumed by the batch */
	int			rows_out;
	int			dead;
	bool		advanced;		/* a position moved: something to commit */
	bool		closing;		/* windows that are due are left for the next batch */
	bool		more;			/* more is known to be there: run again at once */
	TimestampTz newest;			/* timestamp of the newest record in the batch, or DT_NOBEGIN */
} KsTaskProgress;

/*
 * Opens the task in the current memory context's child; inside a transaction.
 * Waits for no broker.  Raises errors (a source dropped ...).  The caller holds the
 * query's lock.
 */
extern KsTask *ks_task_open(int32 query_id, bool in_worker);

/* Without a clock (not in a worker): as if that much time had passed since the last record. */
extern void ks_task_set_quiet(KsTask *task, int64 quiet_us);
extern void ks_task_close(KsTask *task);

/*
 * Fetches without waiting what has arrived, outside of any transaction.
 * Returns true if a batch is ready (records, or positions that move over gaps).
 * The first call asks the brokers for the partitions and checks the positions;
 * in a worker, one that does not answer is asked again by a later call.
 * Raises errors for partitions that cannot go on (topic replaced, out of range ...).
 */
extern bool ks_task_fetch(KsTask *task, int max_rows);

/*
 * Runs the batch fetched: state, positions, dead letters.  Inside a
 * transaction; on error everything is rolled back by the caller's abort, and the
 * task is of no use any more.
 */
extern void ks_task_run(KsTask *task, KsTaskProgress *progress);

/* fn is called by ks_task_run when it has found something to do, before it does it. */
extern void ks_task_set_observer(KsTask *task, void (*fn) (void *arg), void *arg);
extern void ks_task_committed(KsTask *task);

/* Waiting: client's wake-up descriptor or -1; local streams are woken by latch. */
extern int	ks_task_eventfd(const KsTask *task);
extern void ks_task_drain_eventfd(KsTask *task);

/* Does the query have windows that a watermark closes? */
extern bool ks_task_closes_windows(const KsTask *task);

/* Is nothing done for now, not even closed, because too much waits to be published? */
extern bool ks_task_is_held_up(const KsTask *task);

/* True if everything known to be in the sources is processed. */
extern bool ks_task_caught_up(const KsTask *task);

/* For stat_partition: calls fn for each partition. */
typedef void (*KsPartitionVisitor) (Oid source, int32 partition, const KsPartitionState *state, void *arg);
extern void ks_task_visit_partitions(const KsTask *task, KsPartitionVisitor fn, void *arg);

/* After how many ms to fetch again though no event tells to, because no broker has answered yet; 0: never. */
extern int	ks_task_look_again_ms(const KsTask *task);

/* The same because the clock closes windows then; what arrives before is not to wait for it. */
extern int	ks_task_clock_ms(const KsTask *task);

/* "waiting" reason to show (broker down …), or NULL when all is well. */
extern const char *ks_task_trouble(const KsTask *task);

#endif							/* KS_TASK_H */
