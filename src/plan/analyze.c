/*
 * analyze.c
 *		What a continuous query may contain.
 *
 * The law of kstream is that a caught-up table equals the same SELECT run once
 * over all records.  A row-wise query keeps it because it is linear in its
 * stream: run over two batches and put together, it gives what it gives over
 * both at once.  This file proves that of a query, by structure: on every path
 * of joins at most one item reads a stream, or several that are bounded in event
 * time (join.c), never one on the nullable side of an outer join with tables, never
 * below anything that looks at several rows (DISTINCT, LIMIT,
 * window functions, set operations other than UNION ALL).  One GROUP BY at the
 * top may stand over such a query; its state is then kept per group.  Whatever
 * cannot be proven is refused by name.
 *
 * Sub-queries and views that read no stream are lookups and may hold anything
 * Postgres can evaluate when a record is processed.
 *
 * Runs in: any backend, in a transaction.  Memory: the current context.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/transam.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "exec/aggstate.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parse_coerce.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "rewrite/rewriteManip.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/typcache.h"

#include "base/compat.h"
#include "catalog/stream_def.h"
#include "plan/analyze.h"
#include "plan/analyze_int.h"
#include "plan/join.h"
#include "plan/window.h"

static bool reads_stream(Node *node, void *context);
static void check_query(Query *query, bool top);
static bool check_join_item(Query *query, Node *node);

/* Raises the error for a construct that is not supported over a stream. */
static void
refuse(const char *construct, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("%s not supported in a continuous query", construct),
			 errhint("%s", hint)));
}

/* See analyze_int.h. */
Query *
ks_view_query(Oid relid)
{
	Relation	rel = table_open(relid, AccessShareLock);
	Query	   *query = copyObject(get_view_query(rel));

	table_close(rel, NoLock);
	ks_flatten_group_rte(query);
	return query;
}

/* The WITH queries visible at a point, for inline_ctes. */
typedef struct InlineContext
{
	List	   *queries;		/* Query *, innermost first */
} InlineContext;

/* Turns a reference to a WITH query into a sub-query holding a copy of it. */
static void
inline_cte_reference(RangeTblEntry *rte, List *queries)
{
	Query	   *level = list_nth(queries, rte->ctelevelsup);
	ListCell   *lc;

	foreach(lc, level->cteList)
	{
		CommonTableExpr *cte = lfirst_node(CommonTableExpr, lc);

		if (strcmp(cte->ctename, rte->ctename) != 0)
			continue;
		if (cte->cterecursive)
			return;				/* stays: refused if it reads a stream */
		rte->subquery = copyObject(castNode(Query, cte->ctequery));
		IncrementVarSublevelsUp((Node *) rte->subquery, rte->ctelevelsup, 1);
		rte->rtekind = RTE_SUBQUERY;
		return;
	}
}

/*
 * inline_ctes
 *		Walker that replaces the WITH queries of a private copy by sub-queries,
 *		so that the checks meet one form only.  The copy is never executed.
 */
static bool
inline_ctes(Node *node, InlineContext *cxt)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;
		InlineContext inner = {lcons(query, list_copy(cxt->queries))};
		ListCell   *lc;

		check_stack_depth();
		foreach(lc, query->rtable)
		{
			RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

			if (rte->rtekind == RTE_CTE && !rte->self_reference)
				inline_cte_reference(rte, inner.queries);
		}
		return query_tree_walker(query, inline_ctes, &inner, QTW_IGNORE_CTE_SUBQUERIES);
	}
	return expression_tree_walker(node, inline_ctes, cxt);
}

/* See analyze_int.h. */
void
ks_inline_with(Query *query)
{
	InlineContext cxt = {NIL};

	(void) inline_ctes((Node *) query, &cxt);
}

/* See analyze.h. */
Query *
ks_view_query_resolved(Oid view)
{
	Query	   *query = ks_view_query(view);

	ks_inline_with(query);
	return query;
}

/*
 * reads_stream
 *		Expression and query walker: does this read a stream anywhere, through
 *		views as well?
 */
static bool
reads_stream(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_FOREIGN_TABLE)
			return ks_is_stream(rte->relid);
		if (rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_VIEW)
			return reads_stream((Node *) ks_view_query(rte->relid), context);
		return false;
	}
	if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;
		ListCell   *lc;

		/* Only what is in the join tree counts: a stored view lists itself as OLD and NEW (15). */
		foreach(lc, query->rtable)
		{
			RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

			if (!rte->inFromCl && rte->rtekind == RTE_RELATION)
				continue;
			if (reads_stream((Node *) rte, context))
				return true;
		}
		return query_tree_walker(query, reads_stream, context, 0);
	}
	return expression_tree_walker(node, reads_stream, context);
}

/* See analyze.h. */
bool
ks_reads_stream(Node *node)
{
	return reads_stream(node, NULL);
}

/* True if a sub-link of the expression reads a stream. */
static bool
sublink_reads_stream(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, SubLink) && reads_stream(((SubLink *) node)->subselect, NULL))
	{
		*(SubLinkType *) context = ((SubLink *) node)->subLinkType;
		return true;
	}
	if (IsA(node, Query))
		return false;			/* sub-queries in FROM are checked on their own */
	return expression_tree_walker(node, sublink_reads_stream, context);
}

/* Does any expression of this level hold a sub-query over a stream? */
static void
check_sublinks(Query *query)
{
	SubLinkType type = EXPR_SUBLINK;

	if (!query->hasSubLinks)
		return;
	if (query_tree_walker(query, sublink_reads_stream, &type,
						  QTW_IGNORE_RT_SUBQUERIES | QTW_IGNORE_CTE_SUBQUERIES))
		refuse("a sub-query over a stream inside an expression is",
			   type == EXISTS_SUBLINK ?
			   "Join the stream in FROM; in place of NOT EXISTS, with LEFT JOIN, and keep the rows WHERE a column of it IS NULL." :
			   "Read the stream in FROM, or join with a table.");
}

/* Clauses that look at more than one row. */
static void
check_clauses(Query *query, bool top)
{
	if (query->commandType != CMD_SELECT || query->hasModifyingCTE)
		refuse("a data-modifying statement is", "Use a plain SELECT.");
	if (query->rowMarks != NIL)
		refuse("FOR UPDATE or FOR SHARE is", "Remove the locking clause.");
	if (query->hasRecursive)
		refuse("WITH RECURSIVE over a stream is",
			   "Use a recursive query over tables only, as a lateral sub-select.");
	if (query->distinctClause != NIL)
		refuse(query->hasDistinctOn ? "DISTINCT ON over a stream is" : "DISTINCT over a stream is",
			   "GROUP BY the columns instead.");
	if (query->hasWindowFuncs || query->windowClause != NIL)
		refuse("a window function over a stream is",
			   "Compute it in a view over the query's result table.");
	if (query->limitCount != NULL || query->limitOffset != NULL)
		refuse("LIMIT or OFFSET over a stream is",
			   "Apply it in a view over the query's result table.");
	if (query->sortClause != NIL)
		refuse("ORDER BY over a stream is",
			   "A table has no order; sort when you read the result table.");
	if (query->groupingSets != NIL)
		refuse("GROUPING SETS, ROLLUP or CUBE is",
			   "Create one query per grouping.");
	if (!top && (query->hasAggs || query->groupClause != NIL || query->havingQual != NULL))
		refuse("an aggregate over a stream inside a sub-select is",
			   "Aggregate at the top level of the query, and do the rest in a view over its result table.");
}

/* UNION ALL of branches that each read a stream. */
static void
check_set_operation(Query *query, Node *node)
{
	if (IsA(node, SetOperationStmt))
	{
		SetOperationStmt *op = (SetOperationStmt *) node;

		if (op->op != SETOP_UNION || !op->all)
			refuse(op->op == SETOP_UNION ? "UNION without ALL over a stream is" :
				   op->op == SETOP_INTERSECT ? "INTERSECT over a stream is" : "EXCEPT over a stream is",
				   "Only UNION ALL keeps the result right as records arrive.");
		check_set_operation(query, op->larg);
		check_set_operation(query, op->rarg);
	}
	else if (!check_join_item(query, node))
		refuse("a branch of UNION ALL that reads no stream is",
			   "Every branch must read a stream; put constant rows into a table of their own.");
}

/* True if the range table entry reads a stream; checks it if it is a sub-query that does. */
static bool
check_range_entry(RangeTblEntry *rte)
{
	Query	   *query;

	if (rte->tablesample != NULL)
		refuse("TABLESAMPLE is", "A random sample is different every time; use a condition instead.");

	if (rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_FOREIGN_TABLE)
		return ks_is_stream(rte->relid);
	if (rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_VIEW)
	{
		query = ks_view_query(rte->relid);
		ks_inline_with(query);
	}
	else if (rte->rtekind == RTE_SUBQUERY)
		query = rte->subquery;
	else
		return reads_stream((Node *) rte->functions, NULL) ||
			reads_stream((Node *) rte->values_lists, NULL);

	if (!reads_stream((Node *) query, NULL))
		return false;
	check_query(query, false);
	return true;
}

/* One side of a join, or an item of FROM: true if it reads a stream. */
static bool
check_join_item(Query *query, Node *node)
{
	if (IsA(node, RangeTblRef))
		return check_range_entry(rt_fetch(((RangeTblRef *) node)->rtindex, query->rtable));

	if (IsA(node, FromExpr))
	{
		ListCell   *lc;
		bool		found = false;

		foreach(lc, ((FromExpr *) node)->fromlist)
		{
			found |= check_join_item(query, lfirst(lc));
		}
		return found;
	}
	else
	{
		JoinExpr   *join = castNode(JoinExpr, node);
		bool		left = check_join_item(query, join->larg);
		bool		right = check_join_item(query, join->rarg);

		/* a join of two streams: see join.c */
		if (left && right)
			return true;
		if ((join->jointype == JOIN_LEFT && right) || (join->jointype == JOIN_RIGHT && left))
			refuse("an outer join that keeps rows of a table without a record is",
				   "Put the stream on the preserved side: stream LEFT JOIN table.");
		if (join->jointype == JOIN_FULL && (left || right))
			refuse("FULL JOIN with a stream is", "Use stream LEFT JOIN table.");
		return left || right;
	}
}

/* Checks one query level that reads a stream; only the top one may aggregate. */
static void
check_query(Query *query, bool top)
{
	check_stack_depth();
	check_clauses(query, top);
	check_sublinks(query);
	if (query->setOperations != NULL)
		check_set_operation(query, query->setOperations);
	else
		(void) check_join_item(query, (Node *) query->jointree);
}

/*
 * may_reorder
 *		May a plan of this query hand on records in another order than the stream
 *		was scanned?  Where a stream is all it reads, or is only joined with
 *		functions of its rows, no plan does.  Takes a query with WITH resolved.
 */
static bool
may_reorder(Query *query)
{
	ListCell   *lc;

	check_stack_depth();
	if (query->setOperations == NULL && checkExprHasSubLink((Node *) query->jointree))
		return true;			/* may become a join */
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (rte->rtekind == RTE_JOIN || rte->rtekind == RTE_RESULT ||
			(!rte->inFromCl && (query->setOperations == NULL || rte->rtekind != RTE_SUBQUERY)))
			continue;
		if (rte->rtekind == RTE_FUNCTION && rte->lateral)
			continue;
		if (!reads_stream((Node *) rte, NULL) &&
			!(rte->rtekind == RTE_SUBQUERY && reads_stream((Node *) rte->subquery, NULL)))
			return true;
		if (rte->rtekind == RTE_SUBQUERY && may_reorder(rte->subquery))
			return true;
		if (rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_VIEW)
		{
			Query	   *view = ks_view_query(rte->relid);

			ks_inline_with(view);
			if (may_reorder(view))
				return true;
		}
	}
	return false;
}

/* Collects the relations read, streams apart from others; walks views. */
typedef struct RelationContext
{
	List	   *streams;
	List	   *lookups;
} RelationContext;

/* Walker that counts references to streams; takes a query with WITH resolved. */
static bool
count_streams(Node *node, int *count)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;
		ListCell   *lc;

		foreach(lc, query->rtable)
		{
			RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

			if (rte->rtekind != RTE_RELATION || !rte->inFromCl)
				continue;
			if (rte->relkind == RELKIND_FOREIGN_TABLE && ks_is_stream(rte->relid))
				(*count)++;
			else if (rte->relkind == RELKIND_VIEW)
			{
				Query	   *view = ks_view_query(rte->relid);

				ks_inline_with(view);
				(void) count_streams((Node *) view, count);
			}
		}
		return query_tree_walker(query, count_streams, count, QTW_IGNORE_CTE_SUBQUERIES);
	}
	return expression_tree_walker(node, count_streams, count);
}

/* Walker that fills a RelationContext. */
static bool
collect_relations(Node *node, RelationContext *cxt)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;
		ListCell   *lc;

		foreach(lc, query->rtable)
		{
			RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

			if (rte->rtekind != RTE_RELATION || !rte->inFromCl)
				continue;
			if (rte->relkind == RELKIND_FOREIGN_TABLE && ks_is_stream(rte->relid))
				cxt->streams = list_append_unique_oid(cxt->streams, rte->relid);
			else if (rte->relkind == RELKIND_VIEW)
				(void) collect_relations((Node *) ks_view_query(rte->relid), cxt);
			else
				cxt->lookups = list_append_unique_oid(cxt->lookups, rte->relid);
		}
		return query_tree_walker(query, collect_relations, cxt, 0);
	}
	return expression_tree_walker(node, collect_relations, cxt);
}

/* Names a volatile function of the query in the error. */
static bool
volatile_function_checker(Oid funcid, void *context)
{
	if (func_volatile(funcid) == PROVOLATILE_VOLATILE)
	{
		*(Oid *) context = funcid;
		return true;
	}
	return false;
}

/* Does the expression or query call a volatile function, in a view it reads as well? */
static bool
find_volatile(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (check_functions_in_node(node, volatile_function_checker, context))
		return true;
	if (IsA(node, NextValueExpr))
		return true;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		return rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_VIEW && rte->inFromCl &&
			find_volatile((Node *) ks_view_query(rte->relid), context);
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, find_volatile, context, QTW_EXAMINE_RTES_BEFORE);
	return expression_tree_walker(node, find_volatile, context);
}

/* Refuses queries whose result would differ when a record is processed again. */
static void
check_volatility(Query *query)
{
	Oid			funcid = InvalidOid;

	if (!find_volatile((Node *) query, &funcid))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 OidIsValid(funcid) ?
			 errmsg("volatile function %s() is not supported in a continuous query",
					quote_identifier(get_func_name(funcid))) :
			 errmsg("a volatile expression is not supported in a continuous query"),
			 errdetail("Processing a record again after a crash would give another result."),
			 errhint("If it is your own function and its result depends only on its arguments, mark it IMMUTABLE or STABLE.")));
}

/* An aggregate's arguments of type unknown (count('x')) become text, as in a select list. */
static void
resolve_unknown_arguments(Aggref *aggref)
{
	ListCell   *lc;
	ListCell   *lt = list_head(aggref->aggargtypes);

	foreach(lc, aggref->args)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (exprType((Node *) tle->expr) == UNKNOWNOID)
		{
			tle->expr = (Expr *) coerce_type(NULL, (Node *) tle->expr, UNKNOWNOID, TEXTOID, -1,
											 COERCION_IMPLICIT, COERCE_IMPLICIT_CAST, -1);
			if (lt != NULL)
				lfirst_oid(lt) = TEXTOID;
		}
		if (lt != NULL)
			lt = lnext(aggref->aggargtypes, lt);
	}
}

/* Walker state of collect_aggs. */
typedef struct AggContext
{
	List	   *aggs;
	int			sublevels_up;
} AggContext;

/* Collects the distinct aggregate calls of the top level. */
static bool
collect_aggs(Node *node, AggContext *cxt)
{
	if (node == NULL)
		return false;
	if (IsA(node, GroupingFunc))
		refuse("GROUPING() is", "Create one query per grouping.");
	if (IsA(node, Aggref) && ((Aggref *) node)->agglevelsup == cxt->sublevels_up)
	{
		Aggref	   *aggref = copyObject((Aggref *) node);

		if (cxt->sublevels_up > 0)
			refuse("an aggregate of the query inside a sub-query of its select list is",
				   "Compute the aggregate as a column and use it in a view over the result table.");
		resolve_unknown_arguments((Aggref *) node);
		resolve_unknown_arguments(aggref);
		cxt->aggs = list_append_unique(cxt->aggs, aggref);
		return false;
	}
	if (IsA(node, Query))
	{
		bool		result;

		cxt->sublevels_up++;
		result = query_tree_walker((Query *) node, collect_aggs, cxt, 0);
		cxt->sublevels_up--;
		return result;
	}
	return expression_tree_walker(node, collect_aggs, cxt);
}

/* The grouping expressions must be visible, indexable columns of the result. */
static void
analyze_group_keys(KsAnalysis *analysis)
{
	Query	   *query = analysis->query;
	ListCell   *lc;

	foreach(lc, query->groupClause)
	{
		SortGroupClause *clause = lfirst_node(SortGroupClause, lc);
		TargetEntry *tle = get_sortgroupclause_tle(clause, query->targetList);
		Oid			type = exprType((Node *) tle->expr);
		TypeCacheEntry *entry = lookup_type_cache(type, TYPECACHE_BTREE_OPFAMILY);

		if (tle->resjunk)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("a GROUP BY expression that is not in the select list is not supported in a continuous query"),
					 errhint("Add it to the select list: it is part of the key of the result table.")));
		if (!OidIsValid(entry->btree_opf))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("GROUP BY column \"%s\" of type %s is not supported in a continuous query",
							tle->resname, format_type_be(type)),
					 errdetail("The type has no default btree operator class, so its groups cannot be indexed."),
					 errhint("Group by a cast of it, for example to text.")));
		analysis->group_exprs = lappend(analysis->group_exprs, tle);
		analysis->key_columns = lappend(analysis->key_columns, tle->resname);
	}
	if (list_length(analysis->group_exprs) > INDEX_MAX_KEYS)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("more than %d GROUP BY columns are not supported in a continuous query", INDEX_MAX_KEYS),
				 errhint("Combine some of them into one, for example with ROW(...)::text or jsonb_build_array.")));
	if (query->constraintDeps != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("columns that depend on a grouped primary key are not supported in a continuous query"),
				 errhint("Name every column of the select list in GROUP BY.")));
}

/* Set-returning functions may stand only inside grouping expressions. */
static void
check_target_srfs(KsAnalysis *analysis)
{
	ListCell   *lc;

	if (!analysis->query->hasTargetSRFs)
		return;
	foreach(lc, analysis->query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (expression_returns_set((Node *) tle->expr) &&
			!list_member_ptr(analysis->group_exprs, tle))
			refuse("a set-returning function over aggregates is",
				   "Keep the aggregate as a column and unnest it in a view over the result table.");
	}
}

/*
 * May the result table itself be the state?  Only if every aggregate's saved
 * form is its result, each is a column of its own, and no group is hidden.
 */
static bool
result_is_state(KsAnalysis *analysis)
{
	Query	   *query = analysis->query;
	ListCell   *lc;

	if (query->havingQual != NULL || analysis->keep_inputs)
		return false;
	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (!IsA(tle->expr, Aggref) && !list_member_ptr(analysis->group_exprs, tle))
			return false;
	}
	foreach(lc, analysis->aggs)
	{
		Aggref	   *aggref = lfirst_node(Aggref, lc);

		/* A user-defined one needs a flag beside it that tells a NULL state from none. */
		if (aggref->aggfnoid >= FirstNormalObjectId || !ks_agg_saved_is_result(aggref) ||
			tlist_member((Expr *) aggref, query->targetList) == NULL)
			return false;
	}
	return true;
}

/* The aggregate part of the analysis. */
static void
analyze_aggregate(KsAnalysis *analysis)
{
	Query	   *query = analysis->query;
	AggContext	cxt = {NIL, 0};
	ListCell   *lc;

	analysis->kind = KS_QUERY_AGGREGATE;
	analysis->global = query->groupClause == NIL;
	analyze_group_keys(analysis);
	(void) collect_aggs((Node *) query->targetList, &cxt);
	(void) collect_aggs(query->havingQual, &cxt);
	analysis->aggs = cxt.aggs;
	check_target_srfs(analysis);
	foreach(lc, analysis->aggs)
	{
		KsAggKind	kind = ks_agg_kind(lfirst_node(Aggref, lc));

		analysis->agg_kinds = lappend_int(analysis->agg_kinds, kind);
		if (kind == KS_AGG_INPUTS)
			analysis->keep_inputs = true;
	}
	analysis->state_is_visible = result_is_state(analysis);
}

/* See analyze.h. */
KsAnalysis *
ks_analyze_view(Oid view)
{
	KsAnalysis *analysis = palloc0(sizeof(KsAnalysis));
	Query	   *query = ks_view_query(view);
	Query	   *checked = copyObject(query);
	InlineContext cxt = {NIL};
	RelationContext relations = {NIL, NIL};

	analysis->query = query;
	if (!reads_stream((Node *) query, NULL))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a continuous query that reads no stream is not supported"),
				 errhint("Name a stream in FROM; for a query over tables only, use a view or a materialized view.")));
	check_volatility(query);
	(void) inline_ctes((Node *) checked, &cxt);
	check_query(checked, true);
	(void) collect_relations((Node *) query, &relations);
	(void) count_streams((Node *) checked, &analysis->stream_references);
	analysis->streams = relations.streams;
	analysis->lookups = relations.lookups;
	analysis->join = ks_join_analyze(ks_join_flatten(query));
	if (analysis->join != NULL)
		analysis->query = query = checked = analysis->join->query;

	analysis->may_reorder = may_reorder(checked);
	if (query->hasAggs || query->groupClause != NIL || query->havingQual != NULL)
		analyze_aggregate(analysis);
	else
		analysis->kind = KS_QUERY_APPEND;
	ks_window_find(analysis, checked);
	return analysis;
}
