/*
 * wait.c
 *		kstream.wait(): waiting until queries have processed what there is.
 *
 * Targets are waited for level by level (see wait_targets.c): the ends of their
 * sources are taken when everything that feeds them has arrived, at first when
 * the function is called; then the stored positions are looked at until each has
 * reached its end.  Positions and
 * definitions are read by catalog scans, whose snapshot is always a new one, so
 * that the function works in every isolation level.  Where nothing is stored
 * for a partition (the query starts behind all that is there, or has only moved
 * over records it does not see), the position that the worker shows in shared
 * memory counts: it is behind nothing that is not committed.
 *
 * Runs in: any backend.  A client handle made for a Kafka source lives in a
 * memory context of this call and goes with it, also after an error.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "base/clock.h"
#include "base/compat.h"
#include "base/guc.h"
#include "catalog/namespace.h"
#include "catalog/query_cat.h"
#include "catalog/stream_def.h"
#include "fmgr.h"
#include "kafka/consumer.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "store/join_buffer.h"
#include "stream/local_log.h"
#include "stream/outbox.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"
#include "worker/slots.h"
#include "worker/stats.h"
#include "worker/wait.h"
#include "worker/wait_targets.h"
#include "worker/wakeup.h"

#define KS_RECHECK_MS 100		/* beside the signals of workers */
#define KS_BROKER_WAIT_MS 10000 /* for one answer of a broker, where there is no limit */
#define KS_BROKER_RETRY_MS 200
#define HINT_IN_ERROR "\nHINT:  "

/* Columns of kstream_catalog.position that are read here. */
#define ANUM_POSITION_QUERY 1
#define ANUM_POSITION_SOURCE 2
#define ANUM_POSITION_PARTITION 3
#define ANUM_POSITION_NEXT_OFFSET 4

/* A client that is open for this call: one per server and user. */
typedef struct KsWaitClient
{
	Oid			server;
	Oid			user;
	KsConsumer *consumer;
} KsWaitClient;

typedef struct KsWait
{
	List	   *targets;		/* KsTarget * */
	List	   *clients;		/* KsWaitClient * */
	bool		limited;
	TimestampTz deadline;
} KsWait;

PG_FUNCTION_INFO_V1(ks_wait);

/* relation_text: the name as the caller would write it. */
static const char *
relation_text(Oid relid)
{
	return DatumGetCString(DirectFunctionCall1(regclassout, ObjectIdGetDatum(relid)));
}

/* ms_left: until the deadline; at most limit. */
static int
ms_left(const KsWait *wait, int limit)
{
	if (!wait->limited)
		return limit;
	return Min(TimestampDifferenceMilliseconds(GetCurrentTimestamp(), wait->deadline), limit);
}

/* what_is: how messages call the target. */
static const char *
what_is(const KsTarget *t)
{
	return t->is_sink ? "sink" : "continuous query";
}

/*
 * stopped: raises KS002 for a query that does not move.  A hint at the end of the
 * detail, which may be the text of an error (see error_text in runner.c), counts
 * where none is given.
 */
static void
stopped(const KsTarget *t, const char *how, const char *detail, const char *hint)
{
	const char *own = detail != NULL ? strstr(detail, HINT_IN_ERROR) : NULL;

	if (own != NULL)
	{
		detail = pnstrdup(detail, own - detail);
		if (hint == NULL)
			hint = own + strlen(HINT_IN_ERROR);
	}
	ereport(ERROR,
			(errcode(KS_ERRCODE_WAIT_STOPPED),
			 errmsg("%s %s %s", what_is(t), t->name, how),
			 detail != NULL && detail[0] != '\0' ? errdetail_internal("%s", detail) : 0,
			 hint != NULL ? errhint("%s", hint) : 0));
}

/*
 * error_of: the text of the error that stopped it.  That in the catalog is older
 * or the same, but shared memory has room for its beginning only.
 */
static const char *
error_of(const KsQueryStatus *status, const char *last_error)
{
	if (last_error != NULL && strncmp(last_error, status->message, strlen(status->message)) == 0)
		return last_error;
	return status->message;
}

/* retry_hint: what the error itself advises, and when a failed query or sink is tried again. */
static const char *
retry_hint(const KsQueryStatus *status, const char *error)
{
	const char *own = strstr(error, HINT_IN_ERROR);
	long		ms = TimestampDifferenceMilliseconds(ks_clock_now(), status->retry_at);

	return psprintf("%s It is tried again by itself in %ld s, or at once by kstream.resume.",
					own != NULL ? own + strlen(HINT_IN_ERROR) : "Remove the cause.", ms / 1000 + 1);
}

/* check_going: raises KS002 if the query or sink is paused, blocked or failed. */
static void
check_going(const KsTarget *t, bool paused, const char *instance, int32 generation, const char *last_error)
{
	KsQueryStatus status;

	if (paused)
		stopped(t, "is paused", last_error, "Use kstream.resume to go on.");
	if (strcmp(instance, ks_instance_id()) != 0)
		stopped(t, "is blocked", "It was restored or copied from another database.",
				"Use kstream.resume to run it in this database.");
	if (!ks_stat_status(t->id, &status) || status.generation != generation)
		return;
	if (status.state == KS_STATE_BLOCKED)
		stopped(t, "is blocked", error_of(&status, last_error), NULL);
	if (status.state == KS_STATE_FAILED)
	{
		const char *error = error_of(&status, last_error);

		stopped(t, "has failed", error, retry_hint(&status, error));
	}
}

/* check_status: raises KS002 if the target does not move; returns its generation. */
static int32
check_status(const KsTarget *t)
{
	if (t->is_sink)
	{
		KsSinkRow  *sink = ks_sink_load(t->id);

		if (sink == NULL)
			stopped(t, "was dropped", NULL, NULL);
		check_going(t, sink->paused, sink->instance, sink->generation, sink->last_error);
		return sink->generation;
	}
	else
	{
		KsQueryRow *row = ks_query_load(t->id);

		if (row == NULL)
			stopped(t, "was dropped", NULL, NULL);
		check_going(t, row->paused, row->instance, row->generation, row->last_error);
		return row->generation;
	}
}

/* changed_here: has this transaction written the target's definition? */
static bool
changed_here(const KsTarget *t)
{
	KsSinkRow  *sink = t->is_sink ? ks_sink_load(t->id) : NULL;
	KsQueryRow *query = t->is_sink ? NULL : ks_query_load(t->id);

	return (sink != NULL && sink->changed_here) || (query != NULL && query->changed_here);
}

/* check_committed: what this transaction created or changed (resume, reset) no worker can see. */
static void
check_committed(const KsTarget *t)
{
	Relation	rel = table_open(t->relation, AccessShareLock);
	bool		created_here = rel->rd_createSubid != InvalidSubTransactionId;

	table_close(rel, AccessShareLock);
	if (created_here || changed_here(t))
		stopped(t, created_here ? "was created by this transaction" : "was changed by this transaction",
				"Nothing is processed before the transaction has committed.", NULL);
}

/* add_end: a partition in which there is something to reach. */
static void
add_end(KsTarget *t, Oid source, int32 partition, int64 first, int64 end)
{
	KsEnd	   *e;

	if (end <= first)
		return;
	e = palloc0(sizeof(KsEnd));
	e->source = source;
	e->partition = partition;
	e->end = end;
	t->ends = lappend(t->ends, e);
}

/* add_local_ends: what is committed in the log of a local stream. */
static void
add_local_ends(KsTarget *t, Oid source)
{
	int			npartitions = ks_local_log_partitions(source);

	for (int p = 0; p < npartitions; p++)
	{
		int64		first;
		int64		end;

		ks_local_log_range(source, p, &first, &end);
		add_end(t, source, p, first, end);
	}
}

/* client_for: the client that can ask about the stream's topic. */
static KsConsumer *
client_for(KsWait *wait, const KsStreamDef *def)
{
	KsWaitClient *client;
	ListCell   *lc;

	foreach(lc, wait->clients)
	{
		client = lfirst(lc);
		if (client->server == def->serverid && client->user == def->owner)
			return client->consumer;
	}
	client = palloc(sizeof(KsWaitClient));
	client->server = def->serverid;
	client->user = def->owner;
	client->consumer = ks_consumer_open(def->serverid, def->owner, "wait");
	wait->clients = lappend(wait->clients, client);
	return client->consumer;
}

/* add_topic_ends: what the broker says is in the topic. */
static void
add_topic_ends(KsWait *wait, KsTarget *t, const KsStreamDef *def)
{
	KsConsumer *consumer = client_for(wait, def);
	int			npartitions = ks_topic_partition_count(consumer, def->topic,
													   ms_left(wait, KS_BROKER_WAIT_MS));

	for (int p = 0; p < npartitions; p++)
	{
		int64		first;
		int64		end;

		ks_topic_offsets(consumer, def->topic, p, ms_left(wait, KS_BROKER_WAIT_MS), &first, &end);
		add_end(t, def->relid, p, first, end);
	}
}

/* no_worker_hint: why a query that nobody has looked at may wait. */
static const char *
no_worker_hint(void)
{
	if (ks_database_workers(MyDatabaseId) == 0)
		return "No worker has taken it yet; see the server's log, and max_worker_processes, which the databases of the server share.";
	return "No worker has taken it yet; the server's log may say why.";
}

/* timed_out: raises KS001. */
static void
timed_out(const KsTarget *t, const char *detail)
{
	KsQueryStatus status;
	bool		known = ks_stat_status(t->id, &status);

	ereport(ERROR,
			(errcode(KS_ERRCODE_WAIT_TIMEOUT),
			 errmsg("timed out waiting for %s %s", what_is(t), t->name),
			 errdetail_internal("%s", detail),
			 !known ? errhint("%s", no_worker_hint()) :
			 status.message[0] != '\0' ? errhint("It waits: %s.", status.message) : 0));
}

/*
 * try_topic_ends: as add_topic_ends, in a subtransaction.  Returns false if the
 * broker does not answer, with the client library's message.
 */
static bool
try_topic_ends(KsWait *wait, KsTarget *t, const KsStreamDef *def, const char **why)
{
	MemoryContext cxt = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	int			nbefore = list_length(t->ends);
	volatile bool done = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(cxt);
	PG_TRY();
	{
		add_topic_ends(wait, t, def);
		ReleaseCurrentSubTransaction();
		done = true;
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(cxt);
		edata = CopyErrorData();
		if (ERRCODE_TO_CATEGORY(edata->sqlerrcode) != ERRCODE_CONNECTION_EXCEPTION)
			PG_RE_THROW();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		t->ends = list_truncate(t->ends, nbefore);
		*why = edata->message;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(cxt);
	CurrentResourceOwner = owner;
	return done;
}

/* add_kafka_ends: asks the broker, and waits for one that is not there. */
static void
add_kafka_ends(KsWait *wait, KsTarget *t, const KsStreamDef *def)
{
	const char *why = "";

	while (!try_topic_ends(wait, t, def, &why))
	{
		(void) check_status(t);
		if (wait->limited && ms_left(wait, 1) == 0)
			timed_out(t, psprintf("The end of topic \"%s\" is not known: %s", def->topic, why));
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 ms_left(wait, KS_BROKER_RETRY_MS), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* capture_outbox: where the outbox of the sink ends now. */
static void
capture_outbox(KsTarget *t)
{
	KsSinkRow  *sink = ks_sink_load(t->id);

	if (sink == NULL)
		return;
	if (ks_append_is_pending(sink->halves[0].rows))
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("cannot wait for \"%s\" in a transaction that has written to it", t->name),
				 errhint("What was written is published after COMMIT; wait then.")));
	t->end = ks_outbox_end(sink);
}

/* capture_ends: where the sources of the target end now. */
static void
capture_ends(KsWait *wait, KsTarget *t)
{
	ListCell   *lc;

	(void) check_status(t);
	check_committed(t);
	if (t->is_sink)
	{
		capture_outbox(t);
		return;
	}
	foreach(lc, ks_wait_sources(ks_query_load(t->id)))
	{
		KsStreamDef *def = ks_stream_def_of(lfirst_oid(lc));

		if (def->local)
			add_local_ends(t, def->relid);
		else
			add_kafka_ends(wait, t, def);
	}
}

/* stored_position: next offset of the query in the partition, or -1. */
static int64
stored_position(Relation positions, Oid index, int32 query, const KsEnd *e)
{
	ScanKeyData keys[3];
	SysScanDesc scan;
	HeapTuple	tup;
	int64		position = -1;

	ScanKeyInit(&keys[0], ANUM_POSITION_QUERY, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(query));
	ScanKeyInit(&keys[1], ANUM_POSITION_SOURCE, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(e->source));
	ScanKeyInit(&keys[2], ANUM_POSITION_PARTITION, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(e->partition));
	scan = systable_beginscan(positions, index, true, NULL, 3, keys);
	tup = systable_getnext(scan);
	if (HeapTupleIsValid(tup))
	{
		bool		isnull;

		position = DatumGetInt64(heap_getattr(tup, ANUM_POSITION_NEXT_OFFSET,
											  RelationGetDescr(positions), &isnull));
	}
	systable_endscan(scan);
	return position;
}

/* target_behind: the first place that the query has not reached, or NULL; *position is where it is. */
static KsEnd *
target_behind(Relation positions, Oid index, const KsTarget *t, int32 generation, int64 *position)
{
	ListCell   *lc;

	foreach(lc, t->ends)
	{
		KsEnd	   *e = lfirst(lc);

		if (e->reached)
			continue;
		*position = stored_position(positions, index, t->id, e);
		if (*position < e->end)
			*position = Max(*position,
							ks_stat_position(t->id, e->source, e->partition, generation));
		if (*position < e->end)
			return e;
		e->reached = true;
	}
	return NULL;
}

/* closes_windows: does what has been read lead to more than the batch that read it does? */
static bool
closes_windows(int32 query)
{
	KsQueryRow *row = ks_query_load(query);

	return row != NULL && (row->emit_final || row->retention_us >= 0 || ks_join_buffers(row->id) != NIL);
}

/* why_behind: what the target has not reached, or NULL if it has reached everything. */
static const char *
why_behind(const KsTarget *t, Relation positions, Oid index, int32 generation)
{
	int64		position;
	KsEnd	   *e;

	if (t->is_sink)
	{
		KsPublished published = {0};

		(void) ks_published_load(t->id, &published);
		return published.position >= t->end ? NULL :
			psprintf("It has published %lld of %lld records.", (long long) published.position, (long long) t->end);
	}
	e = target_behind(positions, index, t, generation, &position);
	if (e != NULL)
		return psprintf("It is at offset %lld of partition %d of %s, the end was %lld.",
						(long long) Max(position, 0), e->partition, relation_text(e->source), (long long) e->end);
	if (closes_windows(t->id) && !ks_stat_is_settled(t->id))
		return "It has read everything and is closing windows.";
	return NULL;
}

/* check_started: raises KS002 where nothing will reach what is behind; why says what that is. */
static void
check_started(const KsTarget *t, const char *why)
{
	if (!ks_start_workers)
		stopped(t, "does not run", psprintf("kstream.start_workers is off. %s", why),
				"Set kstream.start_workers = on in postgresql.conf and reload it.");
}

/*
 * all_reached: have all targets of the level reached their ends?  Raises KS001
 * if the time is up, KS002 if one stopped.
 */
static bool
all_reached(KsWait *wait, int level)
{
	Oid			relid = get_relname_relid("position", get_namespace_oid("kstream_catalog", false));
	Relation	positions = table_open(relid, AccessShareLock);
	Oid			index = get_relname_relid("position_pkey", RelationGetNamespace(positions));
	bool		late = wait->limited && GetCurrentTimestamp() >= wait->deadline;
	bool		done = true;
	ListCell   *lc;

	foreach(lc, wait->targets)
	{
		KsTarget   *t = lfirst(lc);
		const char *why;

		if (t->level != level || t->reached)
			continue;
		why = why_behind(t, positions, index, check_status(t));
		if (why == NULL)
		{
			t->reached = true;
			continue;
		}
		check_started(t, why);
		if (late)
			timed_out(t, why);
		done = false;
	}
	table_close(positions, AccessShareLock);
	return done;
}

/* check_running: raises KS002 where no worker can exist. */
static void
check_running(void)
{
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(KS_ERRCODE_WAIT_STOPPED),
				 errmsg("continuous queries are not running"),
				 errdetail("The server is a standby."),
				 errhint("They go on when it is promoted.")));
	if (!ks_workers_possible())
		ereport(ERROR,
				(errcode(KS_ERRCODE_WAIT_STOPPED),
				 errmsg("continuous queries are not running"),
				 errhint("Add kstream to shared_preload_libraries and restart the server.")));
}

/* wait_until_reached: looks, sleeps until a worker commits something, looks again. */
static void
wait_until_reached(KsWait *wait, int level)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "kstream wait",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	bool		done = false;

	while (!done)
	{
		ConditionVariable *cv = ks_progress_cv(MyDatabaseId);

		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(cxt);
		if (cv != NULL)
			ConditionVariablePrepareToSleep(cv);
		done = all_reached(wait, level);
		if (done)
			break;
		if (cv != NULL)
			(void) ConditionVariableTimedSleep(cv, ms_left(wait, KS_RECHECK_MS), PG_WAIT_EXTENSION);
		else
		{
			(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							 ms_left(wait, KS_RECHECK_MS), PG_WAIT_EXTENSION);
			ResetLatch(MyLatch);
		}
	}
	ConditionVariableCancelSleep();
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}

/* wait_for_level: takes the ends of the level's targets, and waits until they are reached. */
static void
wait_for_level(KsWait *wait, int level)
{
	ListCell   *lc;

	foreach(lc, wait->targets)
	{
		if (((KsTarget *) lfirst(lc))->level == level)
			capture_ends(wait, lfirst(lc));
	}
	foreach(lc, wait->clients)
		ks_consumer_close(((KsWaitClient *) lfirst(lc))->consumer);
	wait->clients = NIL;
	wait_until_reached(wait, level);
}

/*
 * ks_wait: SQL function kstream.wait(name text, timeout interval).  A NULL name
 * means all queries of the caller, a NULL timeout no limit.
 */
Datum
ks_wait(PG_FUNCTION_ARGS)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "kstream wait clients",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	KsWait	   *wait = palloc0(sizeof(KsWait));

	wait->limited = !PG_ARGISNULL(1);
	if (wait->limited)
		wait->deadline = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
																 TimestampTzGetDatum(GetCurrentTimestamp()),
																 PG_GETARG_DATUM(1)));
	wait->targets = ks_wait_targets(PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0)));
	if (wait->targets != NIL)
		check_running();
	for (int level = 0; level <= ks_wait_levels(wait->targets); level++)
		wait_for_level(wait, level);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
	PG_RETURN_VOID();
}
