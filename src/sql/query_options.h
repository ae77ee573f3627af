/*
 * query_options.h
 *		The options that all functions which create queries have.
 */
#ifndef KS_QUERY_OPTIONS_H
#define KS_QUERY_OPTIONS_H

#include "postgres.h"
#include "catalog/query_cat.h"
#include "fmgr.h"
#include "utils/timestamp.h"

/* Options that are not part of the query's row. */
typedef struct KsQueryOptions
{
	bool		at_least_once;
	const char *access_method;	/* of the result table, NULL: the default one */
	Interval   *keep_changes;	/* NULL: no changes are kept */
} KsQueryOptions;

/* Reads and checks the arguments from "start" to "paused"; first: number of "start". */
extern void ks_read_query_options(FunctionCallInfo fcinfo, int first, KsQueryRow *row,
								  KsQueryOptions *options);

/* Checks where to start and returns it in a form that no setting changes. */
extern char *ks_parse_start(const char *start);

/* What the word stands for; an error if it is none. */
extern bool ks_at_least_once(const char *guarantee);

/* Raises the error for an argument that has one of a few words as its value. */
extern void ks_invalid_word(const char *name, const char *value, const char *words);

#endif							/* KS_QUERY_OPTIONS_H */
