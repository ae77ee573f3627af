/*
 * stream_def.h
 *		The definition of a stream relation, read from its foreign table.
 *
 * A stream is a foreign table whose server belongs to the wrapper "kstream".
 * Table options, column options and column names say how its records are
 * decoded; everything is read here once and used everywhere else.
 */
#ifndef KS_STREAM_DEF_H
#define KS_STREAM_DEF_H

#include "postgres.h"
#include "access/attnum.h"
#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/relcache.h"

typedef enum KsFormat
{
	KS_FORMAT_JSON,				/* object, a field per column */
	KS_FORMAT_CSV,				/* COPY's csv, a field per column in order */
	KS_FORMAT_TEXT,				/* one column, the value as text */
	KS_FORMAT_BYTEA,			/* one column, the value's bytes */
	KS_FORMAT_JSONB				/* one column, the whole value */
} KsFormat;

typedef enum KsKeyFormat
{
	KS_KEY_TEXT,
	KS_KEY_JSON,
	KS_KEY_BYTEA,
	KS_KEY_INT,					/* 4 bytes, big-endian (Kafka's IntegerSerializer) */
	KS_KEY_BIGINT,				/* 8 bytes, big-endian (LongSerializer) */
	KS_KEY_NONE					/* the record key is not read */
} KsKeyFormat;

/* The columns that every stream relation has after the declared ones. */
typedef enum KsMetaColumn
{
	KS_META_KEY,				/* _key text */
	KS_META_PARTITION,			/* _partition int */
	KS_META_OFFSET,				/* _offset bigint */
	KS_META_TIMESTAMP,			/* _timestamp timestamptz */
	KS_META_HEADERS,			/* _headers jsonb */
	KS_META_STREAM_TIME,		/* _stream_time timestamptz */
	KS_META_TOMBSTONE			/* _tombstone bool: only in a KTable's hidden source */
} KsMetaColumn;

#define KS_NUM_META (KS_META_TOMBSTONE + 1)

/* What a column of the relation is filled from. */
typedef enum KsColumnKind
{
	KS_COL_DROPPED,
	KS_COL_VALUE,				/* a field of the record value */
	KS_COL_KEY,					/* the record key, or the value's field where there is no key */
	KS_COL_META					/* see KsStreamDef.meta */
} KsColumnKind;

typedef struct KsColumnDef
{
	KsColumnKind kind;
	AttrNumber	attnum;
	const char *name;
	const char *path;			/* column option "path", or NULL: the column's name is the field */
	Oid			typid;
	int32		typmod;
	Oid			collation;
	bool		notnull;
} KsColumnDef;

typedef struct KsStreamDef
{
	Oid			relid;
	Oid			serverid;
	Oid			owner;			/* owner of the foreign table */
	bool		local;			/* its log is a Postgres table */
	char	   *relname;		/* qualified, quoted: for messages; of a hidden stream its table's */
	char	   *topic;			/* Kafka only */
	KsFormat	format;
	KsKeyFormat key_format;
	int			natts;			/* attributes of the relation, dropped ones included */
	KsColumnDef *columns;		/* natts entries, [attnum - 1] */
	int			nkeys;
	AttrNumber *keys;			/* columns filled from the record key, in key order */
	AttrNumber	meta[KS_NUM_META];	/* attnum of each metadata column, or 0 */
	AttrNumber	event_time;		/* column holding event time, or 0: the record's timestamp */
	int			partitions;		/* option "partitions", or 0 */
	int			ndedup;			/* columns of dedup_key; 0: duplicates are kept */
	AttrNumber *dedup_keys;
	int64		dedup_window;	/* microseconds */
	bool		at_least_once;	/* option "guarantee": how records get into the topic */
	int			nchecks;		/* CHECK constraints of the relation */
} KsStreamDef;

/* True if relid is a foreign table of the wrapper kstream. */
extern bool ks_is_stream(Oid relid);

/* Reads the definition into the current memory context; errors if relid is no stream. */
extern KsStreamDef *ks_stream_def_load(Relation rel);
/* The same by its number; the stream stays locked (AccessShareLock) until the transaction ends. */
extern KsStreamDef *ks_stream_def_of(Oid stream);

/*
 * The option dedup_window: its value in microseconds; errors if it is no length
 * of time.  ks_dedup_window_usec: -1 if it cannot be a window.
 */
extern int64 ks_dedup_window_parse(const char *value);
extern int64 ks_dedup_window_usec(const Interval *interval);

/*
 * The definition by which rows of a table are published: the columns of the
 * table, with the server, topic and formats of target, a foreign table; the
 * record key is made of the named columns (char *; NIL: there is none).  No
 * column of the table counts as metadata, whatever its name.
 */
extern KsStreamDef *ks_stream_def_of_table(Relation table, Oid target, List *key);

extern const char *ks_format_name(KsFormat format);
extern const char *ks_key_format_name(KsKeyFormat format);
extern const char *ks_meta_name(KsMetaColumn meta);

#endif							/* KS_STREAM_DEF_H */
