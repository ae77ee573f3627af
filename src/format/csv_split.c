/*
 * csv_split.c
 *		One line of csv to its fields, by the rules of COPY's csv format: comma,
 *		double quote, doubled quote inside quotes, empty without quotes is NULL.
 *
 * As with COPY a quoted part may start and end anywhere in a field, and may
 * hold newlines.  \. has no meaning, since a record is a line of its own.
 */
#include "format/csv_split.h"

#include <stdbool.h>

/* Length of the line without the newline at its end. */
static size_t
strip_newline(const char *line, size_t len)
{
	if (len > 0 && line[len - 1] == '\n')
	{
		len--;
		if (len > 0 && line[len - 1] == '\r')
			len--;
	}
	else if (len > 0 && line[len - 1] == '\r')
		len--;
	return len;
}

/* Reads a quoted part; *pos is behind the opening quote. */
static bool
read_quoted(const char **pos, const char *end, char **out)
{
	const char *p = *pos;

	while (p < end)
	{
		if (*p == '"')
		{
			if (p + 1 == end || p[1] != '"')
			{
				*pos = p + 1;
				return true;
			}
			p++;
		}
		*(*out)++ = *p++;
	}
	return false;
}

/* Reads a field up to its comma or the end of the line. */
static KsCsvStatus
read_field(const char **pos, const char *end, char **out, KsCsvField *field)
{
	char	   *start = *out;
	bool		quoted = false;

	while (*pos < end && **pos != ',')
	{
		char		c = *(*pos)++;

		if (c == '"')
		{
			quoted = true;
			if (!read_quoted(pos, end, out))
				return KS_CSV_OPEN_QUOTE;
		}
		else if (c == '\n' || c == '\r')
			return KS_CSV_NEWLINE;
		else
			*(*out)++ = c;
	}
	field->len = *out - start;
	field->str = (quoted || field->len > 0) ? start : NULL;
	return KS_CSV_OK;
}

/* See csv_split.h. */
KsCsvStatus
ks_csv_split(const char *line, size_t len, char *buf, KsCsvField *fields,
			 int maxfields, int *nfields)
{
	const char *pos = line;
	const char *end = line + strip_newline(line, len);

	*nfields = 0;
	for (;;)
	{
		KsCsvField	field;
		KsCsvStatus status = read_field(&pos, end, &buf, &field);

		if (status != KS_CSV_OK)
			return status;
		if (*nfields < maxfields)
			fields[*nfields] = field;
		(*nfields)++;
		if (pos == end)
			return KS_CSV_OK;
		pos++;					/* the comma */
	}
}
