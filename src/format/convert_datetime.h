/*
 * convert_datetime.h
 *		Dates and times of records to date, timestamp and timestamptz.
 */
#ifndef KS_CONVERT_DATETIME_H
#define KS_CONVERT_DATETIME_H

#include "format/convert.h"

/* ISO 8601 text; false if it is anything else, which the input function may still take. */
extern bool ks_parse_iso_datetime(KsConverter *conv, const char *str, size_t len,
								  Datum *value);

/* A JSON number, milliseconds since 1970, to a timestamp type. */
extern bool ks_convert_epoch(KsConverter *conv, const char *str, size_t len,
							 KsConversion *cv, Datum *value);

/*
 * Is there one of the words in the text that input functions take for a time of
 * the clock?  A record read again would have another value.
 */
extern bool ks_names_clock(const char *str, size_t len);

#endif							/* KS_CONVERT_DATETIME_H */
