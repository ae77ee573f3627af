/*
 * dead_letter.h
 *		Keeping the records that a query could not process.
 */
#ifndef KS_DEAD_LETTER_H
#define KS_DEAD_LETTER_H

#include "stream/batch.h"

/* Stores one row of a batch as a dead letter of the query, in the current transaction. */
extern void ks_dead_letter_store(int32 query, KsBatch *batch, int row, int sqlstate, const char *message);

#endif							/* KS_DEAD_LETTER_H */
