/*
 * sink_guard.c
 *		What must not be done to a relation while a sink publishes it.
 *
 * The record key must identify a row: where two rows had the same key, the last
 * record of the key would not tell of both, and a tombstone would take the key
 * away from the one that is left.  So some unique index has to be on columns of
 * the key, as long as the sink is there.  No dependency is recorded for that: it
 * would have to be on an index, which ALTER TABLE ... TYPE and REINDEX replace and
 * a restore makes last, while here any index does that is there.
 *
 * Runs in: any backend.  Transaction: needed.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/index.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class_d.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_index.h"
#include "catalog/pg_trigger.h"
#include "commands/defrem.h"
#include "commands/trigger.h"
#include "foreign/foreign.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "base/compat.h"
#include "catalog/cat_util.h"
#include "catalog/owner.h"
#include "catalog/query_cat.h"
#include "catalog/stream_def.h"
#include "sql/ddl_util.h"
#include "sql/restore.h"
#include "sql/sink_guard.h"
#include "store/capture.h"
#include "store/capture_headers.h"
#include "store/guard.h"
#include "stream/outbox.h"
#include "worker/wakeup.h"

/* What is known about the indexes that may keep a record key unique. */
typedef struct KeyCover
{
	Oid			relation;
	List	   *key;			/* char * */
	bool		has_null;		/* a row with NULL in the key has a record key, too */
	List	   *without;		/* indexes that are about to be dropped */
	char	   *several_nulls;	/* an index that would do, if it let only one NULL in */
} KeyCover;

/* ---------------------------------------------------------------- commands */

/* See sink_guard.h. */
void
ks_alteration_read(Node *parsetree, KsAlteration *alteration)
{
	memset(alteration, 0, sizeof(*alteration));
	if (parsetree == NULL)
		return;
	if (IsA(parsetree, RenameStmt) && ((RenameStmt *) parsetree)->renameType == OBJECT_COLUMN)
	{
		alteration->columns = list_make1(((RenameStmt *) parsetree)->subname);
		alteration->renames = true;
	}
	if (IsA(parsetree, AlterTableStmt))
	{
		ListCell   *lc;

		foreach(lc, ((AlterTableStmt *) parsetree)->cmds)
		{
			AlterTableCmd *cmd = lfirst_node(AlterTableCmd, lc);

			if (cmd->subtype == AT_DropColumn)
				alteration->columns = lappend(alteration->columns, cmd->name);
			if (cmd->subtype >= AT_EnableTrig && cmd->subtype <= AT_DisableTrigUser)
				alteration->triggers = true;
		}
	}
}

/* See sink_guard.h. */
bool
ks_sink_is_restored(const KsSinkRow *sink)
{
	return strcmp(sink->instance, KS_RESTORED_INSTANCE) == 0;
}

/* How a sink is got rid of. */
static char *
how_to_drop(const KsSinkRow *sink)
{
	if (sink->name == NULL)
		return pstrdup("Drop the table or stream, and create another one.");
	return psprintf("Drop the sink first, with kstream.drop_sink(%s).", quote_literal_cstr(sink->name));
}

/* ---------------------------------------------------------------- the key */

/* Has the column a value in every row? */
static bool
is_not_null(Oid relation, AttrNumber attnum)
{
	HeapTuple	tuple = SearchSysCacheAttNum(relation, attnum);
	bool		result = HeapTupleIsValid(tuple) && ((Form_pg_attribute) GETSTRUCT(tuple))->attnotnull;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return result;
}

/* Is uniqueness put off to the end of the transaction? */
static bool
is_initially_deferred(Oid index)
{
	Oid			constraint = get_index_constraint(index);
	HeapTuple	tuple = SearchSysCache1(CONSTROID, ObjectIdGetDatum(constraint));
	bool		result;

	if (!HeapTupleIsValid(tuple))
		return false;
	result = ((Form_pg_constraint) GETSTRUCT(tuple))->condeferred;
	ReleaseSysCache(tuple);
	return result;
}

/*
 * Does the index see to it that two rows never have the same key?  One that is
 * checked at the end of a statement does as well, so that an update may exchange
 * keys.
 */
static bool
index_covers(KeyCover *cover, HeapTuple tuple)
{
	Form_pg_index index = (Form_pg_index) GETSTRUCT(tuple);
	bool		one_null = index->indnullsnotdistinct || !cover->has_null;
	bool		all_not_null = true;

	if (!index->indisunique || !index->indisvalid || !index->indislive || index->indisexclusion ||
		!heap_attisnull(tuple, Anum_pg_index_indpred, NULL) ||
		list_member_oid(cover->without, index->indexrelid))
		return false;
	for (int i = 0; i < index->indnkeyatts; i++)
	{
		AttrNumber	attnum = index->indkey.values[i];

		if (attnum <= 0 || !ks_names_contain(cover->key, get_attname(cover->relation, attnum, false)))
			return false;
		all_not_null &= is_not_null(cover->relation, attnum);
	}
	if (!index->indimmediate && is_initially_deferred(index->indexrelid))
		return false;
	if (one_null || all_not_null)
		return true;
	cover->several_nulls = get_rel_name(index->indexrelid);
	return false;
}

/* Looks for such an index, or for a query that writes the table by the key or a part of it. */
static bool
key_is_unique(KeyCover *cover)
{
	KsQueryRow *query = ks_query_load_by_relation(cover->relation);
	Relation	indexes;
	ScanKeyData scankey;
	SysScanDesc scan;
	HeapTuple	tuple;
	ListCell   *lc;
	bool		found = query != NULL && query->key_columns != NIL;

	foreach(lc, query != NULL ? query->key_columns : NIL)
		found &= ks_names_contain(cover->key, lfirst(lc));
	if (found)
		return true;
	indexes = table_open(IndexRelationId, AccessShareLock);
	ScanKeyInit(&scankey, Anum_pg_index_indrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(cover->relation));
	scan = systable_beginscan(indexes, IndexIndrelidIndexId, true, NULL, 1, &scankey);
	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
		found = index_covers(cover, tuple);
	systable_endscan(scan);
	table_close(indexes, AccessShareLock);
	return found;
}

/* What is asked of the table's indexes by a sink. */
static void
cover_of_sink(KeyCover *cover, const KsSinkRow *sink)
{
	memset(cover, 0, sizeof(*cover));
	cover->relation = sink->relation;
	cover->key = sink->key_columns;
	/* other formats have no NULL: there such a row is an error */
	cover->has_null = ks_stream_def_of(sink->target)->key_format == KS_KEY_JSON;
}

/* See sink_guard.h. */
void
ks_sink_check_key(const KsSinkRow *sink, Relation rel, bool is_new)
{
	KeyCover	cover;

	if (sink->key_columns == NIL)
		return;
	cover_of_sink(&cover, sink);
	if (key_is_unique(&cover))
		return;
	ereport(ERROR,
			(errcode(is_new ? ERRCODE_INVALID_TABLE_DEFINITION : ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
			 is_new ?
			 errmsg("key (%s) of sink \"%s\" does not identify a row of table \"%s\"",
					ks_identifier_list(sink->key_columns), ks_sink_display_name(sink),
					RelationGetRelationName(rel)) :
			 errmsg("cannot give up what keeps the key (%s) of sink \"%s\" unique in table \"%s\"",
					ks_identifier_list(sink->key_columns), ks_sink_display_name(sink),
					RelationGetRelationName(rel)),
			 cover.several_nulls != NULL ?
			 errdetail("Index \"%s\" lets several rows have NULL in it.", cover.several_nulls) :
			 errdetail("Without a unique index on columns of the key, neither partial nor INITIALLY DEFERRED, several rows may have the same key."),
			 errhint("%s", !is_new ? how_to_drop(sink) : cover.several_nulls != NULL ?
					 "Declare the columns NOT NULL, or create the index with NULLS NOT DISTINCT." :
					 OidIsValid(ks_primary_key_index(rel)) ?
					 "Leave the key out to use the primary key, name its columns, or create a unique index on columns of the key." :
					 "Create a primary key, or a unique index on columns of the key.")));
}

/* Raises an error if the table's sinks need one of the indexes. */
static void
check_indexes_of(Oid relation, List *indexes)
{
	ListCell   *lc;

	foreach(lc, ks_sinks_of_relation(relation))
	{
		KsSinkRow  *sink = lfirst(lc);
		KeyCover	cover;
		Oid			needed;

		if (sink->key_columns == NIL || ks_sink_is_restored(sink))
			continue;
		cover_of_sink(&cover, sink);
		cover.without = list_copy(indexes);
		if (key_is_unique(&cover))
			continue;
		/* the one that is named is one with which the key would still be unique */
		do
		{
			needed = linitial_oid(cover.without);
			cover.without = list_delete_first(cover.without);
		} while (cover.without != NIL && !key_is_unique(&cover));
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("cannot drop index \"%s\": it keeps the key of sink \"%s\" unique",
						get_rel_name(needed), ks_sink_display_name(sink)),
				 errhint("%s Or create another unique index on columns of the key before.",
						 how_to_drop(sink))));
	}
}

/*
 * See sink_guard.h.  Before the command and not after it, because DROP INDEX
 * CONCURRENTLY commits in between.  ALTER TABLE is looked at when it is done.
 */
void
ks_check_indexes_stay(Node *parsetree)
{
	List	   *indexes = NIL;
	ListCell   *lc;

	if (parsetree == NULL || !IsA(parsetree, DropStmt) || ((DropStmt *) parsetree)->removeType != OBJECT_INDEX)
		return;
	foreach(lc, ((DropStmt *) parsetree)->objects)
	{
		Oid			index = RangeVarGetRelid(makeRangeVarFromNameList((List *) lfirst(lc)), NoLock, true);

		if (OidIsValid(index) && get_rel_relkind(index) == RELKIND_INDEX)
			indexes = lappend_oid(indexes, index);
	}
	foreach(lc, indexes)
	{
		Oid			relation = IndexGetRelation(lfirst_oid(lc), true);

		if (OidIsValid(relation))
			check_indexes_of(relation, indexes);
	}
}

/* ---------------------------------------------------------------- columns */

/* See sink_guard.h. */
void
ks_sink_check_columns(const KsSinkRow *sink, const KsAlteration *alteration)
{
	ListCell   *lc;

	foreach(lc, alteration->columns)
	{
		const char *column = lfirst(lc);

		if (ks_names_contain(sink->key_columns, column) &&
			get_attnum(sink->relation, column) == InvalidAttrNumber)
			ereport(ERROR,
					(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
					 errmsg("cannot %s column \"%s\": it is in the key of sink \"%s\"",
							alteration->renames ? "rename" : "drop", column, ks_sink_display_name(sink)),
					 errhint("%s", how_to_drop(sink))));
	}
}

/*
 * See sink_guard.h.  An expression is text: that it needs a column shows when it
 * is parsed without it.
 */
void
ks_sink_check_headers(const KsSinkRow *sink, Relation rel, const KsAlteration *alteration)
{
	MemoryContext cxt = CurrentMemoryContext;
	KsOwnerScope scope;

	if (sink->headers == NULL)
		return;
	ks_scope_enter(sink->relation, sink->settings, &scope);
	PG_TRY();
	{
		ks_header_expr_free(ks_header_expr_create(sink->headers, rel));
	}
	PG_CATCH();
	{
		if (alteration->columns == NIL || geterrcode() != ERRCODE_UNDEFINED_COLUMN)
			PG_RE_THROW();
		MemoryContextSwitchTo(cxt);
		FlushErrorState();
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("cannot %s column \"%s\": it is in the headers of sink \"%s\"",
						alteration->renames ? "rename" : "drop", (char *) linitial(alteration->columns),
						ks_sink_display_name(sink)),
				 errdetail("The headers are %s.", sink->headers),
				 errhint("%s", how_to_drop(sink))));
	}
	PG_END_TRY();
	ks_owner_leave(&scope);
}

/* See sink_guard.h. */
void
ks_stream_check_columns(Oid stream, const KsAlteration *alteration)
{
	static const char *const options[] = {"key", "timestamp", "dedup_key"};
	ListCell   *lc;

	foreach(lc, alteration->columns == NIL ? NIL : GetForeignTable(stream)->options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);
		List	   *names = NIL;
		ListCell   *lc2;

		for (int i = 0; i < lengthof(options); i++)
		{
			if (strcmp(option->defname, options[i]) == 0)
				(void) SplitIdentifierString(pstrdup(defGetString(option)), ',', &names);
		}
		foreach(lc2, alteration->columns)
		{
			const char *column = lfirst(lc2);

			if (ks_names_contain(names, column) && get_attnum(stream, column) == InvalidAttrNumber)
				ereport(ERROR,
						(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
						 errmsg("cannot %s column \"%s\" of stream \"%s\": it is in option \"%s\"",
								alteration->renames ? "rename" : "drop", column, get_rel_name(stream),
								option->defname),
						 alteration->renames ?
						 errhint("In one transaction, drop the option with ALTER FOREIGN TABLE ... OPTIONS (DROP %s), rename the column, and add the option with the new name.", option->defname) :
						 errhint("Drop or change the option first, with ALTER FOREIGN TABLE ... OPTIONS.")));
		}
	}
}

/* ---------------------------------------------------------------- triggers */

/* The sink that the trigger captures the changes of the table for, or NULL. */
static KsSinkRow *
sink_of_trigger(Oid relation, const char *trigger)
{
	KsSinkRow  *sink;
	int			id;

	if (sscanf(trigger, KS_CAPTURE_TRIGGER_PREFIX "%d_", &id) != 1)
		return NULL;
	sink = ks_sink_load(id);
	return sink != NULL && sink->relation == relation && sink->kind == KS_SINK_NAMED ? sink : NULL;
}

/* See sink_guard.h. */
void
ks_check_trigger_stays(Oid relation, const char *trigger, const char *verb)
{
	KsSinkRow  *sink;

	if (!OidIsValid(relation))
		return;
	if (strcmp(trigger, KS_GUARD_TRIGGER) == 0 && ks_query_load_by_relation(relation) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("cannot %s trigger \"%s\" of table \"%s\"", verb, trigger, get_rel_name(relation)),
				 errdetail("It keeps others from writing to a table that kstream keeps up to date."),
				 errhint("It goes with the table. Whoever has to write in an emergency can disable it for a while, with ALTER TABLE ... DISABLE TRIGGER.")));
	sink = sink_of_trigger(relation, trigger);
	if (sink != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("cannot %s trigger \"%s\" of table \"%s\"", verb, trigger, get_rel_name(relation)),
				 errdetail("Sink \"%s\" would not see the changes of the table.", ks_sink_display_name(sink)),
				 errhint("It goes with the sink: call kstream.drop_sink(%s).", quote_literal_cstr(sink->name))));
}

/* See sink_guard.h. */
void
ks_sink_check_triggers(const KsSinkRow *sink, Relation rel)
{
	TriggerDesc *triggers = rel->trigdesc;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];
		KsSinkRow  *its = sink_of_trigger(sink->relation, trigger->tgname);

		if (its == NULL || its->id != sink->id || trigger->tgenabled == TRIGGER_FIRES_ALWAYS)
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("trigger \"%s\" of table \"%s\" must be enabled always",
						trigger->tgname, RelationGetRelationName(rel)),
				 errdetail("Otherwise sink \"%s\" would not see all changes of the table.",
						   ks_sink_display_name(sink)),
				 errhint("Name the triggers that you mean, without this one; or drop the sink, with kstream.drop_sink(%s).",
						 quote_literal_cstr(sink->name))));
	}
}

/* ---------------------------------------------------------------- the target */

/* Refuses another topic: positions, and what waits in the outbox, belong to the one there was. */
static void
check_topic(const KsSinkRow *sink, const KsStreamDef *def)
{
	bool		named = false;
	ListCell   *lc;

	if (strcmp(sink->topic, def->topic) == 0)
		return;
	foreach(lc, GetForeignTable(sink->target)->options)
		named |= strcmp(lfirst_node(DefElem, lc)->defname, "topic") == 0;
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("cannot change the topic of \"%s\" from \"%s\" to \"%s\"",
					ks_sink_display_name(sink), sink->topic, def->topic),
			 errdetail("Records have been written that are published to topic \"%s\".", sink->topic),
			 named ?
			 errhint("Create another stream or sink for topic \"%s\".", def->topic) :
			 errhint("Without option topic it is the name of the stream. Add the option first: ALTER FOREIGN TABLE ... OPTIONS (ADD topic %s).",
					 quote_literal_cstr(sink->topic))));
}

/*
 * Is it not known where to go on?  Exactly once begins at the position that is
 * stored here, which is wrong where database and topic differ, or where this
 * database is a copy that must not publish.
 */
static bool
is_blocked(const KsSinkRow *sink)
{
	static const int states[] = {ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, ERRCODE_OBJECT_IN_USE};
	KsPublished published = {0};

	if (!ks_published_load(sink->id, &published) || strcmp(sink->instance, ks_instance_id()) != 0 ||
		(published.resync != NULL &&
		 (strcmp(published.resync, "replay") == 0 || strcmp(published.resync, "skip") == 0)))
		return true;
	for (int i = 0; i < lengthof(states); i++)
	{
		if (sink->last_sqlstate != NULL && strcmp(sink->last_sqlstate, unpack_sql_state(states[i])) == 0)
			return true;
	}
	return false;
}

/* See sink_guard.h. */
void
ks_sink_follow_target(Oid target)
{
	KsSinkRow  *sink = ks_sink_load_by_target(target);
	KsStreamDef *def;

	if (sink == NULL)
		return;
	def = ks_stream_def_of(target);
	check_topic(sink, def);
	if (sink->exactly_once != def->at_least_once)
		return;
	if (!def->at_least_once && is_blocked(sink))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot change the guarantee of \"%s\" while it is blocked", ks_sink_display_name(sink)),
				 errhint("Let it go on first, with kstream.resume or kstream.resync; the view kstream.sinks says why it does not.")));
	ks_sink_set_guarantee(sink->id, !def->at_least_once,
						  def->at_least_once ? sink->incarnation : ks_outbox_new_incarnation());
	ks_notify_definitions_changed();
}
