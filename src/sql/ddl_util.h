/*
 * ddl_util.h
 *		What the functions that create streams, tables and queries share.
 *
 * User text (column lists, queries) is parsed to raw trees, changed there, and
 * run as the utility statement it stands for, by the calling user and under
 * their search_path: no text of theirs is ever pasted into SQL.
 */
#ifndef KS_DDL_UTIL_H
#define KS_DDL_UTIL_H

#include "postgres.h"
#include "base/compat.h"
#include "catalog/dependency.h"
#include "catalog/names.h"
#include "catalog/query_cat.h"
#include "fmgr.h"
#include "nodes/parsenodes.h"
#include "nodes/primnodes.h"

/* Text of the user, as it is or with text of ours around it. */
typedef struct KsUserText
{
	const char *text;			/* what the user wrote */
	const char *source;			/* what is parsed */
	int			prefix;			/* characters of source before the text */
	ErrorContextCallback callback;
} KsUserText;

/* Between begin and end, error positions are made to point into the user's text. */
extern void ks_user_text_begin(KsUserText *text);
extern void ks_user_text_end(KsUserText *text);

/* Arguments of the SQL functions; name is what messages call them. */
extern char *ks_arg_text(FunctionCallInfo fcinfo, int arg); /* NULL if null */
extern char *ks_arg_required(FunctionCallInfo fcinfo, int arg, const char *name);
extern void ks_arg_check_given(FunctionCallInfo fcinfo, int arg, const char *name);	/* not null */
extern int64 ks_arg_interval_us(FunctionCallInfo fcinfo, int arg, const char *name, int64 absent);
extern List *ks_arg_text_array(FunctionCallInfo fcinfo, int arg, const char *name);
extern ks_noreturn void ks_refuse_argument(const char *name, const char *hint);

/* Names.  For creation: schema filled in, temporary schemas refused. */
extern RangeVar *ks_parse_new_name(const char *name);
extern Oid	ks_relation_by_name(const char *name);
extern char *ks_identifier_list(List *names);

/* Column lists. */
extern CreateForeignTableStmt *ks_parse_columns(KsUserText *text);
extern List *ks_add_metadata_columns(List *elements, bool tombstone);
extern List *ks_missing_metadata_columns(Oid relid);	/* char *: "name type" */
extern void ks_check_stream(Oid relid);

/* Running utility statements as the current user; what was created. */
extern void ks_run_utility(Node *stmt, const char *source);
extern void ks_move_to_schema(Oid relid, const char *schema);
extern void ks_depend(Oid dependent, Oid on, DependencyType type);
extern void ks_depend_internally(Oid dependent, Oid on);
/* Dropped with it, but may be dropped alone. */
extern void ks_depend_automatically(Oid dependent, Oid on);

/* Servers and topics. */
extern char *ks_choose_server(const char *given);
extern bool ks_server_is_local(const char *server);
extern List *ks_add_option(List *options, const char *name, const char *value);
extern List *ks_add_jsonb_options(List *options, FunctionCallInfo fcinfo, int arg);
extern void ks_ensure_topic(const char *server, const char *topic, int partitions);
extern void ks_ensure_topic_kind(const char *server, const char *topic, int partitions, bool compacted);
extern int	ks_input_partitions(List *streams);

/* What every new query needs. */
extern List *ks_pinned_settings(void);
extern void ks_warn_not_preloaded(Oid relation);

#endif							/* KS_DDL_UTIL_H */
