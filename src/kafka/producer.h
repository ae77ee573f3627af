/*
 * producer.h
 *		Writing records to Kafka partitions, exactly once or at least once.
 *
 * kafka/ is the only folder that includes librdkafka's header; this file shows
 * none of its types.  Every function runs on the process's main thread, and none
 * waits for the broker longer than the slice it is given (milliseconds; 0: not
 * at all).  What takes longer goes on behind, and the event descriptor becomes
 * readable when there is a reason to call again.
 *
 * A KsProducer is owned by the memory context it was made in: a reset callback
 * destroys the client, so an ereport(ERROR) anywhere leaks nothing.  That takes
 * 1.5 s at most, however the broker is.
 *
 * Two modes:
 *
 * Transactional (a transactional id is given): exactly once.
 *
 *		open -> [position] -> connect -> position
 *			 -> { begin -> send ... -> commit(position, metadata) } ...
 *
 * The position is kept in Kafka with the records, so it tells what is there and
 * what is not: after any outcome other than a clean OK close the producer, open
 * a new one, connect, read the position and go on from it.  connect() settles
 * what was in doubt either way.  Never send the same records again through a
 * producer whose commit did not return OK.
 *
 * Idempotent (no transactional id): at least once, and fast.
 *
 *		open -> [position] -> connect -> { send ... ; poll ; acked ; [note] } ...
 */
#ifndef KS_PRODUCER_H
#define KS_PRODUCER_H

#include "base/record.h"

typedef struct KsProducer KsProducer;

/* What became of a call.  Decided once, here, from librdkafka's codes. */
typedef enum KsProducerOutcome
{
	KS_PRODUCER_OK,

	/* Passing: nothing is lost, make the same call again (when the event descriptor says so). */
	KS_PRODUCER_AGAIN,			/* not finished, or no room in the queue */
	KS_PRODUCER_BROKER_AWAY,	/* as AGAIN, and no broker answers */

	/*
	 * Final for this producer, unless its state says otherwise (see
	 * ks_producer_state): close it.
	 */
	KS_PRODUCER_REOPEN,			/* result unknown, or the transaction cannot be finished:
								 * open another and go on from the position */
	KS_PRODUCER_FENCED,			/* another producer with this transactional id is at work:
								 * do not take it back in a loop */
	KS_PRODUCER_TOO_LARGE,		/* error.sequence: the record */
	KS_PRODUCER_TOPIC_MISSING,	/* error.topic: topic, or partition of it, is not there */
	KS_PRODUCER_DENIED,			/* authentication, or a permission; error.resource tells whose */
	KS_PRODUCER_FATAL			/* anything else; error.name is the broker's name of it */
} KsProducerOutcome;

typedef enum KsProducerState
{
	KS_PRODUCER_UNCONNECTED,	/* opened; nobody has been fenced */
	KS_PRODUCER_CONNECTING,
	KS_PRODUCER_READY,
	KS_PRODUCER_IN_TRANSACTION,
	KS_PRODUCER_FAILED,			/* transaction cannot be committed: close, which undoes it */
	KS_PRODUCER_COMMITTING,
	KS_PRODUCER_DEAD			/* every call gives the same outcome again: close */
} KsProducerState;

/* Why a call did not return OK or AGAIN; texts hold no secrets. */
typedef struct KsProducerError
{
	KsProducerOutcome outcome;
	int			sqlstate;
	const char *name;			/* "TOPIC_AUTHORIZATION_FAILED" */
	const char *message;		/* text of the client library, cleaned */
	const char *hint;
	const char *resource;		/* DENIED: "topic \"x\"", "group ...", "transactional id ...",
								 * "cluster"; else NULL */
	const char *topic;			/* of the record, or NULL */
	int32		partition;		/* -1: not known */
	int64		sequence;		/* of the record, -1: not one record's fault */

	/*
	 * How many records were refused with it.  A broker refuses whole batches: if
	 * more than one, sequence is the greatest of them, and sending them one by
	 * one tells which it is.
	 */
	int			refused;

	/*
	 * The broker takes the producer for outdated.  That is also what it says
	 * when it has ended the transaction itself, because it took too long or just
	 * while we were committing, so the first time the outcome is REOPEN.  It is
	 * FENCED if it happens to the same transactional id again within 60 s, to a
	 * transaction that was not open for as long as transaction.timeout.ms.
	 * (Remembered in this process: one that starts anew gives REOPEN again.)
	 */
	bool		fenced;
} KsProducerError;

/* A record to be sent.  Its memory may go as soon as ks_producer_send returns. */
typedef struct KsOutRecord
{
	const char *topic;
	int32		partition;		/* always given */
	const char *key;			/* NULL: no key */
	size_t		keylen;
	const char *value;			/* NULL: tombstone */
	size_t		valuelen;
	const KsHeader *headers;
	int			nheaders;
	int64		timestamp;		/* milliseconds since 1970; 0: now (the library cannot send 0) */
	int64		sequence;		/* ours, >= 0; rises from record to record, perhaps with gaps */
} KsOutRecord;

/* Where the last committed transaction left off. */
typedef struct KsProducerPosition
{
	bool		found;			/* false: nothing has been committed, or it was forgotten */
	int64		position;
	char	   *metadata;		/* in the caller's memory context */
} KsProducerPosition;

/*
 * Opens a client for the foreign server with the user mapping of userid (none
 * needed).  Reads the catalogs, so needs a transaction; waits for nothing and
 * fences nobody.  name goes into client.id and the log.  transactional_id NULL:
 * idempotent mode.  group: the consumer group that the position is kept under
 * (transactional mode).
 */
extern KsProducer *ks_producer_open(Oid serverid, Oid userid, const char *name,
									const char *transactional_id, const char *group);
extern void ks_producer_close(KsProducer *producer);

extern KsProducerState ks_producer_state(KsProducer *producer);

/* Of the last call that returned neither OK nor AGAIN; good until the next call. */
extern const KsProducerError *ks_producer_error(KsProducer *producer);

/* Raises it as an ERROR.  action completes "could not ...". */
extern _Noreturn void ks_producer_throw(KsProducer *producer, const char *action);

/*
 * File descriptor that becomes readable when something has arrived: a step is
 * finished, records were acknowledged or failed.  Drain it, then call again what
 * returned AGAIN (or poll).
 */
extern int	ks_producer_eventfd(KsProducer *producer);
extern void ks_producer_drain_eventfd(KsProducer *producer);

/*
 * Transactional: takes the transactional id over, which fences any other
 * producer that uses it and ends its transaction; settles a commit in doubt.
 * Idempotent: nothing is waited for.  BROKER_AWAY also after transaction.timeout.ms
 * without a coordinator; it goes on trying.
 */
extern KsProducerOutcome ks_producer_connect(KsProducer *producer, int slice_ms);

/*
 * The position committed last.  May be asked in any state except within a
 * transaction; before connect() it tells a mere onlooker the truth so far.
 * Waits for a transaction in doubt to be settled: AGAIN until then, which may
 * take up to its transaction.timeout.ms if nobody connects.  DENIED leaves the
 * state as it was.
 */
extern KsProducerOutcome ks_producer_position(KsProducer *producer, const char *topic,
											  KsProducerPosition *position, int slice_ms);

/*
 * Idempotent mode: notes a position with its metadata where ks_producer_position
 * finds it, outside of any transaction and with no bearing on the records.
 * AGAIN: call again with the same arguments.
 */
extern KsProducerOutcome ks_producer_note(KsProducer *producer, const char *topic, int64 position,
										  const char *metadata, int slice_ms);

/* Number of partitions as the broker says now, -1: no such topic.  Not within a commit. */
extern KsProducerOutcome ks_producer_partition_count(KsProducer *producer, const char *topic,
													 int *count, int slice_ms);

/* Starts a transaction.  Waits for nothing. */
extern KsProducerOutcome ks_producer_begin(KsProducer *producer);

/*
 * Queues a record.  Waits for nothing.  AGAIN or BROKER_AWAY: no room, the record
 * was not taken; call again when the event descriptor says so.  TOO_LARGE and
 * TOPIC_MISSING leave the state as it was if this very record was not taken
 * (then error.sequence is its sequence); otherwise they, and all others, tell
 * of a record sent before.
 */
extern KsProducerOutcome ks_producer_send(KsProducer *producer, const KsOutRecord *record);

/*
 * Ends the transaction: waits until all records are acknowledged, adds the
 * position of (topic, partition 0), which must exist, with its metadata (text),
 * and commits.  AGAIN: call again with the same arguments.  A transaction
 * without records is fine.  Gives up with REOPEN when it takes longer than
 * transaction.timeout.ms.
 */
extern KsProducerOutcome ks_producer_commit(KsProducer *producer, const char *topic,
											int64 position, const char *metadata, int slice_ms);

/*
 * Takes in what has arrived.  Idempotent mode: call it when the event descriptor
 * says so.  OK: nothing is wrong.  A record that failed is final: close, open
 * anew, and send from acked() on (leaving out, perhaps, the one that was refused).
 */
extern KsProducerOutcome ks_producer_poll(KsProducer *producer, int slice_ms);

/*
 * The greatest sequence S such that all records sent with a sequence <= S have
 * been acknowledged; -1: none yet.
 */
extern int64 ks_producer_acked(KsProducer *producer);

/* Records taken that are not acknowledged yet, and their bytes. */
extern int	ks_producer_pending(KsProducer *producer, int64 *bytes);

#endif							/* KS_PRODUCER_H */
