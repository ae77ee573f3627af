/*
 * guc.h
 *		The settings kstream.*, as variables.
 */
#ifndef KS_GUC_H
#define KS_GUC_H

#include "postgres.h"

extern char *ks_default_server; /* kstream.default_server; "": none */
extern int	ks_max_workers;		/* kstream.max_workers: per database */
extern int	ks_batch_rows;		/* kstream.batch_rows */
extern int	ks_batch_interval;	/* kstream.batch_interval, ms; 0: what has arrived */
extern int	ks_cache_mem;		/* kstream.cache_mem, kB */
extern int	ks_batch_mem;		/* kstream.batch_mem, kB */
extern bool ks_log_statements;	/* kstream.log_statements */
extern bool ks_start_workers;	/* kstream.start_workers */

extern int	ks_outbox_max_bytes;	/* kstream.outbox_max_bytes, kB */
extern int	ks_output_durability;	/* kstream.output_durability: KsOutputDurability */

/* How durable a commit must be before what it has written is published. */
typedef enum KsOutputDurability
{
	KS_OUTPUT_FLUSHED,
	KS_OUTPUT_REPLICATED
} KsOutputDurability;

extern void ks_guc_init(void);
extern void ks_guc_reserve(void);

#endif							/* KS_GUC_H */
