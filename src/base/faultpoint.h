/*
 * faultpoint.h
 *		Named points where a test makes the process crash, fail or sleep.
 *
 * Only in builds with -DKSTREAM_FAULTS; otherwise KS_FAULT() is nothing.
 */
#ifndef KS_FAULTPOINT_H
#define KS_FAULTPOINT_H

#include "postgres.h"

#ifdef KSTREAM_FAULTS
extern void ks_fault_hit(const char *name);
#define KS_FAULT(name) ks_fault_hit(name)
#else
#define KS_FAULT(name) ((void) 0)
#endif

extern void ks_fault_init(void);

#endif							/* KS_FAULTPOINT_H */
