/*
 * compile_stream.c
 *		A row-wise query whose rows go to a stream.
 *
 * The row statement is the stored SELECT with the record that each row comes
 * from (origin.c) beside it, for its key and its time.  Columns of the query named
 * like metadata of a record (_key, _partition, _timestamp, _headers) say what
 * the record is to have; the others are the stream's columns in their order, with
 * the casts of an assignment, as in INSERT ... SELECT.  What belongs to the input's log only (_offset,
 * _stream_time, and _partition as it comes from the input) is passed over, so
 * that SELECT * does what one expects.
 *
 * Runs in: worker or any backend, in a transaction, under the settings pinned
 * with the query.
 */
#include "postgres.h"

#include "access/table.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"

#include "catalog/stream_def.h"
#include "plan/compile.h"
#include "plan/origin.h"

/* The metadata column of that name, or -1. */
static int
meta_by_name(const char *name)
{
	for (int i = 0; i < KS_META_TOMBSTONE; i++)
	{
		if (strcmp(name, ks_meta_name((KsMetaColumn) i)) == 0)
			return i;
	}
	return -1;
}

/* Is the expression the column _partition of a stream, as it is? */
static bool
is_input_partition(Query *query, Expr *expr)
{
	RangeTblEntry *rte;
	Var		   *var = (Var *) expr;

	if (!IsA(expr, Var) || var->varlevelsup > 0 || var->varattno <= 0)
		return false;
	rte = rt_fetch(var->varno, query->rtable);
	if (rte->rtekind == RTE_SUBQUERY)
		return is_input_partition(rte->subquery,
								  list_nth_node(TargetEntry, rte->subquery->targetList, var->varattno - 1)->expr);
	return strcmp(strVal(list_nth(rte->eref->colnames, var->varattno - 1)),
				  ks_meta_name(KS_META_PARTITION)) == 0;
}

/* The next column of the stream that is its own, from *attnum on; 0: there is none. */
static AttrNumber
next_own_column(const KsStreamDef *def, AttrNumber *attnum)
{
	while (*attnum < def->natts)
	{
		const KsColumnDef *column = &def->columns[(*attnum)++];

		if (column->kind == KS_COL_VALUE || column->kind == KS_COL_KEY)
			return column->attnum;
	}
	return 0;
}

/*
 * assignment_cast
 *		What makes the stream's column of a column of the statement, the one at
 *		place: the casts that INSERT would apply, length and domain included; NULL
 *		where none is needed.  SQL text cannot say this: a cast there is an explicit
 *		one, which cuts a text that is too long.
 */
static Expr *
assignment_cast(const KsStreamDef *def, AttrNumber attnum, const TargetEntry *tle, int place)
{
	const KsColumnDef *column = &def->columns[attnum - 1];
	Oid			type = exprType((Node *) tle->expr);
	Var		   *var = makeVar(1, place + 1, type, exprTypmod((Node *) tle->expr),
							  exprCollation((Node *) tle->expr), 0);
	Node	   *cast = coerce_to_target_type(NULL, (Node *) var, type, column->typid, column->typmod,
											 COERCION_ASSIGNMENT, COERCE_IMPLICIT_CAST, -1);

	if (cast == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of stream %s is of type %s but the query gives type %s",
						column->name, def->relname, format_type_be(column->typid), format_type_be(type)),
				 errhint("Cast the expression in the query.")));
	return cast == (Node *) var ? NULL : expression_planner((Expr *) cast);
}

/* Lays out which column goes where; the select list of the statement. */
static char *
plan_columns(KsPlan *plan, Query *query, const KsStreamDef *def)
{
	StringInfoData sql;
	AttrNumber	next = 0;
	ListCell   *lc;

	initStringInfo(&sql);
	plan->attnums = palloc0(sizeof(AttrNumber) * list_length(query->targetList));
	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);
		int			meta = meta_by_name(tle->resname);
		AttrNumber	attnum;

		if (meta == KS_META_OFFSET || meta == KS_META_STREAM_TIME ||
			(meta == KS_META_PARTITION && is_input_partition(query, tle->expr)))
			continue;
		attnum = meta >= 0 ? def->meta[meta] : next_own_column(def, &next);
		if (attnum == 0)
			ereport(ERROR,
					(errcode(ERRCODE_SYNTAX_ERROR),
					 errmsg("the query has more columns than stream %s", def->relname),
					 errhint("Its columns go to the stream's columns in their order.")));
		appendStringInfo(&sql, "%sq.c%d", plan->nout > 0 ? ", " : "", tle->resno);
		plan->casts = lappend(plan->casts, assignment_cast(def, attnum, tle, plan->nout));
		plan->attnums[plan->nout++] = attnum;
	}
	if (next_own_column(def, &next) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("the query has fewer columns than stream %s", def->relname),
				 errhint("Its columns go to the stream's columns in their order; select NULL for one that has no value.")));
	return sql.data;
}

/* Refuses what has no place in a log. */
static void
check_rowwise(KsAnalysis *analysis)
{
	if (analysis->kind != KS_QUERY_APPEND)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("an aggregate is not supported in a query that makes a stream"),
				 errdetail("Its rows change, and the records of a stream do not."),
				 errhint("Use kstream.create_table_as with the argument topic, which publishes the changes of the result.")));
}

/*
 * compile_matches
 *		The row statement of a join of streams.  A match has no record's key, and the
 *		greatest of the records' event times; in the order of these matches leave.
 */
static char *
compile_matches(KsAnalysis *analysis, KsPlan *plan, const char *columns)
{
	int			width = list_length(analysis->query->targetList);
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT %s FROM (%s) q(", columns, pg_get_querydef(copyObject(analysis->query), true));
	for (int i = 1; i <= width; i++)
		appendStringInfo(&sql, "%sc%d", i > 1 ? ", " : "", i);
	appendStringInfoChar(&sql, ')');
	return psprintf("%s\nORDER BY %d", ks_join_compile(analysis->join, ks_join_base(sql.data), plan->join),
					plan->time + 1);
}

/* See compile.h. */
KsPlan *
ks_compile_stream(KsAnalysis *analysis, const KsQueryRow *row)
{
	KsPlan	   *plan = palloc0(sizeof(KsPlan));
	Query	   *query = copyObject(analysis->query);
	Relation	rel = table_open(row->relation, AccessShareLock);
	KsStreamDef *def = ks_stream_def_load(rel);
	int			width = list_length(query->targetList);
	StringInfoData sql;
	char	   *columns;

	table_close(rel, NoLock);
	check_rowwise(analysis);
	plan->kind = KS_QUERY_STREAM;
	columns = plan_columns(plan, query, def);
	plan->wants_time = true;
	plan->origin = plan->time = -1;
	if (analysis->join != NULL)
	{
		ks_compile_join(analysis, row, plan);
		plan->row_sql = compile_matches(analysis, plan, columns);
		return plan;
	}
	plan->wants_origin = true;
	plan->carry_key = def->nkeys == 0 && list_length(analysis->streams) == 1;
	plan->origin = ks_add_origin(query) ? plan->nout : -1;
	plan->record_by_record = plan->origin < 0;
	if (plan->origin < 0)
		query = copyObject(analysis->query);

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT %s", columns);
	for (int i = 0; plan->origin >= 0 && i < KS_ORIGIN_COLUMNS; i++)
		appendStringInfo(&sql, "%sq.c%d", plan->nout + i > 0 ? ", " : "", width + i + 1);
	appendStringInfo(&sql, " FROM (%s) q(", pg_get_querydef(query, true));
	for (int i = 1; i <= width + (plan->origin >= 0 ? KS_ORIGIN_COLUMNS : 0); i++)
		appendStringInfo(&sql, "%sc%d", i > 1 ? ", " : "", i);
	appendStringInfoChar(&sql, ')');
	plan->row_sql = sql.data;
	return plan;
}
