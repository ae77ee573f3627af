/*
 * analyze_int.h
 *		Helpers of analyze.c that the analysis of joins uses as well.
 */
#ifndef KS_ANALYZE_INT_H
#define KS_ANALYZE_INT_H

#include "nodes/parsenodes.h"

/* The query of a view, as a private copy. */
extern Query *ks_view_query(Oid relid);

/* Replaces the WITH queries of a private copy by sub-selects, recursive ones excepted. */
extern void ks_inline_with(Query *query);

#endif							/* KS_ANALYZE_INT_H */
