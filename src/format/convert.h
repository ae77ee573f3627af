/*
 * convert.h
 *		Tokens and pieces of text to values of a type.
 *
 * A converter is made once for a type and used for every record.  Nothing here
 * raises an error for what a record holds; failures are noted in a KsConversion.
 */
#ifndef KS_CONVERT_H
#define KS_CONVERT_H

#include "postgres.h"
#include "access/tupdesc.h"
#include "fmgr.h"
#include "format/guard.h"
#include "format/json_scan.h"
#include "lib/stringinfo.h"

/* How values of a type are made; all types without an own way take the last. */
typedef enum KsTypeClass
{
	KS_TYPE_BOOL,
	KS_TYPE_INT2,
	KS_TYPE_INT4,
	KS_TYPE_INT8,
	KS_TYPE_FLOAT4,
	KS_TYPE_FLOAT8,
	KS_TYPE_NUMERIC,
	KS_TYPE_TEXT,
	KS_TYPE_VARCHAR,
	KS_TYPE_BPCHAR,
	KS_TYPE_BYTEA,
	KS_TYPE_UUID,
	KS_TYPE_DATE,
	KS_TYPE_TIMESTAMP,
	KS_TYPE_TIMESTAMPTZ,
	KS_TYPE_JSON,
	KS_TYPE_JSONB,
	KS_TYPE_ENUM,
	KS_TYPE_ARRAY,
	KS_TYPE_COMPOSITE,
	KS_TYPE_INPUT				/* the input function takes the text */
} KsTypeClass;

typedef struct KsConverter KsConverter;

struct KsConverter
{
	KsTypeClass type;			/* of the base type */
	Oid			typid;			/* the type itself, perhaps a domain */
	Oid			basetype;		/* what it is a domain over, or the same */
	int32		typmod;			/* of the base type */
	FmgrInfo	input;			/* input function of the base type */
	Oid			ioparam;
	bool		trusted;		/* it reports errors softly from 16 on */
	bool		clocked;		/* text for it may name the clock: 'now', 'today' */
	bool		domain;			/* has constraints to be checked */
	void	   *domain_cache;	/* for domain_check */
	MemoryContext context;		/* what lives as long as the converter */

	KsConverter *element;		/* of an array */
	int16		elmlen;
	bool		elmbyval;
	char		elmalign;

	TupleDesc	desc;			/* of a composite type */
	KsConverter **fields;		/* NULL: dropped attribute */
};

/*
 * The conversion of one record: where it stands and what went wrong last.
 * path is written from the inside out while a failure passes through arrays
 * and composite values.
 */
typedef struct KsConversion
{
	KsGuard		guard;
	int			sqlstate;
	char	   *message;
	char	   *path;			/* "" or e.g. [2].price */
} KsConversion;

/* Makes a converter for a type, in the current memory context. */
extern KsConverter *ks_converter_create(Oid typid, int32 typmod);

/*
 * Converts a token of a checked JSON document.  A missing one is as good as
 * null.  False: failed, see the conversion.
 */
extern bool ks_convert_json(KsConverter *conv, const KsJsonToken *token,
							KsConversion *cv, Datum *value, bool *isnull);

/* Converts text as COPY would; str NULL stands for NULL.  The text must be valid UTF-8. */
extern bool ks_convert_text(KsConverter *conv, const char *str, size_t len,
							KsConversion *cv, Datum *value, bool *isnull);

/* Converts bytes (to bytea or a domain over it). */
extern bool ks_convert_bytes(KsConverter *conv, const char *bytes, size_t len,
							 KsConversion *cv, Datum *value, bool *isnull);

/* Converts an integer, e.g. of a record key. */
extern bool ks_convert_int64(KsConverter *conv, int64 number,
							 KsConversion *cv, Datum *value, bool *isnull);

/* Checks whether NULL is allowed by the type (it may be a domain). */
extern bool ks_convert_null(KsConverter *conv, KsConversion *cv);

/* For the implementations: notes a failure; always returns false. */
extern bool ks_conversion_fail(KsConversion *cv, int sqlstate, const char *fmt,...)
			pg_attribute_printf(3, 4);

/* For the implementations: puts a step in front of the path of a failure. */
extern void ks_conversion_step(KsConversion *cv, const char *fmt,...)
			pg_attribute_printf(2, 3);

/* For the implementations: text of the database through the input function. */
extern bool ks_convert_input(KsConverter *conv, const char *str, size_t len,
							 KsConversion *cv, Datum *value);

/* For the implementations: fails with the message of a type's input function. */
extern bool ks_convert_invalid(KsConverter *conv, const char *str, size_t len,
							   KsConversion *cv);

#endif							/* KS_CONVERT_H */
