/*
 * fdw.h
 *		What planning a scan of a stream leaves for its execution.
 *
 * The foreign data wrapper is three files: fdw.c (handler, planning, EXPLAIN),
 * fdw_scan.c (reading) and fdw_modify.c (INSERT).
 */
#ifndef KS_FDW_H
#define KS_FDW_H

#include "postgres.h"
#include "catalog/stream_def.h"
#include "nodes/pg_list.h"

/*
 * A condition on a metadata column that narrows a bounded read: column op value.
 * The value's expression is in fdw_exprs, at the same place.  The condition is
 * still checked by the executor.
 */
typedef struct KsPushedQual
{
	KsMetaColumn column;		/* _partition, _offset or _timestamp */
	int			strategy;		/* BTLessStrategyNumber ... */
	bool		array;			/* value is an array: = ANY (value) */
	Oid			typid;			/* of the value */
} KsPushedQual;

/* fdw_private of a scan is a list of these. */
enum
{
	KS_PRIVATE_COLUMNS,			/* integer list: attnums that are read; 0: all */
	KS_PRIVATE_QUALS,			/* integer list: four per KsPushedQual */
	KS_PRIVATE_LABELS			/* list of String: the conditions for EXPLAIN */
};

/* [natts] booleans from fdw_private, in the current context. */
extern bool *ks_private_columns(List *fdw_private, int natts);
extern KsPushedQual *ks_private_quals(List *fdw_private, int *nquals);

#endif							/* KS_FDW_H */
