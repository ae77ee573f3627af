/*
 * convert_json.c
 *		JSON documents, or parts of them, to json and jsonb.
 *
 * jsonb is made by the server's own jsonb_in.  What can make that fail is known
 * (escapes without a character, numbers beyond numeric, nesting beyond the
 * stack), so a document free of all that needs no guard.
 */
#include "postgres.h"

#include "format/convert_json.h"
#include "format/json_text.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/* See convert_json.h. */
bool
ks_convert_document(KsConverter *conv, const char *str, size_t len, KsConversion *cv,
					Datum *value)
{
	char	   *copy;

	if (!ks_json_text_tame(str, len))
		return ks_convert_input(conv, str, len, cv, value);
	if (conv->type == KS_TYPE_JSON)
	{
		*value = PointerGetDatum(cstring_to_text_with_len(str, (int) len));
		return true;
	}
	copy = pnstrdup(str, len);
	*value = InputFunctionCall(&conv->input, copy, conv->ioparam, conv->typmod);
	pfree(copy);
	return true;
}
