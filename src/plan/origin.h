/*
 * origin.h
 *		Which record a row of a query comes from.
 */
#ifndef KS_ORIGIN_H
#define KS_ORIGIN_H

#include "postgres.h"
#include "nodes/parsenodes.h"

/* Columns that ks_add_origin adds, behind all others. */
typedef enum KsOriginColumn
{
	KS_ORIGIN_STREAM,			/* regclass */
	KS_ORIGIN_PARTITION,		/* int */
	KS_ORIGIN_OFFSET,			/* bigint */
	KS_ORIGIN_COLUMNS
} KsOriginColumn;

/*
 * Adds to the select list of a row-wise query (a private copy) what names the
 * record of each row.  False if the stream is where no column can be got from
 * (in a view, in WITH): then rows must be made record by record.
 */
extern bool ks_add_origin(Query *query);

#endif							/* KS_ORIGIN_H */
