/*
 * ddl_query.h
 *		Creating continuous queries: what other functions need of it.
 */
#ifndef KS_DDL_QUERY_H
#define KS_DDL_QUERY_H

#include "postgres.h"

#include "plan/analyze.h"
#include "sql/ddl_util.h"

/*
 * Creates the stored view of a query as the caller (kstream_query.q_<id>); schema:
 * where the caller may create it at first; positional: its columns need no names.
 */
extern Oid	ks_create_query_view(KsUserText *text, int32 id, const char *schema, bool positional);

/* Checks that the caller may read and call everything the query uses. */
extern void ks_check_query_rights(Oid view, const KsAnalysis *analysis);

#endif							/* KS_DDL_QUERY_H */
