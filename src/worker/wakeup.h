/*
 * wakeup.h
 *		Telling workers that there is something to do.
 *
 * All may be called in any backend, preloaded library or not (then they do nothing).
 */
#ifndef KS_WAKEUP_H
#define KS_WAKEUP_H

#include "postgres.h"

/* Definitions of this database changed: after commit, its workers reload them. */
extern void ks_notify_definitions_changed(void);

/* A local log of this database got records: call after commit. */
extern void ks_notify_local_records(void);

/*
 * A log (by its identity, see log_commit.h) got records: call after commit,
 * before ks_notify_local_records.  The version changes when it, or now and then
 * another log, has got some; one that wants to know reads the version first and
 * the log then.
 */
extern void ks_log_changed(Oid identity);
extern uint32 ks_log_version(Oid identity);

/* True if the library was preloaded, so that workers can exist. */
extern bool ks_workers_possible(void);

/*
 * Takes the query's lock to the end of this transaction, from the worker that
 * runs it if need be: for reset and for whatever else must not run beside a
 * batch.  (ks_query_lock with wait would wait for the worker for ever.)
 */
extern void ks_query_take_over(int32 query);

extern void ks_wakeup_init(void);

#endif							/* KS_WAKEUP_H */
