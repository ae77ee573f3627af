/*
 * json_path.c
 *		Takes apart the column option "path": names joined by dots, array
 *		elements in brackets, names with other characters in double quotes.
 *
 * The first step must be a name, since a document read by columns is an object.
 */
#include "format/json_path.h"

#include <stdbool.h>

/* Reads a name in double quotes; *pos is behind the opening quote. */
static bool
parse_quoted_name(const char **pos, char **out, const char **reason)
{
	const char *p = *pos;

	for (;;)
	{
		if (*p == '\0')
		{
			*reason = "unterminated quoted name";
			return false;
		}
		if (*p == '"')
		{
			if (p[1] != '"')
				break;
			p++;
		}
		*(*out)++ = *p++;
	}
	*pos = p + 1;
	return true;
}

/* Reads a field name, quoted or not, into the step. */
static bool
parse_name(const char **pos, KsJsonStep *step, char **out, const char **reason)
{
	step->name = *out;
	step->index = 0;
	if (**pos == '"')
	{
		(*pos)++;
		if (!parse_quoted_name(pos, out, reason))
			return false;
	}
	else
	{
		while (**pos != '\0' && **pos != '.' && **pos != '[' && **pos != ']' && **pos != '"')
			*(*out)++ = *(*pos)++;
		if (*out == step->name)
		{
			*reason = "a field name is missing";
			return false;
		}
	}
	step->len = *out - step->name;
	return true;
}

/* Reads an array index; *pos is behind the opening bracket. */
static bool
parse_index(const char **pos, KsJsonStep *step, const char **reason)
{
	const char *p = *pos;
	long		index = 0;

	if (*p < '0' || *p > '9')
	{
		*reason = "an array index must be a number";
		return false;
	}
	for (; *p >= '0' && *p <= '9'; p++)
	{
		index = index * 10 + (*p - '0');
		if (index > KS_JSON_PATH_MAX_INDEX)
		{
			*reason = "an array index is too large";
			return false;
		}
	}
	if (*p != ']')
	{
		*reason = "an array index must be followed by \"]\"";
		return false;
	}
	step->name = NULL;
	step->len = 0;
	step->index = index;
	*pos = p + 1;
	return true;
}

/* Takes a path apart, see json_path.h. */
int
ks_json_path_parse(const char *path, KsJsonStep *steps, char *buf, const char **reason)
{
	const char *p = path;
	int			nsteps = 0;

	if (!parse_name(&p, &steps[nsteps++], &buf, reason))
		return -1;
	while (*p != '\0')
	{
		if (nsteps == KS_JSON_PATH_MAX_STEPS)
		{
			*reason = "the path has too many steps";
			return -1;
		}
		if (*p == '[')
		{
			p++;
			if (!parse_index(&p, &steps[nsteps++], reason))
				return -1;
		}
		else if (*p == '.')
		{
			p++;
			if (!parse_name(&p, &steps[nsteps++], &buf, reason))
				return -1;
		}
		else
		{
			*reason = "a \".\" or \"[\" is missing between two steps";
			return -1;
		}
	}
	return nsteps;
}
