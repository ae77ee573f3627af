/*
 * fdw_scan.h
 *		Executor callbacks for reading a stream.
 */
#ifndef KS_FDW_SCAN_H
#define KS_FDW_SCAN_H

#include "postgres.h"
#include "nodes/execnodes.h"

extern void ks_begin_foreign_scan(ForeignScanState *node, int eflags);
extern TupleTableSlot *ks_iterate_foreign_scan(ForeignScanState *node);
extern void ks_rescan_foreign_scan(ForeignScanState *node);
extern void ks_end_foreign_scan(ForeignScanState *node);

#endif							/* KS_FDW_SCAN_H */
