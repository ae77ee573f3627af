/*
 * kstream.c
 *		Entry point of the library: initialises the modules in the order of their layers.
 *
 * Loaded by shared_preload_libraries, which makes workers possible, or on first
 * use in a session, where everything that needs no worker works as well.
 */
#include "postgres.h"

#include "base/faultpoint.h"
#include "base/guc.h"
#include "base/shmem.h"
#include "fmgr.h"
#include "sql/unsent.h"
#include "stream/log_commit.h"
#include "worker/dbhooks.h"
#include "worker/crashes.h"
#include "worker/launcher.h"
#include "worker/slots.h"
#include "worker/stats.h"
#include "worker/wakeup.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

/* _PG_init: called once per process that loads the library. */
void
_PG_init(void)
{
	ks_guc_init();
	ks_fault_init();
	ks_guc_reserve();
	ks_shmem_init();
	ks_log_commit_init();
	ks_slots_init();
	ks_stats_init();
	ks_wakeup_init();
	ks_dbhooks_init();
	ks_unsent_init();
	ks_crashes_init();
	ks_launcher_init();
}
