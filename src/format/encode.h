/*
 * encode.h
 *		Typed column values to record bytes.
 *
 * The reverse of decode.h: what is written here is read there as the same
 * values, whatever DateStyle, TimeZone and the like are in either session.
 * Everything is appended as UTF-8.
 */
#ifndef KS_ENCODE_H
#define KS_ENCODE_H

#include "postgres.h"
#include "access/tupdesc.h"
#include "catalog/stream_def.h"
#include "lib/stringinfo.h"

/*
 * Appends a row as a JSON object with a field for every column that include
 * names (NULL: for all); NULL is null.
 */
extern void ks_encode_json(StringInfo buf, TupleDesc desc, const Datum *values,
						   const bool *nulls, const bool *include);

/* Encodes many rows of one stream; what depends on its definition is prepared once. */
typedef struct KsEncoder KsEncoder;

/* In the current context, as all that the encoder keeps; def must live as long. */
extern KsEncoder *ks_encoder_create(const KsStreamDef *def);

/*
 * Appends the value of a record with these column values (arrays of def->natts)
 * in the format of the stream.  False: the record has no value (NULL in a format
 * of one column).
 */
extern bool ks_encoder_value(KsEncoder *encoder, StringInfo buf, const Datum *values,
							 const bool *nulls);

/* Appends the row as a JSON object, whatever the format. */
extern void ks_encoder_object(KsEncoder *encoder, StringInfo buf, const Datum *values,
							  const bool *nulls);

/*
 * Appends the record key made of the stream's key columns.  False: the record
 * has no key, because it has no such columns or all of them are NULL.  With
 * all_null a JSON key is made of those as well.
 */
extern bool ks_encoder_key(KsEncoder *encoder, StringInfo buf, const Datum *values,
						   const bool *nulls, bool all_null);

/*
 * Appends the record key that has the given text form (as in "_key"); raises an
 * error if there is none.  False: the stream has no keys.
 */
extern bool ks_encode_key_text(StringInfo buf, const KsStreamDef *def, const char *key);

#endif							/* KS_ENCODE_H */
