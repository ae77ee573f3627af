/*
 * decode_test.c
 *		SQL-callable functions around format/, for the tests of decoders.
 *
 * A stream's definition is made from an ordinary table here, so that the
 * decoders can be tested without the rest: column option "path" is an argument,
 * and columns named as the metadata columns are those.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "base/compat.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "format/decode.h"
#include "format/encode.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/typcache.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(ks_test_decode);
PG_FUNCTION_INFO_V1(ks_test_key_text);
PG_FUNCTION_INFO_V1(ks_test_headers);
PG_FUNCTION_INFO_V1(ks_test_speed);
PG_FUNCTION_INFO_V1(ks_test_memory);
PG_FUNCTION_INFO_V1(ks_test_encode);
PG_FUNCTION_INFO_V1(ks_test_encode_record);

static const char *const format_names[] = {"json", "csv", "text", "bytea", "jsonb"};
static const char *const key_format_names[] = {"text", "json", "bytea", "int", "bigint", "none"};

/* Name of a format; in the extension these two are in catalog/. */
const char *
ks_format_name(KsFormat format)
{
	return format_names[format];
}

/* Name of a key format. */
const char *
ks_key_format_name(KsKeyFormat format)
{
	return key_format_names[format];
}

/* Position of a name in a list. */
static int
find_name(const char *const *names, int count, const char *name)
{
	for (int i = 0; i < count; i++)
	{
		if (strcmp(names[i], name) == 0)
			return i;
	}
	elog(ERROR, "no such name: %s", name);
}

/* The strings of a text[], NULL for an element that is NULL. */
static char **
get_strings(ArrayType *array, int *count)
{
	Datum	   *values;
	bool	   *nulls;
	char	  **strings;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, count);
	strings = palloc0(sizeof(char *) * (*count + 1));
	for (int i = 0; i < *count; i++)
		strings[i] = nulls[i] ? NULL : TextDatumGetCString(values[i]);
	return strings;
}

/* Fills in one column of the definition. */
static void
make_column(KsStreamDef *def, Form_pg_attribute att)
{
	KsColumnDef *column = &def->columns[att->attnum - 1];

	column->attnum = att->attnum;
	column->name = pstrdup(NameStr(att->attname));
	column->typid = att->atttypid;
	column->typmod = att->atttypmod;
	column->collation = att->attcollation;
	column->notnull = att->attnotnull;
	column->kind = att->attisdropped ? KS_COL_DROPPED : KS_COL_VALUE;
	if (strcmp(column->name, "_key") == 0)
	{
		column->kind = KS_COL_META;
		def->meta[KS_META_KEY] = att->attnum;
	}
	else if (strcmp(column->name, "_tombstone") == 0)
	{
		column->kind = KS_COL_META;
		def->meta[KS_META_TOMBSTONE] = att->attnum;
	}
}

/* Makes a definition: relation, format, key format, keys, paths as "column=path". */
static KsStreamDef *
make_def(FunctionCallInfo fcinfo)
{
	KsStreamDef *def = palloc0(sizeof(KsStreamDef));
	Relation	rel = table_open(PG_GETARG_OID(0), AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	int			nkeys;
	int			npaths;
	char	  **keys = get_strings(PG_GETARG_ARRAYTYPE_P(3), &nkeys);
	char	  **paths = get_strings(PG_GETARG_ARRAYTYPE_P(4), &npaths);

	def->relid = RelationGetRelid(rel);
	def->relname = pstrdup(RelationGetRelationName(rel));
	def->format = find_name(format_names, lengthof(format_names),
							text_to_cstring(PG_GETARG_TEXT_PP(1)));
	def->key_format = find_name(key_format_names, lengthof(key_format_names),
								text_to_cstring(PG_GETARG_TEXT_PP(2)));
	def->natts = desc->natts;
	def->columns = palloc0(sizeof(KsColumnDef) * desc->natts);
	for (int i = 0; i < desc->natts; i++)
		make_column(def, TupleDescAttr(desc, i));
	def->keys = palloc0(sizeof(AttrNumber) * (nkeys + 1));
	for (int i = 0; i < nkeys; i++)
	{
		AttrNumber	attnum = get_attnum(def->relid, keys[i]);

		def->keys[def->nkeys++] = attnum;
		def->columns[attnum - 1].kind = KS_COL_KEY;
	}
	for (int i = 0; i < npaths; i++)
	{
		char	   *path = strchr(paths[i], '=');

		*path++ = '\0';
		def->columns[get_attnum(def->relid, paths[i]) - 1].path = path;
	}
	table_close(rel, NoLock);
	return def;
}

/* A record from a key and a value argument, either of which may be NULL. */
static void
make_record(FunctionCallInfo fcinfo, int arg, KsRecord *rec)
{
	memset(rec, 0, sizeof(*rec));
	if (!PG_ARGISNULL(arg))
	{
		rec->key = VARDATA_ANY(PG_GETARG_BYTEA_PP(arg));
		rec->keylen = VARSIZE_ANY_EXHDR(PG_GETARG_BYTEA_PP(arg));
	}
	if (!PG_ARGISNULL(arg + 1))
	{
		rec->value = VARDATA_ANY(PG_GETARG_BYTEA_PP(arg + 1));
		rec->valuelen = VARSIZE_ANY_EXHDR(PG_GETARG_BYTEA_PP(arg + 1));
	}
}

/* Columns wanted: those in the argument, or all declared ones. */
static bool *
make_wanted(FunctionCallInfo fcinfo, int arg, KsStreamDef *def)
{
	bool	   *wanted = palloc0(sizeof(bool) * def->natts);
	int			count;
	char	  **names;

	if (PG_ARGISNULL(arg))
	{
		for (int i = 0; i < def->natts; i++)
			wanted[i] = (def->columns[i].kind == KS_COL_VALUE || def->columns[i].kind == KS_COL_KEY);
		return wanted;
	}
	names = get_strings(PG_GETARG_ARRAYTYPE_P(arg), &count);
	for (int i = 0; i < count; i++)
		wanted[get_attnum(def->relid, names[i]) - 1] = true;
	return wanted;
}

/* Adds a row: column, value, SQLSTATE, message. */
static void
put_row(ReturnSetInfo *rsinfo, const char *column, const char *value, int sqlstate,
		const char *message)
{
	Datum		values[4];
	bool		nulls[4] = {column == NULL, value == NULL, message == NULL, message == NULL};

	values[0] = column ? CStringGetTextDatum(column) : (Datum) 0;
	values[1] = value ? CStringGetTextDatum(value) : (Datum) 0;
	values[2] = message ? CStringGetTextDatum(unpack_sql_state(sqlstate)) : (Datum) 0;
	values[3] = message ? CStringGetTextDatum(message) : (Datum) 0;
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/*
 * Decodes a record: a row for each wanted column and each error.  Does it twice,
 * since a decoder that has met a type that needs a guard takes another way.
 */
Datum
ks_test_decode(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	KsStreamDef *def = make_def(fcinfo);
	KsDecoder  *dec = ks_decoder_create(def);
	bool	   *wanted = make_wanted(fcinfo, 7, def);
	Datum	   *values = palloc0(sizeof(Datum) * def->natts);
	bool	   *nulls = palloc0(sizeof(bool) * def->natts);
	KsRecord	rec;
	KsRecordError *error;

	InitMaterializedSRF(fcinfo, 0);
	make_record(fcinfo, 5, &rec);
	(void) ks_decode(dec, &rec, wanted, values, nulls);
	error = ks_decode(dec, &rec, wanted, values, nulls);
	for (int i = 0; i < def->natts; i++)
	{
		Oid			output;
		bool		varlena;

		if (!wanted[i])
			continue;
		getTypeOutputInfo(def->columns[i].typid, &output, &varlena);
		put_row(rsinfo, def->columns[i].name,
				nulls[i] ? NULL : OidOutputFunctionCall(output, values[i]), 0, NULL);
	}
	for (; error != NULL; error = error->next)
		put_row(rsinfo, error->attnum > 0 ? def->columns[error->attnum - 1].name : NULL,
				NULL, error->sqlstate, error->message);
	return (Datum) 0;
}

/* The text form of a key. */
Datum
ks_test_key_text(PG_FUNCTION_ARGS)
{
	KsDecoder  *dec = ks_decoder_create(make_def(fcinfo));
	KsRecord	rec;
	KsRecordError *error;
	bool		isnull;
	Datum		result;

	make_record(fcinfo, 5, &rec);
	result = ks_decode_key_text(dec, &rec, &isnull, &error);
	if (error != NULL)
		result = CStringGetTextDatum(psprintf("%s %s", unpack_sql_state(error->sqlstate),
											  error->message));
	else if (isnull)
		PG_RETURN_NULL();
	return result;
}

/* Headers from arrays of names and values. */
Datum
ks_test_headers(PG_FUNCTION_ARGS)
{
	KsRecord	rec = {0};
	int			count;
	char	  **names = get_strings(PG_GETARG_ARRAYTYPE_P(0), &count);
	Datum	   *values;
	bool	   *nulls;
	bool		isnull;
	Datum		result;

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), BYTEAOID, -1, false, TYPALIGN_INT,
					  &values, &nulls, &rec.nheaders);
	rec.headers = palloc0(sizeof(KsHeader) * (rec.nheaders + 1));
	for (int i = 0; i < rec.nheaders; i++)
	{
		rec.headers[i].name = names[i];
		if (nulls[i])
			continue;
		rec.headers[i].value = VARDATA_ANY(DatumGetPointer(values[i]));
		rec.headers[i].len = VARSIZE_ANY_EXHDR(DatumGetPointer(values[i]));
	}
	result = ks_decode_headers(&rec, &isnull);
	if (isnull)
		PG_RETURN_NULL();
	return result;
}

/* Nanoseconds that a record takes, over the given number of rounds. */
Datum
ks_test_speed(PG_FUNCTION_ARGS)
{
	KsStreamDef *def = make_def(fcinfo);
	KsDecoder  *dec = ks_decoder_create(def);
	bool	   *wanted = make_wanted(fcinfo, 7, def);
	int			rounds = PG_GETARG_INT32(8);
	Datum	   *values = palloc0(sizeof(Datum) * def->natts);
	bool	   *nulls = palloc0(sizeof(bool) * def->natts);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "batch",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	KsRecord	rec;
	instr_time	start;
	instr_time	end;

	make_record(fcinfo, 5, &rec);
	INSTR_TIME_SET_CURRENT(start);
	for (int i = 0; i < rounds; i++)
	{
		if (ks_decode(dec, &rec, wanted, values, nulls) != NULL)
			elog(ERROR, "the record is bad");
		if (i % 1000 == 999)
		{
			MemoryContextReset(context);
			CHECK_FOR_INTERRUPTS();
		}
	}
	INSTR_TIME_SET_CURRENT(end);
	INSTR_TIME_SUBTRACT(end, start);
	MemoryContextSwitchTo(old);
	PG_RETURN_FLOAT8(INSTR_TIME_GET_DOUBLE(end) * 1e9 / rounds);
}

/* By how many bytes the decoder's memory grows over the given number of records. */
Datum
ks_test_memory(PG_FUNCTION_ARGS)
{
	KsStreamDef *def = make_def(fcinfo);
	bool	   *wanted = make_wanted(fcinfo, 7, def);
	int			rounds = PG_GETARG_INT32(8);
	Datum	   *values = palloc0(sizeof(Datum) * def->natts);
	bool	   *nulls = palloc0(sizeof(bool) * def->natts);
	MemoryContext owner = AllocSetContextCreate(CurrentMemoryContext, "decoder",
												ALLOCSET_DEFAULT_SIZES);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "batch",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(owner);
	KsDecoder  *dec = ks_decoder_create(def);
	Size		before = 0;
	KsRecord	rec;

	make_record(fcinfo, 5, &rec);
	MemoryContextSwitchTo(context);
	for (int i = 0; i < rounds; i++)
	{
		if (i == 10)
			before = MemoryContextMemAllocated(owner, true);
		(void) ks_decode(dec, &rec, wanted, values, nulls);
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(old);
	PG_RETURN_INT64((int64) (MemoryContextMemAllocated(owner, true) - before));
}

/* The values of a record argument. */
static TupleDesc
get_row(HeapTupleHeader header, Datum **values, bool **nulls)
{
	TupleDesc	desc = lookup_rowtype_tupdesc_copy(HeapTupleHeaderGetTypeId(header),
												   HeapTupleHeaderGetTypMod(header));
	HeapTupleData tuple;

	tuple.t_len = HeapTupleHeaderGetDatumLength(header);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = header;
	*values = palloc(sizeof(Datum) * desc->natts);
	*nulls = palloc(sizeof(bool) * desc->natts);
	heap_deform_tuple(&tuple, desc, *values, *nulls);
	return desc;
}

/* A row as JSON, as bytes. */
Datum
ks_test_encode(PG_FUNCTION_ARGS)
{
	Datum	   *values;
	bool	   *nulls;
	bool	   *include = NULL;
	TupleDesc	desc = get_row(PG_GETARG_HEAPTUPLEHEADER(0), &values, &nulls);
	StringInfoData buf;

	if (!PG_ARGISNULL(1))
	{
		ArrayType  *array = PG_GETARG_ARRAYTYPE_P(1);

		include = (bool *) ARR_DATA_PTR(array);
	}
	initStringInfo(&buf);
	ks_encode_json(&buf, desc, values, nulls, include);
	PG_RETURN_BYTEA_P(cstring_to_text_with_len(buf.data, buf.len));
}

/* Key or value of a stream's row as bytes: "what" is key, value or text. */
Datum
ks_test_encode_record(PG_FUNCTION_ARGS)
{
	KsStreamDef *def = make_def(fcinfo);
	char	   *what = text_to_cstring(PG_GETARG_TEXT_PP(5));
	StringInfoData buf;
	bool		present;

	initStringInfo(&buf);
	if (strcmp(what, "text") == 0)
		present = ks_encode_key_text(&buf, def, text_to_cstring(PG_GETARG_TEXT_PP(7)));
	else
	{
		Datum	   *values;
		bool	   *nulls;

		(void) get_row(PG_GETARG_HEAPTUPLEHEADER(6), &values, &nulls);
		/* an encoder must not remember anything of a row */
		if (strcmp(what, "key") == 0)
		{
			KsEncoder  *encoder = ks_encoder_create(def);
			StringInfoData first;

			initStringInfo(&first);
			(void) ks_encoder_key(encoder, &first, values, nulls, false);
			present = ks_encoder_key(encoder, &buf, values, nulls, false);
			if (first.len != buf.len || memcmp(first.data, buf.data, buf.len) != 0)
				elog(ERROR, "a second key differs from the first");
		}
		else
		{
			KsEncoder  *encoder = ks_encoder_create(def);
			StringInfoData first;

			initStringInfo(&first);
			(void) ks_encoder_value(encoder, &first, values, nulls);
			present = ks_encoder_value(encoder, &buf, values, nulls);
			if (first.len != buf.len || memcmp(first.data, buf.data, buf.len) != 0)
				elog(ERROR, "a second value differs from the first");
		}
	}
	if (!present)
		PG_RETURN_NULL();
	PG_RETURN_BYTEA_P(cstring_to_text_with_len(buf.data, buf.len));
}
