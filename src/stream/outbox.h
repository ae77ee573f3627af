/*
 * outbox.h
 *		Records on their way out: the tables of a sink's outbox.
 *
 * Whoever changes something that is published puts the records into the outbox
 * in the same transaction; they get their positions when it commits (see
 * log_commit.h), dense and in the order of commits.  The publisher reads them by
 * position.  What is published leaves by truncation: while one half of the
 * outbox is emptied, the other is written.
 */
#ifndef KS_OUTBOX_H
#define KS_OUTBOX_H

#include "catalog/dependency.h"

#include "catalog/sink_cat.h"
#include "catalog/stream_def.h"
#include "stream/outbox_format.h"

/*
 * Makes the outbox of a new sink, makes it part of the relation, and stores the
 * sink; incarnation, halves and, if it has none, id are filled in.
 */
extern void ks_outbox_create(KsSinkRow *sink);

/*
 * How its tables depend on what is published.  Where that is a table of the
 * user's, it must not go with them, as it would by an internal dependency when the
 * extension is dropped with its schemas.
 */
extern DependencyType ks_outbox_dependency(const KsSinkRow *sink);

/* A name for a publisher that no other sink has, on no server. */
extern char *ks_outbox_new_incarnation(void);

/* The sink of a stream over a topic; made if it is missing. */
extern KsSinkRow *ks_outbox_of_stream(const KsStreamDef *def);

/* Writes packed records; they belong to the running transaction. */
extern void ks_outbox_write(const KsSinkRow *sink, const KsPacker *packer);

/* A piece of the outbox, read at once. */
typedef struct KsOutboxBatch
{
	int64		position;		/* of the first record */
	int			nrecords;
	KsRecord   *records;
	Size		bytes;
} KsOutboxBatch;

/*
 * Reads committed records from the position on, in cxt: at most so many, and
 * bytes of them (but always one, if there is one).  Raises an error if the
 * position lies before what the outbox still has.
 */
extern void ks_outbox_read(const KsSinkRow *sink, int64 position, int max_records, Size max_bytes,
						   MemoryContext cxt, KsOutboxBatch *batch);

/* Position after the last committed record. */
extern int64 ks_outbox_end(const KsSinkRow *sink);

/* When the record at the position was committed, about; DT_NOBEGIN: there is none. */
extern TimestampTz ks_outbox_time(const KsSinkRow *sink, int64 position);

/* Bytes both halves take. */
extern int64 ks_outbox_bytes(const KsSinkRow *sink);

/*
 * Gives back what was published up to the position, where that is worth while
 * and nobody is in the way; true if it changed something.  In a transaction of
 * its own.
 */
extern bool ks_outbox_trim(KsSinkRow *sink, int64 published);

/* Is there space that ks_outbox_trim would give back once all is published? */
extern bool ks_outbox_is_bulky(const KsSinkRow *sink);

#endif							/* KS_OUTBOX_H */
