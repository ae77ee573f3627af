/*
 * position.c
 *		Positions of queries: rows of kstream_catalog.position.
 *
 * The row is updated through its remembered TID: an update by key slows down
 * linearly while an old snapshot is open anywhere, because every version of the
 * row is visited; by TID it does not.  The TID is checked first: the row there
 * must be visible and must hold the position this batch started from.  That
 * comparison under the row's lock is the fence that makes two workers on one
 * query harmless: the second one fails.
 *
 * Heap and index are written directly (no triggers, no privileges involved):
 * the catalog belongs to the extension.
 *
 * Runs in: worker or a backend that steps; inside the batch's transaction.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "executor/tuptable.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "catalog/dedup_cat.h"
#include "catalog/stream_def.h"
#include "kafka/consumer.h"
#include "store/position.h"
#include "stream/local_log.h"

/* Attributes of kstream_catalog.position. */
enum
{
	ATT_QUERY = 1,
	ATT_SOURCE,
	ATT_PARTITION,
	ATT_NEXT_OFFSET,
	ATT_STREAM_TIME,
	ATT_LEADER_EPOCH,
	ATT_SEAM_OFFSET,
	ATT_SEAM,
	ATT_RECORDS,
	ATT_ROWS_OUT,
	ATT_DEAD,
	ATT_LATE,
	ATT_DUPLICATES,
	ATT_WATERMARK,
	ATT_MOVED_AT,
	NATTS = ATT_MOVED_AT
};

/* How long the broker may take to answer at creation of a query. */
#define START_TIMEOUT_MS 5000

/* Opens the table. */
static Relation
open_positions(LOCKMODE lockmode)
{
	Oid			nsp = get_namespace_oid("kstream_catalog", false);

	return table_open(get_relname_relid("position", nsp), lockmode);
}

/* The index of its primary key. */
static Oid
position_index(Relation rel)
{
	Oid			index;
	List	   *indexes = RelationGetIndexList(rel);

	index = rel->rd_pkindex;
	list_free(indexes);
	return index;
}

/* A column that holds a time, DT_NOBEGIN for NULL. */
static TimestampTz
time_or_nobegin(const Datum *values, const bool *nulls, int att)
{
	return nulls[att - 1] ? DT_NOBEGIN : DatumGetTimestampTz(values[att - 1]);
}

/* Reads a row. */
static void
read_row(HeapTuple tuple, TupleDesc desc, KsPosition *pos)
{
	Datum		values[NATTS];
	bool		nulls[NATTS];

	heap_deform_tuple(tuple, desc, values, nulls);
	pos->source = DatumGetObjectId(values[ATT_SOURCE - 1]);
	pos->partition = DatumGetInt32(values[ATT_PARTITION - 1]);
	pos->next_offset = DatumGetInt64(values[ATT_NEXT_OFFSET - 1]);
	pos->has_stream_time = !nulls[ATT_STREAM_TIME - 1];
	pos->stream_time = pos->has_stream_time ? DatumGetTimestampTz(values[ATT_STREAM_TIME - 1]) : DT_NOBEGIN;
	pos->leader_epoch = DatumGetInt32(values[ATT_LEADER_EPOCH - 1]);
	pos->has_seam = !nulls[ATT_SEAM - 1];
	pos->seam_offset = pos->has_seam ? DatumGetInt64(values[ATT_SEAM_OFFSET - 1]) : 0;
	pos->seam = pos->has_seam ? (uint64) DatumGetInt64(values[ATT_SEAM - 1]) : 0;
	pos->records = DatumGetInt64(values[ATT_RECORDS - 1]);
	pos->rows_out = DatumGetInt64(values[ATT_ROWS_OUT - 1]);
	pos->dead = DatumGetInt64(values[ATT_DEAD - 1]);
	pos->late = DatumGetInt64(values[ATT_LATE - 1]);
	pos->duplicates = DatumGetInt64(values[ATT_DUPLICATES - 1]);
	pos->watermark = time_or_nobegin(values, nulls, ATT_WATERMARK);
	pos->moved_at = time_or_nobegin(values, nulls, ATT_MOVED_AT);
	pos->tid = tuple->t_self;
}

/* Makes a row. */
static HeapTuple
make_row(int32 query, const KsPosition *pos, TupleDesc desc)
{
	Datum		values[NATTS];
	bool		nulls[NATTS] = {false};

	values[ATT_QUERY - 1] = Int32GetDatum(query);
	values[ATT_SOURCE - 1] = ObjectIdGetDatum(pos->source);
	values[ATT_PARTITION - 1] = Int32GetDatum(pos->partition);
	values[ATT_NEXT_OFFSET - 1] = Int64GetDatum(pos->next_offset);
	values[ATT_STREAM_TIME - 1] = TimestampTzGetDatum(pos->stream_time);
	nulls[ATT_STREAM_TIME - 1] = !pos->has_stream_time;
	values[ATT_LEADER_EPOCH - 1] = Int32GetDatum(pos->leader_epoch);
	values[ATT_SEAM_OFFSET - 1] = Int64GetDatum(pos->seam_offset);
	values[ATT_SEAM - 1] = Int64GetDatum((int64) pos->seam);
	nulls[ATT_SEAM_OFFSET - 1] = nulls[ATT_SEAM - 1] = !pos->has_seam;
	values[ATT_RECORDS - 1] = Int64GetDatum(pos->records);
	values[ATT_ROWS_OUT - 1] = Int64GetDatum(pos->rows_out);
	values[ATT_DEAD - 1] = Int64GetDatum(pos->dead);
	values[ATT_LATE - 1] = Int64GetDatum(pos->late);
	values[ATT_DUPLICATES - 1] = Int64GetDatum(pos->duplicates);
	values[ATT_WATERMARK - 1] = TimestampTzGetDatum(pos->watermark);
	nulls[ATT_WATERMARK - 1] = TIMESTAMP_IS_NOBEGIN(pos->watermark);
	values[ATT_MOVED_AT - 1] = TimestampTzGetDatum(pos->moved_at);
	nulls[ATT_MOVED_AT - 1] = TIMESTAMP_IS_NOBEGIN(pos->moved_at);
	return heap_form_tuple(desc, values, nulls);
}

/* See position.h. */
List *
ks_positions_load(int32 query)
{
	Relation	rel = open_positions(AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *result = NIL;

	ScanKeyInit(&key, ATT_QUERY, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(query));
	scan = systable_beginscan(rel, position_index(rel), true, GetActiveSnapshot(), 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		KsPosition *pos = palloc(sizeof(KsPosition));

		read_row(tuple, RelationGetDescr(rel), pos);
		result = lappend(result, pos);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return result;
}

/* Raises the error of a lost compare-and-set. */
static void
position_moved(int32 query, const KsPosition *pos)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("position of query %d in partition %d was moved by another session",
					query, pos->partition),
			 errdetail("The batch started at offset " INT64_FORMAT ".", pos->next_offset)));
}

/* Does the tuple hold the position the batch started from? */
static bool
row_is(HeapTuple tuple, TupleDesc desc, int32 query, const KsPosition *pos)
{
	bool		isnull;
	KsPosition	now;

	if (DatumGetInt32(heap_getattr(tuple, ATT_QUERY, desc, &isnull)) != query)
		return false;
	read_row(tuple, desc, &now);
	return now.source == pos->source && now.partition == pos->partition &&
		now.next_offset == pos->next_offset && now.records == pos->records;
}

/* Looks at the remembered place of the row; prunes the page first, as nobody else would. */
static bool
row_still_there(Relation rel, int32 query, const KsPosition *pos)
{
	BlockNumber block = ItemPointerGetBlockNumber(&pos->tid);
	TupleTableSlot *slot;
	Buffer		buffer;
	bool		result = false;

	if (block >= RelationGetNumberOfBlocks(rel))
		return false;
	buffer = ReadBuffer(rel, block);
	heap_page_prune_opt(rel, buffer);
	ReleaseBuffer(buffer);
	slot = table_slot_create(rel, NULL);
	if (table_tuple_fetch_row_version(rel, (ItemPointer) &pos->tid, GetActiveSnapshot(), slot))
	{
		bool		shouldfree;
		HeapTuple	tuple = ExecFetchSlotHeapTuple(slot, false, &shouldfree);

		result = row_is(tuple, RelationGetDescr(rel), query, pos);
		if (shouldfree)
			heap_freetuple(tuple);
	}
	ExecDropSingleTupleTableSlot(slot);
	return result;
}

/* Finds the row by key; sets the TID if it still holds the position. */
static bool
find_row(Relation rel, int32 query, const KsPosition *pos, ItemPointer tid)
{
	ScanKeyData keys[3];
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		result;

	ScanKeyInit(&keys[0], ATT_QUERY, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(query));
	ScanKeyInit(&keys[1], ATT_SOURCE, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(pos->source));
	ScanKeyInit(&keys[2], ATT_PARTITION, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(pos->partition));
	scan = systable_beginscan(rel, position_index(rel), true, GetActiveSnapshot(), 3, keys);
	tuple = systable_getnext(scan);
	result = HeapTupleIsValid(tuple) && row_is(tuple, RelationGetDescr(rel), query, pos);
	if (result)
		*tid = tuple->t_self;
	systable_endscan(scan);
	return result;
}

/* See position.h. */
void
ks_position_store(int32 query, const KsPosition *old, KsPosition *new_pos)
{
	Relation	rel = open_positions(RowExclusiveLock);
	HeapTuple	tuple = make_row(query, new_pos, RelationGetDescr(rel));

	if (!ItemPointerIsValid(&old->tid))
		CatalogTupleInsert(rel, tuple);
	else
	{
		ItemPointerData tid = old->tid;

		if (!row_still_there(rel, query, old) && !find_row(rel, query, old, &tid))
			position_moved(query, old);
		/* A concurrent update makes this fail: that is the compare-and-set. */
		CatalogTupleUpdate(rel, &tid, tuple);
	}
	new_pos->tid = tuple->t_self;
	heap_freetuple(tuple);
	table_close(rel, NoLock);
}

/* See position.h. */
void
ks_positions_delete(int32 query)
{
	Relation	rel = open_positions(RowExclusiveLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, ATT_QUERY, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(query));
	scan = systable_beginscan(rel, position_index(rel), true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		CatalogTupleDelete(rel, &tuple->t_self);
	systable_endscan(scan);
	table_close(rel, NoLock);
}

/* See position.h. */
TimestampTz
ks_start_timestamp(const char *start)
{
	return DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(start),
												   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

/* See position.h. */
int64
ks_start_offset(const KsStreamDef *def, KsConsumer *consumer, int32 partition,
				const char *start, int timeout_ms)
{
	int64		first;
	int64		end;

	if (strcmp(start, "earliest") != 0 && strcmp(start, "latest") != 0)
	{
		TimestampTz when = ks_start_timestamp(start);

		return def->local ? ks_local_log_offset_for_time(def->relid, partition, when) :
			ks_topic_offset_for_time(consumer, def->topic, partition, when, timeout_ms);
	}
	if (def->local)
		ks_local_log_range(def->relid, partition, &first, &end);
	else
		ks_topic_offsets(consumer, def->topic, partition, timeout_ms, &first, &end);
	return strcmp(start, "latest") == 0 ? end : first;
}

/* Stores the starting positions in one stream. */
static void
start_in_stream(const KsQueryRow *row, Oid stream)
{
	KsStreamDef *def = ks_stream_def_of(stream);
	KsConsumer *consumer = NULL;
	int			partitions;

	if (def->local)
		partitions = ks_local_log_partitions(stream);
	else
	{
		consumer = ks_consumer_open(def->serverid, def->owner, "start");
		partitions = ks_topic_partition_count(consumer, def->topic, START_TIMEOUT_MS);
	}
	for (int p = 0; p < partitions; p++)
	{
		KsPosition	pos = {0};
		KsPosition	none = {0};

		ItemPointerSetInvalid(&none.tid);
		pos.source = stream;
		pos.partition = p;
		pos.leader_epoch = -1;
		pos.stream_time = pos.watermark = pos.moved_at = DT_NOBEGIN;
		pos.next_offset = ks_start_offset(def, consumer, p, row->start, START_TIMEOUT_MS);
		ks_position_store(row->id, &none, &pos);
	}
	if (consumer != NULL)
		ks_consumer_close(consumer);
}

/* See position.h. */
void
ks_positions_start(const KsQueryRow *row, List *streams)
{
	ListCell   *lc;

	ks_dedup_pin(row->id, streams);
	if (strcmp(row->start, "earliest") == 0)
		return;
	foreach(lc, streams)
	{
		MemoryContext old = CurrentMemoryContext;
		ResourceOwner owner = CurrentResourceOwner;
		ErrorData  *volatile edata = NULL;

		/* Where the broker does not answer, the query's first start decides. */
		BeginInternalSubTransaction(NULL);
		MemoryContextSwitchTo(old);
		PG_TRY();
		{
			start_in_stream(row, lfirst_oid(lc));
			ReleaseCurrentSubTransaction();
		}
		PG_CATCH();
		{
			MemoryContextSwitchTo(old);
			edata = CopyErrorData();
			FlushErrorState();
			RollbackAndReleaseCurrentSubTransaction();
		}
		PG_END_TRY();
		MemoryContextSwitchTo(old);
		CurrentResourceOwner = owner;
		if (edata == NULL)
			continue;
		if (ERRCODE_TO_CATEGORY(edata->sqlerrcode) != ERRCODE_CONNECTION_EXCEPTION)
			ReThrowError(edata);
		ereport(WARNING,
				(errcode(edata->sqlerrcode),
				 errmsg("could not find out where to start reading now: %s", edata->message),
				 errhint("The query starts at \"%s\" as seen when the broker answers first.", row->start)));
	}
}
