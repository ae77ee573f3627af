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

/*
 * Where the record found last is among all records of the attempt: rows made in
 * this order are in the order in which their records came.  The same for all
 * rows where first is -1, because they come in that order.
 */
extern int64 ks_row_origin_place(const KsRowOrigin *origin);

#endif							/* KS_ROW_ORIGIN_H */
