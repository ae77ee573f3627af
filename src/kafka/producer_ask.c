/*
 * producer_ask.c
 *		Questions of a producer: where it left off, what a topic is like.
 *
 * Positions are asked for, and noted outside of transactions, by a second client,
 * which is a consumer of the group but never joins it.  It lives from the question
 * to the answer.  It reads
 * committed positions only, so while a transaction is in doubt the broker gives
 * none, and it asks again.
 *
 * Runs in: the main thread of a worker or backend, but for bodies of calls.
 */
#include "postgres.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "kafka/confbuild.h"
#include "kafka/kerror.h"
#include "kafka/logbridge.h"
#include "kafka/producer_int.h"

#include "utils/memutils.h"

#define KS_ASK_SLICE_MS		500		/* longest stay in one question */
#define KS_ASK_PAUSE_MS		50		/* between two */

static KsProducerOutcome ks_wait_for_reader(KsProducer *producer, KsProducerPosition *position, int slice_ms);

/* Body of a call: the position committed. */
static void
ks_body_committed(KsCall *call)
{
	while (!ks_call_unwanted(call))
	{
		rd_kafka_resp_err_t err = rd_kafka_committed(call->rk, call->offsets, KS_ASK_SLICE_MS);

		if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
			err = call->offsets->elems[0].err;
		ks_call_set_error(call, err == RD_KAFKA_RESP_ERR_NO_ERROR ? NULL :
						  rd_kafka_error_new(err, "%s", rd_kafka_err2str(err)));
		if (!ks_error_may_pass(err))
			return;
		(void) poll(NULL, 0, KS_ASK_PAUSE_MS);
	}
}

/* Body of a call: notes a position. */
static void
ks_body_note(KsCall *call)
{
	rd_kafka_resp_err_t err = rd_kafka_commit(call->rk, call->offsets, 0);

	ks_call_set_error(call, err == RD_KAFKA_RESP_ERR_NO_ERROR ? NULL :
					  rd_kafka_error_new(err, "%s", rd_kafka_err2str(err)));
}

/* Body of a call: counts the partitions of a topic. */
static void
ks_body_partitions(KsCall *call)
{
	while (!ks_call_unwanted(call))
	{
		const struct rd_kafka_metadata *md;
		rd_kafka_resp_err_t err = rd_kafka_metadata(call->rk, 0, call->rkt, &md, KS_ASK_SLICE_MS);

		if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			err = RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE;
			if (md->topic_cnt == 1)
			{
				err = md->topics[0].err;
				call->count = md->topics[0].partition_cnt;
			}
			rd_kafka_metadata_destroy(md);
		}
		if (err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
		{
			call->count = -1;
			err = RD_KAFKA_RESP_ERR_NO_ERROR;
		}
		ks_call_set_error(call, err == RD_KAFKA_RESP_ERR_NO_ERROR ? NULL :
						  rd_kafka_error_new(err, "%s", rd_kafka_err2str(err)));
		if (!ks_error_may_pass(err))
			return;
		(void) poll(NULL, 0, KS_ASK_PAUSE_MS);
	}
}

/* Configuration of a reader: that of the producer, as far as it is of use. */
static void
ks_adjust_reader(rd_kafka_conf_t *conf, void *arg)
{
	KsProducer *producer = arg;

	ks_conf_set(conf, "group.id", producer->group);
	ks_conf_set(conf, "isolation.level", "read_committed");
	ks_conf_set(conf, "enable.auto.commit", "false");
	rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_LOG | RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_STATS);
}

/* Closes the reader without waiting for its end. */
static void
ks_drop_reader(KsProducer *producer)
{
	producer->reader = NULL;
	if (producer->reader_mcxt)
		MemoryContextDelete(producer->reader_mcxt);
	producer->reader_mcxt = NULL;
}

/*
 * Opens the reader and lets it do something about partition 0 of the topic.  Its events wake the descriptor of the
 * producer, by way of a copy under the number of its own.
 */
static rd_kafka_topic_partition_t *
ks_prepare_reader(KsProducer *producer, const char *topic, void (*body) (KsCall *call), KsCall **prepared)
{
	MemoryContext old;
	KsClient   *reader;
	KsCall	   *call;

	ks_drop_reader(producer);	/* what an error has left */
	producer->reader_mcxt = AllocSetContextCreate(producer->mcxt, "kstream position reader",
												  ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(producer->reader_mcxt);
	reader = ks_client_clone(producer->client, KS_CLIENT_CONSUMER,
							 psprintf("%s position", producer->client->name),
							 ks_adjust_reader, producer);
	MemoryContextSwitchTo(old);
	reader->destroy_budget_ms = 0;
	reader->queue = rd_kafka_queue_get_consumer(reader->rk);
	if (dup3(producer->client->eventfd, reader->eventfd, O_CLOEXEC) < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not duplicate event descriptor: %m")));
	call = ks_call_make(reader, body);
	call->offsets = rd_kafka_topic_partition_list_new(1);
	producer->reader = reader;
	*prepared = call;
	return rd_kafka_topic_partition_list_add(call->offsets, topic, 0);
}

/*
 * What the reader has heard, other than the answer: that it is not let in, or
 * may not use the group.  The library would ask again for ever.
 */
static rd_kafka_resp_err_t
ks_reader_denied(KsClient *reader)
{
	rd_kafka_event_t *event = ks_client_serve(reader, 0);
	rd_kafka_resp_err_t err = reader->last_code;
	bool		fenced;

	if (event)
		rd_kafka_event_destroy(event);
	event = rd_kafka_queue_poll(reader->queue, 0);
	if (event)
	{
		if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR)
			err = rd_kafka_event_error(event);
		rd_kafka_event_destroy(event);
	}
	return ks_producer_outcome(err, &fenced) == KS_PRODUCER_DENIED ? err : RD_KAFKA_RESP_ERR_NO_ERROR;
}

/* Copies what was committed into the current memory context. */
static void
ks_fill_position(KsProducerPosition *position, KsCall *call)
{
	rd_kafka_topic_partition_t *place = &call->offsets->elems[0];

	memset(position, 0, sizeof(KsProducerPosition));
	position->found = place->offset >= 0;
	if (!position->found)
		return;
	position->position = place->offset;
	position->metadata = place->metadata ? pnstrdup(place->metadata, place->metadata_size) :
		pstrdup("");
}

/* The position committed last; see producer.h. */
KsProducerOutcome
ks_producer_position(KsProducer *producer, const char *topic, KsProducerPosition *position,
					 int slice_ms)
{
	if (producer->group == NULL)
		elog(ERROR, "Kafka producer has no group to keep a position under");
	if (producer->reader == NULL)
	{
		KsCall	   *call;

		(void) ks_prepare_reader(producer, topic, ks_body_committed, &call);
		ks_call_start(producer->reader, call);
	}
	return ks_wait_for_reader(producer, position, slice_ms);
}

/* Notes a position outside of a transaction; see producer.h. */
KsProducerOutcome
ks_producer_note(KsProducer *producer, const char *topic, int64 position, const char *metadata,
				 int slice_ms)
{
	if (producer->group == NULL)
		elog(ERROR, "Kafka producer has no group to keep a position under");
	if (producer->reader == NULL)
	{
		KsCall	   *call;
		rd_kafka_topic_partition_t *place = ks_prepare_reader(producer, topic, ks_body_note, &call);

		place->offset = position;
		place->metadata = strdup(metadata);
		place->metadata_size = place->metadata ? strlen(metadata) : 0;
		ks_call_start(producer->reader, call);
	}
	return ks_wait_for_reader(producer, NULL, slice_ms);
}

/* Looks after the reader for as long as the slice; position: filled in, unless NULL. */
static KsProducerOutcome
ks_wait_for_reader(KsProducer *producer, KsProducerPosition *position, int slice_ms)
{
	int64		deadline = ks_producer_clock() + slice_ms;
	KsClient   *client = producer->client;

	do
	{
		rd_kafka_resp_err_t denied = ks_reader_denied(producer->reader);
		KsCall	   *call = ks_call_finished(producer->reader);

		ks_producer_serve(producer);
		if (call && call->err == RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			if (position)
				ks_fill_position(position, call);
			ks_call_free(call);
			ks_drop_reader(producer);
			return KS_PRODUCER_OK;
		}
		if (call || denied != RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			rd_kafka_resp_err_t err = call ? call->err : denied;

			strlcpy(client->last_error, producer->reader->last_error, sizeof(client->last_error));
			ks_call_free(call);
			ks_drop_reader(producer);
			return ks_producer_fail(producer, err, NULL, NULL, producer->state);
		}
	} while (ks_producer_wait(producer, deadline));
	client->down = client->down || producer->reader->down;
	return ks_producer_unfinished(producer);
}

/* Number of partitions of a topic; see producer.h. */
KsProducerOutcome
ks_producer_partition_count(KsProducer *producer, const char *name, int *count, int slice_ms)
{
	int64		deadline = ks_producer_clock() + slice_ms;
	KsOutTopic *topic;
	KsCall	   *call;

	if (producer->state == KS_PRODUCER_DEAD)
		return producer->error.outcome;
	if (producer->state == KS_PRODUCER_CONNECTING || producer->state == KS_PRODUCER_COMMITTING)
		return ks_producer_unfinished(producer);	/* one thing at a time */
	topic = ks_producer_topic(producer, name);
	if (producer->asked == NULL)
	{
		call = ks_call_make(producer->client, ks_body_partitions);
		call->rkt = topic->rkt;
		ks_call_start(producer->client, call);
		producer->asked = topic;
	}
	do
	{
		ks_producer_serve(producer);
		call = ks_call_finished(producer->client);
		if (call == NULL)
			continue;
		if (producer->asked != topic)
		{
			/* somebody wanted to know of another topic, and went away */
			ks_call_free(call);
			call = ks_call_make(producer->client, ks_body_partitions);
			call->rkt = topic->rkt;
			ks_call_start(producer->client, call);
			producer->asked = topic;
			continue;
		}
		producer->asked = NULL;
		if (call->err != RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			KsRecordFailure about = {0};
			rd_kafka_resp_err_t err = call->err;

			about.topic = topic;
			about.partition = -1;
			about.sequence = -1;
			ks_call_free(call);
			return ks_producer_fail(producer, err, NULL, &about, producer->state);
		}
		*count = call->count;
		ks_call_free(call);
		ks_client_note_alive(producer->client);
		return KS_PRODUCER_OK;
	} while (ks_producer_wait(producer, deadline));
	return ks_producer_unfinished(producer);
}
