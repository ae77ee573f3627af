/*
 * wal.c
 *		The end of the transaction log.
 *
 * GetXLogInsertRecPtr tells where the next record will begin.  When the last one
 * ends with its page, that is behind the header of the next page, which is not
 * there yet: XLogFlush refuses to go so far.
 *
 * Runs in: any backend, any worker; not in recovery.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlog_internal.h"

#include "base/wal.h"

/* See wal.h. */
XLogRecPtr
ks_wal_end(void)
{
	XLogRecPtr	next = GetXLogInsertRecPtr();
	uint64		offset = next % XLOG_BLCKSZ;
	uint64		header = XLogSegmentOffset(next, wal_segment_size) < XLOG_BLCKSZ ?
		SizeOfXLogLongPHD : SizeOfXLogShortPHD;

	return offset <= header ? next - offset : next;
}
