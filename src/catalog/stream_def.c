/*
 * stream_def.c
 *		Reads the definition of a stream relation from its foreign table.
 *
 * What a stream is made of: options of the foreign table (topic, format, key,
 * key_format, timestamp, partitions, dedup_key, dedup_window), the column option
 * path, and the metadata columns, which are known by their names.  The validator of the wrapper has
 * refused unknown options already; here their values are checked against the
 * columns, which the validator does not see.  Options that other parts own
 * (retention ...) are passed over.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/names.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_foreign_table.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"
#include "utils/varlena.h"

#include "catalog/query_cat.h"
#include "catalog/stream_def.h"

#define KS_HANDLER_SYMBOL	"ks_fdw_handler"
#define KS_LOCAL_SERVER		"local"
#define KS_HIDDEN_SCHEMA	"kstream_query"

#define DEDUP_WINDOW_DEFAULT "1 day"
#define DEDUP_WINDOW_MAX_DAYS 36500

typedef struct KsMetaInfo
{
	const char *name;
	Oid			typid;
	const char *typname;
} KsMetaInfo;

static const KsMetaInfo meta_info[KS_NUM_META] = {
	[KS_META_KEY] = {"_key", TEXTOID, "text"},
	[KS_META_PARTITION] = {"_partition", INT4OID, "integer"},
	[KS_META_OFFSET] = {"_offset", INT8OID, "bigint"},
	[KS_META_TIMESTAMP] = {"_timestamp", TIMESTAMPTZOID, "timestamp with time zone"},
	[KS_META_HEADERS] = {"_headers", JSONBOID, "jsonb"},
	[KS_META_STREAM_TIME] = {"_stream_time", TIMESTAMPTZOID, "timestamp with time zone"},
	[KS_META_TOMBSTONE] = {"_tombstone", BOOLOID, "boolean"},
};

static const char *const format_names[] = {
	[KS_FORMAT_JSON] = "json",
	[KS_FORMAT_CSV] = "csv",
	[KS_FORMAT_TEXT] = "text",
	[KS_FORMAT_BYTEA] = "bytea",
	[KS_FORMAT_JSONB] = "jsonb",
};

static const char *const key_format_names[] = {
	[KS_KEY_TEXT] = "text",
	[KS_KEY_JSON] = "json",
	[KS_KEY_BYTEA] = "bytea",
	[KS_KEY_INT] = "int",
	[KS_KEY_BIGINT] = "bigint",
	[KS_KEY_NONE] = "none",
};

/* Handler function that was last found to be ours; forgotten when pg_proc changes. */
static Oid	known_handler = InvalidOid;
static bool callback_registered = false;

static bool is_our_handler(Oid handler);
static void forget_handler(Datum arg, int cacheid, uint32 hashvalue);
static bool is_hidden(Relation rel);
static void load_columns(KsStreamDef *def, Relation rel);
static KsMetaColumn meta_by_name(const char *name, bool hidden);
static void check_meta_type(const KsStreamDef *def, KsMetaColumn meta, Oid typid);
static const char *column_path(Oid relid, AttrNumber attnum);
static void read_format(KsStreamDef *def, const char *value);
static void read_keys(KsStreamDef *def, const char *key, const char *key_format);
static void read_key_format(KsStreamDef *def, const char *value);
static void read_event_time(KsStreamDef *def, const char *value);
static void read_partitions(KsStreamDef *def, const char *value);
static void read_dedup(KsStreamDef *def, const char *key, const char *window, bool hidden);
static void check_dedup_type(const KsStreamDef *def, const KsColumnDef *column);
static char *column_list(const KsStreamDef *def);
static AttrNumber find_column(const KsStreamDef *def, const char *name);


/* True if relid is a foreign table whose wrapper has kstream's handler. */
bool
ks_is_stream(Oid relid)
{
	HeapTuple	tuple;
	Oid			serverid;
	Oid			fdwid;
	Oid			handler;

	tuple = SearchSysCache1(FOREIGNTABLEREL, ObjectIdGetDatum(relid));
	if (!HeapTupleIsValid(tuple))
		return false;
	serverid = ((Form_pg_foreign_table) GETSTRUCT(tuple))->ftserver;
	ReleaseSysCache(tuple);

	tuple = SearchSysCache1(FOREIGNSERVEROID, ObjectIdGetDatum(serverid));
	if (!HeapTupleIsValid(tuple))
		return false;
	fdwid = ((Form_pg_foreign_server) GETSTRUCT(tuple))->srvfdw;
	ReleaseSysCache(tuple);

	tuple = SearchSysCache1(FOREIGNDATAWRAPPEROID, ObjectIdGetDatum(fdwid));
	if (!HeapTupleIsValid(tuple))
		return false;
	handler = ((Form_pg_foreign_data_wrapper) GETSTRUCT(tuple))->fdwhandler;
	ReleaseSysCache(tuple);

	return OidIsValid(handler) && is_our_handler(handler);
}

/* Tells by the C symbol whether the function is the handler of kstream's wrapper. */
static bool
is_our_handler(Oid handler)
{
	HeapTuple	tuple;
	bool		ours = false;

	if (handler == known_handler)
		return true;

	if (!callback_registered)
	{
		CacheRegisterSyscacheCallback(PROCOID, forget_handler, (Datum) 0);
		callback_registered = true;
	}

	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(handler));
	if (!HeapTupleIsValid(tuple))
		return false;
	if (((Form_pg_proc) GETSTRUCT(tuple))->prolang == ClanguageId)
	{
		Datum		prosrc;
		bool		isnull;

		prosrc = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &isnull);
		ours = !isnull && strcmp(TextDatumGetCString(prosrc), KS_HANDLER_SYMBOL) == 0;
	}
	ReleaseSysCache(tuple);

	if (ours)
		known_handler = handler;
	return ours;
}

/* Syscache callback: the handler may have been dropped. */
static void
forget_handler(Datum arg, int cacheid, uint32 hashvalue)
{
	known_handler = InvalidOid;
}

/* Reads the whole definition, in the current memory context. */
KsStreamDef *
ks_stream_def_load(Relation rel)
{
	KsStreamDef *def;
	ForeignTable *table;
	ForeignServer *server;
	const char *format = NULL;
	const char *key = NULL;
	const char *key_format = NULL;
	const char *event_time = NULL;
	const char *partitions = NULL;
	const char *dedup_key = NULL;
	const char *dedup_window = NULL;
	Oid			known_as;
	ListCell   *lc;

	if (!ks_is_stream(RelationGetRelid(rel)))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a stream", RelationGetRelationName(rel)),
				 errhint("A stream is a foreign table of the wrapper kstream; create one with kstream.create_stream().")));

	table = GetForeignTable(RelationGetRelid(rel));
	server = GetForeignServer(table->serverid);

	def = palloc0(sizeof(KsStreamDef));
	def->relid = RelationGetRelid(rel);
	def->serverid = table->serverid;
	def->owner = rel->rd_rel->relowner;
	def->local = strcmp(server->servername, KS_LOCAL_SERVER) == 0;
	known_as = ks_query_known_as(def->relid);
	def->relname = ks_qualified_name(known_as);
	def->nchecks = rel->rd_att->constr ? rel->rd_att->constr->num_check : 0;

	foreach(lc, table->options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, "topic") == 0)
			def->topic = pstrdup(defGetString(option));
		else if (strcmp(option->defname, "format") == 0)
			format = defGetString(option);
		else if (strcmp(option->defname, "key") == 0)
			key = defGetString(option);
		else if (strcmp(option->defname, "key_format") == 0)
			key_format = defGetString(option);
		else if (strcmp(option->defname, "timestamp") == 0)
			event_time = defGetString(option);
		else if (strcmp(option->defname, "partitions") == 0)
			partitions = defGetString(option);
		else if (strcmp(option->defname, "dedup_key") == 0)
			dedup_key = defGetString(option);
		else if (strcmp(option->defname, "dedup_window") == 0)
			dedup_window = defGetString(option);
		else if (strcmp(option->defname, "guarantee") == 0)
			def->at_least_once = strcmp(defGetString(option), "at_least_once") == 0;
	}

	load_columns(def, rel);
	read_format(def, format);
	read_keys(def, key, key_format);
	read_event_time(def, event_time);
	read_partitions(def, partitions);
	read_dedup(def, dedup_key, dedup_window, is_hidden(rel));
	if (def->local)
		def->topic = NULL;
	else if (def->topic == NULL)
		def->topic = pstrdup(RelationGetRelationName(rel));

	return def;
}

/* True for the hidden source of a table that follows a topic. */
static bool
is_hidden(Relation rel)
{
	char	   *schema = get_namespace_name(RelationGetNamespace(rel));

	return schema != NULL && strcmp(schema, KS_HIDDEN_SCHEMA) == 0;
}

/* The columns of a published table; all are values. */
static void
load_table_columns(KsStreamDef *def, Relation table)
{
	TupleDesc	desc = RelationGetDescr(table);

	def->natts = desc->natts;
	def->columns = palloc0(sizeof(KsColumnDef) * Max(desc->natts, 1));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		KsColumnDef *column = &def->columns[i];

		column->attnum = att->attnum;
		column->kind = att->attisdropped ? KS_COL_DROPPED : KS_COL_VALUE;
		column->name = att->attisdropped ? "" : pstrdup(NameStr(att->attname));
		column->typid = att->atttypid;
		column->typmod = att->atttypmod;
		column->collation = att->attcollation;
		column->notnull = att->attnotnull;
	}
}

/* See stream_def.h. */
KsStreamDef *
ks_stream_def_of(Oid stream)
{
	Relation	rel = table_open(stream, AccessShareLock);
	KsStreamDef *def = ks_stream_def_load(rel);

	table_close(rel, NoLock);
	return def;
}

/* See stream_def.h. */
KsStreamDef *
ks_stream_def_of_table(Relation table, Oid target, List *key)
{
	KsStreamDef *def = ks_stream_def_of(target);
	ListCell   *lc;

	def->relid = RelationGetRelid(table);
	def->relname = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(table)),
											  RelationGetRelationName(table));
	memset(def->meta, 0, sizeof(def->meta));
	def->event_time = 0;
	load_table_columns(def, table);
	def->keys = palloc(sizeof(AttrNumber) * Max(list_length(key), 1));
	def->nkeys = 0;
	foreach(lc, key)
	{
		AttrNumber	attnum = find_column(def, lfirst(lc));

		if (attnum == 0)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("key column \"%s\" of table %s does not exist", (char *) lfirst(lc), def->relname),
					 errhint("The columns are %s.", column_list(def))));
		def->columns[attnum - 1].kind = KS_COL_KEY;
		def->keys[def->nkeys++] = attnum;
	}
	return def;
}

/* Fills def->columns and def->meta from the attributes of the relation. */
static void
load_columns(KsStreamDef *def, Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);
	bool		hidden = is_hidden(rel);

	def->natts = desc->natts;
	def->columns = palloc0(sizeof(KsColumnDef) * Max(desc->natts, 1));

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		KsColumnDef *column = &def->columns[i];
		KsMetaColumn meta;

		column->attnum = att->attnum;
		if (att->attisdropped)
		{
			column->kind = KS_COL_DROPPED;
			column->name = "";
			continue;
		}
		if (att->attgenerated != '\0')
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("column \"%s\" of stream %s is generated", NameStr(att->attname), def->relname),
					 errdetail("The columns of a stream come from its records."),
					 errhint("Compute the value in a view or in the query that reads the stream.")));

		column->name = pstrdup(NameStr(att->attname));
		column->typid = att->atttypid;
		column->typmod = att->atttypmod;
		column->collation = att->attcollation;
		column->notnull = att->attnotnull;

		meta = meta_by_name(column->name, hidden);
		if (meta < KS_NUM_META)
		{
			check_meta_type(def, meta, att->atttypid);
			column->kind = KS_COL_META;
			def->meta[meta] = att->attnum;
		}
		else
		{
			column->kind = KS_COL_VALUE;
			column->path = column_path(def->relid, att->attnum);
		}
	}
}

/* The metadata column of that name, or KS_NUM_META if it is an ordinary column. */
static KsMetaColumn
meta_by_name(const char *name, bool hidden)
{
	if (name[0] == '_')
	{
		for (int i = 0; i < KS_NUM_META; i++)
		{
			if (i == KS_META_TOMBSTONE && !hidden)
				continue;
			if (strcmp(name, meta_info[i].name) == 0)
				return (KsMetaColumn) i;
		}
	}
	return KS_NUM_META;
}

/* A metadata column has one type; a column declared with another one is a mistake. */
static void
check_meta_type(const KsStreamDef *def, KsMetaColumn meta, Oid typid)
{
	if (typid != meta_info[meta].typid)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of stream %s must have type %s",
						meta_info[meta].name, def->relname, meta_info[meta].typname),
				 errdetail("It is one of the columns every stream has beside the declared ones."),
				 errhint("Leave the column out of the declaration, or choose another name.")));
}

/* Column option "path", or NULL. */
static const char *
column_path(Oid relid, AttrNumber attnum)
{
	ListCell   *lc;

	foreach(lc, GetForeignColumnOptions(relid, attnum))
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, "path") == 0)
			return pstrdup(defGetString(option));
	}
	return NULL;
}

/* Option "format"; json when it is not given. */
static void
read_format(KsStreamDef *def, const char *value)
{
	def->format = KS_FORMAT_JSON;
	if (value == NULL)
		return;
	for (int i = 0; i < lengthof(format_names); i++)
	{
		if (strcmp(value, format_names[i]) == 0)
		{
			def->format = (KsFormat) i;
			return;
		}
	}
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
			 errmsg("format \"%s\" of stream %s is not known", value, def->relname),
			 errhint("Formats are json, csv, text, bytea and jsonb.")));
}

/* Options "key" (a list of columns) and "key_format". */
static void
read_keys(KsStreamDef *def, const char *key, const char *key_format)
{
	List	   *names;
	ListCell   *lc;

	if (key != NULL)
	{
		if (!SplitIdentifierString(pstrdup(key), ',', &names) || names == NIL)
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
					 errmsg("key \"%s\" of stream %s is not a list of column names", key, def->relname),
					 errhint("Separate the names by commas; write names that need it in double quotes.")));

		def->keys = palloc(sizeof(AttrNumber) * list_length(names));
		foreach(lc, names)
		{
			const char *name = lfirst(lc);
			AttrNumber	attnum = find_column(def, name);
			KsColumnDef *column;

			if (attnum == 0)
				ereport(ERROR,
						(errcode(ERRCODE_UNDEFINED_COLUMN),
						 errmsg("key column \"%s\" of stream %s does not exist", name, def->relname),
						 errhint("The columns are %s.", column_list(def))));
			column = &def->columns[attnum - 1];
			if (column->kind == KS_COL_META)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
						 errmsg("metadata column \"%s\" of stream %s cannot be a key column", name, def->relname),
						 errhint("Every stream has the key as text in \"_key\"; name a declared column to have it typed.")));
			if (column->kind == KS_COL_KEY)
				ereport(ERROR,
						(errcode(ERRCODE_DUPLICATE_COLUMN),
						 errmsg("key of stream %s names column \"%s\" twice", def->relname, name)));
			column->kind = KS_COL_KEY;
			def->keys[def->nkeys++] = attnum;
		}
	}
	read_key_format(def, key_format);
}

/* Option "key_format", which must suit the number of key columns. */
static void
read_key_format(KsStreamDef *def, const char *value)
{
	def->key_format = def->nkeys > 1 ? KS_KEY_JSON : KS_KEY_TEXT;
	if (value != NULL)
	{
		int			i;

		for (i = 0; i < lengthof(key_format_names); i++)
		{
			if (strcmp(value, key_format_names[i]) == 0)
				break;
		}
		if (i == lengthof(key_format_names))
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
					 errmsg("key_format \"%s\" of stream %s is not known", value, def->relname),
					 errhint("Key formats are text, json, bytea, int, bigint and none.")));
		def->key_format = (KsKeyFormat) i;
	}
	if (def->nkeys > 1 && def->key_format != KS_KEY_JSON && def->key_format != KS_KEY_NONE)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("key_format \"%s\" of stream %s holds one key column, not %d",
						key_format_names[def->key_format], def->relname, def->nkeys),
				 errhint("Use key_format 'json' for a key of several columns.")));
}

/*
 * Option "timestamp".  Naming _timestamp means what is so anyway: the record's
 * own timestamp.
 */
static void
read_event_time(KsStreamDef *def, const char *value)
{
	List	   *names;
	const char *name;
	AttrNumber	attnum;
	Oid			typid;

	if (value == NULL)
		return;
	if (!SplitIdentifierString(pstrdup(value), ',', &names) || list_length(names) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("timestamp \"%s\" of stream %s is not a column name", value, def->relname)));
	name = linitial(names);
	attnum = find_column(def, name);
	if (attnum == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("timestamp column \"%s\" of stream %s does not exist", name, def->relname),
				 errhint("The columns are %s.", column_list(def))));
	if (attnum == def->meta[KS_META_TIMESTAMP])
		return;
	if (def->columns[attnum - 1].kind == KS_COL_META)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
				 errmsg("metadata column \"%s\" of stream %s cannot hold the event time", name, def->relname)));

	typid = getBaseType(def->columns[attnum - 1].typid);
	if (typid != TIMESTAMPTZOID && typid != TIMESTAMPOID && typid != DATEOID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("timestamp column \"%s\" of stream %s has type %s, which is not a time",
						name, def->relname, format_type_be(def->columns[attnum - 1].typid)),
				 errhint("Declare it as timestamptz; in json, numbers are read as milliseconds since 1970.")));
	def->event_time = attnum;
}

/* Option "partitions". */
static void
read_partitions(KsStreamDef *def, const char *value)
{
	char	   *end;
	long		n;

	if (value == NULL)
		return;
	errno = 0;
	n = strtol(value, &end, 10);
	if (errno != 0 || end == value || *end != '\0' || n < 1 || n > 100000)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("partitions \"%s\" of stream %s is not a number from 1 to 100000", value, def->relname)));
	def->partitions = (int) n;
}

/* Options "dedup_key" (a list of columns) and "dedup_window". */
static void
read_dedup(KsStreamDef *def, const char *key, const char *window, bool hidden)
{
	List	   *names;
	ListCell   *lc;

	if (key == NULL && window == NULL)
		return;
	if (hidden)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a table that follows a topic cannot have dedup_key or dedup_window"),
				 errhint("The last record of a key is its row anyway; use version_column to prefer another one.")));
	if (key == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("stream %s has dedup_window but no dedup_key", def->relname),
				 errhint("Name the columns whose values tell that two records are the same.")));
	if (!SplitIdentifierString(pstrdup(key), ',', &names) || names == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("dedup_key \"%s\" of stream %s is not a list of column names", key, def->relname),
				 errhint("Separate the names by commas; write names that need it in double quotes.")));

	def->dedup_keys = palloc(sizeof(AttrNumber) * list_length(names));
	foreach(lc, names)
	{
		const char *name = lfirst(lc);
		AttrNumber	attnum = find_column(def, name);

		if (attnum == 0)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("dedup_key column \"%s\" of stream %s does not exist", name, def->relname),
					 errhint("The columns are %s, and those that every stream has.", column_list(def))));
		for (int i = 0; i < def->ndedup; i++)
		{
			if (def->dedup_keys[i] == attnum)
				ereport(ERROR,
						(errcode(ERRCODE_DUPLICATE_COLUMN),
						 errmsg("dedup_key of stream %s names column \"%s\" twice", def->relname, name),
						 errhint("Name each column once.")));
		}
		check_dedup_type(def, &def->columns[attnum - 1]);
		def->dedup_keys[def->ndedup++] = attnum;
	}
	def->dedup_window = ks_dedup_window_parse(window != NULL ? window : DEDUP_WINDOW_DEFAULT);
}

/* Keys are found by their hash and told apart by equality. */
static void
check_dedup_type(const KsStreamDef *def, const KsColumnDef *column)
{
	TypeCacheEntry *type = lookup_type_cache(column->typid, TYPECACHE_EQ_OPR | TYPECACHE_HASH_EXTENDED_PROC);

	if (!OidIsValid(type->eq_opr) || !OidIsValid(type->hash_extended_proc))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("column \"%s\" of stream %s cannot be in dedup_key, because type %s has no hash function or no equality",
						column->name, def->relname, format_type_be(column->typid)),
				 errhint("Use a column of a type that can be hashed, for example text, bigint, uuid or jsonb.")));
}

/* Length of an interval, or -1 if it has months or is not positive or too long. */
int64
ks_dedup_window_usec(const Interval *interval)
{
	int64		usec;

	if (interval->month != 0 || interval->day < -DEDUP_WINDOW_MAX_DAYS || interval->day > DEDUP_WINDOW_MAX_DAYS ||
		interval->time < -DEDUP_WINDOW_MAX_DAYS * USECS_PER_DAY ||
		interval->time > DEDUP_WINDOW_MAX_DAYS * USECS_PER_DAY)
		return -1;
	usec = interval->day * USECS_PER_DAY + interval->time;
	return usec > 0 && usec <= DEDUP_WINDOW_MAX_DAYS * USECS_PER_DAY ? usec : -1;
}

/* See stream_def.h. */
int64
ks_dedup_window_parse(const char *value)
{
	Interval   *interval = DatumGetIntervalP(DirectFunctionCall3(interval_in, CStringGetDatum(value),
																  ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	int64		usec = ks_dedup_window_usec(interval);

	if (usec < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("dedup_window \"%s\" is not a length of time", value),
				 errhint("It is a positive interval of days and times, without months or years, of at most %d days.",
						 DEDUP_WINDOW_MAX_DAYS)));
	return usec;
}

/* The declared columns, for hints. */
static char *
column_list(const KsStreamDef *def)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < def->natts; i++)
	{
		const KsColumnDef *column = &def->columns[i];

		if (column->kind != KS_COL_VALUE && column->kind != KS_COL_KEY)
			continue;
		appendStringInfo(&buf, "%s%s", buf.len > 0 ? ", " : "", quote_identifier(column->name));
	}
	return buf.data;
}

/* Attribute number of the column of that name, or 0. */
static AttrNumber
find_column(const KsStreamDef *def, const char *name)
{
	for (int i = 0; i < def->natts; i++)
	{
		if (def->columns[i].kind != KS_COL_DROPPED && strcmp(def->columns[i].name, name) == 0)
			return def->columns[i].attnum;
	}
	return 0;
}

/* Name of a value format, as the option spells it. */
const char *
ks_format_name(KsFormat format)
{
	return format_names[format];
}

/* Name of a key format, as the option spells it. */
const char *
ks_key_format_name(KsKeyFormat format)
{
	return key_format_names[format];
}

/* Name of a metadata column. */
const char *
ks_meta_name(KsMetaColumn meta)
{
	return meta_info[meta].name;
}
