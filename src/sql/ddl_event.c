/*
 * ddl_event.c
 *		Event triggers ddl_command_start and ddl_command_end: definitions made and
 *		changed by plain SQL.
 *
 * CREATE FOREIGN TABLE is an equal way to create a stream: here the metadata
 * columns are added, the definition is checked and a local log is made.  A
 * stream that comes with all its metadata columns comes from a dump (or from
 * create_stream): its log is restored (or made) elsewhere.
 *
 * ALTER TABLE on a table that kstream maintains may change everything but its
 * columns, and the columns of the hidden view or stream behind it stay too; a new
 * owner becomes the owner of the query's hidden parts as well.
 *
 * What queries read must stay what they have read so far, see definition_guard.c.
 *
 * Runs in: any backend.  Transaction: needed.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type_d.h"
#include "commands/event_trigger.h"
#include "commands/tablecmds.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "catalog/dedup_cat.h"
#include "catalog/changelog_cat.h"
#include "catalog/stream_def.h"
#include "sql/ddl_event.h"
#include "sql/ddl_sink.h"
#include "sql/ddl_util.h"
#include "sql/definition_guard.h"
#include "sql/sink_guard.h"
#include "stream/local_log.h"
#include "store/join_buffer.h"
#include "worker/wakeup.h"

static bool enabled = true;

/* Switches the trigger off while a function of ours creates a stream in steps. */
void
ks_event_trigger_enable(bool enable)
{
	enabled = enable;
}

/* Adds columns to a foreign table of the user's, without looking at that command again. */
static void
add_columns(Oid relid, List *definitions)
{
	StringInfoData sql;
	ListCell   *lc;

	initStringInfo(&sql);
	appendStringInfo(&sql, "ALTER FOREIGN TABLE %s", ks_qualified_name(relid));
	foreach(lc, definitions)
		appendStringInfo(&sql, "%s ADD COLUMN %s",
						 foreach_current_index(lc) > 0 ? "," : "", (char *) lfirst(lc));
	ks_event_trigger_enable(false);
	PG_TRY();
	{
		SPI_connect();
		ks_spi_execute(sql.data, false, 0, NULL, NULL, NULL);
		SPI_finish();
	}
	PG_FINALLY();
	{
		ks_event_trigger_enable(true);
	}
	PG_END_TRY();
	CommandCounterIncrement();
}

/* Makes a complete stream of a foreign table that a user has just created. */
static void
complete_stream(Oid relid)
{
	List	   *missing = ks_missing_metadata_columns(relid);
	KsStreamDef *def;

	if (get_rel_relispartition(relid))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a stream cannot be a partition"),
				 errhint("Create it as a foreign table of its own.")));
	if (missing != NIL)
		add_columns(relid, missing);
	ks_check_stream(relid);
	if (missing == NIL)
		return;

	def = ks_stream_def_of(relid);
	if (def->local)
		ks_local_log_create(relid, Max(def->partitions, 1));
	else if (def->partitions > 0)
		ks_ensure_topic(GetForeignServer(def->serverid)->servername, def->topic, def->partitions);
}

/*
 * Gives a hidden part of a query the owner of its result.  The result is locked
 * against everybody, which keeps the worker out; a lock that excludes those who
 * read the part as well could end in a deadlock with a worker that is starting.
 */
static void
carry_owner(Oid part, Oid owner)
{
	Relation	rel;
	Oid			old;

	if (!OidIsValid(part))
		return;
	rel = relation_open(part, AccessShareLock);
	old = rel->rd_rel->relowner;
	relation_close(rel, AccessShareLock);
	if (old != owner)
		ATExecChangeOwner(part, owner, true, ShareUpdateExclusiveLock);
}

/* The next column that is not dropped, at or after *attnum (from 0), or NULL. */
static Form_pg_attribute
next_column(TupleDesc desc, int *attnum)
{
	while (*attnum < desc->natts)
	{
		Form_pg_attribute att = TupleDescAttr(desc, (*attnum)++);

		if (!att->attisdropped)
			return att;
	}
	return NULL;
}

/* A metadata column: one that a stream has and its table has not. */
static bool
is_metadata(Form_pg_attribute att)
{
	for (int i = 0; i < KS_NUM_META; i++)
	{
		if (strcmp(NameStr(att->attname), ks_meta_name((KsMetaColumn) i)) == 0)
			return true;
	}
	return false;
}

/* Raises an error unless the table still has the columns it is computed with. */
static void
check_columns(const KsQueryRow *row)
{
	Relation	result = relation_open(row->relation, AccessShareLock);
	Relation	model = relation_open(OidIsValid(row->view) ? row->view : row->source,
									  AccessShareLock);
	int			i = 0;
	int			j = 0;

	for (;;)
	{
		Form_pg_attribute a = next_column(RelationGetDescr(result), &i);
		Form_pg_attribute b = next_column(RelationGetDescr(model), &j);

		while (b && !OidIsValid(row->view) && is_metadata(b))
			b = next_column(RelationGetDescr(model), &j);
		if (a == NULL && b == NULL)
			break;
		if (a == NULL || b == NULL || strcmp(NameStr(a->attname), NameStr(b->attname)) != 0 ||
			a->atttypid != b->atttypid || a->atttypmod != b->atttypmod ||
			a->attcollation != b->attcollation)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("cannot change the columns of table \"%s\"",
							RelationGetRelationName(result)),
					 errdetail("Its columns are those of the query or topic it is computed from."),
					 errhint("Use a view over the table, or create another table.")));
	}
	relation_close(model, NoLock);
	relation_close(result, NoLock);
}

/* Gives a relation's changelog its new owner. */
static void
carry_owner_of_changelog(Oid relation, Oid owner)
{
	KsChangelogRow *row = ks_changelog_load(relation, NULL);

	for (int i = 0; row != NULL && i < 2; i++)
	{
		carry_owner(row->halves[i].rows, owner);
		carry_owner(row->halves[i].segments, owner);
	}
}

/*
 * Raises an error where the table would lose its rows after a crash while states
 * and positions stay.
 */
static void
check_persistence(Relation rel)
{
	if (rel->rd_rel->relpersistence != RELPERSISTENCE_PERMANENT)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("table \"%s\", which kstream keeps up to date, cannot be unlogged",
						RelationGetRelationName(rel)),
				 errdetail("A crash would empty it, and what it is computed from would not be read again."),
				 errhint("Leave the table logged; wal_compression and commit_delay are other ways to save writes.")));
}

/*
 * A table that is maintained or published must not be reached through a parent,
 * where its triggers do not fire, nor show the rows of children.  The command
 * names the parent (ATTACH PARTITION) or the child (INHERIT).
 */
static void
check_inheritance(Oid relation)
{
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(relation)};

	SPI_connect();
	ks_spi_execute("SELECT i.inhrelid::regclass, i.inhparent::regclass, q.relation = i.inhparent AS is_parent,"
				   " q.id IS NOT NULL AS maintained"
				   " FROM pg_inherits i"
				   " LEFT JOIN kstream_catalog.query q ON q.relation IN (i.inhrelid, i.inhparent)"
				   " LEFT JOIN kstream_catalog.sink s ON s.relation = i.inhrelid"
				   " WHERE $1 IN (i.inhrelid, i.inhparent) AND (q.id IS NOT NULL OR s.id IS NOT NULL)"
				   " ORDER BY maintained DESC LIMIT 1",
				   false, 1, types, values, NULL);
	if (SPI_processed > 0)
	{
		char	   *texts[4];

		for (int i = 0; i < 4; i++)
			texts[i] = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i + 1);
		if (strcmp(texts[3], "t") != 0)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("table \"%s\", whose changes are published, cannot have a parent", texts[0]),
					 errhint("What is written through the parent would not be seen; drop the sink first.")));
		if (strcmp(texts[2], "t") == 0)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("table \"%s\", which kstream keeps up to date, cannot have children", texts[1]),
					 errdetail("Rows of the children would be seen as rows of the table."),
					 errhint("Use a view with UNION ALL over the tables.")));
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("table \"%s\", which kstream keeps up to date, cannot have a parent", texts[0]),
				 errdetail("What is written through a parent gets around the trigger that keeps others from writing."),
				 errhint("Use a view with UNION ALL over the tables.")));
	}
	SPI_finish();
}

/* A table that kstream maintains was altered. */
static void
check_result(const KsQueryRow *row)
{
	Relation	rel = relation_open(row->relation, AccessShareLock);
	Oid			owner = rel->rd_rel->relowner;
	ListCell   *lc;

	check_persistence(rel);
	relation_close(rel, NoLock);
	check_columns(row);
	carry_owner(row->view, owner);
	carry_owner(row->source, owner);
	carry_owner(row->state, owner);
	carry_owner(row->inputs, owner);
	foreach(lc, ks_dedup_part_relations(row->id))
		carry_owner(lfirst_oid(lc), owner);
	foreach(lc, ks_join_buffers(row->id))
		carry_owner(lfirst_oid(lc), owner);
	carry_owner_of_changelog(row->relation, owner);
	ks_definitions_reopen(row->relation);
}

/* The query that a relation in our schema is the stored view or hidden stream of, or NULL. */
static KsQueryRow *
query_of_part(Oid relid)
{
	char	   *schema = get_namespace_name(get_rel_namespace(relid));
	char	   *name = get_rel_name(relid);
	int			id;

	if (schema == NULL || strcmp(schema, "kstream_query") != 0 ||
		(sscanf(name, "q_%d", &id) != 1 && sscanf(name, "src_%d", &id) != 1))
		return NULL;
	return ks_query_load(id);
}

/* Is it the hidden target of a sink, which has no columns of its own? */
static bool
is_target(Oid relid)
{
	char	   *schema = get_namespace_name(get_rel_namespace(relid));

	return schema != NULL && strcmp(schema, "kstream_query") == 0 &&
		strncmp(get_rel_name(relid), "out_", 4) == 0;
}

/* One relation that the command created or changed. */
static void
check_relation(Oid relid, bool created, const KsAlteration *alteration)
{
	KsQueryRow *row = query_of_part(relid);

	if (row)
		check_columns(row);
	/* statements name the columns, and are made anew when the query is opened */
	if (alteration->renames || get_rel_relkind(relid) == RELKIND_VIEW)
		ks_definitions_reopen(relid);
	if (is_target(relid))
	{
		ks_sink_follow_target(relid);
		return;
	}
	if (ks_is_stream(relid))
	{
		if (created)
			complete_stream(relid);
		else
		{
			ks_stream_check_columns(relid, alteration);
			ks_check_stream(relid);
			ks_local_log_follow(relid);
			ks_sink_follow_target(relid);
			ks_check_published(relid, alteration);
			ks_definitions_reopen(relid);
		}
	}
	else if (get_rel_relkind(relid) == RELKIND_RELATION)
	{
		row = ks_query_load_by_relation(relid);
		if (row)
			check_result(row);
		ks_check_published(relid, alteration);
		if (row && OidIsValid(row->source))
			ks_check_published(row->source, alteration);
		check_inheritance(relid);
	}
	else if (get_rel_relkind(relid) == RELKIND_PARTITIONED_TABLE)
	{
		ks_check_published(relid, alteration);
		check_inheritance(relid);
	}
}

/* A trigger was renamed: those that kstream knows by their names must keep them. */
static void
check_renamed_trigger(const Node *parsetree)
{
	const RenameStmt *stmt = (const RenameStmt *) parsetree;

	if (parsetree != NULL && IsA(parsetree, RenameStmt) && stmt->renameType == OBJECT_TRIGGER)
		ks_check_trigger_stays(RangeVarGetRelid(stmt->relation, NoLock, true), stmt->subname, "rename");
}

PG_FUNCTION_INFO_V1(ks_ddl_command_start);

/* The event trigger before commands that take away, or change, what is needed as it is. */
Datum
ks_ddl_command_start(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called by event trigger manager", "ddl_command_start")));
	ks_check_indexes_stay(((EventTriggerData *) fcinfo->context)->parsetree);
	if (enabled)
		ks_definitions_before(((EventTriggerData *) fcinfo->context)->parsetree);
	PG_RETURN_NULL();
}

PG_FUNCTION_INFO_V1(ks_ddl_command_end);

/* The event trigger: looks at the relations that the command created or changed. */
Datum
ks_ddl_command_end(PG_FUNCTION_ARGS)
{
	MemoryContext cxt = CurrentMemoryContext;
	List	   *created = NIL;
	List	   *changed = NIL;
	KsAlteration alteration;
	Node	   *parsetree;
	ListCell   *lc;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called by event trigger manager", "ddl_command_end")));
	if (!enabled)
		PG_RETURN_NULL();

	SPI_connect();
	ks_spi_execute("SELECT c.oid, bool_or(d.command_tag = 'CREATE FOREIGN TABLE')"
				   " FROM pg_event_trigger_ddl_commands() d"
				   " JOIN pg_class c ON c.oid = d.objid"
				   " WHERE d.classid = 'pg_class'::regclass AND c.relkind IN ('r', 'p', 'f', 'v')"
				   " AND d.command_tag <> 'CREATE VIEW'"
				   " GROUP BY c.oid", false, 0, NULL, NULL, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;
		Oid			relid = DatumGetObjectId(SPI_getbinval(tuple, desc, 1, &isnull));
		bool		is_new = DatumGetBool(SPI_getbinval(tuple, desc, 2, &isnull));
		MemoryContext old = MemoryContextSwitchTo(cxt);

		if (is_new)
			created = lappend_oid(created, relid);
		else
			changed = lappend_oid(changed, relid);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();

	parsetree = ((EventTriggerData *) fcinfo->context)->parsetree;
	ks_alteration_read(parsetree, &alteration);
	check_renamed_trigger(parsetree);
	foreach(lc, created)
		check_relation(lfirst_oid(lc), true, &alteration);
	foreach(lc, changed)
		check_relation(lfirst_oid(lc), false, &alteration);
	ks_definitions_after(parsetree);
	PG_RETURN_NULL();
}
