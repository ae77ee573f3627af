/*
 * bootstrap.h
 *		A query waits for the tables of other queries before its first batch.
 */
#ifndef KS_BOOTSTRAP_H
#define KS_BOOTSTRAP_H

#include "catalog/query_cat.h"

typedef struct KsBootstrap KsBootstrap;

/*
 * lookups: relations the query reads beside streams.  positions: stored
 * positions of the query; one that has read records does not wait again.
 * Returns NULL if there is nothing to wait for.  In a transaction.
 */
extern KsBootstrap *ks_bootstrap_create(const KsQueryRow *query, List *lookups, List *positions);

/*
 * Asks the brokers where the topics end; outside of transactions, where the
 * caller is a worker.  False if one does not answer (with patient that is an
 * error), or if a topic does not exist yet.
 */
extern bool ks_bootstrap_connect(KsBootstrap *bootstrap, bool patient);

/* How often in a row there was no answer, or no topic. */
extern int	ks_bootstrap_failed_requests(const KsBootstrap *bootstrap);

/* What is waited for, for display. */
extern const char *ks_bootstrap_trouble(const KsBootstrap *bootstrap);

/* Have the tables reached the ends their sources had?  In a transaction with a fresh snapshot. */
extern bool ks_bootstrap_done(KsBootstrap *bootstrap);

#endif							/* KS_BOOTSTRAP_H */
