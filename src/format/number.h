/*
 * number.h
 *		JSON numbers, from their digits and without loss.
 *
 * Knows nothing of PostgreSQL, so that it can be fuzzed stand-alone.  All
 * functions want a number that ks_json_number_valid accepts.
 */
#ifndef KS_NUMBER_H
#define KS_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum KsNumberStatus
{
	KS_NUMBER_OK,
	KS_NUMBER_FRACTION,			/* not integral */
	KS_NUMBER_RANGE				/* too large */
} KsNumberStatus;

/* An integral number, however it is written (1.0 and 1e2 are integral). */
extern KsNumberStatus ks_number_to_int64(const char *str, size_t len, int64_t *result);

/* A number times 10 ^ shift, rounded half away from zero. */
extern KsNumberStatus ks_number_scaled(const char *str, size_t len, int shift,
									   int64_t *result);

/*
 * A number of at most 18 digits and without exponent as digits and scale:
 * -1.50 is -150 and 2.  False if it is not so short.
 */
extern bool ks_number_plain(const char *str, size_t len, int64_t *digits, int *scale);

/* The nearest double where that takes one exact operation; false if not. */
extern bool ks_number_to_double(const char *str, size_t len, double *result);

/* The nearest float where that takes one exact operation; false if not. */
extern bool ks_number_to_float(const char *str, size_t len, float *result);

#endif							/* KS_NUMBER_H */
