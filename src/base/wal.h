/*
 * wal.h
 *		The end of the transaction log, here and on standbys.
 */
#ifndef KS_WAL_H
#define KS_WAL_H

#include "postgres.h"
#include "access/xlogdefs.h"

/* The end of the last record there is, which can be flushed to. */
extern XLogRecPtr ks_wal_end(void);

/* Have the synchronous standbys, if there are any, flushed it up to here? */
extern bool ks_wal_replicated(XLogRecPtr upto);

#endif							/* KS_WAL_H */
