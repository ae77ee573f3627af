/*
 * options.c
 *		The validator of the wrapper "kstream": options of servers, user
 *		mappings, streams and their columns.
 *
 * It sees the options of one object at a time, and only their text; what needs
 * the columns of a stream is checked by catalog/stream_def.c and format/.
 *
 * Runs in: any backend.  Transaction: needed.
 */
#include "postgres.h"

#include "access/reloptions.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_foreign_table.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "utils/builtins.h"

#include "catalog/stream_def.h"
#include "kafka/conf.h"

#define TOPIC_MAX_LENGTH 249

typedef void (*OptionCheck) (const char *name, const char *value);

static void check_not_empty(const char *name, const char *value);
static void check_topic(const char *name, const char *value);
static void check_format(const char *name, const char *value);
static void check_key_format(const char *name, const char *value);
static void check_partitions(const char *name, const char *value);
static void check_dedup_window(const char *name, const char *value);
static void check_guarantee(const char *name, const char *value);
static void refuse_option(const char *name, const char *value);

typedef struct Option
{
	const char *name;
	OptionCheck check;
} Option;

static const Option table_options[] = {
	{"topic", check_topic},
	{"format", check_format},
	{"key", check_not_empty},
	{"key_format", check_key_format},
	{"timestamp", check_not_empty},
	{"partitions", check_partitions},
	{"dedup_key", check_not_empty},
	{"dedup_window", check_dedup_window},
	{"guarantee", check_guarantee},
	{NULL, NULL}
};

/* Options of the contract that this version does not have. */
static const Option later_options[] = {
	{"retention", refuse_option},
	{NULL, NULL}
};

static const Option column_options[] = {
	{"path", check_not_empty},
	{NULL, NULL}
};

/* A value that must not be empty. */
static void
check_not_empty(const char *name, const char *value)
{
	if (value[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("option \"%s\" must not be empty", name)));
}

/* A name that Kafka accepts for a topic. */
static void
check_topic(const char *name, const char *value)
{
	size_t		len = strlen(value);

	if (len == 0 || len > TOPIC_MAX_LENGTH || strcmp(value, ".") == 0 || strcmp(value, "..") == 0 ||
		strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != len)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("invalid topic name \"%s\"", value),
				 errhint("A topic's name has 1 to %d letters a-z and A-Z, digits, dots, underscores and hyphens.",
						 TOPIC_MAX_LENGTH)));
}

/* One of the words in the list, or an error that shows the list. */
static void
check_word(const char *name, const char *value, const char *const *words, const char *const *later)
{
	StringInfoData list;

	for (int i = 0; words[i]; i++)
	{
		if (strcmp(words[i], value) == 0)
			return;
	}
	initStringInfo(&list);
	for (int i = 0; words[i]; i++)
		appendStringInfo(&list, "%s%s", i > 0 ? ", " : "", words[i]);
	for (int i = 0; later[i]; i++)
	{
		if (strcmp(later[i], value) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("%s \"%s\" is not supported yet", name, value),
					 errhint("Supported values are: %s.", list.data)));
	}
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
			 errmsg("invalid %s \"%s\"", name, value),
			 errhint("Supported values are: %s.", list.data)));
}

/* A format of record values. */
static void
check_format(const char *name, const char *value)
{
	static const char *const words[] = {"json", "csv", "text", "bytea", "jsonb", NULL};
	static const char *const later[] = {"avro", "protobuf", "debezium", NULL};

	check_word(name, value, words, later);
}

/* A format of record keys. */
static void
check_key_format(const char *name, const char *value)
{
	static const char *const words[] = {"text", "json", "bytea", "int", "bigint", "none", NULL};
	static const char *const later[] = {"avro", "protobuf", NULL};

	check_word(name, value, words, later);
}

/* A number of partitions. */
static void
check_partitions(const char *name, const char *value)
{
	char	   *end;
	long		n;

	errno = 0;
	n = strtol(value, &end, 10);
	if (errno != 0 || end == value || *end != '\0' || n < 1 || n > 100000)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("invalid number of partitions \"%s\"", value),
				 errhint("It is an integer from 1 to 100000.")));
}

/* A length of time. */
static void
check_dedup_window(const char *name, const char *value)
{
	(void) ks_dedup_window_parse(value);
}

/* How records are produced to the topic. */
static void
check_guarantee(const char *name, const char *value)
{
	static const char *const words[] = {"exactly_once", "at_least_once", NULL};
	static const char *const later[] = {NULL};

	check_word(name, value, words, later);
}

/* An option that a later version brings. */
static void
refuse_option(const char *name, const char *value)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("option \"%s\" is not supported yet", name),
			 errhint("Leave the option out.")));
}

/* The option of that name, or NULL. */
static const Option *
find_option(const Option *options, const char *name)
{
	for (; options->name; options++)
	{
		if (strcmp(options->name, name) == 0)
			return options;
	}
	return NULL;
}

/* Checks every given option against a list of known ones. */
static void
check_options(List *given, const Option *known, const Option *later, const char *what)
{
	ListCell   *lc;

	foreach(lc, given)
	{
		DefElem    *def = lfirst_node(DefElem, lc);
		const Option *option = find_option(known, def->defname);
		StringInfoData list;

		if (option == NULL && later != NULL)
			option = find_option(later, def->defname);
		if (option)
		{
			option->check(def->defname, defGetString(def));
			continue;
		}
		initStringInfo(&list);
		for (int i = 0; known[i].name; i++)
			appendStringInfo(&list, "%s%s", i > 0 ? ", " : "", known[i].name);
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("unknown option \"%s\"", def->defname),
				 errhint("Options of a %s are: %s.", what, list.data)));
	}
}

PG_FUNCTION_INFO_V1(ks_fdw_validator);

/* Called by Postgres with the options of one object and the catalog it belongs to. */
Datum
ks_fdw_validator(PG_FUNCTION_ARGS)
{
	List	   *options = untransformRelOptions(PG_GETARG_DATUM(0));
	Oid			catalog = PG_GETARG_OID(1);

	switch (catalog)
	{
		case ForeignServerRelationId:
			ks_validate_server_options(options);
			break;
		case UserMappingRelationId:
			ks_validate_user_mapping_options(options);
			break;
		case ForeignTableRelationId:
			check_options(options, table_options, later_options, "stream");
			break;
		case AttributeRelationId:
			check_options(options, column_options, NULL, "stream's column");
			break;
		default:
			if (options != NIL)
				ereport(ERROR,
						(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
						 errmsg("the wrapper \"kstream\" has no options of its own"),
						 errhint("Set options of a server, a user mapping, a stream or a column.")));
			break;
	}
	PG_RETURN_VOID();
}
