/*
 * json_write.c
 *		Values to JSON text and to plain text, the same in every session.
 *
 * Output functions look at settings of the session.  Instead of writing dates,
 * intervals, floats, and ranges and arrays of them, by hand, those settings are
 * set to fixed values for the time it takes: ISO 8601 in UTC, shortest exact
 * floats, bytea in hexadecimal.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "format/json_write.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/bytea.h"
#include "utils/float.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

/* See json_write.h. */
void
ks_output_begin(KsOutputSettings *saved)
{
	static pg_tz *utc = NULL;	/* time zones are kept for ever */

	if (utc == NULL)
		utc = pg_tzset("GMT");
	saved->date_style = DateStyle;
	saved->interval_style = IntervalStyle;
	saved->float_digits = extra_float_digits;
	saved->bytea_output = bytea_output;
	saved->timezone = session_timezone;
	DateStyle = USE_XSD_DATES;
	IntervalStyle = INTSTYLE_ISO_8601;
	extra_float_digits = 1;
	bytea_output = BYTEA_OUTPUT_HEX;
	if (utc != NULL)
		session_timezone = utc;
}

/* See json_write.h. */
void
ks_output_end(const KsOutputSettings *saved)
{
	DateStyle = saved->date_style;
	IntervalStyle = saved->interval_style;
	extra_float_digits = saved->float_digits;
	bytea_output = saved->bytea_output;
	session_timezone = saved->timezone;
}

/* The text that the type's output function gives. */
static char *
output_text(Datum value, Oid typid)
{
	Oid			output;
	bool		varlena;

	getTypeOutputInfo(typid, &output, &varlena);
	return OidOutputFunctionCall(output, value);
}

/* See json_write.h. */
void
ks_write_text(StringInfo buf, Datum value, Oid typid)
{
	appendStringInfoString(buf, output_text(value, typid));
}

/* Appends a number; what is none (NaN, Infinity) as a string. */
static void
write_number(StringInfo buf, Datum value, Oid typid)
{
	const char *digits = output_text(value, typid);
	char		first = digits[0] == '-' ? digits[1] : digits[0];

	if (first >= '0' && first <= '9')
		appendStringInfoString(buf, digits);
	else
		escape_json(buf, digits);
}

/* State of writing an array. */
typedef struct ArrayWriter
{
	StringInfo	buf;
	Oid			elemtype;
	int			ndims;
	const int  *dims;
	const Datum *values;
	const bool *nulls;
	int			next;			/* element */
} ArrayWriter;

/* Appends one dimension of an array. */
static void
write_dimension(ArrayWriter *writer, int dim)
{
	appendStringInfoChar(writer->buf, '[');
	for (int i = 0; i < writer->dims[dim]; i++)
	{
		if (i > 0)
			appendStringInfoChar(writer->buf, ',');
		if (dim + 1 < writer->ndims)
			write_dimension(writer, dim + 1);
		else
		{
			int			n = writer->next++;

			if (writer->nulls[n])
				appendStringInfoString(writer->buf, "null");
			else
				ks_write_json(writer->buf, writer->values[n], writer->elemtype);
		}
	}
	appendStringInfoChar(writer->buf, ']');
}

/* Appends an array as JSON arrays in each other. */
static void
write_array(StringInfo buf, Datum value)
{
	ArrayType  *array = DatumGetArrayTypeP(value);
	ArrayWriter writer = {.buf = buf, .elemtype = ARR_ELEMTYPE(array)};
	Datum	   *values;
	bool	   *nulls;
	int			count;
	int16		elmlen;
	bool		elmbyval;
	char		elmalign;

	get_typlenbyvalalign(writer.elemtype, &elmlen, &elmbyval, &elmalign);
	deconstruct_array(array, writer.elemtype, elmlen, elmbyval, elmalign,
					  &values, &nulls, &count);
	if (count == 0)
	{
		appendStringInfoString(buf, "[]");
		return;
	}
	writer.ndims = ARR_NDIM(array);
	writer.dims = ARR_DIMS(array);
	writer.values = values;
	writer.nulls = nulls;
	write_dimension(&writer, 0);
}

/* Appends a composite value as an object. */
static void
write_composite(StringInfo buf, Datum value)
{
	HeapTupleHeader header = DatumGetHeapTupleHeader(value);
	TupleDesc	desc = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(header),
											  HeapTupleHeaderGetTypMod(header));
	HeapTupleData tuple;
	Datum	   *values = palloc(sizeof(Datum) * Max(desc->natts, 1));
	bool	   *nulls = palloc(sizeof(bool) * Max(desc->natts, 1));
	const char *separator = "{";

	tuple.t_len = HeapTupleHeaderGetDatumLength(header);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = header;
	heap_deform_tuple(&tuple, desc, values, nulls);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (att->attisdropped)
			continue;
		appendStringInfoString(buf, separator);
		separator = ",";
		escape_json(buf, NameStr(att->attname));
		appendStringInfoChar(buf, ':');
		if (nulls[i])
			appendStringInfoString(buf, "null");
		else
			ks_write_json(buf, values[i], att->atttypid);
	}
	appendStringInfoString(buf, separator[0] == '{' ? "{}" : "}");
	ReleaseTupleDesc(desc);
}

/* Appends a value of a type that has no way of its own below. */
static void
write_other(StringInfo buf, Datum value, Oid typid)
{
	Oid			basetype = getBaseType(typid);

	if (basetype != typid)
		ks_write_json(buf, value, basetype);
	else if (OidIsValid(get_element_type(typid)))
		write_array(buf, value);
	else if (type_is_rowtype(typid))
		write_composite(buf, value);
	else
		escape_json(buf, output_text(value, typid));
}

/* See json_write.h. */
void
ks_write_json(StringInfo buf, Datum value, Oid typid)
{
	switch (typid)
	{
		case BOOLOID:
			appendStringInfoString(buf, DatumGetBool(value) ? "true" : "false");
			break;
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case FLOAT4OID:
		case FLOAT8OID:
		case NUMERICOID:
			write_number(buf, value, typid);
			break;
		case JSONOID:
		case JSONBOID:
			ks_write_text(buf, value, typid);
			break;
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
			escape_json(buf, TextDatumGetCString(value));
			break;
		default:
			write_other(buf, value, typid);
			break;
	}
}
