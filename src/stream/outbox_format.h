/*
 * outbox_format.h
 *		Records packed into the rows of an outbox.
 *
 * A row of an outbox holds as many records as fit on a page, because a row with
 * its index entry costs as much for one record as for forty.
 */
#ifndef KS_OUTBOX_FORMAT_H
#define KS_OUTBOX_FORMAT_H

#include "base/record.h"
#include "lib/stringinfo.h"
#include "nodes/pg_list.h"

/* Records packed in memory, on their way to an outbox. */
typedef struct KsChunk
{
	int			nrecords;
	StringInfoData data;
} KsChunk;

typedef struct KsPacker
{
	MemoryContext cxt;
	List	   *chunks;			/* KsChunk *, the last one is being filled */
	KsChunk    *last;
	int64		nrecords;
	Size		bytes;
	TimestampTz newest;			/* greatest timestamp of a record, or DT_NOBEGIN */
} KsPacker;

extern KsPacker *ks_packer_create(MemoryContext cxt);
/* Adds a record: partition (-1: by key), timestamp, key, value, headers; all is copied. */
extern void ks_packer_add(KsPacker *packer, const KsRecord *rec);

/* The same records in another order: order[i] says which one comes at place i.  In the packer's context. */
extern KsPacker *ks_packer_reorder(const KsPacker *packer, const int *order);

/*
 * Unpacks the records of a chunk into recs (room for nrecords); key, value and
 * headers point into data, header arrays are allocated in the current context.
 */
extern void ks_chunk_unpack(const char *data, Size len, int nrecords, KsRecord *recs);

/* Hash over a record and everything before it. */
extern int64 ks_record_chain(int64 chain, const KsRecord *rec);

#endif							/* KS_OUTBOX_FORMAT_H */
