/*
 * convert_nested.c
 *		JSON arrays and objects to arrays and composite types.
 *
 * How deep this recurses is bounded by the type, not by the document: a level
 * for each dimension of an array, and composite types cannot hold themselves.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "format/convert_nested.h"
#include "format/encoding.h"
#include "format/json_text.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

/* Arrays from longer text may become too large, which is an error of the server's. */
#define SAFE_LENGTH (1024 * 1024)

/* Makes the converters of the attributes of a composite type. */
static void
init_composite(KsConverter *conv)
{
	conv->desc = lookup_rowtype_tupdesc_copy(conv->basetype, conv->typmod);
	conv->fields = palloc0(sizeof(KsConverter *) * conv->desc->natts);
	for (int i = 0; i < conv->desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(conv->desc, i);

		if (att->attisdropped)
			continue;
		conv->fields[i] = ks_converter_create(att->atttypid, att->atttypmod);
		conv->clocked |= conv->fields[i]->clocked;
	}
}

/* See convert_nested.h. */
void
ks_converter_init_nested(KsConverter *conv)
{
	Oid			elemtype;

	if (conv->type == KS_TYPE_COMPOSITE)
	{
		init_composite(conv);
		return;
	}
	elemtype = get_element_type(conv->basetype);
	conv->element = ks_converter_create(elemtype, conv->typmod);
	conv->clocked = conv->element->clocked;
	get_typlenbyvalalign(elemtype, &conv->elmlen, &conv->elmbyval, &conv->elmalign);
}

/* An array in the making. */
typedef struct ArrayBuild
{
	KsConverter *conv;
	KsConversion *cv;
	int			ndims;
	int			dims[MAXDIM];	/* -1: not known yet */
	int			lower[MAXDIM];
	int			count;
	int			capacity;
	Datum	   *values;
	bool	   *nulls;
	Datum		result;
} ArrayBuild;

/*
 * Number of dimensions, by looking at the first element, its first element and
 * so on.  Elements that can be JSON arrays themselves leave it at one.
 */
static int
count_dimensions(KsConverter *element, const KsJsonToken *token)
{
	KsJsonToken first = *token;
	int			ndims = 0;

	if (element->type == KS_TYPE_JSON || element->type == KS_TYPE_JSONB ||
		element->type == KS_TYPE_ARRAY)
		return 1;
	while (first.kind == KS_JSON_ARRAY && ndims <= MAXDIM)
	{
		KsJsonIter	iter;

		ndims++;
		ks_json_iter_init(&iter, &first);
		if (!ks_json_next_element(&iter, &first))
			break;
	}
	return ndims;
}

/* Appends an element. */
static bool
append_element(ArrayBuild *build, const KsJsonToken *token)
{
	if (build->count == build->capacity)
	{
		build->capacity = build->capacity == 0 ? 16 : build->capacity * 2;
		if (build->capacity * sizeof(Datum) > MaxAllocSize)
			return ks_conversion_fail(build->cv, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
									  "the array has too many elements");
		if (build->count == 0)
		{
			build->values = palloc(build->capacity * sizeof(Datum));
			build->nulls = palloc(build->capacity * sizeof(bool));
		}
		else
		{
			build->values = repalloc(build->values, build->capacity * sizeof(Datum));
			build->nulls = repalloc(build->nulls, build->capacity * sizeof(bool));
		}
	}
	if (!ks_convert_json(build->conv->element, token, build->cv,
						 &build->values[build->count], &build->nulls[build->count]))
		return false;
	build->count++;
	return true;
}

/* Fails because arrays of one dimension differ. */
static bool
fail_dimensions(ArrayBuild *build)
{
	return ks_conversion_fail(build->cv, ERRCODE_INVALID_TEXT_REPRESENTATION,
							  "multidimensional arrays must have sub-arrays with matching dimensions");
}

/* Appends the elements of one JSON array, which is at the given dimension. */
static bool
append_level(ArrayBuild *build, const KsJsonToken *token, int level)
{
	KsJsonIter	iter;
	KsJsonToken item;
	int			count = 0;

	ks_json_iter_init(&iter, token);
	for (; ks_json_next_element(&iter, &item); count++)
	{
		bool		ok;

		if (level + 1 == build->ndims)
			ok = append_element(build, &item);
		else if (item.kind == KS_JSON_ARRAY)
			ok = append_level(build, &item, level + 1);
		else
			ok = fail_dimensions(build);
		if (!ok)
		{
			ks_conversion_step(build->cv, "[%d]", count);
			return false;
		}
	}
	if (build->dims[level] < 0)
		build->dims[level] = count;
	return build->dims[level] == count || fail_dimensions(build);
}

/* Puts the array together, for ks_guard_run. */
static void
finish_array(void *arg)
{
	ArrayBuild *build = arg;
	KsConverter *conv = build->conv;
	ArrayType  *array;

	if (build->count == 0)
		array = construct_empty_array(conv->element->typid);
	else
		array = construct_md_array(build->values, build->nulls, build->ndims, build->dims,
								   build->lower, conv->element->typid, conv->elmlen,
								   conv->elmbyval, conv->elmalign);
	build->result = PointerGetDatum(array);
}

/* See convert_nested.h. */
bool
ks_convert_array(KsConverter *conv, const KsJsonToken *token, KsConversion *cv, Datum *value)
{
	ArrayBuild	build = {.conv = conv, .cv = cv};

	build.ndims = count_dimensions(conv->element, token);
	if (build.ndims > MAXDIM)
		return ks_conversion_fail(cv, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
								  "number of array dimensions exceeds the maximum allowed (%d)",
								  MAXDIM);
	for (int i = 0; i < MAXDIM; i++)
	{
		build.dims[i] = -1;
		build.lower[i] = 1;
	}
	if (!append_level(&build, token, 0))
		return false;
	if (token->len <= SAFE_LENGTH)
		finish_array(&build);
	else
	{
		int			sqlstate;
		char	   *message;

		if (!ks_guard_run(&cv->guard, finish_array, &build, &sqlstate, &message))
			return ks_conversion_fail(cv, sqlstate, "%s", message);
	}
	*value = build.result;
	return true;
}

/* Does a key of the document name the attribute? */
static bool
key_is_name(const KsJsonToken *key, const char *name)
{
	const char *str = key->str + 1;
	size_t		len = key->len - 2;
	const char *utf8;
	size_t		utf8len;

	if (key->escaped)
	{
		char	   *plain = palloc(len + 1);

		if (ks_json_unescape(str, len, plain, &len) != KS_JSON_TEXT_OK)
			return false;
		str = plain;
	}
	utf8 = ks_server_to_utf8(name, strlen(name), &utf8len);
	return len == utf8len && memcmp(str, utf8, len) == 0;
}

/*
 * The attribute that a key names, or -1.  Starts to look at the given one,
 * since fields mostly come in order.
 */
static int
find_attribute(KsConverter *conv, const KsJsonToken *key, int start)
{
	int			natts = conv->desc->natts;

	for (int i = 0; i < natts; i++)
	{
		int			n = (start + i) % natts;

		if (conv->fields[n] != NULL &&
			key_is_name(key, NameStr(TupleDescAttr(conv->desc, n)->attname)))
			return n;
	}
	return -1;
}

/* See convert_nested.h. */
bool
ks_convert_composite(KsConverter *conv, const KsJsonToken *token, KsConversion *cv,
					 Datum *value)
{
	int			natts = conv->desc->natts;
	KsJsonToken *tokens = palloc0(sizeof(KsJsonToken) * Max(natts, 1));
	Datum	   *values = palloc0(sizeof(Datum) * Max(natts, 1));
	bool	   *nulls = palloc(sizeof(bool) * Max(natts, 1));
	KsJsonIter	iter;
	KsJsonToken key;
	KsJsonToken item;
	int			last = -1;

	ks_json_iter_init(&iter, token);
	while (natts > 0 && ks_json_next_field(&iter, &key, &item))
	{
		int			n = find_attribute(conv, &key, last + 1);

		if (n >= 0)
			tokens[last = n] = item;
	}
	for (int i = 0; i < natts; i++)
	{
		nulls[i] = true;
		if (conv->fields[i] != NULL &&
			!ks_convert_json(conv->fields[i], &tokens[i], cv, &values[i], &nulls[i]))
		{
			ks_conversion_step(cv, ".%s", NameStr(TupleDescAttr(conv->desc, i)->attname));
			return false;
		}
	}
	*value = HeapTupleGetDatum(heap_form_tuple(conv->desc, values, nulls));
	return true;
}
