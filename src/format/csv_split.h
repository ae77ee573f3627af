/*
 * csv_split.h
 *		One line of csv to its fields, by the rules of COPY's csv format.
 *
 * Knows nothing of PostgreSQL, so that it can be fuzzed stand-alone.
 */
#ifndef KS_CSV_SPLIT_H
#define KS_CSV_SPLIT_H

#include <stddef.h>

typedef struct KsCsvField
{
	const char *str;			/* NULL: empty without quotes, that is NULL */
	size_t		len;
} KsCsvField;

typedef enum KsCsvStatus
{
	KS_CSV_OK,
	KS_CSV_OPEN_QUOTE,			/* a quoted field does not end */
	KS_CSV_NEWLINE				/* a second line */
} KsCsvStatus;

/*
 * Splits a line, which may end with a newline.  Fields beyond maxfields are
 * counted only.  buf must have len bytes; fields point into it.
 */
extern KsCsvStatus ks_csv_split(const char *line, size_t len, char *buf,
								KsCsvField *fields, int maxfields, int *nfields);

#endif							/* KS_CSV_SPLIT_H */
