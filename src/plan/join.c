/*
 * join.c
 *		Joins of streams: which streams a query joins, and within what time.
 *
 * A query over streams is linear in each of them, so what it gives over all
 * records is the sum over which of its streams show old rows and which show the
 * rows of the batch (join_sql.c).  For that the rows of each joined stream are
 * kept in a buffer.  They can be let go because the conditions of the query
 * bound the event times of matching records: with D(i, j) the greatest event
 * time of j minus that of i, a record of i is closed when the time of all
 * partitions has passed its event time + the greatest D(i, j) + grace.  A record
 * that comes after its own close is late.
 *
 * Bounds come from plain conditions in WHERE and ON (time_bound.c) and are
 * completed over chains: with a-b and b-c bounded, so is a-c.  A bound below zero
 * counts as zero: a record waits for no partner, but it may come.
 *
 * This file walks the levels of the query (the top SELECT and the sub-selects
 * that read streams), finds the components (streams joined with each other;
 * branches of UNION ALL are components of their own), and collects the
 * conditions that hold for every match: all of an inner join, those in ON and
 * below of an outer one.
 *
 * Runs in: any backend, in a transaction.  Memory: the current context.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "access/sysattr.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_opfamily.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "base/compat.h"
#include "plan/analyze.h"
#include "plan/analyze_int.h"
#include "plan/join_int.h"

static List *components_of_level(KsLevels *levels, KsLevel *level, const KsOuterSide *inside);

/* See join_int.h. */
void
ks_join_refuse(const char *construct, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("%s not supported in a continuous query", construct),
			 errhint("%s", hint)));
}

/* ---------------------------------------------------------------- flattening */

/* Puts the query of a view in the place of a reference to it. */
static void
expand_view(RangeTblEntry *rte)
{
	rte->subquery = ks_view_query(rte->relid);
	ks_inline_with(rte->subquery);
	rte->rtekind = RTE_SUBQUERY;
	if (rte->alias == NULL)
		rte->alias = makeAlias(rte->eref->aliasname, NIL);
	rte->relid = InvalidOid;
	rte->relkind = 0;
	rte->rellockmode = 0;
	rte->inh = false;
	ks_forget_permissions(rte);
}

/* Takes the alias off joins, so that what is inside can be referred to. */
static bool
drop_join_aliases(Node *node, Query *query)
{
	if (node == NULL)
		return false;
	if (IsA(node, JoinExpr))
	{
		JoinExpr   *join = (JoinExpr *) node;
		RangeTblEntry *rte = rt_fetch(join->rtindex, query->rtable);

		join->alias = rte->alias = NULL;
		join->join_using_alias = rte->join_using_alias = NULL;
		return drop_join_aliases(join->larg, query) || drop_join_aliases(join->rarg, query);
	}
	if (IsA(node, FromExpr))
		return expression_tree_walker((Node *) ((FromExpr *) node)->fromlist, drop_join_aliases, query);
	return false;
}

/* Walker that flattens the levels that read streams. */
static bool
flatten_levels(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;
		ListCell   *lc;

		check_stack_depth();
		if (!ks_reads_stream(node))
			return false;
		foreach(lc, query->rtable)
		{
			RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

			if (rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_VIEW && rte->inFromCl &&
				ks_reads_stream((Node *) rte))
				expand_view(rte);
		}
		(void) drop_join_aliases((Node *) query->jointree, query);
		query->cteList = NIL;	/* all put in their places; none is recursive */
		return query_tree_walker(query, flatten_levels, context, 0);
	}
	return expression_tree_walker(node, flatten_levels, context);
}

/* See join.h. */
Query *
ks_join_flatten(Query *query)
{
	Query	   *result = copyObject(query);

	ks_inline_with(result);
	(void) flatten_levels((Node *) result, NULL);
	return result;
}

/* ---------------------------------------------------------------- levels */

/* See join_int.h. */
KsLevel *
ks_level_make(Query *query, KsLevel *parent, int parent_varno)
{
	KsLevel    *level = palloc0(sizeof(KsLevel));
	int			n = list_length(query->rtable) + 1;

	level->query = query;
	level->parent = parent;
	level->parent_varno = parent_varno;
	level->depth = parent == NULL ? 0 : parent->depth + 1;
	level->refs = palloc(sizeof(int) * n);
	level->children = palloc0(sizeof(KsLevel *) * n);
	for (int i = 0; i < n; i++)
		level->refs[i] = -1;
	return level;
}

/* Splits a condition into its conjuncts and keeps them. */
static void
add_conjuncts(KsLevels *levels, KsLevel *level, Node *quals, JoinExpr *of, const KsOuterSide *inside)
{
	KsConjunct *conjunct;

	if (quals == NULL)
		return;
	if (is_notclause(quals))
		quals = negate_clause((Node *) get_notclausearg((Expr *) quals));
	if (IsA(quals, List) || is_andclause(quals))
	{
		ListCell   *lc;

		foreach(lc, IsA(quals, List) ? (List *) quals : ((BoolExpr *) quals)->args)
			add_conjuncts(levels, level, lfirst(lc), of, inside);
		return;
	}
	conjunct = palloc(sizeof(KsConjunct));
	conjunct->level = level;
	conjunct->expr = quals;
	conjunct->of = of;
	conjunct->inside = inside;
	levels->conjuncts = lappend(levels->conjuncts, conjunct);
}

/* Streams of all components together. */
static Bitmapset *
all_members(List *components)
{
	Bitmapset  *result = NULL;
	ListCell   *lc;

	foreach(lc, components)
		result = bms_add_members(result, lfirst(lc));
	return result;
}

/*
 * join_components
 *		Components of a join.  A side made of several (a UNION ALL of streams) can
 *		be joined with tables only.
 */
static List *
join_components(List *left, List *right)
{
	if (all_members(left) == NULL)
		return right;
	if (all_members(right) == NULL)
		return left;
	if (list_length(left) > 1 || list_length(right) > 1)
		ks_join_refuse("a join of a stream with a UNION ALL of streams is",
					   "Join each of them in a branch of its own and put UNION ALL around the joins.");
	return list_make1(bms_union(linitial(left), linitial(right)));
}

/* Components of an item of FROM. */
static List *
components_of_entry(KsLevels *levels, KsLevel *level, int varno, const KsOuterSide *inside)
{
	RangeTblEntry *rte = rt_fetch(varno, level->query->rtable);

	if (rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_FOREIGN_TABLE && ks_is_stream(rte->relid))
	{
		KsPlace    *place = palloc(sizeof(KsPlace));
		int			number = list_length(levels->places);

		place->level = level;
		place->varno = varno;
		levels->places = lappend(levels->places, place);
		level->refs[varno] = number;
		return list_make1(bms_make_singleton(number));
	}
	if (rte->rtekind != RTE_SUBQUERY || !ks_reads_stream((Node *) rte->subquery))
		return list_make1(NULL);
	level->children[varno] = ks_level_make(rte->subquery, level, varno);
	return components_of_level(levels, level->children[varno], inside);
}

/* See join_int.h. */
Bitmapset *
ks_entries_below(Node *node)
{
	JoinExpr   *join = (JoinExpr *) node;

	if (IsA(node, RangeTblRef))
		return bms_make_singleton(((RangeTblRef *) node)->rtindex);
	return bms_union(ks_entries_below(join->larg), ks_entries_below(join->rarg));
}

/* Remembers an outer join of two streams; others are refused. */
static void
add_outer(KsLevels *levels, KsLevel *level, JoinExpr *join, List *left, List *right)
{
	KsOuterPlace *outer;

	if (list_length(left) > 1 || list_length(right) > 1 ||
		bms_membership(linitial(left)) != BMS_SINGLETON ||
		bms_membership(linitial(right)) != BMS_SINGLETON)
		ks_join_refuse("an outer join of more than two streams is",
					   "Join two of them into a stream or table of its own first.");
	outer = palloc(sizeof(KsOuterPlace));
	outer->level = level;
	outer->join = join;
	outer->left = bms_singleton_member(linitial(left));
	outer->right = bms_singleton_member(linitial(right));
	levels->outers = lappend(levels->outers, outer);
	if (join->jointype != JOIN_RIGHT)
		level->nulled = bms_add_members(level->nulled, ks_entries_below(join->rarg));
	if (join->jointype != JOIN_LEFT)
		level->nulled = bms_add_members(level->nulled, ks_entries_below(join->larg));
}

/* Does this item of FROM read a stream?  (No numbers are given.) */
static bool
item_reads_stream(Query *query, Node *node)
{
	ListCell   *lc;

	if (IsA(node, RangeTblRef))
	{
		RangeTblEntry *rte = rt_fetch(((RangeTblRef *) node)->rtindex, query->rtable);

		return ks_reads_stream(rte->rtekind == RTE_SUBQUERY ? (Node *) rte->subquery : (Node *) rte);
	}
	if (IsA(node, JoinExpr))
		return item_reads_stream(query, ((JoinExpr *) node)->larg) ||
			item_reads_stream(query, ((JoinExpr *) node)->rarg);
	foreach(lc, ((FromExpr *) node)->fromlist)
	{
		if (item_reads_stream(query, lfirst(lc)))
			return true;
	}
	return false;
}

/* One side of an outer join. */
static const KsOuterSide *
make_side(JoinExpr *join, bool right)
{
	KsOuterSide *side = palloc(sizeof(KsOuterSide));

	side->join = join;
	side->right = right;
	return side;
}

/* Components of a node of the join tree; collects conditions. */
static List *
components_of_node(KsLevels *levels, KsLevel *level, Node *node, const KsOuterSide *inside)
{
	List	   *result = list_make1(NULL);

	if (IsA(node, RangeTblRef))
		return components_of_entry(levels, level, ((RangeTblRef *) node)->rtindex, inside);
	if (IsA(node, FromExpr))
	{
		FromExpr   *from = (FromExpr *) node;
		ListCell   *lc;

		foreach(lc, from->fromlist)
			result = join_components(result, components_of_node(levels, level, lfirst(lc), inside));
		add_conjuncts(levels, level, from->quals, NULL, inside);
	}
	else
	{
		JoinExpr   *join = castNode(JoinExpr, node);
		bool		both = item_reads_stream(level->query, join->larg) &&
			item_reads_stream(level->query, join->rarg);
		bool		outer = both && join->jointype != JOIN_INNER;
		List	   *left = components_of_node(levels, level, join->larg, outer ? make_side(join, false) : inside);
		List	   *right = components_of_node(levels, level, join->rarg, outer ? make_side(join, true) : inside);

		if (outer)
			add_outer(levels, level, join, left, right);
		if (outer || join->jointype == JOIN_INNER)
			add_conjuncts(levels, level, join->quals, outer ? join : NULL, inside);
		result = join_components(left, right);
	}
	return result;
}

/* Components of the branches of a UNION ALL, one after the other. */
static List *
components_of_branches(KsLevels *levels, KsLevel *level, Node *node, const KsOuterSide *inside)
{
	SetOperationStmt *op = (SetOperationStmt *) node;

	if (IsA(node, RangeTblRef))
		return components_of_entry(levels, level, ((RangeTblRef *) node)->rtindex, inside);
	return list_concat(components_of_branches(levels, level, op->larg, inside),
					   components_of_branches(levels, level, op->rarg, inside));
}

/* Components of a level. */
static List *
components_of_level(KsLevels *levels, KsLevel *level, const KsOuterSide *inside)
{
	check_stack_depth();
	if (level->query->setOperations != NULL)
		return components_of_branches(levels, level, level->query->setOperations, inside);
	return components_of_node(levels, level, (Node *) level->query->jointree, inside);
}

/* See join_int.h. */
KsLevels *
ks_levels_of(Query *query)
{
	KsLevels   *levels = palloc0(sizeof(KsLevels));

	levels->top = ks_level_make(query, NULL, 0);
	levels->components = components_of_level(levels, levels->top, NULL);
	return levels;
}

/* ---------------------------------------------------------------- resolving */

typedef struct ResolveContext
{
	KsLevel    *level;
	bool		failed;
	bool		nulled;			/* see ks_level_resolve */
} ResolveContext;

static Node *resolve_mutator(Node *node, ResolveContext *cxt);

/* What a Var of a level stands for. */
static Node *
resolve_var(Var *var, ResolveContext *cxt)
{
	ResolveContext inner = {cxt->level, false, false};
	RangeTblEntry *rte;
	Node	   *result = NULL;

	for (Index up = var->varlevelsup; up > 0 && inner.level != NULL; up--)
		inner.level = inner.level->parent;
	if (inner.level == NULL || inner.level->query->setOperations != NULL ||
		IS_SPECIAL_VARNO(var->varno) || var->varattno <= 0)
	{
		cxt->failed = true;
		return NULL;
	}
	rte = rt_fetch(var->varno, inner.level->query->rtable);
	cxt->nulled |= bms_is_member(var->varno, inner.level->nulled);
	if (inner.level->refs[var->varno] >= 0)
	{
		Var		   *base = copyObject(var);

		base->varno = base->varnosyn = inner.level->refs[var->varno] + 1;
		base->varattnosyn = base->varattno;
		base->varlevelsup = 0;
		ks_forget_nullingrels(base);
		return (Node *) base;
	}
	if (rte->rtekind == RTE_JOIN)
		result = resolve_mutator(list_nth(rte->joinaliasvars, var->varattno - 1), &inner);
	else if (inner.level->children[var->varno] != NULL)
	{
		inner.level = inner.level->children[var->varno];
		if (inner.level->query->setOperations == NULL)
			result = resolve_mutator((Node *) get_tle_by_resno(inner.level->query->targetList,
															   var->varattno)->expr, &inner);
	}
	if (result == NULL)
		inner.failed = true;
	cxt->failed |= inner.failed;
	cxt->nulled |= inner.nulled;
	return result;
}

/* Replaces every Var by what it stands for. */
static Node *
resolve_mutator(Node *node, ResolveContext *cxt)
{
	if (node == NULL || cxt->failed)
		return NULL;
	if (IsA(node, Var))
		return resolve_var((Var *) node, cxt);
	if (IsA(node, SubLink) || IsA(node, Query) || IsA(node, Aggref) || IsA(node, Param) ||
		IsA(node, WindowFunc) || IsA(node, GroupingFunc))
	{
		cxt->failed = true;
		return NULL;
	}
	return expression_tree_mutator(node, resolve_mutator, cxt);
}

/* See join_int.h. */
Node *
ks_level_resolve(KsLevel *level, Node *expr, bool *nulled)
{
	ResolveContext cxt = {level, false, false};
	Node	   *result = resolve_mutator(expr, &cxt);

	if (nulled != NULL)
		*nulled = cxt.nulled;
	return cxt.failed || expression_returns_set(result) ? NULL : result;
}

/* ---------------------------------------------------------------- columns read */

typedef struct ColumnContext
{
	KsJoin	   *join;
	KsLevel    *level;
} ColumnContext;

static bool collect_columns(Node *node, ColumnContext *cxt);

/* Notes the column of a stream that a Var reads. */
static void
collect_column(Var *var, ColumnContext *cxt)
{
	KsLevel    *level = cxt->level;
	RangeTblEntry *rte;
	int			ref;

	for (Index up = var->varlevelsup; up > 0 && level != NULL; up--)
		level = level->parent;
	if (level == NULL || IS_SPECIAL_VARNO(var->varno))
		return;
	rte = rt_fetch(var->varno, level->query->rtable);
	ref = level->refs[var->varno];
	if (rte->rtekind == RTE_JOIN)
	{
		ColumnContext inner = {cxt->join, level};

		if (var->varattno > 0)
			(void) collect_columns(list_nth(rte->joinaliasvars, var->varattno - 1), &inner);
		else if (all_members(ks_levels_of(level->query)->components) != NULL)
			ks_join_refuse("a whole-row reference to a join of streams is", "Name the columns.");
	}
	if (ref < 0 || !cxt->join->refs[ref].buffered)
		return;
	if (var->varattno <= 0)
		ks_join_refuse(var->varattno == 0 ? "a whole-row reference to a stream in a join of streams is" :
					   "a system column of a stream in a join of streams is",
					   "Name the columns.");
	cxt->join->refs[ref].columns = bms_add_member(cxt->join->refs[ref].columns, var->varattno);
}

/* The level of a sub-select in FROM; a level for others, such as sub-links. */
static KsLevel *
level_of(KsLevel *level, Query *query)
{
	for (int i = 1; i <= list_length(level->query->rtable); i++)
	{
		if (level->children[i] != NULL && level->children[i]->query == query)
			return level->children[i];
	}
	return ks_level_make(query, level, 0);
}

/* Walker over all expressions of the query. */
static bool
collect_columns(Node *node, ColumnContext *cxt)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		collect_column((Var *) node, cxt);
		return false;
	}
	if (IsA(node, Query))
	{
		ColumnContext inner = {cxt->join, level_of(cxt->level, (Query *) node)};

		return query_tree_walker((Query *) node, collect_columns, &inner, QTW_IGNORE_JOINALIASES);
	}
	return expression_tree_walker(node, collect_columns, cxt);
}

/* ---------------------------------------------------------------- conditions */

/* Numbers of the streams in a resolved expression. */
static Bitmapset *
streams_in(Node *expr)
{
	List	   *vars = pull_var_clause(expr, 0);
	Bitmapset  *result = NULL;
	ListCell   *lc;

	foreach(lc, vars)
		result = bms_add_member(result, lfirst_node(Var, lc)->varno - 1);
	return result;
}

/* See join_int.h. */
Node *
ks_join_alone(Node *expr, int ref)
{
	Node	   *result = copyObject(expr);

	ChangeVarNodes(result, ref + 1, 1, 0);
	return result;
}

/* Adds a key, unless it is there; returns its number. */
static int
add_key(KsJoinRef *ref, Node *expr, Oid collation)
{
	KsJoinKey  *key;
	ListCell   *lc;

	expr = ks_join_alone(expr, ref->number);
	foreach(lc, ref->keys)
	{
		if (equal(((KsJoinKey *) lfirst(lc))->expr, expr))
			return foreach_current_index(lc);
	}
	key = palloc(sizeof(KsJoinKey));
	key->expr = expr;
	key->collation = collation;
	ref->keys = lappend(ref->keys, key);
	return list_length(ref->keys) - 1;
}

/*
 * is_byte_equality
 *		Is the equality one of bytes, though its collation is slow to compare by?
 *		Then the index is by bytes.
 */
static bool
is_byte_equality(const OpExpr *op)
{
	if (!OidIsValid(op->inputcollid) || op->inputcollid == C_COLLATION_OID ||
		!get_collation_isdeterministic(op->inputcollid))
		return false;
	return get_op_opfamily_strategy(op->opno, TEXT_BTREE_FAM_OID) == BTEqualStrategyNumber;
}

/* An equality of two streams is a key of both, if a btree can find it. */
static void
take_key(KsJoin *join, Node *condition)
{
	OpExpr	   *op = (OpExpr *) condition;
	KsJoinEquality *equality;
	Node	   *sides[2];
	int			refs[2];
	TypeCacheEntry *types[2];

	if (!IsA(condition, OpExpr) || list_length(op->args) != 2 || !op_strict(op->opno) ||
		contain_mutable_functions(condition))
		return;
	for (int i = 0; i < 2; i++)
	{
		sides[i] = list_nth(op->args, i);
		if (!bms_get_singleton_member(streams_in(sides[i]), &refs[i]))
			return;
		types[i] = lookup_type_cache(exprType(sides[i]), TYPECACHE_BTREE_OPFAMILY);
		if (!OidIsValid(types[i]->btree_opf) ||
			get_op_opfamily_strategy(op->opno, types[i]->btree_opf) != BTEqualStrategyNumber)
			return;
	}
	if (refs[0] == refs[1])
		return;
	equality = palloc(sizeof(KsJoinEquality));
	equality->opno = op->opno;
	equality->bytes = is_byte_equality(op);
	equality->collation = equality->bytes ? C_COLLATION_OID : op->inputcollid;
	for (int i = 0; i < 2; i++)
	{
		equality->refs[i] = refs[i];
		equality->keys[i] = add_key(&join->refs[refs[i]], sides[i], equality->collation);
	}
	join->equalities = lappend(join->equalities, equality);
}

/*
 * filters_rows
 *		May a condition on this stream alone keep rows out of its buffer?  In ON of
 *		an outer join, if the join does not keep the stream's rows, and so on a side
 *		of it (a LATERAL one may name the other side's stream) if the stream stands
 *		there; above the join, if it keeps these rows only and the condition does
 *		not come through the side that may be NULL instead.
 */
static bool
filters_rows(const KsConjunct *conjunct, const KsOuterPlace *outer, int ref, bool nulled)
{
	JoinType	type;
	int			kept;

	if (outer == NULL)
		return true;
	if (conjunct->inside != NULL && conjunct->inside->join == outer->join)
		return ref == (conjunct->inside->right ? outer->right : outer->left);
	type = outer->join->jointype;
	if (type == JOIN_FULL)
		return false;
	kept = type == JOIN_LEFT ? outer->left : outer->right;
	if (conjunct->of == outer->join)
		return ref != kept;
	return ref == kept && !nulled;
}

/* The outer join of the component, or NULL. */
static KsOuterPlace *
outer_of(KsLevels *levels, const Bitmapset *component)
{
	ListCell   *lc;

	foreach(lc, levels->outers)
	{
		KsOuterPlace *outer = lfirst(lc);

		if (bms_is_member(outer->left, component))
			return outer;
	}
	return NULL;
}

/* Takes bounds, keys and filters out of a condition that holds for every match. */
static void
take_condition(KsJoin *join, KsLevels *levels, const KsConjunct *conjunct)
{
	bool		nulled;
	Node	   *condition = ks_level_resolve(conjunct->level, conjunct->expr, &nulled);
	Bitmapset  *streams;
	KsOuterPlace *outer;
	bool		of_match;		/* must it hold for every match? */
	int			ref;

	if (condition == NULL)
		return;
	streams = streams_in(condition);
	if (bms_is_empty(streams) || !join->refs[bms_next_member(streams, -1)].buffered)
		return;
	outer = outer_of(levels, list_nth(levels->components,
									  join->refs[bms_next_member(streams, -1)].component));
	of_match = outer == NULL || conjunct->of == outer->join ||
		(conjunct->inside != NULL && conjunct->inside->join == outer->join);
	if (bms_get_singleton_member(streams, &ref))
	{
		if (of_match)
			join->refs[ref].guards = lappend(join->refs[ref].guards, ks_join_alone(condition, ref));
		if (filters_rows(conjunct, outer, ref, nulled) && !contain_mutable_functions(condition))
			join->refs[ref].filters = lappend(join->refs[ref].filters, ks_join_alone(condition, ref));
		return;
	}
	/* what stands above an outer join is no condition of its matches */
	if (!of_match || !ks_time_bound(join, condition))
		ks_time_passed_over(join, condition, !of_match);
	if (of_match)
		take_key(join, condition);
}

/* ---------------------------------------------------------------- bounds */

/* Completes the bounds over chains of streams. */
static void
close_bounds(KsJoin *join)
{
	int			n = join->nrefs;

	for (int k = 0; k < n; k++)
		for (int i = 0; i < n; i++)
			for (int j = 0; j < n; j++)
			{
				int64		first = join->bounds[i * n + k];
				int64		second = join->bounds[k * n + j];

				if (first == KS_JOIN_UNBOUNDED || second == KS_JOIN_UNBOUNDED || i == j)
					continue;
				join->bounds[i * n + j] = Min(join->bounds[i * n + j], first + second);
			}
}

/* Every two streams of a join must be bounded; sets how long each waits. */
static void
check_bounds(KsJoin *join, const Bitmapset *component)
{
	int			i = -1;

	while ((i = bms_next_member(component, i)) >= 0)
	{
		int			j = -1;

		while ((j = bms_next_member(component, j)) >= 0)
		{
			int64		bound = join->bounds[i * join->nrefs + j];

			if (i == j)
				continue;
			if (bound == KS_JOIN_UNBOUNDED)
				ks_time_refuse(join, i, j);
			join->refs[i].wait = Max(join->refs[i].wait, bound);
		}
	}
}

/* ---------------------------------------------------------------- analysis */

/* Fills in what is known of each stream. */
static void
load_refs(KsJoin *join, KsLevels *levels)
{
	ListCell   *lc;
	int			number = 0;
	int			buffers = 0;

	join->refs = palloc0(sizeof(KsJoinRef) * Max(join->nrefs, 1));
	foreach(lc, levels->places)
	{
		KsPlace    *place = lfirst(lc);
		RangeTblEntry *rte = rt_fetch(place->varno, place->level->query->rtable);
		KsJoinRef  *ref = &join->refs[number];
		ListCell   *lcomp;

		ref->number = number++;
		ref->name = rte->eref->aliasname;
		ref->stream = rte->relid;
		ref->def = ks_stream_def_of(rte->relid);
		foreach(lcomp, levels->components)
		{
			if (bms_is_member(ref->number, lfirst(lcomp)))
			{
				ref->component = foreach_current_index(lcomp);
				ref->buffered = bms_membership(lfirst(lcomp)) == BMS_MULTIPLE;
			}
		}
		if (ref->buffered)
			ref->buffer = buffers++;
	}
}

/* Which rows outer joins keep. */
static void
load_outers(KsJoin *join, KsLevels *levels)
{
	ListCell   *lc;

	foreach(lc, levels->outers)
	{
		KsOuterPlace *place = lfirst(lc);
		KsJoinOuter *outer = palloc(sizeof(KsJoinOuter));

		if (bms_num_members(list_nth(levels->components, join->refs[place->left].component)) > 2)
			ks_join_refuse("an outer join of more than two streams is",
						   "Join two of them into a stream or table of its own first.");
		outer->left = place->left;
		outer->right = place->right;
		outer->type = place->join->jointype;
		join->refs[place->left].preserved = outer->type != JOIN_RIGHT;
		join->refs[place->right].preserved = outer->type != JOIN_LEFT;
		join->outers = lappend(join->outers, outer);
	}
}

/* See join.h. */
KsJoin *
ks_join_analyze(Query *query)
{
	KsLevels   *levels = ks_levels_of(query);
	KsJoin	   *join = palloc0(sizeof(KsJoin));
	ColumnContext columns = {join, levels->top};
	bool		any = false;
	ListCell   *lc;

	join->query = query;
	join->levels = levels;
	join->nrefs = list_length(levels->places);
	join->components = levels->components;
	foreach(lc, levels->components)
	{
		any |= bms_membership(lfirst(lc)) == BMS_MULTIPLE;
		if (bms_num_members(lfirst(lc)) > KS_JOIN_MAX)
			ks_join_refuse(psprintf("a join of more than %d streams is", KS_JOIN_MAX),
						   "Join some of them into a stream or table of its own first.");
	}
	if (!any)
		return NULL;
	load_refs(join, levels);
	load_outers(join, levels);
	ks_join_check_outers(join);
	join->bounds = palloc(sizeof(int64) * join->nrefs * join->nrefs);
	for (int i = 0; i < join->nrefs * join->nrefs; i++)
		join->bounds[i] = KS_JOIN_UNBOUNDED;
	foreach(lc, levels->conjuncts)
		take_condition(join, levels, lfirst(lc));
	close_bounds(join);
	foreach(lc, levels->components)
		check_bounds(join, lfirst(lc));
	ks_join_add_filters(join);
	(void) query_tree_walker(query, collect_columns, &columns, QTW_IGNORE_JOINALIASES);
	return join;
}
