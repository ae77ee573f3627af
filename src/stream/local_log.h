/*
 * local_log.h
 *		The log of a local stream: a table of rows and a table of segments.
 *
 * Offsets are given at commit, see log_commit.h.  local_log.c has the definition
 * and the reading, log_append.c the writing.
 */
#ifndef KS_LOCAL_LOG_H
#define KS_LOCAL_LOG_H

#include "stream/batch.h"
#include "stream/log_commit.h"

/*
 * Columns that the log of a stream has behind those of every log; the foreign
 * table's declared columns follow, under their names.  The last one is there
 * only if the stream has it.
 */
typedef enum KsStreamLogColumn
{
	KS_LOG_KEY = KS_LOG_SEQUENCE + 1,	/* _key text */
	KS_LOG_TIMESTAMP,			/* _timestamp timestamptz */
	KS_LOG_HEADERS,				/* _headers jsonb */
	KS_LOG_TOMBSTONE			/* _tombstone boolean */
} KsStreamLogColumn;

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

/*
 * For each attribute of the stream the attribute of the log table that holds it,
 * or 0.  Complains if a type differs.  In the current memory context.
 */
extern AttrNumber *ks_local_log_map(const KsStreamDef *def, TupleDesc log);

#endif							/* KS_LOCAL_LOG_H */
