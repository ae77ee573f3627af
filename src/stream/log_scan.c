/*
 * log_scan.c
 *		Reading a log that is ordered at commit: its segments and their rows.
 *
 * Index scans of our own, not SPI: the reader needs no rights on the tables, and
 * reads with a snapshot of its own choice.
 *
 * Runs in: any backend, any worker.  Transaction: needed.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "stream/log_scan.h"

/*
 * A snapshot to read with: a fresh one.  Beside parallel workers none can be
 * taken; then the statement's own, which is as consistent, only older.
 */
Snapshot
ks_log_snapshot(void)
{
	return RegisterSnapshot(IsInParallelMode() ? GetActiveSnapshot() : GetLatestSnapshot());
}

/* Opens a table for scans of its primary key with that many keys. */
void
ks_log_scan_open(KsLogScan *reader, Oid relid, Snapshot snapshot, int nkeys)
{
	reader->rel = table_open(relid, AccessShareLock);
	reader->index = index_open(ks_primary_key_index(reader->rel), AccessShareLock);
	reader->slot = table_slot_create(reader->rel, NULL);
	reader->scan = ks_index_beginscan(reader->rel, reader->index, snapshot, nkeys);
}

/*
 * Closes it.  The locks go too: a worker reads the log before its statements
 * lock the foreign table, and ALTER locks them the other way round.
 */
void
ks_log_scan_close(KsLogScan *reader)
{
	index_endscan(reader->scan);
	ExecDropSingleTupleTableSlot(reader->slot);
	index_close(reader->index, AccessShareLock);
	table_close(reader->rel, AccessShareLock);
}

/* Gets the next row of the scan into the slot. */
bool
ks_log_scan_next(KsLogScan *reader, ScanDirection direction)
{
	return index_getnext_slot(reader->scan, direction, reader->slot);
}

/* Starts a scan of the segments of a partition whose base compares so with the given one. */
void
ks_log_scan_segments(KsLogScan *reader, int32 partition, StrategyNumber strategy, int64 base)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], KS_SEGMENT_PARTITION, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(partition));
	ScanKeyInit(&keys[1], KS_SEGMENT_BASE, strategy,
				strategy == BTLessEqualStrategyNumber ? F_INT8LE : F_INT8GE, Int64GetDatum(base));
	index_rescan(reader->scan, keys, 2, NULL, 0);
}

/* The segment in the slot. */
void
ks_log_segment_get(KsLogScan *reader, KsLogSegment *segment)
{
	slot_getallattrs(reader->slot);
	segment->base = DatumGetInt64(reader->slot->tts_values[KS_SEGMENT_BASE - 1]);
	segment->count = DatumGetInt32(reader->slot->tts_values[KS_SEGMENT_COUNT - 1]);
	segment->append = DatumGetInt64(reader->slot->tts_values[KS_SEGMENT_APPEND - 1]);
	segment->first = DatumGetInt32(reader->slot->tts_values[KS_SEGMENT_FIRST - 1]);
}

/* Starts a scan of the rows of a segment with offsets [from, to), which are within it. */
void
ks_log_scan_rows(KsLogScan *reader, int32 partition, const KsLogSegment *segment, int64 from, int64 to)
{
	ScanKeyData keys[4];

	ScanKeyInit(&keys[0], KS_LOG_PARTITION, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(partition));
	ScanKeyInit(&keys[1], KS_LOG_APPEND, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(segment->append));
	ScanKeyInit(&keys[2], KS_LOG_SEQUENCE, BTGreaterEqualStrategyNumber, F_INT4GE,
				Int32GetDatum(segment->first + (int32) (from - segment->base)));
	ScanKeyInit(&keys[3], KS_LOG_SEQUENCE, BTLessStrategyNumber, F_INT4LT,
				Int32GetDatum(segment->first + (int32) (to - segment->base)));
	index_rescan(reader->scan, keys, 4, NULL, 0);
}

/* The last segment whose base is not after the given offset. */
bool
ks_log_last_segment(KsLogScan *reader, int32 partition, int64 before, KsLogSegment *segment)
{
	ks_log_scan_segments(reader, partition, BTLessEqualStrategyNumber, before);
	if (!ks_log_scan_next(reader, BackwardScanDirection))
		return false;
	ks_log_segment_get(reader, segment);
	return true;
}
