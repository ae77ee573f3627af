/*
 * row_origin.c
 *		From a row of a row statement to the record it comes from.
 *
 * Runs in: worker or a backend that steps, while a row statement runs.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "exec/row_origin.h"
#include "plan/origin.h"

/* Where a record is among the rows of its batch. */
typedef struct RowPlace
{
	int32		partition;
	int64		offset;
	int			row;
} RowPlace;

/* The rows of one batch by partition and offset, made when needed. */
typedef struct RowIndex
{
	KsBatch    *batch;
	int			number;			/* among the indexes */
	int			last;			/* row found last */
	RowPlace   *places;			/* sorted, or NULL */
} RowIndex;

struct KsRowOrigin
{
	MemoryContext cxt;
	int			first;
	int			time;
	List	   *indexes;		/* RowIndex * */
	int64		place;			/* of the record found last */
};

/* See row_origin.h. */
KsRowOrigin *
ks_row_origin_create(int first, int time)
{
	KsRowOrigin *origin = palloc0(sizeof(KsRowOrigin));

	origin->cxt = CurrentMemoryContext;
	origin->first = first;
	origin->time = time;
	return origin;
}

/* qsort comparator of RowPlace. */
static int
compare_places(const void *a, const void *b)
{
	const RowPlace *left = a;
	const RowPlace *right = b;

	if (left->partition != right->partition)
		return left->partition < right->partition ? -1 : 1;
	return left->offset < right->offset ? -1 : left->offset > right->offset;
}

/* The index of the batch that shows the stream. */
static RowIndex *
find_index(KsRowOrigin *origin, Oid stream)
{
	ListCell   *lc;
	RowIndex   *index;
	MemoryContext old;

	foreach(lc, origin->indexes)
	{
		index = lfirst(lc);
		if (index->batch->reader->def->relid == stream)
			return index;
	}
	/* callers are in the memory of one row */
	old = MemoryContextSwitchTo(origin->cxt);
	index = palloc0(sizeof(RowIndex));
	index->batch = ks_batch_shown(stream);
	if (index->batch == NULL)
		elog(ERROR, "a row comes from stream %u, which is not read", stream);
	index->number = list_length(origin->indexes);
	origin->indexes = lappend(origin->indexes, index);
	MemoryContextSwitchTo(old);
	return index;
}

/* Sorts the rows of the batch. */
static void
sort_rows(KsRowOrigin *origin, RowIndex *index)
{
	KsBatch    *batch = index->batch;

	index->places = MemoryContextAllocHuge(origin->cxt, sizeof(RowPlace) * Max(batch->nrows, 1));
	for (int i = 0; i < batch->nrows; i++)
	{
		index->places[i].partition = batch->rows[i].rec.partition;
		index->places[i].offset = batch->rows[i].rec.offset;
		index->places[i].row = i;
	}
	qsort(index->places, batch->nrows, sizeof(RowPlace), compare_places);
}

/* Is the record in that row of the batch? */
static inline bool
row_is(const KsBatch *batch, int row, int32 partition, int64 offset)
{
	return row < batch->nrows && batch->rows[row].rec.offset == offset &&
		batch->rows[row].rec.partition == partition;
}

/* The row of a record: most often that of the last one, or the next. */
static KsRow *
find_row(KsRowOrigin *origin, RowIndex *index, int32 partition, int64 offset)
{
	KsBatch    *batch = index->batch;
	RowPlace	key = {partition, offset, 0};
	RowPlace   *found;

	if (row_is(batch, index->last, partition, offset))
		return &batch->rows[index->last];
	if (row_is(batch, index->last + 1, partition, offset))
		return &batch->rows[++index->last];
	if (index->places == NULL)
		sort_rows(origin, index);
	found = bsearch(&key, index->places, batch->nrows, sizeof(RowPlace), compare_places);
	if (found == NULL)
		elog(ERROR, "a row comes from partition %d, offset " INT64_FORMAT ", which is not in the batch",
			 partition, offset);
	index->last = found->row;
	return &batch->rows[found->row];
}

/* See row_origin.h. */
KsRow *
ks_row_origin_find(KsRowOrigin *origin, TupleTableSlot *slot, KsBatch **batch)
{
	int			first = origin->first;
	RowIndex   *index;
	KsRow	   *row;

	if (first < 0 && ks_alone_batch != NULL)
	{
		/* the plan may have read on, or to the end, before it gives the row */
		*batch = ks_alone_batch;
		return &ks_alone_batch->rows[ks_alone_row];
	}
	if (first < 0)
	{
		if (ks_current_batch == NULL || ks_current_row < 0)
			elog(ERROR, "the record that a row comes from is not known");
		*batch = ks_current_batch;
		return &ks_current_batch->rows[ks_current_row];
	}
	index = find_index(origin, DatumGetObjectId(slot->tts_values[first + KS_ORIGIN_STREAM]));
	*batch = index->batch;
	row = find_row(origin, index, DatumGetInt32(slot->tts_values[first + KS_ORIGIN_PARTITION]),
				   DatumGetInt64(slot->tts_values[first + KS_ORIGIN_OFFSET]));
	origin->place = (int64) index->number << 32 | index->last;
	return row;
}

/* See row_origin.h. */
int64
ks_row_origin_place(const KsRowOrigin *origin)
{
	return origin->place;
}

/* See row_origin.h. */
TimestampTz
ks_row_event_time(KsRowOrigin *origin, TupleTableSlot *slot)
{
	KsBatch    *batch;

	if (origin->time < 0)
		return ks_row_origin_find(origin, slot, &batch)->event_time;
	return slot->tts_isnull[origin->time] ? DT_NOBEGIN : DatumGetTimestampTz(slot->tts_values[origin->time]);
}
