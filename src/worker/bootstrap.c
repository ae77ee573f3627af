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

#define REQUEST_TIMEOUT_MS 5000

typedef struct BootstrapTable
{
	int32		query;			/* the KTable's query */
	int			nparts;
	int64	   *ends;
} BootstrapTable;

struct KsBootstrap
{
	List	   *tables;			/* BootstrapTable * */
};

/* Notes where the table's topic ends now. */
static BootstrapTable *
note_ends(const KsQueryRow *query)
{
	BootstrapTable *table = palloc0(sizeof(BootstrapTable));
	Relation	rel = table_open(query->source, AccessShareLock);
	KsStreamDef *def = ks_stream_def_load(rel);
	KsConsumer *consumer;

	table_close(rel, NoLock);
	consumer = ks_consumer_open(def->serverid, def->owner, "bootstrap");
	table->query = query->id;
	table->nparts = ks_topic_partition_count(consumer, def->topic, REQUEST_TIMEOUT_MS);
	table->ends = palloc(sizeof(int64) * Max(table->nparts, 1));
	for (int p = 0; p < table->nparts; p++)
	{
		int64		first;

		ks_topic_offsets(consumer, def->topic, p, REQUEST_TIMEOUT_MS, &first, &table->ends[p]);
		/* An empty partition need not be waited for. */
		if (table->ends[p] == first)
			table->ends[p] = 0;
	}
	ks_consumer_close(consumer);
	return table;
}

/* See bootstrap.h. */
KsBootstrap *
ks_bootstrap_create(List *lookups, List *positions)
{
	KsBootstrap *bootstrap = palloc0(sizeof(KsBootstrap));
	ListCell   *lc;

	foreach(lc, positions)
	{
		if (((KsPosition *) lfirst(lc))->records > 0)
			return NULL;
	}
	foreach(lc, lookups)
	{
		KsQueryRow *query = ks_query_load_by_relation(lfirst_oid(lc));

		if (query != NULL && OidIsValid(query->source))
			bootstrap->tables = lappend(bootstrap->tables, note_ends(query));
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
