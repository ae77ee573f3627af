/*
 * publisher.h
 *		A sink made ready to run: from its outbox into its topic.
 *
 * The worker calls ks_publisher_work outside of transactions, and where that asks
 * for it ks_publisher_transact inside one.  Neither waits for the broker longer
 * than a few milliseconds.
 */
#ifndef KS_PUBLISHER_H
#define KS_PUBLISHER_H

#include "catalog/sink_cat.h"

typedef struct KsPublisher KsPublisher;

typedef enum KsPublisherNeed
{
	KS_NEED_EVENT,				/* call again when the event descriptor, the latch or the time says so */
	KS_NEED_CALL,				/* call again at once */
	KS_NEED_TRANSACTION			/* call ks_publisher_transact */
} KsPublisherNeed;

/* What happened in a call, for the statistics. */
typedef struct KsPublisherProgress
{
	int			records;		/* known to be in the topic since the last call */
	int64		latency_us;		/* from the commit of the oldest of them to now, or -1 */
	bool		idle;			/* nothing is left to publish */
	const char *trouble;		/* what it waits for, or NULL */
	bool		watching;		/* it finds out whether it may publish; not known yet whether it gets on */
	TimestampTz call_at;		/* KS_NEED_EVENT: call then at the latest; 0: no need to */
} KsPublisherProgress;

/* Opens it in a child of the current context; inside a transaction; waits for nothing. */
extern KsPublisher *ks_publisher_open(int32 sink_id);
extern void ks_publisher_close(KsPublisher *publisher);

extern KsPublisherNeed ks_publisher_work(KsPublisher *publisher, KsPublisherProgress *progress);
extern void ks_publisher_transact(KsPublisher *publisher);
/* After the transaction of ks_publisher_transact has committed. */
extern void ks_publisher_committed(KsPublisher *publisher);

extern int	ks_publisher_eventfd(const KsPublisher *publisher);
extern void ks_publisher_drain_eventfd(KsPublisher *publisher);

/* Was a commit under way, so that only Kafka knows what became of it? */
extern bool ks_publisher_in_doubt(const KsPublisher *publisher);

#endif							/* KS_PUBLISHER_H */
