/*
 * convert_nested.h
 *		JSON arrays and objects to arrays and composite types.
 */
#ifndef KS_CONVERT_NESTED_H
#define KS_CONVERT_NESTED_H

#include "format/convert.h"

/* Fills in what a converter of an array or composite type needs besides. */
extern void ks_converter_init_nested(KsConverter *conv);

/* A JSON array, arrays in it being further dimensions, to an array. */
extern bool ks_convert_array(KsConverter *conv, const KsJsonToken *token,
							 KsConversion *cv, Datum *value);

/* A JSON object, by field names, to a composite type. */
extern bool ks_convert_composite(KsConverter *conv, const KsJsonToken *token,
								 KsConversion *cv, Datum *value);

#endif							/* KS_CONVERT_NESTED_H */
