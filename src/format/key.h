/*
 * key.h
 *		Record keys: bytes to what the key columns are made of.
 */
#ifndef KS_KEY_H
#define KS_KEY_H

#include "base/record.h"
#include "catalog/stream_def.h"
#include "format/convert.h"

typedef struct KsKeyReader KsKeyReader;

/*
 * Makes a reader for the key columns of the stream, in the current memory
 * context.  converters has one for each of def->keys.
 */
extern KsKeyReader *ks_key_reader_create(const KsStreamDef *def, KsConverter **converters);

/*
 * Reads the key of a record, which must have one.  False: the key as a whole
 * is no good, see the conversion.
 */
extern bool ks_key_read(KsKeyReader *reader, const KsRecord *rec, KsConversion *cv);

/* Converts the nth key column (from 0) out of the key read last. */
extern bool ks_key_column(KsKeyReader *reader, int nth, KsConversion *cv,
						  Datum *value, bool *isnull);

/* Text form of the key read last, as a text value. */
extern bool ks_key_text(KsKeyReader *reader, KsConversion *cv, Datum *value);

/* Notes in a conversion why a JSON document was refused; what says which one. */
extern bool ks_fail_json(KsConversion *cv, const char *what, KsJsonStatus status,
						 const KsJsonFault *fault);

#endif							/* KS_KEY_H */
