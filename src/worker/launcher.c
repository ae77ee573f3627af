/*
 * launcher.c
 *		The process that starts workers.
 *
 * A static background worker that starts when recovery has finished: never on a
 * standby, by itself after promotion.  It connects to no database, so it never
 * stands in the way of DDL on one; it reads pg_database once, asks for a first
 * look into every database that may be connected to, and from then on obeys
 * slots.c: sessions and workers say there what each database needs.
 *
 * Workers are dynamic and are never restarted by the postmaster: a worker that
 * left or failed is started again from here, with a delay that slots.c decides.
 * If all background worker slots of the server are taken, the launcher says so
 * once a minute and tries again; workers that run share all queries meanwhile.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "base/clock.h"
#include "base/guc.h"
#include "catalog/pg_database.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "worker/crashes.h"
#include "worker/launcher.h"
#include "worker/slots.h"

#define KS_LAUNCH_RETRY_MS 2000 /* no free background worker slot */
#define KS_ATTACH_CHECK_MS 1000 /* while a worker is on its way */
#define KS_ATTACH_LIMIT_MS 60000	/* a worker of a former launcher that never came */
#define KS_WARN_EVERY_MS 60000

/* A worker on its way: started, not attached yet. */
typedef struct KsPending
{
	KsWorkerTicket ticket;
	BackgroundWorkerHandle *handle;
} KsPending;

static volatile sig_atomic_t got_sigterm = false;
static List *pending = NIL;		/* KsPending * */
static TimestampTz retry_at = 0;	/* no free slot, or crashes in a row: not before */
static TimestampTz warned_at = 0;

/* handle_sigterm: leave at the next chance. */
static void
handle_sigterm(SIGNAL_ARGS)
{
	int			save_errno = errno;

	got_sigterm = true;
	SetLatch(MyLatch);
	errno = save_errno;
}

/* ks_launcher_init: registers the launcher; only from shared_preload_libraries. */
void
ks_launcher_init(void)
{
	BackgroundWorker worker;

	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;
	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 5;
	snprintf(worker.bgw_library_name, sizeof(worker.bgw_library_name), "kstream");
	snprintf(worker.bgw_function_name, sizeof(worker.bgw_function_name), "ks_launcher_main");
	snprintf(worker.bgw_name, BGW_MAXLEN, "kstream launcher");
	snprintf(worker.bgw_type, BGW_MAXLEN, "kstream launcher");
	RegisterBackgroundWorker(&worker);
}

/* launcher_exit: lets the next launcher in. */
static void
launcher_exit(int code, Datum arg)
{
	ks_launcher_detach();
}

/* probe_databases: asks for a look into each database that may be connected to. */
static void
probe_databases(void)
{
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tup;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tup = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database db = (Form_pg_database) GETSTRUCT(tup);

		if (db->datallowconn && !db->datistemplate)
			ks_database_probe(db->oid);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
}

/* may_connect: does the database still exist, and does it take connections? */
static bool
may_connect(Oid database)
{
	HeapTuple	tup;
	bool		result = false;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	tup = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	if (HeapTupleIsValid(tup))
	{
		result = ((Form_pg_database) GETSTRUCT(tup))->datallowconn;
		ReleaseSysCache(tup);
	}
	CommitTransactionCommand();
	return result;
}

/* register_worker: asks the postmaster for the worker of a ticket; false: no slot is free. */
static bool
register_worker(const KsWorkerTicket *ticket)
{
	BackgroundWorker worker;
	KsPending  *entry;
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	BackgroundWorkerHandle *handle;
	bool		ok;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	snprintf(worker.bgw_library_name, sizeof(worker.bgw_library_name), "kstream");
	snprintf(worker.bgw_function_name, sizeof(worker.bgw_function_name), "ks_worker_main");
	snprintf(worker.bgw_name, BGW_MAXLEN, "kstream worker for database %u", ticket->database);
	snprintf(worker.bgw_type, BGW_MAXLEN, "kstream worker");
	worker.bgw_notify_pid = MyProcPid;
	worker.bgw_main_arg = Int32GetDatum(ticket->slot);
	StaticAssertStmt(sizeof(KsWorkerTicket) <= BGW_EXTRALEN, "ticket does not fit");
	memcpy(worker.bgw_extra, ticket, sizeof(KsWorkerTicket));
	ok = RegisterDynamicBackgroundWorker(&worker, &handle);
	if (ok)
	{
		entry = palloc(sizeof(KsPending));
		entry->ticket = *ticket;
		entry->handle = handle;
		pending = lappend(pending, entry);
	}
	MemoryContextSwitchTo(old);
	return ok;
}

/* check_pending: forgets workers that have arrived, frees the slots of those that never will. */
static void
check_pending(void)
{
	ListCell   *lc;

	foreach(lc, pending)
	{
		KsPending  *entry = lfirst(lc);
		pid_t		pid;

		if (ks_worker_slot_waiting(&entry->ticket))
		{
			BgwHandleStatus status = GetBackgroundWorkerPid(entry->handle, &pid);

			if (status != BGWH_STOPPED)
				continue;
			ks_launch_failed(&entry->ticket, KS_EXIT_FAILED);
		}
		pfree(entry->handle);
		pfree(entry);
		pending = foreach_delete_current(pending, lc);
	}
}

/* hold_back: after crashes in a row, puts off the start of workers, and says so. */
static void
hold_back(void)
{
	int			in_a_row;
	int			pause_ms = ks_crashes_pause_ms(&in_a_row);

	if (pause_ms == 0 || !ks_start_workers)
		return;
	retry_at = TimestampTzPlusMilliseconds(ks_clock_now(), pause_ms);
	ereport(WARNING,
			(errcode(ERRCODE_CRASH_SHUTDOWN),
			 errmsg("continuous queries are not run for %d s", pause_ms / 1000),
			 errdetail("The server has crashed %d times in a row when their workers had just been started.", in_a_row),
			 errhint("If a query makes the server crash, pause or drop it now, or set kstream.start_workers = off in postgresql.conf and reload it.")));
}

/* no_slot: says that the server has no background worker left, once a minute. */
static void
no_slot(const KsWorkerTicket *ticket, TimestampTz now)
{
	ks_launch_failed(ticket, KS_EXIT_DONE);
	retry_at = TimestampTzPlusMilliseconds(now, KS_LAUNCH_RETRY_MS);
	if (warned_at != 0 && now < TimestampTzPlusMilliseconds(warned_at, KS_WARN_EVERY_MS))
		return;
	warned_at = now;
	ereport(WARNING,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("no background worker left for the continuous queries of database %u",
					ticket->database),
			 errhint("You might need to increase max_worker_processes.")));
}

/* launch_workers: starts what may start now; returns when to look again (0: when told). */
static TimestampTz
launch_workers(TimestampTz now)
{
	KsWorkerTicket ticket;
	TimestampTz next = 0;

	if (!ks_start_workers)
		return 0;
	if (retry_at > now)
		return retry_at;
	retry_at = 0;
	while (ks_next_launch(&ticket, now, &next))
	{
		ks_crashes_note_start();
		if (!may_connect(ticket.database))
		{
			ks_launch_failed(&ticket, KS_EXIT_DONE);
			ks_database_forget(ticket.database);
		}
		else if (!register_worker(&ticket))
		{
			no_slot(&ticket, now);
			return retry_at;
		}
	}
	return next;
}

/*
 * obey_signals: reloads the configuration, serves barriers, leaves when told to
 * (with 1: after exit code 0 the postmaster would not start another launcher).
 */
static void
obey_signals(void)
{
	if (got_sigterm)
		proc_exit(1);
	QueryCancelPending = false;
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		bool		started = ks_start_workers;

		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		if (started && !ks_start_workers)
			ks_workers_stop(InvalidOid);
		retry_at = 0;
	}
}

/* wait_for_work: sleeps until told, or until next (0: no time). */
static void
wait_for_work(TimestampTz next)
{
	int			events = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH;
	long		timeout = -1;

	if (pending != NIL)
		timeout = KS_ATTACH_CHECK_MS;
	if (next != 0)
	{
		long		until = TimestampDifferenceMilliseconds(ks_clock_now(), next);

		timeout = timeout < 0 ? until : Min(timeout, until);
	}
	if (timeout >= 0)
		events |= WL_TIMEOUT;
	(void) WaitLatch(MyLatch, events, timeout, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
}

/* launcher_loop: starts workers until the server stops. */
static void
launcher_loop(void)
{
	TimestampTz started = ks_clock_now();
	bool		collected = false;

	for (;;)
	{
		TimestampTz now;
		TimestampTz next;

		obey_signals();
		check_pending();
		now = ks_clock_now();
		next = launch_workers(now);
		if (!collected)
		{
			TimestampTz due = TimestampTzPlusMilliseconds(started, KS_ATTACH_LIMIT_MS);

			if (now >= due)
			{
				ks_worker_slots_collect(started);
				collected = true;
			}
			else if (next == 0 || due < next)
				next = due;
		}
		wait_for_work(next);
	}
}

/* ks_launcher_main: entry point of the launcher. */
void
ks_launcher_main(Datum arg)
{
	pqsignal(SIGTERM, handle_sigterm);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	if (!ks_launcher_attach())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("another kstream launcher is running")));
	before_shmem_exit(launcher_exit, (Datum) 0);
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	pgstat_report_appname("kstream launcher");
	probe_databases();
	hold_back();
	launcher_loop();
}
