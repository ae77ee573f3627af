/*
 * caller.h
 *		Calls of the client library that block, made in a thread of their own.
 *
 * Internal to kafka/.
 */
#ifndef KS_CALLER_H
#define KS_CALLER_H

#include "kafka/client.h"

typedef struct KsCaller KsCaller;

/*
 * One call: what to do, and what came of it.  Lives in memory from malloc().
 * body runs in the thread: it must not touch Postgres, and should return soon
 * once ks_call_unwanted() is true.
 */
typedef struct KsCall
{
	void		(*body) (struct KsCall *call);
	KsCaller   *caller;
	rd_kafka_t *rk;
	int			timeout_ms;

	/* Arguments, as body needs them */
	rd_kafka_topic_partition_list_t *offsets;
	rd_kafka_consumer_group_metadata_t *group;
	rd_kafka_topic_t *rkt;

	/* The result; err is also set while the call goes on, to what it waits for */
	rd_kafka_resp_err_t err;
	bool		fatal;
	bool		abortable;
	char		text[512];
	int			count;
} KsCall;

extern KsCall *ks_call_make(KsClient *client, void (*body) (KsCall *call));
extern void ks_call_start(KsClient *client, KsCall *call);
extern bool ks_call_running(KsClient *client);
extern bool ks_call_is_done(KsClient *client);
extern void ks_call_cancel(KsClient *client);
extern KsCall *ks_call_finished(KsClient *client);
extern rd_kafka_resp_err_t ks_call_obstacle(KsClient *client);
extern void ks_call_free(KsCall *call);

/* For bodies. */
extern bool ks_call_unwanted(KsCall *call);
extern void ks_call_set_error(KsCall *call, rd_kafka_error_t *error);

/* For the thread that destroys a client. */
extern void ks_caller_end(KsCaller *caller);

#endif							/* KS_CALLER_H */
