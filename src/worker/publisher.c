/*
 * publisher.c
 *		A sink made ready to run: from its outbox into its topic.
 *
 * Exactly once.  Each Kafka transaction holds a run of records of the outbox and
 * the position behind them (the offset of a consumer group of our own, on
 * partition 0 of the output topic), so the topic itself tells what is in it.
 * Our own copy, kstream_catalog.published, is stored afterwards; it is a hint that
 * lets records be thrown away, and never runs ahead.  After any outcome other
 * than a clean OK the producer is closed, another one is opened, which settles
 * what was in doubt, and the position in Kafka is read again.
 *
 * At least once.  Records go out as they come, in runs that begin KS_PACE_MS apart
 * at least; what was acknowledged is stored here, and what was not is sent again
 * after a crash.  Header kstream_seq numbers the records without a gap, so that a
 * consumer can drop those it has seen.  The position in Kafka is noted now and then
 * only, for the two checks below.
 *
 * Only what is durable is published: the transaction log is flushed up to a
 * point behind every commit that the reading snapshot saw.  Otherwise a crash
 * could make Postgres forget what the topic has.
 *
 * A database that is behind its topic (restored, or a standby that had not got
 * everything) must not publish anew, in other words, what it had published.  The
 * position in Kafka goes with a hash over all records published; on opening, the
 * same hash is made of the outbox.  Where they differ, or the topic has more than
 * the outbox, the sink is blocked until kstream.resync.
 *
 * A copy of the database that runs beside the original must not fence it.  The
 * position in Kafka names the installation that has written it, which writes it
 * again every KS_HEARTBEAT_MS; another one watches first, without taking the
 * transactional id over, and goes on only when it has not moved.
 *
 * A record that is too large for the topic fails its whole batch, and every other
 * try.  So runs are made smaller, and the record that is suspected is sent alone;
 * when it is refused alone, the error names it, and kstream.resync(name, 'skip')
 * leaves it out.  Positions and hash go on as if it had been sent.
 *
 * Runs in: workers.  Memory: the publisher's own context; records in a context
 * that is reset for every run.
 */
#include "postgres.h"

#include <sys/stat.h>
#include <unistd.h>

#include "access/xlog.h"
#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/faultpoint.h"
#include "base/guc.h"
#include "base/wal.h"
#include "catalog/query_cat.h"
#include "catalog/stream_def.h"
#include "kafka/producer.h"
#include "stream/log_append.h"
#include "stream/out_record.h"
#include "stream/outbox.h"
#include "worker/publisher.h"
#include "worker/wakeup.h"

#define KS_SLICE_MS			5		/* longest stay in a call of the client */
#define KS_RUN_RECORDS		100000	/* records of one Kafka transaction, at most */
#define KS_RUN_BYTES		(16 * 1024 * 1024)
#define KS_HEARTBEAT_MS		10000
#define KS_WATCH_MS			(2 * KS_HEARTBEAT_MS + 5000)
#define KS_LOOK_MS			1000	/* between two looks while watching */
#define KS_COUNT_MS			60000	/* between two counts of the partitions */
#define KS_TRIM_MS			100		/* between two tries to give space back */
#define KS_TRIM_IDLE_MS		500		/* the same where nothing is to be published */
#define KS_STANDBY_MS		10		/* between two looks whether standbys have what is read */
#define KS_STORE_MS			10		/* at least once: between two stores of what was acknowledged */
#define KS_PACE_MS			5		/* at least once: shortest time from one run to the next */
#define KS_GROW_RUNS		64		/* runs after which they may grow again, where records were refused */
#define KS_STICKY_RECORDS	64		/* records without a key that go to one partition in a row */

/* What is done next.  Comments name the states that may follow. */
typedef enum PublisherState
{
	PUB_LOOK,					/* read the position, fence nobody; -> WATCH, CONNECT */
	PUB_WATCH,					/* does another installation publish?  -> LOOK (again), CONNECT */
	PUB_CONNECT,				/* -> COUNT */
	PUB_COUNT,					/* count the partitions; -> LOCATE, READ */
	PUB_LOCATE,					/* exactly once: read the position; -> COMPARE */
	PUB_COMPARE,				/* in a transaction: is it ours?  -> READ, SEND (to note it) */
	PUB_READ,					/* in a transaction: store what is published, get more; -> FLUSH, IDLE */
	PUB_IDLE,					/* -> READ, COUNT, SEND (heartbeat) */
	PUB_FLUSH,					/* -> SEND */
	PUB_SEND,					/* -> COMMIT, READ (at least once) */
	PUB_COMMIT,					/* -> READ */
	PUB_NOTE					/* at least once: note the position in Kafka; -> IDLE, FLUSH */
} PublisherState;

/* At least once: the end of a run that is not acknowledged yet. */
typedef struct RunEnd
{
	int64		position;
	int64		chain;
	int64		last;			/* records before this one must be acknowledged */
} RunEnd;

/* What a sink has to heed since its topic has refused records for their size. */
typedef struct Refusal
{
	int32		sink;
	int			limit;			/* records of a run */
	int			taken;			/* runs, since the last refusal */
	int64		suspect;		/* the greatest record of those refused: sent alone; -1: none */
	bool		leave_out;		/* the next one that is refused alone, once */
	int64		left_out;		/* is not sent; -1: none */
} Refusal;

static List *refusals = NIL;	/* Refusal *, one per sink, for the life of the process */

struct KsPublisher
{
	MemoryContext cxt;
	MemoryContext run_cxt;		/* of the records read last */
	MemoryContext call_cxt;		/* reset for every call */
	char	   *name;			/* for messages: no catalog can be read outside of transactions */
	KsSinkRow  *sink;
	KsStreamDef *target;
	KsProducer *producer;
	PublisherState state;
	uint64		installation;	/* see this_installation */

	KsPublished stored;			/* as committed */
	KsPublished next;			/* as it will be stored */
	bool		unstored;		/* they differ */
	bool		located;		/* the position in Kafka is known */
	KsProducerPosition kafka;	/* as read last */

	KsOutboxBatch run;			/* read, perhaps partly sent */
	int			sent;			/* of them */
	uint32		outbox_version; /* when the outbox was read last */
	int64		read_to;		/* position to read on from */
	XLogRecPtr	flush_to;
	TimestampTz read_at;
	TimestampTz stored_at;
	bool		storing;		/* the transaction under way stores "next" */
	char	   *metadata;		/* of the commit under way */
	int64		sent_chain;		/* at least once: hash over everything sent */
	List	   *run_ends;		/* RunEnd *, oldest first */
	int64		sent_last;		/* at least once: behind the last record sent by this producer */
	Refusal    *refusal;
	int			sticky_left;
	int32		sticky;			/* partition of records without a key */

	TimestampTz watch_until;
	TimestampTz look_at;
	TimestampTz counted_at;
	TimestampTz trimmed_at;
	bool		bulky;			/* there may be space left to give back */
	TimestampTz heartbeat_at;	/* when the position was written last */
	bool		in_doubt;		/* a commit was under way when the producer was lost */
	const char *trouble;
	int			done;			/* records known to be in the topic since the last call */
	int64		latency_us;
};

/*
 * Tells installations apart: this data directory on this host.  A copy has
 * another directory or another inode.
 */
static uint64
this_installation(void)
{
	char		host[256] = "";
	struct stat st = {0};
	uint64		h;

	(void) gethostname(host, sizeof(host) - 1);
	(void) stat(DataDir, &st);
	h = hash_bytes_extended((const unsigned char *) host, strlen(host), GetSystemIdentifier());
	h = hash_bytes_extended((const unsigned char *) DataDir, strlen(DataDir), h);
	return h ^ ((uint64) st.st_ino << 1) ^ MyDatabaseId;
}

/* Opens a producer; nothing is waited for. */
static void
open_producer(KsPublisher *p)
{
	char	   *name = psprintf("kstream.%s", p->sink->incarnation);

	p->producer = ks_producer_open(p->target->serverid, p->target->owner, p->name,
								   p->sink->exactly_once ? name : NULL, name);
}

/* What is known about refused records of a sink. */
static Refusal *
refusal_of(int32 sink)
{
	MemoryContext old;
	Refusal    *refusal;
	ListCell   *lc;

	foreach(lc, refusals)
	{
		refusal = lfirst(lc);
		if (refusal->sink == sink)
			return refusal;
	}
	old = MemoryContextSwitchTo(TopMemoryContext);
	refusal = palloc0(sizeof(Refusal));
	refusal->sink = sink;
	refusal->limit = KS_RUN_RECORDS;
	refusal->suspect = refusal->left_out = -1;
	refusals = lappend(refusals, refusal);
	MemoryContextSwitchTo(old);
	return refusal;
}

/* See publisher.h. */
KsPublisher *
ks_publisher_open(int32 sink_id)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "kstream publisher", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	KsPublisher *p = palloc0(sizeof(KsPublisher));

	p->cxt = cxt;
	p->run_cxt = AllocSetContextCreate(cxt, "kstream run", ALLOCSET_DEFAULT_SIZES);
	p->call_cxt = AllocSetContextCreate(cxt, "kstream publisher call", ALLOCSET_SMALL_SIZES);
	p->sink = ks_sink_load(sink_id);
	if (p->sink == NULL || !ks_published_load(sink_id, &p->stored))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("sink %d does not exist", sink_id)));
	p->name = ks_sink_display_name(p->sink);
	p->target = ks_stream_def_of(p->sink->target);
	p->refusal = refusal_of(sink_id);
	p->refusal->leave_out = p->stored.resync != NULL && strcmp(p->stored.resync, "skip") == 0;
	/* says nothing about differences between database and topic */
	if (p->refusal->leave_out)
		p->stored.resync = NULL;
	p->next = p->stored;
	p->read_to = p->stored.position;
	p->installation = this_installation();
	p->latency_us = -1;
	open_producer(p);
	/* one that is to be a publisher of its own need not look at another */
	p->state = p->stored.resync == NULL || strcmp(p->stored.resync, "replay") == 0 ? PUB_LOOK : PUB_CONNECT;
	MemoryContextSwitchTo(old);
	return p;
}

/* See publisher.h. */
void
ks_publisher_close(KsPublisher *p)
{
	if (p->producer != NULL)
		ks_producer_close(p->producer);
	MemoryContextDelete(p->cxt);
}

/* See publisher.h. */
int
ks_publisher_eventfd(const KsPublisher *p)
{
	return ks_producer_eventfd(p->producer);
}

/* See publisher.h. */
void
ks_publisher_drain_eventfd(KsPublisher *p)
{
	ks_producer_drain_eventfd(p->producer);
}

/* See publisher.h. */
bool
ks_publisher_in_doubt(const KsPublisher *p)
{
	return p->in_doubt;
}

/* ---------------------------------------------------------------- the position in Kafka */

/* Text that goes with a position. */
static char *
make_metadata(KsPublisher *p, int64 chain)
{
	return psprintf("v=1;at=" UINT64_FORMAT ";chain=" INT64_FORMAT ";beat=" INT64_FORMAT,
					p->installation, chain, (int64) GetCurrentTimestamp());
}

/* Reads a number out of it; false if it is not there. */
static bool
metadata_field(const char *metadata, const char *name, bool is_signed, uint64 *value)
{
	char	   *key = psprintf(";%s=", name);
	const char *at = metadata == NULL ? NULL : strstr(metadata, key);

	if (at == NULL)
		return false;
	at += strlen(key);
	*value = is_signed ? (uint64) strtoll(at, NULL, 10) : strtoull(at, NULL, 10);
	return true;
}

/* Was the position that was read written by this installation? */
static bool
position_is_ours(KsPublisher *p)
{
	uint64		at;

	return !p->kafka.found ||
		(metadata_field(p->kafka.metadata, "at", false, &at) && at == p->installation);
}

/*
 * look
 *		Before anybody is fenced: who has written the position?  A foreign one is
 *		watched for longer than its owner would leave it alone.
 */
static KsProducerOutcome
look(KsPublisher *p)
{
	KsProducerPosition before = p->kafka;
	TimestampTz now = ks_clock_now();
	MemoryContext old;
	KsProducerOutcome outcome;

	if (p->state == PUB_WATCH && now < p->look_at)
		return KS_PRODUCER_AGAIN;
	old = MemoryContextSwitchTo(p->cxt);
	outcome = ks_producer_position(p->producer, p->target->topic, &p->kafka, KS_SLICE_MS);
	MemoryContextSwitchTo(old);
	if (outcome != KS_PRODUCER_OK)
		return outcome;
	if (position_is_ours(p))
	{
		p->state = PUB_CONNECT;
		return KS_PRODUCER_OK;
	}
	p->look_at = TimestampTzPlusMilliseconds(now, KS_LOOK_MS);
	if (p->state == PUB_LOOK)
	{
		p->watch_until = TimestampTzPlusMilliseconds(now, KS_WATCH_MS);
		p->state = PUB_WATCH;
		p->trouble = "watching whether another installation publishes to the topic";
		return KS_PRODUCER_AGAIN;
	}
	if (before.position != p->kafka.position ||
		strcmp(before.metadata ? before.metadata : "", p->kafka.metadata ? p->kafka.metadata : "") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("another installation publishes \"%s\" to topic \"%s\"",
						p->name, p->target->topic),
				 errdetail("This database seems to be a copy of one that is still at work."),
				 errhint("Stop the other one, or call kstream.resync(name, 'continue') to go on here as a publisher of its own.")));
	if (now < p->watch_until)
		return KS_PRODUCER_AGAIN;
	p->trouble = NULL;
	p->state = PUB_CONNECT;
	return KS_PRODUCER_OK;
}

/* The hash over the records up to the given position, from what is stored on. */
static int64
chain_to(KsPublisher *p, int64 position)
{
	int64		chain = p->stored.chain;
	int64		at = p->stored.position;
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "kstream chain", ALLOCSET_DEFAULT_SIZES);

	while (at < position)
	{
		KsOutboxBatch batch;

		ks_outbox_read(p->sink, at, (int) Min(position - at, KS_RUN_RECORDS), KS_RUN_BYTES, cxt, &batch);
		if (batch.nrecords == 0)
			break;
		for (int i = 0; i < batch.nrecords; i++)
			chain = ks_record_chain(chain, &batch.records[i]);
		at += batch.nrecords;
		MemoryContextReset(cxt);
	}
	MemoryContextDelete(cxt);
	return chain;
}

/* The database and its topic do not belong together.  What the modes do is told in numbers. */
static void
blocked(KsPublisher *p, const char *detail)
{
	int64		waiting = Max(ks_outbox_end(p->sink) - p->stored.position, 0);

	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("what \"%s\" has published to topic \"%s\" is not what this database holds",
					p->name, p->target->topic),
			 errdetail_internal("%s", detail),
			 errhint("Nothing is published until kstream.resync(name, mode) says how to go on: "
					 "'continue' leaves out the records that wait (now " INT64_FORMAT "), 'republish' sends them, perhaps once more, "
					 "'replay' waits until the database has computed anew what it had published.", waiting)));
}

/* Does the database hold the records that were published up to there? */
static void
check_lineage(KsPublisher *p, int64 position)
{
	uint64		chain;
	int64		ours;

	if (!metadata_field(p->kafka.metadata, "chain", true, &chain))
		blocked(p, "The position in Kafka was not written by kstream.");
	ours = chain_to(p, position);
	if (ours != (int64) chain)
		blocked(p, psprintf("The first " INT64_FORMAT " records differ.", position));
	p->next.position = position;
	p->next.chain = ours;
}

/*
 * compare
 *		Where the topic is, in the outbox: sets what is published.  False: not
 *		there yet (the database computes anew what it had published).
 */
static bool
compare(KsPublisher *p)
{
	const char *resync = p->stored.resync;
	int64		end = ks_outbox_end(p->sink);
	int64		position = p->kafka.position - p->stored.shift;

	p->next.position = p->stored.position;
	p->next.chain = p->stored.chain;
	p->next.shift = p->stored.shift;
	if (resync != NULL && strcmp(resync, "republish") == 0)
		p->next.shift = p->kafka.found ? p->kafka.position - p->stored.position : 0;
	else if (resync != NULL && strcmp(resync, "continue") == 0)
	{
		p->next.position = Max(p->stored.position, Min(p->stored.resync_end, end));
		p->next.chain = chain_to(p, p->next.position);
		p->next.shift = p->kafka.found ? p->kafka.position - p->next.position : 0;
	}
	else if (!p->kafka.found)
	{
		if (p->stored.position > 0 && p->sink->exactly_once)
			blocked(p, "Kafka no longer knows a position, though records were published.");
	}
	else if (position < p->stored.position && p->sink->exactly_once)
		blocked(p, psprintf("The topic is at " INT64_FORMAT ", the database at " INT64_FORMAT ".",
							position, p->stored.position));
	else if (position > end)
	{
		if (resync == NULL)
			blocked(p, psprintf("The topic has " INT64_FORMAT " records, the database " INT64_FORMAT
								": it was restored, or promoted with records missing.", position, end));
		return false;
	}
	else if (position >= p->stored.position)
		check_lineage(p, position);
	p->sent_chain = p->next.chain;
	p->unstored = true;
	p->read_to = p->next.position;
	return true;
}

/* ---------------------------------------------------------------- records */

/* Sets the partition of a record that has not named one. */
static int32
choose_partition(KsPublisher *p, const KsRecord *rec)
{
	Assert(p->next.partitions > 0);
	if (rec->partition >= 0)
		return rec->partition;
	if (rec->key != NULL)
		return ks_partition_for_key(rec->key, rec->keylen, p->next.partitions);
	if (p->sticky_left-- <= 0)
	{
		p->sticky = (int32) pg_prng_uint64_range(&pg_global_prng_state, 0, p->next.partitions - 1);
		p->sticky_left = KS_STICKY_RECORDS;
	}
	return p->sticky % p->next.partitions;
}

/* How many records the next run may have. */
static int
run_limit(const KsPublisher *p)
{
	int64		left = p->refusal->suspect - p->read_to;

	if (left == 0)
		return 1;
	return left > 0 ? (int) Min(left, p->refusal->limit) : p->refusal->limit;
}

/* Is a record looked for that the topic refuses? */
static bool
searches(const KsPublisher *p)
{
	return p->refusal->limit < KS_RUN_RECORDS || p->refusal->suspect >= p->next.position;
}

/*
 * At least once: many small runs cost the broker more than a little patience costs
 * the records, since the client sends a request for each partition.  What comes
 * after a pause goes out at once.
 */
static bool
keeps_pace(const KsPublisher *p)
{
	return !p->sink->exactly_once && !TimestampDifferenceExceeds(p->read_at, ks_clock_now(), KS_PACE_MS);
}

/* At least once: is it too early for the next run?  While a record is looked for one is on its way at a time. */
static bool
must_wait(const KsPublisher *p)
{
	return (p->run_ends != NIL && searches(p)) || keeps_pace(p);
}

/* A run was taken as a whole: after many of them, larger ones are tried again. */
static void
run_was_taken(KsPublisher *p)
{
	if (++p->refusal->taken % KS_GROW_RUNS == 0)
		p->refusal->limit = Min(p->refusal->limit * 2, KS_RUN_RECORDS);
}

/* A record that is left out for good: all that is left of it is in the log. */
static void
leave_out(KsPublisher *p, const KsRecord *rec, int64 number)
{
	char	   *key = rec->key == NULL ? pstrdup("none") : palloc(2 * Min(rec->keylen, 100) + 1);

	if (rec->key != NULL)
		key[hex_encode(rec->key, Min(rec->keylen, 100), key)] = '\0';
	p->refusal->leave_out = false;
	p->refusal->left_out = number;
	ereport(WARNING,
			(errmsg("record " INT64_FORMAT " of \"%s\" is left out of topic \"%s\"", number, p->name, p->target->topic),
			 errdetail("Partition %d, timestamp %s, key (in hexadecimal) %s, value of %zu bytes.",
					   choose_partition(p, rec), timestamptz_to_str(rec->timestamp), key, rec->valuelen)));
}

/* Queues one record of the run. */
static KsProducerOutcome
send_record(KsPublisher *p, int n)
{
	const KsRecord *rec = &p->run.records[n];
	KsOutRecord out = {0};
	char		number[32];
	KsHeader   *headers = NULL;
	KsProducerOutcome outcome;

	out.topic = p->target->topic;
	out.partition = choose_partition(p, rec);
	out.key = rec->key;
	out.keylen = rec->keylen;
	out.value = rec->value;
	out.valuelen = rec->valuelen;
	out.headers = rec->headers;
	out.nheaders = rec->nheaders;
	out.timestamp = ks_kafka_time(rec->timestamp);
	out.sequence = p->run.position + n;
	if (!p->sink->exactly_once)
	{
		headers = palloc(sizeof(KsHeader) * (rec->nheaders + 1));
		if (rec->nheaders > 0)
			memcpy(headers, rec->headers, sizeof(KsHeader) * rec->nheaders);
		headers[rec->nheaders].name = "kstream_seq";
		headers[rec->nheaders].value = number;
		headers[rec->nheaders].len = snprintf(number, sizeof(number), INT64_FORMAT, out.sequence);
		out.headers = headers;
		out.nheaders++;
	}
	outcome = ks_producer_send(p->producer, &out);
	if (headers != NULL)
		pfree(headers);
	return outcome;
}

/* At least once: notes where the run ends, until it is acknowledged. */
static void
remember_run(KsPublisher *p)
{
	MemoryContext old = MemoryContextSwitchTo(p->cxt);
	RunEnd	   *end = palloc(sizeof(RunEnd));

	for (int i = 0; i < p->run.nrecords; i++)
		p->sent_chain = ks_record_chain(p->sent_chain, &p->run.records[i]);
	end->last = p->sent_last;
	end->position = p->run.position + p->run.nrecords;
	end->chain = p->sent_chain;
	p->run_ends = lappend(p->run_ends, end);
	MemoryContextSwitchTo(old);
}

/* Queues what is left of the run. */
static KsProducerOutcome
send_run(KsPublisher *p)
{
	if (p->sink->exactly_once && ks_producer_state(p->producer) == KS_PRODUCER_READY)
	{
		KsProducerOutcome outcome;

		KS_FAULT("publish_begin");
		outcome = ks_producer_begin(p->producer);
		if (outcome != KS_PRODUCER_OK)
			return outcome;
	}
	while (p->sent < p->run.nrecords)
	{
		int64		number = p->run.position + p->sent;
		KsProducerOutcome outcome = number == p->refusal->left_out ? KS_PRODUCER_OK : send_record(p, p->sent);

		if (outcome != KS_PRODUCER_OK)
			return outcome;
		if (number != p->refusal->left_out)
			p->sent_last = number + 1;
		p->sent++;
	}
	KS_FAULT("publish_produced");
	if (!p->sink->exactly_once)
		remember_run(p);
	return KS_PRODUCER_OK;
}

/* The hash over everything up to the end of the run. */
static int64
run_chain(KsPublisher *p)
{
	int64		chain = p->next.chain;

	for (int i = 0; i < p->run.nrecords; i++)
		chain = ks_record_chain(chain, &p->run.records[i]);
	return chain;
}

/* The run is in the topic. */
static void
run_done(KsPublisher *p, int64 chain)
{
	TimestampTz now = ks_clock_now();

	p->next.position += p->run.nrecords;
	p->next.chain = chain;
	p->unstored |= p->run.nrecords > 0;
	p->done += p->run.nrecords;
	p->latency_us = now - p->read_at;
	p->heartbeat_at = now;
	p->in_doubt = false;
	p->run.nrecords = 0;
	p->state = PUB_READ;
}

/* Commits the run, or nothing but the position. */
static KsProducerOutcome
commit_run(KsPublisher *p)
{
	int64		chain = 0;
	KsProducerOutcome outcome;

	if (p->metadata == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(p->run_cxt);

		p->metadata = make_metadata(p, run_chain(p));
		MemoryContextSwitchTo(old);
		KS_FAULT("publish_commit");
	}
	p->in_doubt = p->run.nrecords > 0;
	outcome = ks_producer_commit(p->producer, p->target->topic,
								 p->next.position + p->run.nrecords + p->next.shift,
								 p->metadata, KS_SLICE_MS);
	if (outcome != KS_PRODUCER_OK)
		return outcome;
	KS_FAULT("publish_committed");
	(void) metadata_field(p->metadata, "chain", true, (uint64 *) &chain);
	p->metadata = NULL;
	if (p->run.nrecords > 0)
		run_was_taken(p);
	run_done(p, chain);
	return KS_PRODUCER_OK;
}

/* At least once: takes in what was acknowledged, run by run. */
static KsProducerOutcome
take_acknowledged(KsPublisher *p)
{
	KsProducerOutcome outcome = ks_producer_poll(p->producer, 0);
	int64		acked = ks_producer_acked(p->producer) + 1;

	while (p->run_ends != NIL && ((RunEnd *) linitial(p->run_ends))->last <= acked)
	{
		RunEnd	   *end = linitial(p->run_ends);

		p->done += (int) (end->position - p->next.position);
		p->latency_us = ks_clock_now() - p->read_at;
		p->next.position = end->position;
		p->next.chain = end->chain;
		p->unstored = true;
		p->run_ends = list_delete_first(p->run_ends);
		pfree(end);
		run_was_taken(p);
	}
	return outcome;
}

/* At least once: notes in Kafka how far this installation has got. */
static KsProducerOutcome
note_position(KsPublisher *p)
{
	KsProducerOutcome outcome;

	if (p->metadata == NULL)
		p->metadata = MemoryContextStrdup(p->run_cxt, make_metadata(p, p->stored.chain));
	outcome = ks_producer_note(p->producer, p->target->topic, p->stored.position + p->stored.shift,
							   p->metadata, KS_SLICE_MS);
	if (outcome == KS_PRODUCER_AGAIN || outcome == KS_PRODUCER_BROKER_AWAY)
		return outcome;
	/* that it could not be noted now is no reason to stop */
	p->metadata = NULL;
	p->heartbeat_at = ks_clock_now();
	p->state = p->run.nrecords > 0 ? PUB_FLUSH : PUB_IDLE;
	return KS_PRODUCER_OK;
}

/*
 * Is what was read durable?  The standbys are looked at, not waited for: other
 * queries of the worker go on.
 */
static KsProducerOutcome
flush(KsPublisher *p)
{
	XLogFlush(p->flush_to);
	if (ks_output_durability == KS_OUTPUT_REPLICATED && !ks_wal_replicated(p->flush_to))
	{
		if (TimestampDifferenceExceeds(p->read_at, ks_clock_now(), KS_LOOK_MS))
			p->trouble = "waiting for a synchronous standby";
		return KS_PRODUCER_AGAIN;
	}
	p->state = PUB_SEND;
	return KS_PRODUCER_OK;
}

/* ---------------------------------------------------------------- transactions */

/*
 * Is it time to store what is published?  At least once it may lag a little, which
 * costs nothing but sending again after a crash; but the search for a record ends
 * with an error, and it is stored before that.
 */
static bool
store_is_due(const KsPublisher *p)
{
	return p->unstored &&
		(p->sink->exactly_once || searches(p) || TimestampDifferenceExceeds(p->stored_at, ks_clock_now(), KS_STORE_MS));
}

/* Stores what is published and gets the next run. */
static void
store_and_read(KsPublisher *p)
{
	TimestampTz now = ks_clock_now();
	KsSinkRow  *fresh;

	p->storing = store_is_due(p);
	if (p->storing)
	{
		ks_published_store(p->sink->id, &p->next);
		p->stored_at = now;
	}
	/* what is stored may be thrown away once it has committed: next time */
	if (TimestampDifferenceExceeds(p->trimmed_at, now, KS_TRIM_MS))
	{
		fresh = ks_sink_load(p->sink->id);
		if (fresh != NULL)
		{
			(void) ks_outbox_trim(fresh, p->stored.position);
			p->sink->half = fresh->half;
			p->bulky = ks_outbox_is_bulky(fresh);
		}
		p->trimmed_at = now;
	}
	MemoryContextReset(p->run_cxt);
	p->metadata = NULL;
	p->outbox_version = ks_log_version(p->sink->halves[0].rows);
	ks_outbox_read(p->sink, p->read_to, run_limit(p), KS_RUN_BYTES, p->run_cxt, &p->run);
	if (p->run.nrecords > 0)
		p->bulky = true;		/* perhaps: they may have come after the last look */
	p->flush_to = ks_wal_end();
	p->read_at = now;
}

/* See publisher.h. */
void
ks_publisher_transact(KsPublisher *p)
{
	MemoryContext old = MemoryContextSwitchTo(p->run_cxt);

	if (p->state == PUB_COMPARE)
		p->located = compare(p);
	else
		store_and_read(p);
	MemoryContextSwitchTo(old);
}

/* See publisher.h. */
void
ks_publisher_committed(KsPublisher *p)
{
	if (p->state == PUB_COMPARE)
	{
		p->state = p->located ? PUB_READ : PUB_LOCATE;
		/* Kafka learns of a position that was settled before the catalog forgets that it was */
		if (p->located && p->sink->exactly_once && p->stored.resync != NULL)
			p->state = PUB_SEND;
		p->trouble = p->located ? NULL : "computing anew what was published before";
		p->look_at = TimestampTzPlusMilliseconds(ks_clock_now(), KS_LOOK_MS);
		return;
	}
	if (p->storing)
	{
		p->next.settles = NULL;
		p->stored = p->next;
		p->unstored = p->storing = false;
	}
	p->sent = 0;
	p->read_to = p->run.position + p->run.nrecords;
	p->state = p->run.nrecords > 0 ? PUB_FLUSH : PUB_IDLE;
	/* under load nothing is ever idle */
	if (!p->sink->exactly_once &&
		TimestampDifferenceExceeds(p->heartbeat_at, ks_clock_now(), KS_HEARTBEAT_MS))
		p->state = PUB_NOTE;
}

/* ---------------------------------------------------------------- the machine */

/* Counts the partitions, which must be there. */
static KsProducerOutcome
count_partitions(KsPublisher *p)
{
	int			count = 0;
	KsProducerOutcome outcome = ks_producer_partition_count(p->producer, p->target->topic, &count, KS_SLICE_MS);

	if (outcome != KS_PRODUCER_OK)
		return outcome;
	if (count <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("topic \"%s\" does not exist", p->target->topic),
				 errhint("Create it, with the partitions it is to have; what is to be published waits in the outbox.")));
	p->unstored |= count != p->next.partitions;
	p->next.partitions = count;
	p->counted_at = ks_clock_now();
	p->state = p->located ? PUB_READ : PUB_LOCATE;
	return KS_PRODUCER_OK;
}

/* Reads the position, with everything in doubt settled. */
static KsProducerOutcome
locate(KsPublisher *p)
{
	MemoryContext old;
	KsProducerOutcome outcome;

	if (ks_clock_now() < p->look_at)
		return KS_PRODUCER_AGAIN;
	old = MemoryContextSwitchTo(p->cxt);
	outcome = ks_producer_position(p->producer, p->target->topic, &p->kafka, KS_SLICE_MS);
	MemoryContextSwitchTo(old);
	if (outcome == KS_PRODUCER_OK)
		p->state = PUB_COMPARE;
	return outcome;
}

/* Nothing is there to be published: what else is due? */
static KsProducerOutcome
idle(KsPublisher *p)
{
	TimestampTz now = ks_clock_now();

	if (TimestampDifferenceExceeds(p->counted_at, now, KS_COUNT_MS))
		p->state = PUB_COUNT;
	else if (TimestampDifferenceExceeds(p->heartbeat_at, now, KS_HEARTBEAT_MS))
	{
		p->state = p->sink->exactly_once ? PUB_SEND : PUB_NOTE;
		return KS_PRODUCER_OK;
	}
	/* nothing is refused any more */
	if (p->run_ends == NIL)
		p->refusal->leave_out = false;
	return KS_PRODUCER_AGAIN;
}

/* One step; AGAIN: there is nothing to do before an event. */
static KsProducerOutcome
step(KsPublisher *p)
{
	KsProducerOutcome outcome;

	switch (p->state)
	{
		case PUB_LOOK:
		case PUB_WATCH:
			return look(p);
		case PUB_CONNECT:
			outcome = ks_producer_connect(p->producer, KS_SLICE_MS);
			if (outcome == KS_PRODUCER_OK)
				p->state = PUB_COUNT;
			return outcome;
		case PUB_COUNT:
			return count_partitions(p);
		case PUB_LOCATE:
			return locate(p);
		case PUB_COMPARE:
			return KS_PRODUCER_OK;
		case PUB_READ:
			return must_wait(p) ? KS_PRODUCER_AGAIN : KS_PRODUCER_OK;
		case PUB_IDLE:
			return idle(p);
		case PUB_FLUSH:
			return flush(p);
		case PUB_SEND:
			outcome = send_run(p);
			if (outcome == KS_PRODUCER_OK)
				p->state = p->sink->exactly_once ? PUB_COMMIT : PUB_READ;
			return outcome;
		case PUB_COMMIT:
			return commit_run(p);
		case PUB_NOTE:
			return note_position(p);
	}
	return KS_PRODUCER_FATAL;
}

/* The producer is of no use any more; another one, and the position in Kafka, tell how things stand. */
static void
reopen(KsPublisher *p)
{
	ereport(LOG,
			(errmsg("sink \"%s\" opens its producer anew: %s", p->name,
					ks_producer_error(p->producer)->message)));
	ereport(ERROR,
			(errcode(ERRCODE_T_R_STATEMENT_COMPLETION_UNKNOWN),
			 errmsg("the producer of \"%s\" must be opened anew", p->name)));
}

/*
 * refused
 *		The topic has refused records for their size.  What is tried next gets
 *		closer to the one that is too large; that one is named.
 */
static _Noreturn void
refused(KsPublisher *p, const KsProducerError *error)
{
	Refusal    *refusal = p->refusal;
	bool		alone = p->run.nrecords == 1 && error->sequence == p->run.position && list_length(p->run_ends) <= 1;
	const KsRecord *rec = p->run.records;

	if (!alone)
	{
		refusal->suspect = error->sequence;
		refusal->taken = 0;
		refusal->limit = Max(Min(refusal->limit, p->run.nrecords) / 4, 1);
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("records of \"%s\" are too large for topic \"%s\"", p->name, p->target->topic),
				 errdetail("%s (%s)", error->message, error->name),
				 errhint("They are sent again in smaller batches, to find the one that is too large.")));
	}
	if (refusal->leave_out)
		leave_out(p, rec, error->sequence);
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("record " INT64_FORMAT " of \"%s\" is too large for topic \"%s\"",
					error->sequence, p->name, p->target->topic),
			 errdetail("Its key has %zu bytes, its value %zu: %s (%s)",
					   rec->key ? rec->keylen : (size_t) 0, rec->value ? rec->valuelen : (size_t) 0,
					   error->message, error->name),
			 errhint("Raise max.message.bytes of the topic, or call kstream.resync(name, 'skip') to leave the record out.")));
}

/* What to do about an outcome that is neither OK nor AGAIN. */
static void
handle_outcome(KsPublisher *p, KsProducerOutcome outcome)
{
	const KsProducerError *error = ks_producer_error(p->producer);

	if (outcome == KS_PRODUCER_BROKER_AWAY)
	{
		p->trouble = "no broker answers";
		return;
	}
	if (outcome == KS_PRODUCER_REOPEN)
		reopen(p);
	if (outcome == KS_PRODUCER_FENCED)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("another producer has taken over the publishing of \"%s\"", p->name),
				 errdetail_internal("%s", error->message),
				 errhint("Stop the other one, or call kstream.resync(name, 'continue') to go on here as a publisher of its own.")));
	if (outcome == KS_PRODUCER_TOO_LARGE && error->sequence >= 0)
		refused(p, error);
	ks_producer_throw(p->producer, psprintf("publish \"%s\"", p->name));
}

/* When to call again without an event. */
static TimestampTz
call_at(const KsPublisher *p)
{
	TimestampTz at;

	switch (p->state)
	{
		case PUB_WATCH:
		case PUB_LOCATE:
			return p->look_at;
		case PUB_READ:
			if (keeps_pace(p))
				return TimestampTzPlusMilliseconds(p->read_at, KS_PACE_MS);
			return TimestampTzPlusMilliseconds(ks_clock_now(), 1000);
		case PUB_IDLE:
			at = TimestampTzPlusMilliseconds(p->heartbeat_at, KS_HEARTBEAT_MS);
			if (p->bulky)
				at = Min(at, TimestampTzPlusMilliseconds(p->trimmed_at, KS_TRIM_IDLE_MS + 1));
			if (p->unstored)
				at = Min(at, TimestampTzPlusMilliseconds(p->stored_at, KS_STORE_MS + 1));
			return at;
		case PUB_FLUSH:
			return TimestampTzPlusMilliseconds(ks_clock_now(), KS_STANDBY_MS);
		default:
			return TimestampTzPlusMilliseconds(ks_clock_now(), 1000);
	}
}

/* Queries may wait for the space, so it is given back without being woken, too. */
static bool
trim_is_due(const KsPublisher *p)
{
	return p->bulky && TimestampDifferenceExceeds(p->trimmed_at, ks_clock_now(), KS_TRIM_IDLE_MS);
}

/* See publisher.h. */
KsPublisherNeed
ks_publisher_work(KsPublisher *p, KsPublisherProgress *progress)
{
	KsProducerOutcome outcome = KS_PRODUCER_OK;
	KsPublisherNeed need = KS_NEED_CALL;
	MemoryContext old;

	MemoryContextReset(p->call_cxt);
	old = MemoryContextSwitchTo(p->call_cxt);
	if (!p->sink->exactly_once && p->state >= PUB_READ)
		outcome = take_acknowledged(p);
	if (outcome == KS_PRODUCER_OK && p->state == PUB_IDLE &&
		(ks_log_version(p->sink->halves[0].rows) != p->outbox_version || store_is_due(p) || trim_is_due(p)))
		p->state = PUB_READ;
	if (outcome == KS_PRODUCER_OK)
		outcome = step(p);
	if (outcome == KS_PRODUCER_OK)
		p->trouble = NULL;
	else if (outcome != KS_PRODUCER_AGAIN)
		handle_outcome(p, outcome);
	if (outcome == KS_PRODUCER_OK &&
		(p->state == PUB_COMPARE || (p->state == PUB_READ && !must_wait(p))))
		need = KS_NEED_TRANSACTION;
	else if (outcome != KS_PRODUCER_OK)
		need = KS_NEED_EVENT;

	progress->records = p->done;
	progress->latency_us = p->latency_us;
	progress->idle = p->state == PUB_IDLE && !p->unstored;
	progress->trouble = p->trouble;
	progress->watching = p->state == PUB_WATCH;
	progress->call_at = need == KS_NEED_EVENT ? call_at(p) : 0;
	p->done = 0;
	p->latency_us = -1;
	MemoryContextSwitchTo(old);
	return need;
}
