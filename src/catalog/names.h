/*
 * names.h
 *		Names of objects as generated SQL needs them: always with their schema.
 */
#ifndef KS_NAMES_H
#define KS_NAMES_H

#include "postgres.h"

/* Qualified, quoted name of a relation. */
extern char *ks_qualified_name(Oid relid);

/* Qualified, quoted name of a collation, which need not be in anybody's search_path. */
extern char *ks_collation_name(Oid collation);

#endif							/* KS_NAMES_H */
