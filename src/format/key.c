/*
 * key.c
 *		Record keys: bytes to what the key columns are made of.
 *
 * A JSON key for several columns is an object with a field for each.  For one
 * column any document will do: an object is looked into for a field with the
 * column's name, everything else is the column's value.  A column that can hold
 * an object itself (json, jsonb, a composite type) always takes the whole.
 */
#include "postgres.h"

#include "format/encoding.h"
#include "format/key.h"
#include "format/scanner.h"
#include "utils/builtins.h"

struct KsKeyReader
{
	KsKeyFormat format;
	int			nkeys;
	KsConverter **converters;
	KsJsonScanner *scanner;		/* JSON: slot n is the nth column's field */
	KsJsonToken *slots;
	KsJsonToken root;			/* JSON: the document */
	const char *str;			/* the bytes */
	size_t		len;
	int64		number;			/* int and bigint */
};

/* Makes the scanner of a JSON key. */
static void
init_scanner(KsKeyReader *reader, const KsStreamDef *def)
{
	reader->scanner = ks_scanner_create();
	for (int i = 0; i < def->nkeys; i++)
	{
		int			slot = ks_scanner_add_name(reader->scanner,
											   def->columns[def->keys[i] - 1].name);

		Assert(slot == i);
		(void) slot;
	}
	reader->slots = palloc0(sizeof(KsJsonToken) * Max(def->nkeys, 1));
}

/* See key.h. */
KsKeyReader *
ks_key_reader_create(const KsStreamDef *def, KsConverter **converters)
{
	KsKeyReader *reader = palloc0(sizeof(KsKeyReader));

	reader->format = def->key_format;
	reader->nkeys = def->nkeys;
	reader->converters = converters;
	if (reader->format == KS_KEY_JSON)
		init_scanner(reader, def);
	return reader;
}

/* See key.h. */
bool
ks_fail_json(KsConversion *cv, const char *what, KsJsonStatus status,
			 const KsJsonFault *fault)
{
	switch (status)
	{
		case KS_JSON_NOT_UTF8:
			return ks_conversion_fail(cv, ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
									  "%s is not valid UTF-8", what);
		case KS_JSON_TOO_DEEP:
			return ks_conversion_fail(cv, ERRCODE_STATEMENT_TOO_COMPLEX,
									  "%s is nested deeper than %d levels", what,
									  KS_JSON_MAX_DEPTH);
		case KS_JSON_TOO_BIG:
			return ks_conversion_fail(cv, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
									  "%s is too large", what);
		case KS_JSON_NO_MEMORY:
			ereport(ERROR,
					(errcode(ERRCODE_OUT_OF_MEMORY),
					 errmsg("out of memory")));
			return false;
		default:
			return ks_conversion_fail(cv, ERRCODE_INVALID_TEXT_REPRESENTATION,
									  "%s is not valid JSON: %s (at byte %zu)", what,
									  fault->reason, fault->offset + 1);
	}
}

/* Reads a JSON key. */
static bool
read_json_key(KsKeyReader *reader, KsConversion *cv)
{
	KsJsonFault fault;
	KsJsonStatus status = ks_json_scan(reader->scanner, reader->str, reader->len,
									   &reader->root, reader->slots, &fault);

	if (status != KS_JSON_OK)
		return ks_fail_json(cv, "the record key", status, &fault);
	if (reader->nkeys > 1 && reader->root.kind != KS_JSON_OBJECT)
		return ks_conversion_fail(cv, ERRCODE_INVALID_TEXT_REPRESENTATION,
								  "the record key is not a JSON object: %s",
								  ks_quote_excerpt(reader->root.str, reader->root.len));
	return true;
}

/* Reads a big-endian integer of the given size. */
static bool
read_integer_key(KsKeyReader *reader, size_t size, KsConversion *cv)
{
	uint64		bits = 0;

	if (reader->len != size)
		return ks_conversion_fail(cv, ERRCODE_INVALID_BINARY_REPRESENTATION,
								  "the record key has %zu bytes, but key format %s has %zu",
								  reader->len, ks_key_format_name(reader->format), size);
	for (size_t i = 0; i < size; i++)
		bits = bits << 8 | (unsigned char) reader->str[i];
	reader->number = (size == 4) ? (int64) (int32) bits : (int64) bits;
	return true;
}

/* See key.h. */
bool
ks_key_read(KsKeyReader *reader, const KsRecord *rec, KsConversion *cv)
{
	reader->str = rec->key;
	reader->len = rec->keylen;
	switch (reader->format)
	{
		case KS_KEY_TEXT:
			if (!ks_utf8_valid(reader->str, reader->len))
				return ks_conversion_fail(cv, ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
										  "the record key is not valid UTF-8 text: %s",
										  ks_quote_excerpt(reader->str, reader->len));
			return true;
		case KS_KEY_JSON:
			return read_json_key(reader, cv);
		case KS_KEY_INT:
			return read_integer_key(reader, sizeof(int32), cv);
		case KS_KEY_BIGINT:
			return read_integer_key(reader, sizeof(int64), cv);
		default:
			return true;
	}
}

/* The part of a JSON key that a column takes. */
static const KsJsonToken *
json_key_token(KsKeyReader *reader, int nth)
{
	KsTypeClass type = reader->converters[nth]->type;

	if (reader->nkeys > 1)
		return &reader->slots[nth];
	if (reader->root.kind != KS_JSON_OBJECT || type == KS_TYPE_JSON ||
		type == KS_TYPE_JSONB || type == KS_TYPE_COMPOSITE)
		return &reader->root;
	return &reader->slots[nth];
}

/* See key.h. */
bool
ks_key_column(KsKeyReader *reader, int nth, KsConversion *cv, Datum *value, bool *isnull)
{
	KsConverter *conv = reader->converters[nth];

	switch (reader->format)
	{
		case KS_KEY_TEXT:
			return ks_convert_text(conv, reader->str, reader->len, cv, value, isnull);
		case KS_KEY_JSON:
			return ks_convert_json(conv, json_key_token(reader, nth), cv, value, isnull);
		case KS_KEY_BYTEA:
			return ks_convert_bytes(conv, reader->str, reader->len, cv, value, isnull);
		default:
			return ks_convert_int64(conv, reader->number, cv, value, isnull);
	}
}

/* See key.h. */
bool
ks_key_text(KsKeyReader *reader, KsConversion *cv, Datum *value)
{
	const char *str = reader->str;
	size_t		len = reader->len;
	StringInfoData buf;

	switch (reader->format)
	{
		case KS_KEY_JSON:
			str = reader->root.str;
			len = reader->root.len;
			/* FALLTHROUGH */
		case KS_KEY_TEXT:
			if (!ks_utf8_to_server(str, len, &str, &len))
				return ks_conversion_fail(cv, ERRCODE_UNTRANSLATABLE_CHARACTER,
										  "the record key has characters without equivalent in the encoding of the database");
			*value = PointerGetDatum(cstring_to_text_with_len(str, (int) len));
			return true;
		case KS_KEY_BYTEA:
			initStringInfo(&buf);
			appendStringInfoString(&buf, "\\x");
			for (size_t i = 0; i < len; i++)
				appendStringInfo(&buf, "%02x", (unsigned char) str[i]);
			*value = PointerGetDatum(cstring_to_text_with_len(buf.data, buf.len));
			return true;
		default:
			*value = CStringGetTextDatum(psprintf(INT64_FORMAT, reader->number));
			return true;
	}
}
