/*
 * encoding.c
 *		Text of records, which is UTF-8, and text of the database.
 *
 * What a record holds may be hostile: nothing here raises an error for it, and
 * what goes into messages is shortened and free of control characters.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "format/encoding.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"

/* Bytes of a record quoted in a message, and bytes of a whole message. */
#define EXCERPT_LENGTH 60
#define MESSAGE_LENGTH 1000

/* True if text of the database is UTF-8, or of no known encoding, as it is. */
static inline bool
server_takes_utf8(void)
{
	int			encoding = GetDatabaseEncoding();

	return encoding == PG_UTF8 || encoding == PG_SQL_ASCII;
}

/* Has the text no byte outside ASCII? */
static bool
is_ascii(const char *str, size_t len)
{
	for (size_t i = 0; i < len; i++)
	{
		if (IS_HIGHBIT_SET(str[i]))
			return false;
	}
	return true;
}

/* See encoding.h. */
bool
ks_utf8_valid(const char *str, size_t len)
{
	return len <= MaxAllocSize && pg_verify_mbstr(PG_UTF8, str, (int) len, true);
}

/* Converts between two encodings; false if that is not possible. */
static bool
convert_encoding(const char *str, size_t len, int from, int to, char **result)
{
	Oid			proc = FindDefaultConversionProc(from, to);
	Size		size = (Size) len * MAX_CONVERSION_GROWTH + 1;

	if (!OidIsValid(proc) || size > MaxAllocSize)
		return false;
	*result = palloc(size);
	return pg_do_encoding_conversion_buf(proc, from, to, (unsigned char *) unconstify(char *, str),
										 (int) len, (unsigned char *) *result,
										 (int) size, true) == (int) len;
}

/* See encoding.h. */
bool
ks_utf8_to_server(const char *str, size_t len, const char **result, size_t *resultlen)
{
	char	   *converted;

	*result = str;
	*resultlen = len;
	if (server_takes_utf8() || is_ascii(str, len))
		return true;
	if (!convert_encoding(str, len, PG_UTF8, GetDatabaseEncoding(), &converted))
		return false;
	*result = converted;
	*resultlen = strlen(converted);
	return true;
}

/* See encoding.h. */
const char *
ks_server_to_utf8(const char *str, size_t len, size_t *resultlen)
{
	const char *converted = str;

	*resultlen = len;
	if (!server_takes_utf8() && !is_ascii(str, len))
	{
		converted = pg_server_to_any(str, (int) len, PG_UTF8);
		if (converted != str)
			*resultlen = strlen(converted);
	}
	return converted;
}

/* See encoding.h. */
char *
ks_quote_excerpt(const char *str, size_t len)
{
	StringInfoData buf;
	size_t		shown = Min(len, EXCERPT_LENGTH);
	bool		plain = server_takes_utf8();

	/* do not cut a character in two */
	while (shown < len && shown > 0 && ((unsigned char) str[shown] & 0xC0) == 0x80)
		shown--;
	if (plain && !ks_utf8_valid(str, shown))
		plain = false;

	initStringInfo(&buf);
	appendStringInfoChar(&buf, '"');
	for (size_t i = 0; i < shown; i++)
	{
		unsigned char c = (unsigned char) str[i];

		if (c < 0x20 || c == 0x7F || (c >= 0x80 && !plain))
			appendStringInfo(&buf, "\\x%02x", c);
		else
			appendStringInfoChar(&buf, (char) c);
	}
	appendStringInfoString(&buf, shown < len ? "...\"" : "\"");
	return buf.data;
}

/* See encoding.h. */
char *
ks_clean_message(const char *message)
{
	size_t		len = strlen(message);
	int			shown = pg_mbcliplen(message, (int) Min(len, INT_MAX), MESSAGE_LENGTH);
	char	   *clean = palloc(shown + 4);

	memcpy(clean, message, shown);
	clean[shown] = '\0';
	for (char *p = clean; *p != '\0'; p++)
	{
		if ((unsigned char) *p < 0x20 || *p == 0x7F)
			*p = ' ';
	}
	if (shown < len)
		strcpy(clean + shown, "...");
	return clean;
}
