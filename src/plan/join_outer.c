/*
 * join_outer.c
 *		What may stand on the sides of an outer join of streams.
 *
 * That a record of a kept side has met another is remembered per record, and a
 * statement of its own, made of the join alone, tells which have.  So two things
 * must hold, or the query is refused:
 *
 *	- the join depends on nothing outside of it, as it could in a LATERAL
 *	  sub-select;
 *	- whether a row of the kept side has met another depends on its record alone.
 *	  The side may have more rows than records (a join with a table, a function
 *	  that returns a set), but the condition of the join must not tell the rows of
 *	  one record apart.
 *
 * A condition does not tell them apart if each column it reads is a column of the
 * stream, or of something that has at most one row for a record: a table with
 * an equality on all columns of a unique index, a function that returns no set, a
 * sub-select that is distinct by what it is compared with, or a plain one whose
 * column is of such a table.  What such an item is compared with must be, in
 * turn, of one record.  Indexes can be dropped, so
 * every batch looks again, and keeps them by its lock on the table.
 *
 * Runs in: any backend, in a transaction.  Memory: the current context.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/planmain.h"
#include "parser/parsetree.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/typcache.h"

#include "plan/analyze.h"
#include "plan/join_int.h"

/* Called for a Var of a level that an expression reads; NULL, or the name of what is to blame. */
typedef const char *(*VarVisitor) (KsLevel *level, Var *var, void *arg);

/* Walks the Vars of an expression that belong to its level or to one above. */
typedef struct VarWalk
{
	KsLevel    *level;
	Index		sublevels_up;
	VarVisitor	visit;
	void	   *arg;
	const char *blamed;
} VarWalk;

/* An item of FROM that is being looked at; its own columns must not determine it. */
typedef struct Pending
{
	KsLevel    *level;
	int			varno;
	bool		assumed;		/* it is known to have one row at most */
	struct Pending *up;
} Pending;

/* ---------------------------------------------------------------- walking */

/* Walker of visit_vars. */
static bool
visit_vars_walker(Node *node, VarWalk *walk)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;
		KsLevel    *level = walk->level;

		if (var->varlevelsup < walk->sublevels_up)
			return false;
		for (Index up = var->varlevelsup - walk->sublevels_up; up > 0; up--)
			level = level->parent;
		walk->blamed = walk->visit(level, var, walk->arg);
		return walk->blamed != NULL;
	}
	if (IsA(node, Query))
	{
		bool		result;

		walk->sublevels_up++;
		result = query_tree_walker((Query *) node, visit_vars_walker, walk, QTW_IGNORE_JOINALIASES);
		walk->sublevels_up--;
		return result;
	}
	return expression_tree_walker(node, visit_vars_walker, walk);
}

/* Visits the Vars of an expression of a level; stops at the first that is to blame. */
static const char *
visit_vars(KsLevel *level, Node *expr, VarVisitor visit, void *arg)
{
	VarWalk		walk = {level, 0, visit, arg, NULL};

	(void) visit_vars_walker(expr, &walk);
	return walk.blamed;
}

/* Visits what the items of FROM below a node of the join tree read, and the conditions of the joins there. */
static const char *
visit_node(KsLevel *level, Node *node, VarVisitor visit, void *arg)
{
	JoinExpr   *join = (JoinExpr *) node;
	const char *blamed;

	if (IsA(node, RangeTblRef))
	{
		RangeTblEntry *rte = rt_fetch(((RangeTblRef *) node)->rtindex, level->query->rtable);

		blamed = rte->subquery == NULL ? NULL : visit_vars(level, (Node *) rte->subquery, visit, arg);
		if (blamed == NULL)
			blamed = visit_vars(level, (Node *) rte->functions, visit, arg);
		if (blamed == NULL)
			blamed = visit_vars(level, (Node *) rte->tablefunc, visit, arg);
		if (blamed == NULL)
			blamed = visit_vars(level, (Node *) rte->values_lists, visit, arg);
		return blamed;
	}
	blamed = visit_node(level, join->larg, visit, arg);
	if (blamed == NULL)
		blamed = visit_node(level, join->rarg, visit, arg);
	if (blamed == NULL)
		blamed = visit_vars(level, join->quals, visit, arg);
	return blamed;
}

/* What a column of a join with an alias stands for; NULL: the Var is no such. */
static Node *
join_column(KsLevel *level, Var *var)
{
	RangeTblEntry *rte = rt_fetch(var->varno, level->query->rtable);

	if (rte->rtekind != RTE_JOIN)
		return NULL;
	return var->varattno > 0 ? list_nth(rte->joinaliasvars, var->varattno - 1) : (Node *) rte->joinaliasvars;
}

/* ---------------------------------------------------------------- nothing from outside */

/* An outer join and the items of FROM below it. */
typedef struct Closed
{
	const KsOuterPlace *outer;
	Bitmapset  *below;
} Closed;

/* To blame: whatever stands outside of the join. */
static const char *
visit_closed(KsLevel *level, Var *var, void *arg)
{
	Closed	   *closed = arg;
	Node	   *column = join_column(level, var);

	if (column != NULL)
		return visit_vars(level, column, visit_closed, arg);
	if (level == closed->outer->level && bms_is_member(var->varno, closed->below))
		return NULL;
	return rt_fetch(var->varno, level->query->rtable)->eref->aliasname;
}

/* Refuses an outer join that depends on something outside of it. */
static void
check_closed(const KsOuterPlace *outer)
{
	Closed		closed = {outer, ks_entries_below((Node *) outer->join)};
	const char *outside = visit_node(outer->level, (Node *) outer->join, visit_closed, &closed);

	if (outside != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("an outer join of streams that depends on what stands outside of it is not supported in a continuous query"),
				 errdetail("The join reads \"%s\", which is none of its sides.", outside),
				 errhint("Join \"%s\" above the outer join, or inside of the side that is not kept.", outside)));
}

/* ---------------------------------------------------------------- one row for a record */

static const char *visit_determined(KsLevel *level, Var *var, void *arg);

/* An equality of a column of an item with something of one record. */
typedef struct Equality
{
	AttrNumber	attnum;
	Oid			opno;
	Oid			collation;
} Equality;

/* What a cast of integers that keeps different values different is made from; else NULL. */
static Node *
exactly_cast(Node *node)
{
	static const Oid casts[] = {F_NUMERIC_INT2, F_NUMERIC_INT4, F_NUMERIC_INT8, F_FLOAT8_INT2, F_FLOAT8_INT4};
	FuncExpr   *call = (FuncExpr *) node;

	for (int i = 0; IsA(node, FuncExpr) && i < lengthof(casts); i++)
	{
		if (call->funcid == casts[i])
			return linitial(call->args);
	}
	return NULL;
}

/*
 * read_equality
 *		Reads a condition of the form item.column = value, either way round.  Where
 *		the column is cast exactly, it is as good as one of the column itself.
 */
static bool
read_equality(Node *condition, Pending *item, Equality *equality)
{
	OpExpr	   *op = (OpExpr *) condition;

	if (!IsA(condition, OpExpr) || list_length(op->args) != 2)
		return false;
	for (int i = 0; i < 2; i++)
	{
		Node	   *column = list_nth(op->args, i);
		Node	   *cast = exactly_cast(column);
		Var		   *var;

		if (cast != NULL && op->opno != lookup_type_cache(exprType(column), TYPECACHE_EQ_OPR)->eq_opr)
			continue;
		if (cast != NULL)
			column = cast;
		while (IsA(column, RelabelType))
			column = (Node *) ((RelabelType *) column)->arg;
		var = (Var *) column;
		if (!IsA(column, Var) || var->varlevelsup != 0 || var->varno != item->varno || var->varattno <= 0 ||
			visit_vars(item->level, list_nth(op->args, 1 - i), visit_determined, item) != NULL)
			continue;
		equality->attnum = var->varattno;
		equality->opno = cast != NULL ? lookup_type_cache(var->vartype, TYPECACHE_EQ_OPR)->eq_opr : op->opno;
		equality->collation = op->inputcollid;
		return true;
	}
	return false;
}

/* Collects the equalities among the conjuncts of a condition. */
static void
add_equalities(Node *condition, Pending *item, List **equalities)
{
	Equality   *equality = palloc(sizeof(Equality));
	ListCell   *lc;

	if (condition == NULL)
		return;
	if (IsA(condition, List) || is_andclause(condition))
	{
		foreach(lc, IsA(condition, List) ? (List *) condition : ((BoolExpr *) condition)->args)
			add_equalities(lfirst(lc), item, equalities);
	}
	else if (read_equality(condition, item, equality))
		*equalities = lappend(*equalities, equality);
}

/* Does the node of a join tree hold the item? */
static bool
holds_item(Node *node, int varno)
{
	ListCell   *lc;

	if (!IsA(node, FromExpr))
		return bms_is_member(varno, ks_entries_below(node));
	foreach(lc, ((FromExpr *) node)->fromlist)
	{
		if (holds_item(lfirst(lc), varno))
			return true;
	}
	return false;
}

/*
 * collect_equalities
 *		Equalities that hold of the item, below a node of the join tree.  False if
 *		whether the item is there depends on more than one record: then its columns
 *		may be those of its row, or NULL.
 */
static bool
collect_equalities(Node *node, Pending *item, List **equalities)
{
	JoinExpr   *join = (JoinExpr *) node;
	Node	   *side;
	bool		nulled;
	ListCell   *lc;

	if (IsA(node, RangeTblRef))
		return true;
	if (IsA(node, FromExpr))
	{
		FromExpr   *from = (FromExpr *) node;

		foreach(lc, from->fromlist)
		{
			if (holds_item(lfirst(lc), item->varno) && !collect_equalities(lfirst(lc), item, equalities))
				return false;
		}
		add_equalities(from->quals, item, equalities);
		return true;
	}
	side = holds_item(join->larg, item->varno) ? join->larg : join->rarg;
	if (!collect_equalities(side, item, equalities))
		return false;
	nulled = join->jointype == JOIN_FULL || join->jointype == (side == join->larg ? JOIN_RIGHT : JOIN_LEFT);
	if (nulled || join->jointype == JOIN_INNER)
		add_equalities(join->quals, item, equalities);
	if (nulled)
	{
		const char *blamed;

		item->assumed = true;
		blamed = visit_vars(item->level, join->quals, visit_determined, item);
		item->assumed = false;
		return blamed == NULL && join->jointype != JOIN_FULL && IsA(side, RangeTblRef);
	}
	return true;
}

/* Are the collations the same as far as equality goes? */
static bool
same_equality(Oid a, Oid b)
{
	return a == b || !OidIsValid(a) || !OidIsValid(b) ||
		(get_collation_isdeterministic(a) && get_collation_isdeterministic(b));
}

/* Is there an equality on each column of the index? */
static bool
index_is_covered(Relation index, List *equalities)
{
	for (int i = 0; i < index->rd_index->indnkeyatts; i++)
	{
		bool		found = false;
		ListCell   *lc;

		foreach(lc, equalities)
		{
			Equality   *equality = lfirst(lc);

			found |= equality->attnum == index->rd_index->indkey.values[i] &&
				get_op_opfamily_strategy(equality->opno, index->rd_opfamily[i]) == BTEqualStrategyNumber &&
				same_equality(equality->collation, index->rd_indcollation[i]);
		}
		if (!found)
			return false;
	}
	return true;
}

/* Has the table at most one row that fulfils the equalities? */
static bool
table_is_single(RangeTblEntry *rte, List *equalities)
{
	Relation	rel;
	bool		result = false;
	ListCell   *lc;

	if (rte->relkind != RELKIND_RELATION && rte->relkind != RELKIND_PARTITIONED_TABLE && rte->relkind != RELKIND_MATVIEW)
		return false;
	if (rte->relkind == RELKIND_RELATION && rte->inh && has_subclass(rte->relid))
		return false;
	rel = table_open(rte->relid, AccessShareLock);
	foreach(lc, RelationGetIndexList(rel))
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);
		Form_pg_index form = index->rd_index;

		if (form->indisunique && form->indimmediate && form->indisvalid &&
			RelationGetIndexPredicate(index) == NIL && RelationGetIndexExpressions(index) == NIL)
			result |= index_is_covered(index, equalities);
		index_close(index, NoLock);
	}
	table_close(rel, NoLock);
	return result;
}

/* Is the limit of a sub-select one row? */
static bool
is_limited_to_one(Query *query)
{
	Const	   *limit = (Const *) eval_const_expressions(NULL, query->limitCount);

	return limit != NULL && IsA(limit, Const) && !limit->constisnull && limit->consttype == INT8OID &&
		DatumGetInt64(limit->constvalue) <= 1 && query->limitOption == LIMIT_OPTION_COUNT;
}

/* Has the sub-select at most one row that fulfils the equalities? */
static bool
subquery_is_single(Query *query, List *equalities)
{
	List	   *columns = NIL;
	List	   *operators = NIL;
	ListCell   *lc;

	foreach(lc, equalities)
	{
		columns = lappend_int(columns, ((Equality *) lfirst(lc))->attnum);
		operators = lappend_oid(operators, ((Equality *) lfirst(lc))->opno);
	}
	return is_limited_to_one(query) ||
		(query_supports_distinctness(query) && query_is_distinct_for(query, columns, operators));
}

/*
 * column_is_determined
 *		Is a column (0: is each) of a sub-select that reads no stream of one record,
 *		whatever number of rows it has?
 */
static bool
column_is_determined(Pending *item, Query *query, AttrNumber attnum)
{
	KsLevel    *level = ks_level_make(query, item->level, item->varno);

	if (query->setOperations != NULL || query->hasAggs || query->groupClause != NIL || query->havingQual != NULL ||
		query->distinctClause != NIL || query->limitCount != NULL || query->limitOffset != NULL ||
		query->hasWindowFuncs || query->hasTargetSRFs)
		return false;
	return visit_vars(level, attnum > 0 ? (Node *) get_tle_by_resno(query->targetList, attnum)->expr :
					  (Node *) query->targetList, visit_determined, item) == NULL;
}

/* Do the functions in FROM return one row? */
static bool
functions_are_single(RangeTblEntry *rte)
{
	ListCell   *lc;

	foreach(lc, rte->functions)
	{
		if (expression_returns_set(lfirst_node(RangeTblFunction, lc)->funcexpr))
			return false;
	}
	return true;
}

/* Has an item of FROM that reads no stream at most one row for a record, or else one value of the column? */
static bool
item_is_single(Pending *item, AttrNumber attnum, Node *jointree)
{
	RangeTblEntry *rte = rt_fetch(item->varno, item->level->query->rtable);
	RangeTblRef ref = {T_RangeTblRef, item->varno};
	List	   *equalities = NIL;

	if (!collect_equalities(jointree, item, &equalities) ||
		visit_node(item->level, (Node *) &ref, visit_determined, item) != NULL)
		return false;
	switch (rte->rtekind)
	{
		case RTE_RELATION:
			return table_is_single(rte, equalities);
		case RTE_SUBQUERY:
			return subquery_is_single(rte->subquery, equalities) ||
				column_is_determined(item, rte->subquery, attnum);
		case RTE_FUNCTION:
			return functions_are_single(rte);
		case RTE_VALUES:
			return list_length(rte->values_lists) == 1;
		default:
			return false;
	}
}

/* The join tree of a level as far as a kept side goes. */
static Node *
tree_of_level(KsLevel *level)
{
	return level->kept != NULL ? level->kept : (Node *) level->query->jointree;
}

/* To blame: an item of FROM that may have several rows for a record. */
static const char *
visit_determined(KsLevel *level, Var *var, void *arg)
{
	RangeTblEntry *rte = rt_fetch(var->varno, level->query->rtable);
	Node	   *column = join_column(level, var);
	KsLevel    *child = level->children[var->varno];
	Pending		item = {level, var->varno, false, arg};

	if (column != NULL)
		return visit_vars(level, column, visit_determined, arg);
	if (level->refs[var->varno] >= 0)
		return NULL;
	if (child != NULL)
	{
		Node	   *expr = var->varattno > 0 ?
			(Node *) get_tle_by_resno(child->query->targetList, var->varattno)->expr :
			(Node *) child->query->targetList;

		return expression_returns_set(expr) ? rte->eref->aliasname :
			visit_vars(child, expr, visit_determined, arg);
	}
	for (Pending *pending = arg; pending != NULL; pending = pending->up)
	{
		if (pending->level == level && pending->varno == var->varno)
			return pending->assumed ? NULL : rte->eref->aliasname;
	}
	return item_is_single(&item, var->varattno, tree_of_level(level)) ? NULL : rte->eref->aliasname;
}

/* The kept side of an outer join. */
typedef struct Kept
{
	Bitmapset  *below;			/* items of FROM there */
} Kept;

/* To blame: a column of the kept side that is not of its record. */
static const char *
visit_kept(KsLevel *level, Var *var, void *arg)
{
	Node	   *column = join_column(level, var);

	if (column != NULL)
		return visit_vars(level, column, visit_kept, arg);
	return bms_is_member(var->varno, ((Kept *) arg)->below) ? visit_determined(level, var, NULL) : NULL;
}

/* Refuses a join that tells the rows of one record of a kept side apart. */
static void
check_kept(const KsOuterPlace *outer, Node *side, Node *other)
{
	Kept		kept = {ks_entries_below(side)};
	const char *several;

	outer->level->kept = side;
	several = visit_vars(outer->level, outer->join->quals, visit_kept, &kept);
	if (several == NULL)
		several = visit_node(outer->level, other, visit_kept, &kept);
	outer->level->kept = NULL;
	if (several != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("an outer join of streams on \"%s\", which may have several rows for a record, is not supported in a continuous query",
						several),
				 errdetail("It would have to be known of each of these rows whether it has met another."),
				 errhint("Join it above the outer join, or by equality on all columns of a unique index; call a function that returns a set above it.")));
}

/* Refuses an outer join whose null rows could not be told. */
static void
check_outer(const KsOuterPlace *outer)
{
	JoinExpr   *join = outer->join;

	check_closed(outer);
	if (join->jointype != JOIN_RIGHT)
		check_kept(outer, join->larg, join->rarg);
	if (join->jointype != JOIN_LEFT)
		check_kept(outer, join->rarg, join->larg);
}

/* See join.h. */
void
ks_join_check_outers(const KsJoin *join)
{
	ListCell   *lc;

	foreach(lc, join->levels->outers)
		check_outer(lfirst(lc));
}
