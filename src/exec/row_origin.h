/*
 * row_origin.h
 *		From a row of a row statement to the record it comes from.
 */
#ifndef KS_ROW_ORIGIN_H
#define KS_ROW_ORIGIN_H

#include "executor/tuptable.h"
#include "stream/batch.h"

typedef struct KsRowOrigin KsRowOrigin;

/*
 * For one attempt, in the current context.  first: column of the statement where
 * those of plan/origin.h begin; -1: it runs record by record, or does nothing
 * but scan one stream, so that the record shown last is the one.  time: column
 * with the event time of a row that comes from several records, or -1.
 */
extern KsRowOrigin *ks_row_origin_create(int first, int time);

/* The record of the row in the slot, whose attributes are all there, and its batch. */
extern KsRow *ks_row_origin_find(KsRowOrigin *origin, TupleTableSlot *slot, KsBatch **batch);

/* The event time of the row in the slot. */
extern TimestampTz ks_row_event_time(KsRowOrigin *origin, TupleTableSlot *slot);

#endif							/* KS_ROW_ORIGIN_H */
