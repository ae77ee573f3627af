/*
 * producer_txn.c
 *		Transactions of a producer: connecting, begin, commit, abort.
 *
 * What blocks in the library is called by the client's helper thread.  Care is
 * taken to make each blocking call once only, where it matters: the library
 * allows to repeat one that has timed out, but mixes up the answers if its own
 * thread was held up meanwhile (a process that was stopped, for instance).
 *
 * A commit has two steps.  First the position is added to the transaction while
 * the records are still on their way; the two go to different brokers or at
 * least need not wait for each other.  Then, when every record is acknowledged,
 * the coordinator is told to commit.  Whatever goes wrong before that can be
 * undone by an abort; whatever goes wrong after leaves the result unknown.
 *
 * Runs in: the main thread of a worker or backend, but for bodies of calls.
 */
#include "postgres.h"

#include <poll.h>

#include "kafka/kerror.h"
#include "kafka/logbridge.h"
#include "kafka/producer_int.h"

#include "utils/memutils.h"

#define KS_INIT_SLICE_MS	200		/* longest stay in init_transactions */
#define KS_FLUSH_SLICE_MS	100		/* longest stay in flush */
#define KS_RETRY_PAUSE_MS	20		/* after a call that failed at once */
#define KS_COMMIT_GRACE_MS	2000	/* for a commit that takes its whole time, to say why */

/* Body of a call: takes the transactional id over, however long that takes. */
static void
ks_body_init(KsCall *call)
{
	while (!ks_call_unwanted(call))
	{
		rd_kafka_error_t *error = rd_kafka_init_transactions(call->rk, KS_INIT_SLICE_MS);
		bool		retriable = error && rd_kafka_error_is_retriable(error);
		bool		timed_out = error &&
			rd_kafka_error_code(error) == RD_KAFKA_RESP_ERR__TIMED_OUT;

		ks_call_set_error(call, error);
		if (!retriable)
			return;
		if (!timed_out)
			(void) poll(NULL, 0, KS_RETRY_PAUSE_MS);
	}
}

/*
 * Body of a call: adds the position to the transaction, then waits until no
 * record is on its way any more.  (The main thread takes the reports.)
 *
 * Of the library's calls send_offsets_to_transaction is the one that must not be
 * made on the main thread: it heeds its time-out between requests only, so it
 * stays as long as a request may take.  It can be repeated, but not resumed: a
 * repetition sends both requests again, which does no harm as long as they say
 * the same.
 */
static void
ks_body_offsets(KsCall *call)
{
	int64		deadline = ks_producer_clock() + call->timeout_ms;

	for (;;)
	{
		int64		left = deadline - ks_producer_clock();
		rd_kafka_error_t *error = rd_kafka_send_offsets_to_transaction(call->rk, call->offsets,
																	   call->group, Max(left, 1));
		bool		retriable = error && rd_kafka_error_is_retriable(error) &&
			!rd_kafka_error_txn_requires_abort(error);

		ks_call_set_error(call, error);
		if (error == NULL)
			break;
		if (!retriable || ks_call_unwanted(call) || left <= KS_RETRY_PAUSE_MS)
			return;
		(void) poll(NULL, 0, KS_RETRY_PAUSE_MS);
	}
	while (rd_kafka_flush(call->rk, KS_FLUSH_SLICE_MS) != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		if (ks_call_unwanted(call) || ks_producer_clock() >= deadline)
		{
			ks_call_set_error(call, rd_kafka_error_new(RD_KAFKA_RESP_ERR__TIMED_OUT,
													   "Records were not acknowledged in time"));
			return;
		}
	}
}

/* Body of a call: commits.  One call only: see above. */
static void
ks_body_commit(KsCall *call)
{
	ks_call_set_error(call, rd_kafka_commit_transaction(call->rk, call->timeout_ms));
}

/* Refuses a call in a state where it makes no sense: a bug of the caller's. */
static _Noreturn void
ks_wrong_state(KsProducer *producer, const char *call)
{
	elog(ERROR, "Kafka producer cannot %s in state %d", call, producer->state);
}

/* True if a call is over and done with for this producer. */
static bool
ks_is_final(KsProducer *producer)
{
	return producer->state == KS_PRODUCER_FAILED || producer->state == KS_PRODUCER_DEAD;
}

/*
 * While connecting, some errors are only told to be retried by the library: the
 * broker keeps saying no, or does not let us in.
 */
static KsProducerOutcome
ks_connect_obstacle(KsProducer *producer)
{
	KsClient   *client = producer->client;
	rd_kafka_resp_err_t err = ks_call_obstacle(client);
	bool		said = err != RD_KAFKA_RESP_ERR_NO_ERROR && err != RD_KAFKA_RESP_ERR__TIMED_OUT;
	KsProducerOutcome outcome;
	bool		fenced;

	if (!said)
		err = client->last_code;
	outcome = ks_producer_outcome(err, &fenced);
	/* a connection that breaks is FATAL in many ways, but may be mended: the text tells */
	if (outcome != KS_PRODUCER_DENIED && !(outcome == KS_PRODUCER_FATAL && said))
		return KS_PRODUCER_OK;
	ks_call_cancel(client);
	return ks_producer_fail(producer, err, said ? NULL : client->last_error, NULL,
							KS_PRODUCER_DEAD);
}

/* Not connected yet.  After a while it is no use to pretend that it will be soon. */
static KsProducerOutcome
ks_still_connecting(KsProducer *producer)
{
	rd_kafka_resp_err_t err = ks_call_obstacle(producer->client);
	KsProducerOutcome outcome = ks_producer_unfinished(producer);

	if (outcome != KS_PRODUCER_AGAIN ||
		ks_producer_clock() - producer->connect_ms < producer->timeout_ms)
		return outcome;
	if (err == RD_KAFKA_RESP_ERR_NO_ERROR || err == RD_KAFKA_RESP_ERR__TIMED_OUT)
		err = RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE;
	return ks_producer_fail(producer, err, NULL, NULL, KS_PRODUCER_CONNECTING);
}

/* Takes the transactional id over; see producer.h. */
KsProducerOutcome
ks_producer_connect(KsProducer *producer, int slice_ms)
{
	int64		deadline = ks_producer_clock() + slice_ms;
	KsProducerOutcome outcome;

	if (ks_is_final(producer))
		return producer->error.outcome;
	if (producer->state == KS_PRODUCER_UNCONNECTED)
	{
		if (producer->transactional_id == NULL)
			producer->state = KS_PRODUCER_READY;
		else if (ks_call_running(producer->client))
			return ks_producer_unfinished(producer);	/* counting partitions */
		else
		{
			producer->asked = NULL;
			ks_call_start(producer->client, ks_call_make(producer->client, ks_body_init));
			producer->connect_ms = ks_producer_clock();
			producer->state = KS_PRODUCER_CONNECTING;
		}
	}
	if (producer->state != KS_PRODUCER_CONNECTING)
		return KS_PRODUCER_OK;

	do
	{
		KsCall	   *call;

		ks_producer_serve(producer);
		call = ks_call_finished(producer->client);
		if (call)
		{
			if (call->err != RD_KAFKA_RESP_ERR_NO_ERROR)
				return ks_producer_fail_call(producer, call, KS_PRODUCER_DEAD);
			ks_call_free(call);
			ks_client_note_alive(producer->client);
			producer->state = KS_PRODUCER_READY;
			return KS_PRODUCER_OK;
		}
		outcome = ks_connect_obstacle(producer);
		if (outcome != KS_PRODUCER_OK)
			return outcome;
	} while (ks_producer_wait(producer, deadline));
	return ks_still_connecting(producer);
}

/*
 * May a request of the last transaction, repeated by the library on another
 * connection, still arrive by way of the one that was lost?  An EndTxn that does
 * ends the transaction that is open then, early: the broker cannot tell them
 * apart (KAFKA-17754).  A new producer has a new epoch, for which it comes too
 * late.
 */
static bool
ks_request_may_be_under_way(KsProducer *producer)
{
	return producer->transacted && ks_client_closed_sockets(producer->client) != producer->closed_sockets;
}

/* Starts a transaction; see producer.h. */
KsProducerOutcome
ks_producer_begin(KsProducer *producer)
{
	rd_kafka_error_t *error;
	KsProducerOutcome outcome;

	if (ks_is_final(producer))
		return producer->error.outcome;
	if (producer->state != KS_PRODUCER_READY || producer->transactional_id == NULL)
		ks_wrong_state(producer, "begin a transaction");
	if (ks_call_running(producer->client))
		return ks_producer_unfinished(producer);	/* counting partitions */
	ks_producer_forget_records(producer);
	if (ks_request_may_be_under_way(producer))
		return ks_producer_fail(producer, RD_KAFKA_RESP_ERR__PREV_IN_PROGRESS,
								"a connection was lost during the last transaction, and what was sent through it may still arrive",
								NULL, KS_PRODUCER_DEAD);
	producer->closed_sockets = ks_client_closed_sockets(producer->client);
	producer->transacted = true;
	error = rd_kafka_begin_transaction(producer->client->rk);
	if (error)
	{
		char		text[512];
		rd_kafka_resp_err_t err = rd_kafka_error_code(error);

		strlcpy(text, rd_kafka_error_string(error), sizeof(text));
		rd_kafka_error_destroy(error);
		outcome = ks_producer_fail(producer, err, text, NULL, KS_PRODUCER_DEAD);
		return outcome;
	}
	producer->begun_ms = ks_producer_clock();
	producer->state = KS_PRODUCER_IN_TRANSACTION;
	return KS_PRODUCER_OK;
}

/* Starts the first step of a commit. */
static void
ks_start_offsets(KsProducer *producer, const char *topic, int64 position, const char *metadata)
{
	KsCall	   *call;
	rd_kafka_topic_partition_t *place;

	if (producer->commit_topic == NULL || strcmp(producer->commit_topic, topic) != 0)
		producer->commit_topic = MemoryContextStrdup(producer->mcxt, topic);
	call = ks_call_make(producer->client, ks_body_offsets);
	call->timeout_ms = producer->timeout_ms;
	call->offsets = rd_kafka_topic_partition_list_new(1);
	place = rd_kafka_topic_partition_list_add(call->offsets, topic, 0);
	place->offset = position;
	if (metadata)
	{
		/* the library frees it */
		place->metadata = strdup(metadata);
		place->metadata_size = place->metadata ? strlen(metadata) : 0;
	}
	call->group = rd_kafka_consumer_group_metadata_new(producer->group);
	producer->asked = NULL;
	ks_call_start(producer->client, call);
	producer->step = KS_COMMIT_OFFSETS;
	producer->commit_ms = ks_producer_clock();
	producer->state = KS_PRODUCER_COMMITTING;
}

/*
 * The position is in the transaction, or was refused, or records have failed.
 * Starts the last step if all is well.
 */
static KsProducerOutcome
ks_offsets_done(KsProducer *producer, KsCall *call)
{
	KsProducerOutcome outcome;
	KsCall	   *next;

	/* What a record says tells more than what the call makes of it. */
	outcome = ks_producer_raise_failure(producer);
	if (outcome != KS_PRODUCER_OK)
	{
		ks_call_free(call);
		return outcome;
	}
	if (call->err != RD_KAFKA_RESP_ERR_NO_ERROR)
		return ks_producer_fail_call(producer, call, KS_PRODUCER_FAILED);
	ks_call_free(call);
	if (producer->ring.pending > 0)
		elog(ERROR, "%d records are on their way after a flush", producer->ring.pending);

	next = ks_call_make(producer->client, ks_body_commit);
	next->timeout_ms = producer->timeout_ms;
	ks_call_start(producer->client, next);
	producer->step = KS_COMMIT_END;
	return KS_PRODUCER_AGAIN;
}

/* The last word on a commit. */
static KsProducerOutcome
ks_commit_done(KsProducer *producer, KsCall *call)
{
	if (call->err != RD_KAFKA_RESP_ERR_NO_ERROR)
		return ks_producer_fail_call(producer, call, KS_PRODUCER_DEAD);
	ks_call_free(call);
	ks_client_note_alive(producer->client);
	ks_producer_forget_records(producer);
	producer->state = KS_PRODUCER_READY;
	return KS_PRODUCER_OK;
}

/* Ends the transaction; see producer.h. */
KsProducerOutcome
ks_producer_commit(KsProducer *producer, const char *topic, int64 position,
				   const char *metadata, int slice_ms)
{
	int64		deadline = ks_producer_clock() + slice_ms;
	int64		give_up;
	KsProducerOutcome outcome;

	if (ks_is_final(producer))
		return producer->error.outcome;
	if (producer->state == KS_PRODUCER_IN_TRANSACTION)
	{
		ks_producer_serve(producer);
		outcome = ks_producer_raise_failure(producer);
		if (outcome != KS_PRODUCER_OK)
			return outcome;
		if (ks_call_running(producer->client))
			return ks_producer_unfinished(producer);	/* counting partitions */
		ks_start_offsets(producer, topic, position, metadata);
	}
	if (producer->state != KS_PRODUCER_COMMITTING)
		ks_wrong_state(producer, "commit");

	give_up = producer->commit_ms + producer->timeout_ms + KS_COMMIT_GRACE_MS;
	do
	{
		KsCall	   *call;

		ks_producer_serve(producer);
		if (producer->failure.err != RD_KAFKA_RESP_ERR_NO_ERROR)
			ks_call_cancel(producer->client);
		call = ks_call_finished(producer->client);
		if (call == NULL)
			continue;
		if (producer->step == KS_COMMIT_END)
			return ks_commit_done(producer, call);
		/* flush returns when the last report is out, perhaps after we looked */
		ks_producer_serve(producer);
		outcome = ks_offsets_done(producer, call);
		if (outcome != KS_PRODUCER_AGAIN)
			return outcome;
	} while (ks_producer_wait(producer, Min(deadline, give_up)));
	/* the library heeds no time-out while it looks for the coordinator of the positions */
	if (ks_producer_clock() >= give_up)
		return ks_producer_fail(producer, RD_KAFKA_RESP_ERR__TIMED_OUT,
								"the commit takes longer than the transaction may", NULL, KS_PRODUCER_DEAD);
	return ks_producer_unfinished(producer);
}
