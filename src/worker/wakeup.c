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
#include "common/hashfn.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/atomics.h"
#include "storage/latch.h"
#include "storage/shmem.h"
#include "worker/slots.h"
#include "worker/stats.h"
#include "worker/wakeup.h"

#define KS_TAKE_OVER_MS 10

/* Versions of logs in shared memory; some logs share one. */
#define KS_LOG_VERSIONS 4096

static pg_atomic_uint32 *log_versions = NULL;
static bool definitions_changed = false;

/* versions_size: of our part of shared memory. */
static Size
versions_size(void)
{
	return sizeof(pg_atomic_uint32) * KS_LOG_VERSIONS;
}

/* versions_init: attaches to it, and fills it the first time. */
static void
versions_init(void)
{
	bool		found;

	log_versions = ShmemInitStruct("kstream log versions", versions_size(), &found);
	for (int i = 0; !found && i < KS_LOG_VERSIONS; i++)
		pg_atomic_init_u32(&log_versions[i], 0);
}

/* version_of: the counter of a log of this database. */
static pg_atomic_uint32 *
version_of(Oid identity)
{
	return &log_versions[hash_combine(murmurhash32(MyDatabaseId), murmurhash32(identity)) % KS_LOG_VERSIONS];
}

/* ks_log_changed: see wakeup.h. */
void
ks_log_changed(Oid identity)
{
	if (ks_shmem_ready())
		pg_atomic_fetch_add_u32(version_of(identity), 1);
}

/* ks_log_version: see wakeup.h. */
uint32
ks_log_version(Oid identity)
{
	return ks_shmem_ready() ? pg_atomic_read_u32(version_of(identity)) : 0;
}

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
	ks_shmem_register(versions_size, versions_init);
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
