/*
 * producer_int.h
 *		What the files of the producer share.
 *
 * Internal to kafka/: producer.c (life, errors, waiting), producer_send.c
 * (records), producer_txn.c (transactions), producer_ask.c (questions).
 */
#ifndef KS_PRODUCER_INT_H
#define KS_PRODUCER_INT_H

#include "kafka/caller.h"
#include "kafka/producer.h"

/* A topic that records are sent to. */
typedef struct KsOutTopic
{
	char	   *name;
	rd_kafka_topic_t *rkt;
	bool		used;			/* in the transaction under way */
} KsOutTopic;

/* Records sent and not reported on, in the order they were sent. */
typedef struct KsPendingRing
{
	uint64		head;			/* number of the first one */
	uint64		tail;			/* number of the next one */
	uint64		capacity;		/* a power of two */
	int64	   *sequences;
	char	   *reports;		/* KS_REPORT_* */
	bool		hole;			/* one before head has failed */
	int			pending;		/* not reported yet */
	int64		bytes;
} KsPendingRing;

/* The record that failed, of several the one that tells most. */
typedef struct KsRecordFailure
{
	rd_kafka_resp_err_t err;	/* NO_ERROR: none */
	KsOutTopic *topic;
	int32		partition;
	int64		sequence;
	Size		size;
	int			count;			/* records that failed like this */
} KsRecordFailure;

/* What a commit is waiting for. */
typedef enum KsCommitStep
{
	KS_COMMIT_OFFSETS,			/* records and the position to be taken */
	KS_COMMIT_END				/* the coordinator's last word */
} KsCommitStep;

struct KsProducer
{
	MemoryContext mcxt;
	KsClient   *client;
	KsClient   *reader;			/* asks for positions, while it is needed */
	MemoryContext reader_mcxt;
	char	   *transactional_id;	/* NULL: idempotent mode */
	char	   *group;
	int			timeout_ms;		/* transaction.timeout.ms */
	KsProducerState state;
	KsProducerError error;
	MemoryContext error_mcxt;	/* its texts */

	List	   *topics;			/* of KsOutTopic */
	KsOutTopic *last_topic;
	KsPendingRing ring;
	KsRecordFailure failure;
	int64		acked;
	int			until_serve;	/* records to be sent before looking at events */

	int64		connect_ms;		/* when connecting began, by the monotonic clock */
	int64		begun_ms;		/* of the transaction; 0: none */
	int64		commit_ms;		/* when its commit began */
	uint32		closed_sockets; /* when the last transaction began */
	bool		transacted;		/* there was one */
	KsCommitStep step;
	char	   *commit_topic;
	KsOutTopic *asked;			/* whose partitions are being counted */
};

#define KS_REPORT_NONE		0
#define KS_REPORT_ACKED		1
#define KS_REPORT_FAILED	2

/* producer.c */
extern int64 ks_producer_clock(void);
extern KsProducerOutcome ks_producer_fail(KsProducer *producer, rd_kafka_resp_err_t err,
										  const char *text, KsRecordFailure *record,
										  KsProducerState state);
extern KsProducerOutcome ks_producer_fail_call(KsProducer *producer, KsCall *call,
											   KsProducerState state);
extern KsProducerOutcome ks_producer_unfinished(KsProducer *producer);
extern bool ks_producer_wait(KsProducer *producer, int64 deadline);
extern KsOutTopic *ks_producer_topic(KsProducer *producer, const char *name);

/* producer_send.c */
extern void ks_producer_serve(KsProducer *producer);
extern KsProducerOutcome ks_producer_raise_failure(KsProducer *producer);
extern void ks_producer_forget_records(KsProducer *producer);

#endif							/* KS_PRODUCER_INT_H */
