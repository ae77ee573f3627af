/*
 * fdw.c
 *		The foreign data wrapper "kstream": handler, planning of scans, EXPLAIN.
 *
 * The same scan shows one of two things, decided when it starts (fdw_scan.c):
 * the rows of the micro-batch at hand, inside a worker or a step; or a bounded
 * read of the log, anywhere else.  Planning is the same for both.  It works out
 * the columns that are read (BeginForeignScan cannot: the target list of the
 * plan may be the whole physical row) and the conditions on _partition, _offset
 * and _timestamp that narrow a bounded read.
 *
 * A scan is never parallel safe: batches and clients belong to one process.  What
 * else there is in the plan runs without parallel workers, too (fdw_scan.c).
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "foreign/fdwapi.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/planmain.h"
#include "optimizer/restrictinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/typcache.h"

#include "base/compat.h"
#include "stream/batch.h"
#include "stream/fdw.h"
#include "stream/fdw_modify.h"
#include "stream/fdw_scan.h"
#include "stream/local_log.h"

/* Rows guessed for a topic: nobody is asked while planning. */
#define GUESSED_TOPIC_ROWS	100000.0

/* Cost of opening a client and asking for the ends of the partitions. */
#define TOPIC_STARTUP_COST	1000.0

PG_FUNCTION_INFO_V1(ks_fdw_handler);

static void get_rel_size(PlannerInfo *root, RelOptInfo *rel, Oid relid);
static void get_paths(PlannerInfo *root, RelOptInfo *rel, Oid relid);
static ForeignScan *get_plan(PlannerInfo *root, RelOptInfo *rel, Oid relid, ForeignPath *path,
							 List *tlist, List *clauses, Plan *outer_plan);
static double expected_rows(Oid relid);
static List *columns_read(RelOptInfo *rel);
static List *push_quals(PlannerInfo *root, Oid relid, RelOptInfo *rel, List *clauses,
						List **exprs, List **labels);
static bool match_qual(PlannerInfo *root, const KsStreamDef *def, Index relid, Node *clause,
					   KsPushedQual *qual, Node **value);
static bool match_op(const KsStreamDef *def, Index relid, OpExpr *op,
					 KsPushedQual *qual, Node **value);
static bool match_array_op(const KsStreamDef *def, Index relid, ScalarArrayOpExpr *op,
						   KsPushedQual *qual, Node **value);
static bool match_column(const KsStreamDef *def, Index relid, Node *node, KsMetaColumn *column);
static bool match_operator(Oid opno, KsPushedQual *qual);
static bool has_exec_param(Node *node, void *context);
static char *qual_label(PlannerInfo *root, const KsPushedQual *qual, Node *value);
static void explain_scan(ForeignScanState *node, ExplainState *es);


/* The handler function of the wrapper. */
Datum
ks_fdw_handler(PG_FUNCTION_ARGS)
{
	FdwRoutine *routine = makeNode(FdwRoutine);

	routine->GetForeignRelSize = get_rel_size;
	routine->GetForeignPaths = get_paths;
	routine->GetForeignPlan = get_plan;
	routine->BeginForeignScan = ks_begin_foreign_scan;
	routine->IterateForeignScan = ks_iterate_foreign_scan;
	routine->ReScanForeignScan = ks_rescan_foreign_scan;
	routine->EndForeignScan = ks_end_foreign_scan;
	routine->ExplainForeignScan = explain_scan;

	routine->AddForeignUpdateTargets = ks_add_foreign_update_targets;
	routine->PlanForeignModify = ks_plan_foreign_modify;
	routine->BeginForeignModify = ks_begin_foreign_modify;
	routine->BeginForeignInsert = ks_begin_foreign_insert;
	routine->ExecForeignInsert = ks_exec_foreign_insert;
	routine->EndForeignModify = ks_end_foreign_modify;
	routine->EndForeignInsert = ks_end_foreign_modify;
	routine->IsForeignRelUpdatable = ks_is_foreign_rel_updatable;
	routine->ExecForeignTruncate = ks_exec_foreign_truncate;

	PG_RETURN_POINTER(routine);
}

/* Sets the number of rows the scan is planned for. */
static void
get_rel_size(PlannerInfo *root, RelOptInfo *rel, Oid relid)
{
	rel->tuples = expected_rows(relid);
	rel->rows = clamp_row_est(rel->tuples *
							  clauselist_selectivity(root, rel->baserestrictinfo, 0, JOIN_INNER, NULL));
}

/*
 * Rows of a scan: of the class of batch sizes that is planned for, of the batch
 * shown, or of the log.
 */
static double
expected_rows(Oid relid)
{
	KsBatch    *batch;

	if (ks_batch_planned_rows > 0)
		return ks_batch_planned_rows;
	batch = ks_batch_shown(relid);
	if (batch != NULL)
		return Max(batch->last - batch->first, 1);
	if (ks_local_log_exists(relid))
		return ks_local_log_estimate(relid);
	return GUESSED_TOPIC_ROWS;
}

/* There is one way to scan a stream. */
static void
get_paths(PlannerInfo *root, RelOptInfo *rel, Oid relid)
{
	ForeignPath *path = makeNode(ForeignPath);
	Cost		startup = rel->baserestrictcost.startup + rel->reltarget->cost.startup;

	if (ks_batch_planned_rows <= 0 && !ks_batches_active())
		startup += ks_local_log_exists(relid) ? 0 : TOPIC_STARTUP_COST;

	path->path.pathtype = T_ForeignScan;
	path->path.parent = rel;
	path->path.pathtarget = rel->reltarget;
	path->path.param_info = get_baserel_parampathinfo(root, rel, rel->lateral_relids);
	path->path.rows = path->path.param_info ? path->path.param_info->ppi_rows : rel->rows;
	path->path.startup_cost = startup;
	path->path.total_cost = startup + rel->tuples * (cpu_tuple_cost + rel->baserestrictcost.per_tuple) +
		path->path.rows * rel->reltarget->cost.per_tuple;
	add_path(rel, &path->path);
}

/* Makes the plan node with what execution needs to know. */
static ForeignScan *
get_plan(PlannerInfo *root, RelOptInfo *rel, Oid relid, ForeignPath *path,
		 List *tlist, List *clauses, Plan *outer_plan)
{
	List	   *exprs = NIL;
	List	   *labels = NIL;
	List	   *quals;

	clauses = extract_actual_clauses(clauses, false);
	quals = push_quals(root, relid, rel, clauses, &exprs, &labels);
	return make_foreignscan(tlist, clauses, rel->relid, exprs,
							list_make3(columns_read(rel), quals, labels),
							NIL, NIL, outer_plan);
}

/* Attribute numbers that the scan must fill; 0 among them stands for the whole row. */
static List *
columns_read(RelOptInfo *rel)
{
	Bitmapset  *attrs = NULL;
	List	   *columns = NIL;
	ListCell   *lc;
	int			member = -1;

	pull_varattnos((Node *) rel->reltarget->exprs, rel->relid, &attrs);
	foreach(lc, rel->baserestrictinfo)
		pull_varattnos((Node *) lfirst_node(RestrictInfo, lc)->clause, rel->relid, &attrs);

	while ((member = bms_next_member(attrs, member)) >= 0)
	{
		AttrNumber	attnum = member + FirstLowInvalidHeapAttributeNumber;

		if (attnum >= 0)
			columns = lappend_int(columns, attnum);
	}
	return columns;
}

/* ---------------------------------------------------------------- conditions */

/* The conditions that narrow a bounded read: coded list, value expressions, labels. */
static List *
push_quals(PlannerInfo *root, Oid relid, RelOptInfo *rel, List *clauses,
		   List **exprs, List **labels)
{
	KsStreamDef *def = NULL;
	List	   *coded = NIL;
	ListCell   *lc;

	foreach(lc, clauses)
	{
		KsPushedQual qual;
		Node	   *value;

		if (def == NULL)
		{
			Relation	relation = table_open(relid, NoLock);

			def = ks_stream_def_load(relation);
			table_close(relation, NoLock);
		}
		if (!match_qual(root, def, rel->relid, lfirst(lc), &qual, &value))
			continue;
		coded = lappend_int(coded, qual.column);
		coded = lappend_int(coded, qual.strategy);
		coded = lappend_int(coded, qual.array);
		coded = lappend_int(coded, (int) qual.typid);
		*exprs = lappend(*exprs, value);
		*labels = lappend(*labels, makeString(qual_label(root, &qual, value)));
	}
	return coded;
}

/* Recognises a condition; sets what it is and the expression of its value. */
static bool
match_qual(PlannerInfo *root, const KsStreamDef *def, Index relid, Node *clause,
		   KsPushedQual *qual, Node **value)
{
	bool		matched = false;

	if (IsA(clause, OpExpr))
		matched = match_op(def, relid, (OpExpr *) clause, qual, value);
	else if (IsA(clause, ScalarArrayOpExpr))
		matched = match_array_op(def, relid, (ScalarArrayOpExpr *) clause, qual, value);
	if (!matched)
		return false;

	/* the value is computed once, before the scan: of nothing the scan returns */
	return !bms_is_member(relid, pull_varnos(root, *value)) &&
		!contain_volatile_functions(*value) &&
		!contain_subplans(*value);
}

/* column op value, or the other way round */
static bool
match_op(const KsStreamDef *def, Index relid, OpExpr *op, KsPushedQual *qual, Node **value)
{
	Node	   *left;
	Node	   *right;
	Oid			opno = op->opno;

	if (list_length(op->args) != 2)
		return false;
	left = linitial(op->args);
	right = lsecond(op->args);
	if (!match_column(def, relid, left, &qual->column))
	{
		Node	   *swap = left;

		left = right;
		right = swap;
		opno = get_commutator(opno);
		if (!OidIsValid(opno) || !match_column(def, relid, left, &qual->column))
			return false;
	}
	qual->array = false;
	qual->typid = exprType(right);
	*value = right;
	return match_operator(opno, qual);
}

/* _partition = ANY (array) */
static bool
match_array_op(const KsStreamDef *def, Index relid, ScalarArrayOpExpr *op, KsPushedQual *qual, Node **value)
{
	if (!op->useOr || !match_column(def, relid, linitial(op->args), &qual->column) ||
		qual->column != KS_META_PARTITION || !match_operator(op->opno, qual) ||
		qual->strategy != BTEqualStrategyNumber)
		return false;
	*value = lsecond(op->args);
	qual->array = true;
	qual->typid = get_element_type(exprType(*value));
	return qual->typid == INT2OID || qual->typid == INT4OID || qual->typid == INT8OID;
}

/* True if the node is one of the columns that conditions narrow. */
static bool
match_column(const KsStreamDef *def, Index relid, Node *node, KsMetaColumn *column)
{
	Var		   *var = (Var *) node;

	if (!IsA(node, Var) || var->varno != relid || var->varlevelsup != 0 || var->varattno <= 0)
		return false;
	if (var->varattno == def->meta[KS_META_PARTITION])
		*column = KS_META_PARTITION;
	else if (var->varattno == def->meta[KS_META_OFFSET])
		*column = KS_META_OFFSET;
	else if (var->varattno == def->meta[KS_META_TIMESTAMP])
		*column = KS_META_TIMESTAMP;
	else
		return false;
	return true;
}

/* True if the operator is an ordering comparison of the column's type family. */
static bool
match_operator(Oid opno, KsPushedQual *qual)
{
	Oid			typid = qual->column == KS_META_TIMESTAMP ? TIMESTAMPTZOID : INT8OID;

	TypeCacheEntry *type = lookup_type_cache(typid, TYPECACHE_BTREE_OPFAMILY);

	qual->strategy = get_op_opfamily_strategy(opno, type->btree_opf);
	return qual->strategy != 0;
}

/* True if the expression holds a value computed by another part of the plan. */
static bool
has_exec_param(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Param))
		return ((Param *) node)->paramkind != PARAM_EXTERN;
	return expression_tree_walker(node, has_exec_param, context);
}

/* Text of a condition for EXPLAIN. */
static char *
qual_label(PlannerInfo *root, const KsPushedQual *qual, Node *value)
{
	static const char *const operators[] = {"", "<", "<=", "=", ">=", ">"};
	char	   *text;

	/* values of other relations and plans cannot be spelled without their plan */
	if (!bms_is_empty(pull_varnos(root, value)) || has_exec_param(value, NULL))
		text = pstrdup("...");
	else
		text = deparse_expression(value, NIL, false, false);
	if (qual->array)
		return psprintf("%s = ANY (%s)", ks_meta_name(qual->column), text);
	return psprintf("%s %s %s", ks_meta_name(qual->column), operators[qual->strategy], text);
}

/* ---------------------------------------------------------------- private data */

/* See fdw.h. */
bool *
ks_private_columns(List *fdw_private, int natts)
{
	bool	   *wanted = palloc0(sizeof(bool) * Max(natts, 1));
	ListCell   *lc;

	foreach(lc, (List *) list_nth(fdw_private, KS_PRIVATE_COLUMNS))
	{
		int			attnum = lfirst_int(lc);

		if (attnum == InvalidAttrNumber)
			memset(wanted, true, sizeof(bool) * natts);
		else
			wanted[attnum - 1] = true;
	}
	return wanted;
}

/* See fdw.h. */
KsPushedQual *
ks_private_quals(List *fdw_private, int *nquals)
{
	List	   *coded = list_nth(fdw_private, KS_PRIVATE_QUALS);
	KsPushedQual *quals;

	*nquals = list_length(coded) / 4;
	quals = palloc(sizeof(KsPushedQual) * Max(*nquals, 1));
	for (int i = 0; i < *nquals; i++)
	{
		quals[i].column = list_nth_int(coded, i * 4);
		quals[i].strategy = list_nth_int(coded, i * 4 + 1);
		quals[i].array = list_nth_int(coded, i * 4 + 2);
		quals[i].typid = (Oid) list_nth_int(coded, i * 4 + 3);
	}
	return quals;
}

/* Shows what is read and from where. */
static void
explain_scan(ForeignScanState *node, ExplainState *es)
{
	ForeignScan *plan = castNode(ForeignScan, node->ss.ps.plan);
	List	   *labels = list_nth(plan->fdw_private, KS_PRIVATE_LABELS);
	KsStreamDef *def = ks_stream_def_load(node->ss.ss_currentRelation);
	KsBatch    *batch = ks_batch_shown(def->relid);

	if (def->local)
		ExplainPropertyText("Log", ks_local_log_name(def->relid), es);
	else
		ExplainPropertyText("Topic", def->topic, es);
	if (batch != NULL)
		ExplainPropertyInteger("Batch Rows", NULL, batch->last - batch->first, es);
	else if (labels != NIL)
	{
		StringInfoData buf;
		ListCell   *lc;

		initStringInfo(&buf);
		foreach(lc, labels)
			appendStringInfo(&buf, "%s%s", buf.len > 0 ? ", " : "", strVal(lfirst(lc)));
		ExplainPropertyText("Range", buf.data, es);
	}
}
