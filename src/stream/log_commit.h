/*
 * log_commit.h
 *		Logs whose order is the order of commits.
 *
 * A transaction writes rows marked with the number of an append (one per
 * transaction, log and partition) and their place in it.  At PRE_COMMIT, under a
 * lock held to the end of the transaction, the append gets its place in the log:
 * a segment row (partition, base, count, append).  A reader goes by segments, so
 * it can never skip a transaction that commits later than one with higher
 * offsets; offsets have no gaps.
 *
 * Logs of local streams, outboxes and changelogs are such logs; log_commit.c
 * writes them, log_scan.c reads them.
 */
#ifndef KS_LOG_COMMIT_H
#define KS_LOG_COMMIT_H

#include "postgres.h"
#include "access/attnum.h"
#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "utils/relcache.h"

/* Columns that the table of rows starts with; they are its primary key. */
typedef enum KsLogColumn
{
	KS_LOG_PARTITION = 1,		/* _p int */
	KS_LOG_APPEND,				/* _b bigint: number of the append */
	KS_LOG_SEQUENCE				/* _s int: place within the append */
} KsLogColumn;

/* Columns of the table of segments; a segment has rows _s >= s, < s + n of append b. */
typedef enum KsSegmentColumn
{
	KS_SEGMENT_PARTITION = 1,	/* p int */
	KS_SEGMENT_BASE,			/* base bigint: offset of its first row */
	KS_SEGMENT_COUNT,			/* n int */
	KS_SEGMENT_APPEND,			/* b bigint */
	KS_SEGMENT_FIRST,			/* s int */
	KS_SEGMENT_NEWEST			/* t timestamptz: no row in it is newer */
} KsSegmentColumn;

#define KS_SEGMENT_NATTS KS_SEGMENT_NEWEST

/* What a table of rows begins with, and what a table of segments is, in CREATE TABLE. */
#define KS_LOG_COLUMNS_SQL "_p int NOT NULL, _b bigint NOT NULL, _s int NOT NULL"
#define KS_LOG_KEY_SQL "PRIMARY KEY (_p, _b, _s)"
#define KS_SEGMENT_COLUMNS_SQL \
	"p int NOT NULL, base bigint NOT NULL, n int NOT NULL, b bigint NOT NULL," \
	" s int NOT NULL, t timestamptz NOT NULL, PRIMARY KEY (p, base)"

/* Where a log is written to now. */
typedef struct KsLogPlace
{
	Oid			identity;		/* names the log in locks, for as long as it exists */
	Oid			log;
	Oid			segments;
	Oid			other_segments; /* of the log's other half, or InvalidOid */
	AttrNumber	count_attnum;	/* column with the number of records in a row; 0: one */
} KsLogPlace;

/* The append of this transaction to one partition of one log. */
typedef struct KsPendingAppend KsPendingAppend;

struct KsPendingAppend
{
	KsLogPlace	place;
	int32		partition;
	int64		number;
	int32		next;			/* next _s: the caller counts */
	TimestampTz newest;			/* the caller keeps the greatest */
	bool		holes;			/* rows may be missing */
	/* Called once the rows have offsets, the last one end - 1, just before the commit; may be NULL. */
	void		(*placed) (const KsPendingAppend *append, int64 end);
	void	   *arg;			/* for it; lives as long as the transaction */
};

extern void ks_log_commit_init(void);	/* registers the transaction callbacks */

/* The append of this transaction to the partition; begins it if there is none. */
extern KsPendingAppend *ks_append_pending(const KsLogPlace *place, int32 partition);

/* Has this transaction written to the log of that identity? */
extern bool ks_append_is_pending(Oid identity);

/*
 * Rows on their way into a table, written many at a time.  Open and close in the
 * same (sub)transaction; after an error do nothing.
 */
typedef struct KsLogRows KsLogRows;

extern KsLogRows *ks_log_rows_open(Oid log);	/* in a context under the current one */
extern Relation ks_log_rows_relation(KsLogRows *rows);
extern TupleTableSlot *ks_log_rows_slot(KsLogRows *rows);	/* empty, all columns null: fill it ... */
extern void ks_log_rows_put(KsLogRows *rows);	/* ... and keep it; the values are copied */
extern void ks_log_rows_close(KsLogRows *rows); /* writes what is left */

#endif							/* KS_LOG_COMMIT_H */
