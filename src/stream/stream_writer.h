/*
 * stream_writer.h
 *		Writing rows to a stream, wherever its log is.
 *
 * Rows put through a writer belong to the transaction: those of a local stream
 * appear in its log when it commits, those of a stream over a topic go to the
 * stream's outbox and are produced after the commit.
 */
#ifndef KS_STREAM_WRITER_H
#define KS_STREAM_WRITER_H

#include "catalog/stream_def.h"

typedef struct KsStreamWriter KsStreamWriter;

/*
 * Opens the stream for writing, in a context under the current one.  Close it
 * in the same (sub)transaction; after an error do nothing.
 */
extern KsStreamWriter *ks_stream_writer_open(const KsStreamDef *def);

/*
 * Checks the metadata columns of a row and fills in those that are not given
 * (values of the columns of the foreign table, in the current memory context).
 */
extern void ks_stream_writer_complete(KsStreamWriter *writer, Datum *values, bool *nulls);

/* Writes a completed row. */
extern void ks_stream_writer_put(KsStreamWriter *writer, const Datum *values, const bool *nulls);

extern void ks_stream_writer_close(KsStreamWriter *writer);

#endif							/* KS_STREAM_WRITER_H */
