/*
 * record.h
 *		One record of a log, as it comes from a Kafka topic: bytes and coordinates.
 *
 * Produced by kafka/consumer.c, read by format/ (which turns it into typed
 * values) and by store/dead_letter.c (which keeps the bytes of a bad one).
 * The memory of key, value and headers belongs to whoever produced the record.
 */
#ifndef KS_RECORD_H
#define KS_RECORD_H

#include "postgres.h"
#include "access/attnum.h"
#include "access/attnum.h"
#include "datatype/timestamp.h"

typedef struct KsHeader
{
	const char *name;			/* NUL-terminated */
	const char *value;			/* NULL: header without a value */
	size_t		len;
} KsHeader;

typedef struct KsRecord
{
	int32		partition;
	int64		offset;
	int32		leader_epoch;	/* -1: not known */
	TimestampTz timestamp;		/* record's own timestamp; DT_NOBEGIN: none */
	const char *key;			/* NULL: no key */
	size_t		keylen;
	const char *value;			/* NULL: tombstone */
	size_t		valuelen;
	KsHeader   *headers;
	int			nheaders;
} KsRecord;

/*
 * What is wrong with a record, or with one column of it.  attnum 0 means the
 * document (or the key) as a whole: such a record is bad for every query.
 * Otherwise it is bad only for the queries that read the column.
 */
typedef struct KsRecordError
{
	AttrNumber	attnum;
	int			sqlstate;		/* as MAKE_SQLSTATE makes it */
	char	   *message;		/* primary message, already translated */
	struct KsRecordError *next;
} KsRecordError;

#endif							/* KS_RECORD_H */
