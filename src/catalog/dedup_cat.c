/*
 * dedup_cat.c
 *		By which rule a query drops duplicates of a stream, and the tables that
 *		remember keys: rows of kstream_catalog.dedup and dedup_part.
 *
 * The rule is an option of the stream.  A query takes it when it starts from
 * the beginning (creation, kstream.reset) and keeps it whatever happens to the
 * stream's options later: a result that was computed under two rules would be
 * equal to no SELECT.
 *
 * Runs in: any backend, any worker.  Transaction: needed.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type_d.h"
#include "executor/spi.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "catalog/dedup_cat.h"
#include "catalog/query_cat.h"
#include "catalog/stream_def.h"

/* Elements of a text[] as a list of strings. */
static List *
strings_of_array(Datum array)
{
	Datum	   *elems;
	int			nelems;
	List	   *result = NIL;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &elems, NULL, &nelems);
	for (int i = 0; i < nelems; i++)
		result = lappend(result, TextDatumGetCString(elems[i]));
	return result;
}

/* See dedup_cat.h. */
KsDedupRule *
ks_dedup_rule_load(int32 query, Oid source)
{
	Oid			types[2] = {INT4OID, OIDOID};
	Datum		values[2] = {Int32GetDatum(query), ObjectIdGetDatum(source)};
	MemoryContext cxt = CurrentMemoryContext;
	KsDedupRule *rule = NULL;

	SPI_connect();
	ks_spi_execute("SELECT key_columns, \"window\" FROM kstream_catalog.dedup"
				   " WHERE query = $1 AND source = $2", false, 2, types, values, NULL);
	if (SPI_processed > 0)
	{
		HeapTuple	tuple = SPI_tuptable->vals[0];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		MemoryContext old = MemoryContextSwitchTo(cxt);
		bool		isnull;

		rule = palloc0(sizeof(KsDedupRule));
		rule->columns = strings_of_array(SPI_getbinval(tuple, desc, 1, &isnull));
		rule->window = ks_dedup_window_usec(DatumGetIntervalP(SPI_getbinval(tuple, desc, 2, &isnull)));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return rule;
}

/* Stores the rule of one stream that has one. */
static void
pin_stream(int32 query, Oid stream)
{
	KsStreamDef *def = ks_stream_def_of(stream);
	Oid			types[4] = {INT4OID, REGCLASSOID, TEXTARRAYOID, INTERVALOID};
	Datum		values[4];
	Datum	   *names;
	Interval	window = {0};

	if (def->ndedup == 0)
		return;
	names = palloc(sizeof(Datum) * def->ndedup);
	for (int i = 0; i < def->ndedup; i++)
		names[i] = CStringGetTextDatum(def->columns[def->dedup_keys[i] - 1].name);
	window.day = (int32) (def->dedup_window / USECS_PER_DAY);
	window.time = def->dedup_window % USECS_PER_DAY;
	values[0] = Int32GetDatum(query);
	values[1] = ObjectIdGetDatum(stream);
	values[2] = PointerGetDatum(construct_array(names, def->ndedup, TEXTOID, -1, false, TYPALIGN_INT));
	values[3] = IntervalPGetDatum(&window);
	ks_spi_execute("INSERT INTO kstream_catalog.dedup VALUES ($1, $2, $3, $4)",
				   false, 4, types, values, NULL);
}

/* See dedup_cat.h. */
void
ks_dedup_pin(int32 query, List *streams)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(query)};
	ListCell   *lc;

	SPI_connect();
	ks_spi_execute("DELETE FROM kstream_catalog.dedup WHERE query = $1", false, 1, types, values, NULL);
	foreach(lc, streams)
		pin_stream(query, lfirst_oid(lc));
	SPI_finish();
}

/* See dedup_cat.h. */
List *
ks_dedup_part_relations(int32 query)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(query)};
	MemoryContext cxt = CurrentMemoryContext;
	List	   *result = NIL;

	SPI_connect();
	ks_spi_execute("SELECT relation::oid FROM kstream_catalog.dedup_part WHERE query = $1 ORDER BY number",
				   false, 1, types, values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		Oid			relid = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
		MemoryContext old = MemoryContextSwitchTo(cxt);

		result = lappend_oid(result, relid);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return result;
}

/* See dedup_cat.h. */
void
ks_dedup_part_insert(Oid relid, int32 query, Oid source, int number, TimestampTz low, TimestampTz high)
{
	Relation	rel = table_open(get_relname_relid("dedup_part", get_namespace_oid("kstream_catalog", false)),
								 RowExclusiveLock);
	Datum		values[] = {
		ObjectIdGetDatum(relid), Int32GetDatum(query), ObjectIdGetDatum(source), Int32GetDatum(number),
		TimestampTzGetDatum(low), TimestampTzGetDatum(high)
	};
	bool		nulls[lengthof(values)] = {false};
	HeapTuple	tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);

	CatalogTupleInsert(rel, tuple);
	heap_freetuple(tuple);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

/*
 * See dedup_cat.h.  The table is an internal part of the query's view, which Postgres
 * lets nobody drop alone; so its link goes first.
 */
bool
ks_dedup_part_drop(Oid relid)
{
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(relid)};
	ObjectAddress address;

	if (!ConditionalLockRelationOid(relid, AccessExclusiveLock))
		return false;
	SPI_connect();
	ks_spi_execute("DELETE FROM kstream_catalog.dedup_part WHERE relation = $1", false, 1, types, values, NULL);
	SPI_finish();
	if (get_rel_relkind(relid) == '\0')
		return true;
	ObjectAddressSet(address, RelationRelationId, relid);
	deleteDependencyRecordsFor(RelationRelationId, relid, true);
	CommandCounterIncrement();
	performDeletion(&address, DROP_RESTRICT, PERFORM_DELETION_INTERNAL);
	CommandCounterIncrement();
	return true;
}

/* See dedup_cat.h. */
char *
ks_dedup_window_text(int64 window)
{
	int64		days = window / USECS_PER_DAY;
	int64		rest = window % USECS_PER_DAY;
	StringInfoData buf;

	initStringInfo(&buf);
	if (days > 0)
		appendStringInfo(&buf, INT64_FORMAT " day%s", days, days == 1 ? "" : "s");
	if (rest > 0)
	{
		appendStringInfo(&buf, "%s%02d:%02d:%02d", days > 0 ? " " : "",
						 (int) (rest / USECS_PER_HOUR), (int) (rest / USECS_PER_MINUTE % 60),
						 (int) (rest / USECS_PER_SEC % 60));
		if (rest % USECS_PER_SEC > 0)
			appendStringInfo(&buf, ".%06d", (int) (rest % USECS_PER_SEC));
	}
	return buf.data;
}
