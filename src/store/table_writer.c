/*
 * table_writer.c
 *		Finding and writing single rows of result and state tables.
 *
 * See table_writer.h for the idea.  The executor helpers used are those of
 * logical replication's apply worker (execReplication.c).
 *
 * Runs in: worker or a backend that steps, inside a transaction, as the owner
 * of the table.  Memory: the context current at ks_writer_open.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/nbtree.h"
#include "access/relscan.h"
#include "access/tableam.h"
#include "access/table.h"
#include "access/sysattr.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"
#include "utils/typcache.h"

#include "base/compat.h"
#include "base/guc.h"
#include "store/change.h"
#include "store/table_writer.h"

/* Rows handed to the table access method at once by ks_writer_append. */
#define APPEND_CHUNK 1000

/* A page with less free space than this is pruned before a row of it is updated. */
#define ROOM_FOR_UPDATE (BLCKSZ / 4)

/* Where the row of a key was seen last. */
typedef struct HintEntry
{
	uint64		hash;
	ItemPointerData tid;
	char		status;
} HintEntry;

#define SH_PREFIX hint
#define SH_ELEMENT_TYPE HintEntry
#define SH_KEY_TYPE uint64
#define SH_KEY hash
#define SH_HASH_KEY(tb, key) ((uint32) ((key) ^ ((key) >> 32)))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/*
 * Hints that were begun on an empty table and never thrown away know every row:
 * a key that is not among them has none, and the index need not be asked.  A
 * row that a foreign writer smuggles in then makes the unique index refuse ours;
 * the error throws the hints away.
 */
struct KsTableHints
{
	MemoryContext cxt;
	hint_hash  *table;
	bool		started;		/* seen by a writer */
	bool		complete;		/* every row of the table is known */
};

/* Private part of a writer: the open index scan. */
typedef struct WriterScan
{
	KsTableWriter base;
	IndexScanDesc scan;
	ScanKeyData *scankeys;
	RegProcedure *eq_procs;
	Oid		   *collations;
	BlockNumber nblocks;
	Buffer		buffer;			/* pinned page of the last update, or InvalidBuffer */
} WriterScan;

/* See table_writer.h. */
KsKeySpec *
ks_key_spec_create(Relation rel, List *names)
{
	KsKeySpec  *spec = palloc0(sizeof(KsKeySpec));
	ListCell   *lc;

	spec->columns = palloc0(sizeof(KsKeyColumn) * Max(list_length(names), 1));
	foreach(lc, names)
	{
		KsKeyColumn *column = &spec->columns[spec->nkeys++];
		AttrNumber	attnum = get_attnum(RelationGetRelid(rel), lfirst(lc));
		Form_pg_attribute att;
		Oid			basetype;
		TypeCacheEntry *type;

		if (attnum <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("key column \"%s\" of relation \"%s\" does not exist",
							(char *) lfirst(lc), RelationGetRelationName(rel)),
					 errhint("Drop the relation and create its query anew.")));
		att = TupleDescAttr(RelationGetDescr(rel), attnum - 1);
		/* the cache knows no hash function of a domain over a range */
		basetype = getBaseType(att->atttypid);
		type = lookup_type_cache(basetype, TYPECACHE_EQ_OPR_FINFO | TYPECACHE_HASH_EXTENDED_PROC_FINFO);
		if (!OidIsValid(type->eq_opr_finfo.fn_oid))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_FUNCTION),
					 errmsg("could not identify an equality operator for key column \"%s\"", (char *) lfirst(lc))));
		column->attnum = attnum;
		column->typid = att->atttypid;
		column->collation = att->attcollation;
		column->typlen = att->attlen;
		column->typbyval = att->attbyval;
		fmgr_info_copy(&column->eq, &type->eq_opr_finfo, CurrentMemoryContext);
		if (OidIsValid(type->hash_extended_proc_finfo.fn_oid) && basetype != TSTZRANGEOID)
			fmgr_info_copy(&column->hash, &type->hash_extended_proc_finfo, CurrentMemoryContext);
		else
			/* money, bit, tsvector ... and windows: built-in types whose equal values have equal images */
			column->hash_image = basetype < FirstNormalObjectId;
		spec->no_hash |= !OidIsValid(column->hash.fn_oid) && !column->hash_image;
	}
	return spec;
}

/* See table_writer.h. */
List *
ks_primary_key_names(Relation rel)
{
	List	   *names = NIL;
	Bitmapset  *attrs = RelationGetIndexAttrBitmap(rel, INDEX_ATTR_BITMAP_PRIMARY_KEY);
	int			attr = -1;

	while ((attr = bms_next_member(attrs, attr)) >= 0)
	{
		AttrNumber	attnum = attr + FirstLowInvalidHeapAttributeNumber;

		names = lappend(names, pstrdup(NameStr(TupleDescAttr(RelationGetDescr(rel), attnum - 1)->attname)));
	}
	if (names == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("relation \"%s\" has no primary key", RelationGetRelationName(rel)),
				 errhint("Create it again; it is the record key of the table's topic.")));
	return names;
}

/* See table_writer.h. */
uint64
ks_key_hash(const KsKeySpec *spec, const Datum *keys, const bool *nulls)
{
	uint64		hash = 0;

	for (int i = 0; i < spec->nkeys; i++)
	{
		KsKeyColumn *column = &spec->columns[i];
		uint64		one = 0;

		if (nulls[i])
			one = 1;
		else if (OidIsValid(column->hash.fn_oid))
			one = DatumGetUInt64(FunctionCall2Coll(&column->hash, column->collation, keys[i], UInt64GetDatum(0)));
		else if (column->hash_image)
			one = datum_image_hash(keys[i], column->typbyval, column->typlen);
		hash = hash_combine64(hash, one);
	}
	return hash;
}

/* Are two values of a key column, neither of them NULL, equal?  Most that are have the same image. */
static bool
values_equal(KsKeyColumn *column, Datum a, Datum b)
{
	return datum_image_eq(a, b, column->typbyval, column->typlen) ||
		DatumGetBool(FunctionCall2Coll(&column->eq, column->collation, a, b));
}

/* See table_writer.h. */
bool
ks_key_equal(const KsKeySpec *spec, const Datum *a, const bool *anulls,
			 const Datum *b, const bool *bnulls)
{
	for (int i = 0; i < spec->nkeys; i++)
	{
		KsKeyColumn *column = &spec->columns[i];

		if (anulls[i] != bnulls[i])
			return false;
		if (!anulls[i] && !values_equal(column, a[i], b[i]))
			return false;
	}
	return true;
}

/* See table_writer.h. */
bool
ks_index_is_in_order(Relation index)
{
	return index->rd_index->indisvalid && index->rd_rel->relam == BTREE_AM_OID &&
		(index->rd_indoption[0] & INDOPTION_DESC) == 0 && RelationGetIndexPredicate(index) == NIL;
}

/* See table_writer.h. */
KsTableHints *
ks_table_hints_create(void)
{
	KsTableHints *hints = palloc0(sizeof(KsTableHints));

	hints->cxt = AllocSetContextCreate(CurrentMemoryContext, "kstream row hints", ALLOCSET_DEFAULT_SIZES);
	hints->table = hint_create(hints->cxt, 1024, NULL);
	return hints;
}

/* Remembers where the key's row is; starts over when the memory is used up. */
static void
remember(KsTableWriter *writer, uint64 hash, ItemPointer tid)
{
	HintEntry  *entry;
	bool		found;

	if (writer->hints == NULL || !writer->plain_heap)
		return;
	if (writer->hints->table->members * sizeof(HintEntry) > (uint64) ks_cache_mem * 1024)
	{
		hint_reset(writer->hints->table);
		writer->hints->complete = false;
	}
	entry = hint_insert(writer->hints->table, hash, &found);
	entry->tid = *tid;
}

/* Drops what is remembered of a key. */
static void
forget(KsTableWriter *writer, uint64 hash)
{
	if (writer->hints != NULL)
		(void) hint_delete(writer->hints->table, hash);
}

/* True if the index is a complete unique btree over exactly the key columns. */
static bool
index_matches(Relation index, const KsKeySpec *keys, AttrNumber *index_keys)
{
	Form_pg_index form = index->rd_index;

	if (!form->indisunique || !form->indisvalid || !form->indimmediate ||
		index->rd_rel->relam != BTREE_AM_OID ||
		form->indnkeyatts != keys->nkeys ||
		RelationGetIndexPredicate(index) != NIL || RelationGetIndexExpressions(index) != NIL)
		return false;
	for (int i = 0; i < form->indnkeyatts; i++)
	{
		int			k;

		for (k = 0; k < keys->nkeys; k++)
		{
			if (keys->columns[k].attnum == form->indkey.values[i])
				break;
		}
		if (k == keys->nkeys)
			return false;
		index_keys[i] = k;
	}
	return true;
}

/* Finds the unique index over the keys among the open indexes of the table. */
static void
choose_index(WriterScan *ws)
{
	KsTableWriter *writer = &ws->base;
	ResultRelInfo *rri = writer->rri;
	int			nkeys = writer->keys->nkeys;

	writer->index_keys = palloc(sizeof(AttrNumber) * nkeys);
	for (int i = 0; i < rri->ri_NumIndices; i++)
	{
		Relation	index = rri->ri_IndexRelationDescs[i];

		if (!index_matches(index, writer->keys, writer->index_keys))
			continue;
		writer->index = index;
		ws->scankeys = palloc0(sizeof(ScanKeyData) * nkeys);
		ws->eq_procs = palloc(sizeof(RegProcedure) * nkeys);
		ws->collations = palloc(sizeof(Oid) * nkeys);
		for (int k = 0; k < nkeys; k++)
		{
			Oid			intype = index->rd_opcintype[k];

			ws->eq_procs[k] = get_opcode(get_opfamily_member(index->rd_opfamily[k], intype, intype,
															 BTEqualStrategyNumber));
			ws->collations[k] = index->rd_indcollation[k];
		}
		ws->scan = ks_index_beginscan(writer->rel, index, GetActiveSnapshot(), nkeys);
		return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("relation \"%s\" has no unique index over its key", RelationGetRelationName(writer->rel)),
			 errhint("Create it again (UNIQUE NULLS NOT DISTINCT over the key columns); kstream finds rows by it.")));
}

/* Row-level triggers or stored generated columns keep us off the fast append. */
static bool
has_row_triggers(Relation rel)
{
	TriggerDesc *trig = rel->trigdesc;

	if (rel->rd_att->constr && rel->rd_att->constr->has_generated_stored)
		return true;
	return trig != NULL &&
		(trig->trig_insert_after_row || trig->trig_update_after_row || trig->trig_delete_after_row);
}

/*
 * A trigger that fires before a row is written may skip or change it; but the row
 * is a state that later records build on, and what it was is published.
 */
static void
refuse_before_triggers(Relation rel)
{
	for (int i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
	{
		Trigger    *trigger = &rel->trigdesc->triggers[i];

		if (TRIGGER_FOR_ROW(trigger->tgtype) && TRIGGER_FOR_BEFORE(trigger->tgtype) &&
			(trigger->tgenabled == TRIGGER_FIRES_ON_ORIGIN || trigger->tgenabled == TRIGGER_FIRES_ALWAYS))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("trigger \"%s\" of table \"%s\" fires before rows that kstream writes",
							trigger->tgname, RelationGetRelationName(rel)),
					 errdetail("It could skip or change what the next records build on."),
					 errhint("Drop or disable it; use an AFTER trigger, or compute the value in the query.")));
	}
}

/* See table_writer.h. */
KsTableWriter *
ks_writer_open(Oid relid, List *keys, KsTableHints *hints)
{
	WriterScan *ws = palloc0(sizeof(WriterScan));
	KsTableWriter *writer = &ws->base;
	Relation	rel = table_open(relid, RowExclusiveLock);
	EState	   *estate;

	if (check_enable_rls(relid, InvalidOid, true) == RLS_ENABLED)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("row-level security is forced on the owner of relation \"%s\"",
						RelationGetRelationName(rel)),
				 errhint("Use ALTER TABLE ... NO FORCE ROW LEVEL SECURITY; kstream writes as the table's owner.")));

	refuse_before_triggers(rel);
	writer->rel = rel;
	writer->hints = hints;
	writer->plain_heap = rel->rd_rel->relam == HEAP_TABLE_AM_OID;
	writer->row_triggers = has_row_triggers(rel);

	estate = ks_create_estate(rel);
	estate->es_snapshot = GetActiveSnapshot();
	estate->es_output_cid = GetCurrentCommandId(true);
	writer->estate = estate;
	writer->rri = makeNode(ResultRelInfo);
	InitResultRelInfo(writer->rri, rel, 1, NULL, 0);
	estate->es_opened_result_relations = lappend(estate->es_opened_result_relations, writer->rri);
	ExecOpenIndices(writer->rri, false);
	ks_eval_plan_qual_init(&writer->epq, estate);
	AfterTriggerBeginQuery();

	writer->slot = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsVirtual);
	writer->old_slot = table_slot_create(rel, NULL);
	ws->nblocks = writer->plain_heap ? RelationGetNumberOfBlocks(rel) : 0;
	ws->buffer = InvalidBuffer;
	if (keys != NIL)
	{
		writer->keys = ks_key_spec_create(rel, keys);
		choose_index(ws);
	}
	if (hints != NULL && !hints->started)
	{
		hints->started = true;
		hints->complete = writer->plain_heap && ws->nblocks == 0 &&
			(writer->keys == NULL || !writer->keys->no_hash);
	}
	return writer;
}

/* See table_writer.h. */
void
ks_writer_listen(KsTableWriter *writer)
{
	writer->listeners = ks_change_listeners(RelationGetRelid(writer->rel));
	if (writer->listeners != NIL)
		writer->replaced = MakeSingleTupleTableSlot(RelationGetDescr(writer->rel), &TTSOpsHeapTuple);
}

/* Keeps a copy of the row that is about to be replaced, which is in old_slot or is got by its TID. */
static void
keep_replaced(KsTableWriter *writer, ItemPointer tid)
{
	TupleTableSlot *old = writer->old_slot;

	if (writer->listeners == NIL)
		return;
	if (TTS_EMPTY(old) || !ItemPointerEquals(&old->tts_tid, tid))
	{
		ItemPointerData where = *tid;

		ExecClearTuple(old);
		if (!table_tuple_fetch_row_version(writer->rel, &where, GetActiveSnapshot(), old))
			elog(ERROR, "could not find the row of relation \"%s\" that is to be changed",
				 RelationGetRelationName(writer->rel));
	}
	ExecCopySlot(writer->replaced, old);
}

/* See table_writer.h. */
bool
ks_slots_identical(TupleTableSlot *a, TupleTableSlot *b)
{
	TupleDesc	desc = b->tts_tupleDescriptor;

	slot_getallattrs(a);
	slot_getallattrs(b);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (att->attisdropped)
			continue;
		if (a->tts_isnull[i] != b->tts_isnull[i])
			return false;
		if (!a->tts_isnull[i] &&
			!datum_image_eq(a->tts_values[i], b->tts_values[i], att->attbyval, att->attlen))
			return false;
	}
	return true;
}

/* Tells the listeners of a change; one that changes nothing is none. */
static void
tell(KsTableWriter *writer, KsChangeOp op, TupleTableSlot *new_row)
{
	ListCell   *lc;

	if (op == KS_CHANGE_UPDATE && ks_slots_identical(writer->replaced, new_row))
		return;
	foreach(lc, writer->listeners)
	{
		KsChangeListener *listener = lfirst(lc);

		listener->take(listener, op, op == KS_CHANGE_INSERT ? NULL : writer->replaced,
					   op == KS_CHANGE_DELETE ? NULL : new_row, writer->event_time);
	}
}

/* See table_writer.h. */
void
ks_writer_close(KsTableWriter *writer)
{
	WriterScan *ws = (WriterScan *) writer;
	ListCell   *lc;

	foreach(lc, writer->listeners)
		((KsChangeListener *) lfirst(lc))->finish(lfirst(lc));
	if (writer->replaced != NULL)
		ExecDropSingleTupleTableSlot(writer->replaced);
	if (ws->scan != NULL)
		index_endscan(ws->scan);
	if (BufferIsValid(ws->buffer))
		ReleaseBuffer(ws->buffer);
	AfterTriggerEndQuery(writer->estate);
	ExecDropSingleTupleTableSlot(writer->slot);
	ExecDropSingleTupleTableSlot(writer->old_slot);
	EvalPlanQualEnd(&writer->epq);
	ExecCloseResultRelations(writer->estate);
	ExecResetTupleTable(writer->estate->es_tupleTable, false);
	ExecCloseRangeTableRelations(writer->estate);
	table_close(writer->rel, NoLock);
	FreeExecutorState(writer->estate);
}

/* Has the row in old_slot this key? */
static bool
old_row_has_key(KsTableWriter *writer, const Datum *keys, const bool *nulls)
{
	for (int i = 0; i < writer->keys->nkeys; i++)
	{
		KsKeyColumn *column = &writer->keys->columns[i];
		bool		isnull;
		Datum		value = slot_getattr(writer->old_slot, column->attnum, &isnull);

		if (isnull != nulls[i])
			return false;
		if (!isnull && !values_equal(column, value, keys[i]))
			return false;
	}
	return true;
}

/*
 * find_by_hint
 *		Looks where the row was last.  *absent is set when the hints tell that
 *		there is no such row.
 */
static bool
find_by_hint(WriterScan *ws, uint64 hash, const Datum *keys, const bool *nulls, bool *absent)
{
	KsTableWriter *writer = &ws->base;
	HintEntry  *entry;
	BlockNumber block;
	ItemPointerData tid;

	*absent = false;
	if (writer->hints == NULL || !writer->plain_heap)
		return false;
	entry = hint_lookup(writer->hints->table, hash);
	if (entry == NULL)
	{
		*absent = writer->hints->complete;
		return false;
	}
	tid = entry->tid;
	block = ItemPointerGetBlockNumber(&tid);
	if (block >= ws->nblocks)
	{
		ws->nblocks = RelationGetNumberOfBlocks(writer->rel);
		if (block >= ws->nblocks)
			return false;
	}
	ExecClearTuple(writer->old_slot);
	return table_tuple_fetch_row_version(writer->rel, &tid, GetActiveSnapshot(), writer->old_slot) &&
		old_row_has_key(writer, keys, nulls);
}

/* Conditions for the first columns of the unique index: equal to the keys; NULL is a key like any other. */
static void
look_for_keys(WriterScan *ws, int ncolumns, const Datum *keys, const bool *nulls)
{
	for (int i = 0; i < ncolumns; i++)
	{
		int			k = ws->base.index_keys[i];

		if (nulls[k])
			ScanKeyEntryInitialize(&ws->scankeys[i], SK_ISNULL | SK_SEARCHNULL, i + 1,
								   InvalidStrategy, InvalidOid, InvalidOid, InvalidOid, (Datum) 0);
		else
			ScanKeyEntryInitialize(&ws->scankeys[i], 0, i + 1, BTEqualStrategyNumber, InvalidOid,
								   ws->collations[i], ws->eq_procs[i], keys[k]);
	}
}

/* See table_writer.h. */
IndexScanDesc
ks_writer_scan_up_to(KsTableWriter *writer, const Datum *keys, const bool *nulls, int last)
{
	WriterScan *ws = (WriterScan *) writer;
	int			nkeys = writer->keys->nkeys;
	Relation	index = writer->index;
	Oid			intype = index->rd_opcintype[nkeys - 1];

	if (writer->index_keys[nkeys - 1] != last)
		elog(ERROR, "key %d is not the last one of the index", last);
	look_for_keys(ws, nkeys - 1, keys, nulls);
	ScanKeyEntryInitialize(&ws->scankeys[nkeys - 1], 0, nkeys, BTLessEqualStrategyNumber, InvalidOid,
						   ws->collations[nkeys - 1],
						   get_opcode(get_opfamily_member(index->rd_opfamily[nkeys - 1], intype, intype,
														  BTLessEqualStrategyNumber)),
						   keys[last]);
	index_rescan(ws->scan, ws->scankeys, nkeys, NULL, 0);
	return ws->scan;
}

/* Looks through the unique index; NULL is a key like any other. */
static bool
find_by_index(WriterScan *ws, const Datum *keys, const bool *nulls)
{
	KsTableWriter *writer = &ws->base;

	look_for_keys(ws, writer->keys->nkeys, keys, nulls);
	index_rescan(ws->scan, ws->scankeys, writer->keys->nkeys, NULL, 0);
	while (index_getnext_slot(ws->scan, ForwardScanDirection, writer->old_slot))
	{
		/* An index with COLLATE "C" or the like compares more finely, never less. */
		if (old_row_has_key(writer, keys, nulls))
			return true;
	}
	return false;
}

/* The only row of a table without a key (a global aggregate). */
static bool
find_only_row(KsTableWriter *writer)
{
	TableScanDesc scan = table_beginscan(writer->rel, GetActiveSnapshot(), 0, NULL);
	bool		found = table_scan_getnextslot(scan, ForwardScanDirection, writer->old_slot);

	if (found)
		ExecMaterializeSlot(writer->old_slot);
	table_endscan(scan);
	return found;
}

/* See table_writer.h. */
bool
ks_writer_find(KsTableWriter *writer, uint64 hash, const Datum *keys, const bool *nulls)
{
	bool		absent;

	if (writer->keys == NULL)
		return find_only_row(writer);
	if (find_by_hint((WriterScan *) writer, hash, keys, nulls, &absent))
		return true;
	if (absent || !find_by_index((WriterScan *) writer, keys, nulls))
		return false;
	remember(writer, hash, &writer->old_slot->tts_tid);
	return true;
}

/* See table_writer.h. */
void
ks_writer_insert(KsTableWriter *writer, uint64 hash)
{
	ExecSimpleRelationInsert(writer->rri, writer->estate, writer->slot);
	remember(writer, hash, &writer->slot->tts_tid);
	if (writer->listeners != NIL)
		tell(writer, KS_CHANGE_INSERT, writer->slot);
	ResetPerTupleExprContext(writer->estate);
}

/*
 * make_room
 *		Prunes the page of a row that is about to be updated when the page is
 *		filling up, as an index scan would do: updates by TID never come to the
 *		page through an index, so nobody else would.
 */
static void
make_room(WriterScan *ws, ItemPointer tid)
{
	KsTableWriter *writer = &ws->base;

	if (!writer->plain_heap)
		return;
	ws->buffer = ReleaseAndReadBuffer(ws->buffer, writer->rel, ItemPointerGetBlockNumber(tid));
	if (PageGetHeapFreeSpace(BufferGetPage(ws->buffer)) < ROOM_FOR_UPDATE)
		heap_page_prune_opt(writer->rel, ws->buffer);
}

/* See table_writer.h. */
void
ks_writer_update(KsTableWriter *writer, uint64 hash, ItemPointer tid)
{
	TupleTableSlot *old = writer->old_slot;
	ItemPointerData old_tid = *tid;

	keep_replaced(writer, &old_tid);
	/* Row triggers read the old row by its TID; a page that is pinned cannot be pruned. */
	ExecClearTuple(old);
	old->tts_tid = old_tid;
	make_room((WriterScan *) writer, &old_tid);
	ExecSimpleRelationUpdate(writer->rri, writer->estate, &writer->epq, old, writer->slot);
	remember(writer, hash, &writer->slot->tts_tid);
	if (writer->listeners != NIL)
		tell(writer, KS_CHANGE_UPDATE, writer->slot);
	ResetPerTupleExprContext(writer->estate);
}

/* See table_writer.h. */
void
ks_writer_delete(KsTableWriter *writer, uint64 hash, ItemPointer tid)
{
	TupleTableSlot *old = writer->old_slot;

	keep_replaced(writer, tid);
	if (!ItemPointerEquals(&old->tts_tid, tid))
	{
		ExecClearTuple(old);
		old->tts_tid = *tid;
	}
	ExecSimpleRelationDelete(writer->rri, writer->estate, &writer->epq, old);
	forget(writer, hash);
	if (writer->listeners != NIL)
		tell(writer, KS_CHANGE_DELETE, NULL);
	ResetPerTupleExprContext(writer->estate);
}

/* Rows one by one, with all that triggers and generated columns need. */
static void
append_slowly(KsTableWriter *writer, HeapTuple *tuples, const TimestampTz *event_times, int ntuples)
{
	for (int i = 0; i < ntuples; i++)
	{
		ExecClearTuple(writer->slot);
		heap_deform_tuple(tuples[i], RelationGetDescr(writer->rel),
						  writer->slot->tts_values, writer->slot->tts_isnull);
		ExecStoreVirtualTuple(writer->slot);
		ExecSimpleRelationInsert(writer->rri, writer->estate, writer->slot);
		tuples[i]->t_self = writer->slot->tts_tid;
		if (writer->listeners != NIL)
		{
			writer->event_time = event_times[i];
			tell(writer, KS_CHANGE_INSERT, writer->slot);
		}
		ResetPerTupleExprContext(writer->estate);
	}
}

/* See table_writer.h. */
void
ks_writer_append(KsTableWriter *writer, HeapTuple *tuples, const TimestampTz *event_times, int ntuples)
{
	TupleTableSlot **slots;
	BulkInsertState bistate;
	int			nslots = Min(ntuples, APPEND_CHUNK);

	if (writer->row_triggers)
	{
		append_slowly(writer, tuples, event_times, ntuples);
		return;
	}
	slots = palloc(sizeof(TupleTableSlot *) * Max(nslots, 1));
	for (int i = 0; i < nslots; i++)
		slots[i] = MakeSingleTupleTableSlot(RelationGetDescr(writer->rel), &TTSOpsHeapTuple);
	bistate = GetBulkInsertState();
	for (int from = 0; from < ntuples; from += APPEND_CHUNK)
	{
		int			n = Min(APPEND_CHUNK, ntuples - from);

		for (int i = 0; i < n; i++)
		{
			ExecStoreHeapTuple(tuples[from + i], slots[i], false);
			slots[i]->tts_tableOid = RelationGetRelid(writer->rel);
			if (writer->rel->rd_att->constr)
				ExecConstraints(writer->rri, slots[i], writer->estate);
		}
		table_multi_insert(writer->rel, slots, n, writer->estate->es_output_cid, 0, bistate);
		for (int i = 0; i < n; i++)
		{
			if (writer->rri->ri_NumIndices > 0)
				list_free(ks_insert_index_tuples(writer->rri, slots[i], writer->estate));
			tuples[from + i]->t_self = slots[i]->tts_tid;
			if (writer->listeners != NIL)
			{
				writer->event_time = event_times[from + i];
				tell(writer, KS_CHANGE_INSERT, slots[i]);
			}
			ExecClearTuple(slots[i]);
		}
		ResetPerTupleExprContext(writer->estate);
		CHECK_FOR_INTERRUPTS();
	}
	FreeBulkInsertState(bistate);
	for (int i = 0; i < nslots; i++)
		ExecDropSingleTupleTableSlot(slots[i]);
	pfree(slots);
}
