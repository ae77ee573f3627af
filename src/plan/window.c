/*
 * window.c
 *		Windows of event time in a continuous query.
 *
 * kstream.tumble, hop and session are ordinary functions.  What makes one a
 * window, with lateness, closing and expiry, is that its argument is the event
 * time of the stream and that the query groups by it.  Both may be far apart (a
 * sub-select, a view, a branch of UNION ALL may lie between), so an expression is
 * followed down to what it stands for.  Over anything else the functions are
 * plain grouping.
 *
 * Event time is the declared timestamp column, or _timestamp where none is
 * declared.  A column of type timestamp or date is the event time when it is
 * taken as UTC, as batch.c takes it.  coalesce(column, _timestamp) is the event
 * time, too: that is what a NULL falls back to.  Over a join of streams, whatever
 * chooses among the event times of the sides may be windowed over: one of them,
 * greatest, least or coalesce.
 *
 * Runs in: any backend, in a transaction, under the settings pinned with the query.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "catalog/stream_def.h"
#include "exec/aggstate.h"
#include "plan/join.h"
#include "plan/window.h"
#include "plan/window_int.h"
#include "sql/window_functions.h"

/* What an expression stands for. */
typedef enum MeaningKind
{
	MEANS_NOTHING,				/* nothing of interest */
	MEANS_RECORD_TIME,			/* a stream's _timestamp, where event time is another column */
	MEANS_CIVIL_TIME,			/* the declared column, of type timestamp or date */
	MEANS_SHIFTED_TIME,			/* such a column, cast in a session that is not in UTC */
	MEANS_NULLABLE_TIME,		/* the declared column */
	MEANS_EVENT_TIME,			/* the event time of every record */
	MEANS_WINDOW,				/* tumble or hop over event time */
	MEANS_SESSION,				/* session over event time */
	MEANS_PLAIN_SESSION			/* session over something else */
} MeaningKind;

typedef struct Meaning
{
	MeaningKind kind;
	Oid			stream;			/* of a time */
	int64		gap_us;			/* of a session */
	KsWindowMistake mistake;	/* why what looks like a window is none */
	const char *function;		/* of the mistake: its window function */
} Meaning;

static Meaning meaning_of(List *levels, Node *node);
static Meaning meaning_of_column(List *levels, Query *query, AttrNumber attno);
static Meaning meaning_of_parts(List *levels, Node *node);

/* Is it an event time that a window may be over? */
static bool
is_event_time(Meaning meaning)
{
	return meaning.kind == MEANS_EVENT_TIME || meaning.kind == MEANS_NULLABLE_TIME;
}

/* The name of the window function, or NULL. */
static const char *
window_function(Oid funcid)
{
	static const char *const names[] = {"tumble", "hop", "session"};
	const char *name;

	if (get_func_namespace(funcid) != get_namespace_oid("kstream", true))
		return NULL;
	name = get_func_name(funcid);
	for (int i = 0; i < lengthof(names); i++)
	{
		if (strcmp(names[i], name) == 0)
			return names[i];
	}
	return NULL;
}

/* The gap of a session, which must be constant. */
static int64
session_gap(Node *arg)
{
	Node	   *value = eval_const_expressions(NULL, arg);
	Interval   *gap;

	if (!IsA(value, Const) || ((Const *) value)->constisnull)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a session whose gap is not constant is not supported in a continuous query"),
				 errhint("Write the gap as an interval, for example '30 min'.")));
	gap = DatumGetIntervalP(((Const *) value)->constvalue);
	return gap->day * USECS_PER_DAY + gap->time;
}

/* A column of a stream. */
static Meaning
meaning_of_stream_column(Oid relid, AttrNumber attno)
{
	KsStreamDef *def = ks_stream_def_of(relid);
	Meaning		result = {MEANS_NOTHING, relid, 0};

	if (attno <= 0)
		return result;
	if (attno == def->meta[KS_META_TIMESTAMP])
		result.kind = def->event_time == 0 ? MEANS_EVENT_TIME : MEANS_RECORD_TIME;
	else if (attno == def->event_time)
		result.kind = getBaseType(def->columns[attno - 1].typid) == TIMESTAMPTZOID ?
			MEANS_NULLABLE_TIME : MEANS_CIVIL_TIME;
	return result;
}

/* Does the zone, whatever its name, show the time of UTC? */
static bool
zone_is_utc(pg_tz *zone)
{
	long		offset;

	return zone != NULL && pg_get_timezone_offset(zone, &offset) && offset == 0;
}

/* Is the expression the constant name of UTC? */
static bool
is_utc_constant(Node *node)
{
	char	   *name;

	if (!IsA(node, Const) || ((Const *) node)->constisnull || ((Const *) node)->consttype != TEXTOID)
		return false;
	name = TextDatumGetCString(((Const *) node)->constvalue);
	return strlen(name) <= TZ_STRLEN_MAX && zone_is_utc(pg_tzset(name));
}

/* A window function over an argument. */
static Meaning
meaning_of_window(const char *function, FuncExpr *call, Meaning argument)
{
	Meaning		result = {MEANS_NOTHING, InvalidOid, 0};
	bool		timed = is_event_time(argument);

	if (strcmp(function, "session") != 0)
		result.kind = timed ? MEANS_WINDOW : MEANS_NOTHING;
	else
	{
		result.kind = timed ? MEANS_SESSION : MEANS_PLAIN_SESSION;
		result.gap_us = timed ? session_gap(lsecond(call->args)) : 0;
	}
	result.function = function;
	if (argument.kind == MEANS_SHIFTED_TIME)
		result.mistake = KS_MISTAKE_SHIFTED;
	else if (!timed)
		result.mistake = KS_MISTAKE_OTHER_TIME;
	return result;
}

/* A call of a function: of ours, or one that makes civil time an instant. */
static Meaning
meaning_of_call(List *levels, FuncExpr *call)
{
	Meaning		nothing = {MEANS_NOTHING, InvalidOid, 0};
	const char *name = window_function(call->funcid);
	Meaning		argument;

	if (name != NULL)
		return meaning_of_window(name, call, meaning_of(levels, linitial(call->args)));
	switch (call->funcid)
	{
		case F_TIMEZONE_TEXT_TIMESTAMP:
			if (!is_utc_constant(linitial(call->args)))
				return nothing;
			argument = meaning_of(levels, lsecond(call->args));
			break;
		case F_TIMESTAMPTZ_TIMESTAMP:
		case F_TIMESTAMPTZ_DATE:
			argument = meaning_of(levels, linitial(call->args));
			if (argument.kind == MEANS_CIVIL_TIME && !zone_is_utc(session_timezone))
			{
				argument.kind = MEANS_SHIFTED_TIME;
				return argument;
			}
			break;
		case F_TIMESTAMP_DATE:
			return meaning_of(levels, linitial(call->args));
		default:
			return meaning_of_parts(levels, (Node *) call);
	}
	if (argument.kind != MEANS_CIVIL_TIME)
		return nothing;
	argument.kind = MEANS_NULLABLE_TIME;
	return argument;
}

/* State of find_mistake. */
typedef struct MistakeContext
{
	List	   *levels;
	Meaning		found;
} MistakeContext;

/* Walker that looks for a window, or what looks like one, in an expression. */
static bool
find_mistake(Node *node, MistakeContext *cxt)
{
	if (node == NULL || IsA(node, Query))
		return false;
	cxt->found = meaning_of(cxt->levels, node);
	return cxt->found.function != NULL;
}

/* An expression that has a window, or what looks like one, inside. */
static Meaning
meaning_around(Meaning inside)
{
	Meaning		result = {MEANS_NOTHING, InvalidOid, 0};

	result.function = inside.function;
	result.mistake = inside.mistake == KS_MISTAKE_NONE ? KS_MISTAKE_NESTED : inside.mistake;
	return result;
}

/* An expression that stands for nothing of interest, unless there is a window inside. */
static Meaning
meaning_of_parts(List *levels, Node *node)
{
	Meaning		nothing = {MEANS_NOTHING, InvalidOid, 0};
	MistakeContext cxt = {levels, nothing};

	return expression_tree_walker(node, find_mistake, &cxt) ? meaning_around(cxt.found) : nothing;
}

/*
 * meaning_of_choice
 *		What chooses among times is a time, if all of them are: those of the sides
 *		of a join.  coalesce(column, _timestamp) is one, too.  Each argument is
 *		looked at once, since there may be choices within choices.
 */
static Meaning
meaning_of_choice(List *levels, List *args, bool coalesce)
{
	Meaning		inside = {MEANS_NOTHING, InvalidOid, 0};
	Meaning		first = inside;
	Meaning		last = inside;
	bool		times = true;
	ListCell   *lc;

	foreach(lc, args)
	{
		last = meaning_of(levels, lfirst(lc));
		if (inside.function == NULL && last.function != NULL)
			inside = meaning_around(last);
		if (lc == list_head(args))
			first = last;
		times &= (is_event_time(last) || last.kind == MEANS_CIVIL_TIME) &&
			is_event_time(last) == is_event_time(first);
	}
	if (times && is_event_time(last))
		last.kind = MEANS_NULLABLE_TIME;
	if (times)
		return last;
	if (coalesce && list_length(args) == 2 && first.kind == MEANS_NULLABLE_TIME &&
		last.kind == MEANS_RECORD_TIME && first.stream == last.stream)
	{
		first.kind = MEANS_EVENT_TIME;
		return first;
	}
	return inside;
}

/* A column of a range table entry. */
static Meaning
meaning_of_var(List *levels, Var *var)
{
	Meaning		nothing = {MEANS_NOTHING, InvalidOid, 0};
	Query	   *query = linitial(levels);
	RangeTblEntry *rte = rt_fetch(var->varno, query->rtable);

	if (var->varattno <= 0)
		return nothing;
	switch (rte->rtekind)
	{
		case RTE_RELATION:
			if (rte->relkind == RELKIND_FOREIGN_TABLE && ks_is_stream(rte->relid))
				return meaning_of_stream_column(rte->relid, var->varattno);
			if (rte->relkind == RELKIND_VIEW)
			{
				Query	   *view = ks_view_query_resolved(rte->relid);

				return ks_reads_stream((Node *) view) ? meaning_of_column(NIL, view, var->varattno) : nothing;
			}
			return nothing;
		case RTE_SUBQUERY:
			if (!rte->lateral && !ks_reads_stream((Node *) rte->subquery))
				return nothing;	/* tables only: what they hold is data */
			return meaning_of_column(levels, rte->subquery, var->varattno);
		case RTE_JOIN:
			return meaning_of(levels, list_nth(rte->joinaliasvars, var->varattno - 1));
		case RTE_FUNCTION:
			if (list_length(rte->functions) == 1 && var->varattno == 1)
				return meaning_of(levels, linitial_node(RangeTblFunction, rte->functions)->funcexpr);
			return nothing;
		default:
			return nothing;
	}
}

/* What the expression stands for.  levels: its query and those around it (Query *), innermost first. */
static Meaning
meaning_of(List *levels, Node *node)
{
	Meaning		nothing = {MEANS_NOTHING, InvalidOid, 0};

	check_stack_depth();
	if (node == NULL)
		return nothing;
	switch (nodeTag(node))
	{
		case T_RelabelType:
			return meaning_of(levels, (Node *) ((RelabelType *) node)->arg);
		case T_CoerceToDomain:
			return meaning_of(levels, (Node *) ((CoerceToDomain *) node)->arg);
		case T_FuncExpr:
			return meaning_of_call(levels, (FuncExpr *) node);
		case T_CoalesceExpr:
			return meaning_of_choice(levels, ((CoalesceExpr *) node)->args, true);
		case T_MinMaxExpr:
			return meaning_of_choice(levels, ((MinMaxExpr *) node)->args, false);
		case T_Var:
			{
				Var		   *var = (Var *) node;
				Var		   *here;

				if (var->varlevelsup >= list_length(levels))
					return nothing;
				here = copyObject(var);
				here->varlevelsup = 0;
				return meaning_of_var(list_copy_tail(levels, var->varlevelsup), here);
			}
		case T_Const:
		case T_Param:
			return nothing;
		default:
			return meaning_of_parts(levels, node);
	}
}

/* What a column of a UNION ALL stands for: the same in all branches, or nothing. */
static Meaning
meaning_of_branches(List *levels, Node *node, AttrNumber attno)
{
	Meaning		left;
	Meaning		right;

	if (IsA(node, RangeTblRef))
	{
		Query	   *query = linitial(levels);
		RangeTblEntry *rte = rt_fetch(((RangeTblRef *) node)->rtindex, query->rtable);

		return meaning_of_column(levels, rte->subquery, attno);
	}
	left = meaning_of_branches(levels, ((SetOperationStmt *) node)->larg, attno);
	right = meaning_of_branches(levels, ((SetOperationStmt *) node)->rarg, attno);
	if ((left.kind == MEANS_SESSION) != (right.kind == MEANS_SESSION) || left.gap_us != right.gap_us)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("sessions together with other windows, or of different gaps, in one UNION ALL are not supported in a continuous query"),
				 errhint("Create one query per kind of window.")));
	if (left.kind == MEANS_PLAIN_SESSION)
		return left;
	if (is_event_time(left) && is_event_time(right))
	{
		/* of two streams perhaps: each record has its own */
		if (right.kind == MEANS_NULLABLE_TIME)
			left.kind = right.kind;
		return left;
	}
	if (left.mistake == KS_MISTAKE_NONE)
	{
		left.mistake = right.mistake;
		left.function = right.function;
	}
	if (left.kind != right.kind)
		left.kind = right.kind == MEANS_PLAIN_SESSION ? MEANS_PLAIN_SESSION : MEANS_NOTHING;
	return left;
}

/* What a result column of a query stands for; levels: the queries around it. */
static Meaning
meaning_of_column(List *levels, Query *query, AttrNumber attno)
{
	List	   *inner = lcons(query, list_copy(levels));
	TargetEntry *tle;

	if (query->setOperations != NULL)
		return meaning_of_branches(inner, query->setOperations, attno);
	tle = get_tle_by_resno(query->targetList, attno);
	return meaning_of(inner, tle == NULL ? NULL : (Node *) tle->expr);
}

/*
 * join_wait
 *		How long a record of the join waits for its partners at most, without
 *		grace.  False if a stream is joined with no other (in a branch of UNION
 *		ALL): its records can be late for a window, matches cannot.
 */
static bool
join_wait(const KsJoin *join, int64 *wait)
{
	*wait = 0;
	for (int i = 0; i < join->nrefs; i++)
	{
		if (!join->refs[i].buffered)
			return false;
		*wait = Max(*wait, join->refs[i].wait);
	}
	return true;
}

/* Finds the window among the grouping expressions. */
static void
find_group_window(KsAnalysis *analysis, Query *query)
{
	bool		timed = analysis->join == NULL || join_wait(analysis->join, &analysis->join_wait_us);
	int			i = 0;
	ListCell   *lc;

	foreach(lc, query->groupClause)
	{
		TargetEntry *tle = get_sortgroupclause_tle(lfirst_node(SortGroupClause, lc), query->targetList);
		Meaning		meaning = meaning_of(list_make1(query), (Node *) tle->expr);

		if (!timed && (meaning.kind == MEANS_WINDOW || meaning.kind == MEANS_SESSION))
			meaning.mistake = KS_MISTAKE_MIXED;
		if (!timed && meaning.kind == MEANS_WINDOW)
			meaning.kind = MEANS_NOTHING;
		if (!timed && meaning.kind == MEANS_SESSION)
			meaning.kind = MEANS_PLAIN_SESSION;
		if (meaning.mistake != KS_MISTAKE_NONE)
		{
			analysis->mistake = meaning.mistake;
			analysis->mistaken = meaning.function;
		}
		if (meaning.mistake == KS_MISTAKE_SHIFTED)
			ks_window_refuse_mistake(analysis, NULL);
		if (meaning.kind == MEANS_PLAIN_SESSION)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("kstream.session over something other than the event time of a stream is not supported in a continuous query"),
					 errhint("%s", ks_window_mistake_hint(analysis))));
		if (meaning.kind == MEANS_WINDOW || meaning.kind == MEANS_SESSION)
		{
			if (analysis->window != KS_WINDOW_NONE)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("several windows in one GROUP BY are not supported in a continuous query"),
						 errhint("Create one query per window, or put them together with UNION ALL.")));
			analysis->window = meaning.kind == MEANS_WINDOW ? KS_WINDOW_FIXED : KS_WINDOW_SESSION;
			analysis->window_key = i;
			analysis->session_gap_us = meaning.gap_us;
		}
		i++;
	}
}

/* Checks the constants among the arguments of a window function; false if windows leave gaps. */
static bool
check_call(const char *function, FuncExpr *call)
{
	Const	   *args[KS_WINDOW_MAX_ARGS] = {NULL};
	int			i = 0;
	ListCell   *lc;

	Assert(list_length(call->args) <= KS_WINDOW_MAX_ARGS);
	foreach(lc, call->args)
	{
		Node	   *value = eval_const_expressions(NULL, lfirst(lc));

		if (i > 0 && IsA(value, Const) && !((Const *) value)->constisnull)
			args[i] = (Const *) value;
		i++;
	}
	return ks_window_check_call(function, args, exprType(llast(call->args)) == TEXTOID);
}

/*
 * check_calls
 *		Walker that checks the window functions of a query and of the views it
 *		reads: with a wrong constant every record would be a dead letter.
 */
static bool
check_calls(Node *node, KsAnalysis *analysis)
{
	if (node == NULL)
		return false;
	if (IsA(node, FuncExpr))
	{
		const char *function = window_function(((FuncExpr *) node)->funcid);

		if (function != NULL && !check_call(function, (FuncExpr *) node))
			analysis->window_gaps = true;
	}
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_VIEW && rte->inFromCl)
			(void) check_calls((Node *) ks_view_query_resolved(rte->relid), analysis);
		return false;			/* its parts are walked on their own */
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, check_calls, analysis, QTW_EXAMINE_RTES_BEFORE);
	return expression_tree_walker(node, check_calls, analysis);
}

/*
 * find_time_column
 *		Finds the result column that is the event time of a row: by what it stands
 *		for, or, in a join of streams, as the greatest one of all.
 */
static void
find_time_column(KsAnalysis *analysis, Query *query)
{
	ListCell   *lc;

	if (analysis->join != NULL && ks_join_time_column(analysis, query))
		return;
	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);
		Meaning		meaning = {MEANS_NOTHING, InvalidOid, 0};

		if (!tle->resjunk)
			meaning = meaning_of_column(NIL, query, tle->resno);
		if (is_event_time(meaning) || meaning.kind == MEANS_CIVIL_TIME)
		{
			analysis->time_column = tle->resno;
			analysis->time_may_miss = meaning.kind != MEANS_EVENT_TIME;
			return;
		}
	}
}

/* See window_int.h. */
bool
ks_window_is_session(List *levels, Node *node)
{
	MeaningKind kind = meaning_of(levels, node).kind;

	return kind == MEANS_SESSION || kind == MEANS_PLAIN_SESSION;
}

/* See window.h. */
void
ks_window_find(KsAnalysis *analysis, Query *query)
{
	ListCell   *lc;

	(void) check_calls((Node *) query, analysis);
	ks_window_check_sessions(analysis, query);
	if (analysis->kind == KS_QUERY_AGGREGATE)
	{
		find_group_window(analysis, query);
		if (analysis->window == KS_WINDOW_SESSION)
		{
			/*
			 * Sessions that meet become one.  Where states cannot be put together
			 * as if there had been one from the beginning, the inputs are.
			 */
			foreach(lc, analysis->aggs)
			{
				if (!ks_agg_mergeable(lfirst_node(Aggref, lc)))
					analysis->keep_inputs = true;
			}
			analysis->state_is_visible = false;
		}
		return;
	}
	find_time_column(analysis, query);
}

/* Refuses an option that has nothing to work on. */
static void
refuse_option(const char *option, const char *without, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("%s is not supported in a continuous query without %s", option, without),
			 errhint("%s", hint)));
}

/* See window.h. */
void
ks_window_bind(KsAnalysis *analysis, const KsQueryRow *row)
{
	const char *what = "windows of event time";
	const char *hint = "GROUP BY kstream.tumble, kstream.hop or kstream.session over the event time: the column named as timestamp when the stream was created, or _timestamp.";
	bool		windows = analysis->window != KS_WINDOW_NONE;
	bool		mistaken = !windows && analysis->mistake != KS_MISTAKE_NONE;

	if (mistaken && (row->emit_final || row->grace_us != 0 || row->retention_us >= 0))
		ks_window_refuse_mistake(analysis, row->emit_final ? "emit => 'final'" :
								 row->grace_us != 0 ? "grace" : "retention");
	if (!windows && row->emit_final)
		refuse_option("emit => 'final'", what, hint);
	if (!windows && analysis->join == NULL && row->grace_us != 0)
		refuse_option("grace", what, row->kind != KS_QUERY_STREAM ? hint :
					  "Leave it out; of the queries that make streams only joins of streams know late records.");
	if (!windows && row->retention_us >= 0 && analysis->kind == KS_QUERY_AGGREGATE)
		refuse_option("retention", what, hint);
	if (!windows && row->retention_us >= 0 && analysis->time_column == 0)
		refuse_option("retention", "the event time in its rows",
					  analysis->join == NULL ?
					  "Have the stream's timestamp column, or _timestamp where none is declared, in the select list." :
					  "Have greatest(a.at, b.at), over all streams of the join, in the select list, or the event time of a stream that no row is without.");
	if (row->emit_final && row->retention_us >= 0 && row->retention_us <= row->grace_us)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("retention must be greater than grace with emit => 'final'"),
				 errdetail("A row would leave the table at the moment it appears."),
				 errhint("Leave retention out to keep all rows, or give a longer one.")));
	/* Rows come into the table when their window closes; until then they are elsewhere. */
	if (row->emit_final)
		analysis->state_is_visible = false;
}

/*
 * open_us
 *		How long after the end of a window a row in time may come, without grace: an
 *		event that extends a session, and a match of records that waited.
 */
static int64
open_us(const KsAnalysis *analysis)
{
	return (analysis->window == KS_WINDOW_SESSION ? analysis->session_gap_us : 0) +
		(analysis->window != KS_WINDOW_NONE ? analysis->join_wait_us : 0);
}

/* See window.h. */
int64
ks_window_close_us(const KsAnalysis *analysis, const KsQueryRow *row)
{
	return row->grace_us + open_us(analysis);
}

/* See window.h. */
int64
ks_window_expiry_us(const KsAnalysis *analysis, const KsQueryRow *row)
{
	return Max(row->retention_us, row->grace_us) + open_us(analysis);
}

/* See window.h. */
bool
ks_window_closes(const KsAnalysis *analysis, const KsQueryRow *row)
{
	return analysis->window != KS_WINDOW_NONE && (row->emit_final || row->retention_us >= 0);
}
