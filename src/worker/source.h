/*
 * source.h
 *		One stream as a task reads it: positions, the client, and the batch.
 */
#ifndef KS_SOURCE_H
#define KS_SOURCE_H

#include "kafka/consumer.h"
#include "store/dedup.h"
#include "store/position.h"
#include "stream/batch.h"

typedef struct KsSourcePartition
{
	KsPosition	stored;			/* as committed */
	KsPosition	next;			/* as the running batch leaves it */
	bool		dirty;			/* next differs from stored */
	int64		end;			/* end of the partition as far as known, or -1 */
	bool		at_end;			/* the client has reported the end, or nothing is left */
	bool		idle;			/* does not hold the watermark, see watermark.c */
	int64		quiet_us;		/* for how long nothing was there to read, as far as is known; -1: not looked yet */
	TimestampTz quiet_to;		/* up to when that is counted (base/clock.h); 0: no answer yet */
	TimestampTz heard;			/* when a record came last, or the source was opened; Kafka only */
} KsSourcePartition;

typedef struct KsSource
{
	MemoryContext cxt;
	int32		query;
	KsReader   *reader;
	KsConsumer *consumer;		/* NULL: local stream */
	KsDedup    *dedup;			/* NULL: the query takes duplicates too */
	int64		idle_timeout_us;	/* of the query */
	int			nparts;
	KsSourcePartition *parts;	/* by partition number */
	KsBatch    *batch;			/* of the running batch */
	KsEventBatch *events;		/* bytes of the running batch */
	List	   *positions;		/* KsPosition *, as stored when the source was opened */
	const char *start;			/* where partitions without one begin */
	uint64		server_changes; /* changes of servers and user mappings before it was opened */
	bool		drained;		/* the last fetch took all that had arrived */
	bool		connected;		/* partitions are known and their positions checked */
	int			failed_requests;	/* in a row, because no broker answered */
	bool		was_away;		/* the broker did not answer at first */
	TimestampTz partitions_checked;
	char	   *pending_error;	/* raised when what came before it is processed */
	int			pending_sqlstate;
	char	   *pending_hint;
	char		trouble[256];	/* passing trouble, for display, or empty */
} KsSource;

/*
 * Opens a stream for reading at the query's positions; in a transaction, in the
 * current context; waits for no broker.  stored: list of KsPosition of the
 * query, which lives as long as the source.
 */
extern KsSource *ks_source_open(const KsQueryRow *query, Oid stream, List *stored);
extern void ks_source_close(KsSource *source);

/*
 * Asks the broker for the partitions, checks the positions and begins to fetch;
 * outside of transactions, where the caller is a worker.  False, with trouble
 * set, if no broker answers; with patient that is waited for, and then an error.
 * Called before every fetch; an error that passes when the server's options or
 * the user mapping have changed, so that the source is opened with the new ones.
 */
extern bool ks_source_connect(KsSource *source, bool patient);

/* Takes up to max_rows records that have arrived; Kafka only; outside transactions. */
extern void ks_source_fetch(KsSource *source, MemoryContext cxt, int max_rows);
/* Reads up to max_rows rows of the local log; in a transaction. */
extern void ks_source_read_local(KsSource *source, MemoryContext cxt, int max_rows);
/* An empty batch, so that a statement that reads the stream sees no rows of it. */
extern void ks_source_empty_batch(KsSource *source, MemoryContext cxt);

/* Moves next of every partition over the rows of the batch. */
extern void ks_source_advance(KsSource *source);
/* Counts the duplicates of the batch and stores the keys it has accepted. */
extern void ks_source_store_keys(KsSource *source);
extern void ks_source_store(KsSource *source, int32 query);
extern void ks_source_committed(KsSource *source);

/*
 * How long to wait for the first answer of a broker that has not answered some
 * requests in a row: never so long that other queries of the worker suffer, but
 * now and then long enough for a slow one.
 */
static inline int
ks_first_answer_ms(KsConsumer *consumer, int failed_requests)
{
	if (failed_requests == 0)
		return 500;
	if (failed_requests % 10 == 0)
		return 2000;
	return ks_consumer_broker_down(consumer, NULL) ? 50 : 200;
}

/* Raises a pending error of a partition, if there is one. */
extern void ks_source_check(KsSource *source);
extern bool ks_source_caught_up(const KsSource *source);

#endif							/* KS_SOURCE_H */
