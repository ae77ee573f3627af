/*
 * ddl_table.c
 *		kstream.create_table and create_global_table: a table that follows a topic.
 *
 * One column list makes two relations: the ordinary table, and the hidden
 * stream it is read from (kstream_query.src_<id>), which has the columns' paths,
 * NOT NULL and CHECK constraints, so that a record that breaks them becomes a
 * dead letter.  Both are created as the caller; the stream is moved to our schema
 * and made an internal part of the table.
 *
 * Runs in: any backend.  Transaction: needed.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type_d.h"
#include "commands/tablecmds.h"
#include "fmgr.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "catalog/cat_util.h"
#include "catalog/stream_def.h"
#include "sql/ddl_event.h"
#include "sql/ddl_util.h"
#include "store/guard.h"
#include "worker/wakeup.h"

/* Arguments of create_table, in the order of the SQL declaration. */
enum
{
	ARG_NAME,
	ARG_COLUMNS,
	ARG_TOPIC,
	ARG_FORMAT,
	ARG_KEY_FORMAT,
	ARG_TIMESTAMP,
	ARG_SERVER,
	ARG_VERSION_COLUMN,
	ARG_PARTITIONS,
	ARG_OPTIONS
};

/* The columns of the PRIMARY KEY among the elements of a table, NIL if none. */
static List *
primary_key_columns(List *elements)
{
	List	   *columns = NIL;
	ListCell   *lc;

	foreach(lc, elements)
	{
		if (IsA(lfirst(lc), ColumnDef))
		{
			ColumnDef  *column = lfirst_node(ColumnDef, lc);
			ListCell   *lc2;

			foreach(lc2, column->constraints)
			{
				if (lfirst_node(Constraint, lc2)->contype == CONSTR_PRIMARY)
					columns = lappend(columns, column->colname);
			}
		}
		else if (IsA(lfirst(lc), Constraint) &&
				 lfirst_node(Constraint, lc)->contype == CONSTR_PRIMARY)
		{
			ListCell   *lc2;

			foreach(lc2, lfirst_node(Constraint, lc)->keys)
				columns = lappend(columns, strVal(lfirst(lc2)));
		}
	}
	return columns;
}

/* Refuses what a table filled from records cannot have. */
static void
check_column(const ColumnDef *column)
{
	static const char *const serials[] = {
		"smallserial", "serial2", "serial", "serial4", "bigserial", "serial8"
	};
	ListCell   *lc;

	for (int i = KS_META_KEY; i < KS_NUM_META; i++)
	{
		if (strcmp(column->colname, ks_meta_name((KsMetaColumn) i)) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_RESERVED_NAME),
					 errmsg("column name \"%s\" is reserved", column->colname),
					 errhint("Give the column another name; the option path says which field it is read from.")));
	}
	for (int i = 0; i < lengthof(serials); i++)
	{
		if (column->typeName && list_length(column->typeName->names) == 1 &&
			strcmp(strVal(linitial(column->typeName->names)), serials[i]) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("column \"%s\" cannot be of type %s", column->colname, serials[i]),
					 errhint("All values come from the records; declare it as an integer.")));
	}
	foreach(lc, column->constraints)
	{
		Constraint *constraint = lfirst_node(Constraint, lc);

		if (constraint->contype == CONSTR_GENERATED || constraint->contype == CONSTR_IDENTITY)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("column \"%s\" cannot be generated", column->colname),
					 errhint("All values come from the records; compute it in a view over the table.")));
	}
}

/* The elements of the ordinary table: without the options of foreign columns. */
static List *
table_elements(List *elements)
{
	List	   *result = copyObject(elements);
	ListCell   *lc;

	foreach(lc, result)
	{
		if (IsA(lfirst(lc), ColumnDef))
			lfirst_node(ColumnDef, lc)->fdwoptions = NIL;
	}
	return result;
}

/* The constraints that records are checked against. */
static List *
record_constraints(List *constraints, bool in_key)
{
	List	   *result = NIL;
	bool		notnull = false;
	ListCell   *lc;

	foreach(lc, constraints)
	{
		Constraint *constraint = lfirst_node(Constraint, lc);

		if (constraint->contype == CONSTR_NOTNULL || constraint->contype == CONSTR_CHECK)
			result = lappend(result, constraint);
		notnull |= constraint->contype == CONSTR_NOTNULL;
	}
	if (in_key && !notnull)
	{
		Constraint *constraint = makeNode(Constraint);

		constraint->contype = CONSTR_NOTNULL;
		constraint->initially_valid = true;
		constraint->location = -1;
		result = lappend(result, constraint);
	}
	return result;
}

/* The elements of the hidden stream: columns, what checks records, metadata. */
static List *
source_elements(List *elements, List *keys)
{
	List	   *copy = copyObject(elements);
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, copy)
	{
		if (IsA(lfirst(lc), ColumnDef))
		{
			ColumnDef  *column = lfirst_node(ColumnDef, lc);

			column->constraints = record_constraints(column->constraints, ks_names_contain(keys, column->colname));
			result = lappend(result, column);
		}
		else if (IsA(lfirst(lc), Constraint))
			result = list_concat(result, record_constraints(list_make1(lfirst(lc)), false));
	}
	return ks_add_metadata_columns(result, true);
}

/* Creates the table as the caller; its Oid. */
static Oid
create_relation(RangeVar *name, List *elements, const char *source)
{
	CreateStmt *stmt = makeNode(CreateStmt);

	stmt->relation = name;
	stmt->tableElts = table_elements(elements);
	stmt->oncommit = ONCOMMIT_NOOP;
	ks_run_utility((Node *) stmt, source);
	return RangeVarGetRelid(name, NoLock, false);
}

/*
 * Creates the hidden stream as the caller, under the name the table will have so
 * that constraints are named after it; then renames it and moves it away.
 */
static Oid
create_source(CreateForeignTableStmt *stmt, RangeVar *name, int32 id, const char *source)
{
	Oid			relid;

	stmt->base.relation = name;
	ks_event_trigger_enable(false);
	PG_TRY();
	{
		ks_run_utility((Node *) stmt, source);
	}
	PG_FINALLY();
	{
		ks_event_trigger_enable(true);
	}
	PG_END_TRY();
	relid = RangeVarGetRelid(name, NoLock, false);
	RenameRelationInternal(relid, psprintf("src_%d", id), true, false);
	CommandCounterIncrement();
	ks_move_to_schema(relid, "kstream_query");
	return relid;
}

/* The options of the hidden stream. */
static List *
source_options(FunctionCallInfo fcinfo, const char *topic, List *keys)
{
	List	   *options = ks_add_option(NIL, "topic", topic);
	char	   *key_format = ks_arg_text(fcinfo, ARG_KEY_FORMAT);

	options = ks_add_option(options, "format", ks_arg_text(fcinfo, ARG_FORMAT));
	options = ks_add_option(options, "key", ks_identifier_list(keys));
	if (key_format == NULL)
		key_format = list_length(keys) > 1 ? "json" : "text";
	else if (list_length(keys) > 1 && strcmp(key_format, "json") != 0 && strcmp(key_format, "none") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a primary key of %d columns cannot be read from a record key of format \"%s\"",
						list_length(keys), key_format),
				 errhint("Use key_format => 'json', or 'none' if the key columns are in the value.")));
	options = ks_add_option(options, "key_format", key_format);
	options = ks_add_option(options, "timestamp", ks_arg_text(fcinfo, ARG_TIMESTAMP));
	if (!PG_ARGISNULL(ARG_PARTITIONS))
		options = ks_add_option(options, "partitions",
								psprintf("%d", PG_GETARG_INT32(ARG_PARTITIONS)));
	return ks_add_jsonb_options(options, fcinfo, ARG_OPTIONS);
}

/* The version column must be one, and its values must have an order. */
static void
check_version_column(Oid relid, const char *name)
{
	AttrNumber	attnum = get_attnum(relid, name);

	if (attnum <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("version column \"%s\" of table \"%s\" does not exist",
						name, get_rel_name(relid)),
				 errhint("Name a column of the table whose greatest value is the newest version of a row.")));
	if (!OidIsValid(lookup_type_cache(get_atttype(relid, attnum), TYPECACHE_CMP_PROC)->cmp_proc))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("values of version column \"%s\" have no order", name),
				 errhint("Use a column of a type that can be sorted, e.g. bigint or timestamptz.")));
}

/* What both functions do. */
static Oid
create_table(FunctionCallInfo fcinfo, KsQueryKind kind)
{
	RangeVar   *name = ks_parse_new_name(ks_arg_required(fcinfo, ARG_NAME, "name"));
	char	   *server = ks_choose_server(PG_ARGISNULL(ARG_SERVER) ? NULL :
										  NameStr(*PG_GETARG_NAME(ARG_SERVER)));
	char	   *topic = ks_arg_text(fcinfo, ARG_TOPIC);
	KsUserText	columns = {.text = ks_arg_required(fcinfo, ARG_COLUMNS, "columns")};
	CreateForeignTableStmt *stmt = ks_parse_columns(&columns);
	List	   *elements;
	KsQueryRow	row = {.retention_us = -1,.idle_timeout_us = USECS_PER_MINUTE};
	ListCell   *lc;

	if (ks_server_is_local(server))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a table cannot follow a local log yet"),
				 errhint("Create a server for a Kafka cluster, or create a local stream and a query that groups it by key.")));
	if (topic == NULL)
		topic = name->relname;
	row.key_columns = primary_key_columns(stmt->base.tableElts);
	if (row.key_columns == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				 errmsg("table \"%s\" has no primary key", name->relname),
				 errdetail("The primary key of such a table is the key of the records."),
				 errhint("Declare one, e.g. columns => 'id bigint PRIMARY KEY, name text'.")));
	foreach(lc, stmt->base.tableElts)
	{
		if (IsA(lfirst(lc), TableLikeClause))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("LIKE is not supported in the columns of a table that follows a topic"),
					 errhint("List the columns.")));
		if (IsA(lfirst(lc), ColumnDef))
			check_column(lfirst_node(ColumnDef, lc));
	}

	row.id = ks_object_id_next();
	row.kind = kind;
	ks_user_text_begin(&columns);
	elements = stmt->base.tableElts;
	stmt->base.tableElts = source_elements(elements, row.key_columns);
	stmt->servername = server;
	stmt->options = source_options(fcinfo, topic, row.key_columns);
	row.source = create_source(stmt, name, row.id, columns.source);
	row.relation = create_relation(name, elements, columns.source);
	ks_user_text_end(&columns);

	ks_check_stream(row.source);
	row.version_column = ks_arg_text(fcinfo, ARG_VERSION_COLUMN);
	if (row.version_column)
		check_version_column(row.relation, row.version_column);
	row.start = "earliest";
	row.batch_interval_ms = -1;
	row.settings = ks_pinned_settings();
	row.generation = 1;
	ks_guard_install(row.relation);
	ks_depend_internally(row.source, row.relation);
	ks_query_insert(&row);
	ks_notify_definitions_changed();
	ks_warn_not_preloaded(row.relation);
	if (!PG_ARGISNULL(ARG_PARTITIONS))
		ks_ensure_topic(server, topic, PG_GETARG_INT32(ARG_PARTITIONS));
	return row.relation;
}

PG_FUNCTION_INFO_V1(ks_create_table);

/* create_table(name, columns, ...): the table. */
Datum
ks_create_table(PG_FUNCTION_ARGS)
{
	PG_RETURN_OID(create_table(fcinfo, KS_QUERY_TABLE));
}

PG_FUNCTION_INFO_V1(ks_create_global_table);

/* create_global_table(name, columns, ...): the table. */
Datum
ks_create_global_table(PG_FUNCTION_ARGS)
{
	PG_RETURN_OID(create_table(fcinfo, KS_QUERY_GLOBAL_TABLE));
}
