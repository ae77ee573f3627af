/*
 * bootstrap.h
 *		A query waits for the KTables it looks up before its first batch.
 */
#ifndef KS_BOOTSTRAP_H
#define KS_BOOTSTRAP_H

#include "nodes/pg_list.h"

typedef struct KsBootstrap KsBootstrap;

/*
 * lookups: relations the query reads beside streams.  positions: stored
 * positions of the query; one that has read records does not wait again.
 * Returns NULL if there is nothing to wait for.  In a transaction.
 */
extern KsBootstrap *ks_bootstrap_create(List *lookups, List *positions);

/*
 * Asks the brokers where the topics end; outside of transactions, where the
 * caller is a worker.  False if one does not answer; with patient that is an error.
 */
extern bool ks_bootstrap_connect(KsBootstrap *bootstrap, bool patient);

/* How often in a row no broker has answered. */
extern int	ks_bootstrap_failed_requests(const KsBootstrap *bootstrap);

/* Have the tables reached the ends their topics had?  In a transaction with a fresh snapshot. */
extern bool ks_bootstrap_done(KsBootstrap *bootstrap);

#endif							/* KS_BOOTSTRAP_H */
