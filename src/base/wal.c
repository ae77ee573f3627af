/*
 * wal.c
 *		The end of the transaction log, here and on standbys.
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
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/lwlock.h"

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

/*
 * ks_wal_replicated: see wal.h.  SyncRepWaitForLSN() is of no use to a worker: it
 * does not wait where synchronous_commit is off, and where it does, nothing else
 * goes on.  The walsenders keep the position whether somebody waits for it or not.
 */
bool
ks_wal_replicated(XLogRecPtr upto)
{
	bool		there;

	if (SyncRepStandbyNames == NULL || SyncRepStandbyNames[0] == '\0')
		return true;
	LWLockAcquire(SyncRepLock, LW_SHARED);
	there = WalSndCtl->lsn[SYNC_REP_WAIT_FLUSH] >= upto;
	LWLockRelease(SyncRepLock);
	return there;
}
