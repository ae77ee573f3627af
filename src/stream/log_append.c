/*
 * log_append.c
 *		Writing rows to the log of a local stream.
 *
 * Rows are marked with (partition, append, sequence), see log_commit.h; missing
 * metadata is filled in, what the log decides is refused.
 *
 * Runs in: any backend, any worker, in a transaction.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "stream/log_append.h"
#include "stream/out_record.h"

struct KsLogWriter
{
	MemoryContext cxt;
	const KsStreamDef *def;
	KsLocalLog	log;
	KsLogPlace	place;
	KsLogRows  *rows;
	AttrNumber *map;			/* attribute of the stream -> of the log */
	FmgrInfo	key_out;		/* of the only key column */
	TupleDesc	key_desc;		/* of several key columns */
};

static int	next_partition = 0; /* for rows without a key */

static void prepare_key(KsLogWriter *writer);
static void complete_key(KsLogWriter *writer, Datum *values, bool *nulls);
static Datum key_text(KsLogWriter *writer, const Datum *values, const bool *nulls, bool *isnull);
static void complete_partition(KsLogWriter *writer, Datum *values, bool *nulls);
static void complete_timestamp(KsLogWriter *writer, Datum *values, bool *nulls);
static bool has_all_columns(const KsLogWriter *writer);


/* ---------------------------------------------------------------- writers */

/* Opens the table of rows and matches its columns. */
static void
open_rows(KsLogWriter *writer)
{
	writer->rows = ks_log_rows_open(writer->log.log);
	writer->map = ks_local_log_map(writer->def, RelationGetDescr(ks_log_rows_relation(writer->rows)));
	writer->place.identity = writer->place.log = writer->log.log;
	writer->place.segments = writer->log.segments;
}

/* See log_append.h. */
KsLogWriter *
ks_log_writer_open(const KsStreamDef *def)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "kstream log writer", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	KsLogWriter *writer = palloc0(sizeof(KsLogWriter));

	writer->cxt = cxt;
	writer->def = def;
	if (!ks_local_log_lookup(def->relid, &writer->log))
	{
		ks_local_log_create(def->relid, def->partitions);
		if (!ks_local_log_lookup(def->relid, &writer->log))
			elog(ERROR, "stream %s has no log", def->relname);
	}

	open_rows(writer);
	if (!has_all_columns(writer))
	{
		ks_log_rows_close(writer->rows);
		ks_local_log_follow(def->relid);
		open_rows(writer);
	}
	prepare_key(writer);
	MemoryContextSwitchTo(old);
	return writer;
}

/* True if every column of the stream has its column in the log. */
static bool
has_all_columns(const KsLogWriter *writer)
{
	for (int i = 0; i < writer->def->natts; i++)
	{
		KsColumnKind kind = writer->def->columns[i].kind;

		if ((kind == KS_COL_VALUE || kind == KS_COL_KEY) && writer->map[i] == 0)
			return false;
	}
	return true;
}

/* Writes what is collected and closes the log. */
void
ks_log_writer_close(KsLogWriter *writer)
{
	ks_log_rows_close(writer->rows);
	MemoryContextDelete(writer->cxt);
}

/* ---------------------------------------------------------------- metadata of a row */

/* See log_append.h. */
void
ks_log_writer_complete(KsLogWriter *writer, Datum *values, bool *nulls)
{
	const KsStreamDef *def = writer->def;
	AttrNumber	headers = def->meta[KS_META_HEADERS];
	AttrNumber	tombstone = def->meta[KS_META_TOMBSTONE];

	ks_refuse_log_columns(def, nulls);
	if (headers != 0 && !nulls[headers - 1])
		ks_check_headers(values[headers - 1]);
	if (tombstone != 0 && nulls[tombstone - 1])
	{
		values[tombstone - 1] = BoolGetDatum(false);
		nulls[tombstone - 1] = false;
	}
	complete_key(writer, values, nulls);
	complete_partition(writer, values, nulls);
	complete_timestamp(writer, values, nulls);
}

/* Looks up how to write the key as text. */
static void
prepare_key(KsLogWriter *writer)
{
	const KsStreamDef *def = writer->def;

	if (def->nkeys == 1)
	{
		Oid			outfunc;
		bool		is_varlena;

		getTypeOutputInfo(def->columns[def->keys[0] - 1].typid, &outfunc, &is_varlena);
		fmgr_info(outfunc, &writer->key_out);
	}
	else if (def->nkeys > 1)
	{
		writer->key_desc = CreateTemplateTupleDesc(def->nkeys);
		for (int i = 0; i < def->nkeys; i++)
		{
			const KsColumnDef *column = &def->columns[def->keys[i] - 1];

			TupleDescInitEntry(writer->key_desc, i + 1, column->name, column->typid, column->typmod, 0);
			TupleDescInitEntryCollation(writer->key_desc, i + 1, column->collation);
		}
		BlessTupleDesc(writer->key_desc);
	}
}

/* Column _key, where it is not given: text of the key columns. */
static void
complete_key(KsLogWriter *writer, Datum *values, bool *nulls)
{
	AttrNumber	attnum = writer->def->meta[KS_META_KEY];

	if (attnum == 0 || !nulls[attnum - 1] || writer->def->key_format == KS_KEY_NONE)
		return;
	values[attnum - 1] = key_text(writer, values, nulls, &nulls[attnum - 1]);
}

/* Text of the key columns: the value's text, or of several a JSON object. */
static Datum
key_text(KsLogWriter *writer, const Datum *values, const bool *nulls, bool *isnull)
{
	const KsStreamDef *def = writer->def;
	Datum		keys[INDEX_MAX_KEYS];
	bool		key_nulls[INDEX_MAX_KEYS];

	*isnull = true;
	for (int i = 0; i < def->nkeys; i++)
		*isnull &= nulls[def->keys[i] - 1];
	if (*isnull)
		return (Datum) 0;

	if (def->nkeys == 1)
		return CStringGetTextDatum(OutputFunctionCall(&writer->key_out, values[def->keys[0] - 1]));

	if (def->nkeys > INDEX_MAX_KEYS)
		ereport(ERROR,
				(errcode(ERRCODE_TOO_MANY_COLUMNS),
				 errmsg("key of stream %s has more than %d columns", def->relname, INDEX_MAX_KEYS)));
	for (int i = 0; i < def->nkeys; i++)
	{
		keys[i] = values[def->keys[i] - 1];
		key_nulls[i] = nulls[def->keys[i] - 1];
	}
	return DirectFunctionCall1(row_to_json,
							   HeapTupleGetDatum(heap_form_tuple(writer->key_desc, keys, key_nulls)));
}

/* Column _partition: checked if given, else by the key, else in turn. */
static void
complete_partition(KsLogWriter *writer, Datum *values, bool *nulls)
{
	const KsStreamDef *def = writer->def;
	AttrNumber	attnum = def->meta[KS_META_PARTITION];
	AttrNumber	key = def->meta[KS_META_KEY];
	int32		partition = 0;

	if (attnum == 0)
		return;
	if (!nulls[attnum - 1])
	{
		partition = DatumGetInt32(values[attnum - 1]);
		ks_check_partition_number(def, partition);
		if (partition >= writer->log.partitions)
			ereport(ERROR,
					(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
					 errmsg("partition %d of stream %s does not exist", partition, def->relname),
					 errdetail("It has partitions 0 to %d.", writer->log.partitions - 1)));
		return;
	}
	if (writer->log.partitions > 1)
	{
		if (key != 0 && !nulls[key - 1])
		{
			text	   *t = DatumGetTextPP(values[key - 1]);

			partition = ks_partition_for_key(VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t), writer->log.partitions);
		}
		else
		{
			partition = next_partition % writer->log.partitions;
			next_partition = (partition + 1) % writer->log.partitions;
		}
	}
	values[attnum - 1] = Int32GetDatum(partition);
	nulls[attnum - 1] = false;
}

/* Column _timestamp: the time of the insert if it is not given. */
static void
complete_timestamp(KsLogWriter *writer, Datum *values, bool *nulls)
{
	AttrNumber	attnum = writer->def->meta[KS_META_TIMESTAMP];

	if (attnum == 0)
		return;
	if (nulls[attnum - 1])
	{
		values[attnum - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
		nulls[attnum - 1] = false;
	}
	else if (TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(values[attnum - 1])))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("column \"_timestamp\" of stream %s must be finite", writer->def->relname)));
}

/*
 * See log_append.h.  MurmurHash2 (public domain algorithm by Austin Appleby) with
 * Kafka's seed, made positive as Kafka makes it.
 */
int32
ks_partition_for_key(const char *key, size_t len, int partitions)
{
	const uint32 m = 0x5bd1e995;
	const unsigned char *p = (const unsigned char *) key;
	uint32		h = 0x9747b28c ^ (uint32) len;

	for (; len >= 4; len -= 4, p += 4)
	{
		uint32		k = p[0] | (uint32) p[1] << 8 | (uint32) p[2] << 16 | (uint32) p[3] << 24;

		k *= m;
		k ^= k >> 24;
		k *= m;
		h *= m;
		h ^= k;
	}
	if (len >= 3)
		h ^= (uint32) p[2] << 16;
	if (len >= 2)
		h ^= (uint32) p[1] << 8;
	if (len >= 1)
	{
		h ^= p[0];
		h *= m;
	}
	h ^= h >> 13;
	h *= m;
	h ^= h >> 15;
	return (int32) ((h & 0x7fffffff) % (uint32) partitions);
}

/* ---------------------------------------------------------------- rows */

/* See log_append.h. */
void
ks_log_writer_put(KsLogWriter *writer, const Datum *values, const bool *nulls)
{
	const KsStreamDef *def = writer->def;
	const AttrNumber *meta = def->meta;
	int32		partition = meta[KS_META_PARTITION] ? DatumGetInt32(values[meta[KS_META_PARTITION] - 1]) : 0;
	TimestampTz timestamp = meta[KS_META_TIMESTAMP] ?
		DatumGetTimestampTz(values[meta[KS_META_TIMESTAMP] - 1]) : GetCurrentTimestamp();
	KsPendingAppend *append = ks_append_pending(&writer->place, partition);
	TupleTableSlot *slot = ks_log_rows_slot(writer->rows);
	Datum	   *out = slot->tts_values;
	bool	   *isnull = slot->tts_isnull;

	if (append->next == PG_INT32_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("too many rows for stream %s in one transaction", def->relname)));
	if (timestamp > append->newest)
		append->newest = timestamp;

	out[KS_LOG_PARTITION - 1] = Int32GetDatum(partition);
	out[KS_LOG_APPEND - 1] = Int64GetDatum(append->number);
	out[KS_LOG_SEQUENCE - 1] = Int32GetDatum(append->next);
	out[KS_LOG_TIMESTAMP - 1] = TimestampTzGetDatum(timestamp);
	isnull[KS_LOG_PARTITION - 1] = isnull[KS_LOG_APPEND - 1] = false;
	isnull[KS_LOG_SEQUENCE - 1] = isnull[KS_LOG_TIMESTAMP - 1] = false;
	for (int i = 0; i < def->natts; i++)
	{
		AttrNumber	attnum = writer->map[i];

		if (i + 1 == meta[KS_META_KEY])
			attnum = KS_LOG_KEY;
		else if (i + 1 == meta[KS_META_HEADERS])
			attnum = KS_LOG_HEADERS;
		else if (i + 1 == meta[KS_META_TOMBSTONE])
			attnum = KS_LOG_TOMBSTONE;
		if (attnum == 0)
			continue;
		out[attnum - 1] = values[i];
		isnull[attnum - 1] = nulls[i];
	}
	append->next++;
	ks_log_rows_put(writer->rows);
}
