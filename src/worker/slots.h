/*
 * slots.h
 *		Databases and workers in shared memory: who should run, who runs.
 *
 * Vocabulary: the launcher starts workers; a database slot says how many
 * workers its database wants; a worker slot is one of them, from the request to
 * start it until it has left.
 */
#ifndef KS_SLOTS_H
#define KS_SLOTS_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "storage/condition_variable.h"

/* How a worker left; decides when the next one may start. */
typedef enum KsExitKind
{
	KS_EXIT_DONE,				/* nothing to do, or asked to stop: no delay */
	KS_EXIT_TERMINATED,			/* pg_terminate_backend: a short one */
	KS_EXIT_FAILED				/* error, or never arrived: backoff */
} KsExitKind;

/* What a new worker was told when it was started; fits bgw_extra. */
typedef struct KsWorkerTicket
{
	int			slot;
	uint32		generation;
	Oid			database;
} KsWorkerTicket;

/* Counters a worker compares with what it saw last. */
typedef struct KsSignals
{
	uint64		definitions;
	uint64		local_records;
} KsSignals;

extern void ks_slots_init(void);

/* Launcher. */
extern bool ks_launcher_attach(void);
extern void ks_launcher_detach(void);
extern void ks_database_probe(Oid database);
extern void ks_database_forget(Oid database);
extern bool ks_next_launch(KsWorkerTicket *ticket, TimestampTz now, TimestampTz *next);
extern void ks_launch_failed(const KsWorkerTicket *ticket, KsExitKind how);
extern bool ks_worker_slot_waiting(const KsWorkerTicket *ticket);
extern void ks_worker_slots_collect(TimestampTz older_than);
extern void ks_workers_stop(Oid database);

/* Worker. */
extern bool ks_worker_attach(const KsWorkerTicket *ticket);
extern void ks_worker_detach(KsExitKind how);
extern bool ks_worker_leave(uint64 definitions_seen);
extern void ks_worker_wants(int nworkers, int *nlive, int *my_rank);
extern void ks_worker_succeeded(void);
extern KsSignals ks_worker_signals(void);
extern void ks_worker_progress(void);
extern void ks_worker_pool_changed(void);

/* Sessions. */
extern void ks_signal_definitions(Oid database);
extern void ks_signal_local_records(Oid database);
extern void ks_signal_release(Oid database);
extern bool ks_database_hold(Oid database);
extern void ks_database_release(Oid database);
extern int	ks_database_workers(Oid database);
extern ConditionVariable *ks_progress_cv(Oid database);

#endif							/* KS_SLOTS_H */
