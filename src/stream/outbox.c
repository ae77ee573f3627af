/*
 * outbox.c
 *		Records on their way out: the tables of a sink's outbox.
 *
 * Tables kstream_state.out_<id>_0 and _1 hold packed records, oseg_<id>_0 and _1
 * the segments, see log_commit.h.  New transactions write the half that the
 * catalog names.  When it has grown, the halves change places; the other one can
 * be truncated once all its records are published and every transaction that
 * wrote to it has ended, which the lock that TRUNCATE takes shows.  A truncated
 * half keeps a segment for its last record, which says where it ended.
 *
 * Runs in: any backend, any worker.  Transaction: needed.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type_d.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/guc.h"
#include "catalog/cat_util.h"
#include "catalog/query_cat.h"
#include "stream/log_commit.h"
#include "stream/log_scan.h"
#include "stream/outbox.h"
#include "worker/wakeup.h"

/* Columns of a half's table of rows behind those of every log. */
enum
{
	OUT_COUNT = KS_LOG_SEQUENCE + 1,	/* n int: records in the row */
	OUT_DATA					/* d bytea */
};

/* A half of this size changes places with the other; an idle one of the second size is emptied. */
#define SWITCH_BYTES	(16 * 1024 * 1024)
#define IDLE_BLOCKS		(1024 * 1024 / BLCKSZ)

/* A read in progress. */
typedef struct OutboxRead
{
	KsOutboxBatch *batch;
	MemoryContext cxt;
	int			max_records;
	Size		max_bytes;
	int			room;			/* records allocated */
} OutboxRead;

/* Creates one table of a half and gives it its owner. */
static Oid
create_part(const char *name, const char *columns, Oid owner)
{
	(void) ks_spi_execute(psprintf("CREATE TABLE kstream_state.%s (%s) USING heap", name, columns),
						  false, 0, NULL, NULL, NULL);
	(void) ks_spi_execute(psprintf("ALTER TABLE kstream_state.%s OWNER TO %s", name,
								   quote_identifier(GetUserNameFromId(owner, false))),
						  false, 0, NULL, NULL, NULL);
	return get_relname_relid(name, get_namespace_oid("kstream_state", false));
}

/* See outbox.h. */
DependencyType
ks_outbox_dependency(const KsSinkRow *sink)
{
	return sink->kind == KS_SINK_NAMED ? DEPENDENCY_AUTO : DEPENDENCY_INTERNAL;
}

/* Makes a table of the outbox part of what is published. */
static void
adopt_part(Oid part, const KsSinkRow *sink)
{
	ObjectAddress dependent;
	ObjectAddress whole;

	ObjectAddressSet(dependent, RelationRelationId, part);
	ObjectAddressSet(whole, RelationRelationId, sink->relation);
	recordDependencyOn(&dependent, &whole, ks_outbox_dependency(sink));
}

/* Creates one half. */
static void
create_half(KsSinkRow *sink, int half, Oid owner)
{
	char	   *rows = psprintf("out_%d_%d", sink->id, half);

	sink->halves[half].rows = create_part(rows, KS_LOG_COLUMNS_SQL ", n int NOT NULL, d bytea NOT NULL, "
										  KS_LOG_KEY_SQL, owner);
	sink->halves[half].segments = create_part(psprintf("oseg_%d_%d", sink->id, half),
											  KS_SEGMENT_COLUMNS_SQL, owner);
	/* a chunk stays in its row; nothing is compressed here, for it goes away soon */
	(void) ks_spi_execute(psprintf("ALTER TABLE kstream_state.%s ALTER COLUMN d SET STORAGE EXTERNAL,"
								   " SET (toast_tuple_target = 8160, autovacuum_enabled = off)", rows),
						  false, 0, NULL, NULL, NULL);
}

/* See outbox.h. */
char *
ks_outbox_new_incarnation(void)
{
	unsigned char bytes[16];
	char	   *name = palloc(2 * sizeof(bytes) + 1);

	if (!pg_strong_random(bytes, sizeof(bytes)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	hex_encode((char *) bytes, sizeof(bytes), name);
	name[2 * sizeof(bytes)] = '\0';
	return name;
}

/* See outbox.h. */
void
ks_outbox_create(KsSinkRow *sink)
{
	Relation	rel = relation_open(sink->relation, AccessShareLock);
	Oid			owner = rel->rd_rel->relowner;

	relation_close(rel, NoLock);
	(void) ks_sink_choose_id(sink);
	sink->incarnation = ks_outbox_new_incarnation();
	sink->half = 0;
	SPI_connect();
	for (int i = 0; i < 2; i++)
		create_half(sink, i, owner);
	SPI_finish();
	CommandCounterIncrement();
	for (int i = 0; i < 2; i++)
	{
		adopt_part(sink->halves[i].rows, sink);
		adopt_part(sink->halves[i].segments, sink);
	}
	ks_sink_insert(sink);
	ks_notify_definitions_changed();
}

/* See outbox.h. */
KsSinkRow *
ks_outbox_of_stream(const KsStreamDef *def)
{
	KsSinkRow  *sink = ks_sink_load_by_relation(def->relid);
	Relation	rel;

	if (sink != NULL)
		return sink;
	/* one creator at a time */
	rel = relation_open(def->relid, ShareUpdateExclusiveLock);
	sink = ks_sink_load_by_relation(def->relid);
	if (sink == NULL)
	{
		sink = palloc0(sizeof(KsSinkRow));
		sink->kind = KS_SINK_STREAM;
		sink->relation = sink->target = def->relid;
		sink->exactly_once = !def->at_least_once;
		ks_outbox_create(sink);
	}
	relation_close(rel, NoLock);
	return sink;
}

/* See outbox.h. */
void
ks_outbox_write(const KsSinkRow *sink, const KsPacker *packer)
{
	const KsOutboxHalf *half = &sink->halves[sink->half];
	KsLogPlace	place = {
		.identity = sink->halves[0].rows,
		.log = half->rows,
		.segments = half->segments,
		.other_segments = sink->halves[1 - sink->half].segments,
		.count_attnum = OUT_COUNT
	};
	KsPendingAppend *append;
	KsLogRows  *rows;
	ListCell   *lc;

	if (packer->nrecords == 0)
		return;
	append = ks_append_pending(&place, 0);
	if (packer->nrecords > PG_INT32_MAX - append->next)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("too many records to be published in one transaction")));
	append->newest = GetCurrentTimestamp();
	rows = ks_log_rows_open(half->rows);
	foreach(lc, packer->chunks)
	{
		KsChunk    *chunk = lfirst(lc);
		TupleTableSlot *slot = ks_log_rows_slot(rows);
		bytea	   *data = palloc(VARHDRSZ + chunk->data.len);

		SET_VARSIZE(data, VARHDRSZ + chunk->data.len);
		memcpy(VARDATA(data), chunk->data.data, chunk->data.len);
		memset(slot->tts_isnull, false, sizeof(bool) * OUT_DATA);
		slot->tts_values[KS_LOG_PARTITION - 1] = Int32GetDatum(0);
		slot->tts_values[KS_LOG_APPEND - 1] = Int64GetDatum(append->number);
		slot->tts_values[KS_LOG_SEQUENCE - 1] = Int32GetDatum(append->next);
		slot->tts_values[OUT_COUNT - 1] = Int32GetDatum(chunk->nrecords);
		slot->tts_values[OUT_DATA - 1] = PointerGetDatum(data);
		ks_log_rows_put(rows);
		pfree(data);
		append->next += chunk->nrecords;
	}
	ks_log_rows_close(rows);
}

/* ---------------------------------------------------------------- reading */

/* Is there room for more? */
static bool
read_is_full(const OutboxRead *read)
{
	return read->batch->nrecords >= read->max_records || read->batch->bytes >= read->max_bytes;
}

/* Adds the records of the row in the slot, from the given position on; base: of its first one. */
static void
take_chunk(OutboxRead *read, TupleTableSlot *slot, int64 base, int64 from, int64 to)
{
	KsOutboxBatch *batch = read->batch;
	MemoryContext old = MemoryContextSwitchTo(read->cxt);
	bool		isnull;
	int			n = DatumGetInt32(slot_getattr(slot, OUT_COUNT, &isnull));
	bytea	   *data = (bytea *) PG_DETOAST_DATUM_COPY(slot_getattr(slot, OUT_DATA, &isnull));
	int			skip = from > base ? (int) (from - base) : 0;
	int			last = to < base + n ? (int) (to - base) : n;

	if (batch->nrecords + n > read->room)
	{
		read->room = Max(read->room * 2, batch->nrecords + n + 64);
		batch->records = batch->records == NULL ? palloc(sizeof(KsRecord) * read->room) :
			repalloc_huge(batch->records, sizeof(KsRecord) * read->room);
	}
	ks_chunk_unpack(VARDATA(data), VARSIZE(data) - VARHDRSZ, n, batch->records + batch->nrecords);
	if (skip > 0)
		memmove(batch->records + batch->nrecords, batch->records + batch->nrecords + skip,
				sizeof(KsRecord) * (n - skip));
	batch->nrecords += Max(last - skip, 0);
	batch->bytes += VARSIZE(data);
	MemoryContextSwitchTo(old);
}

/*
 * Adds the records of one segment from the position on; returns the next one.
 * The row that holds a position may begin before it: rows are looked at from the
 * segment's beginning, but a segment read from its middle is rare.
 */
static int64
take_segment(OutboxRead *read, KsLogScan *rows, const KsLogSegment *segment, int64 position)
{
	int64		end = segment->base + segment->count;

	ks_log_scan_rows(rows, 0, segment, segment->base, end);
	while (position < end && !read_is_full(read) && ks_log_scan_next(rows, ForwardScanDirection))
	{
		bool		isnull;
		int64		base = segment->base +
			(DatumGetInt32(slot_getattr(rows->slot, KS_LOG_SEQUENCE, &isnull)) - segment->first);
		int64		next = base + DatumGetInt32(slot_getattr(rows->slot, OUT_COUNT, &isnull));

		if (next <= position)
			continue;
		take_chunk(read, rows->slot, base, position, end);
		position = Min(next, end);
		CHECK_FOR_INTERRUPTS();
	}
	return position;
}

/* Reads on in one half while its segments follow each other; returns the next position. */
static int64
read_half(OutboxRead *read, const KsOutboxHalf *half, Snapshot snapshot, int64 position)
{
	KsLogScan	segments;
	KsLogScan	rows;
	KsLogSegment segment;

	ks_log_scan_open(&segments, half->segments, snapshot, 2);
	ks_log_scan_open(&rows, half->rows, snapshot, 4);
	if (!ks_log_last_segment(&segments, 0, position, &segment))
		segment.base = position;
	ks_log_scan_segments(&segments, 0, BTGreaterEqualStrategyNumber, segment.base);
	while (!read_is_full(read) && ks_log_scan_next(&segments, ForwardScanDirection))
	{
		ks_log_segment_get(&segments, &segment);
		if (segment.base + segment.count <= position)
			continue;
		if (segment.base > position)
			break;
		position = take_segment(read, &rows, &segment, position);
	}
	ks_log_scan_close(&rows);
	ks_log_scan_close(&segments);
	return position;
}

/* Position after the last record of one half. */
static int64
half_end(const KsOutboxHalf *half, Snapshot snapshot)
{
	KsLogScan	segments;
	KsLogSegment segment = {0};
	bool		found;

	ks_log_scan_open(&segments, half->segments, snapshot, 2);
	found = ks_log_last_segment(&segments, 0, PG_INT64_MAX, &segment);
	ks_log_scan_close(&segments);
	return found ? segment.base + segment.count : 0;
}

/* See outbox.h. */
void
ks_outbox_read(const KsSinkRow *sink, int64 position, int max_records, Size max_bytes,
			   MemoryContext cxt, KsOutboxBatch *batch)
{
	OutboxRead	read = {batch, cxt, max_records, max_bytes, 0};
	Snapshot	snapshot = ks_log_snapshot();
	int64		next = position;
	int64		before;

	memset(batch, 0, sizeof(*batch));
	batch->position = position;
	do
	{
		before = next;
		for (int i = 0; i < 2 && !read_is_full(&read); i++)
			next = read_half(&read, &sink->halves[i], snapshot, next);
	} while (next > before && !read_is_full(&read));
	if (batch->nrecords == 0 &&
		position < Max(half_end(&sink->halves[0], snapshot), half_end(&sink->halves[1], snapshot)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("record " INT64_FORMAT " is no longer in the outbox of \"%s\"",
						position, ks_sink_display_name(sink)),
				 errhint("Call kstream.resync() to say how to go on.")));
	UnregisterSnapshot(snapshot);
	batch->nrecords = Min(batch->nrecords, max_records);
}

/* See outbox.h. */
int64
ks_outbox_end(const KsSinkRow *sink)
{
	Snapshot	snapshot = ks_log_snapshot();
	int64		end = Max(half_end(&sink->halves[0], snapshot), half_end(&sink->halves[1], snapshot));

	UnregisterSnapshot(snapshot);
	return end;
}

/* See outbox.h. */
TimestampTz
ks_outbox_time(const KsSinkRow *sink, int64 position)
{
	Snapshot	snapshot = ks_log_snapshot();
	TimestampTz result = DT_NOBEGIN;

	for (int i = 0; i < 2 && result == DT_NOBEGIN; i++)
	{
		KsLogScan	segments;
		KsLogSegment segment;
		bool		isnull;

		ks_log_scan_open(&segments, sink->halves[i].segments, snapshot, 2);
		if (ks_log_last_segment(&segments, 0, position, &segment) &&
			segment.base + segment.count > position)
			result = DatumGetTimestampTz(slot_getattr(segments.slot, KS_SEGMENT_NEWEST, &isnull));
		ks_log_scan_close(&segments);
	}
	UnregisterSnapshot(snapshot);
	return result;
}

/* Blocks of one half's rows. */
static BlockNumber
half_blocks(const KsOutboxHalf *half)
{
	Relation	rel = table_open(half->rows, AccessShareLock);
	BlockNumber blocks = RelationGetNumberOfBlocks(rel);

	if (OidIsValid(rel->rd_rel->reltoastrelid))
	{
		Relation	toast = table_open(rel->rd_rel->reltoastrelid, AccessShareLock);

		blocks += RelationGetNumberOfBlocks(toast);
		table_close(toast, AccessShareLock);
	}
	table_close(rel, AccessShareLock);
	return blocks;
}

/* See outbox.h. */
int64
ks_outbox_bytes(const KsSinkRow *sink)
{
	return ((int64) half_blocks(&sink->halves[0]) + half_blocks(&sink->halves[1])) * BLCKSZ;
}

/* ---------------------------------------------------------------- giving back */

/*
 * Empties a half whose records are all published.  False if some are not, or if
 * somebody uses it: a transaction that has written to it and not ended yet, or a
 * dump.
 */
static bool
empty_half(const KsOutboxHalf *half, int64 published)
{
	Snapshot	snapshot;
	int64		end;
	Oid			types[1] = {INT8OID};
	Datum		values[1];

	if (!ConditionalLockRelationOid(half->rows, AccessExclusiveLock))
		return false;
	if (!ConditionalLockRelationOid(half->segments, AccessExclusiveLock))
		return false;
	snapshot = ks_log_snapshot();
	end = half_end(half, snapshot);
	UnregisterSnapshot(snapshot);
	if (end == 0 || end > published)
		return false;
	values[0] = Int64GetDatum(end - 1);
	SPI_connect();
	(void) ks_spi_execute(psprintf("TRUNCATE kstream_state.%s, kstream_state.%s",
								   quote_identifier(get_rel_name(half->rows)),
								   quote_identifier(get_rel_name(half->segments))),
						  false, 0, NULL, NULL, NULL);
	(void) ks_spi_execute(psprintf("INSERT INTO kstream_state.%s VALUES (0, $1, 1, 0, 0, '-infinity')",
								   quote_identifier(get_rel_name(half->segments))),
						  false, 1, types, values, NULL);
	SPI_finish();
	return true;
}

/* See outbox.h. */
bool
ks_outbox_is_bulky(const KsSinkRow *sink)
{
	return half_blocks(&sink->halves[1 - sink->half]) > 0 || half_blocks(&sink->halves[sink->half]) > IDLE_BLOCKS;
}

/* See outbox.h. */
bool
ks_outbox_trim(KsSinkRow *sink, int64 published)
{
	KsOutboxHalf *now = &sink->halves[sink->half];
	KsOutboxHalf *other = &sink->halves[1 - sink->half];
	BlockNumber blocks = half_blocks(now);

	if (half_blocks(other) > 0)
		return empty_half(other, published);
	/* small enough that queries need not wait for one half to be emptied as a whole */
	if ((int64) blocks * BLCKSZ > Min(SWITCH_BYTES, (int64) ks_outbox_max_bytes * 1024 / 4))
	{
		sink->half = 1 - sink->half;
		ks_sink_set_half(sink->id, sink->half);
		return true;
	}
	if (blocks > IDLE_BLOCKS && published >= ks_outbox_end(sink))
		return empty_half(now, published);
	return false;
}
