/*
 * convert_json.h
 *		JSON documents, or parts of them, to json and jsonb.
 */
#ifndef KS_CONVERT_JSON_H
#define KS_CONVERT_JSON_H

#include "format/convert.h"

/* A checked document, in the encoding of the database, to json or jsonb. */
extern bool ks_convert_document(KsConverter *conv, const char *str, size_t len,
								KsConversion *cv, Datum *value);

#endif							/* KS_CONVERT_JSON_H */
