/*
 * clock.h
 *		A clock for delays, which nobody sets.
 *
 * When something is due is decided by it, so that a jump of the wall clock
 * neither holds anything up nor hurries it.
 */
#ifndef KS_CLOCK_H
#define KS_CLOCK_H

#include "postgres.h"

#include <time.h>

#include "utils/timestamp.h"

/*
 * Microseconds since the machine was started, and a day more, so that 0 is long
 * ago.  To be compared with its own kind only, also of other processes; the type
 * is that of the functions that do.
 */
static inline TimestampTz
ks_clock_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return USECS_PER_DAY + now.tv_sec * USECS_PER_SEC + now.tv_nsec / 1000;
}

#endif							/* KS_CLOCK_H */
