/*
 * decode.h
 *		Record bytes to typed column values.
 *
 * The one entry to format/.  Never raises an error for what a record holds:
 * such errors come back as a list of KsRecordError, one per bad column (or one
 * with attnum 0 for the whole record), so that a bad record costs no
 * subtransaction where the type allows it.
 */
#ifndef KS_DECODE_H
#define KS_DECODE_H

#include "base/record.h"
#include "catalog/stream_def.h"

typedef struct KsDecoder KsDecoder;

/*
 * Makes a decoder for the stream, in the current memory context (it, and what
 * it holds from outside palloc, go with that context).  Raises an error for
 * options that cannot work, e.g. format 'text' with two columns or a malformed path.
 */
extern KsDecoder *ks_decoder_create(const KsStreamDef *def);

/*
 * Checks at definition time that every column of the stream can be decoded
 * from its format (count of columns, paths, key columns); raises an error with a hint.
 */
extern void ks_decoder_check(const KsStreamDef *def);

/*
 * Decodes the declared columns named by wanted[attnum - 1] into values/nulls
 * (arrays of def->natts; entries of other columns are left alone).  By-reference
 * values are allocated in the current memory context.  Returns the list of
 * errors, NULL if there is none; the value of a column in error is NULL.
 * The document is checked even if no column is wanted.  A tombstone gives NULL
 * in every value column.  NOT NULL and domain constraints of wanted columns are
 * enforced here; CHECK constraints of the relation are not.
 */
extern KsRecordError *ks_decode(KsDecoder *dec, const KsRecord *rec,
								const bool *wanted, Datum *values, bool *nulls);

/* Text form of the record key ("_key"); sets *isnull for a missing key. */
extern Datum ks_decode_key_text(KsDecoder *dec, const KsRecord *rec, bool *isnull,
								KsRecordError **error);

/* Headers as a jsonb object ("_headers"); sets *isnull when there are none. */
extern Datum ks_decode_headers(const KsRecord *rec, bool *isnull);

#endif							/* KS_DECODE_H */
