/*
 * base64.c
 *		Base64 and hexadecimal text of bytes.
 */
#include "format/base64.h"

#include <stdint.h>

static const char base64_digits[] =
"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Value of a base64 digit, -1 for another character. */
static int
base64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+')
		return 62;
	if (c == '/')
		return 63;
	return -1;
}

/* Value of a hexadecimal digit, -1 for another character. */
static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* See base64.h. */
void
ks_base64_encode(const unsigned char *bytes, size_t len, char *out)
{
	size_t		i;

	for (i = 0; i < len; i += 3)
	{
		uint32_t	group = (uint32_t) bytes[i] << 16;

		if (i + 1 < len)
			group |= (uint32_t) bytes[i + 1] << 8;
		if (i + 2 < len)
			group |= bytes[i + 2];
		*out++ = base64_digits[group >> 18];
		*out++ = base64_digits[group >> 12 & 63];
		*out++ = i + 1 < len ? base64_digits[group >> 6 & 63] : '=';
		*out++ = i + 2 < len ? base64_digits[group & 63] : '=';
	}
}

/* See base64.h. */
bool
ks_base64_decode(const char *str, size_t len, unsigned char *out, size_t *outlen)
{
	unsigned char *start = out;
	uint32_t	group = 0;
	int			count = 0;		/* characters in the group */
	int			padding = 0;

	for (size_t i = 0; i < len; i++)
	{
		char		c = str[i];

		if (c == ' ' || c == '\n' || c == '\r' || c == '\t')
			continue;
		if (c == '=')
		{
			if (count < 2)
				return false;
			padding++;
			group <<= 6;
		}
		else
		{
			int			value = base64_value(c);

			if (value < 0 || padding > 0)
				return false;
			group = group << 6 | (uint32_t) value;
		}
		if (++count == 4)
		{
			*out++ = (unsigned char) (group >> 16);
			if (padding < 2)
				*out++ = (unsigned char) (group >> 8);
			if (padding < 1)
				*out++ = (unsigned char) group;
			group = 0;
			count = 0;
		}
	}
	*outlen = out - start;
	return count == 0;
}

/* See base64.h. */
void
ks_hex_encode(const unsigned char *bytes, size_t len, char *out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < len; i++)
	{
		*out++ = digits[bytes[i] >> 4];
		*out++ = digits[bytes[i] & 15];
	}
}

/* See base64.h. */
bool
ks_hex_decode(const char *str, size_t len, unsigned char *out)
{
	if (len % 2 != 0)
		return false;
	for (size_t i = 0; i < len; i += 2)
	{
		int			high = hex_value(str[i]);
		int			low = hex_value(str[i + 1]);

		if (high < 0 || low < 0)
			return false;
		*out++ = (unsigned char) (high << 4 | low);
	}
	return true;
}
