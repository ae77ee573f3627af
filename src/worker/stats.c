/*
 * stats.c
 *		What runs and how: queries and partitions in shared memory.
 *
 * One entry per query and one per (query, source, partition), in two hash
 * tables of fixed size.  Adding and removing entries needs KS_LOCK_STATS
 * exclusively; reading and writing one takes it shared and the entry's
 * spinlock.  Where a table is full the query runs without statistics; where the
 * query table is full the query is not run (see ks_stat_claim).
 *
 * Latencies are counted in logarithmic buckets, four per power of two, so that
 * a percentile is right to 12 %.  When a histogram has counted many batches all
 * buckets are halved: percentiles are those of the recent past.
 */
#include "postgres.h"

#include <math.h>

#include "base/clock.h"
#include "base/shmem.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"
#include "worker/stats.h"

#define KS_MAX_QUERIES 1024
#define KS_MAX_PARTITIONS 8192
#define KS_HIST_BUCKETS 144		/* up to 2^37 microseconds */
#define KS_HIST_FULL 20000
#define KS_RELEASE_MS 1000

typedef struct KsHistogram
{
	uint32		total;
	uint32		counts[KS_HIST_BUCKETS];
} KsHistogram;

typedef struct KsQueryKey
{
	Oid			dboid;
	int32		query;
} KsQueryKey;

typedef struct KsQueryStat
{
	KsQueryKey	key;			/* must be first */
	int			owner;			/* pid of the worker that runs it; 0: nobody */
	slock_t		mutex;			/* protects all below */
	TimestampTz release_until;	/* a session wants the query's lock */
	KsQueryStatus status;
	TimestampTz error_at;		/* 0: never */
	TimestampTz since;			/* of the state */
	int64		restarts;
	int64		batches;
	int64		records;
	int64		rows_out;
	int64		dead;
	bool		settled;		/* see ks_stat_settled */
	KsHistogram batch_us;
	KsHistogram latency_us;
} KsQueryStat;

typedef struct KsPartitionKey
{
	Oid			dboid;
	int32		query;
	Oid			source;
	int32		partition;
} KsPartitionKey;

typedef struct KsPartitionStat
{
	KsPartitionKey key;			/* must be first */
	slock_t		mutex;
	int32		generation;		/* of the query's definition */
	KsPartitionState state;
} KsPartitionStat;

static HTAB *queries = NULL;
static HTAB *partitions = NULL;

PG_FUNCTION_INFO_V1(ks_stat_query_shmem);
PG_FUNCTION_INFO_V1(ks_stat_partition_shmem);

/* stats_size: for both hash tables. */
static Size
stats_size(void)
{
	return add_size(hash_estimate_size(KS_MAX_QUERIES, sizeof(KsQueryStat)),
					hash_estimate_size(KS_MAX_PARTITIONS, sizeof(KsPartitionStat)));
}

/* stats_init: finds or makes the hash tables. */
static void
stats_init(void)
{
	HASHCTL		ctl;

	memset(&ctl, 0, sizeof(ctl));
	ctl.keysize = sizeof(KsQueryKey);
	ctl.entrysize = sizeof(KsQueryStat);
	queries = ShmemInitHash("kstream queries", KS_MAX_QUERIES, KS_MAX_QUERIES,
							&ctl, HASH_ELEM | HASH_BLOBS);
	ctl.keysize = sizeof(KsPartitionKey);
	ctl.entrysize = sizeof(KsPartitionStat);
	partitions = ShmemInitHash("kstream partitions", KS_MAX_PARTITIONS, KS_MAX_PARTITIONS,
							   &ctl, HASH_ELEM | HASH_BLOBS);
}

/* ks_stats_init: asks for the memory. */
void
ks_stats_init(void)
{
	ks_shmem_register(stats_size, stats_init);
}

/* bucket_of: the bucket that counts this many microseconds. */
static int
bucket_of(int64 us)
{
	int			msb;

	if (us < 4)
		return us < 0 ? 0 : (int) us;
	msb = pg_leftmost_one_pos64((uint64) us);
	return Min((msb - 1) * 4 + (int) ((us >> (msb - 2)) & 3), KS_HIST_BUCKETS - 1);
}

/* bucket_middle: microseconds in the middle of a bucket. */
static double
bucket_middle(int bucket)
{
	int			msb = bucket / 4 + 1;

	if (bucket < 4)
		return bucket + 0.5;
	return (4 + bucket % 4 + 0.5) * (double) (INT64CONST(1) << (msb - 2));
}

/* histogram_add: counts one value. */
static void
histogram_add(KsHistogram *h, int64 us)
{
	if (h->total >= KS_HIST_FULL)
	{
		h->total = 0;
		for (int i = 0; i < KS_HIST_BUCKETS; i++)
		{
			h->counts[i] /= 2;
			h->total += h->counts[i];
		}
	}
	h->counts[bucket_of(us)]++;
	h->total++;
}

/* histogram_percentile: in milliseconds; NULL datum where nothing was counted. */
static Datum
histogram_percentile(const KsHistogram *h, double fraction, bool *isnull)
{
	double		wanted = h->total * fraction;
	double		seen = 0;

	*isnull = h->total == 0;
	for (int i = 0; i < KS_HIST_BUCKETS; i++)
	{
		seen += h->counts[i];
		if (seen >= wanted && seen > 0)
			return Float8GetDatum(rint(bucket_middle(i)) / 1000.0);
	}
	return (Datum) 0;
}

/* query_entry: of this database's query; the caller holds KS_LOCK_STATS. */
static KsQueryStat *
query_entry(int32 query)
{
	KsQueryKey	key = {MyDatabaseId, query};

	return hash_search(queries, &key, HASH_FIND, NULL);
}

/* lock_query_entry: finds the entry and locks it for a short change; NULL: there is none. */
static KsQueryStat *
lock_query_entry(int32 query)
{
	KsQueryStat *q;

	if (!ks_shmem_ready())
		return NULL;
	LWLockAcquire(ks_lock(KS_LOCK_STATS), LW_SHARED);
	q = query_entry(query);
	if (q == NULL)
		LWLockRelease(ks_lock(KS_LOCK_STATS));
	else
		SpinLockAcquire(&q->mutex);
	return q;
}

/* unlock_query_entry: ends what lock_query_entry began. */
static void
unlock_query_entry(KsQueryStat *q)
{
	SpinLockRelease(&q->mutex);
	LWLockRelease(ks_lock(KS_LOCK_STATS));
}

/*
 * ks_stat_claim: makes this worker the one that runs the query.  False if
 * another has it, or if there is no room for one more query.
 */
bool
ks_stat_claim(int32 query)
{
	KsQueryKey	key = {MyDatabaseId, query};
	KsQueryStat *q;
	bool		found;
	bool		mine = false;

	LWLockAcquire(ks_lock(KS_LOCK_STATS), LW_EXCLUSIVE);
	q = hash_search(queries, &key, HASH_ENTER_NULL, &found);
	if (q != NULL && !found)
	{
		memset((char *) q + sizeof(KsQueryKey), 0, sizeof(KsQueryStat) - sizeof(KsQueryKey));
		SpinLockInit(&q->mutex);
	}
	if (q != NULL && (q->owner == 0 || q->owner == MyProcPid))
	{
		if (q->owner == 0)
			q->settled = false;
		q->owner = MyProcPid;
		mine = true;
	}
	LWLockRelease(ks_lock(KS_LOCK_STATS));
	if (q == NULL)
		ereport(WARNING,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("continuous query %d is not run", query),
				 errdetail("Only %d queries of a server can run.", KS_MAX_QUERIES)));
	return mine;
}

/* ks_stat_unclaim: another worker may run the query. */
void
ks_stat_unclaim(int32 query)
{
	KsQueryStat *q;

	LWLockAcquire(ks_lock(KS_LOCK_STATS), LW_EXCLUSIVE);
	q = query_entry(query);
	if (q != NULL && q->owner == MyProcPid)
		q->owner = 0;
	LWLockRelease(ks_lock(KS_LOCK_STATS));
}

/* ks_stat_unclaim_all: this worker leaves; what it ran is starting until another takes it. */
void
ks_stat_unclaim_all(void)
{
	HASH_SEQ_STATUS scan;
	KsQueryStat *q;

	LWLockAcquire(ks_lock(KS_LOCK_STATS), LW_EXCLUSIVE);
	hash_seq_init(&scan, queries);
	while ((q = hash_seq_search(&scan)) != NULL)
	{
		if (q->owner != MyProcPid)
			continue;
		q->owner = 0;
		if (q->status.state == KS_STATE_RUNNING || q->status.state == KS_STATE_WAITING)
			q->status.state = KS_STATE_STARTING;
	}
	LWLockRelease(ks_lock(KS_LOCK_STATS));
}

/* ks_stat_release_wanted: does a session wait for the query's lock? */
bool
ks_stat_release_wanted(int32 query)
{
	KsQueryStat *q = lock_query_entry(query);
	TimestampTz until;

	if (q == NULL)
		return false;
	until = q->release_until;
	unlock_query_entry(q);
	return until != 0 && until > ks_clock_now();
}

/* ks_stat_want_release: asks the worker that runs the query to give its lock away. */
int
ks_stat_want_release(int32 query)
{
	KsQueryStat *q = lock_query_entry(query);
	TimestampTz until = TimestampTzPlusMilliseconds(ks_clock_now(), KS_RELEASE_MS);
	int			owner;

	if (q == NULL)
		return 0;
	q->release_until = until;
	owner = q->owner;
	unlock_query_entry(q);
	return owner;
}

/* ks_stat_release_done: the session has got the lock; the worker may queue for it again. */
void
ks_stat_release_done(int32 query)
{
	KsQueryStat *q = lock_query_entry(query);

	if (q == NULL)
		return;
	q->release_until = 0;
	unlock_query_entry(q);
}

/* ks_stat_state: the query has reached a state other than failed. */
void
ks_stat_state(int32 query, int32 generation, KsQueryState state, const char *detail)
{
	KsQueryStat *q = lock_query_entry(query);
	TimestampTz now = GetCurrentTimestamp();

	if (q == NULL)
		return;
	if (q->status.state != state)
		q->since = now;
	q->status.state = state;
	q->status.generation = generation;
	strlcpy(q->status.message, detail ? detail : "", sizeof(q->status.message));
	q->status.sqlstate[0] = '\0';
	unlock_query_entry(q);
}

/*
 * ks_stat_stopped: the query is not to run.  While a worker still has it, that
 * one tells when it has given it up: others may have read the catalog earlier.
 */
void
ks_stat_stopped(int32 query, int32 generation, KsQueryState state)
{
	KsQueryStat *q = lock_query_entry(query);
	bool		owned;

	if (q == NULL)
		return;
	owned = q->owner != 0;
	unlock_query_entry(q);
	if (!owned)
		ks_stat_state(query, generation, state, NULL);
}

/*
 * ks_stat_error: the query met an error; failed says whether that is its state
 * now, delay_ms when it is tried again.
 */
void
ks_stat_error(int32 query, int32 generation, bool failed, int sqlstate, const char *message, long delay_ms)
{
	KsQueryStat *q = lock_query_entry(query);
	TimestampTz now = GetCurrentTimestamp();

	if (q == NULL)
		return;
	q->error_at = now;
	q->restarts++;
	if (failed)
	{
		if (q->status.state != KS_STATE_FAILED)
			q->since = now;
		q->status.state = KS_STATE_FAILED;
		q->status.generation = generation;
		for (int i = 0; i < 5; i++)
			q->status.sqlstate[i] = PGUNSIXBIT(sqlstate >> (6 * i));
		q->status.sqlstate[5] = '\0';
		strlcpy(q->status.message, message, sizeof(q->status.message));
		q->status.retry_at = TimestampTzPlusMilliseconds(ks_clock_now(), delay_ms);
	}
	unlock_query_entry(q);
}

/* ks_stat_batch: a batch is committed. */
void
ks_stat_batch(int32 query, int records, int rows_out, int dead, int64 batch_us, int64 latency_us)
{
	KsQueryStat *q = lock_query_entry(query);

	if (q == NULL)
		return;
	q->batches++;
	q->records += records;
	q->rows_out += rows_out;
	q->dead += dead;
	histogram_add(&q->batch_us, batch_us);
	if (latency_us >= 0)
		histogram_add(&q->latency_us, latency_us);
	unlock_query_entry(q);
}

/* set_partition: writes what is known, in an entry that is locked. */
static void
set_partition(KsPartitionStat *p, int32 generation, const KsPartitionState *state)
{
	int64		quiet_us = state->quiet_us;

	SpinLockAcquire(&p->mutex);
	/* a task that has not looked yet knows no better than the one before it */
	if (quiet_us < 0 && p->state.next_offset == state->next_offset)
		quiet_us = p->state.quiet_us;
	p->generation = generation;
	p->state = *state;
	p->state.quiet_us = quiet_us;
	SpinLockRelease(&p->mutex);
}

/* ks_stat_partition: where the query is in a partition. */
void
ks_stat_partition(int32 query, Oid source, int32 partition, int32 generation,
				  const KsPartitionState *state)
{
	KsPartitionKey key = {MyDatabaseId, query, source, partition};
	KsPartitionStat *p;
	bool		found;

	LWLockAcquire(ks_lock(KS_LOCK_STATS), LW_SHARED);
	p = hash_search(partitions, &key, HASH_FIND, NULL);
	if (p != NULL)
		set_partition(p, generation, state);
	LWLockRelease(ks_lock(KS_LOCK_STATS));
	if (p != NULL)
		return;

	LWLockAcquire(ks_lock(KS_LOCK_STATS), LW_EXCLUSIVE);
	p = hash_search(partitions, &key, HASH_ENTER_NULL, &found);
	if (p != NULL)
	{
		if (!found)
		{
			SpinLockInit(&p->mutex);
			p->state.next_offset = -1;
		}
		set_partition(p, generation, state);
	}
	LWLockRelease(ks_lock(KS_LOCK_STATS));
}

/* is_kept: is the query in the list? */
static bool
is_kept(int32 query, const int32 *kept, int nkept)
{
	for (int i = 0; i < nkept; i++)
	{
		if (kept[i] == query)
			return true;
	}
	return false;
}

/*
 * keep_only: removes the entries of a database's queries that are not in the list.
 * What a worker has claimed stays: it may be newer than the list, and if it is
 * not, its worker gives it up and then comes here itself.
 */
static void
keep_only(Oid dboid, const int32 *kept, int nkept)
{
	HASH_SEQ_STATUS scan;
	KsQueryStat *q;
	KsPartitionStat *p;

	LWLockAcquire(ks_lock(KS_LOCK_STATS), LW_EXCLUSIVE);
	hash_seq_init(&scan, queries);
	while ((q = hash_seq_search(&scan)) != NULL)
	{
		if (q->key.dboid == dboid && q->owner == 0 && !is_kept(q->key.query, kept, nkept))
			hash_search(queries, &q->key, HASH_REMOVE, NULL);
	}
	hash_seq_init(&scan, partitions);
	while ((p = hash_seq_search(&scan)) != NULL)
	{
		KsQueryKey	key = {p->key.dboid, p->key.query};

		if (p->key.dboid == dboid && hash_search(queries, &key, HASH_FIND, NULL) == NULL)
			hash_search(partitions, &p->key, HASH_REMOVE, NULL);
	}
	LWLockRelease(ks_lock(KS_LOCK_STATS));
}

/* ks_stat_keep: these are the queries of this database; forget all others. */
void
ks_stat_keep(const int32 *ids, int nids)
{
	keep_only(MyDatabaseId, ids, nids);
}

/* ks_stat_forget_database: the database is gone. */
void
ks_stat_forget_database(Oid database)
{
	keep_only(database, NULL, 0);
}

/* ks_stat_settled: see stats.h. */
void
ks_stat_settled(int32 query, bool settled)
{
	KsQueryStat *q = lock_query_entry(query);

	if (q == NULL)
		return;
	q->settled = settled;
	unlock_query_entry(q);
}

/* ks_stat_is_settled: false too while no worker has looked at the query. */
bool
ks_stat_is_settled(int32 query)
{
	KsQueryStat *q = lock_query_entry(query);
	bool		settled;

	if (q == NULL)
		return false;
	settled = q->settled;
	unlock_query_entry(q);
	return settled;
}

/* ks_stat_status: the query's state; false if nothing is known about it. */
bool
ks_stat_status(int32 query, KsQueryStatus *status)
{
	KsQueryStat *q = lock_query_entry(query);

	if (q == NULL)
		return false;
	*status = q->status;
	unlock_query_entry(q);
	return true;
}

/* read_partition: a copy of what is shown of a partition; false if nothing is. */
static bool
read_partition(int32 query, Oid source, int32 partition, KsPartitionStat *copy)
{
	KsPartitionKey key = {MyDatabaseId, query, source, partition};
	KsPartitionStat *p;

	if (!ks_shmem_ready())
		return false;
	LWLockAcquire(ks_lock(KS_LOCK_STATS), LW_SHARED);
	p = hash_search(partitions, &key, HASH_FIND, NULL);
	if (p != NULL)
	{
		SpinLockAcquire(&p->mutex);
		*copy = *p;
		SpinLockRelease(&p->mutex);
	}
	LWLockRelease(ks_lock(KS_LOCK_STATS));
	return p != NULL;
}

/* ks_stat_position: the committed position of a running query, or -1. */
int64
ks_stat_position(int32 query, Oid source, int32 partition, int32 generation)
{
	KsPartitionStat p;

	if (!read_partition(query, source, partition, &p) || p.generation != generation)
		return -1;
	return p.state.next_offset;
}

/* ks_stat_quiet: see stats.h. */
bool
ks_stat_quiet(int32 query, Oid source, int32 partition, int64 next_offset, int64 *quiet_us)
{
	KsPartitionStat p;

	if (!read_partition(query, source, partition, &p) || p.state.next_offset != next_offset)
		return false;
	*quiet_us = p.state.quiet_us;
	return *quiet_us >= 0;
}

/* ks_stat_forget_quiet: see stats.h. */
void
ks_stat_forget_quiet(int32 query, Oid source, int32 partition)
{
	KsPartitionKey key = {MyDatabaseId, query, source, partition};
	KsPartitionStat *p;

	if (!ks_shmem_ready())
		return;
	LWLockAcquire(ks_lock(KS_LOCK_STATS), LW_SHARED);
	p = hash_search(partitions, &key, HASH_FIND, NULL);
	if (p != NULL)
	{
		SpinLockAcquire(&p->mutex);
		p->state.quiet_us = 0;
		SpinLockRelease(&p->mutex);
	}
	LWLockRelease(ks_lock(KS_LOCK_STATS));
}

/* state_name: as the view shows it. */
static const char *
state_name(KsQueryState state)
{
	switch (state)
	{
		case KS_STATE_STARTING:
			return "starting";
		case KS_STATE_RUNNING:
			return "running";
		case KS_STATE_WAITING:
			return "waiting";
		case KS_STATE_PAUSED:
			return "paused";
		case KS_STATE_FAILED:
			return "failed";
		case KS_STATE_BLOCKED:
			return "blocked";
	}
	return "starting";
}

/* put_query: one row of stat_query_shmem. */
static void
put_query(ReturnSetInfo *rsinfo, const KsQueryStat *q)
{
	Datum		values[18];
	bool		nulls[18] = {0};
	const KsQueryStatus *s = &q->status;
	int			i = 0;

	values[i++] = Int32GetDatum(q->key.query);
	values[i++] = CStringGetTextDatum(state_name(s->state));
	nulls[i] = s->message[0] == '\0';
	values[i++] = CStringGetTextDatum(s->message);
	nulls[i] = s->sqlstate[0] == '\0';
	values[i++] = CStringGetTextDatum(s->sqlstate);
	nulls[i] = q->error_at == 0;
	values[i++] = TimestampTzGetDatum(q->error_at);
	nulls[i] = q->since == 0;
	values[i++] = TimestampTzGetDatum(q->since);
	values[i++] = Int32GetDatum(s->generation);
	nulls[i] = q->owner == 0;
	values[i++] = Int32GetDatum(q->owner);
	values[i++] = Int64GetDatum(q->restarts);
	values[i++] = Int64GetDatum(q->batches);
	values[i++] = Int64GetDatum(q->records);
	values[i++] = Int64GetDatum(q->rows_out);
	values[i++] = Int64GetDatum(q->dead);
	values[i] = histogram_percentile(&q->batch_us, 0.50, &nulls[i]);
	i++;
	values[i] = histogram_percentile(&q->batch_us, 0.99, &nulls[i]);
	i++;
	values[i] = histogram_percentile(&q->latency_us, 0.50, &nulls[i]);
	i++;
	values[i] = histogram_percentile(&q->latency_us, 0.99, &nulls[i]);
	i++;
	Assert(i == 17);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* ks_stat_query_shmem: SQL function; a row per query of this database that has run. */
Datum
ks_stat_query_shmem(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	HASH_SEQ_STATUS scan;
	KsQueryStat *q;
	KsQueryStat *copies;
	int			n = 0;

	InitMaterializedSRF(fcinfo, 0);
	if (!ks_shmem_ready())
		return (Datum) 0;
	copies = MemoryContextAllocHuge(CurrentMemoryContext,
									KS_MAX_QUERIES * sizeof(KsQueryStat));
	LWLockAcquire(ks_lock(KS_LOCK_STATS), LW_SHARED);
	hash_seq_init(&scan, queries);
	while ((q = hash_seq_search(&scan)) != NULL)
	{
		if (q->key.dboid != MyDatabaseId || n == KS_MAX_QUERIES)
			continue;
		SpinLockAcquire(&q->mutex);
		copies[n++] = *q;
		SpinLockRelease(&q->mutex);
	}
	LWLockRelease(ks_lock(KS_LOCK_STATS));
	for (int i = 0; i < n; i++)
		put_query(rsinfo, &copies[i]);
	pfree(copies);
	return (Datum) 0;
}

/* put_partition: one row of stat_partition_shmem. */
static void
put_partition(ReturnSetInfo *rsinfo, const KsPartitionStat *p)
{
	Datum		values[7];
	bool		nulls[7] = {0};

	values[0] = Int32GetDatum(p->key.query);
	values[1] = ObjectIdGetDatum(p->key.source);
	values[2] = Int32GetDatum(p->key.partition);
	values[3] = Int64GetDatum(p->state.next_offset);
	values[4] = Int64GetDatum(p->state.end_offset);
	nulls[4] = p->state.end_offset < 0;
	values[5] = TimestampTzGetDatum(p->state.stream_time);
	nulls[5] = TIMESTAMP_IS_NOBEGIN(p->state.stream_time);
	values[6] = BoolGetDatum(p->state.idle);
	nulls[6] = p->state.end_offset < 0;
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* ks_stat_partition_shmem: SQL function; a row per query and partition of this database that is being read. */
Datum
ks_stat_partition_shmem(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	HASH_SEQ_STATUS scan;
	KsPartitionStat *p;
	KsPartitionStat *copies;
	int			n = 0;

	InitMaterializedSRF(fcinfo, 0);
	if (!ks_shmem_ready())
		return (Datum) 0;
	copies = palloc(KS_MAX_PARTITIONS * sizeof(KsPartitionStat));
	LWLockAcquire(ks_lock(KS_LOCK_STATS), LW_SHARED);
	hash_seq_init(&scan, partitions);
	while ((p = hash_seq_search(&scan)) != NULL)
	{
		if (p->key.dboid != MyDatabaseId || n == KS_MAX_PARTITIONS)
			continue;
		SpinLockAcquire(&p->mutex);
		copies[n++] = *p;
		SpinLockRelease(&p->mutex);
	}
	LWLockRelease(ks_lock(KS_LOCK_STATS));
	for (int i = 0; i < n; i++)
		put_partition(rsinfo, &copies[i]);
	pfree(copies);
	return (Datum) 0;
}
