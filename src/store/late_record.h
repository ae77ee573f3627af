/*
 * late_record.h
 *		Records that came too late: rows of kstream_catalog.late_record.
 */
#ifndef KS_LATE_RECORD_H
#define KS_LATE_RECORD_H

#include "stream/batch.h"

/* A record that came too late for a window (or at all: no window). */
typedef struct KsLateRow
{
	Oid			source;
	int32		partition;
	int64		offset;
	bool		has_window;
	TimestampTz start;
	TimestampTz end;
	TimestampTz due;			/* stream time from which on it is late by its own partition */
	TimestampTz watermark;		/* of the query, where what that has passed is late, too; else DT_NOBEGIN */
} KsLateRow;

/*
 * Keeps the late rows (KsLateRow *) of a batch; batches: KsBatch *, in which
 * they are.  before: how many the query had so far, which makes their numbers.
 * Only the newest are kept, see late_record.c.
 */
extern void ks_late_records_store(int32 query, int64 before, List *late, List *batches);

#endif							/* KS_LATE_RECORD_H */
