/*
 * convert_datetime.c
 *		Dates and times of records to date, timestamp and timestamptz.
 *
 * The fast way knows one form, 2024-05-06 and 2024-05-06T07:08:09.123+02:00
 * (or a space, Z, no zone), and gives what the input functions give for it.
 * They are asked for everything else, errors included.
 */
#include "postgres.h"

#include <ctype.h>
#include <math.h>

#include "common/int.h"
#include "format/convert_datetime.h"
#include "format/encoding.h"
#include "format/number.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

/* Digits of a fraction of a second that are read. */
#define MAX_FRACTION 20

/* What was read of a date and time. */
typedef struct IsoTime
{
	struct pg_tm tm;
	fsec_t		fsec;
	bool		has_time;
	bool		has_zone;
	int			zone;			/* seconds west of Greenwich */
} IsoTime;

/* Reads count digits; false if there are other characters. */
static bool
read_digits(const char **pos, const char *end, int count, int *result)
{
	const char *p = *pos;
	int			number = 0;

	if (end - p < count)
		return false;
	for (int i = 0; i < count; i++, p++)
	{
		if (*p < '0' || *p > '9')
			return false;
		number = number * 10 + (*p - '0');
	}
	*pos = p;
	*result = number;
	return true;
}

/* Reads a certain character. */
static inline bool
read_char(const char **pos, const char *end, char c)
{
	if (*pos == end || **pos != c)
		return false;
	(*pos)++;
	return true;
}

/* Reads YYYY-MM-DD. */
static bool
read_date(const char **pos, const char *end, IsoTime *iso)
{
	struct pg_tm *tm = &iso->tm;

	return read_digits(pos, end, 4, &tm->tm_year) && read_char(pos, end, '-') &&
		read_digits(pos, end, 2, &tm->tm_mon) && read_char(pos, end, '-') &&
		read_digits(pos, end, 2, &tm->tm_mday) &&
		tm->tm_year >= 1 && tm->tm_mon >= 1 && tm->tm_mon <= MONTHS_PER_YEAR &&
		tm->tm_mday >= 1 && tm->tm_mday <= day_tab[isleap(tm->tm_year)][tm->tm_mon - 1];
}

/* Reads the fraction of a second behind its point, rounded as the server does it. */
static bool
read_fraction(const char **pos, const char *end, fsec_t *fsec)
{
	char		digits[MAX_FRACTION + 2] = ".";
	int			count = 0;

	while (*pos < end && **pos >= '0' && **pos <= '9')
	{
		if (count == MAX_FRACTION)
			return false;
		digits[++count] = *(*pos)++;
	}
	if (count == 0)
		return false;
	if (count <= 6)
	{
		*fsec = 0;
		for (int i = 1; i <= 6; i++)
			*fsec = *fsec * 10 + (i <= count ? digits[i] - '0' : 0);
	}
	else
		*fsec = (fsec_t) rint(strtod(digits, NULL) * 1000000);
	return true;
}

/* Reads HH:MM, HH:MM:SS or HH:MM:SS.fraction. */
static bool
read_time(const char **pos, const char *end, IsoTime *iso)
{
	struct pg_tm *tm = &iso->tm;

	if (!read_digits(pos, end, 2, &tm->tm_hour) || !read_char(pos, end, ':') ||
		!read_digits(pos, end, 2, &tm->tm_min) || tm->tm_hour > 23 || tm->tm_min > 59)
		return false;
	if (!read_char(pos, end, ':'))
		return true;
	if (!read_digits(pos, end, 2, &tm->tm_sec) || tm->tm_sec > 59)
		return false;
	return !read_char(pos, end, '.') || read_fraction(pos, end, &iso->fsec);
}

/* Reads Z, +HH, +HHMM or +HH:MM. */
static bool
read_zone(const char **pos, const char *end, IsoTime *iso)
{
	int			sign;
	int			hours;
	int			minutes = 0;

	iso->has_zone = true;
	if (read_char(pos, end, 'Z'))
		return true;
	if (read_char(pos, end, '+'))
		sign = -1;
	else if (read_char(pos, end, '-'))
		sign = 1;
	else
		return false;
	if (!read_digits(pos, end, 2, &hours))
		return false;
	if (*pos < end)
	{
		(void) read_char(pos, end, ':');
		if (!read_digits(pos, end, 2, &minutes))
			return false;
	}
	iso->zone = sign * (hours * SECS_PER_HOUR + minutes * SECS_PER_MINUTE);
	return hours < MAX_TZDISP_HOUR && minutes < MINS_PER_HOUR;
}

/* Reads the whole text; false unless it has the one form. */
static bool
read_iso(const char *str, size_t len, IsoTime *iso)
{
	const char *end = str + len;

	memset(iso, 0, sizeof(*iso));
	if (!read_date(&str, end, iso))
		return false;
	if (str == end)
		return true;
	iso->has_time = true;
	if (*str != 'T' && *str != ' ')
		return false;
	str++;
	if (!read_time(&str, end, iso))
		return false;
	return str == end || (read_zone(&str, end, iso) && str == end);
}

/* Rounds a timestamp to the precision of timestamp(p). */
static Datum
round_timestamp(KsConverter *conv, Datum value)
{
	if (conv->typmod < 0 || conv->typmod >= MAX_TIMESTAMP_PRECISION)
		return value;
	return DirectFunctionCall2(timestamp_scale, value, Int32GetDatum(conv->typmod));
}

/* See convert_datetime.h. */
bool
ks_parse_iso_datetime(KsConverter *conv, const char *str, size_t len, Datum *value)
{
	IsoTime		iso;
	Timestamp	result;
	int		   *zone = NULL;

	if (!read_iso(str, len, &iso))
		return false;
	if (conv->type == KS_TYPE_DATE)
	{
		*value = DateADTGetDatum(date2j(iso.tm.tm_year, iso.tm.tm_mon, iso.tm.tm_mday) -
								 POSTGRES_EPOCH_JDATE);
		return !iso.has_time;
	}
	if (conv->type == KS_TYPE_TIMESTAMPTZ)
	{
		zone = &iso.zone;
		if (!iso.has_zone)
			iso.zone = DetermineTimeZoneOffset(&iso.tm, session_timezone);
	}
	if (tm2timestamp(&iso.tm, iso.fsec, zone, &result) != 0)
		return false;
	*value = round_timestamp(conv, TimestampGetDatum(result));
	return true;
}

/* See convert_datetime.h. */
bool
ks_names_clock(const char *str, size_t len)
{
	static const char *const words[] = {"now", "today", "tomorrow", "yesterday"};
	const char *end = str + len;

	while (str < end)
	{
		const char *start = str;

		while (str < end && isalpha((unsigned char) *str))
			str++;
		for (int i = 0; i < lengthof(words); i++)
		{
			if (str - start == strlen(words[i]) && pg_strncasecmp(start, words[i], str - start) == 0)
				return true;
		}
		if (str == start)
			str++;
	}
	return false;
}

/* See convert_datetime.h. */
bool
ks_convert_epoch(KsConverter *conv, const char *str, size_t len, KsConversion *cv,
				 Datum *value)
{
	const int64 epoch = (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	int64_t		micros;
	int64		result;

	if (ks_number_scaled(str, len, 3, &micros) != KS_NUMBER_OK ||
		pg_sub_s64_overflow(micros, epoch, &result) || !IS_VALID_TIMESTAMP(result))
		return ks_conversion_fail(cv, ERRCODE_DATETIME_VALUE_OUT_OF_RANGE,
								  "timestamp out of range: %s milliseconds since 1970",
								  ks_quote_excerpt(str, len));
	*value = round_timestamp(conv, TimestampGetDatum(result));
	return true;
}
