/*
 * crashes.h
 *		Queries that take the server down: a pause before they run again.
 */
#ifndef KS_CRASHES_H
#define KS_CRASHES_H

#include "postgres.h"

extern void ks_crashes_init(void);

/*
 * Launcher: for how many ms no worker is to be started, because the server has
 * crashed several times in a row when workers had just been started; 0: none.
 */
extern int	ks_crashes_pause_ms(int *in_a_row);

/* Launcher: workers are being started. */
extern void ks_crashes_note_start(void);

#endif							/* KS_CRASHES_H */
