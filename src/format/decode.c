/*
 * decode.c
 *		Record bytes to typed column values: the one entry to format/.
 *
 * A decoder reads a record in two steps.  The document step takes value and key
 * apart as a whole and is done whatever is wanted, so that a malformed document
 * is bad for every query.  The column step converts the wanted columns only.
 * Both note what is wrong instead of raising it; an input function that might
 * raise an error runs under the guard of this record (guard.c).
 */
#include "postgres.h"

#include "format/csv_split.h"
#include "format/decode.h"
#include "format/encoding.h"
#include "format/key.h"
#include "format/scanner.h"
#include "utils/memutils.h"

/* A declared column. */
typedef struct Column
{
	AttrNumber	attnum;
	const char *name;
	const char *path;			/* NULL: the name is the field */
	bool		notnull;
	bool		is_key;
	int			nth;			/* of the key columns, from 0 */
	int			source;			/* slot of the scanner, or field of csv; -1: none */
	KsConverter *conv;
} Column;

struct KsDecoder
{
	KsFormat	format;
	bool		reads_key;		/* key columns are filled from the record key */
	bool		upsert;			/* a tombstone deletes: no NOT NULL then */
	bool		guarded;		/* records need the guard, so hold it for each */
	AttrNumber	key_meta;		/* _key, or 0 */
	KsKeyFormat key_format;
	int			ncolumns;
	Column	   *columns;
	KsKeyReader *key;
	KsJsonScanner *scanner;		/* json, jsonb */
	KsJsonToken *slots;
	KsCsvField *fields;			/* csv */
};

/* One record on its way through the decoder. */
typedef struct Decoding
{
	KsDecoder  *dec;
	const KsRecord *rec;
	KsConversion cv;
	bool		key_ok;			/* the key was read */
	bool		value_ok;		/* the document was read, or is a tombstone */
	KsJsonToken root;
	KsRecordError *errors;
	KsRecordError **tail;
} Decoding;

/* Sets where the column's value comes from and makes its converter. */
static void
init_column(KsDecoder *dec, Column *column, const KsColumnDef *def)
{
	column->attnum = def->attnum;
	column->name = pstrdup(def->name);
	column->path = def->path != NULL ? pstrdup(def->path) : NULL;
	column->notnull = def->notnull;
	column->is_key = (def->kind == KS_COL_KEY);
	column->conv = ks_converter_create(def->typid, def->typmod);
	column->source = -1;
	if (dec->format == KS_FORMAT_CSV)
		column->source = dec->ncolumns;
	else if (dec->format == KS_FORMAT_JSON ||
			 (dec->format == KS_FORMAT_JSONB && column->is_key))
		column->source = (def->path != NULL) ?
			ks_scanner_add_path(dec->scanner, def->path, def->name) :
			ks_scanner_add_name(dec->scanner, def->name);
}

/* Makes the reader of record keys. */
static void
init_key(KsDecoder *dec, const KsStreamDef *def)
{
	KsConverter **converters = palloc0(sizeof(KsConverter *) * Max(def->nkeys, 1));

	for (int i = 0; i < dec->ncolumns; i++)
	{
		Column	   *column = &dec->columns[i];

		for (int k = 0; column->is_key && k < def->nkeys; k++)
		{
			if (def->keys[k] != column->attnum)
				continue;
			column->nth = k;
			converters[k] = column->conv;
		}
	}
	dec->key_format = def->key_format;
	dec->key_meta = def->meta[KS_META_KEY];
	dec->reads_key = (def->nkeys > 0 && def->key_format != KS_KEY_NONE);
	dec->key = ks_key_reader_create(def, converters);
}

/* See decode.h. */
KsDecoder *
ks_decoder_create(const KsStreamDef *def)
{
	KsDecoder  *dec = palloc0(sizeof(KsDecoder));

	ks_decoder_check(def);
	dec->format = def->format;
	dec->upsert = (def->meta[KS_META_TOMBSTONE] != 0);
	if (dec->format == KS_FORMAT_JSON || dec->format == KS_FORMAT_JSONB)
		dec->scanner = ks_scanner_create();
	dec->columns = palloc0(sizeof(Column) * Max(def->natts, 1));
	for (int i = 0; i < def->natts; i++)
	{
		if (def->columns[i].kind != KS_COL_VALUE && def->columns[i].kind != KS_COL_KEY)
			continue;
		init_column(dec, &dec->columns[dec->ncolumns], &def->columns[i]);
		dec->ncolumns++;
	}
	if (dec->scanner != NULL)
		dec->slots = palloc0(sizeof(KsJsonToken) *
							 Max(ks_json_scanner_nslots(dec->scanner), 1));
	dec->fields = palloc0(sizeof(KsCsvField) * Max(dec->ncolumns, 1));
	init_key(dec, def);
	return dec;
}

/* Makes an error out of the last failure. */
static KsRecordError *
make_error(AttrNumber attnum, int sqlstate, char *message)
{
	KsRecordError *error = palloc0(sizeof(KsRecordError));

	error->attnum = attnum;
	error->sqlstate = sqlstate;
	error->message = message;
	return error;
}

/* Appends an error to those of the record. */
static void
add_error(Decoding *d, AttrNumber attnum, int sqlstate, char *message)
{
	*d->tail = make_error(attnum, sqlstate, message);
	d->tail = &(*d->tail)->next;
}

/* Appends the last failure as an error of a column. */
static void
add_column_error(Decoding *d, const Column *column)
{
	const char *field = column->path != NULL ? column->path : column->name;
	char	   *message;

	if (column->path == NULL && d->cv.path[0] == '\0')
		message = psprintf("column \"%s\": %s", column->name, d->cv.message);
	else
		message = psprintf("column \"%s\", field %s%s: %s", column->name, field,
						   d->cv.path, d->cv.message);
	add_error(d, column->attnum, d->cv.sqlstate, message);
}

/* Checks a JSON document and picks the fields of the columns. */
static bool
read_json(Decoding *d)
{
	KsDecoder  *dec = d->dec;
	KsJsonFault fault;
	KsJsonStatus status = ks_json_scan(dec->scanner, d->rec->value, d->rec->valuelen,
									   &d->root, dec->slots, &fault);

	if (status != KS_JSON_OK)
		return ks_fail_json(&d->cv, "the record value", status, &fault);
	if (dec->format == KS_FORMAT_JSON && d->root.kind != KS_JSON_OBJECT)
		return ks_conversion_fail(&d->cv, ERRCODE_INVALID_TEXT_REPRESENTATION,
								  "the record value is not a JSON object: %s",
								  ks_quote_excerpt(d->root.str, d->root.len));
	return true;
}

/* Checks that the record value is text. */
static bool
read_text(Decoding *d)
{
	if (ks_utf8_valid(d->rec->value, d->rec->valuelen))
		return true;
	return ks_conversion_fail(&d->cv, ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
							  "the record value is not valid UTF-8 text: %s",
							  ks_quote_excerpt(d->rec->value, d->rec->valuelen));
}

/* Takes a line of csv apart. */
static bool
read_csv(Decoding *d)
{
	KsDecoder  *dec = d->dec;
	int			nfields;

	if (!read_text(d))
		return false;
	switch (ks_csv_split(d->rec->value, d->rec->valuelen, palloc(d->rec->valuelen + 1),
						 dec->fields, dec->ncolumns, &nfields))
	{
		case KS_CSV_OPEN_QUOTE:
			return ks_conversion_fail(&d->cv, ERRCODE_BAD_COPY_FILE_FORMAT,
									  "unterminated CSV quoted field");
		case KS_CSV_NEWLINE:
			return ks_conversion_fail(&d->cv, ERRCODE_BAD_COPY_FILE_FORMAT,
									  "unquoted newline found in CSV record");
		default:
			break;
	}
	if (nfields == dec->ncolumns)
		return true;
	return ks_conversion_fail(&d->cv, ERRCODE_BAD_COPY_FILE_FORMAT,
							  "CSV record has %d fields, but the stream has %d columns",
							  nfields, dec->ncolumns);
}

/* The document step for the record value. */
static bool
read_value(Decoding *d)
{
	if (d->rec->value == NULL)
		return true;
	switch (d->dec->format)
	{
		case KS_FORMAT_JSON:
		case KS_FORMAT_JSONB:
			return read_json(d);
		case KS_FORMAT_CSV:
			return read_csv(d);
		case KS_FORMAT_TEXT:
			return read_text(d);
		default:
			return true;
	}
}

/* Converts a column from the record value, which is not a tombstone. */
static bool
convert_from_value(Decoding *d, const Column *column, Datum *value, bool *isnull)
{
	KsDecoder  *dec = d->dec;
	const KsRecord *rec = d->rec;

	if (column->source < 0 && column->is_key)
	{
		*isnull = true;
		return ks_convert_null(column->conv, &d->cv);
	}
	switch (dec->format)
	{
		case KS_FORMAT_JSON:
			return ks_convert_json(column->conv, &dec->slots[column->source],
								   &d->cv, value, isnull);
		case KS_FORMAT_JSONB:
			return ks_convert_json(column->conv, column->source >= 0 ?
								   &dec->slots[column->source] : &d->root,
								   &d->cv, value, isnull);
		case KS_FORMAT_CSV:
			return ks_convert_text(column->conv, dec->fields[column->source].str,
								   dec->fields[column->source].len, &d->cv, value, isnull);
		case KS_FORMAT_TEXT:
			return ks_convert_text(column->conv, rec->value, rec->valuelen,
								   &d->cv, value, isnull);
		default:
			return ks_convert_bytes(column->conv, rec->value, rec->valuelen,
									&d->cv, value, isnull);
	}
}

/* Converts a column, from wherever its value comes. */
static bool
convert_column(Decoding *d, const Column *column, Datum *value, bool *isnull)
{
	if (column->is_key && d->dec->reads_key && d->rec->key != NULL)
		return ks_key_column(d->dec->key, column->nth, &d->cv, value, isnull);
	if (d->rec->value != NULL)
		return convert_from_value(d, column, value, isnull);
	*isnull = true;
	return ks_convert_null(column->conv, &d->cv);
}

/* Has what the column is filled from been read? */
static inline bool
source_ok(const Decoding *d, const Column *column)
{
	if (column->is_key && d->dec->reads_key && d->rec->key != NULL)
		return d->key_ok;
	/* a tombstone of a table deletes, its columns are just NULL */
	if (d->rec->value == NULL && d->dec->upsert && !column->is_key)
		return false;
	return d->value_ok;
}

/* The column step for one column. */
static void
decode_column(Decoding *d, const Column *column, Datum *values, bool *nulls)
{
	Datum		value = (Datum) 0;
	bool		isnull = true;

	if (source_ok(d, column))
	{
		if (!convert_column(d, column, &value, &isnull))
		{
			add_column_error(d, column);
			isnull = true;
		}
		else if (isnull && column->notnull)
			add_error(d, column->attnum, ERRCODE_NOT_NULL_VIOLATION,
					  psprintf("null value in column \"%s\" violates not-null constraint",
							   column->name));
	}
	values[column->attnum - 1] = isnull ? (Datum) 0 : value;
	nulls[column->attnum - 1] = isnull;
}

/* Both steps for a record. */
static void
decode_record(Decoding *d, const bool *wanted, Datum *values, bool *nulls)
{
	KsDecoder  *dec = d->dec;

	d->key_ok = true;
	if (dec->reads_key && d->rec->key != NULL)
		d->key_ok = ks_key_read(dec->key, d->rec, &d->cv);
	if (!d->key_ok)
		add_error(d, 0, d->cv.sqlstate, d->cv.message);
	d->value_ok = read_value(d);
	if (!d->value_ok)
		add_error(d, 0, d->cv.sqlstate, d->cv.message);
	for (int i = 0; i < dec->ncolumns; i++)
	{
		if (wanted[dec->columns[i].attnum - 1])
			decode_column(d, &dec->columns[i], values, nulls);
	}
}

/* The same with one subtransaction for all that might raise an error. */
static void
decode_record_guarded(Decoding *d, const bool *wanted, Datum *values, bool *nulls)
{
	d->cv.guard.hold = true;
	PG_TRY();
	{
		decode_record(d, wanted, values, nulls);
		ks_guard_end(&d->cv.guard);
	}
	PG_CATCH();
	{
		ks_guard_rethrow(&d->cv.guard);
	}
	PG_END_TRY();
}

/* See decode.h. */
KsRecordError *
ks_decode(KsDecoder *dec, const KsRecord *rec, const bool *wanted, Datum *values,
		  bool *nulls)
{
	Decoding	d;

	memset(&d.cv, 0, sizeof(d.cv));
	d.dec = dec;
	d.rec = rec;
	d.errors = NULL;
	d.tail = &d.errors;
	if (dec->guarded)
		decode_record_guarded(&d, wanted, values, nulls);
	else
	{
		decode_record(&d, wanted, values, nulls);
		dec->guarded = d.cv.guard.used;
	}
	return d.errors;
}

/* See decode.h. */
Datum
ks_decode_key_text(KsDecoder *dec, const KsRecord *rec, bool *isnull,
				   KsRecordError **error)
{
	KsConversion cv;
	Datum		value;

	memset(&cv, 0, sizeof(cv));
	*error = NULL;
	*isnull = true;
	if (rec->key == NULL || dec->key_format == KS_KEY_NONE)
		return (Datum) 0;
	if (ks_key_read(dec->key, rec, &cv) && ks_key_text(dec->key, &cv, &value))
	{
		*isnull = false;
		return value;
	}
	*error = make_error(dec->key_meta, cv.sqlstate, cv.message);
	return (Datum) 0;
}
