/*
 * stats.h
 *		What runs and how: queries and partitions in shared memory.
 *
 * Workers write, the functions behind the views and kstream.wait() read.  The
 * counters here live as long as the server; exact totals are in the positions.
 */
#ifndef KS_STATS_H
#define KS_STATS_H

#include "postgres.h"
#include "datatype/timestamp.h"

typedef enum KsQueryState
{
	KS_STATE_STARTING,			/* no worker has opened it yet; next: any */
	KS_STATE_RUNNING,			/* has something to do */
	KS_STATE_WAITING,			/* for records, or for what "detail" says */
	KS_STATE_PAUSED,
	KS_STATE_FAILED,			/* retried with backoff */
	KS_STATE_BLOCKED			/* belongs to another instance, or to another version */
} KsQueryState;

/* What kstream.wait() asks about a query. */
typedef struct KsQueryStatus
{
	KsQueryState state;
	int32		generation;		/* of the definition the state is about */
	char		sqlstate[6];
	char		message[512];	/* last error, or what it waits for */
	TimestampTz retry_at;		/* where it has failed: base/clock.h */
} KsQueryStatus;

/* Where a query is in a partition; everything before next_offset is committed. */
typedef struct KsPartitionState
{
	int64		next_offset;
	int64		end_offset;		/* as far as known; -1: not known */
	TimestampTz stream_time;	/* DT_NOBEGIN: none */
	bool		idle;			/* does not hold the watermark; where there is none, is read to its end */
	int64		quiet_us;		/* see watermark.c; -1: not known */
} KsPartitionState;

extern void ks_stats_init(void);

/* Worker: claims.  A query is run by the worker that has claimed it; claiming again tells whether it still is. */
extern bool ks_stat_claim(int32 query);
extern void ks_stat_unclaim(int32 query);
extern void ks_stat_unclaim_all(void);
extern bool ks_stat_release_wanted(int32 query);

/* Worker: what happened. */
extern void ks_stat_state(int32 query, int32 generation, KsQueryState state, const char *detail);
extern void ks_stat_stopped(int32 query, int32 generation, KsQueryState state);
extern void ks_stat_error(int32 query, int32 generation, bool failed, int sqlstate,
						  const char *message, long delay_ms);
extern void ks_stat_batch(int32 query, int records, int rows_out, int dead,
						  int64 batch_us, int64 latency_us);
extern void ks_stat_partition(int32 query, Oid source, int32 partition, int32 generation,
							  const KsPartitionState *state);
/* For how long nothing was there to read at next_offset, as a task has shown that was there; false: not known. */
extern bool ks_stat_quiet(int32 query, Oid source, int32 partition, int64 next_offset, int64 *quiet_us);
extern void ks_stat_forget_quiet(int32 query, Oid source, int32 partition);
/* Is nothing left to be closed by the watermark of what is committed? */
extern void ks_stat_settled(int32 query, bool settled);
extern void ks_stat_keep(const int32 *queries, int nqueries);

/* Sessions. */
extern bool ks_stat_status(int32 query, KsQueryStatus *status);
extern int64 ks_stat_position(int32 query, Oid source, int32 partition, int32 generation);
extern bool ks_stat_is_settled(int32 query);
extern int	ks_stat_want_release(int32 query);
extern void ks_stat_release_done(int32 query);
extern void ks_stat_forget_database(Oid database);

#endif							/* KS_STATS_H */
