/*
 * worker.c
 *		A worker: one process that runs many continuous queries of one database.
 *
 * The workers of a database share its queries through claims in shared memory
 * (stats.c): each takes up to its share, gives away what is too much when
 * another worker has come, and looks again whenever the pool or a definition
 * changes.  The query's lock and, last, compare-and-set of the positions make
 * sure that two workers can never both advance a query.
 *
 * The main loop runs one batch of each query that is ready, in turn, and waits
 * for the latch, for the clients' event descriptors and for delays to end.
 * While it waits there is no transaction and no snapshot; nothing is polled but
 * once in KS_SAFETY_MS.
 *
 * A worker leaves when its database has nothing to run, when the pool is
 * smaller than it was, when the extension is gone, and when it is told to.
 */
#include "postgres.h"

#include <malloc.h>
#include <unistd.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "base/clock.h"
#include "base/compat.h"
#include "base/guc.h"
#include "base/version.h"
#include "catalog/namespace.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "worker/runner.h"
#include "worker/slots.h"
#include "worker/stats.h"
#include "worker/trim.h"
#include "worker/worker.h"

#define KS_SAFETY_MS 5000		/* everything is looked at again, whatever was signalled */
#define KS_RELOAD_RETRY_MS 500
#define KS_RELOAD_TRIES 10		/* that fail before a worker that has never read them gives up */
#define KS_MAX_EVENTS 32
#define KS_KEPT_BYTES (256 * 1024 * 1024)	/* free memory that stays between batches */
#define KS_TRIM_PAD (16 * 1024 * 1024)

/* Result of reading the catalog. */
typedef struct KsCatalogView
{
	MemoryContext cxt;
	bool		installed;		/* the extension is there, in this library's version */
	Oid			query_relid;
	int			nqueries;
	int			nrunnable;
	KsRunnable *queries;		/* sinks as well */
} KsCatalogView;

static volatile sig_atomic_t got_sigterm = false;
static KsExitKind exit_kind = KS_EXIT_FAILED;
static List *runners = NIL;		/* KsRunner *, in TopMemoryContext */
static bool reload_wanted = true;
static bool definitions_read;	/* once, at least */
static int	failed_reloads;
static Oid	query_relid = InvalidOid;	/* kstream_catalog.query */
static KsSignals seen;
static WaitEventSet *wait_set = NULL;
static uint64 wait_set_changes = 0; /* ks_runner_changes it was built for */

/* handle_sigterm: as usual, but the main loop leaves without a FATAL. */
static void
handle_sigterm(SIGNAL_ARGS)
{
	got_sigterm = true;
	die(postgres_signal_arg);
}

/* worker_exit: gives back claims and slot, however the worker ends. */
static void
worker_exit(int code, Datum arg)
{
	ks_stat_unclaim_all();
	ks_worker_detach(got_sigterm ? KS_EXIT_TERMINATED : exit_kind);
}

/*
 * hard_exit: the last thing a worker does.  Threads of client libraries may
 * live; exit handlers of libraries would race with them.
 */
static void
hard_exit(int code, Datum arg)
{
	_exit(code);
}

/* leave: ends the worker; nothing is wrong. */
static void
leave(void)
{
	exit_kind = KS_EXIT_DONE;
	proc_exit(0);
}

/* relation_changed: relcache callback; the catalog table itself was touched (dropped, perhaps). */
static void
relation_changed(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) || relid == query_relid)
		reload_wanted = true;
}

/*
 * pin_settings: what batches rely on, against what roles and databases may set.
 * synchronous_commit can be off because state and positions are in one
 * transaction: after a crash both go back together.
 */
static void
pin_settings(void)
{
	static const char *const settings[][2] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
		{"session_replication_role", "origin"},
		{"row_security", "on"},
		{"synchronous_commit", "off"},
		{"max_parallel_workers_per_gather", "0"},
		{"deadlock_timeout", "50ms"},	/* the batch, not the user's statement, should be the victim */
		{"jit", "off"},
		{"statement_timeout", "0"},
		{"lock_timeout", "1s"},
		{"idle_in_transaction_session_timeout", "0"},
		{"transaction_timeout", "0"}
	};

	for (int i = 0; i < lengthof(settings); i++)
	{
		if (GetConfigOption(settings[i][0], true, false) != NULL)
			SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);
	}
}

/* extension_version: of kstream in this database, or NULL. */
static char *
extension_version(void)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tup;
	char	   *version = NULL;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum("kstream"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tup = systable_getnext(scan);
	if (HeapTupleIsValid(tup))
	{
		bool		isnull;
		Datum		datum = heap_getattr(tup, Anum_pg_extension_extversion,
										 RelationGetDescr(rel), &isnull);

		version = TextDatumGetCString(datum);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return version;
}

/* relation_name: qualified and quoted. */
static char *
relation_name(Oid relid)
{
	char	   *name = get_rel_name(relid);

	if (name == NULL)
		return psprintf("%u", relid);
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), name);
}

/* check_version: is the extension there, and made by the script of this library? */
static bool
check_version(void)
{
	char	   *version = extension_version();

	if (version == NULL)
		return false;
	if (strcmp(version, KS_VERSION) == 0)
		return true;
	ereport(WARNING,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("continuous queries are not run: extension kstream has version %s, its library %s",
					version, KS_VERSION),
			 errhint("Run ALTER EXTENSION kstream UPDATE, or restart the server with the matching library.")));
	return false;
}

/* add_query: notes a query, if it is still there. */
static void
add_query(KsCatalogView *view, const KsQueryRow *row)
{
	KsRunnable *w = &view->queries[view->nqueries];

	if (row == NULL)
		return;
	w->id = row->id;
	w->generation = row->generation;
	w->name = relation_name(row->relation);
	w->paused = row->paused;
	w->runnable = !row->paused && strcmp(row->instance, ks_instance_id()) == 0;
	w->has_error = row->last_error != NULL;
	w->batch_rows = row->batch_rows;
	w->batch_interval_ms = row->batch_interval_ms;
	view->nrunnable += w->runnable;
	view->nqueries++;
}

/* add_sink: notes a sink, if it is still there. */
static void
add_sink(KsCatalogView *view, const KsSinkRow *row)
{
	KsRunnable *w = &view->queries[view->nqueries];

	if (row == NULL)
		return;
	w->id = row->id;
	w->is_sink = true;
	w->generation = row->generation;
	w->name = ks_sink_display_name(row);
	w->paused = row->paused;
	w->runnable = !row->paused && strcmp(row->instance, ks_instance_id()) == 0;
	w->has_error = row->last_error != NULL;
	w->batch_interval_ms = -1;
	view->nrunnable += w->runnable;
	view->nqueries++;
}

/* read_catalog_body: all queries and sinks of the database. */
static void
read_catalog_body(void *arg)
{
	KsCatalogView *view = arg;
	MemoryContext old;
	List	   *ids;
	List	   *sinks;
	ListCell   *lc;

	view->installed = check_version();
	if (!view->installed)
		return;
	old = MemoryContextSwitchTo(view->cxt);
	view->query_relid = get_relname_relid("query",
										  get_namespace_oid("kstream_catalog", false));
	ids = ks_query_ids();
	sinks = ks_sink_ids();
	view->queries = palloc0(sizeof(KsRunnable) * Max(list_length(ids) + list_length(sinks), 1));
	foreach(lc, ids)
		add_query(view, ks_query_load(lfirst_int(lc)));
	foreach(lc, sinks)
		add_sink(view, ks_sink_load(lfirst_int(lc)));
	MemoryContextSwitchTo(old);
}

/* find_wanted: the catalog's word on a query, or NULL. */
static KsRunnable *
find_wanted(KsCatalogView *view, int32 id)
{
	for (int i = 0; i < view->nqueries; i++)
	{
		if (view->queries[i].id == id)
			return &view->queries[i];
	}
	return NULL;
}

/* find_runner: this worker's runner of a query, or NULL. */
static KsRunner *
find_runner(int32 id)
{
	ListCell   *lc;

	foreach(lc, runners)
	{
		KsRunner   *r = lfirst(lc);

		if (r->id == id)
			return r;
	}
	return NULL;
}

/* show_stopped: states of queries that are not to run, and forgets those that are gone. */
static void
show_stopped(KsCatalogView *view)
{
	int32	   *ids = palloc(sizeof(int32) * Max(view->nqueries, 1));

	for (int i = 0; i < view->nqueries; i++)
	{
		KsRunnable *w = &view->queries[i];

		ids[i] = w->id;
		if (!w->runnable)
			ks_stat_stopped(w->id, w->generation,
							w->paused ? KS_STATE_PAUSED : KS_STATE_BLOCKED);
	}
	ks_stat_keep(ids, view->nqueries);
	pfree(ids);
}

/* give_up: this worker no longer runs the query. */
static void
give_up(KsRunner *r)
{
	int32		id = r->id;

	runners = list_delete_ptr(runners, r);
	ks_runner_destroy(r);
	ks_stat_unclaim(id);
}

/* add_runner: starts to run a query that this worker has claimed. */
static void
add_runner(KsRunnable *w)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	runners = lappend(runners, ks_runner_create(w));
	MemoryContextSwitchTo(old);
}

/*
 * drop_changed: closes runners whose query is gone, stopped, changed, or no
 * longer this worker's; changed ones start anew.
 */
static void
drop_changed(KsCatalogView *view)
{
	List	   *copy = list_copy(runners);
	ListCell   *lc;

	foreach(lc, copy)
	{
		KsRunner   *r = lfirst(lc);
		KsRunnable *w = find_wanted(view, r->id);

		if (w == NULL || !w->runnable || !ks_stat_claim(r->id))
			give_up(r);
		else if (w->generation != r->generation || strcmp(w->name, r->name) != 0)
		{
			runners = list_delete_ptr(runners, r);
			ks_runner_destroy(r);
			add_runner(w);
		}
		else
			r->changed = false;
	}
	list_free(copy);
}

/* share_queries: gives away what is more than this worker's share, takes what is missing. */
static void
share_queries(KsCatalogView *view, int nlive)
{
	int			share = (view->nrunnable + nlive - 1) / nlive;
	bool		given = false;

	while (list_length(runners) > share)
	{
		give_up(llast(runners));
		given = true;
	}
	for (int i = 0; i < view->nqueries && list_length(runners) < share; i++)
	{
		KsRunnable *w = &view->queries[i];

		if (w->runnable && find_runner(w->id) == NULL && ks_stat_claim(w->id))
			add_runner(w);
	}
	if (given)
		ks_worker_pool_changed();
}

/* obey_catalog: makes this worker's runners what the catalog wants; may leave. */
static void
obey_catalog(KsCatalogView *view)
{
	int			wanted = Min(view->nrunnable, ks_max_workers);
	int			nlive;
	int			my_rank;

	if (!view->installed || view->nrunnable == 0)
	{
		while (runners != NIL)
			give_up(linitial(runners));
		show_stopped(view);
		if (ks_worker_leave(seen.definitions))
			leave();
		reload_wanted = true;
		return;
	}
	ks_worker_succeeded();
	query_relid = view->query_relid;
	ks_worker_wants(wanted, &nlive, &my_rank);
	if (my_rank >= wanted)
		leave();
	drop_changed(view);
	show_stopped(view);
	share_queries(view, Max(Min(nlive, wanted), 1));
}

/*
 * reload_failed: most probably the extension is being dropped, or its tables are
 * locked.  A worker that has never read the definitions makes room for first looks
 * into other databases after some time; another one comes, later and later.
 */
static void
reload_failed(ErrorData *edata)
{
	if (definitions_read || ++failed_reloads < KS_RELOAD_TRIES)
	{
		ereport(DEBUG1,
				(errmsg_internal("kstream worker could not read definitions: %s", edata->message)));
		return;
	}
	ereport(WARNING,
			(errcode(edata->sqlerrcode),
			 errmsg("kstream worker cannot read the definitions of its database: %s", edata->message),
			 errhint("Where tables of kstream are locked, it will go on by itself; otherwise DROP EXTENSION kstream, or restore its tables.")));
	proc_exit(1);
}

/* reload: reads the definitions again; returns when to try again if that failed, else 0. */
static TimestampTz
reload(void)
{
	KsCatalogView view = {0};
	ErrorData  *edata;
	TimestampTz again = 0;

	reload_wanted = false;
	seen.definitions = ks_worker_signals().definitions;
	view.cxt = AllocSetContextCreate(TopMemoryContext, "kstream reload", ALLOCSET_DEFAULT_SIZES);
	edata = ks_guarded(read_catalog_body, &view);
	if (edata == NULL)
	{
		definitions_read = true;
		ks_trim_look_again();
		obey_catalog(&view);
	}
	else
	{
		reload_failed(edata);
		FreeErrorData(edata);
		reload_wanted = true;
		again = TimestampTzPlusMilliseconds(ks_clock_now(), KS_RELOAD_RETRY_MS);
	}
	MemoryContextDelete(view.cxt);
	return again;
}

/* obey_signals: everything that may come between two batches. */
static void
obey_signals(void)
{
	KsSignals	now;

	if (got_sigterm)
		proc_exit(0);
	QueryCancelPending = false; /* nothing runs that could be cancelled */
	CHECK_FOR_INTERRUPTS();
	AcceptInvalidationMessages();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		reload_wanted = true;
	}
	now = ks_worker_signals();
	if (now.definitions != seen.definitions)
		reload_wanted = true;
	if (now.local_records != seen.local_records)
	{
		ListCell   *lc;

		seen.local_records = now.local_records;
		foreach(lc, runners)
		{
			KsRunner   *r = lfirst(lc);

			r->ready = true;
			if (r->is_sink && r->publisher != NULL)
				r->retry_at = 0;	/* it waits for a time to do something else */
		}
	}
}

/* earlier: the earlier of two times, where 0 is none. */
static TimestampTz
earlier(TimestampTz a, TimestampTz b)
{
	if (a == 0)
		return b;
	if (b == 0)
		return a;
	return Min(a, b);
}

/*
 * run_ready: one step of each query that is due.  True if something may be due
 * again at once; else *next is when the next one is (0: when woken).
 */
static bool
run_ready(TimestampTz *next)
{
	bool		again = false;
	ListCell   *lc;

	*next = 0;
	foreach(lc, runners)
	{
		KsRunner   *r = lfirst(lc);
		TimestampTz when;

		(void) ks_runner_serve_release(r);
		if (ks_runner_due(r, ks_clock_now(), &when))
			ks_runner_run(r);
		if (r->changed)
			reload_wanted = true;
		if (ks_runner_due(r, ks_clock_now(), &when))
			again = true;
		*next = earlier(*next, when);
		if (got_sigterm || ConfigReloadPending)
			return true;
	}
	return again;
}

/* build_wait_set: latch, postmaster death, and the event descriptors of all open tasks. */
static void
build_wait_set(void)
{
	ListCell   *lc;

	if (wait_set != NULL && wait_set_changes == ks_runner_changes)
		return;
	if (wait_set != NULL)
		FreeWaitEventSet(wait_set);
	wait_set = ks_wait_event_set(list_length(runners) + 2);
	AddWaitEventToSet(wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	foreach(lc, runners)
	{
		KsRunner   *r = lfirst(lc);
		int			fd = ks_runner_eventfd(r);

		if (fd >= 0)
			AddWaitEventToSet(wait_set, WL_SOCKET_READABLE, fd, NULL, r);
	}
	wait_set_changes = ks_runner_changes;
}

/*
 * wait_for_events: sleeps until something happens or the time has come, at most
 * timeout ms.  A runner whose descriptor fired is ready; the descriptor is
 * drained here, so that it can wait for its interval without waking us again.
 */
static void
wait_for_events(long timeout)
{
	WaitEvent	events[KS_MAX_EVENTS];
	int			n;

	build_wait_set();
	n = WaitEventSetWait(wait_set, timeout, events, KS_MAX_EVENTS, PG_WAIT_EXTENSION);
	for (int i = 0; i < n; i++)
	{
		if (events[i].events & WL_LATCH_SET)
			ResetLatch(MyLatch);
		if (events[i].events & WL_SOCKET_READABLE)
		{
			KsRunner   *r = events[i].user_data;

			ks_runner_drain_eventfd(r);
			r->ready = true;
			if (r->is_sink)
				r->retry_at = 0;
		}
	}
}

/* publish_rest: positions that were too fresh to publish; returns when some will be due, or 0. */
static TimestampTz
publish_rest(bool force, TimestampTz now)
{
	ListCell   *lc;
	bool		left = false;

	foreach(lc, runners)
	{
		KsRunner   *r = lfirst(lc);

		if (r->unpublished && r->task != NULL)
		{
			ks_runner_publish(r, force);
			left |= r->unpublished;
		}
	}
	return left ? TimestampTzPlusMilliseconds(now, 50) : 0;
}

/*
 * signals_came: is there something for obey_signals?  What waits for a broker
 * inside a batch may have taken the latch that told.
 */
static bool
signals_came(void)
{
	KsSignals	now = ks_worker_signals();

	return got_sigterm || ConfigReloadPending || now.local_records != seen.local_records ||
		(now.definitions != seen.definitions && !reload_wanted);
}

/* idle_timeout: how long to sleep before something must be done without being told. */
static long
idle_timeout(TimestampTz now, TimestampTz next, TimestampTz safety)
{
	long		stats_ms = pgstat_report_stat(false);
	long		ms;

	next = earlier(earlier(next, safety), publish_rest(false, now));
	ms = TimestampDifferenceMilliseconds(now, next);
	if (stats_ms > 0)
		ms = Min(ms, stats_ms);
	return ms;
}

/*
 * keep_memory: a batch needs what the last one has given back, and pages that
 * come from the kernel anew cost a tenth of the work on a record.  What is not
 * needed any more goes with the next look of safety_net.
 */
static void
keep_memory(void)
{
	mallopt(M_ARENA_MAX, 2);
	mallopt(M_MMAP_THRESHOLD, 32 * 1024 * 1024);
	mallopt(M_TRIM_THRESHOLD, KS_KEPT_BYTES);
}

/* safety_net: looks at everything again now and then; returns the time of the next look. */
static TimestampTz
safety_net(TimestampTz now, TimestampTz due)
{
	ListCell   *lc;

	if (now < due)
		return due;
	foreach(lc, runners)
		((KsRunner *) lfirst(lc))->ready = true;
	malloc_trim(KS_TRIM_PAD);
	return TimestampTzPlusMilliseconds(now, KS_SAFETY_MS);
}

/* worker_loop: runs queries until there is a reason to leave. */
static void
worker_loop(void)
{
	MemoryContext cxt = AllocSetContextCreate(TopMemoryContext, "kstream worker",
											  ALLOCSET_DEFAULT_SIZES);
	TimestampTz reload_at = 0;
	TimestampTz safety = TimestampTzPlusMilliseconds(ks_clock_now(), KS_SAFETY_MS);

	for (;;)
	{
		TimestampTz next;
		TimestampTz now;
		bool		again;

		MemoryContextReset(cxt);
		MemoryContextSwitchTo(cxt);
		obey_signals();
		now = ks_clock_now();
		if (reload_wanted && now >= reload_at)
			reload_at = reload();
		safety = safety_net(now, safety);
		again = run_ready(&next);
		if (reload_wanted && reload_at == 0)
			again = true;
		now = ks_clock_now();
		if (again)
			(void) pgstat_report_stat(false);
		next = earlier(next, ks_trim(now));
		again = again || signals_came();
		wait_for_events(again ? 0 : idle_timeout(now, earlier(next, reload_at), safety));
	}
}

/* ks_worker_main: entry point of a worker. */
void
ks_worker_main(Datum arg)
{
	KsWorkerTicket ticket;

	memcpy(&ticket, MyBgworkerEntry->bgw_extra, sizeof(ticket));
	on_proc_exit(hard_exit, (Datum) 0);
	pqsignal(SIGTERM, handle_sigterm);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	if (!ks_worker_attach(&ticket))
		proc_exit(0);
	before_shmem_exit(worker_exit, (Datum) 0);
	keep_memory();
	BackgroundWorkerInitializeConnectionByOid(ticket.database, InvalidOid, 0);
	pgstat_report_appname("kstream worker");
	pgstat_report_activity(STATE_IDLE, NULL);
	pin_settings();
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	worker_loop();
}
