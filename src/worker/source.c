/*
 * source.c
 *		One stream as a task reads it.
 *
 * A source is read from positions of our own; there is no consumer group.  What
 * Kafka may do to a topic behind our back is found out here and never passed
 * over in silence: a topic that is missing, re-created or truncated, records
 * that retention removed before they were read, data that cannot be read.  To
 * tell a re-created topic from the one read before, the last record consumed is
 * fetched again and its fingerprint compared (the seam check), because brokers
 * and client of this age do not tell.
 *
 * New partitions are looked for now and then and read from their beginning,
 * whatever the query's start was.
 *
 * Runs in: worker or a backend that steps.
 */
#include "postgres.h"

#include "access/table.h"
#include "miscadmin.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "stream/local_log.h"
#include "worker/source.h"
#include "worker/stats.h"

/* Requests to a broker that has just answered another. */
#define REQUEST_TIMEOUT_MS 5000
#define PARTITIONS_INTERVAL_MS 10000

/* Most bytes a batch takes from the client. */
#define MAX_BATCH_BYTES ((Size) 64 * 1024 * 1024)

/* Changes of servers and user mappings that this process has been told of. */
static uint64 server_changes = 0;

/* Keeps an error to be raised when the records before it are processed. */
static void
set_pending(KsSource *source, int sqlstate, char *message, const char *hint)
{
	MemoryContext old;

	if (source->pending_error != NULL)
		return;
	old = MemoryContextSwitchTo(source->cxt);
	source->pending_error = pstrdup(message);
	source->pending_sqlstate = sqlstate;
	source->pending_hint = pstrdup(hint);
	MemoryContextSwitchTo(old);
}

/* See source.h. */
void
ks_source_check(KsSource *source)
{
	if (source->pending_error != NULL)
		ereport(ERROR,
				(errcode(source->pending_sqlstate),
				 errmsg("%s", source->pending_error),
				 errhint("%s", source->pending_hint)));
}

/* A position for a partition that has none stored. */
static void
start_partition(KsSource *source, KsSourcePartition *part, int32 partition, const char *start)
{
	KsStreamDef *def = source->reader->def;

	memset(part, 0, sizeof(*part));
	ItemPointerSetInvalid(&part->stored.tid);
	part->stored.source = def->relid;
	part->stored.partition = partition;
	part->stored.leader_epoch = -1;
	part->stored.stream_time = part->stored.watermark = part->stored.moved_at = DT_NOBEGIN;
	part->stored.next_offset = ks_start_offset(def, source->consumer, partition, start, REQUEST_TIMEOUT_MS);
	part->next = part->stored;
	part->end = -1;
}

/* The position must lie within what the topic holds now. */
static void
check_range(KsSource *source, const KsPosition *pos)
{
	KsStreamDef *def = source->reader->def;
	int64		first;
	int64		end;

	ks_topic_offsets(source->consumer, def->topic, pos->partition, REQUEST_TIMEOUT_MS, &first, &end);
	if (pos->next_offset < first)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("records of topic \"%s\" partition %d were removed before they were read",
						def->topic, pos->partition),
				 errdetail("Offsets " INT64_FORMAT " to " INT64_FORMAT " are gone by retention or deletion.",
						   pos->next_offset, first - 1),
				 errhint("Call kstream.reset() to build the table anew from what the topic still holds.")));
	if (pos->next_offset > end)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("topic \"%s\" partition %d was truncated or replaced", def->topic, pos->partition),
				 errdetail("It ends at offset " INT64_FORMAT ", before the position " INT64_FORMAT " that was read up to.",
						   end, pos->next_offset),
				 errhint("If the topic was re-created, call kstream.reset() to build the table anew from it.")));
}

/* The last record consumed must still be the one that was consumed. */
static void
check_seam(KsSource *source, const KsPosition *pos)
{
	KsStreamDef *def = source->reader->def;
	int64		found;
	uint64		fingerprint;

	if (!pos->has_seam)
		return;
	if (!ks_topic_fingerprint(source->consumer, def->topic, pos->partition, pos->seam_offset,
							  REQUEST_TIMEOUT_MS, &found, &fingerprint))
		return;
	/* Compacted away or expired: nothing to compare with. */
	if (found != pos->seam_offset || fingerprint == pos->seam)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("topic \"%s\" was replaced", def->topic),
			 errdetail("The record at partition %d, offset " INT64_FORMAT " is not the one that was read before.",
					   pos->partition, pos->seam_offset),
			 errhint("If the topic was re-created or the server now leads to another cluster, call kstream.reset() to build the table anew.")));
}

/* The stored position of a partition, or NULL. */
static KsPosition *
find_stored(List *stored, Oid relid, int32 partition)
{
	ListCell   *lc;

	foreach(lc, stored)
	{
		KsPosition *pos = lfirst(lc);

		if (pos->source == relid && pos->partition == partition)
			return pos;
	}
	return NULL;
}

/* Partitions of the stream now; a missing topic is an error. */
static int
count_partitions(KsSource *source, int timeout_ms)
{
	KsStreamDef *def = source->reader->def;
	int			n;

	if (def->local)
		return ks_local_log_partitions(def->relid);
	n = ks_topic_partition_count(source->consumer, def->topic, timeout_ms);
	if (n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("topic \"%s\" does not exist", def->topic),
				 errhint("The query goes on by itself when the topic is there; state and positions are kept.")));
	return n;
}

/* Grows the array to n partitions; those without a stored position begin at start. */
static void
add_partitions(KsSource *source, int n, List *stored, const char *start)
{
	MemoryContext old = MemoryContextSwitchTo(source->cxt);
	KsStreamDef *def = source->reader->def;

	source->parts = source->parts == NULL ? palloc(sizeof(KsSourcePartition) * n) :
		repalloc(source->parts, sizeof(KsSourcePartition) * n);
	for (int p = source->nparts; p < n; p++)
	{
		KsSourcePartition *part = &source->parts[p];
		KsPosition *pos = find_stored(stored, def->relid, p);

		if (pos != NULL)
		{
			memset(part, 0, sizeof(*part));
			part->stored = part->next = *pos;
			part->end = -1;
			if (!def->local)
			{
				check_range(source, pos);
				check_seam(source, pos);
			}
		}
		else
			start_partition(source, part, p, start);
	}
	for (int p = source->nparts; p < n; p++)
	{
		source->parts[p].heard = ks_clock_now();
		source->parts[p].quiet_us = -1;
	}
	/* Only now, when nothing can fail any more: what is assigned is read. */
	for (int p = source->nparts; p < n && !def->local; p++)
		ks_consumer_assign(source->consumer, def->topic, p, source->parts[p].stored.next_offset);
	source->nparts = n;
	MemoryContextSwitchTo(old);
}

/* Syscache callback: options of some server, or a user mapping, have changed. */
static void
servers_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	server_changes++;
}

/* Notes which options the source is opened with. */
static void
note_server(KsSource *source)
{
	static bool watching = false;

	if (!watching)
	{
		CacheRegisterSyscacheCallback(FOREIGNSERVEROID, servers_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(USERMAPPINGOID, servers_changed, (Datum) 0);
		watching = true;
	}
	source->server_changes = server_changes;
}

/* See source.h. */
KsSource *
ks_source_open(const KsQueryRow *query, Oid stream, List *stored)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "kstream source", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	KsSource   *source = palloc0(sizeof(KsSource));
	Relation	rel = table_open(stream, AccessShareLock);
	KsStreamDef *def;
	ListCell   *lc;

	source->cxt = cxt;
	source->query = query->id;
	source->reader = ks_reader_create(rel);
	table_close(rel, NoLock);
	def = source->reader->def;
	note_server(source);
	source->dedup = ks_dedup_open(query, source->reader);
	source->idle_timeout_us = query->idle_timeout_us;
	source->positions = stored;
	source->start = query->start;
	foreach(lc, stored)
	{
		/* partitions that came later are read from their beginning */
		if (((KsPosition *) lfirst(lc))->source == stream)
			source->start = "earliest";
	}
	if (def->local)
		(void) ks_source_connect(source, true);
	else
		source->consumer = ks_consumer_open(def->serverid, def->owner, psprintf("query %d", query->id));
	MemoryContextSwitchTo(old);
	return source;
}

/* No broker answers at first: nothing is known of the time before, neither now nor for the next task. */
static void
note_away(KsSource *source)
{
	ListCell   *lc;

	if (source->was_away)
		return;
	source->was_away = true;
	foreach(lc, source->positions)
	{
		KsPosition *pos = lfirst(lc);

		if (pos->source == source->reader->def->relid)
			ks_stat_forget_quiet(source->query, pos->source, pos->partition);
	}
}

/*
 * ask_broker
 *		Brings the partitions up to date.  Where no broker answers this returns
 *		false instead of raising the error; all others are raised.
 */
static bool
ask_broker(KsSource *source)
{
	MemoryContext old = CurrentMemoryContext;
	int			timeout_ms = ks_first_answer_ms(source->consumer, source->failed_requests);
	volatile bool answered = false;

	PG_TRY();
	{
		int			n = count_partitions(source, timeout_ms);

		if (n > source->nparts)
			add_partitions(source, n, source->positions, source->start);
		answered = true;
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(old);
		edata = CopyErrorData();
		if (ERRCODE_TO_CATEGORY(edata->sqlerrcode) != ERRCODE_CONNECTION_EXCEPTION)
			PG_RE_THROW();
		FlushErrorState();
		strlcpy(source->trouble, edata->detail ? edata->detail : edata->message, sizeof(source->trouble));
		FreeErrorData(edata);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	source->failed_requests = answered ? 0 : source->failed_requests + 1;
	if (!answered && !source->connected)
		note_away(source);
	return answered;
}

/* See source.h. */
bool
ks_source_connect(KsSource *source, bool patient)
{
	if (source->consumer != NULL && source->server_changes != server_changes)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("server or user mapping of topic \"%s\" was altered", source->reader->def->topic)));
	if (source->connected)
		return true;
	if (patient)
		add_partitions(source, count_partitions(source, REQUEST_TIMEOUT_MS),
					   source->positions, source->start);
	else if (!ask_broker(source))
		return false;
	source->connected = true;
	source->partitions_checked = ks_clock_now();
	/* what is not there yet is new, and read from its beginning */
	source->positions = NIL;
	source->start = "earliest";
	return true;
}

/* See source.h. */
void
ks_source_close(KsSource *source)
{
	if (source->consumer != NULL)
		ks_consumer_close(source->consumer);
	MemoryContextDelete(source->cxt);
}

/* Looks for new partitions, not too often and not while the broker is away. */
static void
look_for_partitions(KsSource *source)
{
	TimestampTz now = ks_clock_now();
	const char *why;

	if (!TimestampDifferenceExceeds(source->partitions_checked, now, PARTITIONS_INTERVAL_MS) ||
		ks_consumer_broker_down(source->consumer, &why))
		return;
	source->partitions_checked = now;
	(void) ask_broker(source);
}

/* What an error event of a partition means. */
static void
take_error(KsSource *source, const KsEvent *event)
{
	KsStreamDef *def = source->reader->def;
	KsPosition *pos = &source->parts[event->record.partition].next;

	switch (event->code)
	{
		case KS_FETCH_OK:
			break;
		case KS_FETCH_RETRY:
			/* the client has stopped the partition: open the task again */
			set_pending(source, ERRCODE_CONNECTION_FAILURE,
						psprintf("could not read topic \"%s\" partition %d at offset " INT64_FORMAT ": %s",
								 def->topic, pos->partition, pos->next_offset, event->message),
						"It is tried again by itself.");
			break;
		case KS_FETCH_OUT_OF_RANGE:
			set_pending(source, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
						psprintf("offset " INT64_FORMAT " of topic \"%s\" partition %d is not in the topic any more",
								 pos->next_offset, def->topic, pos->partition),
						"Retention removed it, or the topic was truncated or re-created; kstream.reset() builds the table anew.");
			break;
		case KS_FETCH_TOPIC_MISSING:
			set_pending(source, ERRCODE_UNDEFINED_OBJECT,
						psprintf("topic \"%s\" does not exist", def->topic),
						"The query goes on by itself when the topic is there; state and positions are kept.");
			break;
		case KS_FETCH_DENIED:
			set_pending(source, ERRCODE_INSUFFICIENT_PRIVILEGE,
						psprintf("broker denies reading topic \"%s\": %s", def->topic, event->message),
						"Check the user mapping and the topic's access control list.");
			break;
		case KS_FETCH_CORRUPT:
			set_pending(source, ERRCODE_DATA_CORRUPTED,
						psprintf("could not read topic \"%s\" partition %d at offset " INT64_FORMAT ": %s",
								 def->topic, pos->partition, pos->next_offset, event->message),
						"The log of the broker is damaged there; repair it, or reset the query to start after it.");
			break;
	}
}

/* Takes one event of the client. */
static void
take_event(KsSource *source, const KsEvent *event, TimestampTz now)
{
	KsSourcePartition *part;

	if (event->record.partition < 0 || event->record.partition >= source->nparts)
	{
		if (event->kind == KS_EVENT_ERROR)
			strlcpy(source->trouble, event->message, sizeof(source->trouble));
		return;
	}
	part = &source->parts[event->record.partition];
	switch (event->kind)
	{
		case KS_EVENT_RECORD:
			if (event->record.offset < part->next.next_offset)
				break;
			ks_batch_add_record(source->batch, &event->record);
			part->next.next_offset = event->record.offset + 1;
			part->dirty = true;
			part->at_end = false;
			part->heard = now;
			break;
		case KS_EVENT_EOF:
			/* Behind control records and compacted ones there may be nothing else. */
			if (event->record.offset > part->next.next_offset)
			{
				part->next.next_offset = event->record.offset;
				part->dirty = true;
			}
			part->end = Max(part->end, event->record.offset);
			part->at_end = true;
			break;
		case KS_EVENT_ERROR:
			take_error(source, event);
			break;
	}
}

/* Begins a batch. */
static void
new_batch(KsSource *source, MemoryContext cxt)
{
	source->batch = ks_batch_create(source->reader, cxt);
	source->batch->dedup = source->dedup;
}

/* See source.h. */
void
ks_source_fetch(KsSource *source, MemoryContext cxt, int max_rows)
{
	MemoryContext old = MemoryContextSwitchTo(cxt);
	const char *why;
	TimestampTz now;

	source->trouble[0] = '\0';
	look_for_partitions(source);
	if (ks_consumer_broker_down(source->consumer, &why))
		strlcpy(source->trouble, why, sizeof(source->trouble));
	new_batch(source, cxt);
	source->events = ks_consumer_poll(source->consumer, max_rows, MAX_BATCH_BYTES, 0);
	/* The task is opened again, which compares the topic with what was read of it. */
	if (ks_consumer_interrupted(source->consumer))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("topic \"%s\" could not be read for a moment", source->reader->def->topic)));
	source->drained = source->events->nevents < max_rows && source->events->bytes < MAX_BATCH_BYTES / 2;
	now = ks_clock_now();
	for (int i = 0; i < source->events->nevents; i++)
		take_event(source, &source->events->events[i], now);
	for (int p = 0; p < source->nparts; p++)
	{
		int64		end = ks_consumer_cached_end(source->consumer, source->reader->def->topic, p);

		if (end >= 0)
			source->parts[p].end = Max(end, source->parts[p].end);
	}
	MemoryContextSwitchTo(old);
}

/* Looks where a partition of a local log ends now, and whether what follows the position is still there. */
static void
look_at_local(KsSource *source, int p)
{
	KsSourcePartition *part = &source->parts[p];
	int64		first;
	int64		end;

	ks_local_log_range(source->reader->def->relid, p, &first, &end);
	if (part->next.next_offset < first)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("records of stream %s partition %d were removed before they were read",
						source->reader->def->relname, p),
				 errdetail("Offsets " INT64_FORMAT " to " INT64_FORMAT " are gone.",
						   part->next.next_offset, first - 1),
				 errhint("Call kstream.reset() to build the table anew from what the log still holds.")));
	part->end = end;
	part->at_end = part->next.next_offset >= end;
}

/* A partition with something to read, and how much of it is taken. */
typedef struct KsShare
{
	int			partition;
	TimestampTz time;
	int64		wanted;
	int64		taken;
} KsShare;

/* qsort comparator: least partition time first. */
static int
compare_shares(const void *a, const void *b)
{
	const KsShare *x = a;
	const KsShare *y = b;

	if (x->time != y->time)
		return x->time < y->time ? -1 : 1;
	return x->partition - y->partition;
}

/*
 * share_room
 *		Shares the room of a batch between the partitions that have something to
 *		read, in equal parts, and what one does not need between the others; the one
 *		that is furthest behind in event time comes first.  So a long backlog of one
 *		partition neither starves the others nor holds the watermark.
 */
static int
share_room(const KsSource *source, int room, KsShare *shares)
{
	int			n = 0;
	int			hungry;

	for (int p = 0; p < source->nparts; p++)
	{
		const KsSourcePartition *part = &source->parts[p];

		if (part->at_end)
			continue;
		shares[n].partition = p;
		shares[n].time = part->next.stream_time;
		shares[n].wanted = part->end - part->next.next_offset;
		shares[n++].taken = 0;
	}
	qsort(shares, n, sizeof(KsShare), compare_shares);
	for (hungry = n; room > 0 && hungry > 0;)
	{
		int			each = Max(room / hungry, 1);

		hungry = 0;
		for (int i = 0; i < n && room > 0; i++)
		{
			int			more = (int) Min(Min(shares[i].wanted - shares[i].taken, each), room);

			shares[i].taken += more;
			room -= more;
			hungry += shares[i].taken < shares[i].wanted;
		}
	}
	return n;
}

/* See source.h. */
void
ks_source_read_local(KsSource *source, MemoryContext cxt, int max_rows)
{
	Oid			relid = source->reader->def->relid;
	int			n = ks_local_log_partitions(relid);
	KsShare    *shares;

	if (n > source->nparts)
		add_partitions(source, n, NIL, "earliest");
	new_batch(source, cxt);
	source->drained = true;
	for (int p = 0; p < source->nparts; p++)
		look_at_local(source, p);
	if (max_rows == 0)
		return;
	shares = palloc(sizeof(KsShare) * Max(source->nparts, 1));
	n = share_room(source, max_rows, shares);
	for (int i = 0; i < n; i++)
	{
		KsSourcePartition *part = &source->parts[shares[i].partition];
		int64		next;

		if (shares[i].taken == 0)
			continue;
		next = ks_local_log_read(source->batch, shares[i].partition, part->next.next_offset, part->end,
								 (int) shares[i].taken);
		part->dirty = next != part->next.next_offset;
		part->next.next_offset = next;
		part->at_end = next >= part->end;
	}
	pfree(shares);
}

/* See source.h. */
void
ks_source_empty_batch(KsSource *source, MemoryContext cxt)
{
	new_batch(source, cxt);
}

/* Where a partition's stream time is kept while times are computed. */
static TimestampTz *
stream_time_slot(int32 partition, void *arg)
{
	return &((KsSource *) arg)->parts[partition].next.stream_time;
}

/* See source.h. */
void
ks_source_advance(KsSource *source)
{
	KsBatch    *batch = source->batch;

	ks_batch_set_times(batch, 0, stream_time_slot, source);
	for (int i = 0; i < batch->nrows; i++)
	{
		KsRecord   *rec = &batch->rows[i].rec;
		KsPosition *pos = &source->parts[rec->partition].next;

		pos->records++;
		pos->has_stream_time = !TIMESTAMP_IS_NOBEGIN(pos->stream_time);
		if (rec->leader_epoch >= 0)
			pos->leader_epoch = rec->leader_epoch;
		if (!batch->local)
			pos->seam_offset = rec->offset;
	}
	/* The fingerprint of the last record of each partition. */
	for (int i = batch->nrows - 1; i >= 0 && !batch->local; i--)
	{
		KsRecord   *rec = &batch->rows[i].rec;
		KsPosition *pos = &source->parts[rec->partition].next;

		if (pos->seam_offset != rec->offset)
			continue;
		pos->has_seam = true;
		pos->seam = ks_record_fingerprint(rec);
	}
}

/*
 * May the partition hold records that were there before others that have been
 * read?  A client that has seen the end of one may yet have to hear of more, so
 * it is believed only after the query's idle_timeout.
 */
static bool
may_have_more(const KsSource *source, const KsSourcePartition *part, TimestampTz now)
{
	return !part->at_end ||
		(source->consumer != NULL && now - part->heard < source->idle_timeout_us);
}

/* See source.h. */
void
ks_source_store_keys(KsSource *source)
{
	KsBatch    *batch = source->batch;
	TimestampTz now = ks_clock_now();
	KsDedupProgress *progress;

	if (source->dedup == NULL)
		return;
	for (int i = 0; i < batch->nrows && batch->duplicate != NULL; i++)
	{
		if (batch->duplicate[i])
			source->parts[batch->rows[i].rec.partition].next.duplicates++;
	}
	progress = palloc(sizeof(KsDedupProgress) * Max(source->nparts, 1));
	for (int p = 0; p < source->nparts; p++)
	{
		progress[p].time = source->parts[p].next.stream_time;
		progress[p].more = may_have_more(source, &source->parts[p], now);
	}
	ks_dedup_store(source->dedup, progress, source->nparts);
}

/* See source.h. */
void
ks_source_store(KsSource *source, int32 query)
{
	for (int p = 0; p < source->nparts; p++)
	{
		KsSourcePartition *part = &source->parts[p];

		/* A partition with nothing read yet keeps its starting position too. */
		if (part->dirty || !ItemPointerIsValid(&part->stored.tid))
			ks_position_store(query, &part->stored, &part->next);
	}
}

/* See source.h. */
void
ks_source_committed(KsSource *source)
{
	for (int p = 0; p < source->nparts; p++)
	{
		source->parts[p].stored = source->parts[p].next;
		source->parts[p].dirty = false;
	}
}

/* See source.h. */
bool
ks_source_caught_up(const KsSource *source)
{
	if (!source->connected)
		return false;
	for (int p = 0; p < source->nparts; p++)
	{
		if (!source->parts[p].at_end)
			return false;
	}
	return true;
}
