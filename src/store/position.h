/*
 * position.h
 *		Positions of a query: rows of kstream_catalog.position.
 *
 * A position is changed only together with the state that depends on it, by
 * compare-and-set through the row's remembered TID.
 */
#ifndef KS_POSITION_H
#define KS_POSITION_H

#include "catalog/query_cat.h"
#include "catalog/stream_def.h"
#include "kafka/consumer.h"
#include "storage/itemptr.h"

typedef struct KsPosition
{
	Oid			source;
	int32		partition;
	int64		next_offset;
	bool		has_stream_time;
	TimestampTz stream_time;
	int32		leader_epoch;
	bool		has_seam;
	int64		seam_offset;	/* a record consumed before, and its fingerprint */
	uint64		seam;
	int64		records;
	int64		rows_out;
	int64		dead;
	int64		late;
	int64		duplicates;
	TimestampTz watermark;		/* of the query when the row was written, or DT_NOBEGIN */
	TimestampTz moved_at;		/* wall clock at the last record, or DT_NOBEGIN; only with a watermark */
	ItemPointerData tid;		/* of the row; invalid: not stored yet */
} KsPosition;

/* All stored positions of the query (KsPosition *), in the current context. */
extern List *ks_positions_load(int32 query);

/*
 * Stores the new position.  old is what the row must still hold (its tid is
 * used and checked); raises serialization_failure if somebody else moved it.
 * Sets new_pos->tid.  old->tid invalid: inserts.
 */
extern void ks_position_store(int32 query, const KsPosition *old, KsPosition *new_pos);

/*
 * At creation and reset: stores the positions to start from for start = 'latest'
 * or a timestamp, where the log answers ('earliest' needs none), and by which
 * rules duplicates in the streams are dropped from there on.
 */
extern void ks_positions_start(const KsQueryRow *row, List *streams);

/*
 * Offset at which a partition is to be read from for start = 'earliest',
 * 'latest' or a timestamp.  consumer is not used for local streams.
 */
extern int64 ks_start_offset(const KsStreamDef *def, KsConsumer *consumer, int32 partition,
							 const char *start, int timeout_ms);

/* The timestamp that start means when it is neither 'earliest' nor 'latest'; errors as timestamptz_in. */
extern TimestampTz ks_start_timestamp(const char *start);

extern void ks_positions_delete(int32 query);

#endif							/* KS_POSITION_H */
