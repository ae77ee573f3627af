/*
 * dedup_cat.h
 *		By which rule a query drops duplicates of a stream, and the tables that
 *		remember keys: rows of kstream_catalog.dedup and dedup_part.
 */
#ifndef KS_DEDUP_CAT_H
#define KS_DEDUP_CAT_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/* The rule of one query for one stream. */
typedef struct KsDedupRule
{
	List	   *columns;		/* char *: names of the key columns */
	int64		window;			/* microseconds */
} KsDedupRule;

/* In the current memory context; NULL if the query keeps duplicates of the stream. */
extern KsDedupRule *ks_dedup_rule_load(int32 query, Oid source);

/* Takes the rules of the streams as they are now for the query's from here on. */
extern void ks_dedup_pin(int32 query, List *streams);

/* Tables of the query that remember keys (oid list), in the current memory context. */
extern List *ks_dedup_part_relations(int32 query);

/* Adds such a table, with bounds of the event times in it; not seen as a restore. */
extern void ks_dedup_part_insert(Oid relid, int32 query, Oid source, int number, TimestampTz low, TimestampTz high);

/* Drops such a table and its catalog row; false, with nothing done, if somebody is using it. */
extern bool ks_dedup_part_drop(Oid relid);

/* The interval as text that every session reads the same. */
extern char *ks_dedup_window_text(int64 window);

#endif							/* KS_DEDUP_CAT_H */
