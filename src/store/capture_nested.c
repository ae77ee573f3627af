/*
 * capture_nested.c
 *		Statements inside of others, whose changes are captured first.
 *
 * A trigger, or a function that a statement calls, may change the same table
 * again.  The triggers for each statement of the inner statement fire before those
 * of the outer one, though its changes are newer (or older: a trigger before the row
 * may have made room for it).  So an outer statement does not publish what it has
 * made of a row, but what the row is now, if an inner one may have changed it.
 *
 * Which statements are inside cannot be known for sure: whatever is not run by the
 * client itself may be.  That costs a set of its keys until the transaction ends,
 * and a look at the row for what changes one of them again.
 *
 * Runs in: any backend, in a statement of the user.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_am_d.h"
#include "miscadmin.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "catalog/cat_util.h"
#include "store/capture_keys.h"
#include "store/capture_nested.h"

typedef struct NestedKeys
{
	int32		sink;
	keyset_hash *keys;
} NestedKeys;

static List *nested = NIL;		/* NestedKeys *, of this transaction */
static MemoryContextCallback forget;

/* See capture_nested.h. */
bool
ks_statement_is_inside(MemoryContext query)
{
	if (query != PortalContext && MemoryContextGetParent(query) != PortalContext)
		return true;
	/* a cursor of a trigger has a portal, too */
	return DatumGetInt32(DirectFunctionCall1(pg_trigger_depth, (Datum) 0)) > 1;
}

/* The transaction ends. */
static void
forget_nested(void *arg)
{
	nested = NIL;
}

/* See capture_nested.h. */
keyset_hash *
ks_nested_keys(int32 sink, bool make)
{
	MemoryContext old;
	NestedKeys *added;
	ListCell   *lc;

	foreach(lc, nested)
	{
		if (((NestedKeys *) lfirst(lc))->sink == sink)
			return ((NestedKeys *) lfirst(lc))->keys;
	}
	if (!make)
		return NULL;
	if (nested == NIL)
	{
		forget.func = forget_nested;
		MemoryContextRegisterResetCallback(TopTransactionContext, &forget);
	}
	old = MemoryContextSwitchTo(TopTransactionContext);
	added = palloc(sizeof(NestedKeys));
	added->sink = sink;
	added->keys = keyset_create(TopTransactionContext, 64, NULL);
	nested = lappend(nested, added);
	MemoryContextSwitchTo(old);
	return added->keys;
}

/* ---------------------------------------------------------------- the row of a key */

/* Are all columns of the index among those of the key, so that it finds the row? */
static bool
index_serves(Relation rel, Relation index, List *key_columns)
{
	Form_pg_index form = index->rd_index;

	if (!form->indisunique || !form->indisvalid || index->rd_rel->relam != BTREE_AM_OID ||
		RelationGetIndexPredicate(index) != NIL)
		return false;
	for (int i = 0; i < form->indnkeyatts; i++)
	{
		AttrNumber	attnum = form->indkey.values[i];

		if (attnum <= 0 ||
			!ks_names_contain(key_columns, NameStr(TupleDescAttr(RelationGetDescr(rel), attnum - 1)->attname)))
			return false;
	}
	return true;
}

/* Conditions: the columns of the index are those of the row. */
static void
fill_scan_keys(Relation index, TupleTableSlot *row, ScanKey keys)
{
	for (int i = 0; i < index->rd_index->indnkeyatts; i++)
	{
		bool		isnull;
		Datum		value = slot_getattr(row, index->rd_index->indkey.values[i], &isnull);
		Oid			type = index->rd_opcintype[i];
		Oid			equal = get_opfamily_member(index->rd_opfamily[i], type, type, BTEqualStrategyNumber);

		if (isnull)
			ScanKeyEntryInitialize(&keys[i], SK_ISNULL | SK_SEARCHNULL, i + 1, InvalidStrategy,
								   InvalidOid, InvalidOid, InvalidOid, (Datum) 0);
		else
			ScanKeyEntryInitialize(&keys[i], 0, i + 1, BTEqualStrategyNumber, InvalidOid,
								   index->rd_indcollation[i], get_opcode(equal), value);
	}
}

/* Looks in an index. */
static bool
find_in_index(KsCapture *capture, Relation rel, Relation index, Snapshot snapshot,
			  TupleTableSlot *row, TupleTableSlot *found)
{
	int			nkeys = index->rd_index->indnkeyatts;
	ScanKeyData keys[INDEX_MAX_KEYS];
	IndexScanDesc scan = ks_index_beginscan(rel, index, snapshot, nkeys);
	bool		result = false;

	fill_scan_keys(index, row, keys);
	index_rescan(scan, keys, nkeys, NULL, 0);
	/* NULLs may be there more than once, and what is equal may be another key */
	while (!result && index_getnext_slot(scan, ForwardScanDirection, found))
		result = ks_capture_same_key(capture, row, found);
	index_endscan(scan);
	return result;
}

/* Looks everywhere. */
static bool
find_in_table(KsCapture *capture, Relation rel, Snapshot snapshot, TupleTableSlot *row, TupleTableSlot *found)
{
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	bool		result = false;

	while (!result && table_scan_getnextslot(scan, ForwardScanDirection, found))
	{
		CHECK_FOR_INTERRUPTS();
		result = ks_capture_same_key(capture, row, found);
	}
	table_endscan(scan);
	return result;
}

/* See capture_nested.h. */
bool
ks_find_row_of_key(KsCapture *capture, Relation rel, List *key_columns,
				   TupleTableSlot *row, TupleTableSlot *found)
{
	Snapshot	snapshot;
	Relation	index = NULL;
	bool		result;
	ListCell   *lc;

	foreach(lc, RelationGetIndexList(rel))
	{
		index = index_open(lfirst_oid(lc), AccessShareLock);
		if (index_serves(rel, index, key_columns))
			break;
		index_close(index, NoLock);
		index = NULL;
	}
	CommandCounterIncrement();	/* what the statement itself has done is seen, too */
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	if (index != NULL)
		result = find_in_index(capture, rel, index, snapshot, row, found);
	else
		result = find_in_table(capture, rel, snapshot, row, found);
	if (result)
		ExecMaterializeSlot(found);
	UnregisterSnapshot(snapshot);
	if (index != NULL)
		index_close(index, NoLock);
	return result;
}
