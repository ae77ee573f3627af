/*
 * window_int.h
 *		What window.c and window_mistake.c share.
 */
#ifndef KS_WINDOW_INT_H
#define KS_WINDOW_INT_H

#include "plan/window.h"

/*
 * Does the expression stand for kstream.session over a record's columns?
 * levels: its query and those around it (Query *), innermost first.
 */
extern bool ks_window_is_session(List *levels, Node *node);

/* Refuses kstream.session anywhere but as a grouping column.  query: as for ks_window_find. */
extern void ks_window_check_sessions(KsAnalysis *analysis, Query *query);

/*
 * Raises the error for analysis->mistake; option: what needs a window, or NULL
 * where the mistake alone is reason enough.
 */
extern void ks_window_refuse_mistake(const KsAnalysis *analysis, const char *option);

/* What to do about analysis->mistake. */
extern char *ks_window_mistake_hint(const KsAnalysis *analysis);

/*
 * In a join of streams: finds the column by whose time rows leave a table, see
 * window_mistake.c; false if it cannot tell.
 */
extern bool ks_join_time_column(KsAnalysis *analysis, Query *query);

#endif							/* KS_WINDOW_INT_H */
