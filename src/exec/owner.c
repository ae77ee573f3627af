/*
 * owner.c
 *		Running a query's statements as its owner, under its own settings.
 *
 * The owner is that of the result relation, so ALTER TABLE ... OWNER carries
 * over.  Settings that give a query its meaning (search_path, TimeZone,
 * DateStyle ...) were pinned when it was created; here they are put in force in
 * a GUC nest level that is always rolled back, so that whatever a function of
 * the owner sets stays inside the batch.
 *
 * SECURITY_RESTRICTED_OPERATION keeps the owner's functions from anything that
 * would outlive the statement and run with the worker's rights.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "exec/query_exec.h"

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

/* See query_exec.h. */
void
ks_owner_enter(const KsQueryRow *query, KsOwnerScope *scope)
{
	Oid			owner = relation_owner(query->relation);
	ListCell   *lc;

	scope->guc_level = NewGUCNestLevel();
	foreach(lc, query->settings)
		apply_setting(lfirst(lc));
	GetUserIdAndSecContext(&scope->userid, &scope->sec_context);
	SetUserIdAndSecContext(owner, scope->sec_context |
						   SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
}

/* See query_exec.h. */
void
ks_owner_leave(const KsOwnerScope *scope)
{
	SetUserIdAndSecContext(scope->userid, scope->sec_context);
	AtEOXact_GUC(false, scope->guc_level);
}
