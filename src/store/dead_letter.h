/*
 * dead_letter.h
 *		Keeping the records that a query could not process.
 */
#ifndef KS_DEAD_LETTER_H
#define KS_DEAD_LETTER_H

#include "stream/batch.h"

/* A record of which it is only known where it stands: it turned out to be bad after its batch. */
typedef struct KsDeadRecord
{
	Oid			source;
	int32		partition;
	int64		offset;
	int			sqlstate;
	char	   *message;
} KsDeadRecord;

/* A copy in the current memory context. */
extern KsDeadRecord *ks_dead_record_copy(const KsDeadRecord *record);

/* Stores it as a dead letter without key, value, headers and timestamp. */
extern void ks_dead_record_store(int32 query, const KsStreamDef *def, const KsDeadRecord *record);

/* Stores one row of a batch as a dead letter of the query, in the current transaction. */
extern void ks_dead_letter_store(int32 query, KsBatch *batch, int row, int sqlstate, const char *message);

#endif							/* KS_DEAD_LETTER_H */
