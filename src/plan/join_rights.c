/*
 * join_rights.c
 *		Whose rights count in a join of streams.
 *
 * A view is read with the rights of its owner, unless it is one with
 * security_invoker.  But in a join of streams a view that reads one is put in its
 * place, and what is below is read as the query's owner; and of each stream all
 * columns are read.  Where that makes a difference, the query is refused when it
 * is created.
 *
 * Runs in: the backend that creates the query, as its owner.
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"

#include "base/compat.h"
#include "catalog/stream_def.h"
#include "plan/join.h"

/* May the user read these columns (numbered as Postgres does in sets) of the relation? */
static bool
may_read(Oid relid, Oid user, const Bitmapset *columns)
{
	int			column = -1;

	if (pg_class_aclcheck(relid, user, ACL_SELECT) == ACLCHECK_OK)
		return true;
	if (columns == NULL)
		return pg_attribute_aclcheck_all(relid, user, ACL_SELECT, ACLMASK_ANY) == ACLCHECK_OK;
	while ((column = bms_next_member(columns, column)) >= 0)
	{
		AttrNumber	attnum = column + FirstLowInvalidHeapAttributeNumber;

		if ((attnum == InvalidAttrNumber ? pg_attribute_aclcheck_all(relid, user, ACL_SELECT, ACLMASK_ALL) :
			 pg_attribute_aclcheck(relid, attnum, user, ACL_SELECT)) != ACLCHECK_OK)
			return false;
	}
	return true;
}

/* Refuses a relation that the owner of the query may not read. */
static void
refuse_relation(Oid relid)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("a join of streams over \"%s\", which role \"%s\" may not read as a whole, is not supported in a continuous query",
					get_rel_name(relid), GetUserNameFromId(GetUserId(), false)),
			 errdetail("A join of streams reads what is below its views with the rights of the query's owner, and all columns of its streams."),
			 errhint("Grant SELECT on \"%s\", or let the owner of the view create the query.", get_rel_name(relid))));
}

/* A relation that the query reads. */
static void
check_entry(Query *query, RangeTblEntry *rte)
{
	Oid			user = GetUserId();
	Oid			read_as = ks_check_as_user(query, rte);

	if (rte->relkind == RELKIND_FOREIGN_TABLE && ks_is_stream(rte->relid))
	{
		if (pg_class_aclcheck(rte->relid, user, ACL_SELECT) != ACLCHECK_OK &&
			pg_attribute_aclcheck_all(rte->relid, user, ACL_SELECT, ACLMASK_ALL) != ACLCHECK_OK)
			refuse_relation(rte->relid);
		return;
	}
	if (!OidIsValid(read_as) || read_as == user)
		return;
	if (!may_read(rte->relid, user, ks_selected_columns(query, rte)))
		refuse_relation(rte->relid);
	if (check_enable_rls(rte->relid, user, true) != RLS_NONE || check_enable_rls(rte->relid, read_as, true) != RLS_NONE)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a join of streams over a view of another owner on \"%s\", which has row-level security, is not supported in a continuous query",
						get_rel_name(rte->relid)),
				 errdetail("A join of streams reads what is below its views with the rights of the query's owner, so other rows would be seen."),
				 errhint("Join \"%s\" outside of the view, or let the owner of the view create the query.", get_rel_name(rte->relid))));
}

/* Walker over all levels of the query. */
static bool
check_levels(Node *node, void *context)
{
	ListCell   *lc;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, check_levels, context);
	foreach(lc, ((Query *) node)->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (rte->rtekind == RTE_RELATION && rte->inFromCl)
			check_entry((Query *) node, rte);
	}
	return query_tree_walker((Query *) node, check_levels, context, 0);
}

/* See join.h. */
void
ks_join_check_rights(const KsJoin *join)
{
	(void) check_levels((Node *) join->query, NULL);
}
