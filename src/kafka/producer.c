/*
 * producer.c
 *		Writing records to Kafka partitions: life, errors and waiting.
 *
 * The library reports by events on the client's main queue, and what blocks is
 * called by a helper thread (caller.c); both wake the client's event descriptor.
 * So the main thread never waits unless it is given a slice for it.
 *
 * An error of any kind passes through ks_producer_fail, which decides the
 * outcome and the new state.
 *
 * Runs in: the main thread of a worker or backend.
 */
#include "postgres.h"

#include "kafka/confbuild.h"
#include "kafka/kerror.h"
#include "kafka/logbridge.h"
#include "kafka/producer_int.h"

#include <time.h>
#include <unistd.h>

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

/* Being fenced twice within this time is somebody else's doing. */
#define KS_FENCING_WINDOW_MS	60000

/* How the library begins when the position, rather than a record, was refused. */
#define KS_OFFSETS_REFUSED		"Failed to commit offsets to transaction"

#define KS_WAIT_SLICE_MS		1000	/* longest wait between two looks at interrupts */

/* When a transactional id was last found fenced, by the clock below. */
typedef struct KsFencing
{
	char	   *transactional_id;
	int64		at_ms;
} KsFencing;

static List *fencings = NIL;	/* of KsFencing, for the life of the process */

/* Milliseconds of a clock that nobody sets. */
int64
ks_producer_clock(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Configuration of the client. */
static void
ks_adjust_producer(rd_kafka_conf_t *conf, void *arg)
{
	const char *transactional_id = arg;

	if (transactional_id)
		ks_conf_set(conf, "transactional.id", transactional_id);
	rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_LOG | RD_KAFKA_EVENT_ERROR |
							 RD_KAFKA_EVENT_STATS | RD_KAFKA_EVENT_DR);
}

/* Makes a producer in the current memory context, which was made for it. */
static KsProducer *
ks_producer_make(Oid serverid, Oid userid, const char *name,
				 const char *transactional_id, const char *group)
{
	KsProducer *producer = palloc0(sizeof(KsProducer));
	rd_kafka_conf_t *conf;

	producer->mcxt = CurrentMemoryContext;
	producer->error_mcxt = AllocSetContextCreate(producer->mcxt, "kstream producer error",
												 ALLOCSET_SMALL_SIZES);
	producer->transactional_id = transactional_id ? pstrdup(transactional_id) : NULL;
	producer->group = group ? pstrdup(group) : NULL;
	producer->acked = -1;
	producer->state = KS_PRODUCER_UNCONNECTED;
	producer->client = ks_client_open(serverid, userid,
									  transactional_id ? KS_CLIENT_TRANSACTIONAL : KS_CLIENT_IDEMPOTENT,
									  name, ks_adjust_producer, producer->transactional_id);
	conf = unconstify(rd_kafka_conf_t *, rd_kafka_conf(producer->client->rk));
	producer->timeout_ms = Max(atoi(ks_conf_get(conf, "transaction.timeout.ms")), 1000);
	return producer;
}

/* Opens a client for a server; see producer.h. */
KsProducer *
ks_producer_open(Oid serverid, Oid userid, const char *name,
				 const char *transactional_id, const char *group)
{
	MemoryContext mcxt = AllocSetContextCreate(CurrentMemoryContext, "kstream producer",
											   ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(mcxt);
	KsProducer *volatile producer = NULL;

	if (transactional_id && group == NULL)
		elog(ERROR, "a transactional producer needs a group");

	/* The current context may live long: leave nothing in it. */
	PG_TRY();
	{
		producer = ks_producer_make(serverid, userid, name, transactional_id, group);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(old);
		MemoryContextDelete(mcxt);
		PG_RE_THROW();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	return producer;
}

/* Closes the client.  What is on its way may still arrive, or not. */
void
ks_producer_close(KsProducer *producer)
{
	MemoryContextDelete(producer->mcxt);
}

/* See producer.h. */
KsProducerState
ks_producer_state(KsProducer *producer)
{
	return producer->state;
}

/* See producer.h. */
const KsProducerError *
ks_producer_error(KsProducer *producer)
{
	return &producer->error;
}

/* Raises the last error. */
void
ks_producer_throw(KsProducer *producer, const char *action)
{
	KsProducerError *error = &producer->error;
	const char *server = producer->client->server;

	if (error->topic)
		ereport(ERROR,
				(errcode(error->sqlstate),
				 errmsg("could not %s of Kafka topic \"%s\" on server \"%s\"",
						action, error->topic, server),
				 errdetail("%s (%s)", error->message, error->name),
				 errhint("%s", error->hint)));
	else
		ereport(ERROR,
				(errcode(error->sqlstate),
				 errmsg("could not %s on Kafka server \"%s\"", action, server),
				 errdetail("%s (%s)", error->message, error->name),
				 errhint("%s", error->hint)));
}

/* Descriptor that becomes readable when there is a reason to call. */
int
ks_producer_eventfd(KsProducer *producer)
{
	return producer->client->eventfd;
}

/* Makes the descriptor unreadable until the next event. */
void
ks_producer_drain_eventfd(KsProducer *producer)
{
	uint64		count;

	while (read(producer->client->eventfd, &count, sizeof(count)) == sizeof(count))
		;
}

/*
 * The answer to somebody who has to call again.  The descriptor was perhaps
 * drained while another answer came in: then wake it once more.
 */
KsProducerOutcome
ks_producer_unfinished(KsProducer *producer)
{
	KsClient   *client = producer->client;
	uint64		one = 1;

	if (ks_call_is_done(client) || (producer->reader && ks_call_is_done(producer->reader)))
	{
		if (write(client->eventfd, &one, sizeof(one)) != sizeof(one))
		{
			/* full: it is readable, then */
		}
	}
	if (!client->down)
		return KS_PRODUCER_AGAIN;
	return ks_producer_fail(producer, client->last_code ? client->last_code :
							RD_KAFKA_RESP_ERR__TRANSPORT, NULL, NULL, producer->state);
}

/*
 * Takes in what has arrived.  If time is left, waits for more, and returns true
 * when it is worth looking again.
 */
bool
ks_producer_wait(KsProducer *producer, int64 deadline)
{
	int64		left = deadline - ks_producer_clock();
	int			rc;

	if (left <= 0)
		return false;
	rc = WaitLatchOrSocket(MyLatch,
						   WL_LATCH_SET | WL_SOCKET_READABLE | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						   producer->client->eventfd, Min(left, KS_WAIT_SLICE_MS),
						   PG_WAIT_EXTENSION);
	if (rc & WL_LATCH_SET)
		ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	if (rc & WL_SOCKET_READABLE)
		ks_producer_drain_eventfd(producer);
	return true;
}

/* The topic of that name, made at first use. */
KsOutTopic *
ks_producer_topic(KsProducer *producer, const char *name)
{
	MemoryContext old;
	KsOutTopic *topic = producer->last_topic;
	ListCell   *lc;

	if (topic && strcmp(topic->name, name) == 0)
		return topic;
	foreach(lc, producer->topics)
	{
		topic = lfirst(lc);
		if (strcmp(topic->name, name) == 0)
			return topic;
	}
	old = MemoryContextSwitchTo(producer->mcxt);
	topic = palloc0(sizeof(KsOutTopic));
	topic->name = pstrdup(name);
	topic->rkt = ks_client_topic(producer->client, name, topic);
	producer->topics = lappend(producer->topics, topic);
	MemoryContextSwitchTo(old);
	return topic;
}

/*
 * Somebody fenced us, says the broker.  True if it was another producer, as far
 * as can be known; see producer.h.
 */
static bool
ks_fenced_by_another(KsProducer *producer)
{
	int64		now = ks_producer_clock();
	KsFencing  *fencing = NULL;
	MemoryContext old;
	bool		again;
	ListCell   *lc;

	if (producer->transactional_id == NULL)
		return false;
	/* begun_ms is 0 outside of a transaction */
	if (producer->begun_ms > 0 && now - producer->begun_ms >= producer->timeout_ms)
		return false;
	foreach(lc, fencings)
	{
		fencing = lfirst(lc);
		if (strcmp(fencing->transactional_id, producer->transactional_id) == 0)
			break;
		fencing = NULL;
	}
	if (fencing == NULL)
	{
		old = MemoryContextSwitchTo(TopMemoryContext);
		fencing = palloc(sizeof(KsFencing));
		fencing->transactional_id = pstrdup(producer->transactional_id);
		fencing->at_ms = now - KS_FENCING_WINDOW_MS;
		fencings = lappend(fencings, fencing);
		MemoryContextSwitchTo(old);
	}
	again = now - fencing->at_ms < KS_FENCING_WINDOW_MS;
	fencing->at_ms = now;
	return again;
}

/* Names of the topics of the transaction under way, for an error that does not tell. */
static char *
ks_used_topics(KsProducer *producer)
{
	StringInfoData buf;
	int			count = 0;
	ListCell   *lc;

	initStringInfo(&buf);
	foreach(lc, producer->topics)
	{
		KsOutTopic *topic = lfirst(lc);

		if (!topic->used)
			continue;
		if (++count > 5)
		{
			appendStringInfoString(&buf, " or another");
			break;
		}
		appendStringInfo(&buf, "%s\"%s\"", count > 1 ? " or " : "topic ", topic->name);
	}
	return count > 0 ? buf.data : NULL;
}

/* What a permission is missing for. */
static char *
ks_denied_resource(KsProducer *producer, rd_kafka_resp_err_t err, const char *topic)
{
	switch (err)
	{
		case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
			return topic ? psprintf("topic \"%s\"", topic) : ks_used_topics(producer);
		case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
			return psprintf("group \"%s\"", producer->group ? producer->group : "");
		case RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
			return psprintf("transactional id \"%s\"",
							producer->transactional_id ? producer->transactional_id : "");
		case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
			return pstrdup("cluster");
		default:
			return pstrdup("login");
	}
}

/* True for codes that say only that something went wrong before. */
static bool
ks_code_is_vague(rd_kafka_resp_err_t err)
{
	return err == RD_KAFKA_RESP_ERR__TRANSPORT || err == RD_KAFKA_RESP_ERR__TIMED_OUT ||
		err == RD_KAFKA_RESP_ERR__MSG_TIMED_OUT || err == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN;
}

/*
 * Makes an outcome of an error.  text: the library's, or NULL for its name of
 * err; record: whose fault it is, or NULL.  The new state may be the old one:
 * then nothing is lost yet, and what passes is BROKER_AWAY.
 */
KsProducerOutcome
ks_producer_fail(KsProducer *producer, rd_kafka_resp_err_t err, const char *text,
				 KsRecordFailure *record, KsProducerState state)
{
	KsProducerError *error = &producer->error;
	KsClient   *client = producer->client;
	MemoryContext old;

	MemoryContextReset(producer->error_mcxt);
	memset(error, 0, sizeof(KsProducerError));
	old = MemoryContextSwitchTo(producer->error_mcxt);
	error->outcome = ks_producer_outcome(err, &error->fenced);
	if (error->outcome == KS_PRODUCER_OK)
		error->outcome = KS_PRODUCER_FATAL; /* an error without a code */
	if (error->outcome == KS_PRODUCER_REOPEN && state == producer->state &&
		state != KS_PRODUCER_FAILED && state != KS_PRODUCER_DEAD)
		error->outcome = KS_PRODUCER_BROKER_AWAY;
	/* the last word is not about a record or a topic, whatever it says */
	if (producer->state == KS_PRODUCER_COMMITTING && producer->step == KS_COMMIT_END &&
		(error->outcome == KS_PRODUCER_TOO_LARGE || error->outcome == KS_PRODUCER_TOPIC_MISSING))
		error->outcome = KS_PRODUCER_REOPEN;
	if (error->fenced && ks_fenced_by_another(producer))
		error->outcome = KS_PRODUCER_FENCED;

	error->sqlstate = ks_producer_sqlstate(error->outcome, &error->hint);
	error->name = ks_client_clean_text(client, rd_kafka_err2name(err));
	error->message = ks_client_clean_text(client, text && text[0] ? text : rd_kafka_err2str(err));
	/* What went wrong with the connection says more than "timed out". */
	if (ks_code_is_vague(err) && client->last_error[0] != '\0')
		error->message = psprintf("%s: %s", error->message, client->last_error);
	error->partition = -1;
	error->sequence = -1;
	if (record)
	{
		error->topic = record->topic ? pstrdup(record->topic->name) : NULL;
		error->partition = record->partition;
		error->sequence = record->sequence;
		error->refused = record->count;
	}
	else if (text && strncmp(text, KS_OFFSETS_REFUSED, strlen(KS_OFFSETS_REFUSED)) == 0)
	{
		error->topic = pstrdup(producer->commit_topic);
		error->partition = 0;
	}
	if (error->outcome == KS_PRODUCER_DENIED)
		error->resource = ks_denied_resource(producer, err, error->topic);
	MemoryContextSwitchTo(old);
	producer->state = state;
	return error->outcome;
}

/* As above, of a call that has failed; frees it.  Only DEAD remains after a fatal error. */
KsProducerOutcome
ks_producer_fail_call(KsProducer *producer, KsCall *call, KsProducerState state)
{
	char		text[sizeof(call->text)];
	rd_kafka_resp_err_t err = call->err;

	strlcpy(text, call->text, sizeof(text));
	if (call->fatal)
		state = KS_PRODUCER_DEAD;
	ks_call_free(call);
	return ks_producer_fail(producer, err, text, NULL, state);
}
