/*
 * fuzz_number.c
 *		Fuzzes the numbers: against the C library and against long division by hand.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/json_text.h"
#include "format/number.h"

#define MAX_LENGTH 200

/* Stops the fuzzer unless something holds. */
static void
require(int ok)
{
	if (!ok)
		__builtin_trap();
}

/*
 * The number times 10 ^ shift as digits and fraction, by moving the point:
 * whole gets the digits before it, rest those behind.  False if the exponent is
 * too large to write it out.
 */
static int
write_out(const char *str, int shift, char *whole, char *rest)
{
	char		digits[MAX_LENGTH + 1];
	const char *p = str + (str[0] == '-');
	long		exponent;
	long		point = -1;
	long		count = 0;
	const char *e = strpbrk(p, "eE");

	for (; *p != '\0' && p != e; p++)
	{
		if (*p == '.')
			point = count;
		else
			digits[count++] = *p;
	}
	if (point < 0)
		point = count;
	exponent = e ? strtol(e + 1, NULL, 10) : 0;
	if (labs(exponent) > 300)
		return 0;
	point += exponent + shift;
	for (long i = (point < 0 ? point : 0); i < (count > point ? count : point); i++)
	{
		char		c = (i >= 0 && i < count) ? digits[i] : '0';

		if (i < point)
			*whole++ = c;
		else
			*rest++ = c;
	}
	*whole = *rest = '\0';
	return 1;
}

/* Adds up digits; false if they exceed 2 ^ 64 - 1 or so. */
static int
add_up(const char *digits, unsigned __int128 *sum)
{
	*sum = 0;
	for (; *digits != '\0'; digits++)
	{
		if (*sum > (unsigned __int128) 1 << 100)
			return 0;
		*sum = *sum * 10 + (unsigned) (*digits - '0');
	}
	return 1;
}

/* The value within a signed 64-bit range, or not. */
static KsNumberStatus
to_int64(int negative, int fits, unsigned __int128 sum, int64_t *result)
{
	if (!fits || sum > (unsigned __int128) INT64_MAX + negative)
		return KS_NUMBER_RANGE;
	*result = negative ? (int64_t) (0 - (uint64_t) sum) : (int64_t) sum;
	return KS_NUMBER_OK;
}

/* Integers, and milliseconds to microseconds. */
static void
check_integers(const char *str, size_t len)
{
	char		whole[1000];
	char		rest[1000];
	unsigned __int128 sum;
	int64_t		expected;
	int64_t		got;
	KsNumberStatus status;

	if (write_out(str, 0, whole, rest))
	{
		status = to_int64(str[0] == '-', add_up(whole, &sum), sum, &expected);
		if (strspn(rest, "0") != strlen(rest))
			status = KS_NUMBER_FRACTION;
		require(ks_number_to_int64(str, len, &got) == status);
		require(status != KS_NUMBER_OK || got == expected);
	}
	if (write_out(str, 3, whole, rest))
	{
		int			fits = add_up(whole, &sum);

		if (rest[0] >= '5')
			sum++;
		status = to_int64(str[0] == '-', fits, sum, &expected);
		require(ks_number_scaled(str, len, 3, &got) == status);
		require(status != KS_NUMBER_OK || got == expected);
	}
}

/* Digits and scale: must give the same text again. */
static void
check_plain(const char *str, size_t len)
{
	int64_t		digits;
	int			scale;
	char		text[64];
	char		padded[64];

	if (!ks_number_plain(str, len, &digits, &scale))
		return;
	require(scale >= 0 && scale <= 18);
	snprintf(padded, sizeof(padded), "%0*lld", scale + 1, (long long) (digits < 0 ? -digits : digits));
	snprintf(text, sizeof(text), "%s%.*s%s%s", str[0] == '-' ? "-" : "",
			 (int) strlen(padded) - scale, padded, scale > 0 ? "." : "",
			 padded + strlen(padded) - scale);
	require(strcmp(text, str) == 0);
}

/* One number, made of the few characters that matter. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char alphabet[] = "0123456789.eE+-9";
	char		str[MAX_LENGTH + 1];
	size_t		len = size < MAX_LENGTH ? size : MAX_LENGTH;
	double		d;
	float		f;

	for (size_t i = 0; i < len; i++)
		str[i] = alphabet[data[i] & 15];
	str[len] = '\0';
	if (!ks_json_number_valid(str, len))
		return 0;
	check_integers(str, len);
	check_plain(str, len);
	if (ks_number_to_double(str, len, &d))
	{
		double		expected = strtod(str, NULL);

		require(memcmp(&d, &expected, sizeof(d)) == 0);
	}
	if (ks_number_to_float(str, len, &f))
	{
		float		expected = strtof(str, NULL);

		require(memcmp(&f, &expected, sizeof(f)) == 0);
	}
	return 0;
}
