/*
 * time_message.c
 *		What is said where a join of streams has no time bounds.
 *
 * Conditions that look as if they were meant to bound two streams, but do not,
 * are remembered with the reason.  If in the end two streams have no bound, the
 * error names the conditions between them.
 *
 * Runs in: any backend, in a transaction.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"
#include "utils/timestamp.h"

#include "plan/join_int.h"

/* A condition that sets no bound. */
typedef struct PassedOver
{
	int			refs[2];
	Node	   *condition;		/* resolved */
	const char *reason;
} PassedOver;

/* Is it a type that event times have? */
static bool
is_time_type(Oid type)
{
	type = getBaseType(type);
	return type == TIMESTAMPTZOID || type == TIMESTAMPOID || type == DATEOID;
}

/* The name of a column of a stream, for messages. */
static char *
column_of(const KsJoinRef *ref, AttrNumber attnum)
{
	return psprintf("%s.%s", ref->name, ref->def->columns[attnum - 1].name);
}

/* Does the expression hold an interval with months? */
static bool
has_months(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Const))
	{
		Const	   *value = (Const *) node;

		return value->consttype == INTERVALOID && !value->constisnull &&
			DatumGetIntervalP(value->constvalue)->month != 0;
	}
	return expression_tree_walker(node, has_months, context);
}

/* Why a condition with these Vars sets no bound. */
static const char *
reason_for(KsJoin *join, Node *condition, List *vars)
{
	OpExpr	   *op = (OpExpr *) condition;
	Oid			type = InvalidOid;
	ListCell   *lc;

	foreach(lc, vars)
	{
		Var		   *var = lfirst_node(Var, lc);
		const KsJoinRef *ref = &join->refs[var->varno - 1];

		if (is_time_type(var->vartype) && var->varattno != ks_event_time_column(ref))
			return psprintf("%s is not the event time of \"%s\"", column_of(ref, var->varattno), ref->name);
	}
	if (has_months(eval_const_expressions(NULL, condition), NULL))
		return "an interval with months has no fixed length";
	foreach(lc, vars)
	{
		Oid			base = getBaseType(lfirst_node(Var, lc)->vartype);

		if (!is_time_type(base))
			continue;
		if (OidIsValid(type) && (type == TIMESTAMPTZOID) != (base == TIMESTAMPTZOID))
			return "times with and without time zone compare as the session's time zone says";
		type = base;
	}
	if (IsA(condition, OpExpr) && list_length(op->args) == 2 && op_strict(op->opno) &&
		(is_time_type(exprType(linitial(op->args))) || exprType(linitial(op->args)) == INTERVALOID) &&
		(is_time_type(exprType(lsecond(op->args))) || exprType(lsecond(op->args)) == INTERVALOID))
		return "it does not compare the event times, plus or minus constant intervals, or their difference with a constant one";
	return "it is no plain comparison of the event times";
}

/* See join_int.h. */
void
ks_time_passed_over(KsJoin *join, Node *condition, bool above)
{
	List	   *vars = pull_var_clause(condition, 0);
	Bitmapset  *timed = NULL;
	PassedOver *passed = palloc(sizeof(PassedOver));
	ListCell   *lc;
	int			ref = -1;
	int			n = 0;

	foreach(lc, vars)
	{
		Var		   *var = lfirst_node(Var, lc);

		if (is_time_type(var->vartype))
			timed = bms_add_member(timed, var->varno - 1);
	}
	if (bms_num_members(timed) != 2)
		return;
	while ((ref = bms_next_member(timed, ref)) >= 0)
		passed->refs[n++] = ref;
	passed->condition = condition;
	passed->reason = above ? "it stands above the outer join, so that matches need not fulfil it" :
		reason_for(join, condition, vars);
	join->passed_over = lappend(join->passed_over, passed);
}

/* A resolved condition as text: the select list of a query over the streams. */
static char *
condition_text(KsJoin *join, Node *condition)
{
	Query	   *query = makeNode(Query);
	char	   *text;

	query->commandType = CMD_SELECT;
	query->jointree = makeFromExpr(NIL, NULL);
	query->targetList = list_make1(makeTargetEntry((Expr *) condition, 1, NULL, false));
	for (int i = 0; i < join->nrefs; i++)
	{
		RangeTblEntry *rte = makeNode(RangeTblEntry);

		rte->rtekind = RTE_RELATION;
		rte->relid = join->refs[i].stream;
		rte->relkind = get_rel_relkind(rte->relid);
		rte->rellockmode = AccessShareLock;
		rte->alias = makeAlias(join->refs[i].name, NIL);
		rte->eref = makeAlias(join->refs[i].name, NIL);
		for (int att = 0; att < join->refs[i].def->natts; att++)
		{
			const KsColumnDef *column = &join->refs[i].def->columns[att];

			rte->eref->colnames = lappend(rte->eref->colnames,
										  makeString(pstrdup(column->kind == KS_COL_DROPPED ? "" : column->name)));
		}
		rte->inFromCl = true;
		query->rtable = lappend(query->rtable, rte);
	}
	text = strstr(pg_get_querydef(query, false), "SELECT ");
	return text == NULL ? "" : text + strlen("SELECT ");
}

/* What is said of the conditions between two streams that set no bound. */
static char *
passed_over_text(KsJoin *join, int i, int j)
{
	StringInfoData text;
	ListCell   *lc;

	initStringInfo(&text);
	foreach(lc, join->passed_over)
	{
		PassedOver *passed = lfirst(lc);

		if (passed->refs[0] == Min(i, j) && passed->refs[1] == Max(i, j))
			appendStringInfo(&text, "\nCondition %s: %s.", condition_text(join, passed->condition), passed->reason);
	}
	return text.data;
}

/* See join_int.h. */
void
ks_time_refuse(KsJoin *join, int earlier, int later)
{
	const KsJoinRef *a = &join->refs[earlier];
	const KsJoinRef *b = &join->refs[later];

	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("a join of streams without time bounds is not supported in a continuous query"),
			 errdetail("No condition says how much later than a record of \"%s\" a matching record of \"%s\" may be.\n"
					   "The event time of \"%s\" is %s, that of \"%s\" is %s.%s",
					   a->name, b->name, a->name, column_of(a, ks_event_time_column(a)),
					   b->name, column_of(b, ks_event_time_column(b)), passed_over_text(join, earlier, later)),
			 errhint("Compare their event times on both sides, plus or minus constant intervals without months, for example \"b.ts BETWEEN a.ts - interval '5 min' AND a.ts + interval '10 min'\"; in an outer join, in ON.  The event time is the column named as timestamp when the stream was created, or _timestamp.")));
}

/* See join.h. */
void
ks_join_warn_of_bounds(const KsJoin *join)
{
	for (int i = 0; i < join->nrefs; i++)
	{
		for (int j = i + 1; j < join->nrefs; j++)
		{
			int64		after = join->bounds[i * join->nrefs + j];
			int64		before = join->bounds[j * join->nrefs + i];

			if (after != KS_JOIN_UNBOUNDED && before != KS_JOIN_UNBOUNDED && after + before < 0)
				ereport(WARNING,
						(errmsg("no two records of \"%s\" and \"%s\" can fulfil the time bounds of the join",
								join->refs[i].name, join->refs[j].name),
						 errhint("Between the bounds is nothing; BETWEEN takes the earlier one first.")));
		}
	}
}
