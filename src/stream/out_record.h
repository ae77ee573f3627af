/*
 * out_record.h
 *		Rows of a stream over a topic to records.
 */
#ifndef KS_OUT_RECORD_H
#define KS_OUT_RECORD_H

#include "base/record.h"
#include "catalog/stream_def.h"

typedef struct KsOutEncoder KsOutEncoder;

/* What a record is made from where the row does not say: the record it comes from. */
typedef struct KsOutOrigin
{
	const char *key;			/* bytes, or NULL: no key */
	size_t		keylen;
	TimestampTz event_time;		/* DT_NOBEGIN: now */
} KsOutOrigin;

/* In the current context. */
extern KsOutEncoder *ks_out_encoder_create(const KsStreamDef *def);

/*
 * Makes the record of a row (values of the columns of the foreign table).  What
 * it points to is valid until the next call.  Raises an error for a row that
 * cannot be a record: columns that the log decides, a timestamp that Kafka cannot
 * hold, a record that is too large.  origin may be NULL.
 */
extern void ks_out_encode(KsOutEncoder *encoder, const Datum *values, const bool *nulls,
						  const KsOutOrigin *origin, KsRecord *rec);

/* Milliseconds since 1970, as Kafka has it. */
extern int64 ks_kafka_time(TimestampTz timestamp);

/* An error if the text cannot be headers: an object whose values are strings. */
extern void ks_check_headers(Datum headers);

/* Headers of a record, out of jsonb; in the current context.  NULL members are headers without a value. */
extern void ks_out_headers(Datum headers, KsRecord *rec);

/* Greatest record that the server's options let through; an error if this one is greater. */
extern Size ks_out_max_bytes(Oid serverid);
extern void ks_out_check_size(const KsRecord *rec, Size max_bytes, const KsStreamDef *def);

/* An error if a partition that is asked for cannot exist in any topic or log. */
extern void ks_check_partition_number(const KsStreamDef *def, int32 partition);

/* An error if a value is given for a column that the log decides. */
extern void ks_refuse_log_columns(const KsStreamDef *def, const bool *nulls);

#endif							/* KS_OUT_RECORD_H */
