/*
 * restore.h
 *		What a dump does not hold: links between a query and its parts.
 */
#ifndef KS_RESTORE_H
#define KS_RESTORE_H

#include "postgres.h"
#include "catalog/query_cat.h"

/* The instance of what came with a dump; never that of a database, see ks_instance_id. */
#define KS_RESTORED_INSTANCE "restored"

/* Makes the parts of the query belong to its table again. */
extern void ks_relink_query(const KsQueryRow *row);

/* The same for the logs of local streams. */
extern void ks_relink_local_logs(void);
extern void ks_relink_sinks(void);

/* The same for changelogs. */
extern void ks_relink_changelogs(void);

#endif							/* KS_RESTORE_H */
