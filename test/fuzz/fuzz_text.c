/*
 * fuzz_text.c
 *		Fuzzes the splitter of csv, paths, base64 and hexadecimal digits.
 *
 * What was taken apart is put together again and must give the same when it is
 * taken apart once more.  All buffers have just the size that is promised.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "format/base64.h"
#include "format/csv_split.h"
#include "format/json_path.h"

#define MAX_FIELDS 16

/* Stops the fuzzer unless something holds. */
static void
require(int ok)
{
	if (!ok)
		__builtin_trap();
}

/* Writes a line of csv with every field that is not NULL in quotes. */
static size_t
write_line(const KsCsvField *fields, int count, char *out)
{
	char	   *start = out;

	for (int i = 0; i < count; i++)
	{
		if (i > 0)
			*out++ = ',';
		if (fields[i].str == NULL)
			continue;
		*out++ = '"';
		for (size_t k = 0; k < fields[i].len; k++)
		{
			if (fields[i].str[k] == '"')
				*out++ = '"';
			*out++ = fields[i].str[k];
		}
		*out++ = '"';
	}
	return out - start;
}

/* A line of csv. */
static void
check_csv(const char *line, size_t len)
{
	char	   *buf = malloc(len);
	KsCsvField	fields[MAX_FIELDS];
	KsCsvField	again[MAX_FIELDS];
	int			count;
	int			count2;

	if (ks_csv_split(line, len, buf, fields, MAX_FIELDS, &count) == KS_CSV_OK && count <= MAX_FIELDS)
	{
		char	   *copy = malloc(len * 2 + 3 * MAX_FIELDS);
		size_t		copylen = write_line(fields, count, copy);
		char	   *buf2 = malloc(copylen);

		require(ks_csv_split(copy, copylen, buf2, again, MAX_FIELDS, &count2) == KS_CSV_OK);
		require(count == count2);
		for (int i = 0; i < count; i++)
		{
			require((fields[i].str == NULL) == (again[i].str == NULL) && fields[i].len == again[i].len);
			require(fields[i].len == 0 || memcmp(fields[i].str, again[i].str, fields[i].len) == 0);
		}
		free(copy);
		free(buf2);
	}
	free(buf);
}

/* A path. */
static void
check_path(const char *str, size_t len)
{
	char	   *path = malloc(len + 1);
	char	   *buf;
	KsJsonStep	steps[KS_JSON_PATH_MAX_STEPS];
	const char *reason = NULL;
	int			count;

	memcpy(path, str, len);
	path[len] = '\0';
	buf = malloc(strlen(path) + 1);
	count = ks_json_path_parse(path, steps, buf, &reason);
	require(count > 0 ? steps[0].name != NULL : reason != NULL);
	for (int i = 0; i < count; i++)
	{
		if (steps[i].name != NULL)
			require(steps[i].name >= buf && steps[i].name + steps[i].len <= buf + strlen(path));
		else
			require(steps[i].index >= 0 && steps[i].index <= KS_JSON_PATH_MAX_INDEX);
	}
	free(path);
	free(buf);
}

/* Base64 and hexadecimal digits. */
static void
check_bytes(const char *str, size_t len)
{
	size_t		enclen = KS_BASE64_LENGTH(len);
	char	   *encoded = malloc(enclen);
	unsigned char *decoded = malloc(enclen / 4 * 3);
	unsigned char *any = malloc(len / 4 * 3);
	char	   *hex = malloc(len * 2);
	unsigned char *bytes = malloc(len);
	size_t		declen;

	ks_base64_encode((const unsigned char *) str, len, encoded);
	require(ks_base64_decode(encoded, enclen, decoded, &declen));
	require(declen == len && memcmp(decoded, str, len) == 0);
	(void) ks_base64_decode(str, len, any, &declen);
	ks_hex_encode((const unsigned char *) str, len, hex);
	require(ks_hex_decode(hex, len * 2, bytes) && memcmp(bytes, str, len) == 0);
	(void) ks_hex_decode(str, len, bytes);
	free(encoded);
	free(decoded);
	free(any);
	free(hex);
	free(bytes);
}

/* The first byte says what the rest is. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	switch (data[0] % 3)
	{
		case 0:
			check_csv((const char *) data + 1, size - 1);
			break;
		case 1:
			check_path((const char *) data + 1, size - 1);
			break;
		default:
			check_bytes((const char *) data + 1, size - 1);
			break;
	}
	return 0;
}
