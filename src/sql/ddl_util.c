/*
 * ddl_util.c
 *		What the functions that create streams, tables and queries share.
 *
 * Runs in: any backend.  Transaction: needed.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type_d.h"
#include "commands/defrem.h"
#include "common/int.h"
#include "executor/spi.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parser.h"
#include "tcop/utility.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/rel.h"
#include "utils/varlena.h"

#include "base/guc.h"
#include "catalog/stream_def.h"
#include "format/decode.h"
#include "kafka/consumer.h"
#include "sql/ddl_util.h"
#include "stream/local_log.h"
#include "worker/wakeup.h"

#define KS_WRAPPER "kstream"
#define KS_LOCAL_SERVER "local"

/* Stands for the server's name while a list of columns is parsed. */
#define KS_PARSED_SERVER "kstream server"

/* How long a definition waits for the broker. */
/* A topic just created is looked for so often, with this pause, before it is given up. */
#define KS_TOPIC_VISIBLE_TRIES 50
#define KS_TOPIC_VISIBLE_MS 100
#define KS_TOPIC_TIMEOUT_MS 30000

/* Types of the metadata columns. */
static const Oid meta_types[KS_NUM_META] = {
	[KS_META_KEY] = TEXTOID,
	[KS_META_PARTITION] = INT4OID,
	[KS_META_OFFSET] = INT8OID,
	[KS_META_TIMESTAMP] = TIMESTAMPTZOID,
	[KS_META_HEADERS] = JSONBOID,
	[KS_META_STREAM_TIME] = TIMESTAMPTZOID,
	[KS_META_TOMBSTONE] = BOOLOID,
};

/*
 * Settings that the meaning of an expression depends on, beside search_path.
 * A query keeps the values its creator had.
 */
static const char *const pinned_settings[] = {
	"TimeZone", "timezone_abbreviations", "DateStyle", "IntervalStyle", "lc_monetary",
	"lc_numeric", "lc_time", "extra_float_digits", "bytea_output", "xmlbinary", "xmloption",
	"standard_conforming_strings", "backslash_quote", "array_nulls",
	"default_text_search_config", "row_security",
};

/* Turns the position of an error in the parsed text into one in the user's text. */
static void
user_text_error(void *arg)
{
	KsUserText *text = arg;
	int			position = geterrposition();

	if (position <= 0)
		return;
	errposition(0);
	internalerrquery(text->text);
	internalerrposition(Max(position - text->prefix, 1));
}

/* From here on errors point into the user's text. */
void
ks_user_text_begin(KsUserText *text)
{
	text->callback.callback = user_text_error;
	text->callback.arg = text;
	text->callback.previous = error_context_stack;
	error_context_stack = &text->callback;
}

/* The end of that. */
void
ks_user_text_end(KsUserText *text)
{
	error_context_stack = text->callback.previous;
}

/* A text argument as a string, NULL if it is null. */
char *
ks_arg_text(FunctionCallInfo fcinfo, int arg)
{
	return PG_ARGISNULL(arg) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(arg));
}

/* See ddl_util.h. */
void
ks_arg_check_given(FunctionCallInfo fcinfo, int arg, const char *name)
{
	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", name)));
}

/* A text argument that must not be null. */
char *
ks_arg_required(FunctionCallInfo fcinfo, int arg, const char *name)
{
	ks_arg_check_given(fcinfo, arg, name);
	return ks_arg_text(fcinfo, arg);
}

/* An interval argument in microseconds, days counting 24 hours; absent if it is null. */
int64
ks_arg_interval_us(FunctionCallInfo fcinfo, int arg, const char *name, int64 absent)
{
	Interval   *interval;
	int64		us;

	if (PG_ARGISNULL(arg))
		return absent;
	interval = PG_GETARG_INTERVAL_P(arg);
	if (interval->month != 0 ||
		pg_mul_s64_overflow(interval->day, USECS_PER_DAY, &us) ||
		pg_add_s64_overflow(us, interval->time, &us) || us < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" is out of range", name),
				 errhint("It is an interval of days and smaller units, not below zero.")));
	return us;
}

/* A text[] argument as a list of strings; NIL if it is null. */
List *
ks_arg_text_array(FunctionCallInfo fcinfo, int arg, const char *name)
{
	ArrayType  *array;
	Datum	   *elems;
	bool	   *nulls;
	int			nelems;
	List	   *result = NIL;

	if (PG_ARGISNULL(arg))
		return NIL;
	array = PG_GETARG_ARRAYTYPE_P(arg);
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elems, &nulls, &nelems);
	if (nelems == 0 || ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be a one-dimensional array that is not empty", name)));
	for (int i = 0; i < nelems; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("argument \"%s\" must not contain nulls", name)));
		result = lappend(result, TextDatumGetCString(elems[i]));
	}
	return result;
}

/* An argument of the contract that this version cannot keep. */
void
ks_refuse_argument(const char *name, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("argument \"%s\" is not supported yet", name),
			 errhint("%s", hint)));
}

/* The name of a relation to be created, its schema filled in; an error if it is taken. */
RangeVar *
ks_parse_new_name(const char *name)
{
	RangeVar   *rv = makeRangeVarFromNameList(textToQualifiedNameList(cstring_to_text(name)));
	Oid			schema = RangeVarGetCreationNamespace(rv);

	if (isAnyTempNamespace(schema))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("streams, tables and queries of kstream cannot be temporary"),
				 errhint("Name a schema that is not temporary.")));
	/* said here, so that the statements which create it need not, in words the user has not typed */
	if (OidIsValid(get_relname_relid(rv->relname, schema)))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_TABLE),
				 errmsg("relation \"%s\" already exists", rv->relname)));
	rv->catalogname = NULL;
	rv->schemaname = get_namespace_name(schema);
	return rv;
}

/* An existing relation, its name parsed as regclass does. */
Oid
ks_relation_by_name(const char *name)
{
	return DatumGetObjectId(DirectFunctionCall1(regclassin, CStringGetDatum(name)));
}

/* Identifiers, quoted where needed, with commas between. */
char *
ks_identifier_list(List *names)
{
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	foreach(lc, names)
		appendStringInfo(&buf, "%s%s", foreach_current_index(lc) > 0 ? ", " : "",
						 quote_identifier((char *) lfirst(lc)));
	return buf.data;
}

/*
 * Parses a column list as CREATE FOREIGN TABLE has it.  The caller fills in
 * relation, server and options.  text->text is given, the rest is set here;
 * error positions are translated between ks_user_text_begin and _end.
 */
CreateForeignTableStmt *
ks_parse_columns(KsUserText *text)
{
	static const char prefix[] = "CREATE FOREIGN TABLE x (\n";
	List	   *parsed;
	CreateForeignTableStmt *stmt;

	text->source = psprintf("%s%s\n) SERVER \"%s\"", prefix, text->text, KS_PARSED_SERVER);
	text->prefix = strlen(prefix);
	ks_user_text_begin(text);
	parsed = raw_parser(text->source, RAW_PARSE_DEFAULT);
	ks_user_text_end(text);

	stmt = list_length(parsed) == 1 ?
		(CreateForeignTableStmt *) linitial_node(RawStmt, parsed)->stmt : NULL;
	if (stmt == NULL || !IsA(stmt, CreateForeignTableStmt) ||
		strcmp(stmt->servername, KS_PARSED_SERVER) != 0 || stmt->options != NIL ||
		stmt->base.inhRelations != NIL || stmt->base.partbound != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("invalid list of columns"),
				 errdetail("The text is \"%s\".", text->text),
				 errhint("Give it as in CREATE TABLE, without the parentheses: columns => 'id bigint, name text'.")));
	return stmt;
}

/* Appends the metadata columns that the user's list does not have. */
List *
ks_add_metadata_columns(List *elements, bool tombstone)
{
	int			n = tombstone ? KS_NUM_META : KS_META_TOMBSTONE;

	for (int i = 0; i < n; i++)
	{
		const char *name = ks_meta_name((KsMetaColumn) i);
		bool		found = false;
		ListCell   *lc;

		foreach(lc, elements)
		{
			if (IsA(lfirst(lc), ColumnDef) &&
				strcmp(lfirst_node(ColumnDef, lc)->colname, name) == 0)
				found = true;
		}
		if (!found)
			elements = lappend(elements, makeColumnDef(name, meta_types[i], -1,
													   get_typcollation(meta_types[i])));
	}
	return elements;
}

/*
 * The metadata columns that a foreign table lacks, as text for ADD COLUMN.  An
 * error if a column with such a name has another type.
 */
List *
ks_missing_metadata_columns(Oid relid)
{
	List	   *missing = NIL;

	for (int i = 0; i < KS_META_TOMBSTONE; i++)
	{
		const char *name = ks_meta_name((KsMetaColumn) i);
		AttrNumber	attnum = get_attnum(relid, name);
		Oid			type;
		int32		typmod;
		Oid			collation;

		if (attnum == InvalidAttrNumber)
		{
			missing = lappend(missing, psprintf("%s %s", name, format_type_be(meta_types[i])));
			continue;
		}
		get_atttypetypmodcoll(relid, attnum, &type, &typmod, &collation);
		if (type != meta_types[i])
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_COLUMN_DEFINITION),
					 errmsg("column \"%s\" of stream \"%s\" must have type %s",
							name, get_rel_name(relid), format_type_be(meta_types[i])),
					 errdetail("Every stream has a column of this name, which tells about the record."),
					 errhint("Give your column another name; the option path says which field it is read from.")));
	}
	return missing;
}

/* Checks the whole definition of a stream: options, columns, formats. */
void
ks_check_stream(Oid relid)
{
	Relation	rel = relation_open(relid, AccessShareLock);

	if (ks_missing_metadata_columns(relid) != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				 errmsg("stream \"%s\" lacks column \"%s\"", RelationGetRelationName(rel),
						strtok(linitial(ks_missing_metadata_columns(relid)), " ")),
				 errhint("The columns that tell about the record cannot be dropped or renamed.")));
	ks_decoder_check(ks_stream_def_load(rel));
	relation_close(rel, NoLock);
}

/* Runs a utility statement as if the user had typed it. */
void
ks_run_utility(Node *stmt, const char *source)
{
	PlannedStmt *wrapper = makeNode(PlannedStmt);

	wrapper->commandType = CMD_UTILITY;
	wrapper->canSetTag = false;
	wrapper->utilityStmt = stmt;
	wrapper->stmt_location = -1;
	wrapper->stmt_len = 0;
	ProcessUtility(wrapper, source, false, PROCESS_UTILITY_QUERY, NULL, NULL,
				   None_Receiver, NULL);
	CommandCounterIncrement();
}

/* Moves a relation into one of our schemas, where its owner may not create. */
void
ks_move_to_schema(Oid relid, const char *schema)
{
	SPI_connect();
	ks_spi_execute(psprintf("ALTER TABLE %s SET SCHEMA %s", ks_qualified_name(relid),
							quote_identifier(schema)), false, 0, NULL, NULL, NULL);
	SPI_finish();
}

/* Records a dependency once only: what was restored is linked again by resume. */
void
ks_depend(Oid dependent, Oid on, DependencyType type)
{
	ObjectAddress part;
	ObjectAddress whole;

	ObjectAddressSet(part, RelationRelationId, dependent);
	ObjectAddressSet(whole, RelationRelationId, on);
	deleteDependencyRecordsForSpecific(RelationRelationId, dependent, type, RelationRelationId, on);
	recordDependencyOn(&part, &whole, type);
}

/* Makes a relation part of another: dropped with it, and not without it. */
void
ks_depend_internally(Oid dependent, Oid on)
{
	ks_depend(dependent, on, DEPENDENCY_INTERNAL);
}

/* Has a relation dropped with another, which stays when the first is dropped. */
void
ks_depend_automatically(Oid dependent, Oid on)
{
	ks_depend(dependent, on, DEPENDENCY_AUTO);
}

/* Names of the servers of our wrapper, the local one left out. */
static List *
kafka_servers(void)
{
	MemoryContext cxt = CurrentMemoryContext;
	List	   *names = NIL;

	SPI_connect();
	ks_spi_execute("SELECT s.srvname FROM pg_foreign_server s"
				   " JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw"
				   " WHERE w.fdwname = '" KS_WRAPPER "' AND s.srvname <> '" KS_LOCAL_SERVER "'"
				   " ORDER BY 1", true, 0, NULL, NULL, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(cxt);

		names = lappend(names, pstrdup(SPI_getvalue(SPI_tuptable->vals[i],
													SPI_tuptable->tupdesc, 1)));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return names;
}

/* The server of a new stream or table: see contract, "Set-up". */
char *
ks_choose_server(const char *given)
{
	List	   *names;

	if (given == NULL && ks_default_server && ks_default_server[0] != '\0')
		given = ks_default_server;
	if (given)
	{
		ForeignServer *server = GetForeignServerByName(given, false);

		if (strcmp(GetForeignDataWrapper(server->fdwid)->fdwname, KS_WRAPPER) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_WRONG_OBJECT_TYPE),
					 errmsg("server \"%s\" does not belong to wrapper \"%s\"", given, KS_WRAPPER),
					 errhint("Create one with CREATE SERVER ... FOREIGN DATA WRAPPER %s.", KS_WRAPPER)));
		return pstrdup(given);
	}

	names = kafka_servers();
	if (list_length(names) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_AMBIGUOUS_PARAMETER),
				 errmsg("there are several servers to choose from: %s", ks_identifier_list(names)),
				 errhint("Name one with the argument server, or set kstream.default_server.")));
	return names == NIL ? pstrdup(KS_LOCAL_SERVER) : linitial(names);
}

/* True for the server whose logs are Postgres tables. */
bool
ks_server_is_local(const char *server)
{
	return strcmp(server, KS_LOCAL_SERVER) == 0;
}

/* Adds an option unless its value is NULL. */
List *
ks_add_option(List *options, const char *name, const char *value)
{
	if (value == NULL)
		return options;
	return lappend(options, makeDefElem(pstrdup(name), (Node *) makeString(pstrdup(value)), -1));
}

/* Adds the members of a jsonb argument; the validator knows which there may be. */
List *
ks_add_jsonb_options(List *options, FunctionCallInfo fcinfo, int arg)
{
	Jsonb	   *jb;
	JsonbIterator *it;
	JsonbValue	v;
	JsonbIteratorToken token;
	char	   *name = NULL;

	if (PG_ARGISNULL(arg))
		return options;
	jb = PG_GETARG_JSONB_P(arg);
	if (!JB_ROOT_IS_OBJECT(jb))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"options\" must be a JSON object")));
	it = JsonbIteratorInit(&jb->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		char	   *value;

		if (token == WJB_KEY)
			name = pnstrdup(v.val.string.val, v.val.string.len);
		if (token != WJB_VALUE)
			continue;
		if (v.type == jbvString)
			value = pnstrdup(v.val.string.val, v.val.string.len);
		else if (v.type == jbvNumeric)
			value = numeric_normalize(v.val.numeric);
		else if (v.type == jbvBool)
			value = v.val.boolean ? "true" : "false";
		else
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("option \"%s\" must be a string, a number or a boolean", name)));
		options = ks_add_option(options, name, value);
	}
	return options;
}

/* Creates the topic where it is missing; not undone by a rollback. */
void
ks_ensure_topic(const char *server, const char *topic, int partitions)
{
	ks_ensure_topic_kind(server, topic, partitions, false);
}

/* The same, for a topic of which only the last record of each key is kept. */
void
ks_ensure_topic_kind(const char *server, const char *topic, int partitions, bool compacted)
{
	Oid			serverid = GetForeignServerByName(server, false)->serverid;
	KsConsumer *consumer;

	if (!ks_topic_create(serverid, GetUserId(), topic, partitions, -1, compacted, KS_TOPIC_TIMEOUT_MS))
	{
		ereport(NOTICE,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("topic \"%s\" exists already and is left as it is", topic)));
		return;
	}
	/* Whoever reads it next, a worker at once, should find it there. */
	consumer = ks_consumer_open(serverid, GetUserId(), "create");
	for (int i = 0; i < KS_TOPIC_VISIBLE_TRIES; i++)
	{
		if (ks_topic_partition_count(consumer, topic, KS_TOPIC_TIMEOUT_MS) > 0)
			break;
		CHECK_FOR_INTERRUPTS();
		pg_usleep(KS_TOPIC_VISIBLE_MS * 1000L);
	}
	ks_consumer_close(consumer);
}

/* Partitions of the first of the streams. */
int
ks_input_partitions(List *streams)
{
	KsStreamDef *def = ks_stream_def_of(linitial_oid(streams));
	KsConsumer *consumer;
	int			n;

	if (def->local)
		return Max(ks_local_log_partitions(def->relid), 1);
	consumer = ks_consumer_open(def->serverid, def->owner, "partitions");
	n = ks_topic_partition_count(consumer, def->topic, KS_TOPIC_TIMEOUT_MS);
	ks_consumer_close(consumer);
	return Max(n, 1);
}

/* The caller's schemas in the order they are searched, temporary ones last. */
static char *
pinned_search_path(void)
{
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	foreach(lc, fetch_search_path(false))
	{
		char	   *schema = isAnyTempNamespace(lfirst_oid(lc)) ? NULL :
			get_namespace_name(lfirst_oid(lc));

		if (schema)
			appendStringInfo(&buf, "%s, ", quote_identifier(schema));
	}
	appendStringInfoString(&buf, "pg_temp");
	return buf.data;
}

/* The settings a new query keeps, as "name=value". */
List *
ks_pinned_settings(void)
{
	List	   *settings = list_make1(psprintf("search_path=%s", pinned_search_path()));

	for (int i = 0; i < lengthof(pinned_settings); i++)
	{
		const char *value = GetConfigOption(pinned_settings[i], true, false);

		if (value)
			settings = lappend(settings, psprintf("%s=%s", pinned_settings[i], value));
	}
	return settings;
}

/* Says so if nothing will run the query. */
void
ks_warn_not_preloaded(Oid relation)
{
	if (!ks_workers_possible())
		ereport(WARNING,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("nothing keeps \"%s\" up to date, because kstream is not preloaded",
						get_rel_name(relation)),
				 errhint("Add kstream to shared_preload_libraries and restart the server.")));
}
