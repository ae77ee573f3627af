/*
 * unsent.h
 *		Records that a drop leaves unpublished.
 */
#ifndef KS_UNSENT_H
#define KS_UNSENT_H

#include "catalog/sink_cat.h"

/* Installs the hook that counts what a DROP is about to take away. */
extern void ks_unsent_init(void);

/* Warns if committed records of a sink that is dropped are not known to be in its topic. */
extern void ks_unsent_warn(const KsSinkRow *sink);

#endif							/* KS_UNSENT_H */
