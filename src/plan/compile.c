/*
 * compile.c
 *		From the analysed query to the statements a batch runs.
 *
 * Row-wise query: the stored SELECT itself; scanning the stream shows the batch.
 *
 * Aggregate: three pieces are cut out of the Query tree and deparsed.
 *	- the row statement: grouping expressions and aggregate arguments over the
 *	  same FROM and WHERE, one row per input row;
 *	- the final statement: select list and HAVING, with every aggregate and
 *	  grouping expression replaced by a column of the touched groups.  It is left
 *	  out where each result column simply is a key or an aggregate;
 *	- with kept inputs instead: one statement that recomputes a group from its
 *	  inputs in arrival order.
 *
 * An aggregate without ORDER BY sees records in order of arrival.  Where a join
 * may mix them up, the row statement sorts; where the stream is hidden in a
 * sub-query, so that there is nothing to sort by, or is read by several branches
 * of UNION ALL, it is run record by record.
 *
 * Runs in: worker or any backend, in a transaction, under the settings pinned
 * with the query (names are deparsed for the search_path they are parsed with).
 */
#include "postgres.h"

#include "access/table.h"
#include "access/transam.h"
#include "catalog/names.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "exec/aggstate.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/tlist.h"
#include "parser/parse_clause.h"
#include "parser/parse_oper.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"

#include "base/compat.h"
#include "catalog/stream_def.h"
#include "plan/compile.h"
#include "plan/origin.h"
#include "plan/window.h"

/* The columns a row statement collects. */
typedef struct RowColumns
{
	List	   *tlist;			/* TargetEntry * */
	int			nkeys;
} RowColumns;

/* Column number (from 0) of the expression in the row statement, adding it if need be. */
static int
row_column(RowColumns *columns, Expr *expr)
{
	ListCell   *lc;

	foreach(lc, columns->tlist)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (tle->resno > columns->nkeys && equal(tle->expr, expr))
			return tle->resno - 1;
	}
	columns->tlist = lappend(columns->tlist,
							 makeTargetEntry(copyObject(expr), list_length(columns->tlist) + 1,
											 psprintf("c%d", list_length(columns->tlist) + 1 - columns->nkeys),
											 false));
	return list_length(columns->tlist) - 1;
}

/*
 * cannot_fail
 *		Constants and columns of tables and streams; a column of a sub-select or
 *		a view may stand for an expression.
 */
static bool
cannot_fail(Query *query, Expr *arg)
{
	RangeTblEntry *rte;

	if (IsA(arg, Const))
		return true;
	if (!IsA(arg, Var) || ((Var *) arg)->varlevelsup > 0)
		return false;
	rte = rt_fetch(((Var *) arg)->varno, query->rtable);
	return rte->rtekind == RTE_RELATION && rte->relkind != RELKIND_VIEW;
}

/*
 * filtered_argument
 *		The argument as the row statement evaluates it: only for rows that FILTER
 *		lets through, since for others it may fail.  For those it is NULL, which a
 *		domain may not take: the column is of the domain's base type.
 */
static Expr *
filtered_argument(Query *query, Aggref *aggref, Expr *arg)
{
	CaseExpr   *result;
	CaseWhen   *when;
	int32		typmod = exprTypmod((Node *) arg);

	if (aggref->aggfilter == NULL || cannot_fail(query, arg))
		return arg;
	when = makeNode(CaseWhen);
	when->expr = aggref->aggfilter;
	when->result = arg;
	when->location = -1;
	result = makeNode(CaseExpr);
	result->casetype = getBaseTypeAndTypmod(exprType((Node *) arg), &typmod);
	result->casecollid = exprCollation((Node *) arg);
	result->args = list_make1(when);
	result->defresult = (Expr *) makeNullConst(result->casetype, typmod, result->casecollid);
	result->location = -1;
	return (Expr *) result;
}

/* Lays out the columns of the row statement and where each aggregate finds its arguments. */
static List *
plan_row_columns(KsPlan *plan, KsAnalysis *analysis)
{
	RowColumns	columns = {NIL, 0};
	ListCell   *lc;
	int			i = 0;

	foreach(lc, analysis->group_exprs)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		columns.nkeys++;
		columns.tlist = lappend(columns.tlist,
								makeTargetEntry(copyObject(tle->expr), columns.nkeys,
												psprintf("k%d", columns.nkeys), false));
	}
	plan->nkeys = columns.nkeys;
	plan->naggs = list_length(analysis->aggs);
	plan->aggs = palloc0(sizeof(KsPlanAgg) * Max(plan->naggs, 1));
	foreach(lc, analysis->aggs)
	{
		KsPlanAgg  *agg = &plan->aggs[i];
		ListCell   *la;

		agg->aggref = lfirst_node(Aggref, lc);
		agg->kind = list_nth_int(analysis->agg_kinds, i);
		agg->argcols = palloc(sizeof(int) * (list_length(agg->aggref->args) + 1));
		foreach(la, agg->aggref->args)
			agg->argcols[agg->nargs++] =
				row_column(&columns, filtered_argument(analysis->query, agg->aggref,
													   lfirst_node(TargetEntry, la)->expr));
		agg->filtercol = agg->aggref->aggfilter == NULL ? -1 :
			row_column(&columns, agg->aggref->aggfilter);
		i++;
	}
	plan->ninputs = list_length(columns.tlist) - columns.nkeys;
	return columns.tlist;
}

/* Remembers the types of the row statement's columns. */
static void
plan_row_types(KsPlan *plan, List *tlist)
{
	ListCell   *lc;

	plan->key_types = palloc(sizeof(Oid) * Max(plan->nkeys, 1));
	plan->key_typmods = palloc(sizeof(int32) * Max(plan->nkeys, 1));
	plan->key_collations = palloc(sizeof(Oid) * Max(plan->nkeys, 1));
	plan->input_types = palloc(sizeof(Oid) * Max(plan->ninputs, 1));
	plan->input_collations = palloc(sizeof(Oid) * Max(plan->ninputs, 1));
	foreach(lc, tlist)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);
		int			i = tle->resno - 1;

		if (i < plan->nkeys)
		{
			plan->key_types[i] = exprType((Node *) tle->expr);
			plan->key_typmods[i] = exprTypmod((Node *) tle->expr);
			plan->key_collations[i] = exprCollation((Node *) tle->expr);
		}
		else
		{
			plan->input_types[i - plan->nkeys] = exprType((Node *) tle->expr);
			plan->input_collations[i - plan->nkeys] = exprCollation((Node *) tle->expr);
		}
	}
}

/* Does the order of the input rows matter to some aggregate? */
static bool
order_matters(KsAnalysis *analysis)
{
	ListCell   *lc;

	foreach(lc, analysis->aggs)
	{
		if (!ks_agg_order_insensitive(lfirst_node(Aggref, lc)))
			return true;
	}
	return false;
}

/*
 * arrival_matters
 *		Does some aggregate give another result, not just another spelling of it,
 *		for another order of its input rows?
 */
static bool
arrival_matters(KsAnalysis *analysis)
{
	ListCell   *lc;

	foreach(lc, analysis->aggs)
	{
		Aggref	   *aggref = lfirst_node(Aggref, lc);
		char	   *name = get_func_name(aggref->aggfnoid);

		if (ks_agg_order_insensitive(aggref) || aggref->aggkind != AGGKIND_NORMAL ||
			aggref->aggorder != NIL || aggref->aggdistinct != NIL)
			continue;
		if (aggref->aggfnoid < FirstNormalObjectId &&
			(strcmp(name, "min") == 0 || strcmp(name, "max") == 0 || strncmp(name, "range_", 6) == 0))
			continue;
		return true;
	}
	return false;
}

/*
 * stream_below
 *		Number of the stream in the join tree whose columns can be named, or 0.  An
 *		alias of a join hides what is joined.
 */
static int
stream_below(Query *query, Node *node)
{
	if (IsA(node, RangeTblRef))
	{
		int			varno = ((RangeTblRef *) node)->rtindex;
		RangeTblEntry *rte = rt_fetch(varno, query->rtable);

		return rte->rtekind == RTE_RELATION && ks_is_stream(rte->relid) ? varno : 0;
	}
	if (IsA(node, FromExpr))
	{
		ListCell   *lc;
		int			varno = 0;

		foreach(lc, ((FromExpr *) node)->fromlist)
		{
			if (varno == 0)
				varno = stream_below(query, lfirst(lc));
		}
		return varno;
	}
	else
	{
		JoinExpr   *join = castNode(JoinExpr, node);
		int			varno = join->alias != NULL ? 0 : stream_below(query, join->larg);

		return varno != 0 || join->alias != NULL ? varno : stream_below(query, join->rarg);
	}
}

/*
 * stream_columns
 *		Metadata columns of the stream in FROM, as Vars; NIL if it is not there, but
 *		in a sub-query or behind an alias.
 */
static List *
stream_columns(Query *query, const KsMetaColumn *columns, int ncolumns)
{
	int			varno = query->setOperations != NULL ? 0 : stream_below(query, (Node *) query->jointree);
	List	   *result = NIL;
	KsStreamDef *def;

	if (varno == 0)
		return NIL;
	def = ks_stream_def_of(rt_fetch(varno, query->rtable)->relid);
	for (int i = 0; i < ncolumns; i++)
	{
		KsColumnDef *column = &def->columns[def->meta[columns[i]] - 1];

		result = lappend(result, makeVar(varno, column->attnum, column->typid, column->typmod,
										 column->collation, 0));
	}
	return result;
}

/*
 * order_by_offset
 *		Sorts the rows of a batch by partition and offset of the stream in FROM.
 *		False if the stream is not there, but in a sub-query.
 */
static bool
order_by_offset(Query *query)
{
	const KsMetaColumn by[] = {KS_META_PARTITION, KS_META_OFFSET};
	List	   *columns = stream_columns(query, by, lengthof(by));
	ListCell   *lc;

	foreach(lc, columns)
	{
		Var		   *var = lfirst_node(Var, lc);
		SortGroupClause *clause = makeNode(SortGroupClause);
		TargetEntry *tle = makeTargetEntry((Expr *) var, list_length(query->targetList) + 1, NULL, true);

		query->targetList = lappend(query->targetList, tle);
		get_sort_group_operators(var->vartype, true, true, false,
								 &clause->sortop, &clause->eqop, NULL, &clause->hashable);
		clause->tleSortGroupRef = assignSortGroupRef(tle, query->targetList);
		query->sortClause = lappend(query->sortClause, clause);
	}
	return columns != NIL;
}

/*
 * keeps_order
 *		Do the rows of the row statement come in the order of their records, or can
 *		they be sorted?  Not where branches of UNION ALL read the same stream, which
 *		come one after the other.
 */
static bool
keeps_order(KsAnalysis *analysis, Query *query)
{
	if (analysis->stream_references > list_length(analysis->streams))
		return false;
	return !analysis->may_reorder || order_by_offset(query);
}

/* Has the row statement name the record of each row, or run record by record. */
static Query *
add_origin(KsPlan *plan, Query *query)
{
	Query	   *named = copyObject(query);	/* left half done where it cannot be */

	plan->origin = ks_add_origin(named) ? list_length(query->targetList) : -1;
	plan->record_by_record = plan->origin < 0;
	return plan->origin < 0 ? query : named;
}

/* The row statement of an aggregate. */
static char *
compile_row_statement(KsAnalysis *analysis, KsPlan *plan, List *tlist)
{
	Query	   *query = copyObject(analysis->query);

	query->targetList = copyObject(tlist);
	query->groupClause = NIL;
	query->havingQual = NULL;
	query->hasAggs = false;
	if (analysis->join != NULL)
		return ks_join_compile(analysis->join, query, plan->join);
	if (plan->wants_origin)
		query = add_origin(plan, query);
	if (order_matters(analysis) && !keeps_order(analysis, query) && arrival_matters(analysis))
		plan->record_by_record = true;
	return pg_get_querydef(query, true);
}

/* State of replace_groups_mutator. */
typedef struct ReplaceContext
{
	KsAnalysis *analysis;
	KsPlan	   *plan;
	bool		params;			/* keys become parameters $2.., aggregates keep their call over inputs */
	int			sublevels_up;
} ReplaceContext;

static Node *replace_groups_mutator(Node *node, ReplaceContext *cxt);

/* A column of the kept inputs as the aggregate takes it, see filtered_argument. */
static Expr *
kept_input(int col, Expr *arg, KsPlan *plan)
{
	Oid			type = exprType((Node *) arg);
	Var		   *var = makeVar(1, col + 1, plan->input_types[col], exprTypmod((Node *) arg),
							  exprCollation((Node *) arg), 0);
	CoerceToDomain *domain;

	if (var->vartype == type)
		return (Expr *) var;
	domain = makeNode(CoerceToDomain);
	domain->arg = (Expr *) var;
	domain->resulttype = type;
	domain->resulttypmod = -1;
	domain->resultcollid = exprCollation((Node *) arg);
	domain->coercionformat = COERCE_EXPLICIT_CAST;
	domain->location = -1;
	return (Expr *) domain;
}

/* An aggregate call whose arguments are columns of the kept inputs. */
static Node *
aggregate_over_inputs(Aggref *aggref, KsPlanAgg *agg, ReplaceContext *cxt)
{
	Aggref	   *result = copyObject(aggref);
	ListCell   *lc;
	int			i = 0;

	foreach(lc, result->args)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		tle->expr = kept_input(agg->argcols[i++] - cxt->plan->nkeys, tle->expr, cxt->plan);
	}
	if (agg->filtercol >= 0)
		result->aggfilter = (Expr *) makeVar(1, agg->filtercol - cxt->plan->nkeys + 1, BOOLOID, -1, InvalidOid, 0);
	result->aggdirectargs = (List *) replace_groups_mutator((Node *) result->aggdirectargs, cxt);
	return (Node *) result;
}

/* What stands for the aggregate call in the final or the recomputing statement. */
static Node *
replace_aggregate(Aggref *aggref, ReplaceContext *cxt)
{
	for (int i = 0; i < cxt->plan->naggs; i++)
	{
		KsPlanAgg  *agg = &cxt->plan->aggs[i];

		if (!equal(agg->aggref, aggref))
			continue;
		if (cxt->params)
			return aggregate_over_inputs(aggref, agg, cxt);
		return (Node *) makeVar(1, cxt->plan->nkeys + i + 1, aggref->aggtype, -1,
								aggref->aggcollid, cxt->sublevels_up);
	}
	elog(ERROR, "aggregate call not found in the plan");
	return NULL;
}

/* What stands for grouping expression i. */
static Node *
replace_key(int i, ReplaceContext *cxt)
{
	if (cxt->params)
	{
		Param	   *param = makeNode(Param);

		param->paramkind = PARAM_EXTERN;
		param->paramid = i + 2;
		param->paramtype = cxt->plan->key_types[i];
		param->paramtypmod = cxt->plan->key_typmods[i];
		param->paramcollid = cxt->plan->key_collations[i];
		param->location = -1;
		return (Node *) param;
	}
	return (Node *) makeVar(1, i + 1, cxt->plan->key_types[i], cxt->plan->key_typmods[i],
							cxt->plan->key_collations[i], cxt->sublevels_up);
}

/*
 * replace_groups_mutator
 *		Replaces aggregates and grouping expressions of the query's own level,
 *		inside sub-queries as well.
 */
static Node *
replace_groups_mutator(Node *node, ReplaceContext *cxt)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Aggref) && ((Aggref *) node)->agglevelsup == cxt->sublevels_up)
		return replace_aggregate((Aggref *) node, cxt);
	if (IsA(node, Query))
	{
		Query	   *result;

		cxt->sublevels_up++;
		result = query_tree_mutator((Query *) node, replace_groups_mutator, cxt, 0);
		cxt->sublevels_up--;
		return (Node *) result;
	}
	if (!IsA(node, List) && !IsA(node, TargetEntry) && !IsA(node, Const))
	{
		ListCell   *lc;
		int			i = 0;

		foreach(lc, cxt->analysis->group_exprs)
		{
			Node	   *key = (Node *) lfirst_node(TargetEntry, lc)->expr;

			if (cxt->sublevels_up > 0)
			{
				key = copyObject(key);
				IncrementVarSublevelsUp(key, cxt->sublevels_up, 0);
			}
			if (equal(node, key))
				return replace_key(i, cxt);
			i++;
		}
	}
	return expression_tree_mutator(node, replace_groups_mutator, cxt);
}

/* A query over one pseudo relation with these columns, shown as a WITH name. */
static Query *
query_over(const char *relation, List *colnames)
{
	Query	   *query = makeNode(Query);
	RangeTblEntry *rte = makeNode(RangeTblEntry);
	RangeTblRef *ref = makeNode(RangeTblRef);

	rte->rtekind = RTE_CTE;
	rte->ctename = pstrdup(relation);
	rte->eref = makeAlias(relation, colnames);
	rte->inFromCl = true;
	ref->rtindex = 1;
	query->commandType = CMD_SELECT;
	query->querySource = QSRC_ORIGINAL;
	query->canSetTag = true;
	query->rtable = list_make1(rte);
	query->jointree = makeFromExpr(list_make1(ref), NULL);
	return query;
}

/* The visible part of the select list, with groups replaced. */
static List *
replaced_target_list(ReplaceContext *cxt)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, cxt->analysis->query->targetList)
	{
		TargetEntry *tle = copyObject(lfirst_node(TargetEntry, lc));

		if (tle->resjunk)
			continue;
		tle->expr = (Expr *) replace_groups_mutator((Node *) tle->expr, cxt);
		tle->ressortgroupref = 0;
		tle->resno = list_length(result) + 1;
		result = lappend(result, tle);
	}
	return result;
}

/* The statement that computes result rows from touched groups. */
static char *
compile_final_statement(KsAnalysis *analysis, KsPlan *plan)
{
	ReplaceContext cxt = {analysis, plan, false, 0};
	List	   *names = NIL;
	Query	   *query;
	int			i;

	for (i = 1; i <= plan->nkeys; i++)
		names = lappend(names, makeString(psprintf("k%d", i)));
	for (i = 1; i <= plan->naggs; i++)
		names = lappend(names, makeString(psprintf("a%d", i)));
	names = lappend(names, makeString(pstrdup("g")));
	query = query_over(KS_GROUPS_RELATION, names);
	query->targetList = replaced_target_list(&cxt);
	query->targetList = lappend(query->targetList,
								makeTargetEntry((Expr *) makeVar(1, list_length(names), INT4OID, -1, InvalidOid, 0),
												list_length(query->targetList) + 1, "g", false));
	query->jointree->quals = replace_groups_mutator(copyObject(analysis->query->havingQual), &cxt);
	query->hasSubLinks = analysis->query->hasSubLinks;
	if (query->hasSubLinks)
		query->cteList = copyObject(analysis->query->cteList);
	return pg_get_querydef(query, true);
}

/* The statement that recomputes one group from its kept inputs. */
static char *
compile_recompute_statement(KsAnalysis *analysis, KsPlan *plan, Oid inputs)
{
	ReplaceContext cxt = {analysis, plan, true, 0};
	List	   *names = NIL;
	Query	   *query;
	StringInfoData sql;

	for (int i = 1; i <= plan->ninputs; i++)
		names = lappend(names, makeString(psprintf("c%d", i)));
	query = query_over("kstream_inputs", names);
	query->targetList = replaced_target_list(&cxt);
	query->havingQual = replace_groups_mutator(copyObject(analysis->query->havingQual), &cxt);
	query->hasAggs = true;
	query->hasSubLinks = analysis->query->hasSubLinks;
	if (query->hasSubLinks)
		query->cteList = copyObject(analysis->query->cteList);

	initStringInfo(&sql);
	appendStringInfoString(&sql, "WITH kstream_inputs AS (SELECT ");
	for (int i = 1; i <= plan->ninputs; i++)
		appendStringInfo(&sql, "i.c%d, ", i);
	appendStringInfo(&sql, "i._n FROM %s.%s i WHERE i._gid = $1 ORDER BY i._n) %s%s%s",
					 quote_identifier(get_namespace_name(get_rel_namespace(inputs))),
					 quote_identifier(get_rel_name(inputs)),
					 query->cteList != NIL ? "SELECT * FROM (" : "",
					 pg_get_querydef(query, true),
					 query->cteList != NIL ? ") kstream_result" : "");
	return sql.data;
}

/* Where every result column simply is a key or an aggregate, say which. */
static KsPlanOutput *
plan_outputs(KsAnalysis *analysis, KsPlan *plan)
{
	KsPlanOutput *outputs = palloc0(sizeof(KsPlanOutput) * Max(plan->nout, 1));
	ListCell   *lc;
	int			n = 0;

	if (analysis->query->havingQual != NULL)
		return NULL;
	foreach(lc, analysis->query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);
		int			i = 0;
		ListCell   *lk;

		if (tle->resjunk)
			continue;
		outputs[n].index = -1;
		foreach(lk, analysis->group_exprs)
		{
			if (equal(lfirst_node(TargetEntry, lk)->expr, tle->expr))
			{
				outputs[n].is_key = true;
				outputs[n].index = i;
				break;
			}
			i++;
		}
		for (i = 0; i < plan->naggs && outputs[n].index < 0; i++)
		{
			if (equal(plan->aggs[i].aggref, tle->expr))
				outputs[n].index = i;
		}
		if (outputs[n].index < 0)
			return NULL;
		n++;
	}
	return outputs;
}

/* The row statement of a row-wise query. */
static char *
compile_append_statement(KsAnalysis *analysis, KsPlan *plan)
{
	Query	   *query = copyObject(analysis->query);

	if (analysis->join != NULL)
		return ks_join_compile(analysis->join, query, plan->join);
	if (plan->wants_origin)
		query = add_origin(plan, query);
	return pg_get_querydef(query, true);
}

/* See compile.h. */
void
ks_compile_join(KsAnalysis *analysis, const KsQueryRow *query, KsPlan *plan)
{
	plan->join = palloc0(sizeof(KsJoinPlan));
	plan->join->with_time = plan->wants_time;
	plan->time = plan->wants_time ? plan->nout : -1;
	analysis->join->id = query->id;
	analysis->join->grace = query->grace_us;
	/* a match must not come to a window that is closed */
	analysis->join->watermark_is_late = ks_window_closes(analysis, query);
}

/* Matches of a batch come in no order that does not depend on the batch. */
static void
refuse_order_of_matches(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("an aggregate that depends on the order of its input, over a join of streams, is not supported in a continuous query"),
			 errhint("Give the aggregate an ORDER BY of its own.")));
}

/* See compile.h. */
KsPlan *
ks_compile(KsAnalysis *analysis, const KsQueryRow *query, bool wants_time)
{
	KsPlan	   *plan = palloc0(sizeof(KsPlan));
	List	   *tlist;

	plan->kind = analysis->kind;
	plan->window = analysis->window;
	plan->window_key = analysis->window_key;
	/* the late filter asks for the time of the record's partition; a match is of several records */
	plan->wants_time = wants_time;
	plan->wants_origin = analysis->join == NULL && (wants_time || plan->window != KS_WINDOW_NONE);
	plan->origin = plan->time = -1;
	plan->nout = ExecCleanTargetListLength(analysis->query->targetList);
	if (analysis->join != NULL)
		ks_compile_join(analysis, query, plan);
	if (plan->kind == KS_QUERY_APPEND)
	{
		plan->row_sql = compile_append_statement(analysis, plan);
		return plan;
	}
	if (analysis->join != NULL && arrival_matters(analysis))
		refuse_order_of_matches();
	tlist = plan_row_columns(plan, analysis);
	plan_row_types(plan, tlist);
	if (plan->time >= 0)
		plan->time = list_length(tlist);
	plan->row_sql = compile_row_statement(analysis, plan, tlist);
	plan->keep_inputs = analysis->keep_inputs;
	if (plan->keep_inputs)
	{
		if (OidIsValid(query->inputs))
			plan->recompute_sql = compile_recompute_statement(analysis, plan, query->inputs);
	}
	else
	{
		plan->outputs = plan_outputs(analysis, plan);
		if (plan->outputs == NULL)
			plan->final_sql = compile_final_statement(analysis, plan);
	}
	return plan;
}

/*
 * See compile.h.  The source's first attributes are those of the table when it
 * was created, in order; they are matched by number, so that a column of the
 * table may be renamed.  A column added to the table since stays NULL.
 */
char *
ks_compile_source(Oid source, Oid relation)
{
	Relation	rel = table_open(relation, AccessShareLock);
	Relation	source_rel = table_open(source, AccessShareLock);
	KsStreamDef *def = ks_stream_def_load(source_rel);
	TupleDesc	desc = RelationGetDescr(rel);
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT ");
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		KsColumnDef *column = i < def->natts ? &def->columns[i] : NULL;

		if (att->attisdropped)
			continue;
		if (column == NULL || column->kind == KS_COL_META || column->kind == KS_COL_DROPPED ||
			att->attgenerated != '\0')
			appendStringInfo(&sql, "NULL::%s, ",
							 format_type_extended(att->atttypid, att->atttypmod,
												  FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY));
		else
			appendStringInfo(&sql, "%s, ", quote_identifier(column->name));
	}
	appendStringInfo(&sql, "_tombstone FROM %s",
					 ks_qualified_name(source));
	table_close(source_rel, NoLock);
	table_close(rel, NoLock);
	return sql.data;
}
