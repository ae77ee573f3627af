/*
 * dedup_parts.c
 *		The tables that remember which keys a query has seen in a stream.
 *
 * A part is a table kstream_state.d_<query>_<number> with a row (hash, event
 * time, key columns) per key.  New keys go into the newest part; when the times
 * in it span half a window, the next batch begins another one.  So parts are old
 * or young as a whole and leave as a whole, by DROP.  They are tables of their
 * own and not partitions of one, because attaching and detaching lock the whole;
 * a part that somebody is reading is dropped later.
 *
 * kstream_catalog.dedup_part says which parts there are and between which times
 * their entries lie.  The bounds are rounded outwards, so that they move a few
 * times per window and not with every batch.
 *
 * Finding a key.  The index is over the hash; the key itself is compared, so a
 * collision of hashes drops nothing.  Keys that are new are the common case, and
 * for them a process keeps, per part, a table of all its hashes in memory with
 * the place of each row.  It is complete: what is not in it is not in the part.
 * What is in it is a hint, checked on use.  Memory is limited by
 * kstream.cache_mem; the oldest parts, which are hardly ever asked, are the first
 * to do without.
 *
 * Runs in: worker or a backend that steps; inside the batch's transaction.
 * Memory: a context of its own below that of the task; after an error the task
 * is closed and all is read anew.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type_d.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/guc.h"
#include "catalog/dedup_cat.h"
#include "catalog/names.h"
#include "store/dedup.h"
#include "store/dedup_parts.h"
#include "store/guard.h"

/* Columns of a part; the key columns follow. */
#define ATT_HASH 1
#define ATT_TIME 2
#define ATT_FIRST_KEY 3

/* Rows on a page, roughly. */
#define ROWS_PER_PAGE 100

/* Reading a row along with all others costs a tenth of finding it through the index. */
#define READS_PER_LOOKUP 10

/* After so many lookups in a part it is expected that most records of a batch will be looked up there. */
#define ENOUGH_LOOKUPS 100

/* Bounds move in steps of this part of the window. */
#define STEPS_PER_WINDOW 8

/* Place of the row of a hash. */
typedef struct CacheEntry
{
	uint64		hash;
	uint32		block;
	uint16		offset;
	char		status;
} CacheEntry;

#define SH_PREFIX partcache
#define SH_ELEMENT_TYPE CacheEntry
#define SH_KEY_TYPE uint64
#define SH_KEY hash
#define SH_HASH_KEY(tb, key) ((uint32) ((key) ^ ((key) >> 32)))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* See dedup_parts.h. */
KsDedupParts *
ks_dedup_parts_create(const KsQueryRow *query, Oid source, const KsKeySpec *keys, int64 window)
{
	KsDedupParts *parts = palloc0(sizeof(KsDedupParts));

	parts->cxt = AllocSetContextCreate(CurrentMemoryContext, "kstream keys seen", ALLOCSET_DEFAULT_SIZES);
	parts->query = query;
	parts->source = source;
	parts->keys = keys;
	parts->window = window;
	return parts;
}

/* Runs SQL of ours over the parts' catalog. */
static void
execute(const char *sql, int nargs, Oid *types, Datum *values)
{
	SPI_connect();
	ks_spi_execute(sql, false, nargs, types, values, NULL);
	SPI_finish();
}

/* A part in memory, behind all others. */
static KsDedupPart *
remember_part(KsDedupParts *parts, Oid relid, int number, TimestampTz low, TimestampTz high)
{
	MemoryContext old = MemoryContextSwitchTo(parts->cxt);
	KsDedupPart *part = palloc0(sizeof(KsDedupPart));

	part->relid = relid;
	part->number = number;
	part->low = low;
	part->high = high;
	parts->parts = lappend(parts->parts, part);
	MemoryContextSwitchTo(old);
	return part;
}

/* See dedup_parts.h. */
void
ks_dedup_parts_load(KsDedupParts *parts)
{
	Oid			types[2] = {INT4OID, OIDOID};
	Datum		values[2] = {Int32GetDatum(parts->query->id), ObjectIdGetDatum(parts->source)};

	if (parts->loaded)
		return;
	SPI_connect();
	ks_spi_execute("SELECT relation::oid, number, low, high FROM kstream_catalog.dedup_part"
				   " WHERE query = $1 AND source = $2 ORDER BY number", false, 2, types, values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;

		remember_part(parts, DatumGetObjectId(SPI_getbinval(tuple, desc, 1, &isnull)),
					  DatumGetInt32(SPI_getbinval(tuple, desc, 2, &isnull)),
					  DatumGetTimestampTz(SPI_getbinval(tuple, desc, 3, &isnull)),
					  DatumGetTimestampTz(SPI_getbinval(tuple, desc, 4, &isnull)));
	}
	SPI_finish();
	parts->loaded = true;
}

/* ---------------------------------------------------------------- memory */

/* Forgets where the rows of a part are. */
static void
free_cache(KsDedupPart *part)
{
	if (part->cache != NULL)
		partcache_destroy(part->cache);
	part->cache = NULL;
	part->probes = 0;
}

/* Keeps the memory within its limit; the oldest parts give way. */
static void
limit_memory(KsDedupParts *parts)
{
	Size		used = 0;
	ListCell   *lc;

	foreach(lc, parts->parts)
	{
		KsDedupPart *part = lfirst(lc);

		if (part->cache != NULL)
			used += part->cache->size * sizeof(CacheEntry);
	}
	foreach(lc, parts->parts)
	{
		KsDedupPart *part = lfirst(lc);

		if (used <= (Size) ks_cache_mem * 1024)
			return;
		if (part->cache != NULL)
			used -= part->cache->size * sizeof(CacheEntry);
		free_cache(part);
	}
}

/* Adds a row; of several with one hash, the index knows the others. */
static void
cache_row(KsDedupPart *part, uint64 hash, ItemPointer tid)
{
	bool		found;
	CacheEntry *entry = partcache_insert(part->cache, hash, &found);

	entry->block = ItemPointerGetBlockNumber(tid);
	entry->offset = ItemPointerGetOffsetNumber(tid);
}

/* Would it pay to read where all rows of the part are? */
static bool
loading_pays(const KsDedupParts *parts, const KsDedupPart *part)
{
	double		lookups = part->probes;

	if (lookups >= ENOUGH_LOOKUPS)
		lookups += parts->expected;
	return lookups * READS_PER_LOOKUP > (double) part->nblocks * ROWS_PER_PAGE;
}

/* Reads where all rows of the part are, if there is memory that no younger part uses. */
static void
load_cache(KsDedupParts *parts, KsDedupPart *part)
{
	double		rows = (double) part->nblocks * ROWS_PER_PAGE;
	double		used = 0;
	TableScanDesc scan;

	part->probes = 0;
	for (int i = list_length(parts->parts) - 1; list_nth(parts->parts, i) != part; i--)
	{
		KsDedupPart *younger = list_nth(parts->parts, i);

		if (younger->cache != NULL)
			used += younger->cache->size * sizeof(CacheEntry);
	}
	if (used + rows * sizeof(CacheEntry) > (double) ks_cache_mem * 1024)
		return;
	part->cache = partcache_create(parts->cxt, Max(rows / 2, 1024), NULL);
	scan = table_beginscan(part->rel, GetActiveSnapshot(), 0, NULL);
	while (table_scan_getnextslot(scan, ForwardScanDirection, part->slot))
	{
		bool		isnull;

		cache_row(part, (uint64) DatumGetInt64(slot_getattr(part->slot, ATT_HASH, &isnull)), &part->slot->tts_tid);
	}
	table_endscan(scan);
	limit_memory(parts);
}

/* ---------------------------------------------------------------- lookups */

/* The key's columns must have the types they had when the part was made. */
static void
check_columns(KsDedupParts *parts, KsDedupPart *part)
{
	TupleDesc	desc = RelationGetDescr(part->rel);
	bool		same = desc->natts == parts->keys->nkeys + ATT_FIRST_KEY - 1;

	for (int i = 0; same && i < parts->keys->nkeys; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, ATT_FIRST_KEY - 1 + i);

		same = att->atttypid == parts->keys->columns[i].typid && att->attcollation == parts->keys->columns[i].collation;
	}
	if (!same)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("the type of a dedup_key column of stream \"%s\" was changed", get_rel_name(parts->source)),
				 errhint("Change it back, or call kstream.reset() to build the table anew.")));
}

/*
 * Hash functions of a type are not the same on every platform, and a dump may
 * have come from another one.
 */
static void
check_hash(KsDedupParts *parts, KsDedupPart *part)
{
	TableScanDesc scan = table_beginscan(part->rel, GetActiveSnapshot(), 0, NULL);
	uint64		stored = 0;
	uint64		computed = 0;

	if (table_scan_getnextslot(scan, ForwardScanDirection, part->slot))
	{
		slot_getallattrs(part->slot);
		stored = (uint64) DatumGetInt64(part->slot->tts_values[ATT_HASH - 1]);
		computed = ks_key_hash(parts->keys, part->slot->tts_values + ATT_FIRST_KEY - 1,
							   part->slot->tts_isnull + ATT_FIRST_KEY - 1);
	}
	table_endscan(scan);
	if (stored != computed)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the keys seen in stream \"%s\" were hashed by another server", get_rel_name(parts->source)),
				 errdetail("Hash functions differ between platforms, and with the versions of collations."),
				 errhint("Call kstream.reset() to build the table anew.")));
	part->verified = true;
}

/* Opens the part for lookups. */
static void
open_part(KsDedupParts *parts, KsDedupPart *part)
{
	List	   *indexes;

	part->rel = table_open(part->relid, RowExclusiveLock);
	part->nblocks = RelationGetNumberOfBlocks(part->rel);
	check_columns(parts, part);
	indexes = RelationGetIndexList(part->rel);
	if (list_length(indexes) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("relation \"%s\" must have exactly one index", RelationGetRelationName(part->rel)),
				 errhint("It belongs to kstream; call kstream.reset() to build the table anew.")));
	part->index = index_open(linitial_oid(indexes), AccessShareLock);
	part->slot = table_slot_create(part->rel, NULL);
	part->scan = ks_index_beginscan(part->rel, part->index, GetActiveSnapshot(), 1);
	if (!part->verified)
		check_hash(parts, part);
}

/* See dedup_parts.h. */
void
ks_dedup_parts_close(KsDedupParts *parts)
{
	ListCell   *lc;

	foreach(lc, parts->parts)
	{
		KsDedupPart *part = lfirst(lc);

		if (part->rel == NULL)
			continue;
		index_endscan(part->scan);
		ExecDropSingleTupleTableSlot(part->slot);
		index_close(part->index, NoLock);
		table_close(part->rel, NoLock);
		part->rel = part->index = NULL;
		part->scan = NULL;
		part->slot = NULL;
	}
}

/* Has the row in the part's slot this key?  Then it is the hit. */
static bool
take_row(KsDedupParts *parts, KsDedupPart *part, const Datum *keys, KsDedupHit *hit)
{
	TupleTableSlot *slot = part->slot;

	slot_getallattrs(slot);
	for (int i = 0; i < parts->keys->nkeys; i++)
	{
		KsKeyColumn *column = &parts->keys->columns[i];

		if (!DatumGetBool(FunctionCall2Coll(&column->eq, column->collation,
											slot->tts_values[ATT_FIRST_KEY - 1 + i], keys[i])))
			return false;
	}
	hit->part = part;
	hit->tid = slot->tts_tid;
	hit->time = DatumGetTimestampTz(slot->tts_values[ATT_TIME - 1]);
	return true;
}

/* Looks through the index. */
static bool
find_by_index(KsDedupParts *parts, KsDedupPart *part, uint64 hash, const Datum *keys, KsDedupHit *hit)
{
	ScanKeyData key;
	bool		found = false;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum((int64) hash));
	index_rescan(part->scan, &key, 1, NULL, 0);
	while (!found && index_getnext_slot(part->scan, ForwardScanDirection, part->slot))
		found = take_row(parts, part, keys, hit);
	return found;
}

/* See dedup_parts.h. */
bool
ks_dedup_part_find(KsDedupParts *parts, KsDedupPart *part, uint64 hash, const Datum *keys, KsDedupHit *hit)
{
	CacheEntry *entry;
	ItemPointerData tid;

	if (part->cache == NULL)
	{
		if (part->rel == NULL)
			open_part(parts, part);
		part->probes++;
		if (loading_pays(parts, part))
			load_cache(parts, part);
		if (part->cache == NULL)
			return find_by_index(parts, part, hash, keys, hit);
	}
	entry = partcache_lookup(part->cache, hash);
	if (entry == NULL)
		return false;
	if (part->rel == NULL)
		open_part(parts, part);
	ItemPointerSet(&tid, entry->block, entry->offset);
	if (entry->block < part->nblocks &&
		table_tuple_fetch_row_version(part->rel, &tid, GetActiveSnapshot(), part->slot) &&
		take_row(parts, part, keys, hit))
		return true;
	return find_by_index(parts, part, hash, keys, hit);
}

/* ---------------------------------------------------------------- changes */

/* The statement that makes the table of a part. */
static char *
create_statement(KsDedupParts *parts, const char *name)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE TABLE kstream_state.%s (h int8 NOT NULL, t timestamptz NOT NULL", name);
	for (int i = 0; i < parts->keys->nkeys; i++)
	{
		KsKeyColumn *column = &parts->keys->columns[i];

		appendStringInfo(&sql, ", k%d %s", i + 1,
						 format_type_extended(column->typid, -1, FORMAT_TYPE_FORCE_QUALIFY));
		if (OidIsValid(column->collation))
			appendStringInfo(&sql, " COLLATE %s", ks_collation_name(column->collation));
	}
	appendStringInfoString(&sql, ") USING heap");
	return sql.data;
}

/* Makes the table a part of the query: its owner's, dropped with its view, guarded. */
static void
adopt_table(KsDedupParts *parts, Oid relid, const char *name)
{
	Relation	result = table_open(parts->query->relation, AccessShareLock);
	Oid			owner = result->rd_rel->relowner;
	ObjectAddress table;
	ObjectAddress whole;

	table_close(result, NoLock);
	execute(psprintf("ALTER TABLE kstream_state.%s REPLICA IDENTITY FULL", name), 0, NULL, NULL);
	execute(psprintf("ALTER TABLE kstream_state.%s OWNER TO %s", name,
					 quote_identifier(GetUserNameFromId(owner, false))), 0, NULL, NULL);
	ObjectAddressSet(table, RelationRelationId, relid);
	ObjectAddressSet(whole, RelationRelationId, parts->query->view);
	recordDependencyOn(&table, &whole, DEPENDENCY_INTERNAL);
	ks_guard_install(relid);
	CommandCounterIncrement();
}

/*
 * The first number of a table that is not there.  Numbers of a query rise, over
 * all its streams.
 */
static int
next_number(KsDedupParts *parts)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(parts->query->id)};
	Oid			schema = get_namespace_oid("kstream_state", false);
	bool		isnull;
	int			number;

	SPI_connect();
	ks_spi_execute("SELECT coalesce(max(number), 0) FROM kstream_catalog.dedup_part WHERE query = $1",
				   false, 1, types, values, NULL);
	number = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	do
		number++;
	while (OidIsValid(get_relname_relid(psprintf("d_%d_%d", parts->query->id, number), schema)));
	return number;
}

/* See dedup_parts.h. */
KsDedupPart *
ks_dedup_parts_add(KsDedupParts *parts)
{
	int			number = next_number(parts);
	char	   *name = psprintf("d_%d_%d", parts->query->id, number);
	KsDedupPart *part;
	Oid			relid;

	execute(create_statement(parts, name), 0, NULL, NULL);
	execute(psprintf("CREATE INDEX ON kstream_state.%s (h)", name), 0, NULL, NULL);
	CommandCounterIncrement();
	relid = get_relname_relid(name, get_namespace_oid("kstream_state", false));
	adopt_table(parts, relid, name);

	/* empty: low is above high */
	part = remember_part(parts, relid, number, DT_NOEND, DT_NOBEGIN);
	part->cache = partcache_create(parts->cxt, 1024, NULL);
	part->verified = true;
	ks_dedup_part_insert(relid, parts->query->id, parts->source, number, part->low, part->high);
	return part;
}

/* The time rounded down or up to a multiple of step; as it is where that would leave the range. */
static TimestampTz
round_time(TimestampTz time, int64 step, bool up)
{
	int64		rest = ((time % step) + step) % step;
	TimestampTz result;

	if (rest == 0)
		return time;
	if (up)
		result = time > DT_NOEND - step ? time : time + (step - rest);
	else
		result = time < DT_NOBEGIN + step ? time : time - rest;
	return IS_VALID_TIMESTAMP(result) ? result : time;
}

/* Widens the bounds of a part to hold the rows. */
static void
widen(KsDedupParts *parts, KsDedupPart *part, const KsDedupRow *rows, int nrows)
{
	int64		step = Max(parts->window / STEPS_PER_WINDOW, 1);
	TimestampTz low = part->low;
	TimestampTz high = part->high;
	Oid			types[3] = {OIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		values[3];

	for (int i = 0; i < nrows; i++)
	{
		if (rows[i].time < low)
			low = round_time(rows[i].time, step, false);
		if (rows[i].time > high)
			high = round_time(rows[i].time, step, true);
	}
	if (low == part->low && high == part->high)
		return;
	part->low = low;
	part->high = high;
	values[0] = ObjectIdGetDatum(part->relid);
	values[1] = TimestampTzGetDatum(low);
	values[2] = TimestampTzGetDatum(high);
	execute("UPDATE kstream_catalog.dedup_part SET low = $2, high = $3 WHERE relation = $1", 3, types, values);
}

/* See dedup_parts.h. */
void
ks_dedup_part_append(KsDedupParts *parts, KsDedupPart *part, const KsDedupRow *rows, int nrows)
{
	int			natts = parts->keys->nkeys + ATT_FIRST_KEY - 1;
	KsTableWriter *writer = ks_writer_open(part->relid, NIL, NULL);
	HeapTuple  *tuples = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(HeapTuple) * nrows);
	Datum	   *values = palloc(sizeof(Datum) * natts);
	bool	   *nulls = palloc0(sizeof(bool) * natts);

	widen(parts, part, rows, nrows);
	for (int i = 0; i < nrows; i++)
	{
		values[ATT_HASH - 1] = Int64GetDatum((int64) rows[i].hash);
		values[ATT_TIME - 1] = TimestampTzGetDatum(rows[i].time);
		memcpy(values + ATT_FIRST_KEY - 1, rows[i].keys, sizeof(Datum) * parts->keys->nkeys);
		tuples[i] = heap_form_tuple(RelationGetDescr(writer->rel), values, nulls);
	}
	ks_writer_append(writer, tuples, NULL, nrows);
	ks_writer_close(writer);
	for (int i = 0; part->cache != NULL && i < nrows; i++)
		cache_row(part, rows[i].hash, &tuples[i]->t_self);
	limit_memory(parts);
}

/* See dedup_parts.h. */
void
ks_dedup_part_remove(KsDedupPart *part, ItemPointer tid)
{
	Relation	rel = table_open(part->relid, RowExclusiveLock);

	simple_table_tuple_delete(rel, tid, GetActiveSnapshot());
	table_close(rel, NoLock);
}

/* See dedup_parts.h. */
void
ks_dedup_parts_drop(KsDedupParts *parts, KsDedupPart *part)
{
	if (!ks_dedup_part_drop(part->relid))
		return;
	free_cache(part);
	parts->parts = list_delete_ptr(parts->parts, part);
	pfree(part);
}

/* See dedup.h. */
void
ks_dedup_clear(int32 query)
{
	ListCell   *lc;

	foreach(lc, ks_dedup_part_relations(query))
	{
		Oid			relid = lfirst_oid(lc);

		/* One that a backup is reading is emptied only: waiting for the lock would block all others. */
		if (ks_dedup_part_drop(relid))
			continue;
		ks_guard_pass_begin(relid);
		execute(psprintf("DELETE FROM ONLY %s",
						 ks_qualified_name(relid)),
				0, NULL, NULL);
		ks_guard_pass_end();
	}
	CommandCounterIncrement();
}
