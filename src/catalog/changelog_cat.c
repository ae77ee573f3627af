/*
 * changelog_cat.c
 *		Rows of kstream_catalog.changelog as C structs.
 *
 * As in query_cat.c: rows are read by heap access, which needs no rights;
 * updates go through SPI.
 *
 * Runs in: any backend, any worker.  Transaction: needed.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_type_d.h"
#include "executor/spi.h"
#include "storage/bufmgr.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/rel.h"

#include "catalog/cat_util.h"
#include "catalog/changelog_cat.h"

/* Columns of kstream_catalog.changelog, in the order of sql/parts/16_changelog.sql. */
enum
{
	Anum_changelog_relation = 1,
	Anum_changelog_log0,
	Anum_changelog_segments0,
	Anum_changelog_log1,
	Anum_changelog_segments1,
	Anum_changelog_half,
	Anum_changelog_keep,
	Anum_changelog_next_offset
};
#define Natts_changelog Anum_changelog_next_offset

/* A row of the catalog as a struct in the current context. */
static KsChangelogRow *
row_from_tuple(HeapTuple tuple, TupleDesc desc)
{
	KsChangelogRow *row = palloc0(sizeof(KsChangelogRow));
	Datum	   *values = palloc(desc->natts * sizeof(Datum));
	bool	   *nulls = palloc(desc->natts * sizeof(bool));

	if (desc->natts < Natts_changelog)
		elog(ERROR, "catalog of kstream is older than its library");
	heap_deform_tuple(tuple, desc, values, nulls);
	row->relation = DatumGetObjectId(values[Anum_changelog_relation - 1]);
	for (int i = 0; i < 2 && !nulls[Anum_changelog_log0 - 1]; i++)
	{
		row->halves[i].rows = DatumGetObjectId(values[Anum_changelog_log0 - 1 + 2 * i]);
		row->halves[i].segments = DatumGetObjectId(values[Anum_changelog_segments0 - 1 + 2 * i]);
	}
	row->half = DatumGetInt32(values[Anum_changelog_half - 1]);
	if (!nulls[Anum_changelog_keep - 1])
	{
		row->keep = palloc(sizeof(Interval));
		*row->keep = *DatumGetIntervalP(values[Anum_changelog_keep - 1]);
	}
	row->next_offset = DatumGetInt64(values[Anum_changelog_next_offset - 1]);
	pfree(values);
	pfree(nulls);
	return row;
}

/*
 * See changelog_cat.h.  It is asked for in every batch: where no table has a
 * changelog, the catalog's table is empty, which takes no scan to see.
 */
KsChangelogRow *
ks_changelog_load(Oid relation, Snapshot snapshot)
{
	Relation	rel = table_open(ks_catalog_relid("changelog"), AccessShareLock);
	KsChangelogRow *row = NULL;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	if (RelationGetNumberOfBlocks(rel) > 0)
	{
		ScanKeyInit(&key, Anum_changelog_relation, BTEqualStrategyNumber, F_OIDEQ,
					ObjectIdGetDatum(relation));
		scan = systable_beginscan(rel, ks_catalog_relid("changelog_pkey"), true, snapshot, 1, &key);
		tuple = systable_getnext(scan);
		if (HeapTupleIsValid(tuple))
			row = row_from_tuple(tuple, RelationGetDescr(rel));
		systable_endscan(scan);
	}
	table_close(rel, AccessShareLock);
	return row;
}

/* See changelog_cat.h. */
List *
ks_changelog_relations(void)
{
	Relation	rel = table_open(ks_catalog_relid("changelog"), AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple;
	List	   *relations = NIL;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		KsChangelogRow *row = row_from_tuple(tuple, RelationGetDescr(rel));

		if (row->keep != NULL)
			relations = lappend_oid(relations, row->relation);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return relations;
}

/* Stores a changelog of a relation that had none; by heap access, which fires no trigger. */
static void
insert_row(const KsChangelogRow *row)
{
	Relation	rel = table_open(ks_catalog_relid("changelog"), RowExclusiveLock);
	Datum		values[Natts_changelog] = {
		ObjectIdGetDatum(row->relation),
		ObjectIdGetDatum(row->halves[0].rows), ObjectIdGetDatum(row->halves[0].segments),
		ObjectIdGetDatum(row->halves[1].rows), ObjectIdGetDatum(row->halves[1].segments),
		Int32GetDatum(row->half), IntervalPGetDatum(row->keep), Int64GetDatum(row->next_offset)
	};
	bool		nulls[Natts_changelog] = {false};

	CatalogTupleInsert(rel, heap_form_tuple(RelationGetDescr(rel), values, nulls));
	table_close(rel, NoLock);
}

/* See changelog_cat.h. */
void
ks_changelog_store(const KsChangelogRow *row)
{
	Oid			types[8] = {OIDOID, OIDOID, OIDOID, OIDOID, OIDOID, INT4OID, INTERVALOID, INT8OID};
	Datum		values[8] = {
		ObjectIdGetDatum(row->relation),
		ObjectIdGetDatum(row->halves[0].rows), ObjectIdGetDatum(row->halves[0].segments),
		ObjectIdGetDatum(row->halves[1].rows), ObjectIdGetDatum(row->halves[1].segments),
		Int32GetDatum(row->half), IntervalPGetDatum(row->keep), Int64GetDatum(row->next_offset)
	};

	if (ks_changelog_load(row->relation, NULL) == NULL)
		insert_row(row);
	else
	{
		SPI_connect();
		(void) ks_spi_execute("UPDATE kstream_catalog.changelog SET log0 = $2, segments0 = $3, log1 = $4,"
							  " segments1 = $5, half = $6, keep = $7, next_offset = $8 WHERE relation = $1",
							  false, 8, types, values, row->keep != NULL ? NULL : " nnnn n ");
		SPI_finish();
	}
	CommandCounterIncrement();
}

/* Says which half is written from now on, unless somebody else has said so. */
void
ks_changelog_set_half(Oid relation, int half)
{
	Oid			types[2] = {OIDOID, INT4OID};
	Datum		values[2] = {ObjectIdGetDatum(relation), Int32GetDatum(half)};

	ks_catalog_execute("UPDATE kstream_catalog.changelog SET half = $2 WHERE relation = $1 AND half <> $2",
					   2, types, values);
}

/* Says how long changes are kept from now on. */
void
ks_changelog_set_keep(Oid relation, const Interval *keep)
{
	Oid			types[2] = {OIDOID, INTERVALOID};
	Datum		values[2] = {ObjectIdGetDatum(relation), IntervalPGetDatum(keep)};

	ks_catalog_execute("UPDATE kstream_catalog.changelog SET keep = $2 WHERE relation = $1",
					   2, types, values);
}
