/*
 * shmem.c
 *		Our part of shared memory: who needs how much, and who fills it.
 *
 * Works only from shared_preload_libraries; see shmem.h for the rules.
 */
#include "postgres.h"

#include "base/shmem.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

#define KS_MAX_SHMEM_MODULES 8

typedef struct KsShmemModule
{
	KsShmemSize size;
	KsShmemInit init;
} KsShmemModule;

static KsShmemModule modules[KS_MAX_SHMEM_MODULES];
static int	nmodules = 0;
static LWLockPadded *locks = NULL;
static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

/* ks_shmem_register: a module says what it needs; ignored without preload. */
void
ks_shmem_register(KsShmemSize size, KsShmemInit init)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	Assert(nmodules < KS_MAX_SHMEM_MODULES);
	modules[nmodules].size = size;
	modules[nmodules].init = init;
	nmodules++;
}

/* request_shmem: asks for the sum of what the modules need, and for the locks. */
static void
request_shmem(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	for (int i = 0; i < nmodules; i++)
		RequestAddinShmemSpace(modules[i].size());
	RequestNamedLWLockTranche("kstream", KS_NUM_LOCKS);
}

/* startup_shmem: finds or fills each module's memory. */
static void
startup_shmem(void)
{
	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	for (int i = 0; i < nmodules; i++)
		modules[i].init();
	locks = GetNamedLWLockTranche("kstream");
	LWLockRelease(AddinShmemInitLock);
}

/* ks_shmem_ready: true if this process can see our shared memory. */
bool
ks_shmem_ready(void)
{
	return locks != NULL;
}

/* ks_lock: one of our locks; only where ks_shmem_ready(). */
LWLock *
ks_lock(KsLock which)
{
	Assert(locks != NULL);
	return &locks[which].lock;
}

/* ks_shmem_init: installs the hooks; before any module registers itself. */
void
ks_shmem_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
}
