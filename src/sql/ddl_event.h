/*
 * ddl_event.h
 *		Event triggers: definitions made, changed and dropped by plain SQL.
 */
#ifndef KS_DDL_EVENT_H
#define KS_DDL_EVENT_H

#include "postgres.h"

/* Off while a function of ours creates a relation in steps. */
extern void ks_event_trigger_enable(bool enable);

#endif							/* KS_DDL_EVENT_H */
