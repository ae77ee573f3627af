/*
 * encode.c
 *		Typed column values to record bytes, by the formats of a stream.
 *
 * Text is first written in the encoding of the database and made UTF-8 as a
 * whole, because escaping is a matter of ASCII only.
 */
#include "postgres.h"

#include "base/compat.h"
#include "catalog/pg_type.h"
#include "format/encode.h"
#include "format/encode_path.h"
#include "format/encoding.h"
#include "format/json_write.h"
#include "format/scanner.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/lsyscache.h"

/* Makes what was appended from the given position on UTF-8. */
static void
finish_text(StringInfo buf, int start)
{
	const char *str = buf->data + start;
	size_t		len;
	const char *utf8 = ks_server_to_utf8(str, buf->len - start, &len);

	if (utf8 == str)
		return;
	buf->len = start;
	appendBinaryStringInfo(buf, utf8, (int) len);
}

/* Appends a column, NULL as null. */
static void
write_nullable(StringInfo buf, Datum value, bool isnull, Oid typid)
{
	if (isnull)
		appendStringInfoString(buf, "null");
	else
		ks_write_json(buf, value, typid);
}

/* Appends the object of ks_encode_json. */
static void
write_row(StringInfo buf, TupleDesc desc, const Datum *values, const bool *nulls,
		  const bool *include)
{
	const char *separator = "{";

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (att->attisdropped || (include != NULL && !include[i]))
			continue;
		appendStringInfoString(buf, separator);
		separator = ",";
		escape_json(buf, NameStr(att->attname));
		appendStringInfoChar(buf, ':');
		write_nullable(buf, values[i], nulls[i], att->atttypid);
	}
	appendStringInfoString(buf, separator[0] == '{' ? "{}" : "}");
}

/* See encode.h. */
void
ks_encode_json(StringInfo buf, TupleDesc desc, const Datum *values, const bool *nulls,
			   const bool *include)
{
	KsOutputSettings saved;
	int			start = buf->len;

	ks_output_begin(&saved);
	PG_TRY();
	{
		write_row(buf, desc, values, nulls, include);
	}
	PG_FINALLY();
	{
		ks_output_end(&saved);
	}
	PG_END_TRY();
	finish_text(buf, start);
}

/* Is the column one of the record value? */
static inline bool
in_value(const KsColumnDef *column)
{
	return column->kind == KS_COL_VALUE || column->kind == KS_COL_KEY;
}

/* Appends a field of csv, in quotes where they are needed. */
static void
write_csv_field(StringInfo buf, const char *str)
{
	if (str[0] != '\0' && strpbrk(str, ",\"\r\n") == NULL)
	{
		appendStringInfoString(buf, str);
		return;
	}
	appendStringInfoChar(buf, '"');
	for (; *str != '\0'; str++)
	{
		if (*str == '"')
			appendStringInfoChar(buf, '"');
		appendStringInfoChar(buf, *str);
	}
	appendStringInfoChar(buf, '"');
}

/* Appends a line of csv. */
static void
write_csv(StringInfo buf, const KsStreamDef *def, const Datum *values, const bool *nulls)
{
	bool		first = true;

	for (int i = 0; i < def->natts; i++)
	{
		StringInfoData field;

		if (!in_value(&def->columns[i]))
			continue;
		if (!first)
			appendStringInfoChar(buf, ',');
		first = false;
		if (nulls[i])
			continue;
		initStringInfo(&field);
		ks_write_text(&field, values[i], def->columns[i].typid);
		write_csv_field(buf, field.data);
		pfree(field.data);
	}
}

/* Appends bytes of a bytea. */
static void
write_bytes(StringInfo buf, Datum value)
{
	bytea	   *bytes = DatumGetByteaPP(value);

	appendBinaryStringInfo(buf, VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
}

/* The one value column of formats with one value. */
static const KsColumnDef *
single_column(const KsStreamDef *def)
{
	for (int i = 0; i < def->natts; i++)
	{
		if (def->columns[i].kind == KS_COL_VALUE)
			return &def->columns[i];
	}
	elog(ERROR, "stream %s has no value column", def->relname);
}

/* Appends the record value; false if there is none. */
static bool
write_value(StringInfo buf, const KsStreamDef *def, const Datum *values, const bool *nulls)
{
	const KsColumnDef *column;

	if (def->format == KS_FORMAT_JSON)
	{
		ks_write_paths(buf, def, values, nulls);
		return true;
	}
	if (def->format == KS_FORMAT_CSV)
	{
		write_csv(buf, def, values, nulls);
		return true;
	}
	column = single_column(def);
	if (nulls[column->attnum - 1])
		return false;
	if (def->format == KS_FORMAT_BYTEA)
		write_bytes(buf, values[column->attnum - 1]);
	else if (def->format == KS_FORMAT_JSONB)
		ks_write_json(buf, values[column->attnum - 1], column->typid);
	else
		ks_write_text(buf, values[column->attnum - 1], column->typid);
	return true;
}

/* See encode.h. */
bool
ks_encode_value(StringInfo buf, const KsStreamDef *def, const Datum *values,
				const bool *nulls)
{
	KsOutputSettings saved;
	int			start = buf->len;
	volatile bool result = false;

	ks_output_begin(&saved);
	PG_TRY();
	{
		result = write_value(buf, def, values, nulls);
	}
	PG_FINALLY();
	{
		ks_output_end(&saved);
	}
	PG_END_TRY();
	if (def->format != KS_FORMAT_BYTEA)
		finish_text(buf, start);
	return result;
}

/* Appends a big-endian integer of the given size. */
static void
write_integer(StringInfo buf, int64 number, int size)
{
	if (size == 4 && (number < PG_INT32_MIN || number > PG_INT32_MAX))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("record key " INT64_FORMAT " is out of range for key format \"int\"",
						number)));
	for (int shift = (size - 1) * 8; shift >= 0; shift -= 8)
		appendStringInfoChar(buf, (char) ((uint64) number >> shift));
}

/* The integer that a text is; raises an error if it is none. */
static int64
parse_integer(const char *str)
{
	return DatumGetInt64(DirectFunctionCall1(int8in, CStringGetDatum(str)));
}

/* Appends a JSON key: the value of one column, or an object of several. */
static void
write_json_key(StringInfo buf, const KsStreamDef *def, const Datum *values,
			   const bool *nulls)
{
	if (def->nkeys == 1)
	{
		int			n = def->keys[0] - 1;

		ks_write_json(buf, values[n], def->columns[n].typid);
		return;
	}
	for (int i = 0; i < def->nkeys; i++)
	{
		int			n = def->keys[i] - 1;

		appendStringInfoChar(buf, i == 0 ? '{' : ',');
		escape_json(buf, def->columns[n].name);
		appendStringInfoChar(buf, ':');
		write_nullable(buf, values[n], nulls[n], def->columns[n].typid);
	}
	appendStringInfoChar(buf, '}');
}

/* Appends a record key, some column of which is not NULL. */
static void
write_key(StringInfo buf, const KsStreamDef *def, const Datum *values, const bool *nulls)
{
	int			n = def->keys[0] - 1;
	StringInfoData text;

	switch (def->key_format)
	{
		case KS_KEY_TEXT:
			ks_write_text(buf, values[n], def->columns[n].typid);
			break;
		case KS_KEY_JSON:
			write_json_key(buf, def, values, nulls);
			break;
		case KS_KEY_BYTEA:
			write_bytes(buf, values[n]);
			break;
		default:
			initStringInfo(&text);
			ks_write_text(&text, values[n], def->columns[n].typid);
			write_integer(buf, parse_integer(text.data),
						  def->key_format == KS_KEY_INT ? 4 : 8);
			break;
	}
}

/* Has the row a record key? */
static bool
has_key(const KsStreamDef *def, const bool *nulls)
{
	if (def->key_format == KS_KEY_NONE)
		return false;
	for (int i = 0; i < def->nkeys; i++)
	{
		if (!nulls[def->keys[i] - 1])
			return true;
	}
	return false;
}

/* See encode.h. */
bool
ks_encode_key(StringInfo buf, const KsStreamDef *def, const Datum *values,
			  const bool *nulls)
{
	KsOutputSettings saved;
	int			start = buf->len;

	if (!has_key(def, nulls))
		return false;
	ks_output_begin(&saved);
	PG_TRY();
	{
		write_key(buf, def, values, nulls);
	}
	PG_FINALLY();
	{
		ks_output_end(&saved);
	}
	PG_END_TRY();
	if (def->key_format == KS_KEY_TEXT || def->key_format == KS_KEY_JSON)
		finish_text(buf, start);
	return true;
}

/* Appends a JSON key that was given as text, after checking it. */
static void
append_json_key(StringInfo buf, const char *key)
{
	KsJsonScanner *scanner = ks_scanner_create();
	size_t		len;
	const char *utf8 = ks_server_to_utf8(key, strlen(key), &len);
	KsJsonToken root;
	KsJsonToken slot;
	KsJsonFault fault;

	if (ks_json_scan(scanner, utf8, len, &root, &slot, &fault) != KS_JSON_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("the record key is not valid JSON: %s", ks_quote_excerpt(utf8, len)),
				 errhint("A string needs double quotes.")));
	appendBinaryStringInfo(buf, root.str, (int) root.len);
}

/* See encode.h. */
bool
ks_encode_key_text(StringInfo buf, const KsStreamDef *def, const char *key)
{
	int			start = buf->len;

	switch (def->key_format)
	{
		case KS_KEY_NONE:
			return false;
		case KS_KEY_TEXT:
			appendStringInfoString(buf, key);
			finish_text(buf, start);
			break;
		case KS_KEY_JSON:
			append_json_key(buf, key);
			break;
		case KS_KEY_BYTEA:
			write_bytes(buf, DirectFunctionCall1(byteain, CStringGetDatum(key)));
			break;
		default:
			write_integer(buf, parse_integer(key), def->key_format == KS_KEY_INT ? 4 : 8);
			break;
	}
	return true;
}
