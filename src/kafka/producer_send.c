/*
 * producer_send.c
 *		Records on their way: queued, acknowledged, failed.
 *
 * The library reports on every record; partitions report independently, so
 * records are kept in a ring in the order they were sent, and the number of a
 * record travels with it through the library.
 *
 * Several records may fail for one reason, and when a transaction has failed the
 * library drops all others, too: of the failures that are reported the one that
 * tells most is kept, until the next call raises it.
 *
 * Runs in: the main thread of a worker or backend.
 */
#include "postgres.h"

#include "kafka/kerror.h"
#include "kafka/logbridge.h"
#include "kafka/producer_int.h"

#include "utils/memutils.h"

#define KS_SERVE_EVERY		512		/* records between two looks at events */
#define KS_RING_START		1024
#define KS_REPORT_CHUNK		256		/* reports taken out of an event at once */
#define KS_REPORT_WAIT_MS	100		/* at most, for the one that says why a transaction failed */

/* Makes room for one more record in the ring. */
static void
ks_ring_reserve(KsProducer *producer)
{
	KsPendingRing *ring = &producer->ring;
	uint64		capacity;
	int64	   *sequences;
	char	   *reports;

	if (ring->tail - ring->head < ring->capacity)
		return;
	capacity = ring->capacity ? ring->capacity * 2 : KS_RING_START;
	sequences = MemoryContextAllocHuge(producer->mcxt, capacity * sizeof(int64));
	reports = MemoryContextAllocHuge(producer->mcxt, capacity);
	for (uint64 n = ring->head; n < ring->tail; n++)
	{
		sequences[n & (capacity - 1)] = ring->sequences[n & (ring->capacity - 1)];
		reports[n & (capacity - 1)] = ring->reports[n & (ring->capacity - 1)];
	}
	if (ring->sequences)
	{
		pfree(ring->sequences);
		pfree(ring->reports);
	}
	ring->sequences = sequences;
	ring->reports = reports;
	ring->capacity = capacity;
}

/* Moves the head over records that were reported on. */
static void
ks_ring_advance(KsProducer *producer)
{
	KsPendingRing *ring = &producer->ring;

	while (ring->head < ring->tail)
	{
		uint64		at = ring->head & (ring->capacity - 1);

		if (ring->reports[at] == KS_REPORT_NONE)
			break;
		if (ring->reports[at] == KS_REPORT_FAILED)
			ring->hole = true;
		else if (!ring->hole)
			producer->acked = ring->sequences[at];
		ring->head++;
	}
}

/* How much a failure tells: records dropped because of another tell nothing. */
static int
ks_failure_weight(rd_kafka_resp_err_t err)
{
	switch (err)
	{
		case RD_KAFKA_RESP_ERR_NO_ERROR:
			return 0;
		case RD_KAFKA_RESP_ERR__PURGE_QUEUE:
		case RD_KAFKA_RESP_ERR__PURGE_INFLIGHT:
			return 1;
		case RD_KAFKA_RESP_ERR__MSG_TIMED_OUT:
			return 2;
		default:
			return 3;
	}
}

/* Notes a record that failed: the greatest of those refused for their size, else the first. */
static void
ks_note_failure(KsProducer *producer, rd_kafka_message_t *message, int64 sequence)
{
	KsRecordFailure *failure = &producer->failure;
	Size		size = message->len + message->key_len;
	bool		fenced;

	if (failure->err == message->err)
	{
		failure->count++;
		if (ks_producer_outcome(message->err, &fenced) != KS_PRODUCER_TOO_LARGE ||
			size <= failure->size)
			return;
	}
	else if (ks_failure_weight(message->err) <= ks_failure_weight(failure->err))
		return;
	else
		failure->count = 1;
	failure->err = message->err;
	failure->topic = message->rkt ? rd_kafka_topic_opaque(message->rkt) : NULL;
	failure->partition = message->partition;
	failure->sequence = sequence;
	failure->size = size;
}

/* Takes the reports out of an event. */
static void
ks_take_reports(KsProducer *producer, rd_kafka_event_t *event)
{
	KsPendingRing *ring = &producer->ring;
	const rd_kafka_message_t *chunk[KS_REPORT_CHUNK];
	size_t		got;

	while ((got = rd_kafka_event_message_array(event, chunk, KS_REPORT_CHUNK)) > 0)
	{
		for (size_t i = 0; i < got; i++)
		{
			rd_kafka_message_t *message = unconstify(rd_kafka_message_t *, chunk[i]);
			uint64		at = (uint64) (uintptr_t) message->_private & (ring->capacity - 1);

			ring->pending--;
			ring->bytes -= message->len + message->key_len;
			if (likely(message->err == RD_KAFKA_RESP_ERR_NO_ERROR))
				ring->reports[at] = KS_REPORT_ACKED;
			else
			{
				ring->reports[at] = KS_REPORT_FAILED;
				ks_note_failure(producer, message, ring->sequences[at]);
			}
		}
	}
	ks_ring_advance(producer);
}

/* Takes in the events that have arrived. */
void
ks_producer_serve(KsProducer *producer)
{
	KsClient   *client = producer->client;
	int			before = producer->ring.pending;

	do
	{
		rd_kafka_event_t *event;

		while ((event = ks_client_serve(client, 0)) != NULL)
		{
			if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR)
				ks_take_reports(producer, event);
			rd_kafka_event_destroy(event);
		}
	} while (rd_kafka_queue_length(client->mainq) > 0);
	if (producer->ring.pending < before && producer->failure.err == RD_KAFKA_RESP_ERR_NO_ERROR)
		ks_client_note_alive(client);
}

/* Forgets the records of a transaction that is over; all were reported on. */
void
ks_producer_forget_records(KsProducer *producer)
{
	ListCell   *lc;

	Assert(producer->ring.pending == 0);
	producer->ring.hole = false;
	memset(&producer->failure, 0, sizeof(KsRecordFailure));
	producer->begun_ms = 0;
	foreach(lc, producer->topics)
		((KsOutTopic *) lfirst(lc))->used = false;
}

/* Where records were dropped because of another one, the report that tells why may be on its way still. */
static void
ks_hear_reason(KsProducer *producer)
{
	int64		deadline = ks_producer_clock() + KS_REPORT_WAIT_MS;

	while (ks_failure_weight(producer->failure.err) == 1 && producer->ring.pending > 0 &&
		   ks_producer_wait(producer, deadline))
		ks_producer_serve(producer);
}

/*
 * Makes an outcome of the record that failed, or of the producer, if either has.
 * The library tells why a transaction failed to whoever wants to begin another.
 */
KsProducerOutcome
ks_producer_raise_failure(KsProducer *producer)
{
	KsRecordFailure *failure = &producer->failure;
	rd_kafka_t *rk = producer->client->rk;
	char		text[512] = "";
	rd_kafka_resp_err_t err = rd_kafka_fatal_error(rk, text, sizeof(text));
	KsProducerState state = producer->transactional_id && err == RD_KAFKA_RESP_ERR_NO_ERROR ?
		KS_PRODUCER_FAILED : KS_PRODUCER_DEAD;

	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		return ks_producer_fail(producer, err, text, NULL, state);
	if (failure->err == RD_KAFKA_RESP_ERR_NO_ERROR)
		return KS_PRODUCER_OK;
	ks_hear_reason(producer);
	if (producer->transactional_id && ks_failure_weight(failure->err) == 1)
	{
		rd_kafka_error_t *error = rd_kafka_begin_transaction(rk);

		if (error && rd_kafka_error_txn_requires_abort(error))
		{
			err = rd_kafka_error_code(error);
			strlcpy(text, rd_kafka_error_string(error), sizeof(text));
		}
		if (error)
			rd_kafka_error_destroy(error);
		if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
			return ks_producer_fail(producer, err, text, NULL, state);
	}
	return ks_producer_fail(producer, failure->err, NULL, failure, state);
}

/* The headers of a record as the library wants them, or NULL. */
static rd_kafka_headers_t *
ks_make_headers(const KsOutRecord *record)
{
	rd_kafka_headers_t *headers;

	if (record->nheaders == 0)
		return NULL;
	headers = rd_kafka_headers_new(record->nheaders);
	for (int i = 0; i < record->nheaders; i++)
	{
		const KsHeader *header = &record->headers[i];

		(void) rd_kafka_header_add(headers, header->name, -1, header->value,
								   header->value ? header->len : 0);
	}
	return headers;
}

/*
 * Hands a record to the library, which copies it.  Headers are given as a list
 * of our own: on failure, old versions free those they made themselves twice.
 */
static rd_kafka_resp_err_t
ks_produce(KsProducer *producer, KsOutTopic *topic, const KsOutRecord *record)
{
	rd_kafka_headers_t *headers = ks_make_headers(record);
	rd_kafka_vu_t vus[8];
	int			n = 0;
	rd_kafka_error_t *error;
	rd_kafka_resp_err_t err;

	vus[n].vtype = RD_KAFKA_VTYPE_RKT;
	vus[n++].u.rkt = topic->rkt;
	vus[n].vtype = RD_KAFKA_VTYPE_PARTITION;
	vus[n++].u.i32 = record->partition;
	vus[n].vtype = RD_KAFKA_VTYPE_MSGFLAGS;
	vus[n++].u.i = RD_KAFKA_MSG_F_COPY;
	vus[n].vtype = RD_KAFKA_VTYPE_OPAQUE;
	vus[n++].u.ptr = (void *) (uintptr_t) producer->ring.tail;
	vus[n].vtype = RD_KAFKA_VTYPE_TIMESTAMP;
	vus[n++].u.i64 = record->timestamp;
	vus[n].vtype = RD_KAFKA_VTYPE_VALUE;
	vus[n].u.mem.ptr = unconstify(char *, record->value);
	vus[n++].u.mem.size = record->value ? record->valuelen : 0;
	vus[n].vtype = RD_KAFKA_VTYPE_KEY;
	vus[n].u.mem.ptr = unconstify(char *, record->key);
	vus[n++].u.mem.size = record->key ? record->keylen : 0;
	if (headers)
	{
		vus[n].vtype = RD_KAFKA_VTYPE_HEADERS;
		vus[n++].u.headers = headers;
	}
	error = rd_kafka_produceva(producer->client->rk, vus, n);
	if (likely(error == NULL))
		return RD_KAFKA_RESP_ERR_NO_ERROR;
	err = rd_kafka_error_code(error);
	rd_kafka_error_destroy(error);
	if (headers)
		rd_kafka_headers_destroy(headers);
	return err;
}

/* A record was not taken. */
static KsProducerOutcome
ks_refuse_record(KsProducer *producer, rd_kafka_resp_err_t err, KsOutTopic *topic,
				 const KsOutRecord *record)
{
	KsRecordFailure failure = {0};
	const char *text = NULL;
	KsProducerOutcome outcome;
	bool		fenced;

	if (err == RD_KAFKA_RESP_ERR__QUEUE_FULL && producer->ring.pending == 0)
	{
		/* nothing is in the queue, and there never will be room for it */
		err = RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
		text = "the client's queue is smaller than the record, see option queue_buffering_max_kbytes";
	}
	if (err == RD_KAFKA_RESP_ERR__QUEUE_FULL)
	{
		ks_producer_serve(producer);
		outcome = ks_producer_raise_failure(producer);
		return outcome == KS_PRODUCER_OK ? ks_producer_unfinished(producer) : outcome;
	}
	failure.err = err;
	failure.topic = topic;
	failure.partition = record->partition;
	failure.sequence = record->sequence;
	failure.count = 1;
	outcome = ks_producer_outcome(err, &fenced);
	if (outcome == KS_PRODUCER_TOO_LARGE || outcome == KS_PRODUCER_TOPIC_MISSING)
		return ks_producer_fail(producer, err, text, &failure, producer->state);

	/* The transaction has failed, or the whole producer: why? */
	ks_producer_serve(producer);
	if (producer->failure.err == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		failure.sequence = -1;
		failure.topic = NULL;
		failure.err = RD_KAFKA_RESP_ERR__PURGE_QUEUE;
		producer->failure = failure;
	}
	return ks_producer_raise_failure(producer);
}

/* Queues a record; see producer.h. */
KsProducerOutcome
ks_producer_send(KsProducer *producer, const KsOutRecord *record)
{
	KsPendingRing *ring = &producer->ring;
	KsOutTopic *topic;
	rd_kafka_resp_err_t err;
	uint64		at;

	if (unlikely(producer->state != (producer->transactional_id ? KS_PRODUCER_IN_TRANSACTION :
									 KS_PRODUCER_READY)))
	{
		if (producer->state == KS_PRODUCER_FAILED || producer->state == KS_PRODUCER_DEAD)
			return producer->error.outcome;
		elog(ERROR, "Kafka producer is not ready to send: state %d", producer->state);
	}
	if (--producer->until_serve <= 0)
	{
		KsProducerOutcome outcome;

		producer->until_serve = KS_SERVE_EVERY;
		ks_producer_serve(producer);
		outcome = ks_producer_raise_failure(producer);
		if (outcome != KS_PRODUCER_OK)
			return outcome;
	}
	topic = ks_producer_topic(producer, record->topic);
	ks_ring_reserve(producer);
	err = ks_produce(producer, topic, record);
	if (unlikely(err != RD_KAFKA_RESP_ERR_NO_ERROR))
		return ks_refuse_record(producer, err, topic, record);

	at = ring->tail++ & (ring->capacity - 1);
	ring->sequences[at] = record->sequence;
	ring->reports[at] = KS_REPORT_NONE;
	ring->pending++;
	ring->bytes += (record->value ? record->valuelen : 0) + (record->key ? record->keylen : 0);
	topic->used = true;
	producer->last_topic = topic;
	return KS_PRODUCER_OK;
}

/* Takes in what has arrived; see producer.h. */
KsProducerOutcome
ks_producer_poll(KsProducer *producer, int slice_ms)
{
	int64		deadline = ks_producer_clock() + slice_ms;
	int			before = producer->ring.pending;
	KsProducerOutcome outcome;

	do
	{
		if (producer->state == KS_PRODUCER_FAILED || producer->state == KS_PRODUCER_DEAD)
			return producer->error.outcome;
		ks_producer_serve(producer);
		outcome = ks_producer_raise_failure(producer);
		if (outcome != KS_PRODUCER_OK)
			return outcome;
	} while (producer->ring.pending > 0 && producer->ring.pending == before &&
			 ks_producer_wait(producer, deadline));
	if (producer->client->down && producer->ring.pending > 0)
		return ks_producer_unfinished(producer);
	return KS_PRODUCER_OK;
}

/* See producer.h. */
int64
ks_producer_acked(KsProducer *producer)
{
	return producer->acked;
}

/* See producer.h. */
int
ks_producer_pending(KsProducer *producer, int64 *bytes)
{
	if (bytes)
		*bytes = producer->ring.bytes;
	return producer->ring.pending;
}
