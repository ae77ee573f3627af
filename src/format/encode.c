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
#include "format/value_writer.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/lsyscache.h"

struct KsEncoder
{
	const KsStreamDef *def;
	KsValueWriter *columns;		/* [attnum - 1] */
	KsRowLayout *layout;		/* of the row as a JSON object */
	bool		value_settings; /* values depend on settings of the session */
	bool		key_settings;
	StringInfoData scratch;
};

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

/* See encode.h. */
KsEncoder *
ks_encoder_create(const KsStreamDef *def)
{
	KsEncoder  *encoder = palloc0(sizeof(KsEncoder));

	encoder->def = def;
	encoder->columns = palloc0(sizeof(KsValueWriter) * Max(def->natts, 1));
	for (int i = 0; i < def->natts; i++)
	{
		if (!in_value(&def->columns[i]))
			continue;
		ks_value_writer_init(&encoder->columns[i], def->columns[i].typid);
		encoder->value_settings |= ks_value_needs_settings(&encoder->columns[i]);
	}
	for (int i = 0; i < def->nkeys; i++)
		encoder->key_settings |= ks_value_needs_settings(&encoder->columns[def->keys[i] - 1]);
	encoder->layout = ks_row_layout_create(def);
	initStringInfo(&encoder->scratch);
	return encoder;
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
write_csv(KsEncoder *encoder, StringInfo buf, const Datum *values, const bool *nulls)
{
	const KsStreamDef *def = encoder->def;
	bool		first = true;

	for (int i = 0; i < def->natts; i++)
	{
		if (!in_value(&def->columns[i]))
			continue;
		if (!first)
			appendStringInfoChar(buf, ',');
		first = false;
		if (nulls[i])
			continue;
		resetStringInfo(&encoder->scratch);
		ks_value_write_text(&encoder->columns[i], &encoder->scratch, values[i]);
		write_csv_field(buf, encoder->scratch.data);
	}
}

/* Appends the row as a JSON object. */
static void
write_object(KsEncoder *encoder, StringInfo buf, const Datum *values, const bool *nulls)
{
	for (int i = 0; i < encoder->layout->npieces; i++)
	{
		KsRowPiece *piece = &encoder->layout->pieces[i];
		int			n = piece->attnum - 1;

		appendBinaryStringInfo(buf, piece->text, piece->len);
		if (n < 0)
			continue;
		if (nulls[n])
			appendBinaryStringInfo(buf, "null", 4);
		else
			ks_value_write_json(&encoder->columns[n], buf, values[n]);
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
write_value(KsEncoder *encoder, StringInfo buf, const Datum *values, const bool *nulls)
{
	const KsStreamDef *def = encoder->def;
	int			n;

	if (def->format == KS_FORMAT_JSON)
	{
		write_object(encoder, buf, values, nulls);
		return true;
	}
	if (def->format == KS_FORMAT_CSV)
	{
		write_csv(encoder, buf, values, nulls);
		return true;
	}
	n = single_column(def)->attnum - 1;
	if (nulls[n])
		return false;
	if (def->format == KS_FORMAT_BYTEA)
		write_bytes(buf, values[n]);
	else if (def->format == KS_FORMAT_JSONB)
		ks_value_write_json(&encoder->columns[n], buf, values[n]);
	else
		ks_value_write_text(&encoder->columns[n], buf, values[n]);
	return true;
}

/* What one call of the encoder is to write. */
typedef bool (*WriteFunction) (KsEncoder *encoder, StringInfo buf, const Datum *values, const bool *nulls);

/* Writes under settings of our own, where they matter. */
static bool
write_settled(KsEncoder *encoder, bool settings, WriteFunction write, StringInfo buf,
			  const Datum *values, const bool *nulls)
{
	KsOutputSettings saved;
	volatile bool result = false;

	if (!settings)
		return write(encoder, buf, values, nulls);
	ks_output_begin(&saved);
	PG_TRY();
	{
		result = write(encoder, buf, values, nulls);
	}
	PG_FINALLY();
	{
		ks_output_end(&saved);
	}
	PG_END_TRY();
	return result;
}

/* See encode.h. */
bool
ks_encoder_value(KsEncoder *encoder, StringInfo buf, const Datum *values, const bool *nulls)
{
	int			start = buf->len;
	bool		result = write_settled(encoder, encoder->value_settings, write_value, buf, values, nulls);

	if (encoder->def->format != KS_FORMAT_BYTEA)
		finish_text(buf, start);
	return result;
}

/* write_object as a WriteFunction. */
static bool
write_any_object(KsEncoder *encoder, StringInfo buf, const Datum *values, const bool *nulls)
{
	write_object(encoder, buf, values, nulls);
	return true;
}

/* See encode.h. */
void
ks_encoder_object(KsEncoder *encoder, StringInfo buf, const Datum *values, const bool *nulls)
{
	int			start = buf->len;

	(void) write_settled(encoder, encoder->value_settings, write_any_object, buf, values, nulls);
	finish_text(buf, start);
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

/* Appends a key column as JSON, NULL as null. */
static void
write_key_column(KsEncoder *encoder, StringInfo buf, int n, const Datum *values, const bool *nulls)
{
	if (nulls[n])
		appendStringInfoString(buf, "null");
	else
		ks_value_write_json(&encoder->columns[n], buf, values[n]);
}

/* Appends a JSON key: the value of one column, or an object of several. */
static void
write_json_key(KsEncoder *encoder, StringInfo buf, const Datum *values, const bool *nulls)
{
	const KsStreamDef *def = encoder->def;

	if (def->nkeys == 1)
	{
		write_key_column(encoder, buf, def->keys[0] - 1, values, nulls);
		return;
	}
	for (int i = 0; i < def->nkeys; i++)
	{
		int			n = def->keys[i] - 1;

		appendStringInfoChar(buf, i == 0 ? '{' : ',');
		ks_append_json_string(buf, def->columns[n].name, strlen(def->columns[n].name));
		appendStringInfoChar(buf, ':');
		write_key_column(encoder, buf, n, values, nulls);
	}
	appendStringInfoChar(buf, '}');
}

/* Appends a record key, some column of which is not NULL unless it is JSON. */
static bool
write_key(KsEncoder *encoder, StringInfo buf, const Datum *values, const bool *nulls)
{
	const KsStreamDef *def = encoder->def;
	int			n = def->keys[0] - 1;

	switch (def->key_format)
	{
		case KS_KEY_TEXT:
			ks_value_write_text(&encoder->columns[n], buf, values[n]);
			break;
		case KS_KEY_JSON:
			write_json_key(encoder, buf, values, nulls);
			break;
		case KS_KEY_BYTEA:
			write_bytes(buf, values[n]);
			break;
		default:
			resetStringInfo(&encoder->scratch);
			ks_value_write_text(&encoder->columns[n], &encoder->scratch, values[n]);
			write_integer(buf, parse_integer(encoder->scratch.data),
						  def->key_format == KS_KEY_INT ? 4 : 8);
			break;
	}
	return true;
}

/* Is some key column not NULL? */
static bool
has_key_value(const KsStreamDef *def, const bool *nulls)
{
	for (int i = 0; i < def->nkeys; i++)
	{
		if (!nulls[def->keys[i] - 1])
			return true;
	}
	return false;
}

/* See encode.h. */
bool
ks_encoder_key(KsEncoder *encoder, StringInfo buf, const Datum *values, const bool *nulls,
			   bool all_null)
{
	const KsStreamDef *def = encoder->def;
	int			start = buf->len;

	if (def->key_format == KS_KEY_NONE || def->nkeys == 0)
		return false;
	if (!has_key_value(def, nulls) && !(all_null && def->key_format == KS_KEY_JSON))
		return false;
	(void) write_settled(encoder, encoder->key_settings, write_key, buf, values, nulls);
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
