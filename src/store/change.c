/*
 * change.c
 *		Those who want to know what changes in a table that kstream maintains.
 *
 * Runs in: worker or a backend that steps, in a transaction.
 */
#include "postgres.h"

#include "store/change.h"

/* See change.h. */
List *
ks_change_listeners(Oid relation)
{
	return NIL;
}

/* See change.h. */
bool
ks_changes_wanted(Oid relation)
{
	return false;
}
