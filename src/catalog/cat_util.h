/*
 * cat_util.h
 *		What reading and writing the tables of kstream_catalog takes.
 */
#ifndef KS_CAT_UTIL_H
#define KS_CAT_UTIL_H

#include "postgres.h"
#include "nodes/pg_list.h"

/* Oid of a relation of the catalog schema; an error if the extension is missing. */
extern Oid	ks_catalog_relid(const char *name);

extern List *ks_list_from_array(Datum array);	/* text[] to char *, nulls left out */
extern Datum ks_array_from_list(List *list);

/* Is the name in a list of names (char *)? */
extern bool ks_names_contain(List *names, const char *name);

/* Raises insufficient_privilege unless the caller owns the relation. */
extern void ks_relation_check_owner(Oid relation);

/* Sets search_path = pg_catalog, until AtEOXact_GUC for the nest level that it returns. */
extern int	ks_set_catalog_path(void);

/* Runs SQL of our own as the extension's owner with search_path = pg_catalog; SPI must be connected. */
extern int	ks_spi_execute(const char *sql, bool read_only, int nargs, Oid *argtypes,
						   Datum *values, const char *nulls);

/* The same in a connection of its own, for statements whose result does not matter. */
extern void ks_catalog_execute(const char *sql, int nargs, Oid *argtypes, Datum *values);

/* The last error of a query or sink ("query", "sink": the table), and that there is none any more. */
extern void ks_catalog_set_error(const char *table, int32 id, int sqlstate, const char *message);
extern void ks_catalog_clear_error(const char *table, int32 id);

#endif							/* KS_CAT_UTIL_H */
