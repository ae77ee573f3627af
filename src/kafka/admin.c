/*
 * admin.c
 *		Requests that wait for an answer: partitions, offsets, topics, the seam check.
 *
 * The library's calls block, so they are made in slices of at most a second
 * with a look at interrupts in between, and repeated while the reason may pass.
 * Nothing of the library is held across a place that can throw, except what the
 * client itself frees.
 */
#include "postgres.h"

#include "access/attnum.h"

#include "kafka/client.h"
#include "kafka/consumer.h"
#include "kafka/consumer_int.h"
#include "kafka/kerror.h"
#include "kafka/logbridge.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#define KS_SLICE_MS			1000	/* longest stay inside the library */
#define KS_RETRY_WAIT_MS	50	/* between two tries that fail at once */

/* A request that is repeated until it works, fails for good or time is up. */
typedef struct KsRequest
{
	KsClient   *client;
	TimestampTz deadline;
	TimestampTz slice_start;
	bool		started;
} KsRequest;

/* Begins a request that may take timeout_ms. */
static void
ks_request_begin(KsRequest *req, KsClient *client, int timeout_ms)
{
	req->client = client;
	req->deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), Max(timeout_ms, 1));
	req->started = false;
}

/*
 * Time for the next try in milliseconds, or 0 when time is up.  Serves
 * interrupts and the log, and sees that failing at once does not become a loop.
 */
static int
ks_request_slice(KsRequest *req)
{
	rd_kafka_event_t *other;
	TimestampTz now;
	long		left;

	CHECK_FOR_INTERRUPTS();
	other = ks_client_serve(req->client, 0);
	if (other)
		rd_kafka_event_destroy(other);
	now = GetCurrentTimestamp();
	if (req->started && !TimestampDifferenceExceeds(req->slice_start, now, KS_RETRY_WAIT_MS))
	{
		(void) WaitLatch(NULL, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, KS_RETRY_WAIT_MS,
						 PG_WAIT_EXTENSION);
		CHECK_FOR_INTERRUPTS();
		now = GetCurrentTimestamp();
	}
	left = TimestampDifferenceMilliseconds(now, req->deadline);
	if (left <= 0 && req->started)
		return 0;
	req->started = true;
	req->slice_start = now;
	return Max(1, Min(left, KS_SLICE_MS));
}

/*
 * One try to count partitions.  -1: not known yet (err says why, or the topic
 * is being created).
 */
static int
ks_try_partition_count(KsClient *client, rd_kafka_topic_t *rkt, int slice,
					   rd_kafka_resp_err_t *err)
{
	const struct rd_kafka_metadata *md;
	int			count = -1;

	*err = rd_kafka_metadata(client->rk, 0, rkt, &md, slice);
	if (*err != RD_KAFKA_RESP_ERR_NO_ERROR)
		return -1;
	if (md->topic_cnt == 1)
	{
		*err = md->topics[0].err;
		if (*err == RD_KAFKA_RESP_ERR_NO_ERROR && md->topics[0].partition_cnt > 0)
			count = md->topics[0].partition_cnt;
		else if (*err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
			count = 0;
	}
	rd_kafka_metadata_destroy(md);
	return count;
}

/* Number of partitions of a topic as the broker says now; 0: no such topic. */
int
ks_topic_partition_count(KsConsumer *consumer, const char *topic, int timeout_ms)
{
	KsClient   *client = ks_consumer_client(consumer);
	rd_kafka_topic_t *rkt = ks_consumer_topic(consumer, topic);
	rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR__TIMED_OUT;
	KsRequest	req;
	int			slice;

	ks_request_begin(&req, client, timeout_ms);
	while ((slice = ks_request_slice(&req)) > 0)
	{
		int			count = ks_try_partition_count(client, rkt, slice, &err);

		if (count >= 0)
		{
			ks_client_note_alive(client);
			return count;
		}
		if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
			err = RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE;
		if (!ks_error_is_passing(err))
			break;
	}
	ks_request_failed(client, err, NULL, "count the partitions", topic);
}

/* One try of ks_query_offset. */
static rd_kafka_resp_err_t
ks_try_offset(KsClient *client, const char *topic, int32 partition, int64 ms, int slice,
			  int64 *offset)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_resp_err_t err;

	rd_kafka_topic_partition_list_add(list, topic, partition)->offset = ms;
	err = rd_kafka_offsets_for_times(client->rk, list, slice);
	if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
		err = list->elems[0].err;
	*offset = list->elems[0].offset >= 0 ? list->elems[0].offset : -1;
	rd_kafka_topic_partition_list_destroy(list);
	return err;
}

/*
 * What the broker says of a topic, for errors that do not tell; waits a second at
 * most.  Where nobody answers, what the library knows by itself is no news: some
 * versions do not know a partition whose leader is away.
 */
static rd_kafka_resp_err_t
ks_topic_error(KsConsumer *consumer, const char *topic, rd_kafka_resp_err_t err)
{
	rd_kafka_resp_err_t said;

	(void) ks_try_partition_count(ks_consumer_client(consumer), ks_consumer_topic(consumer, topic),
								  KS_SLICE_MS, &said);
	if (said == RD_KAFKA_RESP_ERR_NO_ERROR)
		return err;
	return ks_error_is_passing(said) && err >= RD_KAFKA_RESP_ERR_UNKNOWN ? err : said;
}

/*
 * Asks for an offset of a partition: by milliseconds since 1970, or by one of
 * the library's names for the first and the end.  -1: no record is that late.
 */
static int64
ks_query_offset(KsConsumer *consumer, const char *topic, int32 partition, int64 ms,
				int timeout_ms, const char *action)
{
	KsClient   *client = ks_consumer_client(consumer);
	rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR__TIMED_OUT;
	KsRequest	req;
	int64		offset;
	int			slice;

	ks_request_begin(&req, client, timeout_ms);
	while ((slice = ks_request_slice(&req)) > 0)
	{
		err = ks_try_offset(client, topic, partition, ms, slice, &offset);
		if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			ks_client_note_alive(client);
			return offset;
		}
		if (!ks_error_is_passing(err))
		{
			err = ks_topic_error(consumer, topic, err);
			if (!ks_error_is_passing(err))
				break;
		}
	}
	ks_request_failed(client, err, NULL, action, topic);
}

/*
 * First offset of a partition, and the end that a reader of committed data
 * sees.  (rd_kafka_query_watermark_offsets heeds no time-out in old versions.)
 */
void
ks_topic_offsets(KsConsumer *consumer, const char *topic, int32 partition, int timeout_ms,
				 int64 *first, int64 *end)
{
	*end = ks_query_offset(consumer, topic, partition, RD_KAFKA_OFFSET_END, timeout_ms,
						   "get the end");
	*first = ks_query_offset(consumer, topic, partition, RD_KAFKA_OFFSET_BEGINNING, timeout_ms,
							 "get the first offset");
}

/* TimestampTz -> milliseconds since 1970, rounded up. */
static int64
ks_time_to_kafka(TimestampTz when)
{
	const int64 epoch_ms = (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * 86400000;
	int64		ms = when / 1000;

	if (when > 0 && when % 1000 != 0)
		ms++;
	return Max(ms + epoch_ms, 0);
}

/* First offset whose record is not older than when; the end where there is none. */
int64
ks_topic_offset_for_time(KsConsumer *consumer, const char *topic, int32 partition,
						 TimestampTz when, int timeout_ms)
{
	int64		first;
	int64		end;
	int64		offset;

	/* The end first: what arrives in between must not be skipped. */
	ks_topic_offsets(consumer, topic, partition, timeout_ms, &first, &end);
	if (TIMESTAMP_NOT_FINITE(when))
		return when < 0 ? first : end;
	offset = ks_query_offset(consumer, topic, partition, ks_time_to_kafka(when), timeout_ms,
							 "find an offset by time");
	return offset >= 0 ? offset : end;
}

/* Adds a byte string, or its absence, to a hash. */
static uint64
ks_hash_bytes(uint64 hash, const char *bytes, size_t len)
{
	if (bytes == NULL)
		return hash_combine64(hash, UINT64CONST(0x6b73747265616d00));
	return hash_bytes_extended((const unsigned char *) bytes, (int) len, hash);
}

/* Hash of time, key and value of a record: tells a record from another one. */
uint64
ks_record_fingerprint(const KsRecord *rec)
{
	uint64		hash;

	hash = hash_bytes_extended((const unsigned char *) &rec->timestamp,
							   sizeof(rec->timestamp), 0);
	hash = ks_hash_bytes(hash, rec->key, rec->keylen);
	return ks_hash_bytes(hash, rec->value, rec->valuelen);
}

/* What a look for one record has come to. */
typedef enum KsLook
{
	KS_LOOK_AGAIN,
	KS_LOOK_FOUND,
	KS_LOOK_NOTHING,
	KS_LOOK_FAILED
} KsLook;

/* Judges an event of the probe. */
static KsLook
ks_judge_event(const KsEvent *event, rd_kafka_resp_err_t *err)
{
	if (event->kind == KS_EVENT_RECORD)
		return KS_LOOK_FOUND;
	if (event->kind == KS_EVENT_EOF || event->code == KS_FETCH_OUT_OF_RANGE)
		return KS_LOOK_NOTHING;
	switch (event->code)
	{
		case KS_FETCH_TOPIC_MISSING:
			*err = RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
			return KS_LOOK_FAILED;
		case KS_FETCH_DENIED:
			*err = RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
			return KS_LOOK_FAILED;
		case KS_FETCH_CORRUPT:
			*err = RD_KAFKA_RESP_ERR__BAD_MSG;
			return KS_LOOK_FAILED;
		default:
			return KS_LOOK_AGAIN;
	}
}

/* Waits up to slice for the first event of the probe; starts it again after a passing error. */
static KsLook
ks_look_once(KsConsumer *probe, const char *topic, int32 partition, int64 offset, int slice,
			 rd_kafka_resp_err_t *err, int64 *found_offset, uint64 *fingerprint)
{
	KsEventBatch *batch = ks_consumer_poll(probe, 1, 0, slice);
	KsLook		look = KS_LOOK_AGAIN;

	if (batch->nevents > 0)
	{
		KsEvent    *event = &batch->events[0];

		look = ks_judge_event(event, err);
		if (look == KS_LOOK_FOUND)
		{
			*found_offset = event->record.offset;
			*fingerprint = ks_record_fingerprint(&event->record);
		}
		else if (look == KS_LOOK_AGAIN)
			ks_consumer_assign(probe, topic, partition, offset);
	}
	ks_event_batch_free(batch);
	return look;
}

/*
 * Fingerprint of the record at offset, or of the next one after it: the seam
 * check.  Returns false if there is none.  It does not matter whether the
 * consumer reads the partition: a second client looks.
 */
bool
ks_topic_fingerprint(KsConsumer *consumer, const char *topic, int32 partition, int64 offset,
					 int timeout_ms, int64 *found_offset, uint64 *fingerprint)
{
	KsConsumer *probe = ks_consumer_probe(consumer);
	rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR__TIMED_OUT;
	KsLook		look = KS_LOOK_AGAIN;
	KsRequest	req;
	int			slice;

	ks_consumer_assign(probe, topic, partition, offset);
	ks_request_begin(&req, ks_consumer_client(probe), timeout_ms);
	while (look == KS_LOOK_AGAIN && (slice = ks_request_slice(&req)) > 0)
		look = ks_look_once(probe, topic, partition, offset, slice, &err,
							found_offset, fingerprint);
	ks_consumer_unassign(probe, topic, partition);
	if (look == KS_LOOK_AGAIN)
		err = ks_topic_error(probe, topic, err);
	if (look == KS_LOOK_AGAIN || look == KS_LOOK_FAILED)
		ks_request_failed(ks_consumer_client(probe), err, NULL, "read a record", topic);
	return look == KS_LOOK_FOUND;
}

/* Identifier of the cluster the broker belongs to. */
char *
ks_cluster_id(KsConsumer *consumer, int timeout_ms)
{
	KsClient   *client = ks_consumer_client(consumer);
	KsRequest	req;
	int			slice;

	ks_request_begin(&req, client, timeout_ms);
	while ((slice = ks_request_slice(&req)) > 0)
	{
		char	   *id = rd_kafka_clusterid(client->rk, slice);

		if (id)
		{
			char	   *result = pstrdup(id);

			rd_kafka_mem_free(client->rk, id);
			return result;
		}
	}
	ks_request_failed(client, RD_KAFKA_RESP_ERR__TIMED_OUT, NULL, "get the cluster's name", NULL);
}

/* Sends the request to create a topic; the answer comes to the main queue. */
static void
ks_send_create(KsClient *client, const char *topic, int partitions, int replication,
			   bool compacted, int timeout_ms)
{
	char		errstr[256];
	rd_kafka_NewTopic_t *request;
	rd_kafka_AdminOptions_t *options;

	request = rd_kafka_NewTopic_new(topic, partitions, replication, errstr, sizeof(errstr));
	if (request == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("could not create Kafka topic \"%s\"", topic),
				 errdetail("%s", errstr)));
	if (compacted)
		(void) rd_kafka_NewTopic_set_config(request, "cleanup.policy", "compact");
	options = rd_kafka_AdminOptions_new(client->rk, RD_KAFKA_ADMIN_OP_CREATETOPICS);
	rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, errstr, sizeof(errstr));
	rd_kafka_AdminOptions_set_operation_timeout(options, timeout_ms, errstr, sizeof(errstr));
	rd_kafka_CreateTopics(client->rk, &request, 1, options, client->mainq);
	rd_kafka_AdminOptions_destroy(options);
	rd_kafka_NewTopic_destroy(request);
}

/* Error code and text in the answer; the text is a copy. */
static rd_kafka_resp_err_t
ks_read_create_result(rd_kafka_event_t *event, char **text)
{
	const rd_kafka_CreateTopics_result_t *result = rd_kafka_event_CreateTopics_result(event);
	const rd_kafka_topic_result_t **topics;
	rd_kafka_resp_err_t err = rd_kafka_event_error(event);
	const char *message = rd_kafka_event_error_string(event);
	size_t		count = 0;

	if (err == RD_KAFKA_RESP_ERR_NO_ERROR && result)
	{
		topics = rd_kafka_CreateTopics_result_topics(result, &count);
		if (count > 0)
		{
			err = rd_kafka_topic_result_error(topics[0]);
			message = rd_kafka_topic_result_error_string(topics[0]);
		}
	}
	*text = message ? pstrdup(message) : NULL;
	return err;
}

/*
 * Creates a topic through a short-lived client.  Returns false if it exists.
 * Waits in slices; the answer to an earlier try makes no difference.
 */
bool
ks_topic_create(Oid serverid, Oid userid, const char *topic, int partitions, int replication,
				bool compacted, int timeout_ms)
{
	MemoryContext mcxt = AllocSetContextCreate(CurrentMemoryContext, "kstream topic creation",
											   ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(mcxt);
	KsClient   *client = ks_client_open(serverid, userid, KS_CLIENT_PRODUCER, "admin", NULL, NULL);
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
	rd_kafka_event_t *event = NULL;
	rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR__TIMED_OUT;
	char	   *text = NULL;

	ks_send_create(client, topic, partitions, replication, compacted, Max(timeout_ms, 1));
	for (;;)
	{
		long		left;

		CHECK_FOR_INTERRUPTS();
		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);
		event = ks_client_serve(client, Max(1, Min(left, 200)));
		if (event || left <= 0)
			break;
	}
	if (event)
	{
		err = ks_read_create_result(event, &text);
		rd_kafka_event_destroy(event);
	}
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR && err != RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
		ks_request_failed(client, err, text, "create the partitions", topic);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(mcxt);
	return err == RD_KAFKA_RESP_ERR_NO_ERROR;
}
