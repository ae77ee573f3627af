/*
 * sink_cat.c
 *		Rows of kstream_catalog.sink and kstream_catalog.published as C structs.
 *
 * As in query_cat.c: rows are read and inserted by heap access, which needs no
 * rights and fires no trigger, so that a session that inserts into a stream can
 * find its outbox; updates go through SPI.
 *
 * Runs in: any backend, any worker.  Transaction: needed.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type_d.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog/query_cat.h"
#include "catalog/sink_cat.h"
#include "catalog/stream_def.h"

/* Columns of kstream_catalog.sink, in the order of sql/parts/15_sinks.sql. */
enum
{
	Anum_sink_id = 1,
	Anum_sink_name,
	Anum_sink_kind,
	Anum_sink_relation,
	Anum_sink_target,
	Anum_sink_outbox0,
	Anum_sink_segments0,
	Anum_sink_outbox1,
	Anum_sink_segments1,
	Anum_sink_half,
	Anum_sink_guarantee,
	Anum_sink_envelope,
	Anum_sink_headers,
	Anum_sink_settings,
	Anum_sink_incarnation,
	Anum_sink_paused,
	Anum_sink_instance,
	Anum_sink_generation,
	Anum_sink_last_sqlstate,
	Anum_sink_last_error,
	Anum_sink_last_error_at,
	Anum_sink_restarts,
	Anum_sink_created_at,
	Anum_sink_key_columns,
	Anum_sink_topic
};
#define Natts_sink Anum_sink_topic

/* Columns of kstream_catalog.published. */
enum
{
	Anum_published_sink = 1,
	Anum_published_position,
	Anum_published_chain,
	Anum_published_partitions,
	Anum_published_shift,
	Anum_published_in_doubt,
	Anum_published_resync,
	Anum_published_resync_end
};
#define Natts_published Anum_published_resync_end

static const char *const kind_names[] = {
	[KS_SINK_STREAM] = "stream",
	[KS_SINK_TABLE] = "table",
	[KS_SINK_NAMED] = "sink",
};

/* The kind of that name. */
static KsSinkKind
kind_from_name(const char *name)
{
	for (int i = 0; i < lengthof(kind_names); i++)
	{
		if (strcmp(kind_names[i], name) == 0)
			return (KsSinkKind) i;
	}
	elog(ERROR, "unknown kind of sink: %s", name);
}

/* A row of the catalog as a struct in the current context. */
static KsSinkRow *
row_from_tuple(HeapTuple tuple, TupleDesc desc)
{
	KsSinkRow  *row = palloc0(sizeof(KsSinkRow));
	Datum	   *values = palloc(desc->natts * sizeof(Datum));
	bool	   *nulls = palloc(desc->natts * sizeof(bool));

#define VALUE(att) (values[Anum_sink_##att - 1])
#define TEXT_OR_NULL(att) (nulls[Anum_sink_##att - 1] ? NULL : TextDatumGetCString(VALUE(att)))

	if (desc->natts < Natts_sink)
		elog(ERROR, "catalog of kstream is older than its library");
	heap_deform_tuple(tuple, desc, values, nulls);
	row->changed_here = TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
	row->id = DatumGetInt32(VALUE(id));
	row->name = TEXT_OR_NULL(name);
	row->kind = kind_from_name(TextDatumGetCString(VALUE(kind)));
	row->relation = DatumGetObjectId(VALUE(relation));
	row->target = DatumGetObjectId(VALUE(target));
	row->halves[0].rows = DatumGetObjectId(VALUE(outbox0));
	row->halves[0].segments = DatumGetObjectId(VALUE(segments0));
	row->halves[1].rows = DatumGetObjectId(VALUE(outbox1));
	row->halves[1].segments = DatumGetObjectId(VALUE(segments1));
	row->half = DatumGetInt32(VALUE(half));
	row->exactly_once = strcmp(TextDatumGetCString(VALUE(guarantee)), "exactly_once") == 0;
	row->debezium = strcmp(TextDatumGetCString(VALUE(envelope)), "debezium") == 0;
	row->headers = TEXT_OR_NULL(headers);
	row->settings = ks_list_from_array(VALUE(settings));
	row->incarnation = TEXT_OR_NULL(incarnation);
	row->paused = DatumGetBool(VALUE(paused));
	row->instance = TEXT_OR_NULL(instance);
	row->generation = DatumGetInt32(VALUE(generation));
	row->last_sqlstate = TEXT_OR_NULL(last_sqlstate);
	row->last_error = TEXT_OR_NULL(last_error);
	if (!nulls[Anum_sink_key_columns - 1])
		row->key_columns = ks_list_from_array(VALUE(key_columns));
	row->topic = TextDatumGetCString(VALUE(topic));
#undef VALUE
#undef TEXT_OR_NULL
	pfree(values);
	pfree(nulls);
	return row;
}

/* Orders sinks by their numbers, so that what is said of several comes in one order. */
static int
compare_ids(const ListCell *a, const ListCell *b)
{
	int32		x = ((const KsSinkRow *) lfirst(a))->id;
	int32		y = ((const KsSinkRow *) lfirst(b))->id;

	return (x > y) - (x < y);
}

/*
 * The rows whose column equals the value, as a list by number.  There are few sinks, and
 * some are looked for by columns without an index: a scan of the table does.
 */
static List *
load_all(AttrNumber attnum, RegProcedure equal, Datum value)
{
	Relation	rel = table_open(ks_catalog_relid("sink"), AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *rows = NIL;

	if (attnum != 0)
		ScanKeyInit(&key, attnum, BTEqualStrategyNumber, equal, value);
	key.sk_collation = attnum == Anum_sink_name ? DEFAULT_COLLATION_OID : InvalidOid;
	scan = systable_beginscan(rel, InvalidOid, false, snapshot, attnum != 0 ? 1 : 0, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		rows = lappend(rows, row_from_tuple(tuple, RelationGetDescr(rel)));
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	list_sort(rows, compare_ids);
	return rows;
}

/* The sink of that number, or NULL. */
KsSinkRow *
ks_sink_load(int32 id)
{
	List	   *rows = load_all(Anum_sink_id, F_INT4EQ, Int32GetDatum(id));

	return rows == NIL ? NULL : linitial(rows);
}

/* The named sink, or NULL. */
KsSinkRow *
ks_sink_load_by_name(const char *name)
{
	List	   *rows = load_all(Anum_sink_name, F_TEXTEQ, CStringGetTextDatum(name));

	return rows == NIL ? NULL : linitial(rows);
}

/* See sink_cat.h. */
KsSinkRow *
ks_sink_load_by_target(Oid target)
{
	List	   *rows = load_all(Anum_sink_target, F_OIDEQ, ObjectIdGetDatum(target));

	return rows == NIL ? NULL : linitial(rows);
}

/* All sinks of a relation. */
List *
ks_sinks_of_relation(Oid relation)
{
	return load_all(Anum_sink_relation, F_OIDEQ, ObjectIdGetDatum(relation));
}

/* See sink_cat.h. */
KsSinkRow *
ks_sink_load_by_relation(Oid relation)
{
	ListCell   *lc;

	foreach(lc, ks_sinks_of_relation(relation))
	{
		KsSinkRow  *row = lfirst(lc);

		if (row->kind != KS_SINK_NAMED)
			return row;
	}
	return NULL;
}

/* Numbers of all sinks of the database, ascending. */
List *
ks_sink_ids(void)
{
	List	   *ids = NIL;
	ListCell   *lc;

	foreach(lc, load_all(0, InvalidOid, (Datum) 0))
		ids = lappend_int(ids, ((KsSinkRow *) lfirst(lc))->id);
	list_sort(ids, list_int_cmp);
	return ids;
}

/* Stores where a new sink is: at the beginning. */
static void
insert_published(int32 id)
{
	Relation	rel = table_open(ks_catalog_relid("published"), RowExclusiveLock);
	Datum		values[Natts_published] = {Int32GetDatum(id)};
	bool		nulls[Natts_published] = {[Anum_published_resync - 1] = true, [Anum_published_resync_end - 1] = true};

	CatalogTupleInsert(rel, heap_form_tuple(RelationGetDescr(rel), values, nulls));
	table_close(rel, NoLock);
}

/* Stores a new sink. */
void
ks_sink_insert(const KsSinkRow *row)
{
	Relation	rel = table_open(ks_catalog_relid("sink"), RowExclusiveLock);
	TupleDesc	desc = RelationGetDescr(rel);
	Datum	   *values = palloc0(desc->natts * sizeof(Datum));
	bool	   *nulls = palloc(desc->natts * sizeof(bool));

#define SET(att, datum) \
	(values[Anum_sink_##att - 1] = (datum), nulls[Anum_sink_##att - 1] = false)

	memset(nulls, true, desc->natts * sizeof(bool));
	SET(id, Int32GetDatum(row->id));
	if (row->name)
		SET(name, CStringGetTextDatum(row->name));
	SET(kind, CStringGetTextDatum(kind_names[row->kind]));
	SET(relation, ObjectIdGetDatum(row->relation));
	SET(target, ObjectIdGetDatum(row->target));
	SET(outbox0, ObjectIdGetDatum(row->halves[0].rows));
	SET(segments0, ObjectIdGetDatum(row->halves[0].segments));
	SET(outbox1, ObjectIdGetDatum(row->halves[1].rows));
	SET(segments1, ObjectIdGetDatum(row->halves[1].segments));
	SET(half, Int32GetDatum(0));
	SET(guarantee, CStringGetTextDatum(row->exactly_once ? "exactly_once" : "at_least_once"));
	SET(envelope, CStringGetTextDatum(row->debezium ? "debezium" : "upsert"));
	if (row->headers)
		SET(headers, CStringGetTextDatum(row->headers));
	SET(settings, ks_array_from_list(row->settings));
	SET(incarnation, CStringGetTextDatum(row->incarnation));
	SET(paused, BoolGetDatum(row->paused));
	SET(instance, CStringGetTextDatum(ks_instance_id()));
	SET(generation, Int32GetDatum(1));
	SET(restarts, Int64GetDatum(0));
	SET(created_at, TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()));
	if (row->key_columns != NIL)
		SET(key_columns, ks_array_from_list(row->key_columns));
	SET(topic, CStringGetTextDatum(ks_stream_def_of(row->target)->topic));
#undef SET
	CatalogTupleInsert(rel, heap_form_tuple(desc, values, nulls));
	table_close(rel, NoLock);
	insert_published(row->id);
	CommandCounterIncrement();
}

/* See sink_cat.h. */
int32
ks_sink_choose_id(KsSinkRow *row)
{
	if (row->id == 0)
		row->id = ks_object_id_next();
	return row->id;
}

/* Removes a sink. */
void
ks_sink_delete(int32 id)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(id)};

	ks_catalog_execute("DELETE FROM kstream_catalog.published WHERE sink = $1", 1, types, values);
	ks_catalog_execute("DELETE FROM kstream_catalog.sink WHERE id = $1", 1, types, values);
}

/* Pauses or resumes: from now on the sink belongs to this database. */
void
ks_sink_set_paused(int32 id, bool paused)
{
	Oid			types[3] = {INT4OID, BOOLOID, TEXTOID};
	Datum		values[3] = {
		Int32GetDatum(id), BoolGetDatum(paused), CStringGetTextDatum(ks_instance_id())
	};

	ks_catalog_execute("UPDATE kstream_catalog.sink SET paused = $2, instance = $3,"
					   " generation = generation + 1,"
					   " last_sqlstate = NULL, last_error = NULL, last_error_at = NULL"
					   " WHERE id = $1", 3, types, values);
}

/* Says which half of the outbox is written from now on. */
void
ks_sink_set_half(int32 id, int half)
{
	Oid			types[2] = {INT4OID, INT4OID};
	Datum		values[2] = {Int32GetDatum(id), Int32GetDatum(half)};

	ks_catalog_execute("UPDATE kstream_catalog.sink SET half = $2 WHERE id = $1", 2, types, values);
}

/* See sink_cat.h. */
void
ks_sink_set_guarantee(int32 id, bool exactly_once, const char *incarnation)
{
	Oid			types[3] = {INT4OID, TEXTOID, TEXTOID};
	Datum		values[3] = {
		Int32GetDatum(id), CStringGetTextDatum(exactly_once ? "exactly_once" : "at_least_once"),
		CStringGetTextDatum(incarnation)
	};

	ks_catalog_execute("UPDATE kstream_catalog.sink SET guarantee = $2, incarnation = $3,"
					   " generation = generation + 1 WHERE id = $1", 3, types, values);
	if (exactly_once)
		ks_catalog_execute("UPDATE kstream_catalog.published SET resync = coalesce(resync, 'republish') WHERE sink = $1",
						   1, types, values);
}

/* Remembers why the sink failed. */
void
ks_sink_set_error(int32 id, int sqlstate, const char *message)
{
	ks_catalog_set_error("sink", id, sqlstate, message);
}

/* Forgets the last error, once the sink goes on. */
void
ks_sink_clear_error(int32 id)
{
	ks_catalog_clear_error("sink", id);
}

/* Raises insufficient_privilege unless the caller owns what is published. */
void
ks_sink_check_owner(const KsSinkRow *row)
{
	ks_relation_check_owner(row->relation);
}

/* Its own name, or that of the relation as regclass prints it. */
char *
ks_sink_display_name(const KsSinkRow *row)
{
	if (row->name != NULL)
		return pstrdup(row->name);
	return DatumGetCString(DirectFunctionCall1(regclassout, ObjectIdGetDatum(ks_query_known_as(row->relation))));
}

/* How far the sink is known to have published; false if there is no such sink. */
bool
ks_published_load(int32 sink, KsPublished *published)
{
	Relation	rel = table_open(ks_catalog_relid("published"), AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_published_sink, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(sink));
	scan = systable_beginscan(rel, ks_catalog_relid("published_pkey"), true, snapshot, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Datum		values[Natts_published];
		bool		nulls[Natts_published];

		heap_deform_tuple(tuple, RelationGetDescr(rel), values, nulls);
		published->position = DatumGetInt64(values[Anum_published_position - 1]);
		published->chain = DatumGetInt64(values[Anum_published_chain - 1]);
		published->partitions = DatumGetInt32(values[Anum_published_partitions - 1]);
		published->shift = DatumGetInt64(values[Anum_published_shift - 1]);
		published->in_doubt = DatumGetInt64(values[Anum_published_in_doubt - 1]);
		published->resync = nulls[Anum_published_resync - 1] ? NULL :
			TextDatumGetCString(values[Anum_published_resync - 1]);
		published->settles = published->resync;
		published->resync_end = nulls[Anum_published_resync_end - 1] ? 0 :
			DatumGetInt64(values[Anum_published_resync_end - 1]);
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return HeapTupleIsValid(tuple);
}

/* Counts a transaction whose result had to be asked for. */
void
ks_sink_count_in_doubt(int32 sink)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(sink)};

	ks_catalog_execute("UPDATE kstream_catalog.published SET in_doubt = in_doubt + 1 WHERE sink = $1",
					   1, types, values);
}

/*
 * Stores it; what to do after a difference is settled by it, if that is what the
 * publisher has read: another word may have been said since.
 */
void
ks_published_store(int32 sink, const KsPublished *published)
{
	Oid			types[6] = {INT4OID, INT8OID, INT8OID, INT4OID, INT8OID, TEXTOID};
	Datum		values[6] = {
		Int32GetDatum(sink), Int64GetDatum(published->position),
		Int64GetDatum(published->chain), Int32GetDatum(published->partitions),
		Int64GetDatum(published->shift),
		CStringGetTextDatum(published->settles != NULL ? published->settles : "")
	};

	ks_catalog_execute("UPDATE kstream_catalog.published"
					   " SET position = $2, chain = $3, partitions = $4, shift = $5,"
					   " resync = nullif(resync, $6) WHERE sink = $1",
					   6, types, values);
}
