/*
 * local_log.h
 *		The log of a local stream: a table of rows and a table of segments.
 *
 * An INSERT writes rows marked with the number of an append (one per
 * transaction, log and partition).  At PRE_COMMIT, under a lock held to the end
 * of the transaction, the append gets its place: a segment row (partition, base
 * offset, count, append).  A reader goes by segments, so it can never skip a
 * transaction that commits later than one with higher offsets.
 *
 * local_log.c has the definition and the reading, log_append.c the writing.
 */
#ifndef KS_LOCAL_LOG_H
#define KS_LOCAL_LOG_H

#include "stream/batch.h"

/*
 * Columns that every log table starts with; the foreign table's declared columns
 * follow, under their names.  The last one is there only if the stream has it.
 */
typedef enum KsLogColumn
{
	KS_LOG_PARTITION = 1,		/* _p int */
	KS_LOG_APPEND,				/* _b bigint: number of the append */
	KS_LOG_SEQUENCE,			/* _s int: place within the append */
	KS_LOG_KEY,					/* _key text */
	KS_LOG_TIMESTAMP,			/* _timestamp timestamptz */
	KS_LOG_HEADERS,				/* _headers jsonb */
	KS_LOG_TOMBSTONE			/* _tombstone boolean */
} KsLogColumn;

/* Columns of the table of segments; a segment has rows _s >= s, < s + n of append b. */
typedef enum KsSegmentColumn
{
	KS_SEGMENT_PARTITION = 1,	/* p int */
	KS_SEGMENT_BASE,			/* base bigint: offset of its first row */
	KS_SEGMENT_COUNT,			/* n int */
	KS_SEGMENT_APPEND,			/* b bigint */
	KS_SEGMENT_FIRST,			/* s int */
	KS_SEGMENT_NEWEST			/* t timestamptz: no _timestamp in it is greater */
} KsSegmentColumn;

#define KS_SEGMENT_NATTS KS_SEGMENT_NEWEST

/* Where the log of a stream is. */
typedef struct KsLocalLog
{
	Oid			relid;			/* the foreign table */
	Oid			log;
	Oid			segments;
	int			partitions;
} KsLocalLog;

/* False if the stream has no log. */
extern bool ks_local_log_lookup(Oid relid, KsLocalLog *log);

/* Creates the tables of the log for the foreign table if they are missing. */
extern void ks_local_log_create(Oid relid, int partitions);
extern bool ks_local_log_exists(Oid relid);
extern int	ks_local_log_partitions(Oid relid);
extern char *ks_local_log_name(Oid relid);	/* for EXPLAIN */
extern double ks_local_log_estimate(Oid relid); /* rows, for the planner */

/*
 * Makes the log follow the foreign table after ALTER: columns added, dropped,
 * renamed, changed in type; its owner; more partitions.  Does nothing if there is
 * no log.
 */
extern void ks_local_log_follow(Oid relid);

/* Deletes segments older than the log's retention; returns the number of rows. */
extern int64 ks_local_log_trim(Oid relid);

/* Offsets [*first, *end) that are committed now. */
extern void ks_local_log_range(Oid relid, int32 partition, int64 *first, int64 *end);

/* First offset whose _timestamp is at or after when; the end where there is none. */
extern int64 ks_local_log_offset_for_time(Oid relid, int32 partition, TimestampTz when);

/*
 * Appends rows [from, to) of the partition to the batch, at most max_rows (fewer
 * where rows are large); returns the offset to go on from.  Uses a fresh snapshot
 * (in a session that runs a parallel query, the statement's).
 */
extern int64 ks_local_log_read(KsBatch *batch, int32 partition, int64 from, int64 to, int max_rows);

/* One INSERT into a local stream: values of the foreign table's columns (log_append.c). */
extern void ks_local_log_append(Oid relid, TupleDesc desc, const KsStreamDef *def,
								const Datum *values, const bool *nulls);

extern void ks_local_log_init(void);	/* registers the transaction callbacks (log_append.c) */

/*
 * For each attribute of the stream the attribute of the log table that holds it,
 * or 0.  Complains if a type differs.  In the current memory context.
 */
extern AttrNumber *ks_local_log_map(const KsStreamDef *def, TupleDesc log);

#endif							/* KS_LOCAL_LOG_H */
