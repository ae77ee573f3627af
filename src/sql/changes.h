/*
 * changes.h
 *		kstream.changes, position and keep_changes.
 */
#ifndef KS_SQL_CHANGES_H
#define KS_SQL_CHANGES_H

#include "postgres.h"
#include "utils/timestamp.h"

/* Raises an error unless changes can be kept for so long. */
extern void ks_check_keep(Interval *keep);

#endif							/* KS_SQL_CHANGES_H */
