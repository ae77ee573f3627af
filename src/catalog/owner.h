/*
 * owner.h
 *		Running what belongs to a relation as its owner, under settings of its own.
 */
#ifndef KS_OWNER_H
#define KS_OWNER_H

#include "postgres.h"
#include "nodes/pg_list.h"

typedef struct KsOwnerScope
{
	Oid			userid;
	int			sec_context;
	int			guc_level;
} KsOwnerScope;

/*
 * From here on, until ks_owner_leave, the owner of the relation is the current
 * user, in a security-restricted operation, and the settings ("name=value") are
 * in force.  After an error the (sub)transaction's abort restores both.
 */
extern void ks_scope_enter(Oid relation, List *settings, KsOwnerScope *scope);
/* Would that change nothing? */
extern bool ks_scope_in_force(Oid relation, List *settings);
extern void ks_owner_leave(const KsOwnerScope *scope);

#endif							/* KS_OWNER_H */
