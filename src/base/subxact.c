/*
 * subxact.c
 *		Trying something in a subtransaction; see subxact.h.
 *
 * PG_TRY has to stand in the function that tries, so these are the steps around
 * it.  A KsSubxact does not change after ks_subxact_begin, so that it needs not
 * be volatile.
 *
 * Runs in: any process, in a transaction.
 */
#include "postgres.h"

#include "access/xact.h"

#include "base/subxact.h"

/* See subxact.h. */
void
ks_subxact_begin(KsSubxact *sub)
{
	sub->cxt = CurrentMemoryContext;
	sub->owner = CurrentResourceOwner;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(sub->cxt);
}

/* Makes current again what was before. */
static void
restore(const KsSubxact *sub)
{
	MemoryContextSwitchTo(sub->cxt);
	CurrentResourceOwner = sub->owner;
}

/* See subxact.h. */
void
ks_subxact_commit(const KsSubxact *sub)
{
	ReleaseCurrentSubTransaction();
	restore(sub);
}

/* See subxact.h. */
ErrorData *
ks_subxact_abort(const KsSubxact *sub)
{
	ErrorData  *edata;

	MemoryContextSwitchTo(sub->cxt);
	edata = CopyErrorData();
	FlushErrorState();
	RollbackAndReleaseCurrentSubTransaction();
	restore(sub);
	return edata;
}
