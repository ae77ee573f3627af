/*
 * fuzz_json.c
 *		Fuzzes the JSON scanner and what works on its tokens.
 *
 * A second, slow reader of JSON is the judge: both must accept the same
 * documents, and the scanner must find the values that the slow one finds.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "format/json_scan.h"
#include "format/json_text.h"

#define NPATHS 8

static const char *const paths[NPATHS] = {
	"a", "b", "a.b", "a[0]", "a[1].b", "a.b.c", "longer_than_eight", "a[0][0]"
};

static KsJsonScanner *scanner;
static KsJsonStep steps[NPATHS][KS_JSON_PATH_MAX_STEPS];
static int	nsteps[NPATHS];

/* The judge: position in the text, and whether it was too deep. */
typedef struct Judge
{
	const unsigned char *p;
	const unsigned char *end;
	int			depth;
	int			deepest;
} Judge;

/* Skips white space. */
static void
skip_space(Judge *j)
{
	while (j->p < j->end && (*j->p == ' ' || *j->p == '\t' || *j->p == '\n' || *j->p == '\r'))
		j->p++;
}

/* Is this a hexadecimal digit? */
static int
is_hex(unsigned char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* Length of the UTF-8 character here, 0 if there is none. */
static int
utf8_length(const unsigned char *p, const unsigned char *end)
{
	uint32_t	code;
	int			len;

	if (p[0] < 0x80)
		return 1;
	if (p[0] >= 0xC2 && p[0] < 0xE0)
		len = 2, code = p[0] & 0x1F;
	else if (p[0] >= 0xE0 && p[0] < 0xF0)
		len = 3, code = p[0] & 0x0F;
	else if (p[0] >= 0xF0 && p[0] < 0xF5)
		len = 4, code = p[0] & 0x07;
	else
		return 0;
	if (end - p < len)
		return 0;
	for (int i = 1; i < len; i++)
	{
		if ((p[i] & 0xC0) != 0x80)
			return 0;
		code = code << 6 | (p[i] & 0x3F);
	}
	if ((len == 3 && (code < 0x800 || (code >= 0xD800 && code < 0xE000))) ||
		(len == 4 && (code < 0x10000 || code > 0x10FFFF)))
		return 0;
	return len;
}

/* Reads a string. */
static int
judge_string(Judge *j)
{
	if (j->p == j->end || *j->p != '"')
		return 0;
	for (j->p++; j->p < j->end && *j->p != '"';)
	{
		if (*j->p < 0x20)
			return 0;
		if (*j->p == '\\')
		{
			if (++j->p == j->end)
				return 0;
			if (*j->p == 'u')
			{
				if (j->end - j->p < 5)
					return 0;
				for (int i = 1; i < 5; i++)
					if (!is_hex(j->p[i]))
						return 0;
				j->p += 5;
			}
			else if (*j->p != 0 && strchr("\"\\/bfnrt", *j->p))
				j->p++;
			else
				return 0;
		}
		else
		{
			int			len = utf8_length(j->p, j->end);

			if (len == 0)
				return 0;
			j->p += len;
		}
	}
	if (j->p == j->end)
		return 0;
	j->p++;
	return 1;
}

/* Reads one digit or more. */
static int
judge_digits(Judge *j)
{
	if (j->p == j->end || *j->p < '0' || *j->p > '9')
		return 0;
	while (j->p < j->end && *j->p >= '0' && *j->p <= '9')
		j->p++;
	return 1;
}

/* Reads a number. */
static int
judge_number(Judge *j)
{
	if (j->p < j->end && *j->p == '-')
		j->p++;
	if (j->p < j->end && *j->p == '0')
		j->p++;
	else if (!judge_digits(j))
		return 0;
	if (j->p < j->end && *j->p == '.')
	{
		j->p++;
		if (!judge_digits(j))
			return 0;
	}
	if (j->p < j->end && (*j->p == 'e' || *j->p == 'E'))
	{
		j->p++;
		if (j->p < j->end && (*j->p == '+' || *j->p == '-'))
			j->p++;
		if (!judge_digits(j))
			return 0;
	}
	return 1;
}

static int	judge_value(Judge *j);

/* Reads an array or object; gives up where only its depth matters. */
static int
judge_container(Judge *j)
{
	int			object = (*j->p == '{');

	if (++j->depth > j->deepest)
		j->deepest = j->depth;
	if (j->depth > 5000)
		return 0;
	j->p++;
	skip_space(j);
	if (j->p < j->end && *j->p == (object ? '}' : ']'))
	{
		j->p++;
		j->depth--;
		return 1;
	}
	for (;;)
	{
		skip_space(j);
		if (object)
		{
			if (!judge_string(j))
				return 0;
			skip_space(j);
			if (j->p == j->end || *j->p++ != ':')
				return 0;
		}
		if (!judge_value(j))
			return 0;
		skip_space(j);
		if (j->p == j->end)
			return 0;
		if (*j->p == (object ? '}' : ']'))
		{
			j->p++;
			j->depth--;
			return 1;
		}
		if (*j->p++ != ',')
			return 0;
	}
}

/* Reads a value. */
static int
judge_value(Judge *j)
{
	skip_space(j);
	if (j->p == j->end)
		return 0;
	if (*j->p == '{' || *j->p == '[')
		return judge_container(j);
	if (*j->p == '"')
		return judge_string(j);
	for (int i = 0; i < 3; i++)
	{
		const char *word = i == 0 ? "true" : i == 1 ? "false" : "null";
		size_t		len = strlen(word);

		if ((size_t) (j->end - j->p) >= len && memcmp(j->p, word, len) == 0)
		{
			j->p += len;
			return 1;
		}
	}
	return judge_number(j);
}

/* Stops the fuzzer unless something holds. */
static void
require(int ok)
{
	if (!ok)
		__builtin_trap();
}

/* Resolves a string's escapes into memory of just the right size. */
static char *
plain_string(const KsJsonToken *token, size_t *len, KsJsonTextStatus *status)
{
	char	   *exact = malloc(token->len - 2);

	*status = ks_json_unescape(token->str + 1, token->len - 2, exact, len);
	return exact;
}

/* Follows a path the slow way, with the iterators; the last field counts. */
static KsJsonToken
follow(KsJsonToken value, const KsJsonStep *step, int count)
{
	KsJsonToken missing = {KS_JSON_MISSING, false, NULL, 0};
	KsJsonToken found = missing;
	KsJsonIter	iter;
	KsJsonToken key;
	KsJsonToken item;

	if (count == 0)
		return value;
	if (value.kind != (step->name ? KS_JSON_OBJECT : KS_JSON_ARRAY))
		return missing;
	ks_json_iter_init(&iter, &value);
	if (step->name == NULL)
	{
		for (long i = 0; ks_json_next_element(&iter, &item); i++)
			if (i == step->index)
				found = item;
	}
	else
	{
		while (ks_json_next_field(&iter, &key, &item))
		{
			KsJsonTextStatus status;
			size_t		len;
			char	   *name = plain_string(&key, &len, &status);

			if (status == KS_JSON_TEXT_OK && len == step->len && memcmp(name, step->name, len) == 0)
				found = item;
			free(name);
		}
	}
	return found.kind == KS_JSON_MISSING ? missing : follow(found, step + 1, count - 1);
}

/* Visits a value and everything in it with the iterators. */
static void
visit(const KsJsonToken *value)
{
	KsJsonIter	iter;
	KsJsonToken key;
	KsJsonToken item;
	Judge		j = {(const unsigned char *) value->str, (const unsigned char *) value->str + value->len, 0, 0};

	require(judge_value(&j) && j.p == j.end);
	if (value->kind == KS_JSON_STRING)
	{
		KsJsonTextStatus status;
		size_t		len;

		free(plain_string(value, &len, &status));
	}
	if (value->kind != KS_JSON_ARRAY && value->kind != KS_JSON_OBJECT)
		return;
	ks_json_iter_init(&iter, value);
	if (value->kind == KS_JSON_ARRAY)
		while (ks_json_next_element(&iter, &item))
			visit(&item);
	else
		while (ks_json_next_field(&iter, &key, &item))
		{
			visit(&key);
			visit(&item);
		}
}

/* Makes the scanner with its paths. */
static void
set_up(void)
{
	static char names[NPATHS][64];
	const char *reason;

	scanner = ks_json_scanner_new();
	for (int i = 0; i < NPATHS; i++)
	{
		nsteps[i] = ks_json_path_parse(paths[i], steps[i], names[i], &reason);
		require(nsteps[i] > 0 && ks_json_scanner_add(scanner, steps[i], nsteps[i]) == i);
	}
}

/* One document. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	KsJsonToken root;
	KsJsonToken slots[NPATHS];
	KsJsonFault fault;
	KsJsonStatus status;
	Judge		j = {data, data + size, 0, 0};
	int			good;

	if (scanner == NULL)
		set_up();
	status = ks_json_scan(scanner, (const char *) data, size, &root, slots, &fault);
	good = judge_value(&j);
	skip_space(&j);
	good = good && j.p == j.end;
	if (j.deepest > KS_JSON_MAX_DEPTH)
	{
		require(status != KS_JSON_OK);
		return 0;
	}
	require(good == (status == KS_JSON_OK));
	if (!good)
	{
		require(status != KS_JSON_MALFORMED || (fault.reason != NULL && fault.offset <= size));
		return 0;
	}
	visit(&root);
	(void) ks_json_text_tame(root.str, root.len);
	for (int i = 0; i < NPATHS; i++)
	{
		KsJsonToken expected = {KS_JSON_MISSING, false, NULL, 0};

		if (root.kind == KS_JSON_OBJECT)
			expected = follow(root, steps[i], nsteps[i]);
		require(slots[i].kind == expected.kind);
		if (expected.kind != KS_JSON_MISSING)
			require(slots[i].str == expected.str && slots[i].len == expected.len);
	}
	return 0;
}
