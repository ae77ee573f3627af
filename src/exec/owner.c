/*
 * owner.c
 *		Running a query's statements as its owner, under its own settings.
 *
 * Runs in: worker or a backend that steps, in a transaction.
 */
#include "postgres.h"

#include "exec/query_exec.h"

/* See query_exec.h. */
void
ks_owner_enter(const KsQueryRow *query, KsOwnerScope *scope)
{
	ks_scope_enter(query->relation, query->settings, scope);
}
