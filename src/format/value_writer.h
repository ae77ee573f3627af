/*
 * value_writer.h
 *		Writing many values of one type: what ks_write_json and ks_write_text give,
 *		with everything that depends on the type looked up once.
 */
#ifndef KS_VALUE_WRITER_H
#define KS_VALUE_WRITER_H

#include "postgres.h"
#include "fmgr.h"
#include "lib/stringinfo.h"

typedef enum KsValueKind
{
	KS_VALUE_BOOL,
	KS_VALUE_INT2,
	KS_VALUE_INT4,
	KS_VALUE_INT8,
	KS_VALUE_FLOAT4,
	KS_VALUE_FLOAT8,
	KS_VALUE_NUMERIC,
	KS_VALUE_JSON,
	KS_VALUE_TEXT,
	KS_VALUE_DATE,
	KS_VALUE_TIMESTAMP,
	KS_VALUE_TIMESTAMPTZ,
	KS_VALUE_STRING,			/* a string in JSON; its text depends on no setting */
	KS_VALUE_OTHER
} KsValueKind;

typedef struct KsValueWriter
{
	KsValueKind kind;
	Oid			typid;
	FmgrInfo	output;
} KsValueWriter;

/* In the current context. */
extern void ks_value_writer_init(KsValueWriter *writer, Oid typid);

/* Does what is written depend on settings, so that ks_output_begin must have been called? */
extern bool ks_value_needs_settings(const KsValueWriter *writer);

/* Append a value that is not NULL, see json_write.h. */
extern void ks_value_write_json(KsValueWriter *writer, StringInfo buf, Datum value);
extern void ks_value_write_text(KsValueWriter *writer, StringInfo buf, Datum value);

/* Appends a string as JSON, as escape_json does. */
extern void ks_append_json_string(StringInfo buf, const char *str, int len);

#endif							/* KS_VALUE_WRITER_H */
