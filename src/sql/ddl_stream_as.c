/*
 * ddl_stream_as.c
 *		kstream.create_stream_as and insert_into: streams that queries feed.
 *
 * create_stream_as makes a stream with the columns of its query, and the query
 * that feeds it; insert_into adds one more query to a stream there is, which
 * merges them.  As with create_table_as, the query is stored as a view that is
 * dropped with the stream; that of create_stream_as is an internal part of it, so
 * that what drops the query drops the stream, too.
 *
 * Runs in: any backend.  Transaction: needed.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type_d.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "catalog/stream_def.h"
#include "plan/compile.h"
#include "sql/ddl_query.h"
#include "sql/ddl_util.h"
#include "sql/query_options.h"
#include "store/position.h"
#include "stream/local_log.h"
#include "stream/out_record.h"
#include "stream/outbox.h"
#include "worker/wakeup.h"

/* Arguments of create_stream_as, in the order of the SQL declaration. */
enum
{
	ARG_NAME,
	ARG_QUERY,
	ARG_TOPIC,
	ARG_KEY,
	ARG_FORMAT,
	ARG_SERVER,
	ARG_PARTITIONS,
	ARG_OPTIONS_FIRST,
	ARG_KEY_FORMAT = ARG_OPTIONS_FIRST + 13
};

/* Arguments of insert_into. */
enum
{
	INSERT_STREAM,
	INSERT_QUERY,
	INSERT_NAME,
	INSERT_OPTIONS_FIRST
};

/* Options that make no sense for rows that do not change. */
static void
refuse_table_options(const KsQueryRow *row, const KsQueryOptions *options)
{
	if (row->emit_final)
		ks_refuse_argument("emit => 'final'",
						   "Leave it out; only windows come to an end, and they need kstream.create_table_as, which has an argument topic.");
	if (row->retention_us >= 0)
		ks_refuse_argument("retention", "Leave it out; records do not leave a stream by their event time.");
	if (options->access_method != NULL)
		ks_refuse_argument("store", "Leave it out; a stream's records are in its log.");
	if (options->keep_changes != NULL)
		ks_refuse_argument("keep_changes", "Leave it out; the records of a stream are its changes.");
}

/* Is the name one of the columns that every stream has? */
static bool
is_meta_name(const char *name)
{
	for (int i = 0; i < KS_NUM_META; i++)
	{
		if (strcmp(name, ks_meta_name((KsMetaColumn) i)) == 0)
			return true;
	}
	return false;
}

/* Column definitions for what the query gives, metadata left out. */
static List *
query_columns(Oid view)
{
	Relation	rel = table_open(view, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	List	   *columns = NIL;

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (!is_meta_name(NameStr(att->attname)))
			columns = lappend(columns, makeColumnDef(NameStr(att->attname), att->atttypid,
													 att->atttypmod, att->attcollation));
	}
	table_close(rel, NoLock);
	if (columns == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				 errmsg("the query has no column of its own"),
				 errhint("Select at least one column that is not metadata of a record.")));
	return columns;
}

/* The options of the foreign table. */
static List *
stream_options(FunctionCallInfo fcinfo, KsAnalysis *analysis, const char *topic, bool local,
			   const KsQueryOptions *options)
{
	char	   *key = ks_arg_text(fcinfo, ARG_KEY);
	char	   *key_format = ks_arg_text(fcinfo, ARG_KEY_FORMAT);
	List	   *result = NIL;

	if (!local || !PG_ARGISNULL(ARG_TOPIC))
		result = ks_add_option(result, "topic", topic);
	result = ks_add_option(result, "format", ks_arg_text(fcinfo, ARG_FORMAT));
	result = ks_add_option(result, "key", key);
	/* a key that is carried over keeps its format */
	if (key == NULL && key_format == NULL && list_length(analysis->streams) == 1 && analysis->join == NULL)
		key_format = pstrdup(ks_key_format_name(ks_stream_def_of(linitial_oid(analysis->streams))->key_format));
	result = ks_add_option(result, "key_format", key_format);
	if (!local && options->at_least_once)
		result = ks_add_option(result, "guarantee", "at_least_once");
	return result;
}

/* Creates the foreign table as the caller, with its log or topic and outbox. */
static Oid
create_stream(FunctionCallInfo fcinfo, RangeVar *name, Oid view, KsAnalysis *analysis,
			  const KsQueryOptions *options)
{
	char	   *server = ks_choose_server(PG_ARGISNULL(ARG_SERVER) ? NULL :
										  NameStr(*PG_GETARG_NAME(ARG_SERVER)));
	bool		local = ks_server_is_local(server);
	char	   *topic = ks_arg_text(fcinfo, ARG_TOPIC);
	int			partitions = PG_ARGISNULL(ARG_PARTITIONS) ? ks_input_partitions(analysis->streams) :
		PG_GETARG_INT32(ARG_PARTITIONS);
	CreateForeignTableStmt *stmt = makeNode(CreateForeignTableStmt);
	Oid			relid;

	if (topic == NULL)
		topic = name->relname;
	stmt->base.relation = name;
	stmt->base.tableElts = ks_add_metadata_columns(query_columns(view), false);
	stmt->base.oncommit = ONCOMMIT_NOOP;
	stmt->servername = server;
	stmt->options = stream_options(fcinfo, analysis, topic, local, options);
	stmt->options = ks_add_option(stmt->options, "partitions", psprintf("%d", partitions));
	ks_run_utility((Node *) stmt, ks_arg_text(fcinfo, ARG_QUERY));
	relid = RangeVarGetRelid(name, NoLock, false);
	ks_check_stream(relid);
	if (local)
		ks_local_log_create(relid, partitions);
	else
	{
		ks_ensure_topic(server, topic, partitions);
		(void) ks_outbox_of_stream(ks_stream_def_of(relid));
	}
	return relid;
}

/* Stores the query that feeds the stream. */
static void
store_query(KsQueryRow *row, KsAnalysis *analysis)
{
	row->kind = KS_QUERY_STREAM;
	row->generation = 1;
	SPI_connect();
	ks_create_state(analysis, row, NIL);
	SPI_finish();
	(void) ks_compile_stream(analysis, row);
	if (row->name == NULL)
		ks_depend_internally(row->view, row->relation);
	else
		ks_depend_automatically(row->view, row->relation);
	ks_query_insert(row);
	ks_positions_start(row, analysis->streams);
	ks_notify_definitions_changed();
	ks_warn_not_preloaded(row->relation);
}

PG_FUNCTION_INFO_V1(ks_create_stream_as);

/* create_stream_as(name, query, ...): the stream. */
Datum
ks_create_stream_as(PG_FUNCTION_ARGS)
{
	RangeVar   *name = ks_parse_new_name(ks_arg_required(fcinfo, ARG_NAME, "name"));
	KsUserText	query = {.text = ks_arg_required(fcinfo, ARG_QUERY, "query")};
	KsQueryOptions options = {0};
	KsQueryRow	row = {0};
	KsAnalysis *analysis;

	ks_read_query_options(fcinfo, ARG_OPTIONS_FIRST, &row, &options);
	refuse_table_options(&row, &options);
	row.id = ks_object_id_next();
	row.view = ks_create_query_view(&query, row.id, name->schemaname, false);
	analysis = ks_analyze_view(row.view);
	ks_check_query_rights(row.view, analysis);
	row.relation = create_stream(fcinfo, name, row.view, analysis, &options);
	store_query(&row, analysis);
	PG_RETURN_OID(row.relation);
}

/* A query may not read what it writes, through other queries as well. */
static void
check_no_loop(Oid stream, List *streams, int depth)
{
	ListCell   *lc;

	check_stack_depth();
	if (list_member_oid(streams, stream))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_RECURSION),
				 errmsg("the query reads the stream that it feeds, \"%s\"", get_rel_name(stream)),
				 errhint("Its records would go round for ever.")));
	foreach(lc, streams)
	{
		ListCell   *lq;

		foreach(lq, ks_query_feeders(lfirst_oid(lc)))
		{
			KsQueryRow *row = ks_query_load(lfirst_int(lq));

			if (row != NULL && OidIsValid(row->view))
				check_no_loop(stream, ks_analyze_view(row->view)->streams, depth + 1);
		}
	}
}

/* The name of the query: given, or made of the stream's. */
static char *
choose_name(FunctionCallInfo fcinfo, Oid stream, int32 id)
{
	char	   *name = ks_arg_text(fcinfo, INSERT_NAME);

	if (name == NULL)
		return psprintf("%s_%d", get_rel_name(stream), id);
	if (name[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("the name of a query must not be empty")));
	if (ks_query_load_by_name(name) != NULL || ks_sink_load_by_name(name) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("query or sink \"%s\" already exists", name)));
	return name;
}

PG_FUNCTION_INFO_V1(ks_insert_into);

/* insert_into(stream, query, name, ...): the name of the query. */
Datum
ks_insert_into(PG_FUNCTION_ARGS)
{
	Oid			stream = PG_ARGISNULL(INSERT_STREAM) ? InvalidOid : PG_GETARG_OID(INSERT_STREAM);
	KsUserText	query = {.text = ks_arg_required(fcinfo, INSERT_QUERY, "query")};
	KsQueryOptions options = {0};
	KsQueryRow	row = {0};
	KsAnalysis *analysis;
	KsStreamDef *def;

	if (!OidIsValid(stream))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"stream\" must not be null")));
	if (!ks_is_stream(stream))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a stream", get_rel_name(stream)),
				 errhint("The view kstream.streams lists the streams.")));
	ks_relation_check_owner(stream);
	def = ks_stream_def_of(stream);
	ks_read_query_options(fcinfo, INSERT_OPTIONS_FIRST, &row, &options);
	refuse_table_options(&row, &options);
	if (options.at_least_once != def->at_least_once)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("stream %s is produced %s", def->relname,
						def->at_least_once ? "at least once" : "exactly once"),
				 errhint("All queries that feed a stream have the guarantee of the stream.")));
	row.id = ks_object_id_next();
	row.name = choose_name(fcinfo, stream, row.id);
	row.view = ks_create_query_view(&query, row.id, get_namespace_name(get_rel_namespace(stream)), true);
	analysis = ks_analyze_view(row.view);
	ks_check_query_rights(row.view, analysis);
	check_no_loop(stream, analysis->streams, 0);
	row.relation = stream;
	if (!def->local)
	{
		/* can its rows be written at all? */
		(void) ks_out_encoder_create(def);
		(void) ks_outbox_of_stream(def);
	}
	store_query(&row, analysis);
	PG_RETURN_TEXT_P(cstring_to_text(row.name));
}

PG_FUNCTION_INFO_V1(ks_drop_query);

/* drop_query(name): removes a query made by insert_into; the stream stays. */
Datum
ks_drop_query(PG_FUNCTION_ARGS)
{
	char	   *name = ks_arg_required(fcinfo, 0, "name");
	KsQueryRow *row = ks_query_load_by_name(name);
	ObjectAddress view;

	if (row == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("query \"%s\" does not exist", name),
				 errhint("Queries made by kstream.insert_into are dropped by name; others go with DROP TABLE or DROP FOREIGN TABLE.")));
	ks_query_check_owner(row);
	ks_query_take_over(row->id);
	ks_query_delete(row->id);
	ObjectAddressSet(view, RelationRelationId, row->view);
	performDeletion(&view, DROP_RESTRICT, PERFORM_DELETION_INTERNAL);
	ks_notify_definitions_changed();
	PG_RETURN_VOID();
}
