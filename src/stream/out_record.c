/*
 * out_record.c
 *		Rows of a stream over a topic to records.
 *
 * Key: what _key says, else made of the key columns, else that of the record the
 * row comes from.  Timestamp: what _timestamp says, else the event time of that
 * record, else now.  Rows become bytes in the transaction that makes them, so
 * that what cannot be encoded is the problem of whoever made it.
 *
 * Runs in: any backend, any worker, in a transaction.
 */
#include "postgres.h"

#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "format/encode.h"
#include "format/encoding.h"
#include "stream/out_record.h"

/* The client's default of message.max.bytes, and what a record needs beside its bytes. */
#define DEFAULT_MAX_BYTES	1000000
#define RECORD_OVERHEAD		512

struct KsOutEncoder
{
	const KsStreamDef *def;
	MemoryContext cxt;			/* of what a record points to; reset for every record */
	Size		max_bytes;
	KsEncoder  *rows;
	StringInfoData key;
	StringInfoData value;
};

/* See out_record.h. */
Size
ks_out_max_bytes(Oid serverid)
{
	ListCell   *lc;

	foreach(lc, GetForeignServer(serverid)->options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, "message_max_bytes") == 0)
			return (Size) Max(atol(defGetString(option)), RECORD_OVERHEAD) - RECORD_OVERHEAD;
	}
	return DEFAULT_MAX_BYTES - RECORD_OVERHEAD;
}

/* See out_record.h. */
KsOutEncoder *
ks_out_encoder_create(const KsStreamDef *def)
{
	KsOutEncoder *encoder = palloc0(sizeof(KsOutEncoder));

	encoder->def = def;
	encoder->cxt = AllocSetContextCreate(CurrentMemoryContext, "kstream record", ALLOCSET_SMALL_SIZES);
	encoder->max_bytes = ks_out_max_bytes(def->serverid);
	encoder->rows = ks_encoder_create(def);
	initStringInfo(&encoder->key);
	initStringInfo(&encoder->value);
	return encoder;
}

/* See out_record.h. */
void
ks_check_partition_number(const KsStreamDef *def, int32 partition)
{
	if (partition < 0)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("partition must not be negative"),
				 errdetail("Partition %d of stream %s was given.", partition, def->relname),
				 errhint("Partitions are counted from 0; leave the column out to have one chosen.")));
}

/* See out_record.h. */
void
ks_refuse_log_columns(const KsStreamDef *def, const bool *nulls)
{
	static const KsMetaColumn decided[] = {KS_META_OFFSET, KS_META_STREAM_TIME};

	for (int i = 0; i < lengthof(decided); i++)
	{
		AttrNumber	attnum = def->meta[decided[i]];

		if (attnum != 0 && !nulls[attnum - 1])
			ereport(ERROR,
					(errcode(ERRCODE_GENERATED_ALWAYS),
					 errmsg("cannot insert a value into column \"%s\" of stream %s",
							ks_meta_name(decided[i]), def->relname),
					 errhint("The log decides it. Name the columns to insert, and leave this one out.")));
	}
}

/* See out_record.h. */
void
ks_check_headers(Datum headers)
{
	Jsonb	   *jb = DatumGetJsonbP(headers);
	JsonbIterator *it;
	JsonbValue	value;
	JsonbIteratorToken token;
	bool		good = JB_ROOT_IS_OBJECT(jb);

	it = JsonbIteratorInit(&jb->root);
	while (good && (token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_VALUE)
			good = value.type == jbvString || value.type == jbvNull;
	}
	if (!good)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("headers must be a JSON object whose values are strings"),
				 errhint("For example '{\"trace\": \"4711\"}'.")));
}

/* A string of jsonb as UTF-8 with a NUL behind. */
static char *
header_text(const JsonbValue *value, size_t *len)
{
	char	   *str = pnstrdup(value->val.string.val, value->val.string.len);
	const char *utf8 = ks_server_to_utf8(str, value->val.string.len, len);

	return utf8 == str ? str : pnstrdup(utf8, *len);
}

/* See out_record.h. */
void
ks_out_headers(Datum datum, KsRecord *rec)
{
	Jsonb	   *jb = DatumGetJsonbP(datum);
	JsonbIterator *it;
	JsonbValue	value;
	JsonbIteratorToken token;
	char	   *name = NULL;
	size_t		len;

	ks_check_headers(datum);
	rec->headers = palloc0(sizeof(KsHeader) * Max(JB_ROOT_COUNT(jb), 1));
	it = JsonbIteratorInit(&jb->root);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		KsHeader   *header = &rec->headers[rec->nheaders];

		if (token == WJB_KEY)
			name = header_text(&value, &len);
		if (token != WJB_VALUE)
			continue;
		header->name = name;
		if (value.type == jbvString)
			header->value = header_text(&value, &header->len);
		rec->nheaders++;
	}
}

/* The record key. */
static void
encode_key(KsOutEncoder *encoder, const Datum *values, const bool *nulls,
		   const KsOutOrigin *origin, KsRecord *rec)
{
	AttrNumber	attnum = encoder->def->meta[KS_META_KEY];
	bool		has_key;

	resetStringInfo(&encoder->key);
	if (attnum != 0 && !nulls[attnum - 1])
		has_key = ks_encode_key_text(&encoder->key, encoder->def, TextDatumGetCString(values[attnum - 1]));
	else if (encoder->def->nkeys > 0 || origin == NULL)
		has_key = ks_encoder_key(encoder->rows, &encoder->key, values, nulls, false);
	else
	{
		rec->key = origin->key;
		rec->keylen = origin->keylen;
		return;
	}
	if (has_key)
	{
		rec->key = encoder->key.data;
		rec->keylen = encoder->key.len;
	}
}

/* The record's time. */
static void
encode_timestamp(KsOutEncoder *encoder, const Datum *values, const bool *nulls,
				 const KsOutOrigin *origin, KsRecord *rec)
{
	AttrNumber	attnum = encoder->def->meta[KS_META_TIMESTAMP];

	if (attnum != 0 && !nulls[attnum - 1])
		rec->timestamp = DatumGetTimestampTz(values[attnum - 1]);
	else if (origin != NULL && origin->event_time != DT_NOBEGIN)
		rec->timestamp = origin->event_time;
	else
		rec->timestamp = GetCurrentTimestamp();
	if (TIMESTAMP_NOT_FINITE(rec->timestamp) || ks_kafka_time(rec->timestamp) <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp %s of a record of stream %s is out of Kafka's range",
						timestamptz_to_str(rec->timestamp), encoder->def->relname),
				 errhint("Records have times after 1970; give another one as \"_timestamp\".")));
}

/* See out_record.h. */
void
ks_out_encode(KsOutEncoder *encoder, const Datum *values, const bool *nulls,
			  const KsOutOrigin *origin, KsRecord *rec)
{
	const KsStreamDef *def = encoder->def;
	MemoryContext old;
	AttrNumber	partition = def->meta[KS_META_PARTITION];
	AttrNumber	headers = def->meta[KS_META_HEADERS];
	AttrNumber	tombstone = def->meta[KS_META_TOMBSTONE];

	MemoryContextReset(encoder->cxt);
	old = MemoryContextSwitchTo(encoder->cxt);
	memset(rec, 0, sizeof(KsRecord));
	rec->leader_epoch = -1;
	rec->partition = -1;
	ks_refuse_log_columns(def, nulls);
	if (partition != 0 && !nulls[partition - 1])
		rec->partition = DatumGetInt32(values[partition - 1]);
	if (headers != 0 && !nulls[headers - 1])
		ks_out_headers(values[headers - 1], rec);
	encode_timestamp(encoder, values, nulls, origin, rec);
	encode_key(encoder, values, nulls, origin, rec);
	resetStringInfo(&encoder->value);
	if ((tombstone == 0 || nulls[tombstone - 1] || !DatumGetBool(values[tombstone - 1])) &&
		ks_encoder_value(encoder->rows, &encoder->value, values, nulls))
	{
		rec->value = encoder->value.data;
		rec->valuelen = encoder->value.len;
	}
	ks_out_check_size(rec, encoder->max_bytes, def);
	MemoryContextSwitchTo(old);
}

/* See out_record.h. */
void
ks_out_check_size(const KsRecord *rec, Size max_bytes, const KsStreamDef *def)
{
	if (rec->keylen + rec->valuelen > max_bytes)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a record of %zu bytes from %s is too large for topic \"%s\"",
						rec->keylen + rec->valuelen, def->relname, def->topic),
				 errhint("The option message_max_bytes of the server sets the greatest size; the broker has a limit of its own.")));
}

/* See out_record.h.  Rounded down, before 1970 as well. */
int64
ks_kafka_time(TimestampTz timestamp)
{
	int64		us = timestamp + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;

	return us >= 0 ? us / 1000 : -((-us + 999) / 1000);
}
