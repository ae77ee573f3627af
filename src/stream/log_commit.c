/*
 * log_commit.c
 *		Writing logs whose order is the order of commits.
 *
 * Rows have no offset while their transaction runs.  At PRE_COMMIT it takes a
 * lock per log and partition, in one order for all transactions, and holds it
 * until it has ended; reads the last segment, and adds its own behind it.  So
 * offsets are handed out in the order in which transactions become visible, and
 * whoever sees a segment sees everything before it.  A snapshot-based order would
 * stall on any old transaction of the cluster; this way stalls nobody, at the
 * price that transactions that write one partition commit one after the other.
 *
 * Rows of subtransactions that were rolled back are gone from the heap; then the
 * sequence has holes, and the append becomes several segments, one for each run
 * of rows without a hole.
 *
 * A log may have two halves (an outbox, which empties one while the other is
 * written); the lock is that of the log, and the last segment is the later of
 * the two halves' last ones.
 *
 * Runs in: any backend, any worker, in a transaction.  Memory: what waits for
 * the commit is in TopTransactionContext.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/sequence.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "stream/log_commit.h"
#include "worker/wakeup.h"

/* Fourth field of our advisory lock tags for logs; SQL's functions use 1 and 2. */
#define LOG_LOCK_SPACE		8

/* Rows and bytes that are collected before they are written. */
#define BUFFER_ROWS			1000
#define BUFFER_BYTES		(1024 * 1024)

struct KsLogRows
{
	MemoryContext cxt;
	MemoryContext flush_cxt;
	Relation	rel;
	EState	   *estate;
	ResultRelInfo *rri;
	BulkInsertState bistate;	/* only once there is much to write */
	TupleTableSlot **slots;		/* [BUFFER_ROWS], made when needed */
	int			nslots;
	int			nrows;
	Size		bytes;
};

static List *pending = NIL;		/* KsPendingAppend *, in TopTransactionContext */
static int64 unwritten = 0;		/* rows put but not written yet */
static List *grown = NIL;		/* identities of logs that got segments in this transaction, as above */

static int64 next_append_number(void);
static void flush(KsLogRows *rows);
static void xact_callback(XactEvent event, void *arg);
static void subxact_callback(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg);
static void assign_offsets(void);
static void tell_of_growth(void);
static int	compare_pending(const ListCell *a, const ListCell *b);
static void lock_partition(const KsPendingAppend *append);
static void assign_append(KsPendingAppend *append);
static int64 log_end(Relation segments, int32 partition);
static int64 add_runs(const KsPendingAppend *append, int64 base, EState *estate, ResultRelInfo *rri,
					  TupleTableSlot *slot);
static void add_segment(const KsPendingAppend *append, int64 base, int32 first, int32 count,
						EState *estate, ResultRelInfo *rri, TupleTableSlot *slot);


/* ---------------------------------------------------------------- appends */

/* See log_commit.h. */
KsPendingAppend *
ks_append_pending(const KsLogPlace *place, int32 partition)
{
	static KsPendingAppend *last = NULL;
	MemoryContext old;
	KsPendingAppend *append;
	ListCell   *lc;

	if (pending != NIL && last != NULL && last->place.log == place->log && last->partition == partition)
		return last;
	foreach(lc, pending)
	{
		append = lfirst(lc);
		if (append->place.log == place->log && append->partition == partition)
			return last = append;
	}

	append = MemoryContextAllocZero(TopTransactionContext, sizeof(KsPendingAppend));
	append->place = *place;
	append->partition = partition;
	append->number = next_append_number();
	append->newest = DT_NOBEGIN;
	old = MemoryContextSwitchTo(TopTransactionContext);
	pending = lappend(pending, append);
	MemoryContextSwitchTo(old);
	return last = append;
}

/* See log_commit.h. */
bool
ks_append_is_pending(Oid identity)
{
	ListCell   *lc;

	foreach(lc, pending)
	{
		const KsPendingAppend *append = lfirst(lc);

		if (append->place.identity == identity && append->next > 0)
			return true;
	}
	return false;
}

/* A new number of an append. */
static int64
next_append_number(void)
{
	Oid			schema = get_namespace_oid("kstream_catalog", false);

	return nextval_internal(get_relname_relid("log_batch", schema), false);
}

/* ---------------------------------------------------------------- rows */

/* See log_commit.h. */
KsLogRows *
ks_log_rows_open(Oid log)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "kstream log rows", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	KsLogRows  *rows = palloc0(sizeof(KsLogRows));

	rows->cxt = cxt;
	rows->flush_cxt = AllocSetContextCreate(cxt, "kstream log flush", ALLOCSET_DEFAULT_SIZES);
	rows->rel = table_open(log, RowExclusiveLock);
	rows->estate = ks_create_estate(rows->rel);
	rows->rri = makeNode(ResultRelInfo);
	InitResultRelInfo(rows->rri, rows->rel, 1, NULL, 0);
	ExecOpenIndices(rows->rri, false);
	rows->slots = palloc0(sizeof(TupleTableSlot *) * BUFFER_ROWS);
	MemoryContextSwitchTo(old);
	return rows;
}

/* The table written to. */
Relation
ks_log_rows_relation(KsLogRows *rows)
{
	return rows->rel;
}

/* See log_commit.h. */
TupleTableSlot *
ks_log_rows_slot(KsLogRows *rows)
{
	TupleTableSlot *slot;

	if (rows->nrows == rows->nslots)
	{
		MemoryContext old = MemoryContextSwitchTo(rows->cxt);

		rows->slots[rows->nslots++] = MakeSingleTupleTableSlot(RelationGetDescr(rows->rel), &TTSOpsHeapTuple);
		MemoryContextSwitchTo(old);
	}
	slot = ExecClearTuple(rows->slots[rows->nrows]);
	memset(slot->tts_isnull, true, sizeof(bool) * slot->tts_tupleDescriptor->natts);
	return slot;
}

/* See log_commit.h. */
void
ks_log_rows_put(KsLogRows *rows)
{
	TupleTableSlot *slot = rows->slots[rows->nrows];

	ExecStoreVirtualTuple(slot);
	ExecMaterializeSlot(slot);
	unwritten++;
	rows->nrows++;
	rows->bytes += ((HeapTupleTableSlot *) slot)->tuple->t_len;
	if (rows->nrows >= BUFFER_ROWS || rows->bytes >= BUFFER_BYTES)
	{
		if (rows->bistate == NULL)
			rows->bistate = GetBulkInsertState();
		flush(rows);
	}
}

/* Writes the collected rows with their index entries. */
static void
flush(KsLogRows *rows)
{
	MemoryContext old;

	if (rows->nrows == 0)
		return;
	old = MemoryContextSwitchTo(rows->flush_cxt);
	table_multi_insert(rows->rel, rows->slots, rows->nrows, GetCurrentCommandId(true), 0, rows->bistate);
	for (int i = 0; i < rows->nrows; i++)
	{
		List	   *recheck = ks_insert_index_tuples(rows->rri, rows->slots[i], rows->estate);

		list_free(recheck);
		ResetPerTupleExprContext(rows->estate);
		ExecClearTuple(rows->slots[i]);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(rows->flush_cxt);
	unwritten -= rows->nrows;
	rows->nrows = 0;
	rows->bytes = 0;
}

/* See log_commit.h. */
void
ks_log_rows_close(KsLogRows *rows)
{
	flush(rows);
	if (rows->bistate != NULL)
		FreeBulkInsertState(rows->bistate);
	for (int i = 0; i < rows->nslots; i++)
		ExecDropSingleTupleTableSlot(rows->slots[i]);
	ExecCloseIndices(rows->rri);
	ExecResetTupleTable(rows->estate->es_tupleTable, false);
	FreeExecutorState(rows->estate);
	table_close(rows->rel, NoLock);
	MemoryContextDelete(rows->cxt);
}

/* ---------------------------------------------------------------- end of transaction */

/* Registers what has to be done when transactions end. */
void
ks_log_commit_init(void)
{
	RegisterXactCallback(xact_callback, NULL);
	RegisterSubXactCallback(subxact_callback, NULL);
}

/* Gives the appends of the transaction their offsets just before it commits. */
static void
xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			if (pending != NIL)
				assign_offsets();
			break;
		case XACT_EVENT_PRE_PREPARE:
			if (pending != NIL)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("cannot PREPARE a transaction that has written to a stream or to a published table"),
						 errhint("End the transaction with COMMIT.")));
			break;
		case XACT_EVENT_COMMIT:
			tell_of_growth();
			/* FALLTHROUGH */
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			pending = NIL;
			unwritten = 0;
			grown = NIL;
			break;
		default:
			break;
	}
}

/* Wakes those who read the logs that have grown. */
static void
tell_of_growth(void)
{
	ListCell   *lc;

	foreach(lc, grown)
		ks_log_changed(lfirst_oid(lc));
	if (grown != NIL)
		ks_notify_local_records();
}

/* After a rollback to a savepoint rows may be missing from the appends. */
static void
subxact_callback(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	ListCell   *lc;

	if (event != SUBXACT_EVENT_ABORT_SUB)
		return;
	foreach(lc, pending)
		((KsPendingAppend *) lfirst(lc))->holes = true;
}

/* Takes the locks in a fixed order, and gives every append its place. */
static void
assign_offsets(void)
{
	MemoryContext cxt = AllocSetContextCreate(TopTransactionContext, "kstream offsets", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	ListCell   *lc;

	list_sort(pending, compare_pending);
	foreach(lc, pending)
		lock_partition(lfirst(lc));
	PushActiveSnapshot(GetTransactionSnapshot());
	foreach(lc, pending)
		assign_append(lfirst(lc));
	PopActiveSnapshot();
	pending = NIL;
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}

/* The order in which locks are taken. */
static int
compare_pending(const ListCell *a, const ListCell *b)
{
	const KsPendingAppend *left = lfirst(a);
	const KsPendingAppend *right = lfirst(b);

	if (left->place.identity != right->place.identity)
		return left->place.identity < right->place.identity ? -1 : 1;
	if (left->partition != right->partition)
		return left->partition < right->partition ? -1 : 1;
	/* both halves of a log, which were switched while the transaction ran */
	return left->number < right->number ? -1 : left->number > right->number;
}

/* Waits for the others that append to the partition; held to the end of the transaction. */
static void
lock_partition(const KsPendingAppend *append)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, append->place.identity, (uint32) append->partition, LOG_LOCK_SPACE);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

/*
 * Adds the segments of one append behind the last segment of its partition.  The
 * log may have been dropped in this transaction, or its creation rolled back.
 */
static void
assign_append(KsPendingAppend *append)
{
	Relation	rel;
	EState	   *estate;
	ResultRelInfo *rri;
	TupleTableSlot *slot;
	MemoryContext old;
	int64		base;
	int64		end;

	if (append->next == 0 || !SearchSysCacheExists1(RELOID, ObjectIdGetDatum(append->place.log)))
		return;

	old = MemoryContextSwitchTo(TopTransactionContext);
	grown = list_append_unique_oid(grown, append->place.identity);
	MemoryContextSwitchTo(old);
	rel = table_open(append->place.segments, RowExclusiveLock);
	estate = ks_create_estate(rel);
	rri = makeNode(ResultRelInfo);
	InitResultRelInfo(rri, rel, 1, NULL, 0);
	ExecOpenIndices(rri, false);
	slot = table_slot_create(rel, NULL);

	base = log_end(rel, append->partition);
	if (OidIsValid(append->place.other_segments))
	{
		Relation	other = table_open(append->place.other_segments, AccessShareLock);

		base = Max(base, log_end(other, append->partition));
		table_close(other, NoLock);
	}
	if (append->holes || unwritten != 0)
		end = add_runs(append, base, estate, rri, slot);
	else
	{
		add_segment(append, base, 0, append->next, estate, rri, slot);
		end = base + append->next;
	}

	ExecDropSingleTupleTableSlot(slot);
	ExecCloseIndices(rri);
	FreeExecutorState(estate);
	table_close(rel, NoLock);
	if (append->placed != NULL && end > base)
		append->placed(append, end);
}

/*
 * The offset after the last segment of the partition.  Whoever wrote it has
 * ended, for we hold the lock; so the current state is read, which is right at
 * every isolation level, where the transaction's snapshot would be too old.
 */
static int64
log_end(Relation segments, int32 partition)
{
	Relation	index = index_open(ks_primary_key_index(segments), AccessShareLock);
	TupleTableSlot *slot = table_slot_create(segments, NULL);
	IndexScanDesc scan = ks_index_beginscan(segments, index, SnapshotSelf, 1);
	ScanKeyData key;
	int64		end = 0;

	ScanKeyInit(&key, KS_SEGMENT_PARTITION, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(partition));
	index_rescan(scan, &key, 1, NULL, 0);
	if (index_getnext_slot(scan, BackwardScanDirection, slot))
	{
		slot_getallattrs(slot);
		end = DatumGetInt64(slot->tts_values[KS_SEGMENT_BASE - 1]) +
			DatumGetInt32(slot->tts_values[KS_SEGMENT_COUNT - 1]);
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, NoLock);
	return end;
}

/*
 * Goes through the rows of the append that are left, and adds a segment for each
 * run without a hole.  Returns the offset after the last one.
 */
static int64
add_runs(const KsPendingAppend *append, int64 base, EState *estate, ResultRelInfo *rri, TupleTableSlot *slot)
{
	Relation	rel = table_open(append->place.log, AccessShareLock);
	Relation	index = index_open(ks_primary_key_index(rel), AccessShareLock);
	TupleTableSlot *row = table_slot_create(rel, NULL);
	IndexScanDesc scan = ks_index_beginscan(rel, index, SnapshotSelf, 2);
	ScanKeyData keys[2];
	int32		first = 0;
	int32		count = 0;

	ScanKeyInit(&keys[0], KS_LOG_PARTITION, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(append->partition));
	ScanKeyInit(&keys[1], KS_LOG_APPEND, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(append->number));
	index_rescan(scan, keys, 2, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, row))
	{
		bool		isnull;
		int32		sequence = DatumGetInt32(slot_getattr(row, KS_LOG_SEQUENCE, &isnull));
		AttrNumber	count_attnum = append->place.count_attnum;
		int32		nrecords = count_attnum == 0 ? 1 :
			DatumGetInt32(slot_getattr(row, count_attnum, &isnull));

		CHECK_FOR_INTERRUPTS();
		if (count > 0 && sequence != first + count)
		{
			add_segment(append, base, first, count, estate, rri, slot);
			base += count;
			count = 0;
		}
		if (count == 0)
			first = sequence;
		count += nrecords;
	}
	if (count > 0)
		add_segment(append, base, first, count, estate, rri, slot);

	index_endscan(scan);
	ExecDropSingleTupleTableSlot(row);
	index_close(index, NoLock);
	table_close(rel, NoLock);
	return base + count;
}

/* Adds one segment. */
static void
add_segment(const KsPendingAppend *append, int64 base, int32 first, int32 count,
			EState *estate, ResultRelInfo *rri, TupleTableSlot *slot)
{
	ExecClearTuple(slot);
	memset(slot->tts_isnull, false, sizeof(bool) * KS_SEGMENT_NATTS);
	slot->tts_values[KS_SEGMENT_PARTITION - 1] = Int32GetDatum(append->partition);
	slot->tts_values[KS_SEGMENT_BASE - 1] = Int64GetDatum(base);
	slot->tts_values[KS_SEGMENT_COUNT - 1] = Int32GetDatum(count);
	slot->tts_values[KS_SEGMENT_APPEND - 1] = Int64GetDatum(append->number);
	slot->tts_values[KS_SEGMENT_FIRST - 1] = Int32GetDatum(first);
	slot->tts_values[KS_SEGMENT_NEWEST - 1] = TimestampTzGetDatum(append->newest);
	ExecStoreVirtualTuple(slot);
	table_tuple_insert(rri->ri_RelationDesc, slot, GetCurrentCommandId(true), 0, NULL);
	list_free(ks_insert_index_tuples(rri, slot, estate));
	ResetPerTupleExprContext(estate);
}
