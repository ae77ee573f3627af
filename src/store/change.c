/*
 * change.c
 *		Those who want to know what changes in a table that kstream maintains.
 *
 * Runs in: worker or a backend that steps, in a transaction.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "miscadmin.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "store/capture.h"
#include "store/change.h"

/* See change.h. */
List *
ks_change_listeners(Oid relation)
{
	Relation	rel = table_open(relation, NoLock);
	List	   *listeners = NIL;

	listeners = list_concat(listeners, ks_capture_listeners(rel));
	table_close(rel, NoLock);
	return listeners;
}

/* See change.h. */
bool
ks_changes_wanted(Oid relation)
{
	return ks_capture_wanted(relation);
}

/* See change.h. */
void
ks_changes_clear(Oid relation)
{
	Relation	rel = table_open(relation, RowExclusiveLock);
	List	   *listeners = ks_change_listeners(relation);
	TimestampTz now = GetCurrentTimestamp();
	Snapshot	snapshot;
	TableScanDesc scan;
	TupleTableSlot *slot;
	ListCell   *lc;

	if (listeners != NIL)
	{
		snapshot = RegisterSnapshot(GetLatestSnapshot());
		scan = table_beginscan(rel, snapshot, 0, NULL);
		slot = table_slot_create(rel, NULL);
		while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
		{
			CHECK_FOR_INTERRUPTS();
			foreach(lc, listeners)
				((KsChangeListener *) lfirst(lc))->take(lfirst(lc), KS_CHANGE_DELETE, slot, NULL, now);
		}
		ExecDropSingleTupleTableSlot(slot);
		table_endscan(scan);
		UnregisterSnapshot(snapshot);
	}
	foreach(lc, listeners)
		((KsChangeListener *) lfirst(lc))->finish(lfirst(lc));
	table_close(rel, NoLock);
}
