/*
 * bootstrap.c
 *		A query waits for the tables of other queries before its first batch.
 *
 * A stream joined with a table that is still being loaded would find rows
 * missing, and a lookup is never repeated.  So before its first batch a query
 * notes where the sources of the tables that it looks up end, topics of KTables
 * and streams of others, and waits until the queries that keep the tables have
 * got there.  A topic that does not exist has no end yet and is waited for, too.
 *
 * Where two queries look up each other's tables none can wait for the other, and
 * none does.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "catalog/stream_def.h"
#include "kafka/consumer.h"
#include "sql/verbs.h"
#include "store/position.h"
#include "stream/local_log.h"
#include "worker/bootstrap.h"
#include "worker/source.h"

/* Requests to a broker that has just answered another, or that the caller waits for. */
#define REQUEST_TIMEOUT_MS 5000

/* A stream that a table looked up is made of. */
typedef struct BootstrapSource
{
	int32		query;			/* that keeps the table */
	const char *table;			/* its name */
	KsStreamDef *def;
	KsConsumer *consumer;		/* until the ends are noted; NULL: they are */
	int			nparts;
	int64	   *ends;			/* 0: nothing to wait for */
} BootstrapSource;

struct KsBootstrap
{
	MemoryContext cxt;
	List	   *sources;		/* BootstrapSource * */
	int			failed_requests;
	char		trouble[320];	/* what is waited for */
};

#define TROUBLE "waiting for the tables it looks up to be loaded"

/* Notes where a local stream ends now. */
static void
note_local_ends(BootstrapSource *source)
{
	Oid			relid = source->def->relid;

	source->nparts = ks_local_log_partitions(relid);
	source->ends = palloc0(sizeof(int64) * Max(source->nparts, 1));
	for (int p = 0; p < source->nparts; p++)
	{
		int64		first;
		int64		end;

		ks_local_log_range(relid, p, &first, &end);
		if (end > first)
			source->ends[p] = end;
	}
}

/* A stream to wait for, with a client to ask about its topic. */
static BootstrapSource *
add_source(const KsQueryRow *query, Oid stream)
{
	BootstrapSource *source = palloc0(sizeof(BootstrapSource));

	source->query = query->id;
	source->table = get_rel_name(query->relation);
	source->def = ks_stream_def_of(stream);
	if (source->def->local)
		note_local_ends(source);
	else
		source->consumer = ks_consumer_open(source->def->serverid, source->def->owner, "bootstrap");
	return source;
}

/* Notes where the topic ends now; false if there is none. */
static bool
note_topic_ends(BootstrapSource *source, int first_timeout_ms)
{
	int			nparts = ks_topic_partition_count(source->consumer, source->def->topic, first_timeout_ms);
	int64	   *ends;

	if (nparts == 0)
		return false;
	ends = palloc(sizeof(int64) * nparts);
	for (int p = 0; p < nparts; p++)
	{
		int64		first;

		ks_topic_offsets(source->consumer, source->def->topic, p, REQUEST_TIMEOUT_MS, &first, &ends[p]);
		/* An empty partition need not be waited for. */
		if (ends[p] == first)
			ends[p] = 0;
	}
	source->nparts = nparts;
	source->ends = ends;
	ks_consumer_close(source->consumer);
	source->consumer = NULL;
	return true;
}

/* Notes the ends of all topics; false where one does not exist yet. */
static bool
note_ends(KsBootstrap *bootstrap, bool patient)
{
	bool		all = true;
	ListCell   *lc;

	foreach(lc, bootstrap->sources)
	{
		BootstrapSource *source = lfirst(lc);
		int			timeout_ms;

		if (source->consumer == NULL)
			continue;
		timeout_ms = patient ? REQUEST_TIMEOUT_MS :
			ks_first_answer_ms(source->consumer, bootstrap->failed_requests);
		if (note_topic_ends(source, timeout_ms))
			continue;
		snprintf(bootstrap->trouble, sizeof(bootstrap->trouble), TROUBLE ": %s, whose topic \"%s\" does not exist",
				 source->table, source->def->topic);
		all = false;
	}
	return all;
}

/* The same; false also where no broker answers. */
static bool
try_note_ends(KsBootstrap *bootstrap)
{
	volatile bool answered = false;

	PG_TRY();
	{
		answered = note_ends(bootstrap, false);
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(bootstrap->cxt);
		edata = CopyErrorData();
		if (ERRCODE_TO_CATEGORY(edata->sqlerrcode) != ERRCODE_CONNECTION_EXCEPTION)
			PG_RE_THROW();
		FlushErrorState();
		FreeErrorData(edata);
	}
	PG_END_TRY();
	return answered;
}

/* See bootstrap.h. */
bool
ks_bootstrap_connect(KsBootstrap *bootstrap, bool patient)
{
	MemoryContext old = MemoryContextSwitchTo(bootstrap->cxt);
	bool		answered = patient ? note_ends(bootstrap, true) : try_note_ends(bootstrap);

	MemoryContextSwitchTo(old);
	bootstrap->failed_requests = answered ? 0 : bootstrap->failed_requests + 1;
	return answered;
}

/* See bootstrap.h. */
int
ks_bootstrap_failed_requests(const KsBootstrap *bootstrap)
{
	return bootstrap->failed_requests;
}

/* See bootstrap.h. */
const char *
ks_bootstrap_trouble(const KsBootstrap *bootstrap)
{
	return bootstrap->trouble;
}

/* Does the query look up the relation, perhaps through tables of other queries? */
static bool
looks_up(const KsQueryRow *query, Oid relation, List **visited)
{
	List	   *lookups;
	ListCell   *lc;

	check_stack_depth();
	if (list_member_int(*visited, query->id))
		return false;
	*visited = lappend_int(*visited, query->id);
	(void) ks_query_streams(query, &lookups);
	if (list_member_oid(lookups, relation))
		return true;
	foreach(lc, lookups)
	{
		KsQueryRow *other = ks_query_load_by_relation(lfirst_oid(lc));

		if (other != NULL && looks_up(other, relation, visited))
			return true;
	}
	return false;
}

/* See bootstrap.h. */
KsBootstrap *
ks_bootstrap_create(const KsQueryRow *query, List *lookups, List *positions)
{
	KsBootstrap *bootstrap = palloc0(sizeof(KsBootstrap));
	ListCell   *lc;

	bootstrap->cxt = CurrentMemoryContext;
	strlcpy(bootstrap->trouble, TROUBLE, sizeof(bootstrap->trouble));
	foreach(lc, positions)
	{
		if (((KsPosition *) lfirst(lc))->records > 0)
			return NULL;
	}
	foreach(lc, lookups)
	{
		KsQueryRow *other = ks_query_load_by_relation(lfirst_oid(lc));
		List	   *visited = NIL;
		ListCell   *ls;

		if (other == NULL || looks_up(other, query->relation, &visited))
			continue;
		foreach(ls, ks_query_streams(other, NULL))
			bootstrap->sources = lappend(bootstrap->sources, add_source(other, lfirst_oid(ls)));
	}
	return bootstrap->sources == NIL ? NULL : bootstrap;
}

/* Has the query of the table got to the ends noted? */
static bool
source_done(const BootstrapSource *source)
{
	List	   *positions = ks_positions_load(source->query);

	for (int p = 0; p < source->nparts; p++)
	{
		bool		reached = source->ends[p] == 0;
		ListCell   *lc;

		foreach(lc, positions)
		{
			KsPosition *pos = lfirst(lc);

			if (pos->source == source->def->relid && pos->partition == p &&
				pos->next_offset >= source->ends[p])
				reached = true;
		}
		if (!reached)
			return false;
	}
	return true;
}

/* See bootstrap.h. */
bool
ks_bootstrap_done(KsBootstrap *bootstrap)
{
	ListCell   *lc;

	foreach(lc, bootstrap->sources)
	{
		BootstrapSource *source = lfirst(lc);

		if (source_done(source))
			continue;
		snprintf(bootstrap->trouble, sizeof(bootstrap->trouble), TROUBLE ": %s", source->table);
		return false;
	}
	return true;
}
