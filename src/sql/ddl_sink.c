/*
 * ddl_sink.c
 *		kstream.create_sink and drop_sink: changes of tables that are published.
 *
 * A sink of a table has a hidden foreign table (kstream_query.out_<id>), which
 * names server, topic and formats; the columns are always those of the table
 * itself, so nothing has to follow when it is altered.  It is dropped with the
 * table, but not the other way round: DROP SERVER ... CASCADE ends the sink and
 * leaves the table alone.
 *
 * Changes of tables that kstream maintains are told by who writes them
 * (store/change.h); the users' own tables get triggers (store/capture_trigger.c).
 * In both cases nobody writes to the table while the sink is made: what is there
 * is published first, and every later change after it.
 *
 * Runs in: any backend.  Transaction: needed.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid_d.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type_d.h"
#include "commands/tablecmds.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "catalog/owner.h"
#include "catalog/stream_def.h"
#include "plan/analyze.h"
#include "sql/ddl_event.h"
#include "sql/ddl_sink.h"
#include "sql/ddl_util.h"
#include "sql/query_options.h"
#include "sql/sink_guard.h"
#include "sql/unsent.h"
#include "store/capture.h"
#include "store/capture_headers.h"
#include "stream/outbox.h"
#include "worker/wakeup.h"

/* Arguments of create_sink, in the order of the SQL declaration. */
enum
{
	ARG_NAME,
	ARG_RELATION,
	ARG_TOPIC,
	ARG_KEY,
	ARG_FORMAT,
	ARG_KEY_FORMAT,
	ARG_HEADERS,
	ARG_ENVELOPE,
	ARG_SERVER,
	ARG_GUARANTEE,
	ARG_PARTITIONS,
	ARG_SNAPSHOT,
	ARG_PAUSED
};

/* ---------------------------------------------------------------- what can be published */

/* Refuses a relation by what it is. */
static ks_noreturn void
refuse_relation(Relation rel, const char *why, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("cannot publish the changes of \"%s\": %s", RelationGetRelationName(rel), why),
			 errhint("%s", hint)));
}

/* Does the table inherit from others, or others from it? */
static bool
has_relatives(Relation rel)
{
	return has_superclass(RelationGetRelid(rel)) ||
		find_inheritance_children(RelationGetRelid(rel), NoLock) != NIL;
}

/* Is it a schema of Postgres or of ours? */
static bool
is_system_schema(Oid schema)
{
	static const char *const ours[] = {"kstream", "kstream_catalog", "kstream_query", "kstream_state"};
	const char *name = get_namespace_name(schema);

	for (int i = 0; i < lengthof(ours); i++)
	{
		if (strcmp(name, ours[i]) == 0)
			return true;
	}
	return IsCatalogNamespace(schema) || IsToastNamespace(schema) || strcmp(name, "information_schema") == 0;
}

/* Refuses relations whose changes a statement trigger does not see, all of them and in order. */
static void
check_relation(Relation rel)
{
	if (ks_is_stream(RelationGetRelid(rel)))
		refuse_relation(rel, "it is a stream",
						"The records of a stream are in its topic; kstream.create_stream_as publishes rows computed from it.");
	if (rel->rd_rel->relkind == RELKIND_FOREIGN_TABLE)
		refuse_relation(rel, "it is a foreign table", "Its changes are made elsewhere; publish a table of this database.");
	if (rel->rd_rel->relkind == RELKIND_VIEW || rel->rd_rel->relkind == RELKIND_MATVIEW)
		refuse_relation(rel, "it is a view", "Publish the tables it reads, or a continuous query.");
	if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
		refuse_relation(rel, "it is partitioned",
						"What is written to a partition directly would not be seen. Publish a table that is not partitioned.");
	if (rel->rd_rel->relkind != RELKIND_RELATION)
		refuse_relation(rel, "it is not a table", "Name a table.");
	if (rel->rd_rel->relispartition)
		refuse_relation(rel, "it is a partition",
						"What is written through its parent would not be seen. Publish a table that is not a partition.");
	if (has_relatives(rel))
		refuse_relation(rel, "it takes part in inheritance",
						"What is written through the parent or to the children would not be seen. End it with ALTER TABLE ... NO INHERIT.");
	if (rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		refuse_relation(rel, "it is a temporary table", "Publish a permanent table.");
	if (rel->rd_rel->relpersistence == RELPERSISTENCE_UNLOGGED)
		refuse_relation(rel, "it is unlogged",
						"A crash empties it without a trace. Use ALTER TABLE ... SET LOGGED.");
	if (is_system_schema(RelationGetNamespace(rel)))
		refuse_relation(rel, "it belongs to the system", "Publish a table of your own.");
	for (int i = 0; i < RelationGetDescr(rel)->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), i);

		if (!att->attisdropped && att->attgenerated != '\0' && att->attgenerated != 's')
			refuse_relation(rel, "it has a virtual generated column", "Declare the column as STORED.");
	}
}

/*
 * Columns of the primary key, in its order; NIL if there is none, or only one
 * that is deferrable: between statements two rows may have the same key then.
 */
static List *
primary_key(Relation rel)
{
	Oid			indexid = ks_primary_key_index(rel);
	Relation	index;
	List	   *names = NIL;

	if (!OidIsValid(indexid))
		return NIL;
	index = index_open(indexid, AccessShareLock);
	for (int i = 0; i < index->rd_index->indnkeyatts; i++)
		names = lappend(names, get_attname(RelationGetRelid(rel), index->rd_index->indkey.values[i], false));
	index_close(index, NoLock);
	return names;
}

/* A key names each column once. */
static void
check_duplicates(List *key)
{
	ListCell   *lc;

	foreach(lc, key)
	{
		for (int i = 0; i < foreach_current_index(lc); i++)
		{
			if (strcmp(list_nth(key, i), lfirst(lc)) == 0)
				ereport(ERROR,
						(errcode(ERRCODE_DUPLICATE_COLUMN),
						 errmsg("argument \"key\" names column \"%s\" twice", (char *) lfirst(lc)),
						 errhint("Name each column once.")));
		}
	}
}

/* The columns of the record key: given, or those of the table. */
static List *
choose_key(FunctionCallInfo fcinfo, Relation rel, const KsQueryRow *query, const char *key_format,
		   bool debezium)
{
	List	   *given = ks_arg_text_array(fcinfo, ARG_KEY, "key");
	bool		none = key_format != NULL && strcmp(key_format, "none") == 0;
	List	   *key;

	if (none && given != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("key_format \"none\" and a key exclude each other"),
				 errhint("Leave one of them out.")));
	if (given != NIL)
	{
		check_duplicates(given);
		return given;
	}
	key = query != NULL ? query->key_columns : primary_key(rel);
	if (query != NULL && query->kind == KS_QUERY_APPEND && key == NIL)
		return NIL;
	if (none && !debezium)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("rows of \"%s\" cannot be published without a key", RelationGetRelationName(rel)),
				 errdetail("Without a key nothing could say that a row has changed or is gone."),
				 errhint("Name key columns, or use envelope => 'debezium'.")));
	if (none)
		return NIL;
	if (key == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				 errmsg("table \"%s\" has no primary key", RelationGetRelationName(rel)),
				 errhint("Name the columns that identify a row: key => ARRAY['<column>', ...]. Or use key_format => 'none' with envelope => 'debezium'.")));
	return key;
}

/* A query must not be fed by what it publishes. */
static void
check_no_loop(const KsSinkPlan *plan, const KsQueryRow *query)
{
	Oid			serverid = GetForeignServerByName(plan->server, false)->serverid;
	List	   *streams;
	ListCell   *lc;

	if (query == NULL)
		return;
	streams = OidIsValid(query->source) ? list_make1_oid(query->source) : ks_analyze_view(query->view)->streams;
	foreach(lc, streams)
	{
		KsStreamDef *def = ks_stream_def_of(lfirst_oid(lc));

		if (!def->local && def->serverid == serverid && strcmp(def->topic, plan->topic) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_RECURSION),
					 errmsg("the table is computed from topic \"%s\"", plan->topic),
					 errhint("Publish it to another topic; its records would go round for ever.")));
	}
}

/* ---------------------------------------------------------------- creation */

/* The user must be allowed to use the server. */
static void
check_server(const char *server)
{
	Oid			serverid = GetForeignServerByName(server, false)->serverid;

	if (ks_server_is_local(server))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("changes of a table cannot be published to a local log"),
				 errhint("Create a server for a Kafka cluster, and name it.")));
	if (!DatumGetBool(DirectFunctionCall2(has_server_privilege_id, ObjectIdGetDatum(serverid),
										  CStringGetTextDatum("USAGE"))))
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FOREIGN_SERVER, server);
}

/* Creates the foreign table that describes topic and formats, and gives it the table's owner. */
static void
create_target(KsSinkRow *sink, const KsSinkPlan *plan, Oid owner)
{
	CreateForeignTableStmt *stmt = makeNode(CreateForeignTableStmt);
	Oid			userid;
	int			sec_context;

	stmt->base.relation = makeRangeVar("kstream_query", psprintf("out_%d", ks_sink_choose_id(sink)), -1);
	stmt->base.tableElts = ks_add_metadata_columns(NIL, true);
	stmt->base.oncommit = ONCOMMIT_NOOP;
	stmt->servername = plan->server;
	stmt->options = ks_add_option(NIL, "topic", plan->topic);
	stmt->options = ks_add_option(stmt->options, "format", plan->format);
	stmt->options = ks_add_option(stmt->options, "key_format", plan->key_format);
	if (!sink->exactly_once)
		stmt->options = ks_add_option(stmt->options, "guarantee", "at_least_once");

	/* our schema is not open to users */
	GetUserIdAndSecContext(&userid, &sec_context);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, sec_context | SECURITY_LOCAL_USERID_CHANGE);
	ks_event_trigger_enable(false);
	PG_TRY();
	{
		ks_run_utility((Node *) stmt, "");
	}
	PG_FINALLY();
	{
		ks_event_trigger_enable(true);
	}
	PG_END_TRY();
	SetUserIdAndSecContext(userid, sec_context);
	sink->target = RangeVarGetRelid(stmt->base.relation, NoLock, false);
	ATExecChangeOwner(sink->target, owner, true, AccessExclusiveLock);
	CommandCounterIncrement();
	ks_depend_automatically(sink->target, sink->relation);
}

/* Puts the triggers on a table of the users', as the extension's owner; they are not complete meanwhile. */
static void
create_triggers(const KsSinkRow *sink)
{
	static const char *const events[][3] = {
		{"insert", "AFTER INSERT", "REFERENCING NEW TABLE AS kstream_new"},
		{"update", "AFTER UPDATE", "REFERENCING OLD TABLE AS kstream_old NEW TABLE AS kstream_new"},
		{"delete", "AFTER DELETE", "REFERENCING OLD TABLE AS kstream_old"},
		{"truncate", "BEFORE TRUNCATE", ""},
	};
	char	   *table = ks_qualified_name(sink->relation);

	ks_event_trigger_enable(false);
	PG_TRY();
	{
		SPI_connect();
		for (int i = 0; i < lengthof(events); i++)
		{
			char	   *name = psprintf(KS_CAPTURE_TRIGGER_PREFIX "%d_%s", sink->id, events[i][0]);

			ks_spi_execute(psprintf("CREATE OR REPLACE TRIGGER %s %s ON %s %s FOR EACH STATEMENT"
									" EXECUTE FUNCTION kstream_catalog.capture('%d')",
									name, events[i][1], table, events[i][2], sink->id),
						   false, 0, NULL, NULL, NULL);
			ks_spi_execute(psprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER %s", table, name),
						   false, 0, NULL, NULL, NULL);
		}
		SPI_finish();
	}
	PG_FINALLY();
	{
		ks_event_trigger_enable(true);
	}
	PG_END_TRY();
}

/* Checks the expression for headers as the caller, who must be allowed to use it. */
static void
check_headers(const char *text, Relation rel)
{
	KsUserText	user_text = {.text = text,.source = text};

	if (text == NULL)
		return;
	ks_user_text_begin(&user_text);
	ks_header_expr_free(ks_header_expr_create(text, rel));
	ks_user_text_end(&user_text);
}

/* See ddl_sink.h. */
void
ks_sink_create(KsSinkRow *sink, const KsSinkPlan *plan, const KsQueryRow *query)
{
	Relation	rel;
	KsSinkPlan	full = *plan;

	check_server(plan->server);
	check_no_loop(plan, query);
	if (query != NULL)
		ks_query_take_over(query->id);
	rel = table_open(sink->relation, ShareRowExclusiveLock);
	if (full.key_format == NULL)
		full.key_format = sink->key_columns == NIL ? "none" :
			list_length(sink->key_columns) > 1 ? "json" : "text";
	sink->settings = ks_pinned_settings();
	create_target(sink, &full, rel->rd_rel->relowner);
	ks_capture_check(sink, rel);
	ks_sink_check_key(sink, rel, true);
	check_headers(sink->headers, rel);
	ks_outbox_create(sink);
	table_close(rel, NoLock);	/* ALTER TABLE wants it closed; the lock stays */
	if (query != NULL)
		ks_query_reopen(query->id);
	else
		create_triggers(sink);
	if (plan->snapshot)
	{
		rel = table_open(sink->relation, NoLock);
		ks_capture_snapshot(sink, rel);
		table_close(rel, NoLock);
	}
	if (plan->partitions > 0)
		ks_ensure_topic_kind(plan->server, plan->topic, plan->partitions,
							 sink->key_columns != NIL && !sink->debezium);
	ks_notify_definitions_changed();
}

/* The envelope; true for that of Debezium. */
static bool
read_envelope(const char *envelope, const char *format)
{
	if (strcmp(envelope, "upsert") == 0)
		return false;
	if (strcmp(envelope, "debezium") != 0)
		ks_invalid_word("envelope", envelope, "'upsert', 'debezium'");
	if (strcmp(format, "json") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("envelope \"debezium\" needs format \"json\""),
				 errhint("Leave the format out, or use envelope => 'upsert'.")));
	return true;
}

/* A name that no query and no sink has. */
static char *
new_name(FunctionCallInfo fcinfo)
{
	char	   *name = ks_arg_required(fcinfo, ARG_NAME, "name");

	if (name[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("the name of a sink must not be empty")));
	if (ks_query_load_by_name(name) != NULL || ks_sink_load_by_name(name) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("query or sink \"%s\" already exists", name)));
	return name;
}

/* Server, topic and formats of create_sink. */
static void
read_plan(FunctionCallInfo fcinfo, KsSinkPlan *plan)
{
	plan->server = ks_choose_server(PG_ARGISNULL(ARG_SERVER) ? NULL : NameStr(*PG_GETARG_NAME(ARG_SERVER)));
	plan->topic = ks_arg_required(fcinfo, ARG_TOPIC, "topic");
	plan->format = ks_arg_required(fcinfo, ARG_FORMAT, "format");
	plan->key_format = ks_arg_text(fcinfo, ARG_KEY_FORMAT);
	plan->snapshot = PG_ARGISNULL(ARG_SNAPSHOT) || PG_GETARG_BOOL(ARG_SNAPSHOT);
	if (PG_ARGISNULL(ARG_PARTITIONS))
		return;
	plan->partitions = PG_GETARG_INT32(ARG_PARTITIONS);
	if (plan->partitions < 1 || plan->partitions > 100000)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"partitions\" must be a number from 1 to 100000")));
}

PG_FUNCTION_INFO_V1(ks_create_sink);

/* create_sink(name, relation, topic, ...): the table. */
Datum
ks_create_sink(PG_FUNCTION_ARGS)
{
	KsSinkRow	sink = {.kind = KS_SINK_NAMED};
	KsSinkPlan	plan = {0};
	KsQueryRow *query;
	Relation	rel;

	sink.name = new_name(fcinfo);
	if (PG_ARGISNULL(ARG_RELATION))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"relation\" must not be null")));
	sink.relation = PG_GETARG_OID(ARG_RELATION);
	rel = relation_open(sink.relation, AccessShareLock);	/* of any kind: check_relation says what is wrong with it */
	check_relation(rel);
	ks_relation_check_owner(sink.relation);
	read_plan(fcinfo, &plan);
	query = ks_query_load_by_relation(sink.relation);
	sink.debezium = read_envelope(ks_arg_required(fcinfo, ARG_ENVELOPE, "envelope"), plan.format);
	sink.exactly_once = !ks_at_least_once(ks_arg_required(fcinfo, ARG_GUARANTEE, "guarantee"));
	sink.key_columns = choose_key(fcinfo, rel, query, plan.key_format, sink.debezium);
	sink.headers = ks_arg_text(fcinfo, ARG_HEADERS);
	sink.paused = !PG_ARGISNULL(ARG_PAUSED) && PG_GETARG_BOOL(ARG_PAUSED);
	table_close(rel, NoLock);
	ks_sink_create(&sink, &plan, query);
	ks_warn_not_preloaded(sink.relation);
	PG_RETURN_OID(sink.relation);
}

/* ---------------------------------------------------------------- dropping */

/* Removes a part, whatever belongs to what. */
static void
drop_part(Oid part, Oid whole, DependencyType type)
{
	ObjectAddress address;

	if (!OidIsValid(part) || get_rel_relkind(part) == '\0')
		return;
	deleteDependencyRecordsForSpecific(RelationRelationId, part, type, RelationRelationId, whole);
	CommandCounterIncrement();
	ObjectAddressSet(address, RelationRelationId, part);
	performDeletion(&address, DROP_RESTRICT, PERFORM_DELETION_INTERNAL);
	CommandCounterIncrement();
}

/* Removes the triggers from the table, if it is still there. */
static void
drop_triggers(const KsSinkRow *sink)
{
	static const char *const events[] = {"insert", "update", "delete", "truncate"};

	if (get_rel_relkind(sink->relation) != RELKIND_RELATION)
		return;
	SPI_connect();
	for (int i = 0; i < lengthof(events); i++)
		ks_spi_execute(psprintf("DROP TRIGGER IF EXISTS " KS_CAPTURE_TRIGGER_PREFIX "%d_%s ON %s", sink->id, events[i],
								ks_qualified_name(sink->relation)), false, 0, NULL, NULL, NULL);
	SPI_finish();
}

/* See ddl_sink.h. */
void
ks_sink_drop(const KsSinkRow *sink)
{
	KsQueryRow *query = ks_query_load_by_relation(sink->relation);

	ks_unsent_warn(sink);
	ks_sink_delete(sink->id);
	if (query != NULL && sink->kind != KS_SINK_STREAM)
	{
		ks_query_take_over(query->id);
		ks_query_reopen(query->id);
	}
	else if (sink->kind == KS_SINK_NAMED)
		drop_triggers(sink);
	for (int i = 0; i < 2; i++)
	{
		drop_part(sink->halves[i].rows, sink->relation, ks_outbox_dependency(sink));
		drop_part(sink->halves[i].segments, sink->relation, ks_outbox_dependency(sink));
	}
	if (sink->target != sink->relation)
		drop_part(sink->target, sink->relation, DEPENDENCY_AUTO);
	ks_notify_definitions_changed();
}

PG_FUNCTION_INFO_V1(ks_drop_sink);

/* drop_sink(name): nothing more is published; topic and table stay. */
Datum
ks_drop_sink(PG_FUNCTION_ARGS)
{
	char	   *name = ks_arg_required(fcinfo, 0, "name");
	KsSinkRow  *sink = ks_sink_load_by_name(name);

	if (sink == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("sink \"%s\" does not exist", name),
				 errhint("Sinks made by kstream.create_sink are dropped by name; view kstream.sinks lists them.")));
	ks_sink_check_owner(sink);
	ks_sink_drop(sink);
	PG_RETURN_VOID();
}

/* ---------------------------------------------------------------- altering, restoring */

/* Makes a table of the outbox belong to what is published. */
static void
relink_part(const KsSinkRow *sink, Oid part)
{
	if (get_rel_relkind(part) != '\0')
		ks_depend(part, sink->relation, ks_outbox_dependency(sink));
}

/* See ddl_sink.h. */
void
ks_relink_sink(const KsSinkRow *sink)
{
	if (get_rel_relkind(sink->relation) == '\0')
		return;
	for (int i = 0; i < 2; i++)
	{
		relink_part(sink, sink->halves[i].rows);
		relink_part(sink, sink->halves[i].segments);
	}
	if (sink->target != sink->relation && get_rel_relkind(sink->target) != '\0')
		ks_depend_automatically(sink->target, sink->relation);
}

/* Says which sink an error is about. */
static void
published_error(void *arg)
{
	errcontext("sink \"%s\", which publishes the table", ks_sink_display_name(arg));
}

/*
 * Raises an error if the sink cannot publish the table as it is after a command.
 * While a dump is restored, indexes and triggers come later than the sink.
 */
static void
check_sink(KsSinkRow *sink, Relation rel, const KsAlteration *alteration)
{
	ErrorContextCallback callback = {.callback = published_error,.arg = sink,.previous = error_context_stack};

	error_context_stack = &callback;
	if (ks_query_load_by_relation(sink->relation) == NULL)
		check_relation(rel);
	ks_sink_check_columns(sink, alteration);
	ks_capture_check(sink, rel);
	ks_sink_check_headers(sink, rel, alteration);
	if (!ks_sink_is_restored(sink))
	{
		ks_sink_check_key(sink, rel, false);
		if (alteration->triggers)
			ks_sink_check_triggers(sink, rel);
	}
	error_context_stack = callback.previous;
}

/* See ddl_sink.h. */
void
ks_sink_check(KsSinkRow *sink)
{
	const KsAlteration nothing = {0};
	Relation	rel;

	if (sink->kind == KS_SINK_STREAM)
		return;
	rel = relation_open(sink->relation, AccessShareLock);
	check_sink(sink, rel, &nothing);
	relation_close(rel, NoLock);
}

/* Gives a part the owner of what is published. */
static void
carry_owner(Oid part, Oid owner)
{
	Relation	rel;
	Oid			old;

	if (!OidIsValid(part) || get_rel_relkind(part) == '\0')
		return;
	rel = relation_open(part, AccessShareLock);
	old = rel->rd_rel->relowner;
	relation_close(rel, AccessShareLock);
	if (old != owner)
		ATExecChangeOwner(part, owner, true, ShareUpdateExclusiveLock);
}

/* See ddl_sink.h. */
void
ks_check_published(Oid relation, const KsAlteration *alteration)
{
	Relation	rel = relation_open(relation, AccessShareLock);
	ListCell   *lc;

	foreach(lc, ks_sinks_of_relation(relation))
	{
		KsSinkRow  *sink = lfirst(lc);

		if (sink->kind != KS_SINK_STREAM)
			check_sink(sink, rel, alteration);
		for (int i = 0; i < 2; i++)
		{
			carry_owner(sink->halves[i].rows, rel->rd_rel->relowner);
			carry_owner(sink->halves[i].segments, rel->rd_rel->relowner);
		}
		if (sink->target != relation)
			carry_owner(sink->target, rel->rd_rel->relowner);
	}
	relation_close(rel, NoLock);
}

/* ---------------------------------------------------------------- looking at it */

/* See ddl_sink.h. */
KsStreamDef *
ks_sink_target(const KsSinkRow *sink)
{
	return ks_stream_def_of(sink->target);
}

/* See ddl_sink.h. */
void
ks_explain_sink(StringInfo buf, const KsSinkRow *sink)
{
	KsStreamDef *def = ks_sink_target(sink);

	if (buf->len > 0)
		appendStringInfoChar(buf, '\n');
	appendStringInfo(buf, "Sink: %s %s to topic %s (server %s), %s\n",
					 sink->kind == KS_SINK_STREAM ? "records inserted into" : "changes of",
					 ks_qualified_name(sink->relation), def->topic,
					 GetForeignServer(def->serverid)->servername,
					 sink->exactly_once ? "exactly once" : "at least once");
	if (sink->kind == KS_SINK_STREAM)
	{
		appendStringInfo(buf, "Format: %s", ks_format_name(def->format));
		return;
	}
	appendStringInfo(buf, "Key: %s, format %s\n",
					 sink->key_columns == NIL ? "none" : ks_identifier_list(sink->key_columns),
					 ks_key_format_name(def->key_format));
	if (sink->headers != NULL)
		appendStringInfo(buf, "Headers: %s\n", sink->headers);
	appendStringInfo(buf, "Captured by: %s\n",
					 ks_query_load_by_relation(sink->relation) != NULL ? "the query that writes the table" :
					 "triggers of the table, in the transaction of the change");
	appendStringInfo(buf, "Format: %s, envelope %s", ks_format_name(def->format),
					 sink->debezium ? "debezium" : "upsert");
}
