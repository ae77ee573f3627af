/*
 * window.h
 *		Windows of event time in a continuous query: where they are, and what the
 *		options of the query mean for them.
 */
#ifndef KS_WINDOW_H
#define KS_WINDOW_H

#include "plan/analyze.h"

/*
 * Fills the fields of analysis on windows and event time.  query: the analysed
 * query with WITH resolved.  Refuses what windows cannot be.
 */
extern void ks_window_find(KsAnalysis *analysis, Query *query);

/*
 * Applies grace, retention and emit of the query: refuses what they cannot be
 * with it, and decides where state is kept.  Before ks_compile.
 */
extern void ks_window_bind(KsAnalysis *analysis, const KsQueryRow *row);

/*
 * Tells the creator of the query what is allowed and perhaps not meant: windows
 * over something else than event time, rows that will never leave.
 */
extern void ks_window_notices(const KsAnalysis *analysis, const KsQueryRow *row);

/* Event time that passes between the end of a window and its close, its expiry. */
extern int64 ks_window_close_us(const KsAnalysis *analysis, const KsQueryRow *row);
extern int64 ks_window_expiry_us(const KsAnalysis *analysis, const KsQueryRow *row);

/* Do its windows close: have rows or state that come or go by the watermark? */
extern bool ks_window_closes(const KsAnalysis *analysis, const KsQueryRow *row);

#endif							/* KS_WINDOW_H */
