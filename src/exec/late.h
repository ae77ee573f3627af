/*
 * late.h
 *		The late filter: rows whose window had closed when their record came.
 */
#ifndef KS_LATE_H
#define KS_LATE_H

#include "exec/operator.h"
#include "utils/hsearch.h"
#include "utils/typcache.h"

typedef struct KsLateFilter
{
	const KsPlan *plan;
	int64		grace_us;
	int64		closed_us;		/* past the end of a window: the watermark has closed it; -1: it closes none */
	TypeCacheEntry *range;
	HTAB	   *seen;			/* late rows of the attempt */
} KsLateFilter;

extern void ks_late_filter_init(KsLateFilter *filter, const KsPlan *plan, const KsQueryRow *query);

/* Starts an attempt. */
extern void ks_late_filter_begin(KsLateFilter *filter);

/*
 * True, and noted in op->late, if the row of the row statement, which comes from
 * row of batch, is late.  In the attempt's memory.
 */
extern bool ks_late_filter_drops(KsLateFilter *filter, KsOperator *op, TupleTableSlot *slot,
								 const KsBatch *batch, const KsRow *row);

/* Bounds of a window; false if it has no start or no end. */
extern bool ks_window_bounds(TypeCacheEntry *range, Datum window, TimestampTz *start, TimestampTz *end);
/* End of the window, or DT_NOEND for one without an end. */
extern TimestampTz ks_window_end(TypeCacheEntry *range, Datum window);

/* A time some microseconds later; DT_NOEND behind the end of time. */
static inline TimestampTz
ks_time_plus(TimestampTz time, int64 us)
{
	return END_TIMESTAMP - us <= time ? DT_NOEND : time + us;
}

#endif							/* KS_LATE_H */
