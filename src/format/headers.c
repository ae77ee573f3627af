/*
 * headers.c
 *		Headers of a record as a jsonb object: name to text.
 *
 * Of repeated names the last one counts (jsonb sees to that).  What is not text
 * that the database can hold is given as base64; a header without a value is
 * null.
 */
#include "postgres.h"

#include "format/base64.h"
#include "format/decode.h"
#include "format/encoding.h"
#include "utils/jsonb.h"

/* Makes a string for jsonb from bytes. */
static void
set_string(JsonbValue *value, const char *bytes, size_t len)
{
	const char *str;
	size_t		strlength;

	value->type = jbvString;
	if (ks_utf8_valid(bytes, len) && ks_utf8_to_server(bytes, len, &str, &strlength))
	{
		value->val.string.val = unconstify(char *, str);
		value->val.string.len = (int) strlength;
		return;
	}
	value->val.string.len = (int) KS_BASE64_LENGTH(len);
	value->val.string.val = palloc(value->val.string.len + 1);
	ks_base64_encode((const unsigned char *) bytes, len, value->val.string.val);
}

/* See decode.h. */
Datum
ks_decode_headers(const KsRecord *rec, bool *isnull)
{
	JsonbParseState *state = NULL;
	JsonbValue	item;
	JsonbValue *object;

	*isnull = (rec->nheaders == 0);
	if (*isnull)
		return (Datum) 0;
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < rec->nheaders; i++)
	{
		const KsHeader *header = &rec->headers[i];

		set_string(&item, header->name, strlen(header->name));
		pushJsonbValue(&state, WJB_KEY, &item);
		if (header->value != NULL)
			set_string(&item, header->value, header->len);
		else
			item.type = jbvNull;
		pushJsonbValue(&state, WJB_VALUE, &item);
	}
	object = pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	return JsonbPGetDatum(JsonbValueToJsonb(object));
}
