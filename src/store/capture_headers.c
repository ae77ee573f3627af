/*
 * capture_headers.c
 *		The headers of a sink's records: an SQL expression over the row.
 *
 * The text is analysed anew for every statement or batch, by Postgres itself, as
 * a CHECK constraint would be: it sees the columns of the row and nothing else.
 *
 * Runs in: any backend, any worker, in a transaction.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "executor/executor.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parse_relation.h"
#include "parser/parser.h"
#include "rewrite/rewriteManip.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "store/capture_headers.h"
#include "stream/out_record.h"

struct KsHeaderExpr
{
	EState	   *estate;
	ExprState  *state;
};

/* The one expression that the text is. */
static Node *
parse_text(const char *text)
{
	List	   *parsed = raw_parser(text, RAW_PARSE_PLPGSQL_EXPR);
	SelectStmt *select = (SelectStmt *) linitial_node(RawStmt, parsed)->stmt;

	if (!IsA(select, SelectStmt) || list_length(select->targetList) != 1 ||
		select->distinctClause != NIL || select->fromClause != NIL || select->whereClause != NULL ||
		select->groupClause != NIL || select->havingClause != NULL || select->windowClause != NIL ||
		select->sortClause != NIL || select->limitOffset != NULL || select->limitCount != NULL ||
		select->lockingClause != NIL || select->withClause != NULL || select->op != SETOP_NONE)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("headers must be one SQL expression"),
				 errhint("For example jsonb_build_object('tenant', tenant).")));
	return linitial_node(ResTarget, select->targetList)->val;
}

/* Refuses what cannot be computed from the row alone. */
static void
check_expression(Node *expr)
{
	const char *what = NULL;

	if (checkExprHasSubLink(expr))
		what = "a sub-query";
	else if (contain_agg_clause(expr))
		what = "an aggregate";
	else if (contain_window_function(expr))
		what = "a window function";
	else if (expression_returns_set(expr))
		what = "a set-returning function";
	if (what != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("the expression for headers contains %s", what),
				 errhint("It is evaluated for each row, from the row alone; put the rest into a function.")));
	if (contain_volatile_functions(expr))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("the expression for headers contains a volatile function"),
				 errhint("Mark your own function STABLE or IMMUTABLE if it is.")));
}

/* The analysed expression, of type jsonb. */
static Expr *
analyze_text(const char *text, Relation rel)
{
	ParseState *pstate = make_parsestate(NULL);
	ParseNamespaceItem *nsitem;
	Node	   *raw = parse_text(text);
	Node	   *expr;
	Oid			type;

	pstate->p_sourcetext = text;
	nsitem = addRangeTableEntryForRelation(pstate, rel, AccessShareLock, NULL, false, false);
	addNSItemToQuery(pstate, nsitem, true, true, true);
	expr = transformExpr(pstate, raw, EXPR_KIND_OTHER);
	check_expression(expr);
	type = exprType(expr);
	expr = coerce_to_target_type(pstate, expr, type, JSONBOID, -1, COERCION_EXPLICIT,
								 COERCE_IMPLICIT_CAST, -1);
	if (expr == NULL || type == TEXTOID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("the expression for headers is of type %s", format_type_be(type)),
				 errhint("It must give jsonb, an object whose values are strings, or something that can be cast to that, as hstore.")));
	assign_expr_collations(pstate, expr);
	free_parsestate(pstate);
	return (Expr *) expr;
}

/* See capture_headers.h. */
KsHeaderExpr *
ks_header_expr_create(const char *text, Relation rel)
{
	KsHeaderExpr *expr = palloc0(sizeof(KsHeaderExpr));
	Expr	   *analysed = analyze_text(text, rel);

	expr->estate = CreateExecutorState();
	expr->state = ExecPrepareExpr(analysed, expr->estate);
	return expr;
}

/* See capture_headers.h. */
void
ks_header_expr_eval(KsHeaderExpr *expr, TupleTableSlot *row, KsRecord *rec)
{
	ExprContext *econtext = GetPerTupleExprContext(expr->estate);
	Datum		value;
	bool		isnull;

	ResetExprContext(econtext);
	econtext->ecxt_scantuple = row;
	value = ExecEvalExprSwitchContext(expr->state, econtext, &isnull);
	if (!isnull)
		ks_out_headers(value, rec);
}

/* See capture_headers.h. */
void
ks_header_expr_free(KsHeaderExpr *expr)
{
	FreeExecutorState(expr->estate);
}
