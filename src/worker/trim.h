/*
 * trim.h
 *		Dropping what has been kept long enough, in the pauses of a worker.
 */
#ifndef KS_TRIM_H
#define KS_TRIM_H

#include "postgres.h"
#include "datatype/timestamp.h"

/* Definitions may have changed: the next ks_trim looks what there is. */
extern void ks_trim_look_again(void);

/* Drops what is old, if it is time to look; returns when to call again (0: never). */
extern TimestampTz ks_trim(TimestampTz now);

#endif							/* KS_TRIM_H */
