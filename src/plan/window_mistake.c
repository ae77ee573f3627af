/*
 * window_mistake.c
 *		What is refused, or told, about windows that are not what they look like.
 *
 * kstream.tumble and hop over anything but event time are plain grouping, which
 * may be meant.  So where no option of the query needs a window there is only a
 * NOTICE; where one does, the error says what the window is over.  A session is
 * different: over rows it is a range of its own for every event, so it is refused
 * wherever it is not what the query groups by.
 *
 * Runs in: any backend, in a transaction, under the settings pinned with the query.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "pgtime.h"
#include "rewrite/rewriteManip.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "catalog/stream_def.h"
#include "plan/join_int.h"
#include "plan/window.h"
#include "plan/window_int.h"

/* ---------------------------------------------------------------- sessions */

/* State of find_session. */
typedef struct SessionContext
{
	List	   *levels;			/* Query *, innermost first */
	List	   *keys;			/* the session that the query groups by, as it stands at this level */
} SessionContext;

static bool session_misplaced(Query *query, List *levels, bool top);

/* Is it a row of a sub-select or view that has a session among its columns? */
static bool
row_has_session(List *levels, Var *var)
{
	RangeTblEntry *rte;
	int			ncolumns;

	if (var->varattno != 0 || var->varlevelsup >= list_length(levels))
		return false;
	rte = list_nth(((Query *) list_nth(levels, var->varlevelsup))->rtable, var->varno - 1);
	ncolumns = list_length(rte->eref->colnames);
	for (int i = 1; i <= ncolumns; i++)
	{
		Var		   *column = copyObject(var);

		column->varattno = i;
		if (ks_window_is_session(levels, (Node *) column))
			return true;
	}
	return false;
}

/* Walker that finds a session in an expression, unless it is the one grouped by. */
static bool
find_session(Node *node, SessionContext *cxt)
{
	if (node == NULL)
		return false;
	if (list_member(cxt->keys, node))
		return false;
	if (IsA(node, Query))
	{
		SessionContext inner = {lcons(node, list_copy(cxt->levels)), copyObject(cxt->keys)};

		IncrementVarSublevelsUp((Node *) inner.keys, 1, 0);
		return query_tree_walker((Query *) node, find_session, &inner, 0);
	}
	if (IsA(node, Aggref))
	{
		/* looks at single rows, of which each has a session of its own */
		SessionContext rows = {cxt->levels, NIL};

		return expression_tree_walker(node, find_session, &rows);
	}
	if (IsA(node, Var) && row_has_session(cxt->levels, (Var *) node))
		return true;
	if ((IsA(node, Var) || IsA(node, FuncExpr)) && ks_window_is_session(cxt->levels, node))
		return true;
	return expression_tree_walker(node, find_session, cxt);
}

/* Is there a misplaced session in what the item of FROM holds? */
static bool
session_in_range_entry(RangeTblEntry *rte, SessionContext *cxt, bool top)
{
	ListCell   *lc;

	switch (rte->rtekind)
	{
		case RTE_SUBQUERY:
			return (rte->lateral || ks_reads_stream((Node *) rte->subquery)) &&
				session_misplaced(rte->subquery, cxt->levels, top);
		case RTE_RELATION:
			{
				Query	   *view;

				if (rte->relkind != RELKIND_VIEW || !rte->inFromCl)
					return false;
				view = ks_view_query_resolved(rte->relid);
				return ks_reads_stream((Node *) view) && session_misplaced(view, NIL, top);
			}
		case RTE_FUNCTION:
			foreach(lc, rte->functions)
			{
				Node	   *call = lfirst_node(RangeTblFunction, lc)->funcexpr;

				if (!ks_window_is_session(cxt->levels, call) && find_session(call, cxt))
					return true;
			}
			return false;
		default:
			return find_session((Node *) rte->values_lists, cxt);
	}
}

/* Is a session used at this level other than as a column?  top: columns are not enough, it must be grouped by. */
static bool
session_misplaced(Query *query, List *levels, bool top)
{
	SessionContext cxt = {lcons(query, list_copy(levels)), NIL};
	bool		branches = query->setOperations != NULL;
	ListCell   *lc;

	check_stack_depth();
	foreach(lc, query->rtable)
	{
		if (session_in_range_entry(lfirst_node(RangeTblEntry, lc), &cxt, top && branches))
			return true;
	}
	if (branches)
		return false;
	foreach(lc, top ? query->groupClause : NIL)
	{
		TargetEntry *tle = get_sortgroupclause_tle(lfirst_node(SortGroupClause, lc), query->targetList);

		if (ks_window_is_session(cxt.levels, (Node *) tle->expr))
			cxt.keys = lappend(cxt.keys, tle->expr);
	}
	foreach(lc, query->targetList)
	{
		Node	   *expr = (Node *) lfirst_node(TargetEntry, lc)->expr;

		if (!top && ks_window_is_session(cxt.levels, expr))
			continue;
		if (find_session(expr, &cxt))
			return true;
	}
	return find_session((Node *) query->jointree, &cxt) || find_session(query->havingQual, &cxt);
}

/* See window_int.h. */
void
ks_window_check_sessions(KsAnalysis *analysis, Query *query)
{
	if (session_misplaced(query, NIL, true))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("kstream.session other than as a grouping column is not supported in a continuous query"),
				 errdetail("A session grows as events come; of a single row it is not known."),
				 errhint("GROUP BY the session itself, and put lower(w) and upper(w) of it into the select list.")));
}

/* ---------------------------------------------------------------- messages */

/* The declared event-time column of a stream; NULL: there is none. */
static KsColumnDef *
declared_time(Oid stream)
{
	KsStreamDef *def = ks_stream_def_of(stream);

	return def->event_time == 0 ? NULL : &def->columns[def->event_time - 1];
}

/* What the window of analysis->mistake is over, or where it stands. */
static char *
mistake_text(const KsAnalysis *analysis)
{
	Oid			stream = linitial_oid(analysis->streams);
	KsColumnDef *column = declared_time(stream);

	if (analysis->mistake == KS_MISTAKE_NESTED)
		return psprintf("kstream.%s stands inside an expression of GROUP BY", analysis->mistaken);
	if (analysis->mistake == KS_MISTAKE_SHIFTED)
		return psprintf("kstream.%s is over the event time as time zone %s shifts it", analysis->mistaken,
						pg_get_timezone_name(session_timezone));
	if (analysis->mistake == KS_MISTAKE_MIXED)
		return psprintf("kstream.%s is over joins of streams and other streams together", analysis->mistaken);
	if (analysis->join != NULL || list_length(analysis->streams) > 1)
		return psprintf("kstream.%s is not over the event time of the streams", analysis->mistaken);
	if (column != NULL)
		return psprintf("kstream.%s is not over the event time of stream \"%s\", which is \"%s\"", analysis->mistaken,
						get_rel_name(stream), column->name);
	return psprintf("kstream.%s is not over the event time of stream \"%s\", which is _timestamp: no timestamp column is declared",
					analysis->mistaken, get_rel_name(stream));
}

/* What a window may be over. */
static char *
time_hint(const KsAnalysis *analysis)
{
	Oid			stream = linitial_oid(analysis->streams);
	KsColumnDef *column = declared_time(stream);

	if (analysis->join != NULL)
		return "Use the event time of one of the streams that are joined, or greatest, least or coalesce of theirs.";
	if (list_length(analysis->streams) > 1)
		return "Use the stream's timestamp column, or _timestamp where none is declared.";
	if (column != NULL && getBaseType(column->typid) != TIMESTAMPTZOID)
		return psprintf("Event time without a time zone is taken as UTC: write %s AT TIME ZONE 'UTC'.",
						quote_identifier(column->name));
	if (column != NULL)
		return psprintf("Use %s itself, or coalesce(%s, _timestamp).", quote_identifier(column->name),
						quote_identifier(column->name));
	if (ks_query_feeders(stream) != NIL)
		return "Use _timestamp: the query that makes the stream gives it.";
	return "Create the stream with \"timestamp\" => the name of the column, or use _timestamp.";
}

/* See window_int.h. */
char *
ks_window_mistake_hint(const KsAnalysis *analysis)
{
	if (analysis->mistake == KS_MISTAKE_NESTED)
		return "GROUP BY the window itself, and put lower(w) and upper(w) of it into the select list.";
	if (analysis->mistake == KS_MISTAKE_SHIFTED)
		return "Event time without a time zone is taken as UTC: write the column AT TIME ZONE 'UTC'.";
	if (analysis->mistake == KS_MISTAKE_MIXED)
		return "Create one query over the joins, and another over the other streams.";
	return time_hint(analysis);
}

/* See window_int.h. */
void
ks_window_refuse_mistake(const KsAnalysis *analysis, const char *option)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 option != NULL ?
			 errmsg("%s is not supported without windows of event time: %s", option, mistake_text(analysis)) :
			 errmsg("a window over shifted event time is not supported in a continuous query: %s", mistake_text(analysis)),
			 errhint("%s", ks_window_mistake_hint(analysis))));
}

/* See window.h. */
void
ks_window_notices(const KsAnalysis *analysis, const KsQueryRow *row)
{
	if (analysis->window == KS_WINDOW_NONE && analysis->mistake != KS_MISTAKE_NONE)
		ereport(NOTICE,
				(errmsg("%s", mistake_text(analysis)),
				 errdetail("So it is plain grouping: no record is late, and no window closes."),
				 errhint("%s", ks_window_mistake_hint(analysis))));
	if (analysis->window_gaps)
		ereport(NOTICE,
				(errmsg("kstream.hop with a slide greater than the size leaves records between its windows out"),
				 errhint("The slide is the second argument of kstream.hop, the size the third.")));
	if (row->retention_us >= 0 && analysis->time_may_miss)
	{
		const char *column = quote_identifier(get_attname(row->relation, analysis->time_column, false));

		ereport(NOTICE,
				(errmsg("rows whose %s is NULL or infinite never leave the table", column),
				 errhint("Select coalesce(column, _timestamp) for records without a time of their own, or add WHERE isfinite(column).")));
	}
}

/* ---------------------------------------------------------------- retention of joins */

/* The stream of a join whose event time the resolved expression is, or -1. */
static int
time_of_ref(const KsJoin *join, Node *node)
{
	Var		   *var;

	if (IsA(node, RelabelType))
		return time_of_ref(join, (Node *) ((RelabelType *) node)->arg);
	if (IsA(node, CoalesceExpr))
	{
		List	   *args = ((CoalesceExpr *) node)->args;
		int			ref = list_length(args) == 2 ? time_of_ref(join, linitial(args)) : -1;

		if (ref < 0 || !IsA(lsecond(args), Var))
			return -1;
		var = lsecond(args);
		return var->varno == ref + 1 && var->varattno == join->refs[ref].def->meta[KS_META_TIMESTAMP] ? ref : -1;
	}
	if (!IsA(node, Var))
		return -1;
	var = (Var *) node;
	return var->varattno == ks_event_time_column(&join->refs[var->varno - 1]) ? (int) var->varno - 1 : -1;
}

/* Is the resolved expression the greatest event time of all streams? */
static bool
is_greatest_time(const KsJoin *join, Node *node)
{
	Bitmapset  *refs = NULL;
	ListCell   *lc;

	if (!IsA(node, MinMaxExpr) || ((MinMaxExpr *) node)->op != IS_GREATEST)
		return false;
	foreach(lc, ((MinMaxExpr *) node)->args)
	{
		int			ref = time_of_ref(join, lfirst(lc));

		if (ref < 0)
			return false;
		refs = bms_add_member(refs, ref);
	}
	return bms_num_members(refs) == join->nrefs;
}

/* May the stream be missing in rows of the result? */
static bool
may_be_missing(const KsJoin *join, int ref)
{
	ListCell   *lc;

	foreach(lc, join->outers)
	{
		const KsJoinOuter *outer = lfirst(lc);

		if ((ref == outer->right && (outer->type == JOIN_LEFT || outer->type == JOIN_FULL)) ||
			(ref == outer->left && (outer->type == JOIN_RIGHT || outer->type == JOIN_FULL)))
			return true;
	}
	return false;
}

/* Is the event time of the stream (-1: of any) a column, which may be NULL? */
static bool
time_is_declared(const KsJoin *join, int ref)
{
	for (int i = 0; i < join->nrefs; i++)
	{
		if ((ref < 0 || i == ref) && join->refs[i].def->event_time != 0)
			return true;
	}
	return false;
}

/*
 * ks_join_time_column
 *		The event time of a match is the greatest one of its records.  Where that is
 *		no column, rows may leave by the time of one stream, if it is there in every
 *		row.  See window_int.h.
 */
bool
ks_join_time_column(KsAnalysis *analysis, Query *query)
{
	const KsJoin *join = analysis->join;
	KsLevels   *levels = ks_levels_of(join->query);
	bool		found = false;
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);
		Node	   *expr = tle->resjunk || query->setOperations != NULL ? NULL :
			ks_level_resolve(levels->top, (Node *) tle->expr, NULL);
		bool		greatest;
		int			ref;

		if (expr == NULL)
			continue;
		greatest = is_greatest_time(join, expr);
		ref = time_of_ref(join, expr);
		if (!greatest && (found || ref < 0 || may_be_missing(join, ref)))
			continue;
		found = true;
		analysis->time_column = tle->resno;
		analysis->time_may_miss = time_is_declared(join, greatest ? -1 : ref);
		if (greatest)
			return true;
	}
	return query->setOperations == NULL || join->outers != NIL;
}
