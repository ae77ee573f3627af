/*
 * late_record.c
 *		Keeping the records that came too late, for a while.
 *
 * One row per record and window that it was too late for.  Rows of a query are
 * numbered in order of arrival, across crashes: a row's number is how many there
 * had been, which the positions count exactly.  So the oldest are found by
 * number, and no more than KEPT_RECORDS stay.
 *
 * Runs in: worker or a backend that steps; inside the batch's transaction.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rangetypes.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "store/late_record.h"

/* Late records kept per query. */
#define KEPT_RECORDS 1000

/* Attributes of kstream_catalog.late_record. */
enum
{
	ATT_QUERY = 1,
	ATT_N,
	ATT_SOURCE,
	ATT_TOPIC,
	ATT_PARTITION,
	ATT_OFFSET,
	ATT_EVENT_TIME,
	ATT_STREAM_TIME,
	ATT_WINDOW,
	ATT_SEEN_AT,
	ATT_WATERMARK,
	NATTS = ATT_WATERMARK
};

/* Where the last row was found: late rows mostly come in order. */
typedef struct FindState
{
	KsBatch    *batch;
	int			row;
} FindState;

/* The row of the record. */
static KsRow *
find_row(FindState *state, const KsLateRow *late, List *batches)
{
	if (state->batch == NULL || state->batch->reader->def->relid != late->source)
	{
		ListCell   *lc;

		state->row = 0;
		foreach(lc, batches)
		{
			state->batch = lfirst(lc);
			if (state->batch->reader->def->relid == late->source)
				break;
		}
	}
	for (int i = 0; i < state->batch->nrows; i++)
	{
		int			n = (state->row + i) % state->batch->nrows;
		KsRow	   *row = &state->batch->rows[n];

		if (row->rec.partition == late->partition && row->rec.offset == late->offset)
		{
			state->row = n;
			return row;
		}
	}
	elog(ERROR, "late record is not in the batch");
	return NULL;
}

/* The window as a range. */
static Datum
window_datum(const KsLateRow *late)
{
	TypeCacheEntry *type = lookup_type_cache(TSTZRANGEOID, TYPECACHE_RANGE_INFO);
	RangeBound	lower = {TimestampTzGetDatum(late->start), false, true, true};
	RangeBound	upper = {TimestampTzGetDatum(late->end), false, false, false};

	return RangeTypePGetDatum(ks_make_range(type, &lower, &upper));
}

/* Inserts one row. */
static void
insert_row(Relation rel, int32 query, int64 n, const KsLateRow *late, KsBatch *batch, const KsRow *row)
{
	const KsStreamDef *def = batch->reader->def;
	Datum		values[NATTS];
	bool		nulls[NATTS] = {false};
	HeapTuple	tuple;

	values[ATT_QUERY - 1] = Int32GetDatum(query);
	values[ATT_N - 1] = Int64GetDatum(n);
	values[ATT_SOURCE - 1] = ObjectIdGetDatum(late->source);
	nulls[ATT_TOPIC - 1] = def->topic == NULL;
	if (def->topic != NULL)
		values[ATT_TOPIC - 1] = CStringGetTextDatum(def->topic);
	values[ATT_PARTITION - 1] = Int32GetDatum(late->partition);
	values[ATT_OFFSET - 1] = Int64GetDatum(late->offset);
	values[ATT_EVENT_TIME - 1] = TimestampTzGetDatum(row->event_time);
	values[ATT_STREAM_TIME - 1] = TimestampTzGetDatum(row->stream_time);
	nulls[ATT_WINDOW - 1] = !late->has_window;
	if (late->has_window)
		values[ATT_WINDOW - 1] = window_datum(late);
	values[ATT_SEEN_AT - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	/* only what its own partition does not explain */
	nulls[ATT_WATERMARK - 1] = TIMESTAMP_IS_NOBEGIN(late->watermark) || late->due <= row->stream_time;
	values[ATT_WATERMARK - 1] = TimestampTzGetDatum(late->watermark);
	tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);
	CatalogTupleInsert(rel, tuple);
	heap_freetuple(tuple);
}

/* Deletes the rows of the query up to a number. */
static void
delete_oldest(Relation rel, int32 query, int64 last)
{
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			index = get_relname_relid("late_record_pkey", RelationGetNamespace(rel));

	ScanKeyInit(&keys[0], ATT_QUERY, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(query));
	ScanKeyInit(&keys[1], ATT_N, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(last));
	scan = systable_beginscan(rel, index, true, GetActiveSnapshot(), 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		CatalogTupleDelete(rel, &tuple->t_self);
	systable_endscan(scan);
}

/* See late_record.h. */
void
ks_late_records_store(int32 query, int64 before, List *late, List *batches)
{
	Oid			nsp = get_namespace_oid("kstream_catalog", false);
	Relation	rel;
	FindState	find = {NULL, 0};
	int			n = list_length(late);

	if (n == 0)
		return;
	rel = table_open(get_relname_relid("late_record", nsp), RowExclusiveLock);
	if (before > 0)
		delete_oldest(rel, query, before + n - KEPT_RECORDS);
	for (int i = Max(0, n - KEPT_RECORDS); i < n; i++)
	{
		KsLateRow  *one = list_nth(late, i);
		KsRow	   *row = find_row(&find, one, batches);

		insert_row(rel, query, before + i + 1, one, find.batch, row);
	}
	table_close(rel, NoLock);
}
