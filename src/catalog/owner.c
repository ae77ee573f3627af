/*
 * owner.c
 *		Running what belongs to a relation as its owner, under settings of its own.
 *
 * The owner is looked up anew, so ALTER TABLE ... OWNER carries over.  Settings
 * that give a query or an expression its meaning (search_path, TimeZone,
 * DateStyle ...) were pinned when it was created; here they are put in force in
 * a GUC nest level that is always rolled back, so that whatever a function of
 * the owner sets stays inside.
 *
 * SECURITY_RESTRICTED_OPERATION keeps the owner's functions from anything that
 * would outlive the statement and run with the rights of others.
 *
 * Runs in: any backend, any worker, in a transaction.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "catalog/owner.h"

/* Owner of a relation. */
static Oid
relation_owner(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid)));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* Puts one "name=value" in force unless it already is. */
static void
apply_setting(const char *setting)
{
	const char *equals = strchr(setting, '=');
	char	   *name;
	const char *now;

	if (equals == NULL)
		return;
	name = pnstrdup(setting, equals - setting);
	now = GetConfigOption(name, true, false);
	if (now == NULL || strcmp(now, equals + 1) != 0)
		(void) set_config_option(name, equals + 1, PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	pfree(name);
}

/* See owner.h. */
void
ks_scope_enter(Oid relation, List *settings, KsOwnerScope *scope)
{
	Oid			owner = relation_owner(relation);
	ListCell   *lc;

	scope->guc_level = NewGUCNestLevel();
	foreach(lc, settings)
		apply_setting(lfirst(lc));
	GetUserIdAndSecContext(&scope->userid, &scope->sec_context);
	SetUserIdAndSecContext(owner, scope->sec_context |
						   SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
}

/* See owner.h. */
bool
ks_scope_in_force(Oid relation, List *settings)
{
	ListCell   *lc;

	if (GetUserId() != relation_owner(relation))
		return false;
	foreach(lc, settings)
	{
		const char *equals = strchr(lfirst(lc), '=');
		const char *now;

		if (equals == NULL)
			continue;
		now = GetConfigOption(pnstrdup(lfirst(lc), equals - (char *) lfirst(lc)), true, false);
		if (now == NULL || strcmp(now, equals + 1) != 0)
			return false;
	}
	return true;
}

/* See owner.h. */
void
ks_owner_leave(const KsOwnerScope *scope)
{
	SetUserIdAndSecContext(scope->userid, scope->sec_context);
	AtEOXact_GUC(false, scope->guc_level);
}
