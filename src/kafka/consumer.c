/*
 * consumer.c
 *		Reading Kafka partitions from offsets of our own.
 *
 * Uses the library's interface for single partitions: no group, no coordinator,
 * no commits, hence no permission on any group needed.  All partitions feed one
 * queue, which is drained without waiting; an event descriptor tells when it is
 * worth doing so.
 *
 * The position of a partition is ours: what arrives with an offset below the
 * next one expected is a left-over or a duplicate (some versions of the library
 * deliver them around a change of leader) and is dropped; gaps are what
 * compaction and transaction markers leave behind.  After an error event a
 * partition delivers nothing until it is assigned again: the library itself
 * would go on behind the damage.
 *
 * A message holds references inside the library, and the library does not end
 * while there are any.  So a consumer knows its batches and frees their
 * messages before it goes.
 */
#include "postgres.h"

#include "access/attnum.h"

#include "kafka/client.h"
#include "kafka/confbuild.h"
#include "kafka/consumer.h"
#include "kafka/consumer_int.h"
#include "kafka/kerror.h"
#include "kafka/logbridge.h"

#include <unistd.h>

#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#define KS_CHUNK_MAX		4096	/* messages taken out of the queue at once */
#define KS_NUDGE_MIN_QUEUE	10000	/* queues that were shorter ... */
#define KS_NUDGE_MIN_BYTES	(4 * 1024 * 1024)	/* ... and smaller were not full */
#define KS_NUDGE_PAUSE_MS	20		/* least time between two wake-up calls */
#define KS_SILENCE_MS		2000	/* after which we ask whether a topic can be read at all */
#define KS_SILENCE_ASK_MS	50		/* how long the question may take */
#define KS_PROBE_KEEP_MS	5000	/* how long an idle probe is kept */
#define KS_WAIT_SLICE_MS	1000	/* longest wait between two looks at interrupts */

/* Place of one partition. */
typedef struct KsPartition
{
	int32		id;
	int64		next;			/* next offset wanted; lower ones are dropped */
	bool		active;			/* assigned, and no error since */
	bool		started;		/* the library fetches it */
	bool		paused;
	rd_kafka_resp_err_t error;	/* told by callback, no event made of it yet */
} KsPartition;

/* A topic and its partitions by number. */
typedef struct KsTopic
{
	char	   *name;
	rd_kafka_topic_t *rkt;
	int			nparts;			/* length of parts */
	KsPartition **parts;		/* NULL: never assigned */
	int			nleaders;
	int32	   *leaders;		/* brokers, by partition; -1: none */
	TimestampTz silent_since;	/* nothing heard of it since; 0: heard */
} KsTopic;

/* Arrays of a batch, kept for the next one. */
typedef struct KsArrays
{
	int			capacity;
	rd_kafka_message_t **messages;
	KsEvent    *events;
} KsArrays;

struct KsConsumer
{
	MemoryContext mcxt;
	KsClient   *client;
	List	   *topics;			/* of KsTopic */
	dlist_head	batches;		/* of KsPolledBatch: those not freed yet */
	KsArrays	spare;
	Size		avg_bytes;		/* running mean of a record's size */
	bool		has_errors;		/* some partition's error is set */
	bool		has_silent;		/* some topic is silent */

	/* A second client for looks at single records, while it is in use */
	KsConsumer *probe;
	TimestampTz probe_used;

	/* Waking a fetcher that has gone to sleep before a full queue */
	bool		fetcher_sleeps; /* the library is one whose fetcher does */
	size_t		queue_peak;		/* greatest length since the last call */
	TimestampTz last_nudge;
	MemoryContextCallback callback;
};

/* A batch with what it must free. */
typedef struct KsPolledBatch
{
	KsEventBatch pub;
	KsConsumer *consumer;		/* NULL: consumer is gone, and the messages with it */
	MemoryContext mcxt;			/* holds this struct, headers and texts */
	KsArrays	arrays;
	int			nmessages;		/* of the records */
	int			next;			/* behind them, messages next to end - 1 have arrived */
	int			end;
	dlist_node	node;
	MemoryContextCallback callback;
} KsPolledBatch;

static void ks_batch_release(KsPolledBatch *batch);
static void ks_note_error(void *owner, rd_kafka_resp_err_t err, const char *text);

/* Memory context callback of a consumer: frees the messages still held. */
static void
ks_consumer_reset_callback(void *arg)
{
	KsConsumer *consumer = arg;

	while (!dlist_is_empty(&consumer->batches))
		ks_batch_release(dlist_container(KsPolledBatch, node, dlist_head_node(&consumer->batches)));
}

/*
 * Makes a consumer in the current memory context (which the caller has made for
 * it) around a client that lives there as well.
 */
static KsConsumer *
ks_consumer_make(KsClient *client)
{
	KsConsumer *consumer = palloc0(sizeof(KsConsumer));

	consumer->mcxt = CurrentMemoryContext;
	dlist_init(&consumer->batches);
	consumer->avg_bytes = 512;
	consumer->fetcher_sleeps = !ks_conf_knows("fetch.queue.backoff.ms", "10");
	consumer->client = client;
	client->on_error = ks_note_error;
	client->owner = consumer;
	(void) ks_client_queue(client);

	/* Registered last, so called first: before the client is destroyed. */
	consumer->callback.func = ks_consumer_reset_callback;
	consumer->callback.arg = consumer;
	MemoryContextRegisterResetCallback(consumer->mcxt, &consumer->callback);
	return consumer;
}

/* Opens a client for a server; see consumer.h. */
KsConsumer *
ks_consumer_open(Oid serverid, Oid userid, const char *name)
{
	MemoryContext mcxt = AllocSetContextCreate(CurrentMemoryContext, "kstream consumer",
											   ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(mcxt);
	KsConsumer *volatile consumer = NULL;

	/* The current context may live long: leave nothing in it. */
	PG_TRY();
	{
		consumer = ks_consumer_make(ks_client_open(serverid, userid, KS_CLIENT_CONSUMER, name, NULL, NULL));
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(old);
		MemoryContextDelete(mcxt);
		PG_RE_THROW();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	return consumer;
}

/* Closes the client; batches not freed yet lose their contents. */
void
ks_consumer_close(KsConsumer *consumer)
{
	MemoryContextDelete(consumer->mcxt);
}

/* The handle behind a consumer, for admin.c. */
KsClient *
ks_consumer_client(KsConsumer *consumer)
{
	return consumer->client;
}

/* Descriptor that becomes readable when there is something to poll. */
int
ks_consumer_eventfd(KsConsumer *consumer)
{
	return consumer->client->eventfd;
}

/* Makes the descriptor unreadable until the next event. */
void
ks_consumer_drain_eventfd(KsConsumer *consumer)
{
	uint64		count;

	while (read(consumer->client->eventfd, &count, sizeof(count)) == sizeof(count))
		;
}

/* The topic of that name; made if it is not known and create is true. */
static KsTopic *
ks_find_topic(KsConsumer *consumer, const char *name, bool create)
{
	MemoryContext old;
	KsTopic    *topic;
	ListCell   *lc;

	foreach(lc, consumer->topics)
	{
		topic = lfirst(lc);
		if (strcmp(topic->name, name) == 0)
			return topic;
	}
	if (!create)
		return NULL;
	old = MemoryContextSwitchTo(consumer->mcxt);
	topic = palloc0(sizeof(KsTopic));
	topic->name = pstrdup(name);
	topic->rkt = ks_client_topic(consumer->client, name, topic);
	consumer->topics = lappend(consumer->topics, topic);
	MemoryContextSwitchTo(old);
	return topic;
}

/* The library's handle of a topic, for admin.c. */
rd_kafka_topic_t *
ks_consumer_topic(KsConsumer *consumer, const char *name)
{
	return ks_find_topic(consumer, name, true)->rkt;
}

/* What the brokers have said of a topic: remembers who leads its partitions.  Throws nothing. */
void
ks_consumer_note_leaders(KsConsumer *consumer, const rd_kafka_metadata_topic_t *metadata)
{
	KsTopic    *topic = ks_find_topic(consumer, metadata->topic, false);

	if (topic == NULL)
		return;
	if (metadata->partition_cnt > topic->nleaders)
	{
		int32	   *leaders = MemoryContextAllocExtended(consumer->mcxt,
														 sizeof(int32) * metadata->partition_cnt,
														 MCXT_ALLOC_NO_OOM);

		if (leaders == NULL)
			return;
		if (topic->leaders != NULL)
			pfree(topic->leaders);
		topic->leaders = leaders;
		topic->nleaders = metadata->partition_cnt;
	}
	for (int i = 0; i < topic->nleaders; i++)
		topic->leaders[i] = -1;
	for (int i = 0; i < metadata->partition_cnt; i++)
	{
		const rd_kafka_metadata_partition_t *part = &metadata->partitions[i];

		if (part->id >= 0 && part->id < topic->nleaders)
			topic->leaders[part->id] = part->leader;
	}
}

/* See consumer.h. */
bool
ks_consumer_answered(KsConsumer *consumer, const char *name, int32 partition,
					 TimestampTz *since, TimestampTz *last)
{
	KsTopic    *topic = ks_find_topic(consumer, name, false);
	int32		leader = topic != NULL && partition < topic->nleaders ? topic->leaders[partition] : -1;

	return ks_answers_of(ks_client_answers(consumer->client), leader, since, last);
}

/* The partition of a topic, or NULL if it was never assigned. */
static inline KsPartition *
ks_get_partition(KsTopic *topic, int32 id)
{
	return id >= 0 && id < topic->nparts ? topic->parts[id] : NULL;
}

/* As above, by name. */
static KsPartition *
ks_find_partition(KsConsumer *consumer, const char *name, int32 id, KsTopic **topic)
{
	*topic = ks_find_topic(consumer, name, false);
	return *topic ? ks_get_partition(*topic, id) : NULL;
}

/* Makes the place of a partition. */
static KsPartition *
ks_add_partition(KsConsumer *consumer, KsTopic *topic, int32 id)
{
	KsPartition *part;

	if (id >= topic->nparts)
	{
		int			nparts = Max(id + 1, topic->nparts * 2);
		KsPartition **parts = MemoryContextAllocZero(consumer->mcxt,
													 sizeof(KsPartition *) * nparts);

		if (topic->nparts > 0)
			memcpy(parts, topic->parts, sizeof(KsPartition *) * topic->nparts);
		if (topic->parts)
			pfree(topic->parts);
		topic->parts = parts;
		topic->nparts = nparts;
	}
	part = MemoryContextAllocZero(consumer->mcxt, sizeof(KsPartition));
	part->id = id;
	topic->parts[id] = part;
	return part;
}

/* Pauses or resumes a partition in the library. */
static void
ks_set_paused(KsConsumer *consumer, KsTopic *topic, KsPartition *part, bool pause)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);

	rd_kafka_topic_partition_list_add(list, topic->name, part->id);
	if (pause)
		rd_kafka_pause_partitions(consumer->client->rk, list);
	else
		rd_kafka_resume_partitions(consumer->client->rk, list);
	rd_kafka_topic_partition_list_destroy(list);
	part->paused = pause;
}

/*
 * Stops fetching a partition.  What it has in the queue becomes outdated, and
 * the library does not deliver it any more.  Waits for a thread of the library
 * to take note, not for any broker.
 */
static void
ks_stop_partition(KsConsumer *consumer, KsTopic *topic, KsPartition *part)
{
	if (part->paused)
		ks_set_paused(consumer, topic, part, false);
	if (part->started)
		(void) rd_kafka_consume_stop(topic->rkt, part->id);
	part->started = false;
	part->active = false;
}

/* Starts fetching a stopped partition at its next offset. */
static void
ks_start_partition(KsConsumer *consumer, KsTopic *topic, KsPartition *part)
{
	if (rd_kafka_consume_start_queue(topic->rkt, part->id, part->next,
									 ks_client_queue(consumer->client)) != 0)
		ks_request_failed(consumer->client, rd_kafka_last_error(), NULL,
						  "start reading", topic->name);
	part->started = true;
	part->active = true;
	part->error = RD_KAFKA_RESP_ERR_NO_ERROR;
}

/* Configuration of a probe: small fetches that do not wait for more to come. */
static void
ks_adjust_probe(rd_kafka_conf_t *conf, void *arg)
{
	ks_conf_set(conf, "fetch.wait.max.ms", "1");
	ks_conf_set(conf, "fetch.message.max.bytes", "16384");
	ks_conf_set(conf, "queued.min.messages", "1000");
}

/*
 * A second client of the same server, which reads nothing: for a look at single
 * records without disturbing what the consumer does.  It is kept for a while,
 * because such looks come in rows.
 */
KsConsumer *
ks_consumer_probe(KsConsumer *consumer)
{
	ListCell   *lc;

	if (consumer->probe == NULL)
	{
		MemoryContext mcxt = AllocSetContextCreate(consumer->mcxt, "kstream probe",
												   ALLOCSET_DEFAULT_SIZES);
		MemoryContext old = MemoryContextSwitchTo(mcxt);
		KsClient   *client = ks_client_clone(consumer->client, KS_CLIENT_CONSUMER,
											 psprintf("%s probe", consumer->client->name),
											 ks_adjust_probe, NULL);

		client->destroy_budget_ms = 0;
		consumer->probe = ks_consumer_make(client);
		MemoryContextSwitchTo(old);
	}
	consumer->probe_used = GetCurrentTimestamp();

	/* A look that ended in an error may have left something. */
	foreach(lc, consumer->probe->topics)
	{
		KsTopic    *topic = lfirst(lc);

		for (int i = 0; i < topic->nparts; i++)
		{
			if (topic->parts[i])
				ks_stop_partition(consumer->probe, topic, topic->parts[i]);
		}
	}
	return consumer->probe;
}

/* Closes a probe that was not used for a while; does not wait for its end. */
static void
ks_drop_idle_probe(KsConsumer *consumer)
{
	if (consumer->probe && TimestampDifferenceExceeds(consumer->probe_used, GetCurrentTimestamp(),
													  KS_PROBE_KEEP_MS))
	{
		ks_consumer_close(consumer->probe);
		consumer->probe = NULL;
	}
}

/* Starts reading a partition at offset, wherever it was before. */
void
ks_consumer_assign(KsConsumer *consumer, const char *name, int32 partition, int64 offset)
{
	KsTopic    *topic;
	KsPartition *part;

	if (partition < 0 || offset < 0)
		elog(ERROR, "invalid partition %d or offset " INT64_FORMAT, partition, offset);
	topic = ks_find_topic(consumer, name, true);
	part = ks_get_partition(topic, partition);
	if (part == NULL)
		part = ks_add_partition(consumer, topic, partition);
	ks_stop_partition(consumer, topic, part);
	part->next = offset;
	ks_start_partition(consumer, topic, part);
	topic->silent_since = GetCurrentTimestamp();
	consumer->has_silent = true;
}

/* Stops reading a partition. */
void
ks_consumer_unassign(KsConsumer *consumer, const char *name, int32 partition)
{
	KsTopic    *topic;
	KsPartition *part = ks_find_partition(consumer, name, partition, &topic);

	if (part)
		ks_stop_partition(consumer, topic, part);
}

/*
 * Stops or resumes fetching of a partition.  What was fetched but not polled
 * is thrown away and fetched again later, so this is for long pauses.
 */
void
ks_consumer_pause(KsConsumer *consumer, const char *name, int32 partition, bool pause)
{
	KsTopic    *topic;
	KsPartition *part = ks_find_partition(consumer, name, partition, &topic);

	if (part && part->started && part->paused != pause)
		ks_set_paused(consumer, topic, part, pause);
}

/* Time of a record: milliseconds since 1970 -> TimestampTz. */
static TimestampTz
ks_time_from_kafka(int64 ms)
{
	const int64 epoch = (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	TimestampTz result;

	if (ms < 0 || ms > PG_INT64_MAX / 1000)
		return DT_NOBEGIN;
	result = ms * 1000 - epoch;
	return IS_VALID_TIMESTAMP(result) ? result : DT_NOBEGIN;
}

/* Copies what a record's headers say where; their bytes stay in the message. */
static void
ks_fill_headers(KsPolledBatch *batch, rd_kafka_message_t *message, KsRecord *rec)
{
	rd_kafka_headers_t *headers;
	size_t		count;

	if (rd_kafka_message_headers(message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return;
	count = rd_kafka_header_cnt(headers);
	rec->headers = MemoryContextAllocHuge(batch->mcxt, Max(count, 1) * sizeof(KsHeader));
	for (size_t i = 0; i < count; i++)
	{
		KsHeader   *header = &rec->headers[rec->nheaders];
		const void *value;

		if (rd_kafka_header_get_all(headers, i, &header->name, &value,
									&header->len) != RD_KAFKA_RESP_ERR_NO_ERROR)
			break;
		header->value = value;
		rec->nheaders++;
	}
}

/* A message becomes a record event.  Returns its size. */
static inline Size
ks_fill_record(KsPolledBatch *batch, KsEvent *event, KsTopic *topic, rd_kafka_message_t *message)
{
	KsRecord   *rec = &event->record;
	rd_kafka_timestamp_type_t type;
	int64		ms = rd_kafka_message_timestamp(message, &type);

	event->kind = KS_EVENT_RECORD;
	event->topic = topic->name;
	event->code = KS_FETCH_OK;
	event->message = NULL;
	rec->partition = message->partition;
	rec->offset = message->offset;
#if RD_KAFKA_VERSION >= 0x020100ff
	rec->leader_epoch = rd_kafka_message_leader_epoch(message);
#else
	rec->leader_epoch = -1;
#endif
	rec->timestamp = type == RD_KAFKA_TIMESTAMP_NOT_AVAILABLE ? DT_NOBEGIN :
		ks_time_from_kafka(ms);
	rec->key = message->key;
	rec->keylen = message->key_len;
	rec->value = message->payload;
	rec->valuelen = message->len;
	rec->headers = NULL;
	rec->nheaders = 0;
	ks_fill_headers(batch, message, rec);
	return message->len + message->key_len;
}

/* Fills an event that is no record. */
static void
ks_fill_other(KsEvent *event, KsEventKind kind, KsTopic *topic, KsPartition *part)
{
	memset(event, 0, sizeof(KsEvent));
	event->kind = kind;
	event->topic = topic->name;
	event->record.partition = part->id;
	event->record.offset = part->next;
	event->record.leader_epoch = -1;
	event->record.timestamp = DT_NOBEGIN;
}

/*
 * An error of a partition.  Returns true if it makes an event; then the
 * partition is stopped.  The library does not check whether an out-of-range
 * error is outdated: one for an offset that we are past is, so start again.
 */
static bool
ks_take_error(KsConsumer *consumer, KsPolledBatch *batch, KsEvent *event, KsTopic *topic,
			  KsPartition *part, rd_kafka_message_t *message)
{
	KsFetchErrorCode code = ks_fetch_error_code(message->err);
	MemoryContext old;

	if (code == KS_FETCH_OUT_OF_RANGE && message->offset >= 0 && message->offset < part->next)
	{
		ks_stop_partition(consumer, topic, part);
		ks_start_partition(consumer, topic, part);
		return false;
	}
	ks_fill_other(event, KS_EVENT_ERROR, topic, part);
	event->code = code;
	old = MemoryContextSwitchTo(batch->mcxt);
	event->message = ks_client_clean_text(consumer->client, rd_kafka_message_errstr(message));
	MemoryContextSwitchTo(old);
	ks_stop_partition(consumer, topic, part);
	return true;
}

/*
 * Error callback: a topic or partition that does not exist, or may not be read,
 * is told only by a text "topic [partition]: reason".  Remembers it with the
 * partition.  Called from inside the library: throws nothing.
 */
static void
ks_note_error(void *owner, rd_kafka_resp_err_t err, const char *text)
{
	KsConsumer *consumer = owner;
	ListCell   *lc;

	if (text == NULL)
		return;
	foreach(lc, consumer->topics)
	{
		KsTopic    *topic = lfirst(lc);
		size_t		len = strlen(topic->name);
		KsPartition *part;

		if (strncmp(text, topic->name, len) != 0 || strncmp(text + len, " [", 2) != 0)
			continue;
		part = ks_get_partition(topic, atoi(text + len + 2));
		if (part && part->active)
		{
			part->error = err;
			consumer->has_errors = true;
		}
		return;
	}
}

/* Makes events of the errors that callbacks have noted, as many as fit. */
static void
ks_take_noted_errors(KsConsumer *consumer, KsPolledBatch *batch, int max_events)
{
	ListCell   *lc;

	foreach(lc, consumer->topics)
	{
		KsTopic    *topic = lfirst(lc);

		for (int i = 0; i < topic->nparts; i++)
		{
			KsPartition *part = topic->parts[i];
			KsEvent    *event = &batch->pub.events[batch->pub.nevents];

			if (part == NULL || !part->active || part->error == RD_KAFKA_RESP_ERR_NO_ERROR)
				continue;
			if (batch->pub.nevents == max_events)
				return;
			ks_fill_other(event, KS_EVENT_ERROR, topic, part);
			event->code = ks_fetch_error_code(part->error);
			event->message = rd_kafka_err2str(part->error);
			batch->pub.nevents++;
			ks_stop_partition(consumer, topic, part);
		}
	}
	consumer->has_errors = false;
}

/*
 * Takes the next message that has arrived over into the batch, or drops and frees
 * it.  Only records keep their message; the other kinds need nothing of it.
 */
static inline void
ks_take_message(KsConsumer *consumer, KsPolledBatch *batch)
{
	rd_kafka_message_t *message = batch->arrays.messages[batch->next];
	KsTopic    *topic = message->rkt ? rd_kafka_topic_opaque(message->rkt) : NULL;
	KsPartition *part = topic ? ks_get_partition(topic, message->partition) : NULL;
	KsEvent    *event = &batch->pub.events[batch->pub.nevents];

	if (topic)
		topic->silent_since = 0;
	if (likely(part && part->active && message->err == RD_KAFKA_RESP_ERR_NO_ERROR &&
			   message->offset >= part->next))
	{
		batch->next++;
		batch->arrays.messages[batch->nmessages++] = message;
		batch->pub.bytes += ks_fill_record(batch, event, topic, message);
		batch->pub.nevents++;
		part->next = message->offset + 1;
		return;
	}

	if (part && part->active && message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
	{
		if (message->offset >= part->next)
		{
			part->next = message->offset;
			ks_fill_other(event, KS_EVENT_EOF, topic, part);
			batch->pub.nevents++;
		}
	}
	else if (part && part->active && message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		if (ks_take_error(consumer, batch, event, topic, part, message))
			batch->pub.nevents++;
	}
	batch->next++;
	rd_kafka_message_destroy(message);
}

/* Lends the arrays of a batch: the spare ones, or new ones. */
static void
ks_lend_arrays(KsConsumer *consumer, KsArrays *arrays, int capacity)
{
	if (consumer->spare.capacity >= capacity)
	{
		*arrays = consumer->spare;
		memset(&consumer->spare, 0, sizeof(KsArrays));
		return;
	}
	arrays->capacity = capacity;
	arrays->messages = MemoryContextAllocHuge(consumer->mcxt,
											  sizeof(rd_kafka_message_t *) * capacity);
	arrays->events = MemoryContextAllocHuge(consumer->mcxt, sizeof(KsEvent) * capacity);
}

/* Takes arrays back; keeps the greater ones for the next batch. */
static void
ks_return_arrays(KsConsumer *consumer, KsArrays *arrays)
{
	KsArrays	drop = *arrays;

	if (arrays->capacity > consumer->spare.capacity)
	{
		drop = consumer->spare;
		consumer->spare = *arrays;
	}
	if (drop.messages)
	{
		pfree(drop.messages);
		pfree(drop.events);
	}
	memset(arrays, 0, sizeof(KsArrays));
}

/* Frees the messages of a batch; it is empty afterwards. */
static void
ks_batch_release(KsPolledBatch *batch)
{
	KsConsumer *consumer = batch->consumer;

	if (consumer == NULL)
		return;
	for (int i = 0; i < batch->nmessages; i++)
		rd_kafka_message_destroy(batch->arrays.messages[i]);
	for (int i = batch->next; i < batch->end; i++)
		rd_kafka_message_destroy(batch->arrays.messages[i]);
	batch->nmessages = batch->next = batch->end = 0;
	batch->pub.nevents = 0;
	batch->pub.events = NULL;
	batch->pub.bytes = 0;
	ks_return_arrays(consumer, &batch->arrays);
	dlist_delete(&batch->node);
	batch->consumer = NULL;
}

/* Memory context callback of a batch. */
static void
ks_batch_reset_callback(void *arg)
{
	ks_batch_release(arg);
}

/* Makes an empty batch in a small context of its own. */
static KsPolledBatch *
ks_batch_make(KsConsumer *consumer, int capacity)
{
	MemoryContext mcxt = AllocSetContextCreate(CurrentMemoryContext, "kstream event batch",
											   ALLOCSET_SMALL_SIZES);
	KsPolledBatch    *batch = MemoryContextAllocZero(mcxt, sizeof(KsPolledBatch));

	batch->mcxt = mcxt;
	ks_lend_arrays(consumer, &batch->arrays, capacity);
	batch->pub.events = batch->arrays.events;
	batch->consumer = consumer;
	dlist_push_tail(&consumer->batches, &batch->node);
	batch->callback.func = ks_batch_reset_callback;
	batch->callback.arg = batch;
	MemoryContextRegisterResetCallback(mcxt, &batch->callback);
	return batch;
}

/* Frees a batch and what its records point into. */
void
ks_event_batch_free(KsEventBatch *pub)
{
	MemoryContextDelete(((KsPolledBatch *) pub)->mcxt);
}

/* Makes every fetcher look at its queue: any request to its broker does. */
static void
ks_nudge_fetchers(KsConsumer *consumer)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(16);
	ListCell   *lc;

	foreach(lc, consumer->topics)
	{
		KsTopic    *topic = lfirst(lc);

		for (int i = 0; i < topic->nparts; i++)
		{
			if (topic->parts[i] && topic->parts[i]->active && !topic->parts[i]->paused)
				rd_kafka_topic_partition_list_add(list, topic->name, i)->offset = RD_KAFKA_OFFSET_END;
		}
	}
	if (list->cnt > 0)
		(void) rd_kafka_offsets_for_times(consumer->client->rk, list, 0);
	rd_kafka_topic_partition_list_destroy(list);
}

/*
 * When the queue is full, the fetcher of older libraries sleeps for a second,
 * no matter how soon there is room again.  So if the queue has been long and is
 * half empty now, wake it, by a request whose answer nobody waits for.  Newer
 * ones have fetch.queue.backoff.ms.
 */
static void
ks_keep_fetching(KsConsumer *consumer, int taken)
{
	size_t		left = rd_kafka_queue_length(ks_client_queue(consumer->client));
	TimestampTz now;

	consumer->queue_peak = Max(consumer->queue_peak, left + taken);
	if (!consumer->fetcher_sleeps || left > consumer->queue_peak / 2 ||
		(consumer->queue_peak < KS_NUDGE_MIN_QUEUE &&
		 consumer->queue_peak * consumer->avg_bytes < KS_NUDGE_MIN_BYTES))
		return;
	now = GetCurrentTimestamp();
	if (!TimestampDifferenceExceeds(consumer->last_nudge, now, KS_NUDGE_PAUSE_MS))
		return;
	consumer->last_nudge = now;
	consumer->queue_peak = left;
	ks_nudge_fetchers(consumer);
}

/*
 * Moves what is in the queue into the batch.  The queue is emptied unless the
 * batch is full: only then does the event descriptor fire again.
 */
static void
ks_take_arrived(KsConsumer *consumer, KsPolledBatch *batch, int max_events, Size max_bytes)
{
	rd_kafka_queue_t *queue = ks_client_queue(consumer->client);
	int			seen = 0;
	int			want;
	ssize_t		got;

	do
	{
		Size		room = (max_bytes - batch->pub.bytes) / consumer->avg_bytes + 1;

		want = Min(max_events - batch->pub.nevents, (int) Min(room, KS_CHUNK_MAX));
		got = rd_kafka_consume_batch_queue(queue, 0, batch->arrays.messages + batch->nmessages, want);
		batch->next = batch->nmessages;
		batch->end = batch->next + Max((int) got, 0);
		while (batch->next < batch->end)
			ks_take_message(consumer, batch);
		if (got > 0)
			seen += got;
		if (batch->nmessages > 0)
			consumer->avg_bytes = Max(1, (consumer->avg_bytes * 3 +
										  batch->pub.bytes / batch->nmessages) / 4);
	} while (got == want && batch->pub.nevents < max_events && batch->pub.bytes < max_bytes);

	if (seen > 0)
	{
		ks_client_note_alive(consumer->client);
		ks_keep_fetching(consumer, seen);
	}
	if (consumer->has_errors)
		ks_take_noted_errors(consumer, batch, max_events);
}

/*
 * Asks a broker whether a topic may be read.  Returns false if it cannot be
 * asked now.
 */
static bool
ks_ask_about_topic(KsConsumer *consumer, KsTopic *topic)
{
	const struct rd_kafka_metadata *md;
	rd_kafka_resp_err_t err;

	if (rd_kafka_metadata(consumer->client->rk, 0, topic->rkt, &md,
						  KS_SILENCE_ASK_MS) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return false;
	err = md->topic_cnt == 1 ? md->topics[0].err : RD_KAFKA_RESP_ERR_NO_ERROR;
	rd_kafka_metadata_destroy(md);
	if (ks_fetch_error_code(err) == KS_FETCH_DENIED)
	{
		for (int i = 0; i < topic->nparts; i++)
		{
			if (topic->parts[i] && topic->parts[i]->active)
				topic->parts[i]->error = err;
		}
		consumer->has_errors = true;
	}
	return true;
}

/*
 * The library says nothing of a topic that we may not even see: it waits for it
 * to appear.  So ask about a topic of which nothing was heard for a while, one
 * at a time, and not while no broker answers anyway.
 */
static void
ks_check_silent(KsConsumer *consumer)
{
	TimestampTz now = GetCurrentTimestamp();
	ListCell   *lc;

	if (consumer->client->down)
		return;
	consumer->has_silent = false;
	foreach(lc, consumer->topics)
	{
		KsTopic    *topic = lfirst(lc);

		if (topic->silent_since == 0)
			continue;
		consumer->has_silent = true;
		if (TimestampDifferenceExceeds(topic->silent_since, now, KS_SILENCE_MS))
		{
			topic->silent_since = ks_ask_about_topic(consumer, topic) ? 0 : now;
			return;
		}
	}
}

/* Waits until something arrives, an interrupt comes or the time is up. */
static void
ks_wait_arrival(KsConsumer *consumer, int timeout_ms)
{
	int			rc;

	rc = WaitLatchOrSocket(MyLatch,
						   WL_LATCH_SET | WL_SOCKET_READABLE | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						   consumer->client->eventfd,
						   Min(timeout_ms, KS_WAIT_SLICE_MS), PG_WAIT_EXTENSION);
	if (rc & WL_LATCH_SET)
		ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	if (rc & WL_SOCKET_READABLE)
		ks_consumer_drain_eventfd(consumer);
}

/* Takes what has arrived; see consumer.h. */
KsEventBatch *
ks_consumer_poll(KsConsumer *consumer, int max_events, Size max_bytes, int timeout_ms)
{
	KsPolledBatch    *batch;
	TimestampTz deadline = 0;
	rd_kafka_event_t *other;

	max_events = Max(max_events, 1);
	if (max_bytes == 0)
		max_bytes = MaxAllocHugeSize;
	ks_drop_idle_probe(consumer);
	batch = ks_batch_make(consumer, max_events);
	if (timeout_ms > 0)
		deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
	for (;;)
	{
		long		left;

		other = ks_client_serve(consumer->client, 0);
		if (other)
			rd_kafka_event_destroy(other);	/* a late answer nobody waits for */
		if (consumer->has_silent)
			ks_check_silent(consumer);
		ks_take_arrived(consumer, batch, max_events, max_bytes);
		if (batch->pub.nevents > 0 || timeout_ms <= 0)
			break;
		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);
		if (left <= 0)
			break;
		ks_wait_arrival(consumer, left);
	}
	return &batch->pub;
}

/* True while no broker can be reached. */
bool
ks_consumer_broker_down(KsConsumer *consumer, const char **why)
{
	KsClient   *client = consumer->client;
	rd_kafka_event_t *other = ks_client_serve(client, 0);

	if (other)
		rd_kafka_event_destroy(other);
	if (why)
		*why = client->last_error[0] ? client->last_error : "no connection to any broker";
	return client->down;
}

/* See consumer.h. */
bool
ks_consumer_interrupted(KsConsumer *consumer)
{
	KsClient   *client = consumer->client;
	bool		interrupted;

	/* What tells of it was queued before the records that came after it. */
	while (rd_kafka_queue_length(client->mainq) > 0)
	{
		rd_kafka_event_t *other = ks_client_serve(client, 0);

		if (other)
			rd_kafka_event_destroy(other);
	}
	interrupted = client->interrupted;
	client->interrupted = false;
	return interrupted;
}

/* Last high watermark seen, or -1. */
int64
ks_consumer_cached_end(KsConsumer *consumer, const char *name, int32 partition)
{
	int64_t		low;
	int64_t		high;

	if (rd_kafka_get_watermark_offsets(consumer->client->rk, name, partition,
									   &low, &high) != RD_KAFKA_RESP_ERR_NO_ERROR ||
		high < 0)
		return -1;
	return high;
}
