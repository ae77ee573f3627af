/*
 * wakeup.c
 *		Telling workers that there is something to do.
 *
 * A change of definitions is made known after its transaction has committed,
 * because a worker that looks earlier would see nothing.
 */
#include "postgres.h"

#include "access/xact.h"
#include "base/shmem.h"
#include "catalog/query_cat.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "worker/slots.h"
#include "worker/stats.h"
#include "worker/wakeup.h"

#define KS_TAKE_OVER_MS 10

static bool definitions_changed = false;

/* at_end_of_transaction: makes a change known, or forgets it. */
static void
at_end_of_transaction(XactEvent event, void *arg)
{
	if (!definitions_changed)
		return;
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			definitions_changed = false;
			ks_signal_definitions(MyDatabaseId);
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:	/* dbhooks.c sees COMMIT PREPARED */
			definitions_changed = false;
			break;
		default:
			break;
	}
}

/* ks_wakeup_init: registers the transaction callback. */
void
ks_wakeup_init(void)
{
	RegisterXactCallback(at_end_of_transaction, NULL);
}

/* ks_notify_definitions_changed: workers reload definitions when this transaction has committed. */
void
ks_notify_definitions_changed(void)
{
	if (ks_shmem_ready())
		definitions_changed = true;
}

/* ks_notify_local_records: workers look at local logs again, now. */
void
ks_notify_local_records(void)
{
	if (ks_shmem_ready())
		ks_signal_local_records(MyDatabaseId);
}

/* ks_workers_possible: was the library preloaded? */
bool
ks_workers_possible(void)
{
	return ks_shmem_ready();
}

/* ks_query_take_over: see wakeup.h. */
void
ks_query_take_over(int32 query)
{
	while (!ks_query_lock(query, false, false))
	{
		if (ks_stat_want_release(query) != 0)
			ks_signal_release(MyDatabaseId);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 KS_TAKE_OVER_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	ks_stat_release_done(query);
}
