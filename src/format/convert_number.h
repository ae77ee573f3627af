/*
 * convert_number.h
 *		Numbers of records to the number types.
 */
#ifndef KS_CONVERT_NUMBER_H
#define KS_CONVERT_NUMBER_H

#include "format/convert.h"

/* A JSON number to int2, int4, int8, float4, float8 or numeric. */
extern bool ks_convert_number(KsConverter *conv, const char *str, size_t len,
							  KsConversion *cv, Datum *value);

/* Digits with a sign perhaps, and no more, to an integer type; false if it is anything else. */
extern bool ks_parse_plain_int(KsTypeClass type, const char *str, size_t len, Datum *value);

#endif							/* KS_CONVERT_NUMBER_H */
