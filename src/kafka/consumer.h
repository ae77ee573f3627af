/*
 * consumer.h
 *		Reading Kafka partitions from offsets of our own.
 *
 * kafka/ is the only folder that includes librdkafka's header; this file shows
 * none of its types.  Every function runs on the process's main thread.  A
 * consumer uses assign() only: no group, no commit, auto.offset.reset=error.
 *
 * A KsConsumer is owned by the memory context it was made in: a reset callback
 * destroys the client, so an ereport(ERROR) anywhere leaks nothing.  That takes
 * 1.5 s at most, however the broker is.
 *
 * Opening reads the catalogs and so needs a transaction; nothing else does.
 */
#ifndef KS_CONSUMER_H
#define KS_CONSUMER_H

#include "base/record.h"

typedef struct KsConsumer KsConsumer;

typedef enum KsEventKind
{
	KS_EVENT_RECORD,
	KS_EVENT_EOF,				/* end of the partition reached; record.offset = next offset */
	KS_EVENT_ERROR				/* the partition cannot go on; see code */
} KsEventKind;

/* Why a partition cannot go on.  Decided once, here, from librdkafka's codes. */
typedef enum KsFetchErrorCode
{
	KS_FETCH_OK,
	KS_FETCH_RETRY,				/* passing: broker down, leader change, time-out */
	KS_FETCH_OUT_OF_RANGE,		/* offset not in the log: retention overtook us, truncation, re-creation
								 * (ks_topic_offsets tells what there is) */
	KS_FETCH_TOPIC_MISSING,		/* topic or partition does not exist */
	KS_FETCH_DENIED,			/* authentication or authorisation */
	KS_FETCH_CORRUPT			/* CRC, decompression, unknown format: the data cannot be read */
} KsFetchErrorCode;

typedef struct KsEvent
{
	KsEventKind kind;
	const char *topic;			/* lives as long as the consumer */
	KsRecord	record;			/* partition and offset (the next one) set in every kind */
	KsFetchErrorCode code;		/* KS_EVENT_ERROR */
	const char *message;		/* KS_EVENT_ERROR: text of the client library, no secrets */
} KsEvent;

/*
 * A batch of events; owns the memory its records point into.  Closing the
 * consumer empties it.
 */
typedef struct KsEventBatch
{
	int			nevents;
	KsEvent    *events;
	Size		bytes;			/* of keys and values */
} KsEventBatch;

/*
 * Opens a client for the foreign server with the user mapping of userid (none
 * needed).  Does not wait for the broker.  name goes into client.id and the log.
 */
extern KsConsumer *ks_consumer_open(Oid serverid, Oid userid, const char *name);
extern void ks_consumer_close(KsConsumer *consumer);

/* File descriptor that becomes readable when events arrive after an empty poll. */
extern int	ks_consumer_eventfd(KsConsumer *consumer);
extern void ks_consumer_drain_eventfd(KsConsumer *consumer);

/*
 * Starts (or restarts elsewhere) reading one partition at offset; removes it.
 * Offsets delivered of a partition always rise from there, perhaps with gaps.
 * After an error event nothing comes of a partition until it is assigned again.
 * Assigning ends a pause.
 */
extern void ks_consumer_assign(KsConsumer *consumer, const char *topic, int32 partition, int64 offset);
extern void ks_consumer_unassign(KsConsumer *consumer, const char *topic, int32 partition);

/*
 * Stops or resumes fetching of a partition, keeping its place.  What was fetched
 * ahead is thrown away, so this is for long pauses; short back-pressure is just
 * not polling, which lets the client fill its queue and no more.
 */
extern void ks_consumer_pause(KsConsumer *consumer, const char *topic, int32 partition, bool pause);

/*
 * Takes what has arrived, up to max_events and nearly max_bytes (0: no limit),
 * without waiting when timeout_ms is 0 (the normal use; timeouts are for bounded
 * reads only and are sliced so that interrupts are served).  Returns a batch
 * with nevents = 0 if nothing is there: only then wait for the event descriptor,
 * which fires when the queue stops being empty.  Free the batch with
 * ks_event_batch_free, or with its context.
 */
extern KsEventBatch *ks_consumer_poll(KsConsumer *consumer, int max_events, Size max_bytes, int timeout_ms);
extern void ks_event_batch_free(KsEventBatch *batch);

/* True while the client believes no broker can be reached (up to 2 s late); *why: last error. */
extern bool ks_consumer_broker_down(KsConsumer *consumer, const char **why);

/*
 * Since when the broker that leads the partition has answered fetches without a
 * break, and when last (base/clock.h).  False if it has not yet.  Leaders are
 * those that ks_topic_partition_count has found.
 */
extern bool ks_consumer_answered(KsConsumer *consumer, const char *topic, int32 partition,
								 TimestampTz *since, TimestampTz *last);

/*
 * True if since the last call some partition could not be fetched for a while
 * (no leader, or no such topic), so that what has been polled until now may come
 * from another topic of the same name.  Positions must then be checked anew.
 */
extern bool ks_consumer_interrupted(KsConsumer *consumer);

/* Last high watermark the client saw for the partition, or -1. */
extern int64 ks_consumer_cached_end(KsConsumer *consumer, const char *topic, int32 partition);

/*
 * Requests that wait for an answer, at most timeout_ms, in slices that serve
 * interrupts.  They raise an ERROR (connection_failure class 08 where the
 * broker does not answer) with a hint.
 */
extern int	ks_topic_partition_count(KsConsumer *consumer, const char *topic, int timeout_ms);	/* 0: no such topic */
extern void ks_topic_offsets(KsConsumer *consumer, const char *topic, int32 partition,
							 int timeout_ms, int64 *first, int64 *end);
/* First offset whose timestamp is >= when; the end where there is none. */
extern int64 ks_topic_offset_for_time(KsConsumer *consumer, const char *topic, int32 partition,
									  TimestampTz when, int timeout_ms);
/* The record at exactly (or next after) offset: the seam check. False: nothing there.
 * Looks through a second client, so the partition may be in use. */
extern bool ks_topic_fingerprint(KsConsumer *consumer, const char *topic, int32 partition,
								 int64 offset, int timeout_ms, int64 *found_offset, uint64 *fingerprint);
extern uint64 ks_record_fingerprint(const KsRecord *rec);
extern char *ks_cluster_id(KsConsumer *consumer, int timeout_ms);

/* Creates the topic; returns false if it exists already.  -1: broker's defaults.
 * compacted: the last record of each key is kept for ever.
 * Opens a client of its own, so needs a transaction. */
extern bool ks_topic_create(Oid serverid, Oid userid, const char *topic, int partitions,
							int replication, bool compacted, int timeout_ms);

#endif							/* KS_CONSUMER_H */
