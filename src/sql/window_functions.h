/*
 * window_functions.h
 *		kstream.tumble, kstream.hop and kstream.session: what their arguments may be.
 */
#ifndef KS_WINDOW_FUNCTIONS_H
#define KS_WINDOW_FUNCTIONS_H

#include "nodes/primnodes.h"

/* Arguments that a window function has at most. */
#define KS_WINDOW_MAX_ARGS 4

/*
 * Raises the errors that every call of the window function ("tumble", "hop" or
 * "session") with these constants would raise.  args: KS_WINDOW_MAX_ARGS elements,
 * NULL where an argument is missing, not a constant or NULL.  zoned: the last
 * argument, constant or not, is a time zone.  False if the windows leave gaps.
 */
extern bool ks_window_check_call(const char *function, Const **args, bool zoned);

#endif							/* KS_WINDOW_FUNCTIONS_H */
