/*
 * upsert.c
 *		The operator of KTables: the last record of a key is its row.
 *
 * Columns of the row statement are the table's columns in order, then
 * _tombstone.  Within a batch the records of a key are folded in memory; then
 * each key is written once.  Without a version column the last offset wins.
 * With one, the greatest version wins, a tie goes to the later record, NULL is
 * the oldest, and a tombstone always deletes (and with the row its version is
 * forgotten).
 *
 * Folding needs the stored row only for its version, so keys are looked up when
 * they are written, except with a version column, where a record has to be
 * compared with the row in the table.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/typcache.h"

#include "base/compat.h"
#include "exec/group_table.h"
#include "exec/operator.h"
#include "exec/row_origin.h"
#include "store/change.h"
#include "store/table_writer.h"

/* What the records of a key have come to. */
typedef struct UpsertKey
{
	KsGroup		group;
	bool		deleted_first;	/* a tombstone came: the stored version no longer counts */
	bool		present;		/* row below is to be stored, else deleted */
	MinimalTuple row;
	TimestampTz event_time;		/* of the record that made it so */
} UpsertKey;

typedef struct UpsertOperator
{
	KsOperator	base;
	const KsQueryRow *query;
	MemoryContext cxt;			/* of the attempt */
	KsTableHints *hints;
	KsTableWriter *writer;		/* while applying */
	List	   *key_names;
	KsKeySpec  *keys;
	KsGroupTable *table;
	TupleDesc	desc;			/* of the table */
	int			ncolumns;
	AttrNumber *attnums;		/* attribute of each column of the statement */
	int		   *keycols;		/* column of the statement for each key */
	int			versioncol;		/* column of the statement, or -1 */
	AttrNumber	versionatt;
	FmgrInfo	cmp;
	Oid			cmp_collation;
	TupleTableSlot *fold_slot;
	KsRowOrigin *origin;		/* NULL: nobody wants to know the event time */
	TupleDesc	row_desc;		/* of the statement */
} UpsertOperator;

/* Positions of the table's live columns, key columns and version column. */
static void
layout_columns(UpsertOperator *op)
{
	int			n = 0;

	op->attnums = palloc(sizeof(AttrNumber) * (op->desc->natts + 1));
	op->keycols = palloc(sizeof(int) * Max(op->keys->nkeys, 1));
	op->versioncol = -1;
	for (int i = 0; i < op->desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(op->desc, i);

		if (att->attisdropped)
			continue;
		for (int k = 0; k < op->keys->nkeys; k++)
		{
			if (op->keys->columns[k].attnum == att->attnum)
				op->keycols[k] = n;
		}
		if (op->query->version_column != NULL &&
			strcmp(NameStr(att->attname), op->query->version_column) == 0)
		{
			TypeCacheEntry *type = lookup_type_cache(att->atttypid, TYPECACHE_CMP_PROC_FINFO);

			if (!OidIsValid(type->cmp_proc_finfo.fn_oid))
				ereport(ERROR,
						(errcode(ERRCODE_UNDEFINED_FUNCTION),
						 errmsg("version column \"%s\" has a type that cannot be ordered", NameStr(att->attname))));
			fmgr_info_copy(&op->cmp, &type->cmp_proc_finfo, CurrentMemoryContext);
			op->cmp_collation = att->attcollation;
			op->versioncol = n;
			op->versionatt = att->attnum;
		}
		op->attnums[n++] = att->attnum;
	}
	op->ncolumns = n;
	if (op->query->version_column != NULL && op->versioncol < 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("version column \"%s\" of relation \"%s\" does not exist",
						op->query->version_column, get_rel_name(op->query->relation))));
}

/* Starts with no keys. */
static void
upsert_begin(KsOperator *base, MemoryContext cxt)
{
	UpsertOperator *op = (UpsertOperator *) base;
	MemoryContext old = MemoryContextSwitchTo(cxt);
	Relation	rel = table_open(op->query->relation, AccessShareLock);

	op->cxt = cxt;
	op->desc = CreateTupleDescCopy(RelationGetDescr(rel));
	op->key_names = ks_primary_key_names(rel);
	op->keys = ks_key_spec_create(rel, op->key_names);
	table_close(rel, NoLock);
	op->table = ks_group_table_create(op->keys, sizeof(UpsertKey), 0);
	op->origin = ks_changes_wanted(op->query->relation) ? ks_row_origin_create(-1, -1) : NULL;
	op->row_desc = NULL;
	layout_columns(op);
	MemoryContextSwitchTo(old);
}

/* Is version a older than b (NULL is oldest)? */
static bool
version_older(UpsertOperator *op, Datum a, bool anull, Datum b, bool bnull)
{
	if (anull || bnull)
		return anull && !bnull;
	return DatumGetInt32(FunctionCall2Coll(&op->cmp, op->cmp_collation, a, b)) < 0;
}

/* Version of a folded row. */
static Datum
folded_version(UpsertOperator *op, UpsertKey *key, bool *isnull)
{
	ExecStoreMinimalTuple(key->row, op->fold_slot, false);
	return slot_getattr(op->fold_slot, op->versioncol + 1, isnull);
}

/* Remembers when what the key has come to happened. */
static void
note_event_time(UpsertOperator *op, UpsertKey *key, TupleTableSlot *slot)
{

	if (op->origin != NULL)
		key->event_time = ks_row_event_time(op->origin, slot);
}

/* Folds one record into its key. */
static void
upsert_add(KsOperator *base, TupleTableSlot *slot)
{
	UpsertOperator *op = (UpsertOperator *) base;
	MemoryContext old = MemoryContextSwitchTo(op->cxt);
	Datum		values[INDEX_MAX_KEYS];
	bool		nulls[INDEX_MAX_KEYS];
	UpsertKey  *key;
	bool		isnew;
	bool		tombstone;

	if (op->row_desc == NULL)
	{
		op->row_desc = CreateTupleDescCopy(slot->tts_tupleDescriptor);
		op->fold_slot = MakeSingleTupleTableSlot(op->row_desc, &TTSOpsMinimalTuple);
	}
	slot_getallattrs(slot);
	for (int k = 0; k < op->keys->nkeys; k++)
	{
		values[k] = slot->tts_values[op->keycols[k]];
		nulls[k] = slot->tts_isnull[op->keycols[k]];
	}
	key = (UpsertKey *) ks_group_table_get(op->table, values, nulls, &isnew);
	tombstone = DatumGetBool(slot->tts_values[op->ncolumns]);
	if (tombstone)
	{
		note_event_time(op, key, slot);
		key->deleted_first = true;
		key->present = false;
	}
	else
	{
		bool		replace = true;

		if (op->versioncol >= 0 && key->present)
		{
			bool		isnull;
			Datum		version = folded_version(op, key, &isnull);

			replace = !version_older(op, slot->tts_values[op->versioncol],
									 slot->tts_isnull[op->versioncol], version, isnull);
		}
		if (replace)
		{
			key->row = ExecCopySlotMinimalTuple(slot);
			note_event_time(op, key, slot);
		}
		key->present = true;
	}
	MemoryContextSwitchTo(old);
}

/* The first phase holds nothing open. */
static void
upsert_finish(KsOperator *base)
{
}

/* Fills the writer's slot from the folded row. */
static void
fill_slot(UpsertOperator *op, UpsertKey *key)
{
	TupleTableSlot *slot = op->writer->slot;

	ExecStoreMinimalTuple(key->row, op->fold_slot, false);
	slot_getallattrs(op->fold_slot);
	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, sizeof(bool) * slot->tts_tupleDescriptor->natts);
	for (int i = 0; i < op->ncolumns; i++)
	{
		slot->tts_values[op->attnums[i] - 1] = op->fold_slot->tts_values[i];
		slot->tts_isnull[op->attnums[i] - 1] = op->fold_slot->tts_isnull[i];
	}
	ExecStoreVirtualTuple(slot);
}

/* Writes what a key has come to; returns true if the table changed. */
static bool
write_key(UpsertOperator *op, UpsertKey *key)
{
	KsTableWriter *writer = op->writer;
	bool		exists = ks_writer_find(writer, key->group.hash, key->group.keys, key->group.nulls);

	writer->event_time = key->event_time;
	if (!key->present)
	{
		if (!exists)
			return false;
		ks_writer_delete(writer, key->group.hash, &writer->old_slot->tts_tid);
		return true;
	}
	fill_slot(op, key);
	if (!exists)
	{
		ks_writer_insert(writer, key->group.hash);
		return true;
	}
	if (op->versioncol >= 0 && !key->deleted_first)
	{
		bool		oldnull;
		Datum		oldversion = slot_getattr(writer->old_slot, op->versionatt, &oldnull);

		if (version_older(op, writer->slot->tts_values[op->versionatt - 1],
						  writer->slot->tts_isnull[op->versionatt - 1], oldversion, oldnull))
			return false;
	}
	if (ks_slots_identical(writer->old_slot, writer->slot))
		return false;
	ks_writer_update(writer, key->group.hash, &writer->old_slot->tts_tid);
	return true;
}

/* Writes every key. */
static int64
upsert_apply(KsOperator *base)
{
	UpsertOperator *op = (UpsertOperator *) base;
	int64		changed = 0;
	int			n = ks_group_table_count(op->table);

	if (n == 0)
		return 0;
	op->writer = ks_writer_open(op->query->relation, op->key_names, op->hints);
	ks_writer_listen(op->writer);
	for (int i = 0; i < n; i++)
	{
		if (write_key(op, (UpsertKey *) ks_group_table_nth(op->table, i)))
			changed++;
	}
	ks_writer_close(op->writer);
	op->writer = NULL;
	return changed;
}

/* See operator.h. */
KsOperator *
ks_upsert_create(const KsQueryRow *query)
{
	UpsertOperator *op = palloc0(sizeof(UpsertOperator));

	op->base.begin = upsert_begin;
	op->base.add = upsert_add;
	op->base.finish = upsert_finish;
	op->base.apply = upsert_apply;
	op->query = query;
	op->hints = ks_table_hints_create();
	return &op->base;
}
