/*
 * wait_targets.c
 *		What kstream.wait() waits for, and in which order.
 *
 * Queries and sinks form chains: a query reads a stream that other queries feed,
 * through the stream's log or, by way of a sink, through a topic; the sink may be
 * that of a table, or of another stream over the same topic.  A target's level is
 * one more than that of anything that feeds it, so that the end it has to reach
 * can be taken when everything before it has arrived.  Topics may lead in a
 * circle: who is met again while it is visited counts as being at level 0.
 *
 * Runs in: any backend.  Transaction: needed.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "catalog/query_cat.h"
#include "catalog/sink_cat.h"
#include "catalog/stream_def.h"
#include "sql/verbs.h"
#include "worker/wait.h"
#include "worker/wait_targets.h"

static KsTarget *visit_query(List **targets, int32 id);
static KsTarget *visit_sink(List **targets, const KsSinkRow *sink);

/* See wait_targets.h. */
List *
ks_wait_sources(const KsQueryRow *row)
{
	MemoryContext cxt = CurrentMemoryContext;
	List	   *streams = NIL;

	PG_TRY();
	{
		streams = ks_query_streams(row, NULL);
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(cxt);
		edata = CopyErrorData();
		if (ERRCODE_TO_CATEGORY(edata->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
			PG_RE_THROW();
		FlushErrorState();
		ereport(ERROR,
				(errcode(KS_ERRCODE_WAIT_STOPPED),
				 errmsg("continuous query %s cannot run", ks_query_display_name(row)),
				 errdetail_internal("%s", edata->message),
				 edata->hint != NULL ? errhint("%s", edata->hint) : 0));
	}
	PG_END_TRY();
	return streams;
}

/* The target that is there already, or NULL. */
static KsTarget *
find_target(List *targets, int32 id)
{
	ListCell   *lc;

	foreach(lc, targets)
	{
		if (((KsTarget *) lfirst(lc))->id == id)
			return lfirst(lc);
	}
	return NULL;
}

/* Adds a target. */
static KsTarget *
add_target(List **targets, int32 id, bool is_sink, Oid relation, char *name)
{
	KsTarget   *t = palloc0(sizeof(KsTarget));

	t->id = id;
	t->is_sink = is_sink;
	t->relation = relation;
	t->name = name;
	*targets = lappend(*targets, t);
	return t;
}

/* The definition of a stream, NULL if it is gone. */
static KsStreamDef *
stream_def(Oid stream)
{
	Relation	rel = ks_is_stream(stream) ? try_relation_open(stream, AccessShareLock) : NULL;
	KsStreamDef *def;

	if (rel == NULL)
		return NULL;
	def = ks_stream_def_load(rel);
	relation_close(rel, NoLock);
	return def;
}

/* Visits the sinks that publish to the topic of a stream; the greatest level of them, or -1. */
static int
visit_publishers(List **targets, Oid stream)
{
	const KsStreamDef *def = stream_def(stream);
	int			level = -1;
	ListCell   *lc;

	if (def == NULL || def->local)
		return -1;
	foreach(lc, ks_sink_ids())
	{
		KsSinkRow  *sink = ks_sink_load(lfirst_int(lc));
		const KsStreamDef *target = sink == NULL ? NULL : stream_def(sink->target);

		if (target != NULL && target->serverid == def->serverid && strcmp(target->topic, def->topic) == 0)
			level = Max(level, visit_sink(targets, sink)->level);
	}
	return level;
}

/* Visits all that puts records into a stream or a table; the greatest level of it, or -1. */
static int
visit_feeders(List **targets, Oid stream, bool with_sink)
{
	int			level = -1;
	ListCell   *lc;

	foreach(lc, ks_query_feeders(stream))
	{
		KsTarget   *t = visit_query(targets, lfirst_int(lc));

		if (t != NULL)
			level = Max(level, t->level);
	}
	return with_sink ? Max(level, visit_publishers(targets, stream)) : level;
}

/* Adds a query behind what feeds it; NULL if it is gone. */
static KsTarget *
visit_query(List **targets, int32 id)
{
	KsTarget   *t = find_target(*targets, id);
	KsQueryRow *row;
	int			level = -1;
	ListCell   *lc;

	check_stack_depth();
	if (t != NULL)
		return t;
	row = ks_query_load(id);
	if (row == NULL)
		return NULL;
	t = add_target(targets, id, false, row->relation, ks_query_display_name(row));
	foreach(lc, ks_wait_sources(row))
		level = Max(level, visit_feeders(targets, lfirst_oid(lc), true));
	t->level = level + 1;
	return t;
}

/* Adds a sink behind what writes to its relation. */
static KsTarget *
visit_sink(List **targets, const KsSinkRow *sink)
{
	KsTarget   *t = find_target(*targets, sink->id);

	if (t != NULL)
		return t;
	t = add_target(targets, sink->id, true, sink->relation, ks_sink_display_name(sink));
	t->level = visit_feeders(targets, sink->relation, false) + 1;
	return t;
}

/* Whoever may read the relation may wait for it. */
static void
check_may_wait(Oid relid)
{
	AclResult	result = pg_class_aclcheck(relid, GetUserId(), ACL_SELECT);

	if (result != ACLCHECK_OK)
		aclcheck_error(result, get_relkind_objtype(get_rel_relkind(relid)), get_rel_name(relid));
}

/* Does the caller see the relation's query in kstream.queries? */
static bool
may_see(Oid relid)
{
	Relation	rel = try_relation_open(relid, AccessShareLock);
	Oid			owner;

	if (rel == NULL)
		return false;
	owner = rel->rd_rel->relowner;
	relation_close(rel, AccessShareLock);
	return has_privs_of_role(GetUserId(), owner) ||
		has_privs_of_role(GetUserId(), ROLE_PG_MONITOR);
}

/* All queries and sinks that the caller sees. */
static List *
all_targets(void)
{
	List	   *targets = NIL;
	ListCell   *lc;

	foreach(lc, ks_query_ids())
	{
		KsQueryRow *row = ks_query_load(lfirst_int(lc));

		if (row != NULL && may_see(row->relation))
			(void) visit_query(&targets, row->id);
	}
	foreach(lc, ks_sink_ids())
	{
		KsSinkRow  *sink = ks_sink_load(lfirst_int(lc));

		if (sink != NULL && may_see(sink->relation))
			(void) visit_sink(&targets, sink);
	}
	return targets;
}

/* What has a name of its own: a query of insert_into, or a sink.  NIL if there is none. */
static List *
own_name_targets(const char *name)
{
	List	   *targets = NIL;
	KsQueryRow *row = ks_query_load_by_name(name);
	KsSinkRow  *sink = row == NULL ? ks_sink_load_by_name(name) : NULL;

	if (row != NULL)
	{
		check_may_wait(row->relation);
		(void) visit_query(&targets, row->id);
		sink = ks_sink_load_by_relation(row->relation);
	}
	else if (sink != NULL)
		check_may_wait(sink->relation);
	if (sink != NULL)
		(void) visit_sink(&targets, sink);
	return targets;
}

/* What keeps a relation up to date, and what publishes it. */
static List *
relation_targets(const char *name)
{
	List	   *targets = NIL;
	Oid			relid = RangeVarGetRelid(makeRangeVarFromNameList(ks_name_list(name)), NoLock, false);
	ListCell   *lc;

	foreach(lc, ks_query_feeders(relid))
		(void) visit_query(&targets, lfirst_int(lc));
	foreach(lc, ks_sinks_of_relation(relid))
		(void) visit_sink(&targets, lfirst(lc));
	if (targets == NIL && !ks_is_stream(relid))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not kept up to date by a continuous query", name),
				 errhint("Name a table made by kstream.create_table or kstream.create_table_as.")));
	check_may_wait(relid);
	return targets;
}

/* See wait_targets.h. */
List *
ks_wait_targets(const char *name)
{
	List	   *targets;

	if (name == NULL)
		return all_targets();
	targets = own_name_targets(name);
	return targets != NIL ? targets : relation_targets(name);
}

/* See wait_targets.h. */
int
ks_wait_levels(List *targets)
{
	int			level = -1;
	ListCell   *lc;

	foreach(lc, targets)
		level = Max(level, ((KsTarget *) lfirst(lc))->level);
	return level;
}
