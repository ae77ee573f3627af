/*
 * table_writer.h
 *		Writing rows of result and state tables as the apply worker of logical
 *		replication does: by tuple, with constraints, indexes and row triggers,
 *		without a statement per row.
 *
 * A writer finds rows by key through the table's unique index, and remembers
 * where they are: a hash of the key leads to the TID of the row's last version.
 * What is remembered is only a hint.  It is used only if the row there is
 * visible and has the key; so an abort, VACUUM FULL or a foreign writer can make
 * it useless but never wrong.
 *
 * BEFORE STATEMENT triggers do not fire, which is how kstream's own writes pass
 * the guard of its tables.
 */
#ifndef KS_TABLE_WRITER_H
#define KS_TABLE_WRITER_H

#include "postgres.h"
#include "access/genam.h"
#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "nodes/execnodes.h"
#include "nodes/pg_list.h"
#include "utils/relcache.h"

/* How to hash and compare one key column. */
typedef struct KsKeyColumn
{
	AttrNumber	attnum;			/* in the table */
	Oid			typid;
	Oid			collation;
	int16		typlen;
	bool		typbyval;
	FmgrInfo	eq;
	FmgrInfo	hash;			/* extended hash function; fn_oid invalid: hash the image or nothing */
	bool		hash_image;
} KsKeyColumn;

typedef struct KsKeySpec
{
	int			nkeys;
	KsKeyColumn *columns;
	bool		no_hash;		/* of some column: keys that differ in it alone have one hash */
} KsKeySpec;

/* Key columns of the relation by name, in that order; in the current context. */
extern KsKeySpec *ks_key_spec_create(Relation rel, List *names);
/* Names of the primary key's columns now (char *); an error if there is none. */
extern List *ks_primary_key_names(Relation rel);
extern uint64 ks_key_hash(const KsKeySpec *spec, const Datum *keys, const bool *nulls);
extern bool ks_key_equal(const KsKeySpec *spec, const Datum *a, const bool *anulls,
						 const Datum *b, const bool *bnulls);

/* Does a scan of the index find all rows of the table, in ascending order of its first column? */
extern bool ks_index_is_in_order(Relation index);

typedef struct KsTableHints KsTableHints;	/* hash of key -> TID, outlives transactions */

extern KsTableHints *ks_table_hints_create(void);	/* in the current context */

typedef struct KsTableWriter
{
	Relation	rel;
	EState	   *estate;
	ResultRelInfo *rri;
	EPQState	epq;
	TupleTableSlot *slot;		/* for the caller to fill and write */
	TupleTableSlot *old_slot;	/* the row found by ks_writer_find */
	KsKeySpec  *keys;			/* NULL: no key */
	Relation	index;			/* unique index over the keys */
	AttrNumber *index_keys;		/* key number (from 0) of each index column */
	KsTableHints *hints;
	bool		row_triggers;
	bool		plain_heap;
	List	   *listeners;		/* KsChangeListener *, told of every change; see ks_writer_listen */
	TimestampTz event_time;		/* of the changes: the caller keeps it right */
	TupleTableSlot *replaced;	/* the row that a change replaces, for the listeners */
} KsTableWriter;

/*
 * Opens the table for writing inside a transaction with an active snapshot; in
 * the current memory context.  keys: names of key columns, NIL: none.  hints may be NULL.
 */
extern KsTableWriter *ks_writer_open(Oid relid, List *keys, KsTableHints *hints);
/* From now on those who want to know hear of every row written. */
extern void ks_writer_listen(KsTableWriter *writer);
/* Runs what waits (AFTER ROW triggers) and closes.  After an error do not call it. */
extern void ks_writer_close(KsTableWriter *writer);

/*
 * Looks for the row with the key.  True: it is in old_slot, its TID in
 * old_slot->tts_tid.  hash: ks_key_hash of the keys.  A writer without key
 * columns finds the only row of the table.
 */
extern bool ks_writer_find(KsTableWriter *writer, uint64 hash, const Datum *keys, const bool *nulls);

/*
 * Scans, to be read backwards into old_slot, the rows that have the keys but for
 * the last one of the index, key number last: that is at or before the one given.
 * The writer's own scan: valid until the next ks_writer_find; do not end it.
 */
extern IndexScanDesc ks_writer_scan_up_to(KsTableWriter *writer, const Datum *keys, const bool *nulls, int last);

/* Write writer->slot (filled as a virtual tuple). */
extern void ks_writer_insert(KsTableWriter *writer, uint64 hash);
extern void ks_writer_update(KsTableWriter *writer, uint64 hash, ItemPointer tid);
extern void ks_writer_delete(KsTableWriter *writer, uint64 hash, ItemPointer tid);

/*
 * Appends rows, many at a time; tuples are heap tuples of the table's row type.
 * event_times may be NULL if nobody listens.  Sets t_self of each tuple to where it
 * is.
 */
extern void ks_writer_append(KsTableWriter *writer, HeapTuple *tuples, const TimestampTz *event_times,
							 int ntuples);

/* True if two rows of the same type are bit for bit the same. */
extern bool ks_slots_identical(TupleTableSlot *a, TupleTableSlot *b);

#endif							/* KS_TABLE_WRITER_H */
