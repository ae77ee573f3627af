/*
 * join.h
 *		The operator of joins of streams, around that of the query.
 */
#ifndef KS_EXEC_JOIN_H
#define KS_EXEC_JOIN_H

#include "exec/operator.h"

/* inner: what becomes of the rows of the join.  In the current context. */
extern KsOperator *ks_join_create(const KsQueryRow *query, const KsPlan *plan, KsAnalysis *analysis,
								  KsOperator *inner);

/* Has the plans of its statements made anew. */
extern void ks_join_forget_plans(KsOperator *op);

/*
 * Settings for planning joins with buffers; in force until the owner's scope ends.
 * hashes: hash joins can do all there is to be joined.
 */
extern void ks_join_planner_settings(bool hashes);

/* Creates the buffers of a query (join_ddl.c); with SPI, as the extension's owner. */
extern void ks_join_create_buffers(const KsJoin *join, const KsQueryRow *row);

#endif							/* KS_EXEC_JOIN_H */
