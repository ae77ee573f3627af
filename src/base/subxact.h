/*
 * subxact.h
 *		Trying something in a subtransaction: what fails there leaves no trace.
 *
 *		ks_subxact_begin(&sub);
 *		PG_TRY();
 *		{
 *			...
 *			ks_subxact_commit(&sub);
 *		}
 *		PG_CATCH();
 *		{
 *			edata = ks_subxact_abort(&sub);
 *		}
 *		PG_END_TRY();
 */
#ifndef KS_SUBXACT_H
#define KS_SUBXACT_H

#include "postgres.h"

#include "utils/resowner.h"

/* What was current before, and is again afterwards. */
typedef struct KsSubxact
{
	MemoryContext cxt;
	ResourceOwner owner;
} KsSubxact;

/* The memory context stays the caller's. */
extern void ks_subxact_begin(KsSubxact *sub);

extern void ks_subxact_commit(const KsSubxact *sub);

/* In PG_CATCH: rolls back and returns the error, in the caller's memory context. */
extern ErrorData *ks_subxact_abort(const KsSubxact *sub);

#endif							/* KS_SUBXACT_H */
