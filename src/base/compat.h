/*
 * compat.h
 *		Every difference between the supported PostgreSQL versions (15 to 18).
 *
 * No other file of the tree mentions PG_VERSION_NUM (test/check/ greps for it).
 */
#ifndef KS_COMPAT_H
#define KS_COMPAT_H

#include "postgres.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"				/* VARDATA_ANY and the like; in postgres.h before */
#endif
#if PG_VERSION_NUM >= 160000
#include "parser/parse_relation.h"
#endif

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 190000
#error "kstream supports PostgreSQL 15 to 18"
#endif

/* Prefix of the declaration of a function that does not return. */
#if PG_VERSION_NUM >= 180000
#define ks_noreturn pg_noreturn
#else
#define ks_noreturn __attribute__((noreturn))
#endif

/* ---- exec/ ---- */
#include "access/htup_details.h"

/* heap_form_minimal_tuple without room in front of the tuple, which 18 asks for. */
static inline MinimalTuple
ks_form_minimal_tuple(TupleDesc desc, Datum *values, bool *nulls)
{
#if PG_VERSION_NUM >= 180000
	return heap_form_minimal_tuple(desc, values, nulls, 0);
#else
	return heap_form_minimal_tuple(desc, values, nulls);
#endif
}

/*
 * ks_function_aclcheck(function, user): may the user execute the function?
 * Needs catalog/pg_proc.h and utils/acl.h.
 */
#if PG_VERSION_NUM >= 160000
#define ks_function_aclcheck(function, user) \
	object_aclcheck(ProcedureRelationId, (function), (user), ACL_EXECUTE)
#else
#define ks_function_aclcheck(function, user) \
	pg_proc_aclcheck((function), (user), ACL_EXECUTE)
#endif

/*
 * ks_agg_serialfn_usable(aggref, serialfn): since 16 array_agg has a serialfn,
 * which works only for element types with send and receive functions.  Needs
 * parser/parse_agg.h and utils/fmgroids.h.
 */
#if PG_VERSION_NUM >= 160000
#define ks_agg_serialfn_usable(aggref, serialfn) \
	((serialfn) != F_ARRAY_AGG_SERIALIZE || \
	 agg_args_support_sendreceive((Aggref *) (aggref)))
#else
#define ks_agg_serialfn_usable(aggref, serialfn) true
#endif

#include "utils/rangetypes.h"

/* A range with these bounds; an invalid one is an error. */
static inline RangeType *
ks_make_range(TypeCacheEntry *type, RangeBound *lower, RangeBound *upper)
{
#if PG_VERSION_NUM >= 160000
	return range_serialize(type, lower, upper, false, NULL);
#else
	return range_serialize(type, lower, upper, false);
#endif
}

/* ---- end of exec/ ---- */

/* ---- plan/ ---- */
#include "nodes/parsenodes.h"
#include "nodes/primnodes.h"
#if PG_VERSION_NUM >= 180000
#include "optimizer/optimizer.h"
#include "optimizer/clauses.h"
#endif

/*
 * From 18 on a grouped query's expressions refer to a range table entry of
 * their own; put the grouping expressions back in their place.
 */
static inline void
ks_flatten_group_rte(Query *query)
{
#if PG_VERSION_NUM >= 180000
	if (query->hasGroupRTE)
	{
		ListCell   *lc;

		query->targetList = (List *) flatten_group_exprs(NULL, query, (Node *) query->targetList);
		query->havingQual = flatten_group_exprs(NULL, query, query->havingQual);
		query->hasGroupRTE = false;
		foreach(lc, query->rtable)
		{
			RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

			if (rte->rtekind == RTE_GROUP)
			{
				rte->rtekind = RTE_RESULT;
				rte->groupexprs = NIL;
			}
		}
	}
#endif
}

/* The range table entry is no relation any more. */
static inline void
ks_forget_permissions(RangeTblEntry *rte)
{
#if PG_VERSION_NUM >= 160000
	rte->perminfoindex = 0;
#endif
}

/* As whom, and which columns of it, a relation in the range table is read; InvalidOid: as whoever runs the query. */
static inline Oid
ks_check_as_user(Query *query, RangeTblEntry *rte)
{
#if PG_VERSION_NUM >= 160000
	return rte->perminfoindex == 0 ? InvalidOid : getRTEPermissionInfo(query->rteperminfos, rte)->checkAsUser;
#else
	return rte->checkAsUser;
#endif
}

static inline Bitmapset *
ks_selected_columns(Query *query, RangeTblEntry *rte)
{
#if PG_VERSION_NUM >= 160000
	return rte->perminfoindex == 0 ? NULL : getRTEPermissionInfo(query->rteperminfos, rte)->selectedCols;
#else
	return rte->selectedCols;
#endif
}

/* The Var is looked at on its own, not below the outer joins it came through. */
static inline void
ks_forget_nullingrels(Var *var)
{
#if PG_VERSION_NUM >= 160000
	var->varnullingrels = NULL;
#endif
}
/* ---- end of plan/ ---- */

/* ---- worker/ and base/faultpoint ---- */

/* ks_wait_event_set(n): needs storage/latch.h (17: a resource owner instead of a context). */
#if PG_VERSION_NUM >= 170000
#define ks_wait_event_set(n) CreateWaitEventSet(NULL, (n))
#else
#define ks_wait_event_set(n) CreateWaitEventSet(TopMemoryContext, (n))
#endif

/* ks_owns_database(db): does the current user own it?  Needs utils/acl.h, catalog/pg_database.h. */
#if PG_VERSION_NUM >= 160000
#define ks_owns_database(db) object_ownercheck(DatabaseRelationId, (db), GetUserId())
#else
#define ks_owns_database(db) pg_database_ownercheck((db), GetUserId())
#endif

/* ks_primary_key_index(rel): needs utils/relcache.h. */
#if PG_VERSION_NUM >= 180000
#define ks_primary_key_index(rel) RelationGetPrimaryKeyIndex((rel), false)
#else
#define ks_primary_key_index(rel) RelationGetPrimaryKeyIndex(rel)
#endif

/* ks_name_list(name): a possibly qualified name as a list.  Needs utils/builtins.h or utils/regproc.h. */
#if PG_VERSION_NUM >= 160000
#define ks_name_list(name) stringToQualifiedNameList((name), NULL)
#else
#define ks_name_list(name) stringToQualifiedNameList(name)
#endif

/* Memory for the "extra" of a setting's check hook: must be free-able by guc.c. */
#if PG_VERSION_NUM >= 160000
#define ks_guc_malloc(size) guc_malloc(LOG, (size))
#define ks_guc_free(p) guc_free(p)
#else
#define ks_guc_malloc(size) malloc(size)
#define ks_guc_free(p) free(p)
#endif
/* ---- end of worker/ ---- */

/* ---- store/table_writer ---- */
#include "access/genam.h"
#include "executor/executor.h"
#include "utils/rel.h"

/* Starts an index scan with nkeys keys and no order-by. */
#if PG_VERSION_NUM >= 180000
#define ks_index_beginscan(rel, index, snapshot, nkeys) \
	index_beginscan((rel), (index), (snapshot), NULL, (nkeys), 0)
#else
#define ks_index_beginscan(rel, index, snapshot, nkeys) \
	index_beginscan((rel), (index), (snapshot), (nkeys), 0)
#endif

/* Prepares an EPQ state that no plan stands behind. */
#if PG_VERSION_NUM >= 160000
#define ks_eval_plan_qual_init(epq, estate) EvalPlanQualInit((epq), (estate), NULL, NIL, -1, NIL)
#else
#define ks_eval_plan_qual_init(epq, estate) EvalPlanQualInit((epq), (estate), NULL, NIL, -1)
#endif

/* Index entries for a newly inserted row. */
#if PG_VERSION_NUM >= 160000
#define ks_insert_index_tuples(rri, slot, estate) \
	ExecInsertIndexTuples((rri), (slot), (estate), false, false, NULL, NIL, false)
#else
#define ks_insert_index_tuples(rri, slot, estate) \
	ExecInsertIndexTuples((rri), (slot), (estate), false, false, NULL, NIL)
#endif

/* An executor state whose range table is the one relation to be written. */
static inline EState *
ks_create_estate(Relation rel)
{
	EState	   *estate = CreateExecutorState();
	RangeTblEntry *rte = makeNode(RangeTblEntry);
#if PG_VERSION_NUM >= 160000
	List	   *perminfos = NIL;
#endif

	rte->rtekind = RTE_RELATION;
	rte->relid = RelationGetRelid(rel);
	rte->relkind = rel->rd_rel->relkind;
	rte->rellockmode = RowExclusiveLock;
#if PG_VERSION_NUM >= 180000
	addRTEPermissionInfo(&perminfos, rte);
	ExecInitRangeTable(estate, list_make1(rte), perminfos, bms_make_singleton(1));
#elif PG_VERSION_NUM >= 160000
	addRTEPermissionInfo(&perminfos, rte);
	ExecInitRangeTable(estate, list_make1(rte), perminfos);
#else
	ExecInitRangeTable(estate, list_make1(rte));
#endif
	return estate;
}
/* ---- end of store/table_writer ---- */

/* ---- stream/ ---- */
#include "commands/explain.h"
#if PG_VERSION_NUM >= 180000
#include "commands/explain_format.h"
#include "commands/explain_state.h"
#endif

/* ks_check_enforced(check): is the CHECK constraint (ConstrCheck *) enforced? */
#if PG_VERSION_NUM >= 180000
#define ks_check_enforced(check) ((check)->ccenforced)
#else
#define ks_check_enforced(check) true
#endif
/* ---- end of stream/ ---- */

/* ---- format/ (begin) ---- */

/*
 * Since 16 input functions can report what is wrong with a value without
 * raising an error.
 */
#if PG_VERSION_NUM >= 160000
#include "nodes/miscnodes.h"
#define KS_HAVE_SOFT_ERRORS 1
#else
#define KS_HAVE_SOFT_ERRORS 0
#endif

/* ---- format/ (end) ---- */

#endif							/* KS_COMPAT_H */
