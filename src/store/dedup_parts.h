/*
 * dedup_parts.h
 *		The tables that remember which keys a query has seen in a stream.
 *
 * See store/dedup.c for what they are for.
 */
#ifndef KS_DEDUP_PARTS_H
#define KS_DEDUP_PARTS_H

#include "catalog/query_cat.h"
#include "datatype/timestamp.h"
#include "storage/block.h"
#include "storage/itemptr.h"
#include "store/table_writer.h"

typedef struct KsDedupPart
{
	Oid			relid;
	int			number;
	TimestampTz low;			/* no entry is outside of these */
	TimestampTz high;
	struct partcache_hash *cache;	/* where the row of each hash is, or NULL; complete */
	double		probes;			/* lookups through the index since there was no cache */
	bool		verified;		/* hash values there are what this server computes */
	/* While a batch is looked at: */
	Relation	rel;
	Relation	index;
	struct IndexScanDescData *scan;
	TupleTableSlot *slot;
	BlockNumber nblocks;
} KsDedupPart;

/* Where a key was found. */
typedef struct KsDedupHit
{
	KsDedupPart *part;
	ItemPointerData tid;
	TimestampTz time;
} KsDedupHit;

/* A key to be remembered. */
typedef struct KsDedupRow
{
	uint64		hash;
	const Datum *keys;
	TimestampTz time;
} KsDedupRow;

typedef struct KsDedupParts
{
	MemoryContext cxt;
	const KsQueryRow *query;
	Oid			source;
	const KsKeySpec *keys;		/* the key columns of the stream */
	int64		window;
	bool		loaded;
	List	   *parts;			/* KsDedupPart *, oldest first */
	int			expected;		/* lookups that the running batch may take */
} KsDedupParts;

/* In the current memory context; reads nothing yet. */
extern KsDedupParts *ks_dedup_parts_create(const KsQueryRow *query, Oid source, const KsKeySpec *keys, int64 window);

/* Looks up what tables there are, once; inside a transaction. */
extern void ks_dedup_parts_load(KsDedupParts *parts);

/* True if the part has the key.  Needs an active snapshot; ends with ks_dedup_parts_close. */
extern bool ks_dedup_part_find(KsDedupParts *parts, KsDedupPart *part, uint64 hash, const Datum *keys,
							   KsDedupHit *hit);
/* Closes what lookups have opened. */
extern void ks_dedup_parts_close(KsDedupParts *parts);

extern KsDedupPart *ks_dedup_parts_add(KsDedupParts *parts);
extern void ks_dedup_part_append(KsDedupParts *parts, KsDedupPart *part, const KsDedupRow *rows, int nrows);
extern void ks_dedup_part_remove(KsDedupPart *part, ItemPointer tid);
/* Drops the part unless somebody is reading it; it must not be used afterwards. */
extern void ks_dedup_parts_drop(KsDedupParts *parts, KsDedupPart *part);

#endif							/* KS_DEDUP_PARTS_H */
