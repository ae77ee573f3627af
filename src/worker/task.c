/*
 * task.c
 *		One continuous query made ready to run, and its micro-batches.
 *
 * A batch reads like this: fetch what has arrived (records of all sources),
 * compute event times, run the query over it (exec/; duplicates are hidden from
 * it), keep bad records as dead letters and the keys that must not come again,
 * store the positions by compare-and-set.  The caller commits.
 *
 * After any error the task is closed and opened again from the committed
 * positions; nothing in it survives that matters.
 *
 * Runs in: worker or a backend that steps.
 */
#include "postgres.h"

#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "access/table.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/faultpoint.h"
#include "base/guc.h"
#include "catalog/sink_cat.h"
#include "exec/query_exec.h"
#include "sql/verbs.h"
#include "store/dead_letter.h"
#include "store/join_buffer.h"
#include "store/late_record.h"
#include "stream/local_log.h"
#include "stream/outbox.h"
#include "worker/bootstrap.h"
#include "worker/source.h"
#include "worker/task.h"
#include "worker/watermark.h"

/* While a query waits for the tables it looks up, it looks this often. */
#define BOOTSTRAP_POLL_MS 50L

/* How often is looked whether too much waits to be published, while it does not and while it does. */
#define OUTBOX_CHECK_MS 200
#define OUTBOX_FULL_MS 50

/* Windows that one batch closes or expires, about. */
#define CLOSE_LIMIT 10000

/* Seconds to the next question at most, while no broker answers. */
#define LOOK_AGAIN_MAX 3

struct KsTask
{
	MemoryContext cxt;
	MemoryContext batch_cxt;	/* reset for every batch */
	KsQueryRow *query;
	KsQueryExec *exec;
	List	   *sources;		/* KsSource * */
	void		(*observer) (void *arg);	/* see ks_task_set_observer */
	void	   *observer_arg;
	int			max_rows;		/* of the running batch */
	bool		in_worker;		/* waits for nothing; otherwise for brokers, inside the transaction */
	bool		has_local;
	bool		fetched;		/* batch_cxt holds a batch */
	KsWatermark watermark;
	KsBootstrap *bootstrap;		/* tables to wait for before the first batch, or NULL */
	int			epoll_fd;		/* over the clients' descriptors and the timer, or -1 */
	int			timer_fd;		/* wakes the task while it waits for tables, or -1 */
	int			stop_sqlstate;	/* on_error = 'stop': the error to stop with, once committed */
	char	   *stop_message;
	bool		stopped;		/* what is before the bad record is committed */
	bool		outbox_full;	/* too much waits to be published: nothing is taken */
	TimestampTz outbox_checked;
	MemoryContextCallback callback;
};

/* Closes the descriptors when the task's memory goes. */
static void
close_descriptors(void *arg)
{
	KsTask	   *task = arg;

	if (task->epoll_fd >= 0)
		close(task->epoll_fd);
	if (task->timer_fd >= 0)
		close(task->timer_fd);
	task->epoll_fd = task->timer_fd = -1;
}

/* Adds a descriptor to the task's one. */
static void
watch_descriptor(KsTask *task, int fd)
{
	struct epoll_event event = {.events = EPOLLIN};

	if (task->epoll_fd < 0)
		task->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (task->epoll_fd < 0 || epoll_ctl(task->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not watch the descriptors of a continuous query: %m")));
}

/* One descriptor for all clients, and for the timer while tables are waited for. */
static void
make_eventfd(KsTask *task)
{
	ListCell   *lc;

	foreach(lc, task->sources)
	{
		KsSource   *source = lfirst(lc);

		if (source->consumer != NULL)
			watch_descriptor(task, ks_consumer_eventfd(source->consumer));
	}
	if (task->bootstrap != NULL)
	{
		const struct itimerspec every = {
			{0, BOOTSTRAP_POLL_MS * 1000000L}, {0, BOOTSTRAP_POLL_MS * 1000000L}
		};

		task->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
		if (task->timer_fd < 0 || timerfd_settime(task->timer_fd, 0, &every, NULL) < 0)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not create a timer: %m")));
		watch_descriptor(task, task->timer_fd);
	}
}

/* The tables are there: no more waiting. */
static void
end_bootstrap(KsTask *task)
{
	task->bootstrap = NULL;
	if (task->timer_fd >= 0)
		close(task->timer_fd);
	task->timer_fd = -1;
}

/* See task.h. */
KsTask *
ks_task_open(int32 query_id, bool in_worker)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "kstream task", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	KsTask	   *task = palloc0(sizeof(KsTask));
	List	   *stored;
	ListCell   *lc;

	task->cxt = cxt;
	task->in_worker = in_worker;
	task->epoll_fd = task->timer_fd = -1;
	task->callback.func = close_descriptors;
	task->callback.arg = task;
	MemoryContextRegisterResetCallback(cxt, &task->callback);
	task->batch_cxt = AllocSetContextCreate(cxt, "kstream batch", ALLOCSET_DEFAULT_SIZES);
	task->query = ks_query_load(query_id);
	if (task->query == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("continuous query %d does not exist", query_id)));

	PushCopiedSnapshot(GetTransactionSnapshot());
	UpdateActiveSnapshotCommandId();
	task->exec = ks_exec_open(task->query);
	stored = ks_positions_load(query_id);
	foreach(lc, ks_query_streams(task->query, NULL))
	{
		KsSource   *source = ks_source_open(task->query, lfirst_oid(lc), stored);

		task->sources = lappend(task->sources, source);
		if (source->consumer == NULL)
			task->has_local = true;
	}
	ks_watermark_init(&task->watermark, task->query, stored, in_worker);
	task->watermark.needed = ks_exec_needs_watermark(task->exec);
	task->bootstrap = ks_bootstrap_create(task->query, ks_exec_lookups(task->exec), stored);
	make_eventfd(task);
	PopActiveSnapshot();
	MemoryContextSwitchTo(old);
	return task;
}

/* See task.h. */
void
ks_task_set_quiet(KsTask *task, int64 quiet_us)
{
	task->watermark.quiet_us = quiet_us;
}

/* See task.h. */
void
ks_task_close(KsTask *task)
{
	ListCell   *lc;

	foreach(lc, task->sources)
		ks_source_close(lfirst(lc));
	ks_exec_close(task->exec);
	MemoryContextDelete(task->cxt);
}

/* Drops what is left of a batch. */
static void
forget_batch(KsTask *task)
{
	ListCell   *lc;

	foreach(lc, task->sources)
	{
		KsSource   *source = lfirst(lc);

		source->batch = NULL;
		source->events = NULL;
	}
	task->fetched = false;
	MemoryContextReset(task->batch_cxt);
}

/* Is there a position to store? */
static bool
position_moves(KsTask *task)
{
	ListCell   *lc;

	foreach(lc, task->sources)
	{
		KsSource   *source = lfirst(lc);

		for (int p = 0; p < source->nparts; p++)
		{
			if (source->parts[p].dirty || !ItemPointerIsValid(&source->parts[p].stored.tid))
				return true;
		}
	}
	return false;
}

/* Records that the batch moves the positions over. */
static int64
records_consumed(KsTask *task)
{
	ListCell   *lc;
	int64		n = 0;

	foreach(lc, task->sources)
	{
		KsSource   *source = lfirst(lc);

		for (int p = 0; p < source->nparts; p++)
			n += source->parts[p].next.records - source->parts[p].stored.records;
	}
	return n;
}

/* Rows taken so far. */
static int
batch_rows(KsTask *task)
{
	ListCell   *lc;
	int			n = 0;

	foreach(lc, task->sources)
	{
		KsSource   *source = lfirst(lc);

		if (source->batch != NULL)
			n += source->batch->nrows;
	}
	return n;
}

/* on_error = 'stop': nothing is left before the bad record. */
static void
raise_stop(KsTask *task)
{
	ereport(ERROR,
			(errcode(task->stop_sqlstate),
			 errmsg("%s", task->stop_message),
			 errhint("The query stopped there because of on_error = 'stop'; correct the cause and call kstream.resume().")));
}

/*
 * connect_sources
 *		Gets in touch with the brokers that have not answered so far.  False if
 *		there is nothing to be done before one does.
 */
static bool
connect_sources(KsTask *task)
{
	bool		any = false;
	ListCell   *lc;

	foreach(lc, task->sources)
		any |= ks_source_connect(lfirst(lc), !task->in_worker);
	return any && (task->bootstrap == NULL ||
				   ks_bootstrap_connect(task->bootstrap, !task->in_worker));
}

/* Is it time to look at the outboxes? */
static bool
outbox_check_is_due(const KsTask *task)
{
	return TimestampDifferenceExceeds(task->outbox_checked, ks_clock_now(),
									  task->outbox_full ? OUTBOX_FULL_MS : OUTBOX_CHECK_MS);
}

/* Looks whether more waits to be published of the query's relation than may. */
static void
check_outbox(KsTask *task)
{
	ListCell   *lc;

	task->outbox_full = false;
	task->outbox_checked = ks_clock_now();
	foreach(lc, ks_sinks_of_relation(task->query->relation))
	{
		if (ks_outbox_bytes(lfirst(lc)) > (int64) ks_outbox_max_bytes * 1024)
			task->outbox_full = true;
	}
}

/* Brings the watermark up to date; true if it closes something. */
static bool
windows_are_due(KsTask *task)
{
	if (!task->watermark.needed)
		return false;
	ks_watermark_compute(&task->watermark, task->sources);
	return task->watermark.value >= ks_exec_next_close(task->exec);
}

/* Event time up to which all of the source is read; DT_NOEND: there is nothing to read. */
static TimestampTz
source_time(const KsSource *source)
{
	TimestampTz least = DT_NOEND;

	for (int p = 0; p < source->nparts; p++)
	{
		if (!source->parts[p].at_end)
			least = Min(least, source->parts[p].next.stream_time);
	}
	return least;
}

/*
 * is_held_back
 *		Where streams are joined with each other, none is read ahead of the others
 *		in event time: what is read waits in a buffer for them.  This is about the
 *		size of the buffers only, so it ends where a source has nothing to read or
 *		is in trouble.  One of which nothing is known that is left to read is
 *		always looked at: what has come since may be far behind the others.
 */
static bool
is_held_back(KsTask *task, const KsSource *source)
{
	TimestampTz time = source_time(source);
	ListCell   *lc;

	if (!ks_exec_joins_streams(task->exec) || TIMESTAMP_IS_NOEND(time))
		return false;
	foreach(lc, task->sources)
	{
		KsSource   *other = lfirst(lc);

		if (other != source && other->connected && other->trouble[0] == '\0' && source_time(other) < time)
			return true;
	}
	return false;
}

/* Takes what has arrived from the topics that are not held back. */
static void
fetch_sources(KsTask *task, int max_rows)
{
	/* What one finds out may let another go on. */
	for (int round = 0; round < 2; round++)
	{
		ListCell   *lc;

		foreach(lc, task->sources)
		{
			KsSource   *source = lfirst(lc);

			if (source->consumer == NULL || source->batch != NULL)
				continue;
			/* A fair share each, so that a long backlog of one does not starve the others. */
			if (is_held_back(task, source))
				source->drained = false;
			else
				ks_source_fetch(source, task->batch_cxt, Max(1, max_rows / list_length(task->sources)));
		}
	}
}

/* Has nothing come of topics, and not been told for each partition that nothing is there? */
static bool
topics_are_unknown(KsTask *task)
{
	bool		unknown = false;
	ListCell   *lc;

	foreach(lc, task->sources)
	{
		KsSource   *source = lfirst(lc);

		if (source->consumer == NULL)
			continue;
		if (source->batch != NULL && source->batch->nrows > 0)
			return false;
		unknown |= !ks_source_caught_up(source);
	}
	return unknown;
}

/* See task.h. */
bool
ks_task_fetch(KsTask *task, int max_rows)
{
	ListCell   *lc;

	if (task->stopped)
		raise_stop(task);
	if (task->fetched)
		return true;
	task->max_rows = max_rows;
	if (task->outbox_full)		/* looked at again in ks_task_run */
		return outbox_check_is_due(task);
	if (!connect_sources(task))
		return false;
	/* Nothing is taken before the tables looked up are there (their state is read in ks_task_run). */
	if (task->bootstrap != NULL)
		return true;
	fetch_sources(task, max_rows);
	/* a step that returns 0 says that nothing is left */
	if (!task->in_worker && topics_are_unknown(task))
	{
		forget_batch(task);
		return false;
	}
	foreach(lc, task->sources)
	{
		KsSource   *source = lfirst(lc);

		if (source->batch == NULL)
			ks_source_empty_batch(source, task->batch_cxt);
	}
	if (task->has_local || position_moves(task) || windows_are_due(task))
	{
		task->fetched = true;
		return true;
	}
	foreach(lc, task->sources)
		ks_source_check(lfirst(lc));
	forget_batch(task);
	return false;
}

/* Newest record timestamp of the batch. */
static TimestampTz
newest_timestamp(KsTask *task)
{
	TimestampTz newest = DT_NOBEGIN;
	ListCell   *lc;

	foreach(lc, task->sources)
	{
		KsBatch    *batch = ((KsSource *) lfirst(lc))->batch;

		for (int i = 0; i < batch->nrows; i++)
			newest = Max(newest, batch->rows[i].rec.timestamp);
	}
	return newest;
}

/* The source whose batch it is. */
static KsSource *
source_of(KsTask *task, KsBatch *batch)
{
	ListCell   *lc;

	foreach(lc, task->sources)
	{
		if (((KsSource *) lfirst(lc))->batch == batch)
			return lfirst(lc);
	}
	elog(ERROR, "batch belongs to no source");
	return NULL;
}

/* The source that reads a stream. */
static KsSource *
source_of_stream(KsTask *task, Oid stream)
{
	ListCell   *lc;

	foreach(lc, task->sources)
	{
		if (((KsSource *) lfirst(lc))->reader->def->relid == stream)
			return lfirst(lc);
	}
	elog(ERROR, "no source reads stream %u", stream);
	return NULL;
}

/* Keeps bad records. */
static void
store_dead_letters(KsTask *task, List *bad)
{
	ListCell   *lc;

	foreach(lc, bad)
	{
		KsBadRow   *row = lfirst(lc);
		KsRecord   *rec = &row->batch->rows[row->row].rec;

		ks_dead_letter_store(task->query->id, row->batch, row->row, row->sqlstate, row->message);
		source_of(task, row->batch)->parts[rec->partition].next.dead++;
	}
}

/* Keeps late records and counts them with their partitions. */
static void
store_late_records(KsTask *task, List *late, List *batches)
{
	int64		before = 0;
	ListCell   *lc;

	if (late == NIL)
		return;
	foreach(lc, task->sources)
	{
		KsSource   *source = lfirst(lc);

		for (int p = 0; p < source->nparts; p++)
			before += source->parts[p].stored.late;
	}
	ks_late_records_store(task->query->id, before, late, batches);
	foreach(lc, late)
	{
		KsLateRow  *row = lfirst(lc);

		source_of_stream(task, row->source)->parts[row->partition].next.late++;
	}
}

/*
 * cut_at_bad_record
 *		on_error = 'stop': the position of the partition stays at its first bad
 *		record, and the counters at what is before it.
 */
static void
cut_at_bad_record(KsTask *task, KsBadRow *bad)
{
	KsSource   *source = source_of(task, bad->batch);
	KsRecord   *first = &bad->batch->rows[bad->row].rec;
	KsSourcePartition *part = &source->parts[first->partition];

	if (part->next.next_offset <= first->offset)
		return;
	part->next.stream_time = part->stored.stream_time;
	part->next.has_seam = part->stored.has_seam;
	part->next.seam_offset = part->stored.seam_offset;
	part->next.seam = part->stored.seam;
	for (int i = bad->batch->nrows - 1; i >= 0; i--)
	{
		KsRecord   *rec = &bad->batch->rows[i].rec;

		if (rec->partition != first->partition)
			continue;
		if (rec->offset >= first->offset && rec->offset < part->next.next_offset)
			part->next.records--;
		else if (rec->offset < first->offset)
		{
			part->next.stream_time = bad->batch->rows[i].stream_time;
			part->next.seam_offset = rec->offset;
			if (!bad->batch->local)
			{
				part->next.has_seam = true;
				part->next.seam = ks_record_fingerprint(rec);
			}
			break;
		}
	}
	part->next.has_stream_time = !TIMESTAMP_IS_NOBEGIN(part->next.stream_time);
	part->next.next_offset = first->offset;
	if (part->next.next_offset == part->stored.next_offset)
	{
		ItemPointerData tid = part->stored.tid;

		part->next = part->stored;
		part->next.tid = tid;
		part->dirty = false;
	}
}

/* The bad record that was read first; they are found branch by branch of a UNION ALL. */
static KsBadRow *
first_bad_record(List *bad)
{
	KsBadRow   *first = linitial(bad);
	ListCell   *lc;

	foreach(lc, bad)
	{
		KsBadRow   *row = lfirst(lc);

		if (row->batch == first->batch && row->row < first->row)
			first = row;
	}
	return first;
}

/* Remembers what to stop with, once what is before it is committed. */
static void
set_stop(KsTask *task, const KsStreamDef *def, const KsDeadRecord *record)
{
	MemoryContext old = MemoryContextSwitchTo(task->cxt);

	task->stop_sqlstate = record->sqlstate;
	task->stop_message = psprintf("bad record in %s, partition %d, offset " INT64_FORMAT ": %s",
								  def->relname, record->partition, record->offset, record->message);
	MemoryContextSwitchTo(old);
}

/* Remembers why the query stops, and where. */
static void
stop_at(KsTask *task, List *bad)
{
	KsBadRow   *row = first_bad_record(bad);
	KsStreamDef *def = row->batch->reader->def;
	KsRecord   *rec = &row->batch->rows[row->row].rec;
	KsDeadRecord record = {def->relid, rec->partition, rec->offset, row->sqlstate, row->message};
	ListCell   *lc;

	set_stop(task, def, &record);
	foreach(lc, bad)
		cut_at_bad_record(task, lfirst(lc));
}

/*
 * read_local_sources
 *		Reads the local sources, now that there is a transaction.  Where there is no
 *		room left, or a source is held back, it is still looked at: what is there to read?
 */
static void
read_local_sources(KsTask *task)
{
	List	   *done = NIL;

	/* What one finds out may let another go on that was held back. */
	for (int round = 0; round < 2; round++)
	{
		ListCell   *lc;

		foreach(lc, task->sources)
		{
			KsSource   *source = lfirst(lc);
			int			room = Max(task->max_rows - batch_rows(task), 0);

			if (source->consumer != NULL || list_member_ptr(done, source))
				continue;
			if (is_held_back(task, source))
			{
				ks_source_read_local(source, task->batch_cxt, 0);
				continue;
			}
			/* A fair share each of what are joined with each other. */
			if (room > 0 && round == 0 && ks_exec_joins_streams(task->exec))
				room = Max(room / (list_length(task->sources) - list_length(done)), 1);
			ks_source_read_local(source, task->batch_cxt, room);
			done = lappend(done, source);
		}
	}
}

/* Runs the query over the batch; positions and dead letters. */
static void
process_batch(KsTask *task, KsTaskProgress *progress)
{
	List	   *batches = NIL;
	KsExecResult result;
	KsOwnerScope scope;
	ListCell   *lc;

	/* event times are decoded as the other columns will be: as the owner, under the pinned settings */
	ks_owner_enter(task->query, &scope);
	foreach(lc, task->sources)
	{
		KsSource   *source = lfirst(lc);

		ks_source_advance(source);
		batches = lappend(batches, source->batch);
	}
	ks_owner_leave(&scope);
	KS_FAULT("after_decode");
	if (task->watermark.needed)
		ks_exec_set_watermark(task->exec, task->watermark.committed);
	ks_exec_run(task->exec, batches, &result);
	KS_FAULT("after_state");
	if (result.bad != NIL && task->query->stop_on_error)
		stop_at(task, result.bad);
	else
		store_dead_letters(task, result.bad);
	store_late_records(task, result.late, batches);
	foreach(lc, task->sources)
		ks_source_store_keys(lfirst(lc));
	progress->rows_out = result.rows_out;
	progress->dead = task->query->stop_on_error ? 0 : list_length(result.bad);
}

/* Keeps a record that turned out to be bad after its batch: as it stands in a local log, else without its bytes. */
static void
store_dead_record(KsTask *task, KsSource *source, const KsDeadRecord *record)
{
	KsBatch    *batch = ks_batch_create(source->reader, task->batch_cxt);

	if (source->reader->def->local)
		(void) ks_local_log_read(batch, record->partition, record->offset, record->offset + 1, 1);
	if (batch->nrows > 0)
		ks_dead_letter_store(task->query->id, batch, 0, record->sqlstate, record->message);
	else
		ks_dead_record_store(task->query->id, source->reader->def, record);
	source->parts[record->partition].next.dead++;
	source->parts[record->partition].dirty = true;
}

/*
 * store_dead_records
 *		Keeps what turned out to be bad when it was closed.  With on_error = 'stop'
 *		what was closed before it, closed rows of it, is kept; where that is nothing
 *		the query stops at once, and its positions do not move.
 */
static void
store_dead_records(KsTask *task, List *dead, int64 closed, KsTaskProgress *progress)
{
	ListCell   *lc;

	foreach(lc, dead)
	{
		KsDeadRecord *record = lfirst(lc);
		KsSource   *source = source_of_stream(task, record->source);

		if (task->query->stop_on_error)
		{
			set_stop(task, source->reader->def, record);
			if (closed == 0)
				raise_stop(task);
			return;
		}
		store_dead_record(task, source, record);
		progress->dead++;
	}
}

/*
 * close_windows
 *		Does what the watermark, as the batch has moved it, closes.  In a worker
 *		bounded per batch; the rest comes at once with the next ones.
 */
static void
close_windows(KsTask *task, KsTaskProgress *progress)
{
	int64		rows = 0;
	List	   *dead;
	bool		more;
	bool		due;

	if (!task->watermark.needed)
		return;
	due = windows_are_due(task);
	if (due)
	{
		do
		{
			KS_FAULT("before_close");
			rows += ks_exec_close_windows(task->exec, task->watermark.value,
										  CLOSE_LIMIT, &more, &dead);
			store_dead_records(task, dead, rows, progress);
			CHECK_FOR_INTERRUPTS();
		} while (more && !task->in_worker && (dead == NIL || !task->query->stop_on_error));
		progress->rows_out += rows;
		KS_FAULT("after_close");
		progress->closing = more;
		progress->more |= more;
	}
	ks_watermark_stamp(&task->watermark, task->sources, due);
}

/* The batch's output is counted with the first position that moves. */
static void
count_rows_out(KsTask *task, int64 rows_out)
{
	ListCell   *lc;

	foreach(lc, task->sources)
	{
		KsSource   *source = lfirst(lc);

		for (int p = 0; p < source->nparts; p++)
		{
			if (source->parts[p].dirty)
			{
				source->parts[p].next.rows_out += rows_out;
				return;
			}
		}
	}
}

/*
 * lock_relations
 *		Locks everything the batch will touch, sources first and results last.
 *		DDL locks in that order too (a stream before its log, a result before its
 *		state), so that it waits for a batch and does not deadlock with it.
 *
 *		A stream that was altered since the task was opened makes the batch fail in
 *		the way that is tried again at once.
 */
static void
lock_relations(KsTask *task)
{
	const Oid	written[] = {task->query->relation, task->query->state, task->query->inputs};
	ListCell   *lc;

	foreach(lc, task->sources)
	{
		KsReader   *reader = ((KsSource *) lfirst(lc))->reader;
		Relation	rel = table_open(reader->def->relid, AccessShareLock);

		if (!equalTupleDescs(RelationGetDescr(rel), reader->desc))
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("stream \"%s\" was altered", RelationGetRelationName(rel))));
		table_close(rel, NoLock);
	}
	foreach(lc, ks_exec_lookups(task->exec))
		LockRelationOid(lfirst_oid(lc), AccessShareLock);
	for (int i = 0; i < lengthof(written); i++)
	{
		if (OidIsValid(written[i]))
			LockRelationOid(written[i], RowExclusiveLock);
	}
	foreach(lc, ks_join_buffers(task->query->id))
		LockRelationOid(lfirst_oid(lc), RowExclusiveLock);
}

/* See task.h. */
void
ks_task_run(KsTask *task, KsTaskProgress *progress)
{
	MemoryContext old = MemoryContextSwitchTo(task->batch_cxt);
	ListCell   *lc;

	memset(progress, 0, sizeof(*progress));
	progress->newest = DT_NOBEGIN;
	lock_relations(task);
	PushCopiedSnapshot(GetTransactionSnapshot());
	UpdateActiveSnapshotCommandId();
	if (task->bootstrap != NULL)
	{
		if (ks_bootstrap_done(task->bootstrap))
		{
			end_bootstrap(task);
			progress->more = true;
		}
		PopActiveSnapshot();
		MemoryContextSwitchTo(old);
		return;
	}
	if (task->outbox_full || outbox_check_is_due(task))
		check_outbox(task);
	/* It was only to look whether the outbox has room again: then a fetch comes first. */
	if (!task->fetched)
	{
		progress->more = !task->outbox_full;
		PopActiveSnapshot();
		MemoryContextSwitchTo(old);
		return;
	}
	read_local_sources(task);
	if (position_moves(task) || windows_are_due(task))
	{
		int			taken = batch_rows(task);

		progress->newest = newest_timestamp(task);
		if (task->observer != NULL)
			task->observer(task->observer_arg);
		if (taken > 0)
			process_batch(task, progress);
		if (task->stop_message != NULL && !position_moves(task))
			raise_stop(task);
		close_windows(task, progress);
		progress->records = records_consumed(task);
		count_rows_out(task, progress->rows_out);
		foreach(lc, task->sources)
			ks_source_store(lfirst(lc), task->query->id);
		KS_FAULT("after_positions");
		progress->advanced = true;
		progress->more |= taken >= task->max_rows / list_length(task->sources);
		if (task->stop_message != NULL)
			progress->more = true;
	}
	PopActiveSnapshot();
	MemoryContextSwitchTo(old);
}

/* See task.h. */
void
ks_task_set_observer(KsTask *task, void (*fn) (void *arg), void *arg)
{
	task->observer = fn;
	task->observer_arg = arg;
}

/* See task.h. */
void
ks_task_committed(KsTask *task)
{
	ListCell   *lc;

	if (task->fetched)
	{
		foreach(lc, task->sources)
			ks_source_committed(lfirst(lc));
		task->watermark.committed = task->watermark.value;
	}
	if (task->stop_message != NULL)
		task->stopped = true;
	forget_batch(task);
}

/* See task.h. */
int
ks_task_eventfd(const KsTask *task)
{
	return task->epoll_fd;
}

/* See task.h. */
void
ks_task_drain_eventfd(KsTask *task)
{
	ListCell   *lc;

	foreach(lc, task->sources)
	{
		KsSource   *source = lfirst(lc);

		if (source->consumer != NULL)
			ks_consumer_drain_eventfd(source->consumer);
	}
	if (task->timer_fd >= 0)
	{
		uint64		expirations;

		if (read(task->timer_fd, &expirations, sizeof(expirations)) < 0)
			return;				/* not expired */
	}
}

/* See task.h. */
bool
ks_task_closes_windows(const KsTask *task)
{
	return task->watermark.needed;
}

/* See task.h. */
bool
ks_task_is_held_up(const KsTask *task)
{
	return task->outbox_full;
}

/* See task.h. */
bool
ks_task_caught_up(const KsTask *task)
{
	ListCell   *lc;

	if (task->bootstrap != NULL || task->fetched || task->outbox_full)
		return false;
	foreach(lc, task->sources)
	{
		if (!ks_source_caught_up(lfirst(lc)))
			return false;
	}
	return true;
}

/* See task.h. */
void
ks_task_visit_partitions(const KsTask *task, KsPartitionVisitor fn, void *arg)
{
	ListCell   *lc;

	foreach(lc, task->sources)
	{
		KsSource   *source = lfirst(lc);

		for (int p = 0; p < source->nparts; p++)
		{
			KsSourcePartition *part = &source->parts[p];
			KsPartitionState state = {
				.next_offset = part->stored.next_offset,
				.end_offset = part->end,
				.stream_time = part->stored.stream_time,
				.idle = task->watermark.needed ? part->idle : part->stored.next_offset >= part->end,
				.quiet_us = part->quiet_us
			};

			fn(source->reader->def->relid, p, &state, arg);
		}
	}
}

/* See task.h. */
const char *
ks_task_trouble(const KsTask *task)
{
	ListCell   *lc;

	foreach(lc, task->sources)
	{
		KsSource   *source = lfirst(lc);

		if (source->trouble[0] != '\0')
			return source->trouble;
	}
	if (task->outbox_full)
		return "waiting for its outbox to be published (kstream.outbox_max_bytes)";
	return task->bootstrap != NULL ? ks_bootstrap_trouble(task->bootstrap) : NULL;
}

/* See task.h. */
int
ks_task_look_again_ms(const KsTask *task)
{
	int			failed = task->bootstrap == NULL ? 0 : ks_bootstrap_failed_requests(task->bootstrap);
	ListCell   *lc;

	foreach(lc, task->sources)
	{
		KsSource   *source = lfirst(lc);

		if (!source->connected)
			failed = Max(failed, source->failed_requests);
	}
	if (task->outbox_full)
		return OUTBOX_FULL_MS;
	return Min(failed, LOOK_AGAIN_MAX) * 1000;
}

/* See task.h. */
int
ks_task_clock_ms(const KsTask *task)
{
	if (!task->watermark.needed || task->bootstrap != NULL || task->outbox_full)
		return 0;
	return ks_watermark_wait_ms(&task->watermark, task->sources, ks_exec_next_close(task->exec));
}
