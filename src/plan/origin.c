/*
 * origin.c
 *		Which record a row of a query comes from.
 *
 * On every path of joins one item reads a stream (see analyze.c), so partition
 * and offset of that stream name the record.  They are passed up through
 * sub-selects and UNION ALL.
 *
 * Runs in: worker or any backend, in a transaction.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "catalog/pg_type_d.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parsetree.h"

#include "catalog/stream_def.h"
#include "plan/analyze.h"
#include "plan/origin.h"

static const Oid origin_types[KS_ORIGIN_COLUMNS] = {
	[KS_ORIGIN_STREAM] = REGCLASSOID,
	[KS_ORIGIN_PARTITION] = INT4OID,
	[KS_ORIGIN_OFFSET] = INT8OID
};

static const char *const origin_names[KS_ORIGIN_COLUMNS] = {
	[KS_ORIGIN_STREAM] = "_kstream_stream",
	[KS_ORIGIN_PARTITION] = "_kstream_partition",
	[KS_ORIGIN_OFFSET] = "_kstream_offset"
};

/* Number of the range table entry that reads a stream, or 0: not to be got at. */
static int
find_stream_item(Query *query, Node *node)
{
	if (IsA(node, RangeTblRef))
	{
		int			varno = ((RangeTblRef *) node)->rtindex;
		RangeTblEntry *rte = rt_fetch(varno, query->rtable);

		return ks_reads_stream((Node *) rte) ||
			(rte->rtekind == RTE_SUBQUERY && ks_reads_stream((Node *) rte->subquery)) ? varno : 0;
	}
	if (IsA(node, FromExpr))
	{
		ListCell   *lc;

		foreach(lc, ((FromExpr *) node)->fromlist)
		{
			int			varno = find_stream_item(query, lfirst(lc));

			if (varno > 0)
				return varno;
		}
		return 0;
	}
	else
	{
		JoinExpr   *join = castNode(JoinExpr, node);
		int			varno;

		/* the names below a join with an alias cannot be used above it */
		if (join->alias != NULL)
			return 0;
		varno = find_stream_item(query, join->larg);
		return varno > 0 ? varno : find_stream_item(query, join->rarg);
	}
}

/* The columns of a stream in FROM that name its records. */
static List *
stream_columns(RangeTblEntry *rte, int varno)
{
	KsStreamDef *def = ks_stream_def_of(rte->relid);
	Const	   *stream = makeConst(REGCLASSOID, -1, InvalidOid, sizeof(Oid), ObjectIdGetDatum(rte->relid), false, true);

	return list_make3(stream,
					  makeVar(varno, def->meta[KS_META_PARTITION], INT4OID, -1, InvalidOid, 0),
					  makeVar(varno, def->meta[KS_META_OFFSET], INT8OID, -1, InvalidOid, 0));
}

/* Columns that a sub-select has got at its end. */
static List *
subselect_columns(RangeTblEntry *rte, int varno)
{
	int			width = list_length(rte->subquery->targetList);
	List	   *columns = NIL;

	for (int i = 0; i < KS_ORIGIN_COLUMNS; i++)
	{
		rte->eref->colnames = lappend(rte->eref->colnames, makeString(pstrdup(origin_names[i])));
		columns = lappend(columns, makeVar(varno, width - KS_ORIGIN_COLUMNS + i + 1,
										   origin_types[i], -1, InvalidOid, 0));
	}
	return columns;
}

/* Puts the columns at the end of the select list. */
static void
append_columns(Query *query, List *columns)
{
	int			i = 0;
	ListCell   *lc;

	foreach(lc, columns)
		query->targetList = lappend(query->targetList,
									makeTargetEntry(lfirst(lc), list_length(query->targetList) + 1,
													pstrdup(origin_names[i++]), false));
}

/* Adds the columns to every branch of UNION ALL; *first: varno of the leftmost one. */
static bool
add_to_branches(Query *query, Node *node, int *first)
{
	SetOperationStmt *op;

	if (IsA(node, RangeTblRef))
	{
		int			varno = ((RangeTblRef *) node)->rtindex;
		RangeTblEntry *rte = rt_fetch(varno, query->rtable);

		if (!ks_add_origin(rte->subquery))
			return false;
		(void) subselect_columns(rte, varno);
		if (*first == 0)
			*first = varno;
		return true;
	}
	op = castNode(SetOperationStmt, node);
	if (!add_to_branches(query, op->larg, first) || !add_to_branches(query, op->rarg, first))
		return false;
	for (int i = 0; i < KS_ORIGIN_COLUMNS; i++)
	{
		op->colTypes = lappend_oid(op->colTypes, origin_types[i]);
		op->colTypmods = lappend_int(op->colTypmods, -1);
		op->colCollations = lappend_oid(op->colCollations, InvalidOid);
	}
	return true;
}

/* See origin.h. */
bool
ks_add_origin(Query *query)
{
	List	   *columns = NIL;

	check_stack_depth();
	if (query->setOperations != NULL)
	{
		int			first = 0;
		int			width = list_length(query->targetList);

		if (!add_to_branches(query, query->setOperations, &first))
			return false;
		for (int i = 0; i < KS_ORIGIN_COLUMNS; i++)
			columns = lappend(columns, makeVar(first, width + i + 1, origin_types[i], -1, InvalidOid, 0));
	}
	else
	{
		int			varno = find_stream_item(query, (Node *) query->jointree);
		RangeTblEntry *rte = varno > 0 ? rt_fetch(varno, query->rtable) : NULL;

		if (rte == NULL)
			return false;
		if (rte->rtekind == RTE_SUBQUERY)
		{
			if (!ks_add_origin(rte->subquery))
				return false;
			columns = subselect_columns(rte, varno);
		}
		else if (rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_FOREIGN_TABLE)
			columns = stream_columns(rte, varno);
		else
			return false;
	}
	append_columns(query, columns);
	return true;
}
