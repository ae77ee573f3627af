/*
 * json_text.c
 *		Pieces of JSON text: strings without escapes, numbers, elements, fields.
 *
 * json_scan.cpp has checked the whole document before any of the walking below
 * is done, so that may go by brackets and quotes alone.  It still never reads
 * past the end it was given, whatever the text.
 */
#include "format/json_text.h"

#include <stdint.h>
#include <string.h>

#include "format/json_scan.h"

/* Limits of ks_json_text_tame, far inside those of numeric and of the stack. */
#define TAME_DEPTH 32
#define TAME_NUMBER 1000
#define TAME_EXPONENT_DIGITS 4
#define TAME_LENGTH (16 * 1024 * 1024)

/* Is this a decimal digit? */
static inline bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Is this white space of JSON? */
static inline bool
is_space(char c)
{
	return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* Value of a hexadecimal digit, -1 for another character. */
static int
hex_value(char c)
{
	if (is_digit(c))
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Checks the grammar of a number, see json_text.h. */
bool
ks_json_number_valid(const char *str, size_t len)
{
	const char *p = str;
	const char *end = str + len;

	if (p < end && *p == '-')
		p++;
	if (p == end || !is_digit(*p))
		return false;
	if (*p == '0')
		p++;
	else
	{
		while (p < end && is_digit(*p))
			p++;
	}
	if (p < end && *p == '.')
	{
		p++;
		if (p == end || !is_digit(*p))
			return false;
		while (p < end && is_digit(*p))
			p++;
	}
	if (p < end && (*p == 'e' || *p == 'E'))
	{
		p++;
		if (p < end && (*p == '+' || *p == '-'))
			p++;
		if (p == end || !is_digit(*p))
			return false;
		while (p < end && is_digit(*p))
			p++;
	}
	return p == end;
}

/* Checks the escape sequences of a string, see json_text.h. */
bool
ks_json_escapes_valid(const char *str, size_t len)
{
	const char *p = str;
	const char *end = str + len;

	while ((p = memchr(p, '\\', end - p)) != NULL)
	{
		p++;
		if (p == end)
			return false;
		if (*p == 'u')
		{
			if (end - p < 5)
				return false;
			for (int i = 1; i <= 4; i++)
			{
				if (hex_value(p[i]) < 0)
					return false;
			}
			p += 5;
		}
		else if (*p != '\0' && strchr("\"\\/bfnrt", *p) != NULL)
			p++;
		else
			return false;
	}
	return true;
}

/* The 16 bits of an escape \uXXXX. */
static uint32_t
read_hex4(const char *p)
{
	uint32_t	code = 0;

	for (int i = 0; i < 4; i++)
		code = code << 4 | (uint32_t) hex_value(p[i]);
	return code;
}

/* Writes a code point as UTF-8; returns behind it. */
static char *
put_utf8(char *out, uint32_t code)
{
	if (code < 0x80)
		*out++ = (char) code;
	else if (code < 0x800)
	{
		*out++ = (char) (0xC0 | code >> 6);
		*out++ = (char) (0x80 | (code & 0x3F));
	}
	else if (code < 0x10000)
	{
		*out++ = (char) (0xE0 | code >> 12);
		*out++ = (char) (0x80 | (code >> 6 & 0x3F));
		*out++ = (char) (0x80 | (code & 0x3F));
	}
	else
	{
		*out++ = (char) (0xF0 | code >> 18);
		*out++ = (char) (0x80 | (code >> 12 & 0x3F));
		*out++ = (char) (0x80 | (code >> 6 & 0x3F));
		*out++ = (char) (0x80 | (code & 0x3F));
	}
	return out;
}

/*
 * Reads \uXXXX, or two of them that make one character; *pos is at the u.  An
 * escape is never shorter than the character it stands for.
 */
static KsJsonTextStatus
unescape_unicode(const char **pos, const char *end, char **out)
{
	uint32_t	code = read_hex4(*pos + 1);

	*pos += 5;
	if (code == 0)
		return KS_JSON_TEXT_NUL;
	if (code >= 0xDC00 && code <= 0xDFFF)
		return KS_JSON_TEXT_SURROGATE;
	if (code >= 0xD800 && code <= 0xDBFF)
	{
		const char *p = *pos;
		uint32_t	low;

		if (end - p < 6 || p[0] != '\\' || p[1] != 'u')
			return KS_JSON_TEXT_SURROGATE;
		low = read_hex4(p + 2);
		if (low < 0xDC00 || low > 0xDFFF)
			return KS_JSON_TEXT_SURROGATE;
		code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
		*pos += 6;
	}
	*out = put_utf8(*out, code);
	return KS_JSON_TEXT_OK;
}

/* What a character behind a backslash stands for. */
static char
unescape_char(char c)
{
	switch (c)
	{
		case 'b':
			return '\b';
		case 'f':
			return '\f';
		case 'n':
			return '\n';
		case 'r':
			return '\r';
		case 't':
			return '\t';
		default:
			return c;			/* quote, backslash, slash */
	}
}

/* Resolves the escapes of a string, see json_text.h. */
KsJsonTextStatus
ks_json_unescape(const char *str, size_t len, char *out, size_t *outlen)
{
	const char *p = str;
	const char *end = str + len;
	char	   *start = out;

	while (p < end)
	{
		const char *escape = memchr(p, '\\', end - p);
		size_t		plain = (escape != NULL ? escape : end) - p;

		memcpy(out, p, plain);
		out += plain;
		if (escape == NULL)
			break;
		p = escape + 1;
		if (*p == 'u')
		{
			KsJsonTextStatus status = unescape_unicode(&p, end, &out);

			if (status != KS_JSON_TEXT_OK)
				return status;
		}
		else
			*out++ = unescape_char(*p++);
	}
	*outlen = out - start;
	return KS_JSON_TEXT_OK;
}

/* Starts to walk over an array or object. */
void
ks_json_iter_init(KsJsonIter *iter, const KsJsonToken *container)
{
	iter->pos = container->str + 1;
	iter->end = container->str + container->len;
}

/* Behind a string that starts at p; sets escaped if it has backslashes. */
static const char *
skip_string(const char *p, const char *end, bool *escaped)
{
	for (p++; p < end && *p != '"'; p++)
	{
		if (*p == '\\')
		{
			*escaped = true;
			p++;
		}
	}
	return p < end ? p + 1 : end;
}

/* Behind an array or object that starts at p. */
static const char *
skip_container(const char *p, const char *end, bool *escaped)
{
	size_t		depth = 0;

	while (p < end)
	{
		switch (*p)
		{
			case '"':
				p = skip_string(p, end, escaped);
				continue;
			case '[':
			case '{':
				depth++;
				break;
			case ']':
			case '}':
				if (--depth == 0)
					return p + 1;
				break;
			default:
				break;
		}
		p++;
	}
	return end;
}

/* Kind of the value that starts with a character. */
static KsJsonKind
kind_of(char c)
{
	switch (c)
	{
		case '{':
			return KS_JSON_OBJECT;
		case '[':
			return KS_JSON_ARRAY;
		case '"':
			return KS_JSON_STRING;
		case 't':
			return KS_JSON_TRUE;
		case 'f':
			return KS_JSON_FALSE;
		case 'n':
			return KS_JSON_NULL;
		default:
			return KS_JSON_NUMBER;
	}
}

/* Reads the value at the position, which is moved behind it. */
static void
read_value(KsJsonIter *iter, KsJsonToken *value)
{
	const char *p = iter->pos;

	value->kind = kind_of(*p);
	value->str = p;
	value->escaped = false;
	if (value->kind == KS_JSON_STRING)
		p = skip_string(p, iter->end, &value->escaped);
	else if (value->kind == KS_JSON_OBJECT || value->kind == KS_JSON_ARRAY)
		p = skip_container(p, iter->end, &value->escaped);
	else
	{
		while (p < iter->end && *p != ',' && *p != ']' && *p != '}' && !is_space(*p))
			p++;
	}
	value->len = p - value->str;
	iter->pos = p;
}

/* Moves to the next value or key; false at the closing bracket. */
static bool
skip_to_next(KsJsonIter *iter)
{
	while (iter->pos < iter->end &&
		   (is_space(*iter->pos) || *iter->pos == ',' || *iter->pos == ':'))
		iter->pos++;
	return iter->pos < iter->end && *iter->pos != ']' && *iter->pos != '}';
}

/* Next element of an array, see json_text.h. */
bool
ks_json_next_element(KsJsonIter *iter, KsJsonToken *value)
{
	if (!skip_to_next(iter))
		return false;
	read_value(iter, value);
	return true;
}

/* Next field of an object, see json_text.h. */
bool
ks_json_next_field(KsJsonIter *iter, KsJsonToken *key, KsJsonToken *value)
{
	if (!skip_to_next(iter))
		return false;
	read_value(iter, key);
	if (!skip_to_next(iter))
		return false;
	read_value(iter, value);
	return true;
}

/*
 * Behind a number that starts at p, or NULL if it is too long or has too large
 * an exponent to be called tame.
 */
static const char *
skip_tame_number(const char *p, const char *end)
{
	const char *start = p;

	while (p < end && (is_digit(*p) || *p == '.' || *p == '-'))
		p++;
	if (p < end && (*p == 'e' || *p == 'E'))
	{
		const char *exponent;

		p++;
		if (p < end && (*p == '+' || *p == '-'))
			p++;
		for (exponent = p; p < end && is_digit(*p);)
			p++;
		if (p - exponent > TAME_EXPONENT_DIGITS)
			return NULL;
	}
	return p - start > TAME_NUMBER ? NULL : p;
}

/* Behind a string that starts at p, or NULL if it has a \u escape. */
static const char *
skip_tame_string(const char *p, const char *end)
{
	for (p++; p < end && *p != '"'; p++)
	{
		if (*p == '\\')
		{
			p++;
			if (p < end && *p == 'u')
				return NULL;
		}
	}
	return p < end ? p + 1 : end;
}

/* Is the text harmless for jsonb, see json_text.h. */
bool
ks_json_text_tame(const char *str, size_t len)
{
	const char *p = str;
	const char *end = str + len;
	int			depth = 0;

	if (len > TAME_LENGTH)
		return false;
	while (p < end)
	{
		if (*p == '"')
			p = skip_tame_string(p, end);
		else if (is_digit(*p))
			p = skip_tame_number(p, end);
		else
		{
			if ((*p == '[' || *p == '{') && ++depth > TAME_DEPTH)
				return false;
			if (*p == ']' || *p == '}')
				depth--;
			p++;
		}
		if (p == NULL)
			return false;
	}
	return true;
}
