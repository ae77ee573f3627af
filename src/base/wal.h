/*
 * wal.h
 *		The end of the transaction log.
 */
#ifndef KS_WAL_H
#define KS_WAL_H

#include "postgres.h"
#include "access/xlogdefs.h"

/* The end of the last record there is, which can be flushed to. */
extern XLogRecPtr ks_wal_end(void);

#endif							/* KS_WAL_H */
