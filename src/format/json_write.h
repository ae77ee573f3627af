/*
 * json_write.h
 *		Values to JSON text and to plain text, the same in every session.
 */
#ifndef KS_JSON_WRITE_H
#define KS_JSON_WRITE_H

#include "postgres.h"
#include "lib/stringinfo.h"

/*
 * Appends a value, which is not NULL, as JSON: numbers with every digit, times
 * in ISO 8601, bytea as \x, arrays and composite values as what they are, all
 * else as a string.
 */
extern void ks_write_json(StringInfo buf, Datum value, Oid typid);

/* Appends a value, which is not NULL, as the text that its input function takes. */
extern void ks_write_text(StringInfo buf, Datum value, Oid typid);

/* The settings that output functions look at. */
typedef struct KsOutputSettings
{
	int			date_style;
	int			interval_style;
	int			float_digits;
	int			bytea_output;
	struct pg_tz *timezone;
} KsOutputSettings;

/*
 * Makes output the same in every session: to be called before the two above,
 * and undone in PG_FINALLY.
 */
extern void ks_output_begin(KsOutputSettings *saved);
extern void ks_output_end(const KsOutputSettings *saved);

#endif							/* KS_JSON_WRITE_H */
