/*
 * late.c
 *		The late filter: rows whose window had closed when their record came.
 *
 * A record is late for a window iff end + grace <= _stream_time: the time of
 * its own partition, itself included.  So what is late does not depend on how
 * records are cut into batches, nor on other partitions.  For a session the end
 * is that of the event alone, ts + gap.
 *
 * In addition a window may have been closed by the watermark though the record's
 * own partition is not that far: when that partition was idle, or by the clock.
 * Where closing has consequences (emit = 'final', retention) it is too late then.
 *
 * Each (record, window) counts once, however many rows the record makes.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "utils/memutils.h"
#include "utils/rangetypes.h"
#include "utils/timestamp.h"

#include "exec/late.h"

/* See late.h. */
void
ks_late_filter_init(KsLateFilter *filter, const KsPlan *plan, const KsQueryRow *query)
{
	filter->plan = plan;
	filter->grace_us = query->grace_us;
	filter->closed_us = -1;
	if (query->emit_final)
		filter->closed_us = query->grace_us;
	else if (query->retention_us >= 0)
		filter->closed_us = Max(query->retention_us, query->grace_us);
	filter->range = lookup_type_cache(TSTZRANGEOID, TYPECACHE_RANGE_INFO);
}

/* See late.h. */
void
ks_late_filter_begin(KsLateFilter *filter)
{
	filter->seen = NULL;
}

/*
 * Payload of [start, end) as rangetypes.c stores it: type, bounds, flags.  What all
 * windows look like is read without unpacking.
 */
#define PLAIN_BYTES (sizeof(Oid) + 2 * sizeof(TimestampTz) + 1)

/* Reads the bounds of a window that looks like all of them; false if it does not. */
static bool
plain_bounds(Datum window, TimestampTz *start, TimestampTz *end)
{
	struct varlena *packed = PG_DETOAST_DATUM_PACKED(window);
	const char *payload = VARDATA_ANY(packed);

	if (VARSIZE_ANY_EXHDR(packed) != PLAIN_BYTES || payload[PLAIN_BYTES - 1] != RANGE_LB_INC)
		return false;
	memcpy(start, payload + sizeof(Oid), sizeof(TimestampTz));
	memcpy(end, payload + sizeof(Oid) + sizeof(TimestampTz), sizeof(TimestampTz));
	return true;
}

/* See late.h. */
bool
ks_window_bounds(TypeCacheEntry *range, Datum window, TimestampTz *start, TimestampTz *end)
{
	RangeBound	lower;
	RangeBound	upper;
	bool		empty;

	if (plain_bounds(window, start, end))
		return true;
	range_deserialize(range, DatumGetRangeTypeP(window), &lower, &upper, &empty);
	if (empty || lower.infinite || upper.infinite)
		return false;
	*start = DatumGetTimestampTz(lower.val);
	*end = DatumGetTimestampTz(upper.val);
	return true;
}

/* See late.h. */
TimestampTz
ks_window_end(TypeCacheEntry *range, Datum window)
{
	TimestampTz start;
	TimestampTz end;

	return ks_window_bounds(range, window, &start, &end) ? end : DT_NOEND;
}

/* Notes a late row, unless the record was late for this window before. */
static void
note_late(KsLateFilter *filter, KsOperator *op, const KsLateRow *late)
{
	KsLateRow  *entry;
	bool		found;

	if (filter->seen == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(KsLateRow),.entrysize = sizeof(KsLateRow),.hcxt = CurrentMemoryContext};

		filter->seen = hash_create("kstream late rows", 256, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	entry = hash_search(filter->seen, late, HASH_ENTER, &found);
	if (!found)
		op->late = lappend(op->late, entry);
}

/* See late.h. */
bool
ks_late_filter_drops(KsLateFilter *filter, KsOperator *op, TupleTableSlot *slot, const KsBatch *batch,
					 const KsRow *row)
{
	const KsPlan *plan = filter->plan;
	KsLateRow	late;

	if (slot->tts_isnull[plan->window_key])
		return false;
	memset(&late, 0, sizeof(late));
	if (!ks_window_bounds(filter->range, slot->tts_values[plan->window_key], &late.start, &late.end))
		return false;
	if (ks_time_plus(late.end, filter->grace_us) > row->stream_time &&
		(filter->closed_us < 0 || ks_time_plus(late.end, filter->closed_us) > op->watermark))
		return false;
	late.has_window = true;
	late.due = ks_time_plus(late.end, filter->grace_us);
	late.watermark = filter->closed_us < 0 ? DT_NOBEGIN : op->watermark;
	late.source = batch->reader->def->relid;
	late.partition = row->rec.partition;
	late.offset = row->rec.offset;
	note_late(filter, op, &late);
	return true;
}
