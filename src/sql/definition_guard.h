/*
 * definition_guard.h
 *		What must not change of a view or stream while a query reads a stream by it.
 */
#ifndef KS_DEFINITION_GUARD_H
#define KS_DEFINITION_GUARD_H

#include "postgres.h"
#include "nodes/nodes.h"

/* Before a command: remembers, and locks, what it will change. */
extern void ks_definitions_before(Node *parsetree);

/* After it: raises an error if it has given a view another query that does not suit those that read it. */
extern void ks_definitions_after(Node *parsetree);

/* Has the queries that read or keep the relation opened anew once this transaction has committed. */
extern void ks_definitions_reopen(Oid relid);

#endif							/* KS_DEFINITION_GUARD_H */
