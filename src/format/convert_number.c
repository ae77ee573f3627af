/*
 * convert_number.c
 *		Numbers of records to the number types.
 *
 * Always from the digits: no number passes through a double on its way to an
 * integer or a numeric.
 */
#include "postgres.h"

#include <math.h>

#include "format/convert_number.h"
#include "format/encoding.h"
#include "format/number.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

/* Digits that an int64 always takes. */
#define PLAIN_DIGITS 18

/* Fails because the number is too large (or small) for the type. */
static bool
fail_range(KsConverter *conv, const char *str, size_t len, KsConversion *cv)
{
	return ks_conversion_fail(cv, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
							  "value %s is out of range for type %s",
							  ks_quote_excerpt(str, len), format_type_be(conv->basetype));
}

/* Makes a value of an integer type; false if it is out of its range. */
static inline bool
int_datum(KsTypeClass type, int64 number, Datum *value)
{
	switch (type)
	{
		case KS_TYPE_INT2:
			*value = Int16GetDatum((int16) number);
			return number >= PG_INT16_MIN && number <= PG_INT16_MAX;
		case KS_TYPE_INT4:
			*value = Int32GetDatum((int32) number);
			return number >= PG_INT32_MIN && number <= PG_INT32_MAX;
		default:
			*value = Int64GetDatum(number);
			return true;
	}
}

/* See convert_number.h. */
bool
ks_parse_plain_int(KsTypeClass type, const char *str, size_t len, Datum *value)
{
	bool		negative = (len > 0 && str[0] == '-');
	int64		number = 0;

	if (len == negative || len - negative > PLAIN_DIGITS)
		return false;
	for (size_t i = negative; i < len; i++)
	{
		if (str[i] < '0' || str[i] > '9')
			return false;
		number = number * 10 + (str[i] - '0');
	}
	return int_datum(type, negative ? -number : number, value);
}

/* An integral number to an integer type. */
static bool
convert_integer(KsConverter *conv, const char *str, size_t len, KsConversion *cv,
				Datum *value)
{
	int64_t		number;

	switch (ks_number_to_int64(str, len, &number))
	{
		case KS_NUMBER_OK:
			return int_datum(conv->type, number, value) || fail_range(conv, str, len, cv);
		case KS_NUMBER_RANGE:
			return fail_range(conv, str, len, cv);
		default:
			return ks_convert_invalid(conv, str, len, cv);
	}
}

/* The nearest double; as float8in, refuses what becomes infinite or zero. */
static bool
convert_float8(KsConverter *conv, const char *str, size_t len, KsConversion *cv,
			   Datum *value)
{
	double		number;

	if (!ks_number_to_double(str, len, &number))
	{
		char	   *copy = pnstrdup(str, len);

		errno = 0;
		number = strtod(copy, NULL);
		pfree(copy);
		if (errno == ERANGE && (number == 0.0 || isinf(number)))
			return fail_range(conv, str, len, cv);
	}
	*value = Float8GetDatum(number);
	return true;
}

/* The nearest float; as float4in, refuses what becomes infinite or zero. */
static bool
convert_float4(KsConverter *conv, const char *str, size_t len, KsConversion *cv,
			   Datum *value)
{
	float		number;

	if (!ks_number_to_float(str, len, &number))
	{
		char	   *copy = pnstrdup(str, len);

		errno = 0;
		number = strtof(copy, NULL);
		pfree(copy);
		if (errno == ERANGE && (number == 0.0 || isinf(number)))
			return fail_range(conv, str, len, cv);
	}
	*value = Float4GetDatum(number);
	return true;
}

/* 10 ^ exponent, which is at most PLAIN_DIGITS. */
static int64
power_of_ten(int exponent)
{
	int64		power = 1;

	while (exponent-- > 0)
		power *= 10;
	return power;
}

/*
 * Rounds digits with a scale to the scale of numeric(precision, scale), half
 * away from zero.  False if that is not simple or the precision is exceeded.
 */
static bool
apply_numeric_typmod(int32 typmod, int64 *digits, int *scale)
{
	int			precision = ((typmod - VARHDRSZ) >> 16) & 0xffff;
	int			wanted = (((typmod - VARHDRSZ) & 0x7ff) ^ 1024) - 1024;
	int64		power;

	if (wanted < 0 || wanted > PLAIN_DIGITS)
		return false;
	if (wanted > *scale)
	{
		power = power_of_ten(wanted - *scale);
		if (*digits > PG_INT64_MAX / power || *digits < -(PG_INT64_MAX / power))
			return false;
		*digits *= power;
	}
	else if (wanted < *scale)
	{
		int64		rest;

		power = power_of_ten(*scale - wanted);
		rest = *digits % power;
		*digits /= power;
		if (rest >= power / 2)
			(*digits)++;
		else if (rest <= -(power / 2))
			(*digits)--;
	}
	*scale = wanted;
	return precision > PLAIN_DIGITS ||
		(*digits < power_of_ten(precision) && *digits > -power_of_ten(precision));
}

/* A number to numeric, every digit kept. */
static bool
convert_numeric(KsConverter *conv, const char *str, size_t len, KsConversion *cv,
				Datum *value)
{
	int64_t		plain;
	int			scale;

	if (ks_number_plain(str, len, &plain, &scale))
	{
		int64		digits = plain;

		if (conv->typmod < (int32) VARHDRSZ ||
			apply_numeric_typmod(conv->typmod, &digits, &scale))
		{
			*value = NumericGetDatum(int64_div_fast_to_numeric(digits, scale));
			return true;
		}
	}
	return ks_convert_input(conv, str, len, cv, value);
}

/* See convert_number.h. */
bool
ks_convert_number(KsConverter *conv, const char *str, size_t len, KsConversion *cv,
				  Datum *value)
{
	switch (conv->type)
	{
		case KS_TYPE_FLOAT4:
			return convert_float4(conv, str, len, cv, value);
		case KS_TYPE_FLOAT8:
			return convert_float8(conv, str, len, cv, value);
		case KS_TYPE_NUMERIC:
			return convert_numeric(conv, str, len, cv, value);
		default:
			return convert_integer(conv, str, len, cv, value);
	}
}
