/*
 * verbs.h
 *		What the functions that take the name of a query's table share.
 */
#ifndef KS_VERBS_H
#define KS_VERBS_H

#include "postgres.h"
#include "catalog/query_cat.h"
#include "catalog/sink_cat.h"

/* The query behind a table, named as regclass does; an error if there is none. */
extern KsQueryRow *ks_query_by_name(const char *name);

/*
 * What a verb's name means: a query with a name of its own, a named sink, or
 * what belongs to a relation.  At least one of query and sinks is set; an error
 * if there is nothing.
 */
typedef struct KsNamed
{
	KsQueryRow *query;			/* or NULL */
	List	   *sinks;			/* KsSinkRow * */
} KsNamed;

extern void ks_named_lookup(const char *name, KsNamed *named);

/* True if the current user may see definition and state of the query. */
extern bool ks_may_see_query(const KsQueryRow *row);
extern bool ks_may_see_relation(Oid relation);

/* Streams the query reads (oid list); others it looks up, unless lookups is NULL. */
extern List *ks_query_streams(const KsQueryRow *row, List **lookups);

#endif							/* KS_VERBS_H */
