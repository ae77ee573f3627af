/*
 * query_cat.c
 *		Rows of kstream_catalog.query as C structs.
 *
 * Rows are read and inserted by heap access, so that reading needs neither SPI
 * nor rights, and our own inserts are told apart from a restore, which fires
 * the triggers of the table (sql/restore.c).  Updates go through SPI, because
 * a worker and a session may update one row at the same time.
 *
 * Runs in: any backend, any worker.  Transaction: needed.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid_d.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type_d.h"
#include "commands/sequence.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "catalog/cat_util.h"
#include "catalog/query_cat.h"

/* Fourth field of our advisory lock tags; SQL's functions use 1 and 2. */
#define KS_LOCK_SPACE 7

/* Columns of kstream_catalog.query, in the order of sql/parts/10_tables.sql. */
enum
{
	Anum_query_id = 1,
	Anum_query_relation,
	Anum_query_kind,
	Anum_query_view,
	Anum_query_source,
	Anum_query_state,
	Anum_query_inputs,
	Anum_query_key_columns,
	Anum_query_version_column,
	Anum_query_start,
	Anum_query_on_error,
	Anum_query_batch_rows,
	Anum_query_batch_interval,
	Anum_query_settings,
	Anum_query_paused,
	Anum_query_instance,
	Anum_query_generation,
	Anum_query_last_sqlstate,
	Anum_query_last_error,
	Anum_query_last_error_at,
	Anum_query_restarts,
	Anum_query_created_at,
	Anum_query_name,
	/* event time */
	Anum_query_grace,
	Anum_query_retention,
	Anum_query_emit,
	Anum_query_idle_timeout
};
#define Natts_query Anum_query_idle_timeout

static const char *const kind_names[] = {
	[KS_QUERY_TABLE] = "table",
	[KS_QUERY_GLOBAL_TABLE] = "global_table",
	[KS_QUERY_APPEND] = "append",
	[KS_QUERY_AGGREGATE] = "aggregate",
	[KS_QUERY_STREAM] = "stream",
};

/* The name of a kind as the catalog spells it. */
const char *
ks_query_kind_name(KsQueryKind kind)
{
	return kind_names[kind];
}

/* The kind of that name. */
static KsQueryKind
kind_from_name(const char *name)
{
	for (int i = 0; i < lengthof(kind_names); i++)
	{
		if (strcmp(kind_names[i], name) == 0)
			return (KsQueryKind) i;
	}
	elog(ERROR, "unknown kind of query: %s", name);
}

/* Milliseconds of an interval as the catalog holds it (never with months). */
static int
interval_ms(const Interval *interval)
{
	return (int) (interval->day * (SECS_PER_DAY * 1000) + interval->time / 1000);
}

/* Microseconds of an interval as the catalog holds it (never with months). */
static int64
interval_us(Datum value)
{
	Interval   *interval = DatumGetIntervalP(value);

	return interval->day * USECS_PER_DAY + interval->time;
}

/* The interval of that many microseconds. */
static Datum
us_interval(int64 us)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = us;
	return IntervalPGetDatum(interval);
}

/* A row of the catalog as a struct in the current context. */
static KsQueryRow *
row_from_tuple(HeapTuple tuple, TupleDesc desc)
{
	KsQueryRow *row = palloc0(sizeof(KsQueryRow));
	Datum		values[Natts_query];
	bool		nulls[Natts_query];

#define VALUE(att) (values[Anum_query_##att - 1])
#define ISNULL(att) (nulls[Anum_query_##att - 1])
#define OID_OR_INVALID(att) (ISNULL(att) ? InvalidOid : DatumGetObjectId(VALUE(att)))
#define TEXT_OR_NULL(att) (ISNULL(att) ? NULL : TextDatumGetCString(VALUE(att)))
#define LIST_OR_NIL(att) (ISNULL(att) ? NIL : ks_list_from_array(VALUE(att)))

	if (desc->natts < Natts_query)
		elog(ERROR, "catalog of kstream is older than its library");
	{
		/* columns that a later version of the extension added are not ours */
		Datum	   *all_values = palloc(desc->natts * sizeof(Datum));
		bool	   *all_nulls = palloc(desc->natts * sizeof(bool));

		heap_deform_tuple(tuple, desc, all_values, all_nulls);
		memcpy(values, all_values, sizeof(values));
		memcpy(nulls, all_nulls, sizeof(nulls));
		pfree(all_values);
		pfree(all_nulls);
	}

	row->changed_here = TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
	row->id = DatumGetInt32(VALUE(id));
	row->relation = DatumGetObjectId(VALUE(relation));
	row->kind = kind_from_name(TextDatumGetCString(VALUE(kind)));
	row->view = OID_OR_INVALID(view);
	row->source = OID_OR_INVALID(source);
	row->state = OID_OR_INVALID(state);
	row->inputs = OID_OR_INVALID(inputs);
	row->key_columns = LIST_OR_NIL(key_columns);
	row->version_column = TEXT_OR_NULL(version_column);
	row->start = TEXT_OR_NULL(start);
	row->stop_on_error = strcmp(TextDatumGetCString(VALUE(on_error)), "stop") == 0;
	row->batch_rows = ISNULL(batch_rows) ? 0 : DatumGetInt32(VALUE(batch_rows));
	row->batch_interval_ms = ISNULL(batch_interval) ? -1 :
		interval_ms(DatumGetIntervalP(VALUE(batch_interval)));
	row->settings = LIST_OR_NIL(settings);
	row->paused = DatumGetBool(VALUE(paused));
	row->instance = TEXT_OR_NULL(instance);
	row->generation = DatumGetInt32(VALUE(generation));
	row->last_sqlstate = TEXT_OR_NULL(last_sqlstate);
	row->last_error = TEXT_OR_NULL(last_error);
	row->name = TEXT_OR_NULL(name);
	row->grace_us = interval_us(VALUE(grace));
	row->retention_us = ISNULL(retention) ? -1 : interval_us(VALUE(retention));
	row->emit_final = strcmp(TextDatumGetCString(VALUE(emit)), "final") == 0;
	row->idle_timeout_us = interval_us(VALUE(idle_timeout));

#undef VALUE
#undef ISNULL
#undef OID_OR_INVALID
#undef TEXT_OR_NULL
#undef LIST_OR_NIL
	return row;
}

/* The one row whose indexed column equals the value, or NULL. */
static KsQueryRow *
load_by_key(const char *index, AttrNumber attnum, RegProcedure equal, Datum value)
{
	Relation	rel = table_open(ks_catalog_relid("query"), AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	KsQueryRow *row = NULL;

	ScanKeyInit(&key, attnum, BTEqualStrategyNumber, equal, value);
	if (attnum == Anum_query_name)
		key.sk_collation = DEFAULT_COLLATION_OID;
	scan = systable_beginscan(rel, ks_catalog_relid(index), true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		row = row_from_tuple(tuple, RelationGetDescr(rel));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return row;
}

/* The query of that number, or NULL. */
KsQueryRow *
ks_query_load(int32 id)
{
	return load_by_key("query_pkey", Anum_query_id, F_INT4EQ, Int32GetDatum(id));
}

/* The query that keeps the relation up to date, or NULL. */
KsQueryRow *
ks_query_load_by_relation(Oid relation)
{
	ListCell   *lc;

	foreach(lc, ks_query_feeders(relation))
	{
		KsQueryRow *row = ks_query_load(lfirst_int(lc));

		if (row != NULL && row->name == NULL)
			return row;
	}
	return NULL;
}

/* The query with that name of its own, or NULL. */
KsQueryRow *
ks_query_load_by_name(const char *name)
{
	return load_by_key("query_name_key", Anum_query_name, F_TEXTEQ, CStringGetTextDatum(name));
}

/* Numbers of the queries that write to the relation. */
List *
ks_query_feeders(Oid relation)
{
	Relation	rel = table_open(ks_catalog_relid("query"), AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *ids = NIL;

	ScanKeyInit(&key, Anum_query_relation, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relation));
	scan = systable_beginscan(rel, ks_catalog_relid("query_relation"), true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		isnull;

		ids = lappend_int(ids, DatumGetInt32(heap_getattr(tuple, Anum_query_id,
														  RelationGetDescr(rel), &isnull)));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return ids;
}

/* See query_cat.h. */
List *
ks_query_readers(Oid relation)
{
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(relation)};
	MemoryContext cxt = CurrentMemoryContext;
	List	   *ids = NIL;

	SPI_connect();
	ks_spi_execute("WITH RECURSIVE reader(oid) AS ("
				   " SELECT $1"
				   " UNION"
				   " SELECT c.oid FROM reader"
				   " JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = reader.oid"
				   " AND d.classid = 'pg_rewrite'::regclass"
				   " JOIN pg_rewrite r ON r.oid = d.objid"
				   " JOIN pg_class c ON c.oid = r.ev_class AND c.relkind = 'v')"
				   " SELECT q.id FROM kstream_catalog.query q"
				   " WHERE EXISTS (SELECT FROM reader WHERE reader.oid IN (q.view, q.source)) ORDER BY q.id",
				   false, 1, types, values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		int32		id = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
		MemoryContext old = MemoryContextSwitchTo(cxt);

		ids = lappend_int(ids, id);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return ids;
}

/* See query_cat.h. */
char *
ks_query_display_name(const KsQueryRow *row)
{
	if (row->name != NULL)
		return pstrdup(row->name);
	return DatumGetCString(DirectFunctionCall1(regclassout, ObjectIdGetDatum(row->relation)));
}

/* See query_cat.h.  The hidden source carries the number of its query in its name. */
Oid
ks_query_known_as(Oid relid)
{
	char	   *name = get_rel_name(relid);
	KsQueryRow *row;
	int			id;

	if (name == NULL || sscanf(name, "src_%d", &id) != 1 ||
		get_rel_namespace(relid) != get_namespace_oid("kstream_query", true))
		return relid;
	row = ks_query_load(id);
	return row != NULL && row->source == relid ? row->relation : relid;
}

/* Numbers of all queries of the database, ascending. */
List *
ks_query_ids(void)
{
	Relation	rel = table_open(ks_catalog_relid("query"), AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple;
	List	   *ids = NIL;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		isnull;

		ids = lappend_int(ids, DatumGetInt32(heap_getattr(tuple, Anum_query_id,
														  RelationGetDescr(rel), &isnull)));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	list_sort(ids, list_int_cmp);
	return ids;
}

/* True if a relation of ours has the number in its name. */
static bool
object_id_in_use(int32 id)
{
	static const char *const names[][2] = {
		{"kstream_query", "q_%d"},
		{"kstream_query", "src_%d"},
		{"kstream_state", "s_%d"},
		{"kstream_state", "i_%d"},
		{"kstream_state", "log_%d"},
		{"kstream_state", "seg_%d"},
		{"kstream_query", "out_%d"},
		{"kstream_state", "out_%d_0"},
		{"kstream_state", "chg_%d_0"},
	};
	char		name[NAMEDATALEN];

	for (int i = 0; i < lengthof(names); i++)
	{
		snprintf(name, sizeof(name), names[i][1], id);
		if (OidIsValid(get_relname_relid(name, get_namespace_oid(names[i][0], false))))
			return true;
	}
	return false;
}

/*
 * Next number for a query or a local log.  The sequence may be behind the
 * relations there are: a restore of definitions only does not set it.
 */
int32
ks_object_id_next(void)
{
	int32		id;

	do
	{
		id = (int32) nextval_internal(ks_catalog_relid("object_id"), false);
	} while (object_id_in_use(id));
	return id;
}

/* Stores a new query. */
void
ks_query_insert(const KsQueryRow *row)
{
	Relation	rel = table_open(ks_catalog_relid("query"), RowExclusiveLock);
	TupleDesc	desc = RelationGetDescr(rel);
	Datum	   *values = palloc0(desc->natts * sizeof(Datum));
	bool	   *nulls = palloc(desc->natts * sizeof(bool));
	Interval   *interval;
	HeapTuple	tuple;

#define SET(att, datum) \
	(values[Anum_query_##att - 1] = (datum), nulls[Anum_query_##att - 1] = false)
#define SET_OID(att) \
	do { if (OidIsValid(row->att)) SET(att, ObjectIdGetDatum(row->att)); } while (0)

	memset(nulls, true, desc->natts * sizeof(bool));
	SET(id, Int32GetDatum(row->id));
	SET_OID(relation);
	SET(kind, CStringGetTextDatum(ks_query_kind_name(row->kind)));
	SET_OID(view);
	SET_OID(source);
	SET_OID(state);
	SET_OID(inputs);
	if (row->key_columns != NIL)
		SET(key_columns, ks_array_from_list(row->key_columns));
	if (row->version_column)
		SET(version_column, CStringGetTextDatum(row->version_column));
	SET(start, CStringGetTextDatum(row->start ? row->start : "earliest"));
	SET(on_error, CStringGetTextDatum(row->stop_on_error ? "stop" : "dead_letter"));
	if (row->batch_rows > 0)
		SET(batch_rows, Int32GetDatum(row->batch_rows));
	if (row->batch_interval_ms >= 0)
	{
		interval = palloc0(sizeof(Interval));
		interval->time = (TimeOffset) row->batch_interval_ms * 1000;
		SET(batch_interval, IntervalPGetDatum(interval));
	}
	SET(settings, ks_array_from_list(row->settings));
	SET(paused, BoolGetDatum(row->paused));
	SET(instance, CStringGetTextDatum(row->instance ? row->instance : ks_instance_id()));
	SET(generation, Int32GetDatum(Max(row->generation, 1)));
	SET(restarts, Int64GetDatum(0));
	SET(created_at, TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()));
	if (row->name)
		SET(name, CStringGetTextDatum(row->name));
	SET(grace, us_interval(row->grace_us));
	if (row->retention_us >= 0)
		SET(retention, us_interval(row->retention_us));
	SET(emit, CStringGetTextDatum(row->emit_final ? "final" : "changes"));
	SET(idle_timeout, us_interval(row->idle_timeout_us));
#undef SET
#undef SET_OID

	tuple = heap_form_tuple(desc, values, nulls);
	CatalogTupleInsert(rel, tuple);
	heap_freetuple(tuple);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

/* Removes a query with all that the catalog holds about it. */
void
ks_query_delete(int32 id)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(id)};

	ks_catalog_execute("DELETE FROM kstream_catalog.position WHERE query = $1", 1, types, values);
	ks_catalog_execute("DELETE FROM kstream_catalog.dead_letter WHERE query = $1", 1, types, values);
	ks_catalog_execute("DELETE FROM kstream_catalog.late_record WHERE query = $1", 1, types, values);
	ks_catalog_execute("DELETE FROM kstream_catalog.dedup WHERE query = $1", 1, types, values);
	ks_catalog_execute("DELETE FROM kstream_catalog.dedup_part WHERE query = $1", 1, types, values);
	ks_catalog_execute("DELETE FROM kstream_catalog.query WHERE id = $1", 1, types, values);
}

/* Pauses or resumes: from now on the query belongs to this database. */
void
ks_query_set_paused(int32 id, bool paused)
{
	Oid			types[3] = {INT4OID, BOOLOID, TEXTOID};
	Datum		values[3] = {
		Int32GetDatum(id), BoolGetDatum(paused), CStringGetTextDatum(ks_instance_id())
	};

	ks_catalog_execute("UPDATE kstream_catalog.query SET paused = $2, instance = $3,"
				   " generation = generation + 1,"
				   " last_sqlstate = NULL, last_error = NULL, last_error_at = NULL"
				   " WHERE id = $1", 3, types, values);
}

/* Has the query compiled anew by its worker, once this transaction has committed. */
void
ks_query_reopen(int32 id)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(id)};

	ks_catalog_execute("UPDATE kstream_catalog.query SET generation = generation + 1 WHERE id = $1",
					   1, types, values);
}

/* Remembers why the query failed. */
void
ks_query_set_error(int32 id, int sqlstate, const char *message)
{
	ks_catalog_set_error("query", id, sqlstate, message);
}

/* Forgets the last error, once the query goes on. */
void
ks_query_clear_error(int32 id)
{
	ks_catalog_clear_error("query", id);
}

/* See query_cat.h. */
void
ks_query_check_owner(const KsQueryRow *row)
{
	ks_relation_check_owner(row->relation);
}

/* Names the database as it runs here: a restored or copied one has another name. */
const char *
ks_instance_id(void)
{
	static char id[64];

	snprintf(id, sizeof(id), UINT64_FORMAT "/%u", GetSystemIdentifier(), MyDatabaseId);
	return id;
}

/* Takes the lock of whoever runs batches of the query. */
bool
ks_query_lock(int32 id, bool session, bool wait)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, (uint32) id, KS_LOCK_SPACE);
	return LockAcquire(&tag, ExclusiveLock, session, !wait) != LOCKACQUIRE_NOT_AVAIL;
}

/* Releases a lock taken at session level. */
void
ks_query_unlock(int32 id)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, (uint32) id, KS_LOCK_SPACE);
	LockRelease(&tag, ExclusiveLock, true);
}
