/*
 * log_scan.h
 *		Reading a log that is ordered at commit: its segments and their rows.
 *
 * See log_commit.h for what such a log is.
 */
#ifndef KS_LOG_SCAN_H
#define KS_LOG_SCAN_H

#include "postgres.h"
#include "access/relscan.h"
#include "access/sdir.h"
#include "access/stratnum.h"
#include "executor/tuptable.h"
#include "stream/log_commit.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/* One table opened for index scans on its primary key. */
typedef struct KsLogScan
{
	Relation	rel;
	Relation	index;
	TupleTableSlot *slot;
	IndexScanDesc scan;
} KsLogScan;

/* One segment. */
typedef struct KsLogSegment
{
	int64		base;
	int64		count;
	int64		append;
	int32		first;			/* _s of its first row */
} KsLogSegment;

extern Snapshot ks_log_snapshot(void);	/* registered: unregister it */
extern void ks_log_scan_open(KsLogScan *scan, Oid relid, Snapshot snapshot, int nkeys);
extern void ks_log_scan_close(KsLogScan *scan);
extern bool ks_log_scan_next(KsLogScan *scan, ScanDirection direction);

/* Segments need a scan with 2 keys, rows one with 4. */
extern void ks_log_scan_segments(KsLogScan *scan, int32 partition, StrategyNumber strategy, int64 base);
extern void ks_log_segment_get(KsLogScan *scan, KsLogSegment *segment);
extern bool ks_log_last_segment(KsLogScan *scan, int32 partition, int64 before, KsLogSegment *segment);
extern void ks_log_scan_rows(KsLogScan *scan, int32 partition, const KsLogSegment *segment,
							 int64 from, int64 to);

#endif							/* KS_LOG_SCAN_H */
