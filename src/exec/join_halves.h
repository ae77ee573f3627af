/*
 * join_halves.h
 *		Buffers of two halves: what is closed leaves by emptying one of them.
 */
#ifndef KS_JOIN_HALVES_H
#define KS_JOIN_HALVES_H

#include "catalog/query_cat.h"

typedef struct KsJoinHalves KsJoinHalves;

/* wait: from a row's event time to its close, in microseconds.  In the current context, with SPI. */
extern KsJoinHalves *ks_halves_open(const KsQueryRow *query, int buffer, int64 wait);

/* The half that the rows of a batch go to, after this watermark: its table and its number. */
extern Oid	ks_halves_choose(KsJoinHalves *halves, TimestampTz watermark, int *half);

/* Rows were written to it: their number, the least and the greatest event time. */
extern void ks_halves_added(KsJoinHalves *halves, int64 rows, TimestampTz least, TimestampTz greatest);

/* How many rows a half (0, 1) may have. */
extern int64 ks_halves_rows(const KsJoinHalves *halves, int half);

/* Another number whenever rows have left the half, or have come to it otherwise than by ks_halves_added. */
extern uint64 ks_halves_mark(const KsJoinHalves *halves, int half);

/* The least watermark at which there is something to do; DT_NOEND: none. */
extern TimestampTz ks_halves_next(const KsJoinHalves *halves);

/* Empties a half if it is time; with SPI. */
extern void ks_halves_expire(KsJoinHalves *halves, TimestampTz watermark);

#endif							/* KS_JOIN_HALVES_H */
