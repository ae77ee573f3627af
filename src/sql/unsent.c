/*
 * unsent.c
 *		Records that a drop leaves unpublished.
 *
 * What waits in an outbox is committed; whoever drops the sink, or the table or
 * stream that it publishes, should be told that it goes, too.  The event trigger
 * for drops comes when the outbox is gone.  So its end is looked up in the hook
 * that is called before an object is deleted: at the first index of the segments
 * that goes, for indexes go before their tables, and tables before what they
 * belong to.  Where the library is loaded later than that, nothing is said.
 *
 * Runs in: any backend.  Transaction: needed.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "sql/unsent.h"
#include "stream/outbox.h"

/* What was found out about a sink before its outbox went. */
typedef struct Unsent
{
	int32		sink;
	int64		records;
	char	   *name;
} Unsent;

static object_access_hook_type previous_hook = NULL;

/* Unsent *, of the running transaction, in its context. */
static List *counted = NIL;

/* Is the table there, with its index and all that its values may be in? */
static bool
is_whole(Oid relid)
{
	Relation	rel;
	bool		result;

	if (!OidIsValid(relid) || get_rel_relkind(relid) == '\0')
		return false;
	rel = table_open(relid, AccessShareLock);
	result = RelationGetIndexList(rel) != NIL &&
		(!OidIsValid(rel->rd_rel->reltoastrelid) || is_whole(rel->rd_rel->reltoastrelid));
	table_close(rel, NoLock);
	return result;
}

/* Can the sinks be looked at?  Not while DROP EXTENSION takes them apart. */
static bool
catalog_is_whole(void)
{
	static const char *const tables[] = {"sink", "published", "query"};
	Oid			schema = get_namespace_oid("kstream_catalog", true);

	for (int i = 0; i < lengthof(tables); i++)
	{
		if (!OidIsValid(schema) || !is_whole(get_relname_relid(tables[i], schema)))
			return false;
	}
	return true;
}

/* What was found out about the sink, or NULL. */
static Unsent *
find_counted(int32 sink)
{
	ListCell   *lc;

	foreach(lc, counted)
	{
		if (((Unsent *) lfirst(lc))->sink == sink)
			return lfirst(lc);
	}
	return NULL;
}

/* Counts, while the outbox can be read; what was counted before a rollback is forgotten. */
static void
count(const KsSinkRow *sink)
{
	MemoryContext old;
	KsPublished published = {0};
	Unsent	   *unsent;
	int64		end;
	char	   *name;

	if (!is_whole(sink->halves[0].segments) || !is_whole(sink->halves[1].segments) ||
		!ks_published_load(sink->id, &published))
		return;
	end = ks_outbox_end(sink);
	name = ks_sink_display_name(sink);
	old = MemoryContextSwitchTo(TopTransactionContext);
	unsent = find_counted(sink->id);
	if (unsent == NULL)
	{
		unsent = palloc(sizeof(Unsent));
		counted = lappend(counted, unsent);
	}
	unsent->sink = sink->id;
	unsent->records = end - published.position;
	unsent->name = pstrdup(name);
	MemoryContextSwitchTo(old);
}

/* An object is about to be deleted: is it the index of an outbox? */
static void
object_access(ObjectAccessType access, Oid classid, Oid objid, int subid, void *arg)
{
	Oid			table;
	char	   *name;
	int			id;

	if (previous_hook != NULL)
		previous_hook(access, classid, objid, subid, arg);
	if (access != OAT_DROP || classid != RelationRelationId || subid != 0 ||
		get_rel_relkind(objid) != RELKIND_INDEX ||
		get_rel_namespace(objid) != get_namespace_oid("kstream_state", true))
		return;
	table = IndexGetRelation(objid, true);
	name = OidIsValid(table) ? get_rel_name(table) : NULL;
	if (name != NULL && sscanf(name, "oseg_%d_", &id) == 1 && catalog_is_whole())
	{
		KsSinkRow  *sink = ks_sink_load(id);

		if (sink != NULL)
			count(sink);
	}
}

/* What was counted is about the transaction that ends. */
static void
forget_counted(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		counted = NIL;
}

/* See unsent.h. */
void
ks_unsent_init(void)
{
	previous_hook = object_access_hook;
	object_access_hook = object_access;
	RegisterXactCallback(forget_counted, NULL);
}

/* See unsent.h. */
void
ks_unsent_warn(const KsSinkRow *sink)
{
	Unsent	   *unsent;

	count(sink);
	unsent = find_counted(sink->id);
	if (unsent == NULL || unsent->records <= 0)
		return;
	ereport(WARNING,
			(errmsg_plural(INT64_FORMAT " record of \"%s\" will not be published",
						   INT64_FORMAT " records of \"%s\" will not be published",
						   (unsigned long) unsent->records, unsent->records, unsent->name),
			 errdetail("Committed records go with the sink; topic \"%s\" is not known to have them.", sink->topic),
			 errhint("To have them published, roll back, and call kstream.wait(%s) before the drop.",
					 quote_literal_cstr(unsent->name))));
	unsent->records = 0;
}
