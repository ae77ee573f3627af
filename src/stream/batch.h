/*
 * batch.h
 *		The rows of one stream that a micro-batch consists of.
 *
 * Inside a worker (or a step) scanning a stream's foreign table shows the rows
 * of the current batch; the batches shown are registered here.  A bounded read
 * in an ordinary session uses the same struct for one chunk of rows at a time,
 * so that there is one decoding path.
 *
 * Columns are decoded on demand, for all rows of the batch at once, when the
 * first scan asks for them; a column is decoded once per batch however many
 * queries and scans read it.
 */
#ifndef KS_BATCH_H
#define KS_BATCH_H

#include "access/tupdesc.h"
#include "base/record.h"
#include "catalog/stream_def.h"
#include "format/decode.h"

/* What a stream needs to turn records into rows; lives as long as its user. */
typedef struct KsReader
{
	KsStreamDef *def;
	TupleDesc	desc;			/* copied, reference-free */
	KsDecoder  *decoder;
	bool	   *sticky;			/* columns that scans asked for so far */
	List	   *checks;			/* KsCheck *: CHECK constraints, see batch.c */
	bool	   *need;			/* scratch of ks_batch_decode */
	bool	   *fresh;			/* scratch of ks_batch_decode */
} KsReader;

typedef struct KsRow
{
	KsRecord	rec;			/* coordinates always; key and value only for Kafka */
	Datum	   *values;			/* desc->natts entries */
	bool	   *nulls;
	KsRecordError *errors;
	TimestampTz event_time;
	TimestampTz stream_time;	/* greatest event time of the partition up to and including this row */
} KsRow;

typedef struct KsBatch
{
	KsReader   *reader;
	MemoryContext cxt;			/* everything of the batch */
	int			nrows;
	int			maxrows;
	KsRow	   *rows;
	bool		local;			/* rows came with all values: nothing to decode */
	bool	   *decoded;		/* [natts] columns that rows [0, ndecoded) have */
	int			ndecoded;
	int			nchunk;			/* rows whose value arrays are allocated */
	Datum	   *chunk_values;	/* arrays of the next row */
	bool	   *chunk_nulls;
	struct KsCheckState *checks;	/* compiled CHECK constraints, or NULL */
	struct KsDedup *dedup;		/* tells which rows are duplicates for the running query; NULL: none */
	bool	   *duplicate;		/* [nrows] what it has told, or NULL */
	/* What scans show, set by whoever runs statements over the batch: */
	int			first;			/* first row shown */
	int			last;			/* one past the last row shown */
	bool	   *skip;			/* [nrows] rows hidden from the running query: bad, duplicates; or NULL */
} KsBatch;

/* A bad record met by a scan, or found by the runner. */
typedef void (*KsBadRowHandler) (KsBatch *batch, int row, const KsRecordError *error, void *arg);

extern KsReader *ks_reader_create(Relation rel);	/* in the current context */
extern KsBatch *ks_batch_create(KsReader *reader, MemoryContext parent);
extern void ks_batch_destroy(KsBatch *batch);

/* Adds a record; its bytes must live as long as the batch. */
extern KsRow *ks_batch_add_record(KsBatch *batch, const KsRecord *rec);
/* Adds a row of a local log: values of all columns but _offset etc. are set by the caller. */
extern KsRow *ks_batch_add_local(KsBatch *batch);

/*
 * Computes event and stream time of the rows from *first on; stream_time is
 * indexed by lookup through the callback, because partitions interleave.
 */
typedef TimestampTz *(*KsStreamTimeSlot) (int32 partition, void *arg);
extern void ks_batch_set_times(KsBatch *batch, int from, KsStreamTimeSlot slot, void *arg);

/* Makes sure the columns are decoded ([natts] booleans). */
extern void ks_batch_decode(KsBatch *batch, const bool *wanted);

/*
 * The error that makes the row bad for a reader of these columns, or NULL:
 * document and column errors and CHECK constraints of the relation.
 */
extern const KsRecordError *ks_batch_row_error(KsBatch *batch, int row, const bool *wanted);

/* Registry of the batches that scans in this process show now. */
extern void ks_batch_show(KsBatch *batch);
extern void ks_batch_hide_all(void);
extern KsBatch *ks_batch_shown(Oid relid);
extern bool ks_batches_active(void);
extern void ks_batch_set_bad_handler(KsBadRowHandler handler, void *arg);
extern void ks_batch_report_bad(KsBatch *batch, int row, const KsRecordError *error);

/* Rows a scan is to be planned for (a class of batch sizes), set around SPI_prepare. */
extern double ks_batch_planned_rows;

/*
 * Text of the statement that may scan the batches shown, or NULL: any.  Others,
 * such as the body of a function that the statement calls, would take the batch
 * for the whole stream.
 */
extern const char *ks_batch_statement;

/* The row a scan returned last: a hint for finding the culprit of an error. */
extern KsBatch *ks_current_batch;
extern int	ks_current_row;

/* The only record that is shown, where records run one by one; NULL: there are more. */
extern KsBatch *ks_alone_batch;
extern int	ks_alone_row;

#endif							/* KS_BATCH_H */
