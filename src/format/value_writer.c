/*
 * value_writer.c
 *		Writing many values of one type: what ks_write_json and ks_write_text give,
 *		with everything that depends on the type looked up once.
 *
 * Types met most are written here without their output functions, where those
 * would look at settings or take their time; the text is the same.
 *
 * Runs in: any backend, any worker.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type_d.h"
#include "common/shortest_dec.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "format/json_write.h"
#include "format/value_writer.h"

/* How values of the type are written. */
static KsValueKind
kind_of_type(Oid typid)
{
	switch (typid)
	{
		case BOOLOID:
			return KS_VALUE_BOOL;
		case INT2OID:
			return KS_VALUE_INT2;
		case INT4OID:
			return KS_VALUE_INT4;
		case INT8OID:
			return KS_VALUE_INT8;
		case FLOAT4OID:
			return KS_VALUE_FLOAT4;
		case FLOAT8OID:
			return KS_VALUE_FLOAT8;
		case NUMERICOID:
			return KS_VALUE_NUMERIC;
		case JSONOID:
		case JSONBOID:
			return KS_VALUE_JSON;
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
			return KS_VALUE_TEXT;
		case DATEOID:
			return KS_VALUE_DATE;
		case TIMESTAMPOID:
			return KS_VALUE_TIMESTAMP;
		case TIMESTAMPTZOID:
			return KS_VALUE_TIMESTAMPTZ;
		case UUIDOID:
		case NAMEOID:
		case CHAROID:
		case OIDOID:
		case INETOID:
		case CIDROID:
		case MACADDROID:
			return KS_VALUE_STRING;
		default:
			return KS_VALUE_OTHER;
	}
}

/* See value_writer.h. */
void
ks_value_writer_init(KsValueWriter *writer, Oid typid)
{
	Oid			output;
	bool		varlena;

	writer->kind = kind_of_type(typid);
	if (writer->kind == KS_VALUE_OTHER && getBaseType(typid) != typid)
	{
		/* a domain is written as what it is over */
		typid = getBaseType(typid);
		writer->kind = kind_of_type(typid);
	}
	writer->typid = typid;
	getTypeOutputInfo(typid, &output, &varlena);
	fmgr_info(output, &writer->output);
}

/* See value_writer.h.  Times that are not finite take the general way, but are the same in any style. */
bool
ks_value_needs_settings(const KsValueWriter *writer)
{
	return writer->kind == KS_VALUE_OTHER;
}

/* See value_writer.h. */
void
ks_append_json_string(StringInfo buf, const char *str, int len)
{
	const char *end = str + len;

	enlargeStringInfo(buf, len + 2);
	appendStringInfoCharMacro(buf, '"');
	while (str < end)
	{
		const char *run = str;

		while (str < end && (unsigned char) *str >= ' ' && *str != '"' && *str != '\\')
			str++;
		appendBinaryStringInfoNT(buf, run, (int) (str - run));
		if (str == end)
			break;
		switch (*str)
		{
			case '\b':
				appendStringInfoString(buf, "\\b");
				break;
			case '\f':
				appendStringInfoString(buf, "\\f");
				break;
			case '\n':
				appendStringInfoString(buf, "\\n");
				break;
			case '\r':
				appendStringInfoString(buf, "\\r");
				break;
			case '\t':
				appendStringInfoString(buf, "\\t");
				break;
			case '"':
				appendStringInfoString(buf, "\\\"");
				break;
			case '\\':
				appendStringInfoString(buf, "\\\\");
				break;
			default:
				appendStringInfo(buf, "\\u%04x", (int) (unsigned char) *str);
				break;
		}
		str++;
	}
	appendStringInfoChar(buf, '"');
}

/* Appends an integer. */
static inline void
append_integer(StringInfo buf, int64 value)
{
	enlargeStringInfo(buf, MAXINT8LEN + 1);
	buf->len += pg_lltoa(value, buf->data + buf->len);
}

/* Appends a finite float with the digits that identify it; false if it is not finite. */
static bool
append_float(StringInfo buf, Datum value, KsValueKind kind)
{
	double		number = kind == KS_VALUE_FLOAT4 ? DatumGetFloat4(value) : DatumGetFloat8(value);

	if (isnan(number) || isinf(number))
		return false;
	enlargeStringInfo(buf, DOUBLE_SHORTEST_DECIMAL_LEN);
	buf->len += kind == KS_VALUE_FLOAT4 ?
		float_to_shortest_decimal_buf(DatumGetFloat4(value), buf->data + buf->len) :
		double_to_shortest_decimal_buf(number, buf->data + buf->len);
	return true;
}

/* Appends a number of one of the types that are spelled alike everywhere; false if it is not finite. */
static bool
append_number(StringInfo buf, Datum value, KsValueKind kind)
{
	switch (kind)
	{
		case KS_VALUE_INT2:
			append_integer(buf, DatumGetInt16(value));
			return true;
		case KS_VALUE_INT4:
			append_integer(buf, DatumGetInt32(value));
			return true;
		case KS_VALUE_INT8:
			append_integer(buf, DatumGetInt64(value));
			return true;
		default:
			return append_float(buf, value, kind);
	}
}

/* Writes a finite time as text, in UTC; false if it is not finite. */
static bool
time_text(KsValueKind kind, Datum value, char *text)
{
	struct pg_tm tm = {0};
	fsec_t		fsec;

	if (kind == KS_VALUE_DATE)
	{
		DateADT		date = DatumGetDateADT(value);

		if (DATE_NOT_FINITE(date))
			return false;
		j2date(date + POSTGRES_EPOCH_JDATE, &tm.tm_year, &tm.tm_mon, &tm.tm_mday);
		EncodeDateOnly(&tm, USE_XSD_DATES, text);
		return true;
	}
	if (TIMESTAMP_NOT_FINITE(DatumGetTimestamp(value)) ||
		timestamp2tm(DatumGetTimestamp(value), NULL, &tm, &fsec, NULL, NULL) != 0)
		return false;
	tm.tm_isdst = 0;			/* UTC, printed with its zone where there is one */
	EncodeDateTime(&tm, fsec, kind == KS_VALUE_TIMESTAMPTZ, 0, NULL, USE_XSD_DATES, text);
	return true;
}

/* See value_writer.h. */
void
ks_value_write_json(KsValueWriter *writer, StringInfo buf, Datum value)
{
	char		time[MAXDATELEN + 1];
	char	   *output;

	switch (writer->kind)
	{
		case KS_VALUE_BOOL:
			appendStringInfoString(buf, DatumGetBool(value) ? "true" : "false");
			return;
		case KS_VALUE_INT2:
		case KS_VALUE_INT4:
		case KS_VALUE_INT8:
		case KS_VALUE_FLOAT4:
		case KS_VALUE_FLOAT8:
			if (!append_number(buf, value, writer->kind))
				ks_write_json(buf, value, writer->typid);
			return;
		case KS_VALUE_NUMERIC:
			output = OutputFunctionCall(&writer->output, value);
			if (output[output[0] == '-'] >= '0' && output[output[0] == '-'] <= '9')
				appendStringInfoString(buf, output);
			else
				ks_append_json_string(buf, output, strlen(output));
			return;
		case KS_VALUE_JSON:
			appendStringInfoString(buf, OutputFunctionCall(&writer->output, value));
			return;
		case KS_VALUE_TEXT:
			{
				struct varlena *string = PG_DETOAST_DATUM_PACKED(value);

				ks_append_json_string(buf, VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string));
				return;
			}
		case KS_VALUE_DATE:
		case KS_VALUE_TIMESTAMP:
		case KS_VALUE_TIMESTAMPTZ:
			if (time_text(writer->kind, value, time))
				ks_append_json_string(buf, time, strlen(time));
			else
				ks_write_json(buf, value, writer->typid);
			return;
		case KS_VALUE_STRING:
			output = OutputFunctionCall(&writer->output, value);
			ks_append_json_string(buf, output, strlen(output));
			return;
		case KS_VALUE_OTHER:
			ks_write_json(buf, value, writer->typid);
			return;
	}
}

/* See value_writer.h. */
void
ks_value_write_text(KsValueWriter *writer, StringInfo buf, Datum value)
{
	char		time[MAXDATELEN + 1];

	switch (writer->kind)
	{
		case KS_VALUE_INT2:
		case KS_VALUE_INT4:
		case KS_VALUE_INT8:
		case KS_VALUE_FLOAT4:
		case KS_VALUE_FLOAT8:
			if (append_number(buf, value, writer->kind))
				return;
			break;
		case KS_VALUE_TEXT:
			{
				struct varlena *string = PG_DETOAST_DATUM_PACKED(value);

				appendBinaryStringInfo(buf, VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string));
				return;
			}
		case KS_VALUE_DATE:
		case KS_VALUE_TIMESTAMP:
		case KS_VALUE_TIMESTAMPTZ:
			if (time_text(writer->kind, value, time))
			{
				appendStringInfoString(buf, time);
				return;
			}
			break;
		default:
			break;
	}
	appendStringInfoString(buf, OutputFunctionCall(&writer->output, value));
}
