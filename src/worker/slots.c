/*
 * slots.c
 *		Databases and workers in shared memory: who should run, who runs.
 *
 * The launcher reserves a worker slot, registers a background worker and gives
 * it a ticket: slot number, generation, database.  The worker attaches with the
 * ticket before it connects to anything; a ticket that is out of date (the slot
 * was collected and used again) makes it leave.  When it leaves it frees the
 * slot itself, however it dies; a worker that never arrived is found by the
 * launcher through its handle, and after a launcher restart by age.
 *
 * A database slot exists for each database that may have queries.  needs_worker
 * is set by the launcher's first look and by every change of definitions; a
 * worker that finds nothing to run clears it, but only if no definition changed
 * after it looked.  A session that runs DDL for which nobody may be connected
 * holds the database: its workers are asked to leave and none is started until
 * the hold is released.
 *
 * Everything is protected by KS_LOCK_SLOTS, except the counter of local records
 * and the condition variable.
 */
#include "postgres.h"

#include <signal.h>

#include "base/clock.h"
#include "base/shmem.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"
#include "worker/slots.h"

#define KS_MAX_DATABASES 256
#define KS_MAX_PROBES 2			/* first looks into databases at the same time */
#define KS_MAX_HOLDS 8
#define KS_RELAUNCH_MS 500
#define KS_BACKOFF_MAX_MS 60000
#define KS_FORGET_PAUSE_MS 10000	/* until a database with workers that nobody may connect to is looked at again */

typedef struct KsDatabaseSlot
{
	Oid			dboid;			/* InvalidOid: free */
	bool		needs_worker;	/* somebody has to look for queries */
	bool		confirmed;		/* a worker has found queries */
	int			wanted;			/* workers, as a worker of the database decided */
	int			holds;			/* sessions running DDL that needs us away */
	int			failures;		/* workers that failed in a row */
	TimestampTz next_start;
	uint64		definitions;	/* raised by changes of definitions and of the pool */
	pg_atomic_uint64 local_records;
	ConditionVariable progress; /* a batch of the database was committed */
} KsDatabaseSlot;

typedef enum KsSlotState
{
	KS_SLOT_FREE,				/* next: STARTING */
	KS_SLOT_STARTING,			/* next: ATTACHED, or FREE if it never arrives */
	KS_SLOT_ATTACHED			/* next: FREE */
} KsSlotState;

typedef struct KsWorkerSlot
{
	KsSlotState state;
	uint32		generation;
	Oid			dboid;
	int			pid;			/* ATTACHED */
	PGPROC	   *proc;			/* ATTACHED */
	TimestampTz launched_at;
} KsWorkerSlot;

typedef struct KsControl
{
	PGPROC	   *launcher;
	int			nworkers;
	KsDatabaseSlot databases[KS_MAX_DATABASES];
	KsWorkerSlot workers[FLEXIBLE_ARRAY_MEMBER];
} KsControl;

static KsControl *control = NULL;
static KsWorkerSlot *my_slot = NULL;
static KsDatabaseSlot *my_database = NULL;
static Oid	my_holds[KS_MAX_HOLDS];
static int	my_nholds = 0;

/* control_size: a worker slot for every background worker there can be. */
static Size
control_size(void)
{
	return add_size(offsetof(KsControl, workers),
					mul_size(max_worker_processes, sizeof(KsWorkerSlot)));
}

/* control_init: finds or fills the memory. */
static void
control_init(void)
{
	bool		found;

	control = ShmemInitStruct("kstream workers", control_size(), &found);
	if (found)
		return;
	memset(control, 0, control_size());
	control->nworkers = max_worker_processes;
	for (int i = 0; i < KS_MAX_DATABASES; i++)
	{
		pg_atomic_init_u64(&control->databases[i].local_records, 0);
		ConditionVariableInit(&control->databases[i].progress);
	}
}

/* ks_slots_init: asks for the memory. */
void
ks_slots_init(void)
{
	ks_shmem_register(control_size, control_init);
}

/* find_database: its slot, made if wanted; NULL if there is none. */
static KsDatabaseSlot *
find_database(Oid dboid, bool create)
{
	KsDatabaseSlot *unused = NULL;

	for (int i = 0; i < KS_MAX_DATABASES; i++)
	{
		KsDatabaseSlot *db = &control->databases[i];

		if (db->dboid == dboid)
			return db;
		if (unused == NULL && !OidIsValid(db->dboid))
			unused = db;
	}
	if (!create || unused == NULL)
		return NULL;
	unused->dboid = dboid;
	unused->needs_worker = false;
	unused->confirmed = false;
	unused->wanted = 0;
	unused->holds = 0;
	unused->failures = 0;
	unused->next_start = 0;
	return unused;
}

/* wake_launcher: it has something to look at. */
static void
wake_launcher(void)
{
	if (control->launcher != NULL)
		SetLatch(&control->launcher->procLatch);
}

/* wake_workers: all workers of the database. */
static void
wake_workers(Oid dboid)
{
	for (int i = 0; i < control->nworkers; i++)
	{
		KsWorkerSlot *slot = &control->workers[i];

		if (slot->state == KS_SLOT_ATTACHED && slot->dboid == dboid)
			SetLatch(&slot->proc->procLatch);
	}
}

/* count_workers: slots of the database in use, those on their way included. */
static int
count_workers(Oid dboid)
{
	int			n = 0;

	for (int i = 0; i < control->nworkers; i++)
	{
		if (control->workers[i].state != KS_SLOT_FREE &&
			control->workers[i].dboid == dboid)
			n++;
	}
	return n;
}

/* pool_changed: the others of the database share its queries anew. */
static void
pool_changed(KsDatabaseSlot *db)
{
	db->definitions++;
	wake_workers(db->dboid);
}

/* delay_next: decides when the database's next worker may start. */
static void
delay_next(KsDatabaseSlot *db, KsExitKind how)
{
	long		delay_ms = 0;

	if (how == KS_EXIT_TERMINATED)
		delay_ms = KS_RELAUNCH_MS;
	else if (how == KS_EXIT_FAILED)
	{
		delay_ms = Min(1000L << Min(db->failures, 6), KS_BACKOFF_MAX_MS);
		db->failures++;
	}
	db->next_start = TimestampTzPlusMilliseconds(ks_clock_now(), delay_ms);
}

/* free_slot: the worker is gone. */
static void
free_slot(KsWorkerSlot *slot, KsExitKind how)
{
	KsDatabaseSlot *db = find_database(slot->dboid, false);

	slot->state = KS_SLOT_FREE;
	slot->pid = 0;
	slot->proc = NULL;
	slot->dboid = InvalidOid;
	if (db != NULL)
	{
		delay_next(db, how);
		pool_changed(db);
	}
	wake_launcher();
}

/* ticket_slot: the slot a ticket is for, or NULL if the ticket is out of date. */
static KsWorkerSlot *
ticket_slot(const KsWorkerTicket *ticket)
{
	KsWorkerSlot *slot;

	if (ticket->slot < 0 || ticket->slot >= control->nworkers)
		return NULL;
	slot = &control->workers[ticket->slot];
	if (slot->state == KS_SLOT_FREE || slot->generation != ticket->generation)
		return NULL;
	return slot;
}

/* ks_launcher_attach: this process is the launcher; false if there is one. */
bool
ks_launcher_attach(void)
{
	bool		done = false;

	LWLockAcquire(ks_lock(KS_LOCK_SLOTS), LW_EXCLUSIVE);
	if (control->launcher == NULL)
	{
		control->launcher = MyProc;
		done = true;
	}
	LWLockRelease(ks_lock(KS_LOCK_SLOTS));
	return done;
}

/* ks_launcher_detach: this process is no longer the launcher. */
void
ks_launcher_detach(void)
{
	LWLockAcquire(ks_lock(KS_LOCK_SLOTS), LW_EXCLUSIVE);
	if (control->launcher == MyProc)
		control->launcher = NULL;
	LWLockRelease(ks_lock(KS_LOCK_SLOTS));
}

/* ks_database_probe: a worker is to look whether the database has queries. */
void
ks_database_probe(Oid database)
{
	KsDatabaseSlot *db;

	LWLockAcquire(ks_lock(KS_LOCK_SLOTS), LW_EXCLUSIVE);
	db = find_database(database, true);
	if (db != NULL)
		db->needs_worker = true;
	LWLockRelease(ks_lock(KS_LOCK_SLOTS));
}

/*
 * ks_database_forget: the database is gone, or must not be connected to.  Workers
 * that are in it still keep its slot.
 */
void
ks_database_forget(Oid database)
{
	KsDatabaseSlot *db;

	LWLockAcquire(ks_lock(KS_LOCK_SLOTS), LW_EXCLUSIVE);
	db = find_database(database, false);
	if (db != NULL && count_workers(database) == 0)
		db->dboid = InvalidOid;
	else if (db != NULL)
		db->next_start = TimestampTzPlusMilliseconds(ks_clock_now(), KS_FORGET_PAUSE_MS);
	LWLockRelease(ks_lock(KS_LOCK_SLOTS));
}

/* reserve_slot: a free worker slot for the database; false if all are in use. */
static bool
reserve_slot(KsDatabaseSlot *db, KsWorkerTicket *ticket, TimestampTz now)
{
	for (int i = 0; i < control->nworkers; i++)
	{
		KsWorkerSlot *slot = &control->workers[i];

		if (slot->state != KS_SLOT_FREE)
			continue;
		slot->state = KS_SLOT_STARTING;
		slot->generation++;
		slot->dboid = db->dboid;
		slot->pid = 0;
		slot->proc = NULL;
		slot->launched_at = now;
		ticket->slot = i;
		ticket->generation = slot->generation;
		ticket->database = db->dboid;
		return true;
	}
	return false;
}

/* wants_worker: may the database get one more now or later? */
static bool
wants_worker(KsDatabaseSlot *db, int nworkers, int probes)
{
	int			target = Max(db->wanted, db->needs_worker ? 1 : 0);

	return OidIsValid(db->dboid) && db->holds == 0 && nworkers < target &&
		(db->confirmed || probes < KS_MAX_PROBES);
}

/*
 * ks_next_launch: reserves a slot for the next worker that may start now; a
 * database that has none comes first.  False if there is no such worker; *next
 * is then the time the next one may start (0: none waits for a time).
 */
bool
ks_next_launch(KsWorkerTicket *ticket, TimestampTz now, TimestampTz *next)
{
	KsDatabaseSlot *best = NULL;
	int			best_workers = 0;
	int			probes = 0;
	bool		found;

	*next = 0;
	LWLockAcquire(ks_lock(KS_LOCK_SLOTS), LW_EXCLUSIVE);
	for (int i = 0; i < KS_MAX_DATABASES; i++)
	{
		KsDatabaseSlot *db = &control->databases[i];

		if (OidIsValid(db->dboid) && !db->confirmed)
			probes += count_workers(db->dboid);
	}
	for (int i = 0; i < KS_MAX_DATABASES; i++)
	{
		KsDatabaseSlot *db = &control->databases[i];
		int			nworkers = count_workers(db->dboid);

		if (!wants_worker(db, nworkers, probes))
			continue;
		if (db->next_start > now)
		{
			if (*next == 0 || db->next_start < *next)
				*next = db->next_start;
		}
		else if (best == NULL || nworkers < best_workers)
		{
			best = db;
			best_workers = nworkers;
		}
	}
	found = best != NULL && reserve_slot(best, ticket, now);
	LWLockRelease(ks_lock(KS_LOCK_SLOTS));
	return found;
}

/* ks_launch_failed: the worker of the ticket will not come, or never came. */
void
ks_launch_failed(const KsWorkerTicket *ticket, KsExitKind how)
{
	KsWorkerSlot *slot;

	LWLockAcquire(ks_lock(KS_LOCK_SLOTS), LW_EXCLUSIVE);
	slot = ticket_slot(ticket);
	if (slot != NULL && slot->state == KS_SLOT_STARTING)
		free_slot(slot, how);
	LWLockRelease(ks_lock(KS_LOCK_SLOTS));
}

/* ks_worker_slot_waiting: has the worker of the ticket not arrived yet? */
bool
ks_worker_slot_waiting(const KsWorkerTicket *ticket)
{
	KsWorkerSlot *slot;
	bool		waiting;

	LWLockAcquire(ks_lock(KS_LOCK_SLOTS), LW_SHARED);
	slot = ticket_slot(ticket);
	waiting = slot != NULL && slot->state == KS_SLOT_STARTING;
	LWLockRelease(ks_lock(KS_LOCK_SLOTS));
	return waiting;
}

/* ks_worker_slots_collect: frees the slots of workers that a former launcher started and that never came. */
void
ks_worker_slots_collect(TimestampTz older_than)
{
	LWLockAcquire(ks_lock(KS_LOCK_SLOTS), LW_EXCLUSIVE);
	for (int i = 0; i < control->nworkers; i++)
	{
		KsWorkerSlot *slot = &control->workers[i];

		if (slot->state == KS_SLOT_STARTING && slot->launched_at < older_than)
			free_slot(slot, KS_EXIT_FAILED);
	}
	LWLockRelease(ks_lock(KS_LOCK_SLOTS));
}

/* ks_workers_stop: tells the workers of a database (InvalidOid: of all) to leave. */
void
ks_workers_stop(Oid database)
{
	LWLockAcquire(ks_lock(KS_LOCK_SLOTS), LW_SHARED);
	for (int i = 0; i < control->nworkers; i++)
	{
		KsWorkerSlot *slot = &control->workers[i];

		if (slot->state == KS_SLOT_ATTACHED &&
			(slot->dboid == database || !OidIsValid(database)))
			kill(slot->pid, SIGTERM);
	}
	LWLockRelease(ks_lock(KS_LOCK_SLOTS));
}

/* ks_worker_attach: takes the slot of the ticket; false: leave at once. */
bool
ks_worker_attach(const KsWorkerTicket *ticket)
{
	KsWorkerSlot *slot;
	KsDatabaseSlot *db;

	LWLockAcquire(ks_lock(KS_LOCK_SLOTS), LW_EXCLUSIVE);
	slot = ticket_slot(ticket);
	db = find_database(ticket->database, false);
	if (slot != NULL && slot->state == KS_SLOT_STARTING && (db == NULL || db->holds > 0))
		free_slot(slot, KS_EXIT_DONE);
	else if (slot != NULL && slot->state == KS_SLOT_STARTING)
	{
		slot->state = KS_SLOT_ATTACHED;
		slot->pid = MyProcPid;
		slot->proc = MyProc;
		my_slot = slot;
		my_database = db;
		pool_changed(db);
	}
	LWLockRelease(ks_lock(KS_LOCK_SLOTS));
	return my_slot != NULL;
}

/* ks_worker_detach: frees this worker's slot. */
void
ks_worker_detach(KsExitKind how)
{
	if (my_slot == NULL)
		return;
	LWLockAcquire(ks_lock(KS_LOCK_SLOTS), LW_EXCLUSIVE);
	free_slot(my_slot, how);
	my_slot = NULL;
	LWLockRelease(ks_lock(KS_LOCK_SLOTS));
}

/*
 * ks_worker_leave: the database has nothing to run.  True if that still holds
 * (no definition has changed since the worker looked); then no worker is
 * started until a definition changes.
 */
bool
ks_worker_leave(uint64 definitions_seen)
{
	bool		leave;

	LWLockAcquire(ks_lock(KS_LOCK_SLOTS), LW_EXCLUSIVE);
	leave = my_database->definitions == definitions_seen;
	if (leave)
	{
		my_database->needs_worker = false;
		my_database->confirmed = false;
		my_database->wanted = 0;
	}
	LWLockRelease(ks_lock(KS_LOCK_SLOTS));
	return leave;
}

/*
 * ks_worker_wants: the database needs this many workers.  Tells how many there
 * are and which of them this one is (0 .. nlive - 1).
 */
void
ks_worker_wants(int nworkers, int *nlive, int *my_rank)
{
	*nlive = 0;
	*my_rank = 0;
	LWLockAcquire(ks_lock(KS_LOCK_SLOTS), LW_EXCLUSIVE);
	if (my_database->wanted != nworkers || !my_database->confirmed)
		wake_launcher();
	my_database->wanted = nworkers;
	my_database->confirmed = true;
	for (int i = 0; i < control->nworkers; i++)
	{
		KsWorkerSlot *slot = &control->workers[i];

		if (slot->state != KS_SLOT_ATTACHED || slot->dboid != my_database->dboid)
			continue;
		if (slot < my_slot)
			(*my_rank)++;
		(*nlive)++;
	}
	LWLockRelease(ks_lock(KS_LOCK_SLOTS));
}

/* ks_worker_succeeded: workers of this database can work; forget earlier failures. */
void
ks_worker_succeeded(void)
{
	LWLockAcquire(ks_lock(KS_LOCK_SLOTS), LW_EXCLUSIVE);
	my_database->failures = 0;
	LWLockRelease(ks_lock(KS_LOCK_SLOTS));
}

/* ks_worker_signals: the counters of this worker's database. */
KsSignals
ks_worker_signals(void)
{
	KsSignals	signals;

	LWLockAcquire(ks_lock(KS_LOCK_SLOTS), LW_SHARED);
	signals.definitions = my_database->definitions;
	LWLockRelease(ks_lock(KS_LOCK_SLOTS));
	signals.local_records = pg_atomic_read_u64(&my_database->local_records);
	return signals;
}

/* ks_worker_progress: a batch is committed; who waits for that looks again. */
void
ks_worker_progress(void)
{
	ConditionVariableBroadcast(&my_database->progress);
}

/* ks_worker_pool_changed: this worker has given queries away; others may take them. */
void
ks_worker_pool_changed(void)
{
	LWLockAcquire(ks_lock(KS_LOCK_SLOTS), LW_EXCLUSIVE);
	pool_changed(my_database);
	LWLockRelease(ks_lock(KS_LOCK_SLOTS));
}

/* ks_signal_definitions: definitions of the database have changed, and are committed. */
void
ks_signal_definitions(Oid database)
{
	KsDatabaseSlot *db;

	LWLockAcquire(ks_lock(KS_LOCK_SLOTS), LW_EXCLUSIVE);
	db = find_database(database, true);
	if (db != NULL)
	{
		db->needs_worker = true;
		pool_changed(db);
		if (count_workers(database) == 0)
			wake_launcher();
	}
	LWLockRelease(ks_lock(KS_LOCK_SLOTS));
	if (db == NULL)
		ereport(WARNING,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("continuous queries of this database are not run"),
				 errdetail("Only %d databases of a server can have continuous queries.",
						   KS_MAX_DATABASES)));
}

/* ks_signal_local_records: a local log of the database has new records, and they are committed. */
void
ks_signal_local_records(Oid database)
{
	KsDatabaseSlot *db;

	LWLockAcquire(ks_lock(KS_LOCK_SLOTS), LW_SHARED);
	db = find_database(database, false);
	if (db != NULL)
	{
		pg_atomic_fetch_add_u64(&db->local_records, 1);
		wake_workers(database);
		ConditionVariableBroadcast(&db->progress);
	}
	LWLockRelease(ks_lock(KS_LOCK_SLOTS));
}

/* ks_signal_release: a session wants the lock of a query (ks_stat_want_release says which). */
void
ks_signal_release(Oid database)
{
	LWLockAcquire(ks_lock(KS_LOCK_SLOTS), LW_SHARED);
	wake_workers(database);
	LWLockRelease(ks_lock(KS_LOCK_SLOTS));
}

/* release_hold: one hold less; the last one lets workers start again. */
static void
release_hold(Oid database)
{
	KsDatabaseSlot *db = find_database(database, false);

	if (db == NULL || db->holds == 0)
		return;
	db->holds--;
	if (db->holds == 0)
	{
		db->next_start = 0;
		wake_launcher();
	}
}

/* release_my_holds: this session ends in the middle of its DDL. */
static void
release_my_holds(int code, Datum arg)
{
	LWLockAcquire(ks_lock(KS_LOCK_SLOTS), LW_EXCLUSIVE);
	while (my_nholds > 0)
		release_hold(my_holds[--my_nholds]);
	LWLockRelease(ks_lock(KS_LOCK_SLOTS));
}

/*
 * ks_database_hold: no worker is started in the database until
 * ks_database_release.  False if the database has nothing to do with us.
 */
bool
ks_database_hold(Oid database)
{
	static bool registered = false;
	KsDatabaseSlot *db;

	if (!registered)
	{
		before_shmem_exit(release_my_holds, (Datum) 0);
		registered = true;
	}
	LWLockAcquire(ks_lock(KS_LOCK_SLOTS), LW_EXCLUSIVE);
	db = my_nholds < KS_MAX_HOLDS ? find_database(database, false) : NULL;
	if (db != NULL)
	{
		db->holds++;
		my_holds[my_nholds++] = database;
	}
	LWLockRelease(ks_lock(KS_LOCK_SLOTS));
	return db != NULL;
}

/* ks_database_release: ends a hold of this session. */
void
ks_database_release(Oid database)
{
	LWLockAcquire(ks_lock(KS_LOCK_SLOTS), LW_EXCLUSIVE);
	for (int i = my_nholds - 1; i >= 0; i--)
	{
		if (my_holds[i] != database)
			continue;
		my_holds[i] = my_holds[--my_nholds];
		release_hold(database);
		break;
	}
	LWLockRelease(ks_lock(KS_LOCK_SLOTS));
}

/* ks_database_workers: how many workers the database has, those on their way included. */
int
ks_database_workers(Oid database)
{
	int			n;

	LWLockAcquire(ks_lock(KS_LOCK_SLOTS), LW_SHARED);
	n = count_workers(database);
	LWLockRelease(ks_lock(KS_LOCK_SLOTS));
	return n;
}

/* ks_progress_cv: signalled at each commit of a worker of the database; NULL if it has no slot. */
ConditionVariable *
ks_progress_cv(Oid database)
{
	KsDatabaseSlot *db;

	LWLockAcquire(ks_lock(KS_LOCK_SLOTS), LW_SHARED);
	db = find_database(database, false);
	LWLockRelease(ks_lock(KS_LOCK_SLOTS));
	return db != NULL ? &db->progress : NULL;
}
