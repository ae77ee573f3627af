/*
 * client.h
 *		One handle of the client library: birth, log and error events, bounded death.
 *
 * Internal to kafka/.  consumer.c, admin.c and the producer build on it.
 */
#ifndef KS_CLIENT_H
#define KS_CLIENT_H

#include "postgres.h"

#include <librdkafka/rdkafka.h>

#include "datatype/timestamp.h"
#include "kafka/answers.h"
#include "lib/ilist.h"
#include "nodes/pg_list.h"

typedef enum KsClientRole
{
	KS_CLIENT_CONSUMER,
	KS_CLIENT_PRODUCER,			/* sends requests only, no records */
	KS_CLIENT_IDEMPOTENT,		/* sends records, at least once */
	KS_CLIENT_TRANSACTIONAL		/* sends records, exactly once */
} KsClientRole;

/* Sets what the opener of a client needs on top. */
typedef void (*KsConfAdjuster) (rd_kafka_conf_t *conf, void *arg);

typedef struct KsClientShared KsClientShared;

typedef struct KsClient
{
	rd_kafka_t *rk;
	rd_kafka_queue_t *mainq;	/* log, error, statistics and admin events */
	int			eventfd;		/* readable: some queue has events; -1: none */
	char	   *name;			/* for client.id and messages */
	char	   *server;			/* name of the foreign server */
	List	   *secrets;		/* values never to be shown (char *) */

	bool		transactional;	/* of role KS_CLIENT_TRANSACTIONAL */
	bool		shows_debug;	/* the user has asked for debugging lines */

	/* What the events told (logbridge.c) */
	bool		interrupted;	/* a partition could not be fetched for a while */
	bool		down;			/* no broker can be reached */
	char		last_error[512];
	rd_kafka_resp_err_t last_code;
	int			log_tokens;		/* rate limit of the server log */
	TimestampTz log_refill;
	uint32		log_suppressed;

	KsClientShared *shared;		/* with the library's threads; malloc'ed */
	int			destroy_budget_ms;	/* how long destroying may hold us up */

	/* Destroyed before the handle, in this order */
	struct KsCaller *caller;	/* caller.c, or NULL */
	rd_kafka_topic_t **topics;	/* malloc'ed */
	int			ntopics;
	rd_kafka_queue_t *queue;	/* a queue of the owner's own, or NULL */

	/*
	 * Called on the main thread, inside a call of the library that takes from
	 * queue, for an error that the library tells only in words.  Must not throw.
	 */
	void		(*on_error) (void *owner, rd_kafka_resp_err_t err, const char *text);
	void	   *owner;

	MemoryContextCallback callback;
	dlist_node	node;			/* in the list of live clients */
	bool		linked;
} KsClient;

extern KsClient *ks_client_open(Oid serverid, Oid userid, KsClientRole role, const char *name,
								KsConfAdjuster adjust, void *arg);
extern KsClient *ks_client_clone(KsClient *from, KsClientRole role, const char *name,
								 KsConfAdjuster adjust, void *arg);
extern rd_kafka_topic_t *ks_client_topic(KsClient *client, const char *name, void *opaque);
extern rd_kafka_queue_t *ks_client_queue(KsClient *client);
extern KsAnswers *ks_client_answers(KsClient *client);
extern uint32 ks_client_closed_sockets(KsClient *client);
extern int	ks_client_live_count(void);

#endif							/* KS_CLIENT_H */
