/*
 * ddl_query.h
 *		Creating continuous queries: what other functions need of it.
 */
#ifndef KS_DDL_QUERY_H
#define KS_DDL_QUERY_H

#include "postgres.h"

/* Checks where to start and returns it in a form that no setting changes. */
extern char *ks_parse_start(const char *start);

#endif							/* KS_DDL_QUERY_H */
