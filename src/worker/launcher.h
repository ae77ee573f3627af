/*
 * launcher.h
 *		The process that starts workers.
 */
#ifndef KS_LAUNCHER_H
#define KS_LAUNCHER_H

#include "postgres.h"

extern void ks_launcher_init(void);
extern PGDLLEXPORT void ks_launcher_main(Datum arg);

#endif							/* KS_LAUNCHER_H */
