/*
 * ddl_query.c
 *		kstream.create_table_as: a table that a continuous query keeps up to date.
 *
 * The query text becomes a view (kstream_query.q_<id>), so that Postgres itself
 * analyses it, tracks what it depends on, and dumps it.  View and table are
 * created as the caller; the view is then moved to our schema and made an
 * internal part of the table.
 *
 * Runs in: any backend.  Transaction: needed.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/defrem.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/analyze.h"
#include "parser/parse_relation.h"
#include "parser/parser.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "catalog/stream_def.h"
#include "plan/analyze.h"
#include "plan/join.h"
#include "sql/changes.h"
#include "sql/ddl_query.h"
#include "sql/ddl_sink.h"
#include "sql/ddl_util.h"
#include "sql/query_options.h"
#include "store/changelog.h"
#include "store/guard.h"
#include "store/position.h"
#include "worker/wakeup.h"

/* Arguments of create_table_as, in the order of the SQL declaration. */
enum
{
	ARG_NAME,
	ARG_QUERY,
	ARG_PRIMARY_KEY,
	ARG_TOPIC,
	ARG_KEY_FORMAT,
	ARG_FORMAT,
	ARG_SERVER,
	ARG_OPTIONS_FIRST
};

/* Refuses options that make no sense without a topic, and those that this version cannot keep. */
static void
check_arguments(FunctionCallInfo fcinfo, const KsQueryOptions *options)
{
	static const struct
	{
		int			arg;
		const char *name;
	}			of_topic[] = {
		{ARG_KEY_FORMAT, "key_format"},
		{ARG_FORMAT, "format"},
		{ARG_SERVER, "server"},
	};

	for (int i = 0; PG_ARGISNULL(ARG_TOPIC) && i < lengthof(of_topic); i++)
	{
		if (!PG_ARGISNULL(of_topic[i].arg))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("argument \"%s\" needs a topic", of_topic[i].name),
					 errhint("Name the topic that the changes of the table are published to, or leave the argument out.")));
	}
}

/* Publishes the changes of the result to a topic, from the first row on. */
static void
publish_result(FunctionCallInfo fcinfo, const KsQueryRow *row, KsAnalysis *analysis,
			   const KsQueryOptions *options)
{
	KsSinkRow	sink = {.kind = KS_SINK_TABLE,.relation = row->relation};
	KsSinkPlan	plan = {.topic = ks_arg_text(fcinfo, ARG_TOPIC)};

	if (plan.topic == NULL)
		return;
	if (row->kind == KS_QUERY_AGGREGATE && row->key_columns == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("an aggregate without GROUP BY has no key to be published with"),
				 errhint("Group by a constant column of the input, or publish it with kstream.create_sink and envelope => 'debezium'.")));
	plan.server = ks_choose_server(PG_ARGISNULL(ARG_SERVER) ? NULL : NameStr(*PG_GETARG_NAME(ARG_SERVER)));
	plan.format = PG_ARGISNULL(ARG_FORMAT) ? "json" : ks_arg_text(fcinfo, ARG_FORMAT);
	plan.key_format = ks_arg_text(fcinfo, ARG_KEY_FORMAT);
	if (!ks_server_is_local(plan.server))
		plan.partitions = ks_input_partitions(analysis->streams);
	sink.key_columns = plan.key_format != NULL && strcmp(plan.key_format, "none") == 0 ? NIL : row->key_columns;
	sink.exactly_once = !options->at_least_once;
	if (sink.key_columns == NIL && row->key_columns != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("rows with a key cannot be published with key_format \"none\""),
				 errhint("Use another key format; without a key nothing could say that a row has changed.")));
	ks_sink_create(&sink, &plan, row);
}

/*
 * Parses the query: one SELECT, over nothing temporary.  *analyzed: what
 * Postgres makes of it.
 */
static Node *
parse_query(KsUserText *text, Query **analyzed)
{
	List	   *parsed;
	RawStmt    *raw;

	text->source = text->text;
	ks_user_text_begin(text);
	parsed = raw_parser(text->source, RAW_PARSE_DEFAULT);
	raw = list_length(parsed) == 1 ? linitial_node(RawStmt, parsed) : NULL;
	if (raw == NULL || !IsA(raw->stmt, SelectStmt) || ((SelectStmt *) raw->stmt)->intoClause)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a continuous query is one SELECT"),
				 errhint("Give the text of one SELECT statement without INTO.")));
	*analyzed = parse_analyze_fixedparams(copyObject(raw), text->source, NULL, 0, NULL);
	if (isQueryUsingTempRelation(*analyzed))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a continuous query cannot use temporary tables"),
				 errhint("Use a permanent table.")));
	ks_user_text_end(text);
	return raw->stmt;
}

/*
 * Names for columns that go by their position, so that they need none of their
 * own; those called like metadata of a record keep theirs.
 */
static List *
positional_names(Query *query)
{
	List	   *names = NIL;
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);
		char	   *name = psprintf("column%d", tle->resno);

		if (tle->resjunk)
			continue;
		for (int i = 0; i < KS_NUM_META; i++)
		{
			if (strcmp(tle->resname, ks_meta_name((KsMetaColumn) i)) == 0)
				name = tle->resname;
		}
		names = lappend(names, makeString(name));
	}
	return names;
}

/* See ddl_query.h. */
Oid
ks_create_query_view(KsUserText *text, int32 id, const char *schema, bool positional)
{
	ViewStmt   *stmt = makeNode(ViewStmt);
	Query	   *analyzed;
	Oid			relid;

	stmt->query = parse_query(text, &analyzed);
	if (positional)
		stmt->aliases = positional_names(analyzed);
	stmt->view = makeRangeVar(pstrdup(schema), psprintf("q_%d", id), -1);
	stmt->withCheckOption = NO_CHECK_OPTION;
	ks_user_text_begin(text);
	ks_run_utility((Node *) stmt, text->source);
	ks_user_text_end(text);

	relid = RangeVarGetRelid(stmt->view, NoLock, false);
	ks_move_to_schema(relid, "kstream_query");
	return relid;
}

/* Runs SQL as the caller, under their settings. */
static void
execute_as_caller(const char *sql)
{
	int			rc;

	SPI_connect();
	rc = SPI_execute(sql, false, 0);
	if (rc < 0)
		elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(rc));
	SPI_finish();
}

/* See ddl_query.h. */
void
ks_check_query_rights(Oid view, const KsAnalysis *analysis)
{
	execute_as_caller(psprintf("EXPLAIN (COSTS OFF) SELECT * FROM %s", ks_qualified_name(view)));
	if (analysis->join == NULL)
		return;
	ks_join_check_rights(analysis->join);
	ks_join_warn_of_bounds(analysis->join);
}

/* Creates the result table, empty, as the caller. */
static Oid
create_result(RangeVar *name, Oid view, const KsAnalysis *analysis, const char *access_method)
{
	const char *using = "";

	ks_check_query_rights(view, analysis);
	if (access_method)
		using = psprintf(" USING %s", quote_identifier(access_method));
	execute_as_caller(psprintf("CREATE TABLE %s%s AS SELECT * FROM %s WITH NO DATA",
							   quote_qualified_identifier(name->schemaname, name->relname),
							   using, ks_qualified_name(view)));
	return RangeVarGetRelid(name, NoLock, false);
}

/* Columns of the primary key must be there; those of an aggregate are checked against its groups. */
static void
check_primary_key(const KsQueryRow *row, List *primary_key)
{
	ListCell   *lc;

	foreach(lc, primary_key)
	{
		if (row->kind != KS_QUERY_AGGREGATE && get_attnum(row->view, lfirst(lc)) == InvalidAttrNumber)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("primary key column \"%s\" is not a column of the query", (char *) lfirst(lc)),
					 errhint("Name columns of the select list in primary_key.")));
	}
}

/*
 * Creates changelog, key, state and kept inputs of the result, and makes all one
 * unit.  The changelog comes first: it holds the row that a global aggregate
 * begins with.
 */
static void
complete_result(KsAnalysis *analysis, KsQueryRow *row, List *primary_key, Interval *keep_changes)
{
	if (keep_changes != NULL)
		ks_changelog_start(row->relation, keep_changes);
	SPI_connect();
	ks_create_state(analysis, row, primary_key);
	SPI_finish();
	CommandCounterIncrement();
	ks_guard_install(row->relation);
	ks_depend_internally(row->view, row->relation);
}

PG_FUNCTION_INFO_V1(ks_create_table_as);

/* create_table_as(name, query, ...): the table. */
Datum
ks_create_table_as(PG_FUNCTION_ARGS)
{
	RangeVar   *name = ks_parse_new_name(ks_arg_required(fcinfo, ARG_NAME, "name"));
	KsUserText	query = {.text = ks_arg_required(fcinfo, ARG_QUERY, "query")};
	List	   *primary_key = ks_arg_text_array(fcinfo, ARG_PRIMARY_KEY, "primary_key");
	KsQueryOptions options = {0};
	KsQueryRow	row = {0};
	KsAnalysis *analysis;

	ks_read_query_options(fcinfo, ARG_OPTIONS_FIRST, &row, &options);
	check_arguments(fcinfo, &options);
	if (options.keep_changes != NULL)
		ks_check_keep(options.keep_changes);
	row.id = ks_object_id_next();
	row.view = ks_create_query_view(&query, row.id, name->schemaname, false);
	analysis = ks_analyze_view(row.view);
	row.kind = analysis->kind;
	check_primary_key(&row, primary_key);
	row.relation = create_result(name, row.view, analysis, options.access_method);
	row.generation = 1;
	complete_result(analysis, &row, primary_key, options.keep_changes);
	ks_query_insert(&row);
	ks_positions_start(&row, analysis->streams);
	publish_result(fcinfo, &row, analysis, &options);
	ks_notify_definitions_changed();
	ks_warn_not_preloaded(row.relation);
	PG_RETURN_OID(row.relation);
}
