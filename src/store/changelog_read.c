/*
 * changelog_read.c
 *		Reading changelogs.
 *
 * Segments that follow each other may lie in either half, so that both are read
 * in turn, for as long as one of them goes on.
 *
 * Runs in: any backend, any worker.  Transaction: needed.
 */
#include "postgres.h"

#include "access/genam.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "store/changelog.h"
#include "store/changelog_read.h"
#include "stream/log_commit.h"
#include "stream/log_scan.h"

/* A read in progress. */
typedef struct ChangeRead
{
	Snapshot	snapshot;
	int64		next;			/* offset */
	int64		left;			/* changes to visit */
	KsChangeVisitor visit;
	void	   *arg;
} ChangeRead;

/* ---------------------------------------------------------------- locks */

/* Locks or unlocks all tables of the changelog for reading. */
static void
lock_parts(const KsChangelogRow *row, bool lock)
{
	for (int i = 0; i < 2; i++)
	{
		const Oid	parts[2] = {row->halves[i].rows, row->halves[i].segments};

		for (int j = 0; j < 2; j++)
		{
			if (lock)
				LockRelationOid(parts[j], AccessShareLock);
			else
				UnlockRelationOid(parts[j], AccessShareLock);
		}
	}
}

/* See changelog_read.h.  While the locks are waited for it may be stopped, and started anew. */
KsChangelogRow *
ks_changelog_hold(Oid relation)
{
	for (;;)
	{
		KsChangelogRow *row = ks_changelog_load(relation, NULL);
		KsChangelogRow *again;

		if (row == NULL || row->keep == NULL)
			return NULL;
		lock_parts(row, true);
		again = ks_changelog_load(relation, NULL);
		if (again != NULL && again->halves[0].rows == row->halves[0].rows)
			return again;
		lock_parts(row, false);
		CHECK_FOR_INTERRUPTS();
	}
}

/* See changelog_read.h. */
void
ks_changelog_let_go(const KsChangelogRow *row)
{
	lock_parts(row, false);
}

/* ---------------------------------------------------------------- bounds */

/* The first segment of a half, or the last one; false if there is none. */
static bool
edge_segment(const KsChangelogHalf *half, Snapshot snapshot, bool first, KsLogSegment *segment)
{
	KsLogScan	segments;
	bool		found;

	ks_log_scan_open(&segments, half->segments, snapshot, 2);
	ks_log_scan_segments(&segments, 0, BTGreaterEqualStrategyNumber, 0);
	found = ks_log_scan_next(&segments, first ? ForwardScanDirection : BackwardScanDirection);
	if (found)
		ks_log_segment_get(&segments, segment);
	ks_log_scan_close(&segments);
	return found;
}

/* See changelog_read.h.  A half that was truncated begins with a mark. */
int64
ks_changelog_begin(const KsChangelogRow *row, Snapshot snapshot)
{
	int64		begin = 0;

	for (int i = 0; i < 2; i++)
	{
		KsLogSegment segment;

		if (edge_segment(&row->halves[i], snapshot, true, &segment) && segment.append == 0)
			begin = Max(begin, segment.base + segment.count);
	}
	return begin;
}

/* See changelog_read.h. */
int64
ks_changelog_end(const KsChangelogRow *row, Snapshot snapshot)
{
	int64		end = 0;

	for (int i = 0; i < 2; i++)
	{
		KsLogSegment segment;

		if (edge_segment(&row->halves[i], snapshot, false, &segment))
			end = Max(end, segment.base + segment.count);
	}
	return end;
}

/* ---------------------------------------------------------------- changes */

/* Visits the change in the slot. */
static void
visit_row(ChangeRead *read, TupleTableSlot *slot)
{
	KsStoredChange change = {.offset = read->next};
	Datum	   *values;
	bool	   *nulls;

	slot_getallattrs(slot);
	values = slot->tts_values;
	nulls = slot->tts_isnull;
	switch (DatumGetChar(values[KS_CHANGE_COL_OP - 1]))
	{
		case KS_CHANGE_CHAR_INSERT:
			change.op = KS_CHANGE_INSERT;
			break;
		case KS_CHANGE_CHAR_UPDATE:
			change.op = KS_CHANGE_UPDATE;
			break;
		default:
			change.op = KS_CHANGE_DELETE;
			break;
	}
	change.event_time = nulls[KS_CHANGE_COL_TIME - 1] ? DT_NOBEGIN :
		DatumGetTimestampTz(values[KS_CHANGE_COL_TIME - 1]);
	change.ncolumns = (slot->tts_tupleDescriptor->natts - KS_CHANGE_COL_FIRST + 1) / 2;
	change.old_values = values + KS_CHANGE_COL_FIRST - 1;
	change.old_nulls = nulls + KS_CHANGE_COL_FIRST - 1;
	change.new_values = change.old_values + change.ncolumns;
	change.new_nulls = change.old_nulls + change.ncolumns;
	read->visit(&change, read->arg);
	read->next++;
	read->left--;
}

/* Reads on in one half while its segments follow each other. */
static void
read_half(ChangeRead *read, const KsChangelogHalf *half)
{
	KsLogScan	segments;
	KsLogScan	rows;
	KsLogSegment segment;

	ks_log_scan_open(&segments, half->segments, read->snapshot, 2);
	ks_log_scan_open(&rows, half->rows, read->snapshot, 4);
	if (!ks_log_last_segment(&segments, 0, read->next, &segment))
		segment.base = read->next;
	ks_log_scan_segments(&segments, 0, BTGreaterEqualStrategyNumber, segment.base);
	while (read->left > 0 && ks_log_scan_next(&segments, ForwardScanDirection))
	{
		int64		to;

		ks_log_segment_get(&segments, &segment);
		if (segment.base + segment.count <= read->next)
			continue;
		if (segment.base > read->next)
			break;
		to = Min(segment.base + segment.count, read->next + read->left);
		ks_log_scan_rows(&rows, 0, &segment, read->next, to);
		while (ks_log_scan_next(&rows, ForwardScanDirection))
		{
			CHECK_FOR_INTERRUPTS();
			visit_row(read, rows.slot);
		}
		if (read->next != to)
			elog(ERROR, "changes " INT64_FORMAT " to " INT64_FORMAT " are missing in relation %u",
				 read->next, to - 1, half->rows);
	}
	ks_log_scan_close(&rows);
	ks_log_scan_close(&segments);
}

/* See changelog_read.h. */
int64
ks_changelog_visit(const KsChangelogRow *row, Snapshot snapshot, int64 from, int64 max,
				   KsChangeVisitor visit, void *arg)
{
	ChangeRead	read = {snapshot, from, max, visit, arg};
	int64		before;

	do
	{
		before = read.next;
		for (int i = 0; i < 2 && read.left > 0; i++)
			read_half(&read, &row->halves[i]);
	} while (read.next > before && read.left > 0);
	return read.next;
}
