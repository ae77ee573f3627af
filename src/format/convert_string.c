/*
 * convert_string.c
 *		Strings of records to the character types, bytea, uuid and enums.
 */
#include "postgres.h"

#include "base/compat.h"
#include "catalog/pg_enum.h"
#include "format/base64.h"
#include "format/convert_string.h"
#include "format/encoding.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/uuid.h"

/* Are these only spaces? */
static bool
all_spaces(const char *str, size_t len)
{
	for (size_t i = 0; i < len; i++)
	{
		if (str[i] != ' ')
			return false;
	}
	return true;
}

/*
 * Applies the length of varchar(n) or char(n) as an assignment does: spaces
 * beyond it are cut, anything else is an error.  Sets padding to the spaces
 * that char(n) lacks.
 */
static bool
apply_length(KsConverter *conv, const char *str, size_t *len, size_t *padding,
			 KsConversion *cv)
{
	size_t		limit = conv->typmod - VARHDRSZ;
	size_t		chars = *len;

	*padding = 0;
	if (*len > limit)
	{
		size_t		clipped = pg_mbcharcliplen(str, (int) *len, (int) limit);

		if (clipped < *len && !all_spaces(str + clipped, *len - clipped))
			return ks_conversion_fail(cv, ERRCODE_STRING_DATA_RIGHT_TRUNCATION,
									  "value too long for type %s",
									  format_type_with_typemod(conv->basetype, conv->typmod));
		if (clipped < *len)
		{
			*len = clipped;
			return true;
		}
	}
	if (conv->type == KS_TYPE_BPCHAR)
	{
		chars = pg_mbstrlen_with_len(str, (int) *len);
		if (chars < limit)
			*padding = limit - chars;
	}
	return true;
}

/* See convert_string.h. */
bool
ks_convert_character(KsConverter *conv, const char *str, size_t len, KsConversion *cv,
					 Datum *value)
{
	size_t		padding = 0;
	text	   *result;

	if (len > MaxAllocSize - VARHDRSZ - 1)
		return ks_conversion_fail(cv, ERRCODE_PROGRAM_LIMIT_EXCEEDED, "the value is too long");
	if (conv->type != KS_TYPE_TEXT && conv->typmod >= (int32) VARHDRSZ &&
		!apply_length(conv, str, &len, &padding, cv))
		return false;
	result = palloc(VARHDRSZ + len + padding);
	SET_VARSIZE(result, VARHDRSZ + len + padding);
	memcpy(VARDATA(result), str, len);
	if (padding > 0)
		memset(VARDATA(result) + len, ' ', padding);
	*value = PointerGetDatum(result);
	return true;
}

/* See convert_string.h. */
bool
ks_parse_hex_bytea(const char *str, size_t len, Datum *value)
{
	bytea	   *result;

	if (len < 2 || str[0] != '\\' || str[1] != 'x')
		return false;
	result = palloc(VARHDRSZ + len / 2);
	SET_VARSIZE(result, VARHDRSZ + (len - 2) / 2);
	*value = PointerGetDatum(result);
	return ks_hex_decode(str + 2, len - 2, (unsigned char *) VARDATA(result));
}

/* See convert_string.h. */
bool
ks_parse_bool(const char *str, size_t len, Datum *value)
{
	bool		result;

	if (!parse_bool_with_len(str, len, &result))
		return false;
	*value = BoolGetDatum(result);
	return true;
}

/* See convert_string.h. */
bool
ks_convert_json_bytea(const char *str, size_t len, KsConversion *cv, Datum *value)
{
	bytea	   *result;
	size_t		outlen;

	if (len >= 2 && str[0] == '\\' && str[1] == 'x')
		return ks_parse_hex_bytea(str, len, value) ||
			ks_conversion_fail(cv, ERRCODE_INVALID_TEXT_REPRESENTATION,
							   "invalid hexadecimal data for type bytea: %s",
							   ks_quote_excerpt(str, len));
	result = palloc(VARHDRSZ + len);
	if (!ks_base64_decode(str, len, (unsigned char *) VARDATA(result), &outlen))
		return ks_conversion_fail(cv, ERRCODE_INVALID_TEXT_REPRESENTATION,
								  "value for type bytea is neither \\x and hexadecimal digits nor base64: %s",
								  ks_quote_excerpt(str, len));
	SET_VARSIZE(result, VARHDRSZ + outlen);
	*value = PointerGetDatum(result);
	return true;
}

/* See convert_string.h. */
bool
ks_convert_enum(KsConverter *conv, const char *str, size_t len, KsConversion *cv,
				Datum *value)
{
	char		label[NAMEDATALEN];

	if (len < NAMEDATALEN && memchr(str, '\0', len) == NULL)
	{
		memcpy(label, str, len);
		label[len] = '\0';
		if (SearchSysCacheExists2(ENUMTYPOIDNAME, ObjectIdGetDatum(conv->basetype),
								  CStringGetDatum(label)))
		{
			/* what can fail now is no fault of the record: no guard */
			*value = InputFunctionCall(&conv->input, label, conv->ioparam, conv->typmod);
			return true;
		}
	}
	return ks_conversion_fail(cv, ERRCODE_INVALID_TEXT_REPRESENTATION,
							  "invalid input value for enum %s: %s",
							  format_type_be(conv->basetype), ks_quote_excerpt(str, len));
}

/* See convert_string.h. */
bool
ks_parse_uuid(const char *str, size_t len, Datum *value)
{
	static const struct
	{
		int			text;
		int			bytes;
	}			groups[] = {{0, 4}, {9, 2}, {14, 2}, {19, 2}, {24, 6}};
	pg_uuid_t	uuid;
	unsigned char *out = uuid.data;
	pg_uuid_t  *result;

	if (len != 36 || str[8] != '-' || str[13] != '-' || str[18] != '-' || str[23] != '-')
		return false;
	for (int i = 0; i < lengthof(groups); i++)
	{
		if (!ks_hex_decode(str + groups[i].text, groups[i].bytes * 2, out))
			return false;
		out += groups[i].bytes;
	}
	result = palloc(sizeof(pg_uuid_t));
	*result = uuid;
	*value = UUIDPGetDatum(result);
	return true;
}
