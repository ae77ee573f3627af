/*
 * convert.c
 *		Tokens and pieces of text to values of a type.
 *
 * Common types have a way of their own that cannot raise an error; whatever
 * that does not take, and all other types, goes through the type's input
 * function under a guard (guard.c).  A domain is converted as its base type
 * and checked afterwards.
 *
 * There are two kinds of text.  A string of a JSON document and a field of csv
 * differ only for bytea, where JSON has base64 besides hexadecimal, and for
 * json and jsonb, where the JSON document is taken as it is.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "format/convert.h"
#include "format/convert_datetime.h"
#include "format/convert_json.h"
#include "format/convert_nested.h"
#include "format/convert_number.h"
#include "format/convert_string.h"
#include "format/encoding.h"
#include "format/json_text.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

/* The way for a base type, from its OID or kind. */
static KsTypeClass
classify_type(Oid basetype)
{
	switch (basetype)
	{
		case BOOLOID:
			return KS_TYPE_BOOL;
		case INT2OID:
			return KS_TYPE_INT2;
		case INT4OID:
			return KS_TYPE_INT4;
		case INT8OID:
			return KS_TYPE_INT8;
		case FLOAT4OID:
			return KS_TYPE_FLOAT4;
		case FLOAT8OID:
			return KS_TYPE_FLOAT8;
		case NUMERICOID:
			return KS_TYPE_NUMERIC;
		case TEXTOID:
			return KS_TYPE_TEXT;
		case VARCHAROID:
			return KS_TYPE_VARCHAR;
		case BPCHAROID:
			return KS_TYPE_BPCHAR;
		case BYTEAOID:
			return KS_TYPE_BYTEA;
		case UUIDOID:
			return KS_TYPE_UUID;
		case DATEOID:
			return KS_TYPE_DATE;
		case TIMESTAMPOID:
			return KS_TYPE_TIMESTAMP;
		case TIMESTAMPTZOID:
			return KS_TYPE_TIMESTAMPTZ;
		case JSONOID:
			return KS_TYPE_JSON;
		case JSONBOID:
			return KS_TYPE_JSONB;
		default:
			break;
	}
	if (OidIsValid(get_base_element_type(basetype)))
		return KS_TYPE_ARRAY;
	switch (get_typtype(basetype))
	{
		case TYPTYPE_COMPOSITE:
			return KS_TYPE_COMPOSITE;
		case TYPTYPE_ENUM:
			return KS_TYPE_ENUM;
		default:
			return KS_TYPE_INPUT;
	}
}

/*
 * Does the input function of the type report all errors softly (from 16 on)?
 * Says no for types of extensions, arrays and composites, whose parts may not.
 */
static bool
input_is_soft(KsTypeClass type, Oid basetype)
{
	switch (type)
	{
		case KS_TYPE_ARRAY:
		case KS_TYPE_COMPOSITE:
			return false;
		case KS_TYPE_INPUT:
			return basetype == TIMEOID || basetype == TIMETZOID ||
				basetype == INTERVALOID || basetype == INETOID || basetype == CIDROID ||
				basetype == MACADDROID || basetype == NAMEOID || basetype == OIDOID ||
				basetype == BITOID || basetype == VARBITOID || basetype == POINTOID;
		default:
			return true;
	}
}

/* Are there times in a value of the type, so that its text may say 'now'? */
static bool
may_name_clock(Oid type)
{
	Oid			inside = get_base_element_type(type);

	type = getBaseType(type);
	if (type == DATEOID || type == TIMEOID || type == TIMETZOID || type == TIMESTAMPOID || type == TIMESTAMPTZOID)
		return true;
	if (!OidIsValid(inside) && type_is_range(type))
		inside = get_range_subtype(type);
	if (!OidIsValid(inside) && type_is_multirange(type))
		inside = get_range_subtype(get_multirange_range(type));
	return OidIsValid(inside) && may_name_clock(inside);
}

/* See convert.h. */
KsConverter *
ks_converter_create(Oid typid, int32 typmod)
{
	KsConverter *conv = palloc0(sizeof(KsConverter));
	Oid			function;

	conv->typid = typid;
	conv->typmod = typmod;
	conv->basetype = getBaseTypeAndTypmod(typid, &conv->typmod);
	conv->domain = (conv->basetype != typid);
	conv->type = classify_type(conv->basetype);
	conv->trusted = input_is_soft(conv->type, conv->basetype);
	conv->clocked = may_name_clock(conv->basetype);
	conv->context = CurrentMemoryContext;
	getTypeInputInfo(conv->basetype, &function, &conv->ioparam);
	fmgr_info(function, &conv->input);
	if (conv->type == KS_TYPE_ARRAY || conv->type == KS_TYPE_COMPOSITE)
		ks_converter_init_nested(conv);
	return conv;
}

/* See convert.h. */
bool
ks_conversion_fail(KsConversion *cv, int sqlstate, const char *fmt,...)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (;;)
	{
		va_list		args;
		int			needed;

		va_start(args, fmt);
		needed = appendStringInfoVA(&buf, fmt, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&buf, needed);
	}
	cv->sqlstate = sqlstate;
	cv->message = buf.data;
	cv->path = "";
	return false;
}

/* See convert.h. */
void
ks_conversion_step(KsConversion *cv, const char *fmt,...)
{
	char		step[NAMEDATALEN + 32];
	va_list		args;

	va_start(args, fmt);
	vsnprintf(step, sizeof(step), fmt, args);
	va_end(args);
	cv->path = psprintf("%s%s", step, cv->path);
}

/* See convert.h. */
bool
ks_convert_invalid(KsConverter *conv, const char *str, size_t len, KsConversion *cv)
{
	return ks_conversion_fail(cv, ERRCODE_INVALID_TEXT_REPRESENTATION,
							  "invalid input syntax for type %s: %s",
							  format_type_be(conv->basetype), ks_quote_excerpt(str, len));
}

/* Text of a record in the encoding of the database; false if that cannot be. */
static bool
to_server(const char **str, size_t *len, KsConversion *cv)
{
	const char *utf8 = *str;
	size_t		utf8len = *len;

	if (ks_utf8_to_server(utf8, utf8len, str, len))
		return true;
	return ks_conversion_fail(cv, ERRCODE_UNTRANSLATABLE_CHARACTER,
							  "text has characters without equivalent in the encoding of the database: %s",
							  ks_quote_excerpt(utf8, utf8len));
}

/* See convert.h. */
bool
ks_convert_input(KsConverter *conv, const char *str, size_t len, KsConversion *cv,
				 Datum *value)
{
	int			sqlstate;
	char	   *message;
	char	   *copy;
	bool		ok;

	if (len >= MaxAllocSize)
		return ks_conversion_fail(cv, ERRCODE_PROGRAM_LIMIT_EXCEEDED, "the value is too long");
	if (conv->clocked && ks_names_clock(str, len))
		return ks_conversion_fail(cv, ERRCODE_INVALID_DATETIME_FORMAT,
								  "invalid input for type %s: %s depends on when it is read",
								  format_type_be(conv->basetype), ks_quote_excerpt(str, len));
	copy = pnstrdup(str, len);
	ok = ks_guard_input(&cv->guard, &conv->input, copy, conv->ioparam, conv->typmod,
						conv->trusted, value, &sqlstate, &message);
	pfree(copy);
	if (!ok)
		return ks_conversion_fail(cv, sqlstate, "%s", message);
	return true;
}

/* A constraint check of a domain, for ks_guard_run. */
typedef struct DomainCheck
{
	KsConverter *conv;
	Datum		value;
	bool		isnull;
} DomainCheck;

/* Makes the check. */
static void
check_domain_guarded(void *arg)
{
	DomainCheck *check = arg;

	domain_check(check->value, check->isnull, check->conv->typid,
				 &check->conv->domain_cache, check->conv->context);
}

/* Checks a value of the base type against the constraints of the domain. */
static bool
check_domain(KsConverter *conv, Datum value, bool isnull, KsConversion *cv)
{
	DomainCheck check = {conv, value, isnull};
	int			sqlstate;
	char	   *message;

	if (!conv->domain || !DomainHasConstraints(conv->typid))
		return true;
	if (ks_guard_run(&cv->guard, check_domain_guarded, &check, &sqlstate, &message))
		return true;
	return ks_conversion_fail(cv, sqlstate, "%s", message);
}

/* See convert.h. */
bool
ks_convert_null(KsConverter *conv, KsConversion *cv)
{
	return check_domain(conv, (Datum) 0, true, cv);
}

/* Takes a string through the type's own way or its input function. */
static bool
convert_string(KsConverter *conv, const char *str, size_t len, KsConversion *cv,
			   Datum *value)
{
	if (!to_server(&str, &len, cv))
		return false;
	switch (conv->type)
	{
		case KS_TYPE_TEXT:
		case KS_TYPE_VARCHAR:
		case KS_TYPE_BPCHAR:
			return ks_convert_character(conv, str, len, cv, value);
		case KS_TYPE_UUID:
			if (ks_parse_uuid(str, len, value))
				return true;
			break;
		case KS_TYPE_BOOL:
			if (ks_parse_bool(str, len, value))
				return true;
			break;
		case KS_TYPE_INT2:
		case KS_TYPE_INT4:
		case KS_TYPE_INT8:
			if (ks_parse_plain_int(conv->type, str, len, value))
				return true;
			break;
		case KS_TYPE_FLOAT4:
		case KS_TYPE_FLOAT8:
		case KS_TYPE_NUMERIC:
			if (ks_json_number_valid(str, len))
				return ks_convert_number(conv, str, len, cv, value);
			break;
		case KS_TYPE_BYTEA:
			if (ks_parse_hex_bytea(str, len, value))
				return true;
			break;
		case KS_TYPE_DATE:
		case KS_TYPE_TIMESTAMP:
		case KS_TYPE_TIMESTAMPTZ:
			if (ks_parse_iso_datetime(conv, str, len, value))
				return true;
			break;
		case KS_TYPE_ENUM:
			return ks_convert_enum(conv, str, len, cv, value);
		default:
			break;
	}
	return ks_convert_input(conv, str, len, cv, value);
}

/* A JSON string without quotes and escapes; palloc'd if it had some. */
static bool
unescape_string(const KsJsonToken *token, KsConversion *cv, const char **str, size_t *len)
{
	char	   *plain;

	*str = token->str + 1;
	*len = token->len - 2;
	if (!token->escaped)
		return true;
	plain = palloc(*len);
	switch (ks_json_unescape(*str, *len, plain, len))
	{
		case KS_JSON_TEXT_OK:
			*str = plain;
			return true;
		case KS_JSON_TEXT_NUL:
			return ks_conversion_fail(cv, ERRCODE_UNTRANSLATABLE_CHARACTER,
									  "\\u0000 cannot be converted to text");
		default:
			return ks_conversion_fail(cv, ERRCODE_INVALID_TEXT_REPRESENTATION,
									  "invalid Unicode surrogate pair in string %s",
									  ks_quote_excerpt(token->str, token->len));
	}
}

/* Converts a JSON string. */
static bool
convert_json_string(KsConverter *conv, const KsJsonToken *token, KsConversion *cv,
					Datum *value)
{
	const char *str;
	size_t		len;

	if (!unescape_string(token, cv, &str, &len))
		return false;
	if (conv->type == KS_TYPE_BYTEA)
		return ks_convert_json_bytea(str, len, cv, value);
	return convert_string(conv, str, len, cv, value);
}

/* Converts a JSON number. */
static bool
convert_json_number(KsConverter *conv, const KsJsonToken *token, KsConversion *cv,
					Datum *value)
{
	switch (conv->type)
	{
		case KS_TYPE_INT2:
		case KS_TYPE_INT4:
		case KS_TYPE_INT8:
		case KS_TYPE_FLOAT4:
		case KS_TYPE_FLOAT8:
		case KS_TYPE_NUMERIC:
			return ks_convert_number(conv, token->str, token->len, cv, value);
		case KS_TYPE_TIMESTAMP:
		case KS_TYPE_TIMESTAMPTZ:
			return ks_convert_epoch(conv, token->str, token->len, cv, value);
		case KS_TYPE_DATE:
		case KS_TYPE_BYTEA:
		case KS_TYPE_ARRAY:
		case KS_TYPE_COMPOSITE:
			return ks_convert_invalid(conv, token->str, token->len, cv);
		default:
			return convert_string(conv, token->str, token->len, cv, value);
	}
}

/* Converts true and false. */
static bool
convert_json_bool(KsConverter *conv, const KsJsonToken *token, KsConversion *cv,
				  Datum *value)
{
	switch (conv->type)
	{
		case KS_TYPE_BOOL:
			*value = BoolGetDatum(token->kind == KS_JSON_TRUE);
			return true;
		case KS_TYPE_TEXT:
		case KS_TYPE_VARCHAR:
		case KS_TYPE_BPCHAR:
		case KS_TYPE_ENUM:
		case KS_TYPE_INPUT:
			return convert_string(conv, token->str, token->len, cv, value);
		default:
			return ks_convert_invalid(conv, token->str, token->len, cv);
	}
}

/* Converts an array or object. */
static bool
convert_json_container(KsConverter *conv, const KsJsonToken *token, KsConversion *cv,
					   Datum *value)
{
	switch (conv->type)
	{
		case KS_TYPE_ARRAY:
			if (token->kind == KS_JSON_ARRAY)
				return ks_convert_array(conv, token, cv, value);
			return ks_convert_invalid(conv, token->str, token->len, cv);
		case KS_TYPE_COMPOSITE:
			if (token->kind == KS_JSON_OBJECT)
				return ks_convert_composite(conv, token, cv, value);
			return ks_convert_invalid(conv, token->str, token->len, cv);
		case KS_TYPE_TEXT:
		case KS_TYPE_VARCHAR:
		case KS_TYPE_BPCHAR:
		case KS_TYPE_INPUT:
			return convert_string(conv, token->str, token->len, cv, value);
		default:
			return ks_convert_invalid(conv, token->str, token->len, cv);
	}
}

/* Converts a token to the base type. */
static bool
convert_json_base(KsConverter *conv, const KsJsonToken *token, KsConversion *cv,
				  Datum *value)
{
	if (conv->type == KS_TYPE_JSON || conv->type == KS_TYPE_JSONB)
	{
		const char *str = token->str;
		size_t		len = token->len;

		return to_server(&str, &len, cv) && ks_convert_document(conv, str, len, cv, value);
	}
	switch (token->kind)
	{
		case KS_JSON_STRING:
			return convert_json_string(conv, token, cv, value);
		case KS_JSON_NUMBER:
			return convert_json_number(conv, token, cv, value);
		case KS_JSON_TRUE:
		case KS_JSON_FALSE:
			return convert_json_bool(conv, token, cv, value);
		default:
			return convert_json_container(conv, token, cv, value);
	}
}

/* See convert.h. */
bool
ks_convert_json(KsConverter *conv, const KsJsonToken *token, KsConversion *cv,
				Datum *value, bool *isnull)
{
	*isnull = (token->kind == KS_JSON_MISSING || token->kind == KS_JSON_NULL);
	*value = (Datum) 0;
	if (!*isnull && !convert_json_base(conv, token, cv, value))
		return false;
	return !conv->domain || check_domain(conv, *value, *isnull, cv);
}

/* See convert.h. */
bool
ks_convert_text(KsConverter *conv, const char *str, size_t len, KsConversion *cv,
				Datum *value, bool *isnull)
{
	*isnull = (str == NULL);
	*value = (Datum) 0;
	if (!*isnull && !convert_string(conv, str, len, cv, value))
		return false;
	return !conv->domain || check_domain(conv, *value, *isnull, cv);
}

/* See convert.h. */
bool
ks_convert_bytes(KsConverter *conv, const char *bytes, size_t len, KsConversion *cv,
				 Datum *value, bool *isnull)
{
	*isnull = false;
	*value = PointerGetDatum(cstring_to_text_with_len(bytes, (int) len));
	return !conv->domain || check_domain(conv, *value, false, cv);
}

/* See convert.h. */
bool
ks_convert_int64(KsConverter *conv, int64 number, KsConversion *cv, Datum *value,
				 bool *isnull)
{
	char		digits[MAXINT8LEN + 1];
	int			len = pg_lltoa(number, digits);
	KsJsonToken token = {KS_JSON_NUMBER, false, digits, len};

	return ks_convert_json(conv, &token, cv, value, isnull);
}
