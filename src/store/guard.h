/*
 * guard.h
 *		Keeps everybody but kstream from writing to the tables it maintains.
 *
 * A guard rail, not a wall: the owner of a table can still disable its trigger.
 */
#ifndef KS_GUARD_H
#define KS_GUARD_H

#include "postgres.h"

#define KS_GUARD_TRIGGER "kstream_guard"

/* Puts the statement trigger on a table; replaces one that is there. */
extern void ks_guard_install(Oid relid);

/*
 * Lets SQL of our own write to the table: from begin to end, in the current
 * subtransaction only.  Writes through store/table_writer.c need no pass.
 * An error in between takes the pass away.
 */
extern void ks_guard_pass_begin(Oid relid);
extern void ks_guard_pass_end(void);

#endif							/* KS_GUARD_H */
