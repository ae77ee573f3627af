/*
 * join_filter.h
 *		Filters in memory over the keys in the buffers of a join of streams.
 */
#ifndef KS_JOIN_FILTER_H
#define KS_JOIN_FILTER_H

#include "exec/join_halves.h"
#include "exec/statement.h"
#include "plan/join.h"

typedef struct KsJoinFilters KsJoinFilters;

/* The filters of a join, which know nothing yet.  In the current context. */
extern KsJoinFilters *ks_filters_create(const KsJoin *join);

/* Statements ask these from now on. */
extern void ks_filters_show(KsJoinFilters *filters);

/*
 * Has those about the buffer of a stream know what is in its halves; keys[]: the
 * statements that read a half.  With SPI.
 */
extern void ks_filters_prepare(KsJoinFilters *filters, int ref, const KsJoinHalves *halves, KsStatement *const *keys);

/* A row with these keys may go into a half of the buffer of a stream. */
extern void ks_filters_note(KsJoinFilters *filters, int ref, int half, TimestampTz event_time,
							const Datum *keys, const bool *nulls);

#endif							/* KS_JOIN_FILTER_H */
