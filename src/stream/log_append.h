/*
 * log_append.h
 *		Writing to the log of a local stream.
 *
 * Rows put through a writer belong to the transaction; they get their offsets
 * when it commits.
 */
#ifndef KS_LOG_APPEND_H
#define KS_LOG_APPEND_H

#include "stream/local_log.h"

typedef struct KsLogWriter KsLogWriter;

/*
 * Opens the log for writing, in a context under the current one; makes the log
 * if it is missing.  Close it in the same (sub)transaction; after an error do
 * nothing.
 */
extern KsLogWriter *ks_log_writer_open(const KsStreamDef *def);

/*
 * Checks the metadata columns of a row and fills those that are not given: _key,
 * _partition, _timestamp.  By-reference values in the current memory context.
 */
extern void ks_log_writer_complete(KsLogWriter *writer, Datum *values, bool *nulls);

/* Appends a completed row; values are of the columns of the foreign table. */
extern void ks_log_writer_put(KsLogWriter *writer, const Datum *values, const bool *nulls);

extern void ks_log_writer_close(KsLogWriter *writer);

/* Partition of a key, as Kafka's default partitioner of the Java client. */
extern int32 ks_partition_for_key(const char *key, size_t len, int partitions);

#endif							/* KS_LOG_APPEND_H */
