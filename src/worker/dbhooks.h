/*
 * dbhooks.h
 *		DDL that workers must get out of the way of, or hear about.
 */
#ifndef KS_DBHOOKS_H
#define KS_DBHOOKS_H

#include "postgres.h"

extern void ks_dbhooks_init(void);

#endif							/* KS_DBHOOKS_H */
