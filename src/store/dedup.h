/*
 * dedup.h
 *		Dropping duplicates of a stream's records before a query sees them.
 *
 * The rules are in dedup.c.
 */
#ifndef KS_DEDUP_H
#define KS_DEDUP_H

#include "catalog/query_cat.h"
#include "stream/batch.h"

typedef struct KsDedup KsDedup;

/* How far a partition of the stream is, after the batch. */
typedef struct KsDedupProgress
{
	TimestampTz time;			/* partition time, or DT_NOBEGIN: nothing read yet */
	bool		more;			/* it is not idle: there may be records to be read */
} KsDedupProgress;

/*
 * In the current memory context, inside a transaction.  NULL if the query keeps
 * duplicates of the stream.  query and reader live as long as the result.
 */
extern KsDedup *ks_dedup_open(const KsQueryRow *query, KsReader *reader);

/*
 * Decides about all rows of the batch that are not skipped: sets skip and
 * duplicate of those to be dropped, and reports those whose key cannot be
 * decoded as bad.  Writes nothing; called again for the same batch it forgets what
 * it decided before.  As the owner of the query, with an active snapshot.
 */
extern void ks_dedup_decide(KsDedup *dedup, KsBatch *batch);

/* Remembers the keys accepted by the last decision, and forgets old ones. */
extern void ks_dedup_store(KsDedup *dedup, const KsDedupProgress *progress, int npartitions);

/* Forgets all keys that the query has seen. */
extern void ks_dedup_clear(int32 query);

#endif							/* KS_DEDUP_H */
