/*
 * definition_guard.c
 *		What must not change of a view or stream while a query reads a stream by it.
 *
 * A query has a state and positions that belong to what it has read so far.  If
 * a view through which it reads a stream got another query, or the stream
 * another column for its event time, then what is read from then on would not
 * fit them, and the table would equal no SELECT.
 *
 * Views that read no stream may change as tables may: what a query looks up is
 * as it is when a record is processed.
 *
 * The event time is looked at when the transaction ends, because its column is
 * renamed in three steps: option dropped, column renamed, option added.
 *
 * Runs in: any backend.  Transaction: needed.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type_d.h"
#include "commands/tablecmds.h"
#include "executor/spi.h"
#include "nodes/parsenodes.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "catalog/cat_util.h"
#include "catalog/query_cat.h"
#include "catalog/stream_def.h"
#include "plan/analyze.h"
#include "sql/definition_guard.h"
#include "sql/restore.h"
#include "worker/wakeup.h"

/* The view that the command will give another query, and the query it has before. */
static Oid	replaced_view = InvalidOid;
static Query *replaced_query = NULL;
static MemoryContext replaced_cxt = NULL;

/* The event time that a stream had when a query began to read it, or before this transaction. */
typedef struct HeldTime
{
	Oid			stream;
	int32		query;
	AttrNumber	column;			/* 0: the record's timestamp */
} HeldTime;

static List *held_times = NIL;	/* HeldTime *, in the transaction's memory */

/* See definition_guard.h. */
void
ks_definitions_reopen(Oid relid)
{
	List	   *ids = list_concat_unique_int(ks_query_readers(relid), ks_query_feeders(relid));
	ListCell   *lc;

	foreach(lc, ids)
		ks_query_reopen(lfirst_int(lc));
	if (ids != NIL)
		ks_notify_definitions_changed();
}

/* ---------------------------------------------------------------- views */

/*
 * The relation that the command replaces as a view, locked as the command itself
 * will lock it, or InvalidOid.
 */
static Oid
relation_replaced(Node *parsetree)
{
	Oid			relid = InvalidOid;

	if (IsA(parsetree, ViewStmt) && ((ViewStmt *) parsetree)->replace)
		(void) RangeVarGetAndCheckCreationNamespace(copyObject(((ViewStmt *) parsetree)->view),
													AccessExclusiveLock, &relid);
	if (IsA(parsetree, RuleStmt) && ((RuleStmt *) parsetree)->replace &&
		((RuleStmt *) parsetree)->event == CMD_SELECT)
		relid = RangeVarGetRelidExtended(((RuleStmt *) parsetree)->relation, AccessExclusiveLock,
										 RVR_MISSING_OK, RangeVarCallbackOwnsRelation, NULL);
	return relid;
}

/* The query of a view, to be compared with another one. */
static Query *
query_to_compare(Oid view)
{
	Query	   *query = ks_view_query_resolved(view);

	query->stmt_len = 0;		/* of the text it was made from */
	return query;
}

/* Remembers the query that the view has. */
static void
remember_view(Oid relid)
{
	MemoryContext old;

	if (replaced_cxt == NULL)
		replaced_cxt = AllocSetContextCreate(TopMemoryContext, "kstream replaced view", ALLOCSET_SMALL_SIZES);
	MemoryContextReset(replaced_cxt);
	replaced_view = InvalidOid;
	if (!OidIsValid(relid) || get_rel_relkind(relid) != RELKIND_VIEW)
		return;
	old = MemoryContextSwitchTo(replaced_cxt);
	replaced_query = query_to_compare(relid);
	MemoryContextSwitchTo(old);
	replaced_view = relid;
}

/*
 * One query that reads the view.  Of one that comes with a dump, and has not
 * been resumed, views may come as empty shells first.
 */
static void
check_reader(const KsQueryRow *row, Query *before, Query *after)
{
	bool		restored = strcmp(row->instance, KS_RESTORED_INSTANCE) == 0;

	if (ks_reads_stream((Node *) before) || (!restored && ks_reads_stream((Node *) after)))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot replace view \"%s\", through which query \"%s\" reads a stream",
						get_rel_name(replaced_view), ks_query_display_name(row)),
				 errdetail("What the query has computed so far would not fit what it reads from then on."),
				 errhint("Drop the query first, or make another view, and another query over it.")));
	if (!restored)
		(void) ks_analyze_view(row->view);
}

/* See definition_guard.h. */
void
ks_definitions_after(Node *parsetree)
{
	Query	   *now;
	ListCell   *lc;

	if (parsetree == NULL || (!IsA(parsetree, ViewStmt) && !IsA(parsetree, RuleStmt)) ||
		!OidIsValid(replaced_view) || get_rel_relkind(replaced_view) != RELKIND_VIEW)
		return;
	now = query_to_compare(replaced_view);
	foreach(lc, equal(now, replaced_query) ? NIL : ks_query_readers(replaced_view))
		check_reader(ks_query_load(lfirst_int(lc)), replaced_query, now);
	ks_definitions_reopen(replaced_view);
	replaced_view = InvalidOid;
}

/* ---------------------------------------------------------------- types */

/* The name of a query whose own statement uses the column, or NULL. */
static char *
query_that_uses(Oid relid, AttrNumber column)
{
	Oid			types[2] = {OIDOID, INT4OID};
	Datum		values[2] = {ObjectIdGetDatum(relid), Int32GetDatum(column)};
	MemoryContext cxt = CurrentMemoryContext;
	char	   *result = NULL;
	bool		isnull;

	SPI_connect();
	ks_spi_execute("SELECT q.id FROM pg_depend d"
				   " JOIN pg_rewrite r ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass"
				   " JOIN kstream_catalog.query q ON q.view = r.ev_class"
				   " WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = $1 AND d.refobjsubid = $2 LIMIT 1",
				   false, 2, types, values, NULL);
	if (SPI_processed > 0)
	{
		int32		id = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
		MemoryContext old = MemoryContextSwitchTo(cxt);

		result = ks_query_display_name(ks_query_load(id));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return result;
}

/* Postgres would refuse as well, but name a view that users have not made. */
static void
check_types(Node *parsetree)
{
	ListCell   *lc;

	foreach(lc, IsA(parsetree, AlterTableStmt) ? ((AlterTableStmt *) parsetree)->cmds : NIL)
	{
		AlterTableCmd *cmd = lfirst_node(AlterTableCmd, lc);
		Oid			relid;
		AttrNumber	column;
		char	   *query;

		if (cmd->subtype != AT_AlterColumnType)
			continue;
		relid = RangeVarGetRelidExtended(((AlterTableStmt *) parsetree)->relation, NoLock, RVR_MISSING_OK,
										 RangeVarCallbackOwnsRelation, NULL);
		column = OidIsValid(relid) ? get_attnum(relid, cmd->name) : InvalidAttrNumber;
		query = column > 0 ? query_that_uses(relid, column) : NULL;
		if (query != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("cannot alter the type of column \"%s\" of \"%s\", which query \"%s\" uses",
							cmd->name, get_rel_name(relid), query),
					 errhint("Drop the query first, or add another column.")));
	}
}

/* ---------------------------------------------------------------- event time */

/* Does the command set or drop the option that names the event time? */
static bool
changes_event_time(Node *parsetree)
{
	ListCell   *lc;
	ListCell   *lo;

	if (!IsA(parsetree, AlterTableStmt))
		return false;
	foreach(lc, ((AlterTableStmt *) parsetree)->cmds)
	{
		AlterTableCmd *cmd = lfirst_node(AlterTableCmd, lc);

		if (cmd->subtype != AT_GenericOptions)
			continue;
		foreach(lo, (List *) cmd->def)
		{
			if (strcmp(lfirst_node(DefElem, lo)->defname, "timestamp") == 0)
				return true;
		}
	}
	return false;
}

/* Is it known already which event time the query has to find? */
static bool
is_held(Oid stream, int32 query)
{
	ListCell   *lc;

	foreach(lc, held_times)
	{
		HeldTime   *held = lfirst(lc);

		if (held->stream == stream && held->query == query)
			return true;
	}
	return false;
}

/* At the end of the transaction: raises an error if a query would find another event time. */
static void
check_event_times(void)
{
	ListCell   *lc;

	foreach(lc, held_times)
	{
		HeldTime   *held = lfirst(lc);
		KsQueryRow *row;

		/* without the stream there is no query that reads it, and perhaps no catalog */
		if (!ks_is_stream(held->stream) || ks_stream_def_of(held->stream)->event_time == held->column)
			continue;
		row = ks_query_load(held->query);
		if (row == NULL)
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot change the event time of stream \"%s\", which query \"%s\" reads",
						get_rel_name(held->stream), ks_query_display_name(row)),
				 errdetail("The times that the query has stored would not fit those of the records it reads from then on."),
				 errhint("Drop the query first, or create another stream with that option \"timestamp\", and another query over it.")));
	}
}

/* Transaction callback. */
static void
at_end_of_transaction(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_COMMIT || event == XACT_EVENT_PRE_PREPARE)
		check_event_times();
	else if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		held_times = NIL;
}

/* Remembers which event time the queries that read the stream know. */
static void
hold_event_time(RangeVar *name)
{
	static bool registered = false;
	Oid			stream = RangeVarGetRelidExtended(name, AccessExclusiveLock, RVR_MISSING_OK,
												  RangeVarCallbackOwnsRelation, NULL);
	AttrNumber	column;
	ListCell   *lc;

	if (!OidIsValid(stream) || !ks_is_stream(stream))
		return;
	column = ks_stream_def_of(stream)->event_time;
	foreach(lc, ks_query_readers(stream))
	{
		MemoryContext old;
		HeldTime   *held;

		if (is_held(stream, lfirst_int(lc)))
			continue;
		old = MemoryContextSwitchTo(TopTransactionContext);
		held = palloc(sizeof(HeldTime));
		held->stream = stream;
		held->query = lfirst_int(lc);
		held->column = column;
		held_times = lappend(held_times, held);
		MemoryContextSwitchTo(old);
	}
	if (!registered)
		RegisterXactCallback(at_end_of_transaction, NULL);
	registered = true;
}

/* See definition_guard.h. */
void
ks_definitions_before(Node *parsetree)
{
	if (parsetree == NULL)
		return;
	check_types(parsetree);
	remember_view(relation_replaced(parsetree));
	if (changes_event_time(parsetree))
		hold_event_time(((AlterTableStmt *) parsetree)->relation);
}
