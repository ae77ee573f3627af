/*
 * bootstrap.c
 *		A query waits for the KTables it looks up before its first batch.
 *
 * A stream joined with a table that is still being loaded would find rows
 * missing, and a lookup is never repeated.  So before its first batch a query
 * notes where the topics of its KTables end and waits until the tables have got
 * there.
 */
#include "postgres.h"

#include "access/table.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "catalog/query_cat.h"
#include "catalog/stream_def.h"
#include "kafka/consumer.h"
#include "store/position.h"
#include "worker/bootstrap.h"
#include "worker/source.h"

/* Requests to a broker that has just answered another, or that the caller waits for. */
#define REQUEST_TIMEOUT_MS 5000

typedef struct BootstrapTable
{
	int32		query;			/* the KTable's query */
	KsStreamDef *def;			/* its source */
	KsConsumer *consumer;		/* until the ends are noted */
	int			nparts;
	int64	   *ends;
} BootstrapTable;

struct KsBootstrap
{
	MemoryContext cxt;
	List	   *tables;			/* BootstrapTable * */
	int			failed_requests;
};

/* A table to wait for, with a client to ask about its topic. */
static BootstrapTable *
add_table(const KsQueryRow *query)
{
	BootstrapTable *table = palloc0(sizeof(BootstrapTable));
	Relation	rel = table_open(query->source, AccessShareLock);

	table->query = query->id;
	table->def = ks_stream_def_load(rel);
	table_close(rel, NoLock);
	table->consumer = ks_consumer_open(table->def->serverid, table->def->owner, "bootstrap");
	return table;
}

/* Notes where the table's topic ends now. */
static void
note_ends(BootstrapTable *table, int first_timeout_ms)
{
	int			nparts = ks_topic_partition_count(table->consumer, table->def->topic, first_timeout_ms);
	int64	   *ends = palloc(sizeof(int64) * Max(nparts, 1));

	for (int p = 0; p < nparts; p++)
	{
		int64		first;

		ks_topic_offsets(table->consumer, table->def->topic, p, REQUEST_TIMEOUT_MS, &first, &ends[p]);
		/* An empty partition need not be waited for. */
		if (ends[p] == first)
			ends[p] = 0;
	}
	table->nparts = nparts;
	table->ends = ends;
	ks_consumer_close(table->consumer);
	table->consumer = NULL;
}

/* Notes the ends of all tables; returns false where no broker answers. */
static bool
try_note_ends(KsBootstrap *bootstrap)
{
	volatile bool answered = false;

	PG_TRY();
	{
		ListCell   *lc;

		foreach(lc, bootstrap->tables)
		{
			BootstrapTable *table = lfirst(lc);

			if (table->consumer != NULL)
				note_ends(table, ks_first_answer_ms(table->consumer, bootstrap->failed_requests));
		}
		answered = true;
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
	bool		answered = true;
	ListCell   *lc;

	if (!patient)
	{
		answered = try_note_ends(bootstrap);
		bootstrap->failed_requests = answered ? 0 : bootstrap->failed_requests + 1;
	}
	foreach(lc, bootstrap->tables)
	{
		BootstrapTable *table = lfirst(lc);

		if (patient && table->consumer != NULL)
			note_ends(table, REQUEST_TIMEOUT_MS);
	}
	MemoryContextSwitchTo(old);
	return answered;
}

/* See bootstrap.h. */
int
ks_bootstrap_failed_requests(const KsBootstrap *bootstrap)
{
	return bootstrap->failed_requests;
}

/* See bootstrap.h. */
KsBootstrap *
ks_bootstrap_create(List *lookups, List *positions)
{
	KsBootstrap *bootstrap = palloc0(sizeof(KsBootstrap));
	ListCell   *lc;

	bootstrap->cxt = CurrentMemoryContext;
	foreach(lc, positions)
	{
		if (((KsPosition *) lfirst(lc))->records > 0)
			return NULL;
	}
	foreach(lc, lookups)
	{
		KsQueryRow *query = ks_query_load_by_relation(lfirst_oid(lc));

		if (query != NULL && OidIsValid(query->source))
			bootstrap->tables = lappend(bootstrap->tables, add_table(query));
	}
	return bootstrap->tables == NIL ? NULL : bootstrap;
}

/* Has one table got to the ends noted? */
static bool
table_done(const BootstrapTable *table)
{
	List	   *positions = ks_positions_load(table->query);

	for (int p = 0; p < table->nparts; p++)
	{
		bool		reached = table->ends[p] == 0;
		ListCell   *lc;

		foreach(lc, positions)
		{
			KsPosition *pos = lfirst(lc);

			if (pos->partition == p && pos->next_offset >= table->ends[p])
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

	foreach(lc, bootstrap->tables)
	{
		if (!table_done(lfirst(lc)))
			return false;
	}
	return true;
}
