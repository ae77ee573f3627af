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

#include "store/capture.h"
#include "store/change.h"
#include "store/changelog.h"

/* See change.h. */
List *
ks_change_listeners(Oid relation)
{
	Relation	rel = table_open(relation, NoLock);
	List	   *listeners = NIL;

	listeners = list_concat(listeners, ks_changelog_listener(relation));
	listeners = list_concat(listeners, ks_capture_listeners(rel));
	table_close(rel, NoLock);
	return listeners;
}

/* See change.h. */
bool
ks_changes_wanted(Oid relation)
{
	return ks_changelog_wanted(relation) || ks_capture_wanted(relation);
}

/* See change.h. */
void
ks_tell_cleared(Oid relation)
{
	Relation	rel = table_open(relation, RowExclusiveLock);
	List	   *listeners = ks_change_listeners(relation);
	TableScanDesc scan;
	TupleTableSlot *slot;
	ListCell   *lc;

	if (listeners == NIL)
	{
		table_close(rel, NoLock);
		return;
	}
	PushCopiedSnapshot(GetTransactionSnapshot());
	UpdateActiveSnapshotCommandId();
	slot = table_slot_create(rel, NULL);
	scan = table_beginscan(rel, GetActiveSnapshot(), 0, NULL);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		foreach(lc, listeners)
		{
			KsChangeListener *listener = lfirst(lc);

			listener->take(listener, KS_CHANGE_DELETE, slot, NULL, DT_NOBEGIN);
		}
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	PopActiveSnapshot();
	foreach(lc, listeners)
		((KsChangeListener *) lfirst(lc))->finish(lfirst(lc));
	table_close(rel, NoLock);
}
