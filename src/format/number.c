/*
 * number.c
 *		JSON numbers, from their digits and without loss.
 *
 * A number is taken apart into its significant digits (neither leading nor
 * trailing zeros) and a decimal exponent; what does not fit says so and the
 * caller takes the type's input function.
 */
#include "format/number.h"

#include <string.h>

#define MAX_DIGITS 19			/* always fit into 64 bits without sign */
#define PLAIN_DIGITS 18			/* always fit into 63 bits */
#define EXPONENT_LIMIT 100000000

typedef struct Decimal
{
	bool		negative;
	uint64_t	digits;			/* the first MAX_DIGITS significant digits */
	int			ndigits;		/* how many there are in truth */
	int			exponent;		/* of the digit behind the last one in digits */
	bool		exact;			/* digits holds them all */
	int			next;			/* if not: the first one that it does not hold */
} Decimal;

static const uint64_t power_of_ten[] = {
	UINT64_C(1), UINT64_C(10), UINT64_C(100), UINT64_C(1000), UINT64_C(10000),
	UINT64_C(100000), UINT64_C(1000000), UINT64_C(10000000), UINT64_C(100000000),
	UINT64_C(1000000000), UINT64_C(10000000000), UINT64_C(100000000000),
	UINT64_C(1000000000000), UINT64_C(10000000000000), UINT64_C(100000000000000),
	UINT64_C(1000000000000000), UINT64_C(10000000000000000),
	UINT64_C(100000000000000000), UINT64_C(1000000000000000000),
	UINT64_C(10000000000000000000)
};

static const double exact_power[] = {
	1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14,
	1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22
};

/* Is this a decimal digit? */
static inline bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Reads an exponent, which may be absurdly large. */
static int
read_exponent(const char *p, const char *end)
{
	bool		negative = (*p == '-');
	int			exponent = 0;

	if (*p == '-' || *p == '+')
		p++;
	for (; p < end; p++)
	{
		if (exponent < EXPONENT_LIMIT)
			exponent = exponent * 10 + (*p - '0');
	}
	return negative ? -exponent : exponent;
}

/* Appends a significant digit. */
static inline void
add_digit(Decimal *dec, int digit)
{
	if (dec->ndigits < MAX_DIGITS)
		dec->digits = dec->digits * 10 + (uint64_t) digit;
	else if (dec->ndigits == MAX_DIGITS)
		dec->next = digit;
	dec->ndigits++;
}

/*
 * Takes a number apart.  zeros counts zeros that may turn out to be trailing;
 * they become digits when another digit follows.
 */
static void
parse_decimal(const char *str, size_t len, Decimal *dec)
{
	const char *p = str;
	const char *end = str + len;
	bool		fraction = false;
	int			zeros = 0;

	memset(dec, 0, sizeof(*dec));
	if (*p == '-')
	{
		dec->negative = true;
		p++;
	}
	for (; p < end && *p != 'e' && *p != 'E'; p++)
	{
		if (*p == '.')
		{
			fraction = true;
			continue;
		}
		if (fraction)
			dec->exponent--;
		if (*p == '0')
		{
			zeros++;
			continue;
		}
		for (; dec->ndigits > 0 && zeros > 0; zeros--)
			add_digit(dec, 0);
		zeros = 0;
		add_digit(dec, *p - '0');
	}
	dec->exact = (dec->ndigits <= MAX_DIGITS);
	dec->exponent += zeros;
	if (!dec->exact)
		dec->exponent += dec->ndigits - MAX_DIGITS;
	if (p < end)
		dec->exponent += read_exponent(p + 1, end);
}

/* Puts the sign to a magnitude. */
static KsNumberStatus
apply_sign(const Decimal *dec, uint64_t magnitude, int64_t *result)
{
	if (magnitude > (uint64_t) INT64_MAX + (dec->negative ? 1 : 0))
		return KS_NUMBER_RANGE;
	*result = dec->negative ? (int64_t) (0 - magnitude) : (int64_t) magnitude;
	return KS_NUMBER_OK;
}

/* Digits times 10 ^ exponent, with exponent >= 0. */
static KsNumberStatus
scale_up(const Decimal *dec, int exponent, int64_t *result)
{
	if (dec->digits == 0)
		return apply_sign(dec, 0, result);
	if (exponent > MAX_DIGITS || dec->digits > UINT64_MAX / power_of_ten[exponent])
		return KS_NUMBER_RANGE;
	return apply_sign(dec, dec->digits * power_of_ten[exponent], result);
}

/* See number.h. */
KsNumberStatus
ks_number_to_int64(const char *str, size_t len, int64_t *result)
{
	bool		negative = (str[0] == '-');
	Decimal		dec;

	if (len - negative <= PLAIN_DIGITS)
	{
		int64_t		value = 0;
		size_t		i = negative;

		for (; i < len && is_digit(str[i]); i++)
			value = value * 10 + (str[i] - '0');
		if (i == len)
		{
			*result = negative ? -value : value;
			return KS_NUMBER_OK;
		}
	}
	parse_decimal(str, len, &dec);
	if (dec.digits == 0)
		return scale_up(&dec, 0, result);
	/* the last digit is not zero, so any place behind the point is one too many */
	if (dec.exponent - (dec.exact ? 0 : dec.ndigits - MAX_DIGITS) < 0)
		return KS_NUMBER_FRACTION;
	if (!dec.exact)
		return KS_NUMBER_RANGE;
	return scale_up(&dec, dec.exponent, result);
}

/* See number.h. */
KsNumberStatus
ks_number_scaled(const char *str, size_t len, int shift, int64_t *result)
{
	Decimal		dec;
	int			exponent;
	uint64_t	quotient;
	uint64_t	divisor;

	parse_decimal(str, len, &dec);
	exponent = dec.exponent + shift;
	if (exponent == 0 && dec.next >= 5)
		dec.digits++;
	if (exponent >= 0)
		return scale_up(&dec, exponent, result);
	if (-exponent > MAX_DIGITS)
		return apply_sign(&dec, 0, result);
	divisor = power_of_ten[-exponent];
	quotient = dec.digits / divisor;
	if (dec.digits % divisor >= divisor / 2)
		quotient++;
	return apply_sign(&dec, quotient, result);
}

/* See number.h. */
bool
ks_number_plain(const char *str, size_t len, int64_t *digits, int *scale)
{
	bool		negative = (str[0] == '-');
	int64_t		value = 0;
	size_t		i;
	size_t		point = 0;
	int			count = 0;

	for (i = negative; i < len; i++)
	{
		if (is_digit(str[i]))
		{
			if (++count > PLAIN_DIGITS)
				return false;
			value = value * 10 + (str[i] - '0');
		}
		else if (str[i] == '.')
			point = i;
		else
			return false;
	}
	*digits = negative ? -value : value;
	*scale = point > 0 ? (int) (len - point - 1) : 0;
	return true;
}

/* See number.h. */
bool
ks_number_to_double(const char *str, size_t len, double *result)
{
	Decimal		dec;
	double		value;

	parse_decimal(str, len, &dec);
	if (!dec.exact || dec.digits > (UINT64_C(1) << 53) ||
		(dec.digits != 0 && (dec.exponent < -22 || dec.exponent > 22)))
		return false;
	value = (double) dec.digits;
	if (dec.digits == 0)
		value = 0;
	else if (dec.exponent < 0)
		value /= exact_power[-dec.exponent];
	else
		value *= exact_power[dec.exponent];
	*result = dec.negative ? -value : value;
	return true;
}

/* See number.h. */
bool
ks_number_to_float(const char *str, size_t len, float *result)
{
	Decimal		dec;
	float		value;

	parse_decimal(str, len, &dec);
	if (!dec.exact || dec.digits > (UINT64_C(1) << 24) ||
		(dec.digits != 0 && (dec.exponent < -10 || dec.exponent > 10)))
		return false;
	value = (float) dec.digits;
	if (dec.digits == 0)
		value = 0;
	else if (dec.exponent < 0)
		value /= (float) exact_power[-dec.exponent];
	else
		value *= (float) exact_power[dec.exponent];
	*result = dec.negative ? -value : value;
	return true;
}
