/*
 * changes.c
 *		kstream.changes, position, keep_changes and channel.
 *
 * Two snapshots are in play.  position() answers for the snapshot of the
 * statement that calls it: what that sees of the table is what the changes up to
 * that position have made of it.  changes() looks with snapshots of its own,
 * always new ones, or else it could not wait for anything; a transaction at
 * REPEATABLE READ sees more in it than in the table.
 *
 * Workers commit without waiting for the disk.  Neither function tells of a
 * change before it is safe there: after a crash positions that Postgres has
 * forgotten would be given again, and whoever followed would not notice.
 *
 * Runs in: any backend.  Transaction: needed.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type_d.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/wal.h"
#include "catalog/changelog_cat.h"
#include "catalog/query_cat.h"
#include "format/encode.h"
#include "sql/changes.h"
#include "sql/ddl_util.h"
#include "sql/verbs.h"
#include "store/changelog.h"
#include "store/changelog_read.h"
#include "stream/log_commit.h"
#include "stream/log_scan.h"
#include "worker/slots.h"
#include "worker/wakeup.h"

/* How often a waiting reader looks, whatever is signalled. */
#define RECHECK_MS 100

/* Columns of kstream.changes. */
enum
{
	COL_POSITION,
	COL_OP,
	COL_KEY,
	COL_OLD,
	COL_NEW,
	COL_EVENT_TIME,
	NCOLS
};

/* One call of kstream.changes. */
typedef struct ChangesCall
{
	Oid			relation;
	bool		from_oldest;
	int64		since;
	int64		max_rows;
	ReturnSetInfo *rsinfo;
	MemoryContext row_cxt;
	/* of the relation, while one look at the changelog lasts */
	TupleDesc	desc;
	bool	   *is_key;			/* by attribute; NULL: there is no key */
	Datum	   *values;
	bool	   *nulls;
} ChangesCall;

/* ---------------------------------------------------------------- who may, and what there is */

/* Raises an error unless the caller may read the whole table. */
static void
check_may_read(Relation rel)
{
	Oid			relid = RelationGetRelid(rel);
	AclResult	result = pg_class_aclcheck(relid, GetUserId(), ACL_SELECT);

	if (result != ACLCHECK_OK)
		aclcheck_error(result, get_relkind_objtype(rel->rd_rel->relkind), RelationGetRelationName(rel));
	if (check_enable_rls(relid, InvalidOid, true) == RLS_ENABLED)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("row-level security of table \"%s\" applies to you", RelationGetRelationName(rel)),
				 errhint("Its changes are shown to those who may see all rows; read the table itself.")));
}

/* Opens the relation of an argument of type regclass, which may be any number. */
static Relation
open_relation(Oid relation)
{
	Relation	rel = try_relation_open(relation, AccessShareLock);

	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relation),
				 errhint("The view kstream.tables lists the tables whose changes can be kept.")));
	return rel;
}

/* No changes are kept: what to do. */
static void
not_kept(Relation rel)
{
	KsQueryRow *query = ks_query_load_by_relation(RelationGetRelid(rel));

	if (query == NULL || query->kind == KS_QUERY_STREAM)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table that kstream keeps up to date", RelationGetRelationName(rel)),
				 errhint("The view kstream.tables lists those tables.")));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("changes of table \"%s\" are not kept", RelationGetRelationName(rel)),
			 errhint("Create it with keep_changes, or call kstream.keep_changes(name, interval).")));
}

/* Waits until everything that is committed now is safe on disk. */
static void
flush_commits(void)
{
	if (!RecoveryInProgress())
		XLogFlush(ks_wal_end());
}

/* ---------------------------------------------------------------- rows */

/* Marks the columns of the key: the primary key, or what the query groups by. */
static bool *
key_columns(Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);
	bool	   *is_key = palloc0(sizeof(bool) * Max(desc->natts, 1));
	Bitmapset  *primary = RelationGetIndexAttrBitmap(rel, INDEX_ATTR_BITMAP_PRIMARY_KEY);
	int			attr = -1;
	KsQueryRow *query;
	ListCell   *lc;

	if (primary != NULL)
	{
		while ((attr = bms_next_member(primary, attr)) >= 0)
			is_key[attr + FirstLowInvalidHeapAttributeNumber - 1] = true;
		return is_key;
	}
	query = ks_query_load_by_relation(RelationGetRelid(rel));
	if (query == NULL || query->key_columns == NIL)
		return NULL;
	foreach(lc, query->key_columns)
	{
		AttrNumber	attnum = get_attnum(RelationGetRelid(rel), lfirst(lc));

		if (attnum > 0)
			is_key[attnum - 1] = true;
	}
	return is_key;
}

/* A row as jsonb; columns: those marked, NULL: all. */
static Datum
row_to_jsonb(ChangesCall *call, int ncolumns, const Datum *values, const bool *nulls, const bool *columns)
{
	StringInfoData buf;
	char	   *text;
	int			n = 0;

	for (int i = 0; i < call->desc->natts; i++)
	{
		call->nulls[i] = true;
		if (TupleDescAttr(call->desc, i)->attisdropped)
			continue;
		if (n == ncolumns)
			break;
		call->values[i] = values[n];
		call->nulls[i] = nulls[n++];
	}
	initStringInfo(&buf);
	ks_encode_json(&buf, call->desc, call->values, call->nulls, columns);
	text = pg_any_to_server(buf.data, buf.len, PG_UTF8);
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(text));
}

/* Adds one change to the result. */
static void
add_change(const KsStoredChange *change, void *arg)
{
	static const char *const ops[] = {
		[KS_CHANGE_INSERT] = "insert",
		[KS_CHANGE_UPDATE] = "update",
		[KS_CHANGE_DELETE] = "delete",
	};
	ChangesCall *call = arg;
	MemoryContext old = MemoryContextSwitchTo(call->row_cxt);
	Datum		values[NCOLS];
	bool		nulls[NCOLS] = {false};
	bool		deleted = change->op == KS_CHANGE_DELETE;

	values[COL_POSITION] = Int64GetDatum(change->offset + 1);
	values[COL_OP] = CStringGetTextDatum(ops[change->op]);
	nulls[COL_KEY] = call->is_key == NULL;
	if (call->is_key != NULL)
		values[COL_KEY] = row_to_jsonb(call, change->ncolumns,
									   deleted ? change->old_values : change->new_values,
									   deleted ? change->old_nulls : change->new_nulls, call->is_key);
	nulls[COL_OLD] = change->op == KS_CHANGE_INSERT;
	if (!nulls[COL_OLD])
		values[COL_OLD] = row_to_jsonb(call, change->ncolumns, change->old_values, change->old_nulls, NULL);
	nulls[COL_NEW] = deleted;
	if (!deleted)
		values[COL_NEW] = row_to_jsonb(call, change->ncolumns, change->new_values, change->new_nulls, NULL);
	values[COL_EVENT_TIME] = TimestampTzGetDatum(change->event_time);
	nulls[COL_EVENT_TIME] = change->event_time == DT_NOBEGIN;
	tuplestore_putvalues(call->rsinfo->setResult, call->rsinfo->setDesc, values, nulls);
	MemoryContextSwitchTo(old);
	MemoryContextReset(call->row_cxt);
}

/* Looks at the relation as it is now. */
static void
prepare_rows(ChangesCall *call, Relation rel)
{
	call->desc = CreateTupleDescCopy(RelationGetDescr(rel));
	call->is_key = key_columns(rel);
	call->values = palloc0(sizeof(Datum) * Max(call->desc->natts, 1));
	call->nulls = palloc0(sizeof(bool) * Max(call->desc->natts, 1));
}

/* Raises an error unless all changes from this offset on are there. */
static void
check_range(Relation rel, int64 from, int64 begin, int64 end)
{
	if (from < begin)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("changes of table \"%s\" after position " INT64_FORMAT " are no longer kept",
						RelationGetRelationName(rel), from),
				 errdetail("They are kept from position " INT64_FORMAT " on.", begin + 1),
				 errhint("Read the table anew, with kstream.position() in the same statement, and follow from there.")));
	if (from > end && !RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("table \"%s\" has not reached position " INT64_FORMAT, RelationGetRelationName(rel), from),
				 errdetail("Its last change has position " INT64_FORMAT ".", end),
				 errhint("The database may have been restored. Read the table anew, with kstream.position() in the same statement, and follow from there.")));
}

/* Looks once at the changelog; true if there were changes. */
static bool
look(ChangesCall *call)
{
	Relation	rel = try_relation_open(call->relation, AccessShareLock);
	KsChangelogRow *row;
	Snapshot	snapshot;
	int64		begin;
	int64		from;
	int64		end;
	int64		next;

	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", call->relation)));
	check_may_read(rel);
	row = ks_changelog_hold(call->relation);
	if (row == NULL)
		not_kept(rel);
	snapshot = ks_log_snapshot();
	begin = ks_changelog_begin(row, snapshot);
	end = ks_changelog_end(row, snapshot);
	from = call->from_oldest ? begin : call->since;
	check_range(rel, from, begin, end);
	next = from;
	if (from < end)
	{
		prepare_rows(call, rel);
		next = ks_changelog_visit(row, snapshot, from, call->max_rows, add_change, call);
		if (next == from)
			elog(ERROR, "change " INT64_FORMAT " of table \"%s\" is missing", from + 1,
				 RelationGetRelationName(rel));
		flush_commits();
	}
	UnregisterSnapshot(snapshot);
	ks_changelog_let_go(row);
	relation_close(rel, AccessShareLock);
	return next > from;
}

/* Sleeps until somebody commits something, at most until the deadline. */
static void
sleep_until(ConditionVariable *cv, TimestampTz deadline)
{
	long		ms = Min(TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline), RECHECK_MS);

	if (cv != NULL)
		(void) ConditionVariableTimedSleep(cv, Max(ms, 1), PG_WAIT_EXTENSION);
	else
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, Max(ms, 1),
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	CHECK_FOR_INTERRUPTS();
}

/* Reads the arguments of kstream.changes. */
static void
read_arguments(FunctionCallInfo fcinfo, ChangesCall *call, TimestampTz *deadline)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", "relation")));
	call->relation = PG_GETARG_OID(0);
	call->from_oldest = PG_ARGISNULL(1);
	call->since = PG_ARGISNULL(1) ? 0 : PG_GETARG_INT64(1);
	call->max_rows = PG_ARGISNULL(3) ? PG_INT64_MAX / 2 : PG_GETARG_INT32(3);
	if (call->since < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"since\" must not be negative"),
				 errhint("Give the position of the last change you know, or NULL to begin with the oldest one kept.")));
	if (call->max_rows < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"max_rows\" must be at least 1"),
				 errhint("NULL means no limit.")));
	*deadline = GetCurrentTimestamp();
	if (!PG_ARGISNULL(2))
		*deadline = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
															TimestampTzGetDatum(*deadline),
															PG_GETARG_DATUM(2)));
}

PG_FUNCTION_INFO_V1(ks_changes);

/* changes(relation, since, wait, max_rows): changes after a position. */
Datum
ks_changes(PG_FUNCTION_ARGS)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "kstream changes", ALLOCSET_DEFAULT_SIZES);
	ChangesCall call = {0};
	ConditionVariable *cv = ks_workers_possible() ? ks_progress_cv(MyDatabaseId) : NULL;
	MemoryContext old;
	TimestampTz deadline;
	bool		found;

	read_arguments(fcinfo, &call, &deadline);
	InitMaterializedSRF(fcinfo, 0);
	call.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	call.row_cxt = AllocSetContextCreate(CurrentMemoryContext, "kstream change", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(cxt);
	for (;;)
	{
		MemoryContextReset(cxt);
		if (cv != NULL)
			ConditionVariablePrepareToSleep(cv);
		found = look(&call);
		if (found || GetCurrentTimestamp() >= deadline)
			break;
		sleep_until(cv, deadline);
	}
	if (cv != NULL)
		ConditionVariableCancelSleep();
	MemoryContextSwitchTo(old);
	MemoryContextDelete(call.row_cxt);
	MemoryContextDelete(cxt);
	return (Datum) 0;
}

/* ---------------------------------------------------------------- position */

/*
 * The answer for a snapshot, kept for the rows of the same statement.  Of the
 * transactions between xmin and xmax some may have ended from one snapshot to
 * another, but none can have begun: as many are the same.
 */
typedef struct PositionCache
{
	Oid			relation;
	TransactionId xmin;
	TransactionId xmax;
	uint32		running;
	CommandId	curcid;
	int64		position;
} PositionCache;

/* Is the answer that of the snapshot? */
static bool
cache_is_valid(const PositionCache *cache, Oid relation, Snapshot snapshot)
{
	return cache != NULL && cache->relation == relation && !snapshot->takenDuringRecovery &&
		cache->xmin == snapshot->xmin && cache->xmax == snapshot->xmax &&
		cache->running == snapshot->xcnt && cache->curcid == snapshot->curcid;
}

/* Remembers the answer for the snapshot. */
static void
fill_cache(FmgrInfo *flinfo, Oid relation, Snapshot snapshot, int64 position)
{
	PositionCache *cache = flinfo->fn_extra;

	if (cache == NULL)
		cache = flinfo->fn_extra = MemoryContextAllocZero(flinfo->fn_mcxt, sizeof(PositionCache));
	cache->relation = relation;
	cache->xmin = snapshot->xmin;
	cache->xmax = snapshot->xmax;
	cache->running = snapshot->xcnt;
	cache->curcid = snapshot->curcid;
	cache->position = position;
}

/* The snapshot is older than what is kept. */
static void
snapshot_too_old(Relation rel)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("changes of table \"%s\" are not kept as far back as this transaction sees it",
					RelationGetRelationName(rel)),
			 errhint("Begin a new transaction.")));
}

/* Position of the last change that the snapshot sees. */
static int64
position_in(Relation rel, Snapshot snapshot)
{
	KsChangelogRow *row = ks_changelog_hold(RelationGetRelid(rel));
	KsChangelogRow *seen;
	Snapshot	now;
	int64		end;
	int64		begin;

	if (row == NULL)
		not_kept(rel);
	if (ks_append_is_pending(row->halves[0].rows))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this transaction has changed table \"%s\" itself", RelationGetRelationName(rel)),
				 errdetail("Changes get their positions when it commits."),
				 errhint("Commit first.")));
	end = ks_changelog_end(row, snapshot);
	now = ks_log_snapshot();
	begin = ks_changelog_begin(row, now);
	UnregisterSnapshot(now);
	seen = ks_changelog_load(RelationGetRelid(rel), snapshot);
	if (seen == NULL || seen->halves[0].rows != row->halves[0].rows || end < begin)
		snapshot_too_old(rel);
	ks_changelog_let_go(row);
	flush_commits();
	return end;
}

PG_FUNCTION_INFO_V1(ks_position);

/* position(relation): of the last change that the calling statement sees. */
Datum
ks_position(PG_FUNCTION_ARGS)
{
	Oid			relation = PG_GETARG_OID(0);
	Snapshot	snapshot = GetActiveSnapshot();
	Relation	rel;
	int64		position;

	if (cache_is_valid(fcinfo->flinfo->fn_extra, relation, snapshot))
		PG_RETURN_INT64(((PositionCache *) fcinfo->flinfo->fn_extra)->position);
	rel = open_relation(relation);
	check_may_read(rel);
	position = position_in(rel, snapshot);
	relation_close(rel, AccessShareLock);
	fill_cache(fcinfo->flinfo, relation, snapshot, position);
	PG_RETURN_INT64(position);
}

/* ---------------------------------------------------------------- keep_changes */

/* See changes.h. */
void
ks_check_keep(Interval *keep)
{
	Interval	zero = {0};

	if (DatumGetBool(DirectFunctionCall2(interval_le, IntervalPGetDatum(keep), IntervalPGetDatum(&zero))))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("changes must be kept for some time"),
				 errhint("Give an interval greater than 0, or NULL to keep none.")));
	/* the time before which changes may go must exist */
	(void) DirectFunctionCall2(timestamptz_mi_interval, TimestampTzGetDatum(GetCurrentTimestamp()),
							   IntervalPGetDatum(keep));
}

/*
 * Starts or stops to keep changes, with no batch in between: the query is taken
 * from its worker, and opened anew by it afterwards.
 */
static void
switch_changes(const KsQueryRow *query, Interval *keep)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(query->id)};

	ks_query_take_over(query->id);
	if (ks_changelog_wanted(query->relation) == (keep != NULL))
	{
		/* somebody else was faster */
		if (keep != NULL)
			ks_changelog_set_keep(query->relation, keep);
		return;
	}
	if (keep != NULL)
		ks_changelog_start(query->relation, keep);
	else
		ks_changelog_stop(query->relation);
	ks_catalog_execute("UPDATE kstream_catalog.query SET generation = generation + 1 WHERE id = $1",
					   1, types, values);
}

PG_FUNCTION_INFO_V1(ks_keep_changes);

/* keep_changes(name, keep): from now on, for how long. */
Datum
ks_keep_changes(PG_FUNCTION_ARGS)
{
	KsQueryRow *query = ks_query_by_name(ks_arg_required(fcinfo, 0, "name"));
	Interval   *keep = PG_ARGISNULL(1) ? NULL : PG_GETARG_INTERVAL_P(1);

	ks_query_check_owner(query);
	if (query->kind == KS_QUERY_STREAM)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is a stream", get_rel_name(query->relation)),
				 errhint("The records of a stream are its changes: read it.")));
	if (keep != NULL)
		ks_check_keep(keep);
	if (ks_changelog_wanted(query->relation) != (keep != NULL))
		switch_changes(query, keep);
	else if (keep != NULL)
		ks_changelog_set_keep(query->relation, keep);
	ks_notify_definitions_changed();
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(ks_channel);

/* channel(relation): where its changes are notified. */
Datum
ks_channel(PG_FUNCTION_ARGS)
{
	Oid			relation = PG_GETARG_OID(0);
	Relation	rel = open_relation(relation);

	/* nothing would ever come */
	if (!ks_changelog_wanted(relation))
		not_kept(rel);
	relation_close(rel, NoLock);
	PG_RETURN_TEXT_P(cstring_to_text(ks_changelog_channel(relation)));
}
