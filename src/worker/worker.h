/*
 * worker.h
 *		A worker: one process that runs many continuous queries of one database.
 */
#ifndef KS_WORKER_H
#define KS_WORKER_H

#include "postgres.h"

extern PGDLLEXPORT void ks_worker_main(Datum arg);

#endif							/* KS_WORKER_H */
