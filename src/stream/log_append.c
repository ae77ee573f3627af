/*
 * log_append.c
 *		Writing to the log of a local stream, and what happens at commit.
 *
 * Rows go straight to the heap, many at a time, marked with (partition, append,
 * sequence).  They have no offset yet.  At PRE_COMMIT the transaction takes a lock
 * per log and partition, in one order for all transactions, and holds it until it
 * has ended; reads the last segment, and adds its own behind it.  So offsets are
 * handed out in the order in which transactions become visible, and whoever sees
 * a segment sees everything before it.  A snapshot-based order would stall on
 * any old transaction of the cluster; this way stalls nobody, at the price that
 * transactions that write one partition commit one after the other.
 *
 * Rows of subtransactions that were rolled back are gone from the heap; then the
 * sequence has holes, and the append becomes several segments, one for each run
 * of rows without a hole.
 *
 * Runs in: any backend, any worker, in a transaction.  Memory: what waits for
 * the commit is in TopTransactionContext.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "stream/log_append.h"
#include "worker/wakeup.h"

/* Fourth field of our advisory lock tags for logs; SQL's functions use 1 and 2. */
#define LOG_LOCK_SPACE		8

/* Rows and bytes that are collected before they are written. */
#define BUFFER_ROWS			1000
#define BUFFER_BYTES		(1024 * 1024)

/* The append of this transaction to one partition of one log. */
typedef struct PendingAppend
{
	Oid			log;
	Oid			segments;
	int32		partition;
	int64		number;
	int32		next;			/* next _s */
	TimestampTz newest;
	bool		holes;			/* rows may be missing */
} PendingAppend;

struct KsLogWriter
{
	MemoryContext cxt;
	MemoryContext flush_cxt;
	const KsStreamDef *def;
	KsLocalLog	log;
	Relation	rel;
	EState	   *estate;
	ResultRelInfo *rri;
	AttrNumber *map;			/* attribute of the stream -> of the log */
	BulkInsertState bistate;	/* only once there is much to write */
	TupleTableSlot **slots;		/* [BUFFER_ROWS], made when needed */
	int			nslots;
	int			nrows;
	Size		bytes;
	FmgrInfo	key_out;		/* of the only key column */
	TupleDesc	key_desc;		/* of several key columns */
};

static List *pending = NIL;		/* PendingAppend *, in TopTransactionContext */
static int64 unwritten = 0;		/* rows put but not written yet */
static bool log_grew = false;	/* segments were added in this transaction */
static int	next_partition = 0; /* for rows without a key */

static void prepare_key(KsLogWriter *writer);
static void complete_key(KsLogWriter *writer, Datum *values, bool *nulls);
static Datum key_text(KsLogWriter *writer, const Datum *values, const bool *nulls, bool *isnull);
static void complete_partition(KsLogWriter *writer, Datum *values, bool *nulls);
static void complete_timestamp(KsLogWriter *writer, Datum *values, bool *nulls);
static void check_headers(Datum headers);
static void refuse_column(const KsLogWriter *writer, KsMetaColumn meta, const bool *nulls);
static PendingAppend *pending_append(const KsLocalLog *log, int32 partition);
static int64 next_append_number(void);
static TupleTableSlot *next_slot(KsLogWriter *writer);
static void flush(KsLogWriter *writer);
static bool has_all_columns(const KsLogWriter *writer);

static void xact_callback(XactEvent event, void *arg);
static void subxact_callback(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg);
static void assign_offsets(void);
static int	compare_pending(const ListCell *a, const ListCell *b);
static void lock_partition(const PendingAppend *append);
static void assign_append(PendingAppend *append);
static int64 log_end(Relation segments, int32 partition);
static int64 add_runs(const PendingAppend *append, int64 base, EState *estate, ResultRelInfo *rri,
					  TupleTableSlot *slot);
static void add_segment(const PendingAppend *append, int64 base, int32 first, int32 count,
						EState *estate, ResultRelInfo *rri, TupleTableSlot *slot);


/* ---------------------------------------------------------------- writers */

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

	writer->rel = table_open(writer->log.log, RowExclusiveLock);
	writer->map = ks_local_log_map(def, RelationGetDescr(writer->rel));
	if (!has_all_columns(writer))
	{
		table_close(writer->rel, NoLock);
		ks_local_log_follow(def->relid);
		writer->rel = table_open(writer->log.log, RowExclusiveLock);
		writer->map = ks_local_log_map(def, RelationGetDescr(writer->rel));
	}

	writer->flush_cxt = AllocSetContextCreate(cxt, "kstream log flush", ALLOCSET_DEFAULT_SIZES);
	writer->estate = ks_create_estate(writer->rel);
	writer->rri = makeNode(ResultRelInfo);
	InitResultRelInfo(writer->rri, writer->rel, 1, NULL, 0);
	ExecOpenIndices(writer->rri, false);
	writer->slots = palloc0(sizeof(TupleTableSlot *) * BUFFER_ROWS);
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
	flush(writer);
	if (writer->bistate != NULL)
		FreeBulkInsertState(writer->bistate);
	for (int i = 0; i < writer->nslots; i++)
		ExecDropSingleTupleTableSlot(writer->slots[i]);
	ExecCloseIndices(writer->rri);
	ExecResetTupleTable(writer->estate->es_tupleTable, false);
	FreeExecutorState(writer->estate);
	table_close(writer->rel, NoLock);
	MemoryContextDelete(writer->cxt);
}

/* See local_log.h. */
void
ks_local_log_append(Oid relid, TupleDesc desc, const KsStreamDef *def,
					const Datum *values, const bool *nulls)
{
	KsLogWriter *writer = ks_log_writer_open(def);
	Datum	   *row = palloc(sizeof(Datum) * Max(desc->natts, 1));
	bool	   *isnull = palloc(sizeof(bool) * Max(desc->natts, 1));

	Assert(relid == def->relid);
	memcpy(row, values, sizeof(Datum) * desc->natts);
	memcpy(isnull, nulls, sizeof(bool) * desc->natts);
	ks_log_writer_complete(writer, row, isnull);
	ks_log_writer_put(writer, row, isnull);
	ks_log_writer_close(writer);
	pfree(row);
	pfree(isnull);
}

/* ---------------------------------------------------------------- metadata of a row */

/* See log_append.h. */
void
ks_log_writer_complete(KsLogWriter *writer, Datum *values, bool *nulls)
{
	const KsStreamDef *def = writer->def;
	AttrNumber	headers = def->meta[KS_META_HEADERS];
	AttrNumber	tombstone = def->meta[KS_META_TOMBSTONE];

	refuse_column(writer, KS_META_OFFSET, nulls);
	refuse_column(writer, KS_META_STREAM_TIME, nulls);
	if (headers != 0 && !nulls[headers - 1])
		check_headers(values[headers - 1]);
	if (tombstone != 0 && nulls[tombstone - 1])
	{
		values[tombstone - 1] = BoolGetDatum(false);
		nulls[tombstone - 1] = false;
	}
	complete_key(writer, values, nulls);
	complete_partition(writer, values, nulls);
	complete_timestamp(writer, values, nulls);
}

/* What the log decides about a record cannot be given. */
static void
refuse_column(const KsLogWriter *writer, KsMetaColumn meta, const bool *nulls)
{
	AttrNumber	attnum = writer->def->meta[meta];

	if (attnum != 0 && !nulls[attnum - 1])
		ereport(ERROR,
				(errcode(ERRCODE_GENERATED_ALWAYS),
				 errmsg("cannot insert a value into column \"%s\" of stream %s",
						ks_meta_name(meta), writer->def->relname),
				 errhint("The log decides it. Name the columns to insert, and leave this one out.")));
}

/* Headers are an object of strings. */
static void
check_headers(Datum headers)
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
				 errmsg("column \"_headers\" must be a JSON object whose values are strings"),
				 errhint("For example '{\"trace\": \"4711\"}'.")));
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
		if (partition < 0 || partition >= writer->log.partitions)
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
	PendingAppend *append = pending_append(&writer->log, partition);
	TupleTableSlot *slot = next_slot(writer);
	Datum	   *out = slot->tts_values;
	bool	   *isnull = slot->tts_isnull;

	if (append->next == PG_INT32_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("too many rows for stream %s in one transaction", def->relname)));
	if (timestamp > append->newest)
		append->newest = timestamp;

	memset(isnull, true, sizeof(bool) * slot->tts_tupleDescriptor->natts);
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
	ExecStoreVirtualTuple(slot);
	ExecMaterializeSlot(slot);

	append->next++;
	unwritten++;
	writer->nrows++;
	writer->bytes += ((HeapTupleTableSlot *) slot)->tuple->t_len;
	if (writer->nrows >= BUFFER_ROWS || writer->bytes >= BUFFER_BYTES)
	{
		if (writer->bistate == NULL)
			writer->bistate = GetBulkInsertState();
		flush(writer);
	}
}

/* An empty slot for the next row. */
static TupleTableSlot *
next_slot(KsLogWriter *writer)
{
	if (writer->nrows == writer->nslots)
	{
		MemoryContext old = MemoryContextSwitchTo(writer->cxt);

		writer->slots[writer->nslots++] =
			MakeSingleTupleTableSlot(RelationGetDescr(writer->rel), &TTSOpsHeapTuple);
		MemoryContextSwitchTo(old);
	}
	return ExecClearTuple(writer->slots[writer->nrows]);
}

/* Writes the collected rows with their index entries. */
static void
flush(KsLogWriter *writer)
{
	MemoryContext old;

	if (writer->nrows == 0)
		return;
	old = MemoryContextSwitchTo(writer->flush_cxt);
	table_multi_insert(writer->rel, writer->slots, writer->nrows, GetCurrentCommandId(true), 0, writer->bistate);
	for (int i = 0; i < writer->nrows; i++)
	{
		List	   *recheck = ks_insert_index_tuples(writer->rri, writer->slots[i], writer->estate);

		list_free(recheck);
		ResetPerTupleExprContext(writer->estate);
		ExecClearTuple(writer->slots[i]);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(writer->flush_cxt);
	unwritten -= writer->nrows;
	writer->nrows = 0;
	writer->bytes = 0;
}

/* The append of this transaction to the partition; begins it if there is none. */
static PendingAppend *
pending_append(const KsLocalLog *log, int32 partition)
{
	static PendingAppend *last = NULL;
	MemoryContext old;
	PendingAppend *append;
	ListCell   *lc;

	if (pending != NIL && last != NULL && last->log == log->log && last->partition == partition)
		return last;
	foreach(lc, pending)
	{
		append = lfirst(lc);
		if (append->log == log->log && append->partition == partition)
			return last = append;
	}

	append = MemoryContextAllocZero(TopTransactionContext, sizeof(PendingAppend));
	append->log = log->log;
	append->segments = log->segments;
	append->partition = partition;
	append->number = next_append_number();
	append->newest = DT_NOBEGIN;
	old = MemoryContextSwitchTo(TopTransactionContext);
	pending = lappend(pending, append);
	MemoryContextSwitchTo(old);
	return last = append;
}

/* A new number of an append. */
static int64
next_append_number(void)
{
	Oid			schema = get_namespace_oid("kstream_catalog", false);

	return nextval_internal(get_relname_relid("log_batch", schema), false);
}

/* ---------------------------------------------------------------- end of transaction */

/* Registers what has to be done when transactions end. */
void
ks_local_log_init(void)
{
	RegisterXactCallback(xact_callback, NULL);
	RegisterSubXactCallback(subxact_callback, NULL);
}

/* Gives the appends of the transaction their offsets just before it commits. */
static void
xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			if (pending != NIL)
				assign_offsets();
			break;
		case XACT_EVENT_PRE_PREPARE:
			if (pending != NIL)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("cannot PREPARE a transaction that has written to a local stream"),
						 errhint("End the transaction with COMMIT.")));
			break;
		case XACT_EVENT_COMMIT:
			if (log_grew)
				ks_notify_local_records();
			/* FALLTHROUGH */
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			pending = NIL;
			unwritten = 0;
			log_grew = false;
			break;
		default:
			break;
	}
}

/* After a rollback to a savepoint rows may be missing from the appends. */
static void
subxact_callback(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	ListCell   *lc;

	if (event != SUBXACT_EVENT_ABORT_SUB)
		return;
	foreach(lc, pending)
		((PendingAppend *) lfirst(lc))->holes = true;
}

/* Takes the locks in a fixed order, and gives every append its place. */
static void
assign_offsets(void)
{
	MemoryContext cxt = AllocSetContextCreate(TopTransactionContext, "kstream offsets", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	ListCell   *lc;

	list_sort(pending, compare_pending);
	foreach(lc, pending)
		lock_partition(lfirst(lc));
	PushActiveSnapshot(GetTransactionSnapshot());
	foreach(lc, pending)
		assign_append(lfirst(lc));
	PopActiveSnapshot();
	pending = NIL;
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}

/* The order in which locks are taken. */
static int
compare_pending(const ListCell *a, const ListCell *b)
{
	const PendingAppend *left = lfirst(a);
	const PendingAppend *right = lfirst(b);

	if (left->log != right->log)
		return left->log < right->log ? -1 : 1;
	return left->partition < right->partition ? -1 : left->partition > right->partition;
}

/* Waits for the others that append to the partition; held to the end of the transaction. */
static void
lock_partition(const PendingAppend *append)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, append->log, (uint32) append->partition, LOG_LOCK_SPACE);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

/*
 * Adds the segments of one append behind the last segment of its partition.  The
 * log may have been dropped in this transaction, or its creation rolled back.
 */
static void
assign_append(PendingAppend *append)
{
	Relation	rel;
	EState	   *estate;
	ResultRelInfo *rri;
	TupleTableSlot *slot;
	int64		base;

	if (append->next == 0 || !SearchSysCacheExists1(RELOID, ObjectIdGetDatum(append->log)))
		return;

	rel = table_open(append->segments, RowExclusiveLock);
	estate = ks_create_estate(rel);
	rri = makeNode(ResultRelInfo);
	InitResultRelInfo(rri, rel, 1, NULL, 0);
	ExecOpenIndices(rri, false);
	slot = table_slot_create(rel, NULL);

	base = log_end(rel, append->partition);
	if (append->holes || unwritten != 0)
		(void) add_runs(append, base, estate, rri, slot);
	else
		add_segment(append, base, 0, append->next, estate, rri, slot);

	ExecDropSingleTupleTableSlot(slot);
	ExecCloseIndices(rri);
	FreeExecutorState(estate);
	table_close(rel, NoLock);
}

/*
 * The offset after the last segment of the partition.  Whoever wrote it has
 * ended, for we hold the lock; so the current state is read, which is right at
 * every isolation level, where the transaction's snapshot would be too old.
 */
static int64
log_end(Relation segments, int32 partition)
{
	Relation	index = index_open(ks_primary_key_index(segments), AccessShareLock);
	TupleTableSlot *slot = table_slot_create(segments, NULL);
	IndexScanDesc scan = ks_index_beginscan(segments, index, SnapshotSelf, 1);
	ScanKeyData key;
	int64		end = 0;

	ScanKeyInit(&key, KS_SEGMENT_PARTITION, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(partition));
	index_rescan(scan, &key, 1, NULL, 0);
	if (index_getnext_slot(scan, BackwardScanDirection, slot))
	{
		slot_getallattrs(slot);
		end = DatumGetInt64(slot->tts_values[KS_SEGMENT_BASE - 1]) +
			DatumGetInt32(slot->tts_values[KS_SEGMENT_COUNT - 1]);
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, NoLock);
	return end;
}

/*
 * Goes through the rows of the append that are left, and adds a segment for each
 * run without a hole.  Returns the offset after the last one.
 */
static int64
add_runs(const PendingAppend *append, int64 base, EState *estate, ResultRelInfo *rri, TupleTableSlot *slot)
{
	Relation	rel = table_open(append->log, AccessShareLock);
	Relation	index = index_open(ks_primary_key_index(rel), AccessShareLock);
	TupleTableSlot *row = table_slot_create(rel, NULL);
	IndexScanDesc scan = ks_index_beginscan(rel, index, SnapshotSelf, 2);
	ScanKeyData keys[2];
	int32		first = 0;
	int32		count = 0;

	ScanKeyInit(&keys[0], KS_LOG_PARTITION, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(append->partition));
	ScanKeyInit(&keys[1], KS_LOG_APPEND, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(append->number));
	index_rescan(scan, keys, 2, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, row))
	{
		bool		isnull;
		int32		sequence = DatumGetInt32(slot_getattr(row, KS_LOG_SEQUENCE, &isnull));

		CHECK_FOR_INTERRUPTS();
		if (count > 0 && sequence != first + count)
		{
			add_segment(append, base, first, count, estate, rri, slot);
			base += count;
			count = 0;
		}
		if (count == 0)
			first = sequence;
		count++;
	}
	if (count > 0)
		add_segment(append, base, first, count, estate, rri, slot);

	index_endscan(scan);
	ExecDropSingleTupleTableSlot(row);
	index_close(index, NoLock);
	table_close(rel, NoLock);
	return base + count;
}

/* Adds one segment. */
static void
add_segment(const PendingAppend *append, int64 base, int32 first, int32 count,
			EState *estate, ResultRelInfo *rri, TupleTableSlot *slot)
{
	ExecClearTuple(slot);
	memset(slot->tts_isnull, false, sizeof(bool) * KS_SEGMENT_NATTS);
	slot->tts_values[KS_SEGMENT_PARTITION - 1] = Int32GetDatum(append->partition);
	slot->tts_values[KS_SEGMENT_BASE - 1] = Int64GetDatum(base);
	slot->tts_values[KS_SEGMENT_COUNT - 1] = Int32GetDatum(count);
	slot->tts_values[KS_SEGMENT_APPEND - 1] = Int64GetDatum(append->number);
	slot->tts_values[KS_SEGMENT_FIRST - 1] = Int32GetDatum(first);
	slot->tts_values[KS_SEGMENT_NEWEST - 1] = TimestampTzGetDatum(append->newest);
	ExecStoreVirtualTuple(slot);
	table_tuple_insert(rri->ri_RelationDesc, slot, GetCurrentCommandId(true), 0, NULL);
	list_free(ks_insert_index_tuples(rri, slot, estate));
	ResetPerTupleExprContext(estate);
	log_grew = true;
}
