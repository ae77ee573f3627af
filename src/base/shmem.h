/*
 * shmem.h
 *		Our part of shared memory: who needs how much, and who fills it.
 *
 * A module registers itself from its init function while the library is being
 * preloaded.  Where the library is not preloaded there is no shared memory of
 * ours: ks_shmem_ready() is false, and every module's pointers stay NULL.
 */
#ifndef KS_SHMEM_H
#define KS_SHMEM_H

#include "postgres.h"
#include "storage/lwlock.h"

/* Our locks, all in the tranche "kstream". */
typedef enum KsLock
{
	KS_LOCK_SLOTS,				/* databases and workers (worker/slots.c) */
	KS_LOCK_STATS,				/* queries and partitions (worker/stats.c) */
	KS_NUM_LOCKS
} KsLock;

typedef Size (*KsShmemSize) (void);
typedef void (*KsShmemInit) (void); /* runs in every process that attaches, under AddinShmemInitLock */

extern void ks_shmem_register(KsShmemSize size, KsShmemInit init);
extern bool ks_shmem_ready(void);
extern LWLock *ks_lock(KsLock which);

extern void ks_shmem_init(void);

#endif							/* KS_SHMEM_H */
