/*
 * convert_string.h
 *		Strings of records to the character types, bytea, uuid and enums.
 */
#ifndef KS_CONVERT_STRING_H
#define KS_CONVERT_STRING_H

#include "format/convert.h"

/* Text of the database to text, varchar or char. */
extern bool ks_convert_character(KsConverter *conv, const char *str, size_t len,
								 KsConversion *cv, Datum *value);

/* \x and hexadecimal digits, or base64, to bytea. */
extern bool ks_convert_json_bytea(const char *str, size_t len, KsConversion *cv,
								  Datum *value);

/* \x and hexadecimal digits to bytea; false if it is anything else. */
extern bool ks_parse_hex_bytea(const char *str, size_t len, Datum *value);

/* A word for true or false; false if it is anything else. */
extern bool ks_parse_bool(const char *str, size_t len, Datum *value);

/* The label of an enum. */
extern bool ks_convert_enum(KsConverter *conv, const char *str, size_t len,
							KsConversion *cv, Datum *value);

/* A uuid in its usual form; false if it is anything else. */
extern bool ks_parse_uuid(const char *str, size_t len, Datum *value);

#endif							/* KS_CONVERT_STRING_H */
