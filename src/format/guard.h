/*
 * guard.h
 *		Calls functions that may raise an error because of what a record holds.
 */
#ifndef KS_GUARD_H
#define KS_GUARD_H

#include "postgres.h"
#include "fmgr.h"
#include "utils/resowner.h"

/*
 * The subtransaction in which such functions run.  If hold is set, it is begun
 * by the first of a record and kept until ks_guard_end, so that many cost no
 * more than one; then all must be in a PG_TRY with ks_guard_rethrow.  Without
 * hold each has its own, and neither is needed.
 */
typedef struct KsGuard
{
	bool		hold;
	bool		used;			/* there was some need of it */
	bool		active;
	ResourceOwner owner;		/* the one before */
} KsGuard;

typedef void (*KsGuarded) (void *arg);

/*
 * Runs function(arg).  If it raises an error that a record can be the reason
 * of, returns false with its SQLSTATE and message (palloc'd); other errors go on.
 */
extern bool ks_guard_run(KsGuard *guard, KsGuarded function, void *arg,
						 int *sqlstate, char **message);

/*
 * Calls an input function the same way, without a subtransaction if trusted
 * says that it reports errors softly and the server can do that.
 */
extern bool ks_guard_input(KsGuard *guard, FmgrInfo *input, char *str, Oid ioparam,
						   int32 typmod, bool trusted, Datum *result,
						   int *sqlstate, char **message);

/* Ends the subtransaction, if there is one. */
extern void ks_guard_end(KsGuard *guard);

/*
 * To be called in PG_CATCH around all of the above: rolls the subtransaction
 * back, if there is one, and raises the error again.
 */
extern void ks_guard_rethrow(KsGuard *guard);

#endif							/* KS_GUARD_H */
