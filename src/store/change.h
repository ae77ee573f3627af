/*
 * change.h
 *		Those who want to know what changes in a table that kstream maintains.
 *
 * Changes of one transaction are handed on row by row while they are written: to
 * the changelog, for kstream.changes(), and to sinks, which publish them.  Where
 * nobody wants to know nothing is done.
 */
#ifndef KS_CHANGE_H
#define KS_CHANGE_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "nodes/pg_list.h"

typedef enum KsChangeOp
{
	KS_CHANGE_INSERT,			/* no old row */
	KS_CHANGE_UPDATE,
	KS_CHANGE_DELETE			/* no new row */
} KsChangeOp;

typedef struct KsChangeListener KsChangeListener;

struct KsChangeListener
{
	/* One change; the slots are of the table's row type and valid during the call. */
	void		(*take) (KsChangeListener *self, KsChangeOp op, TupleTableSlot *old_row,
						 TupleTableSlot *new_row, TimestampTz event_time);
	/* After the last change of the transaction. */
	void		(*finish) (KsChangeListener *self);
};

/*
 * The listeners of a table (KsChangeListener *), NIL if there are none; in the
 * current context, for the running transaction.
 */
extern List *ks_change_listeners(Oid relation);

/* Would ks_change_listeners find any? */
extern bool ks_changes_wanted(Oid relation);

/* Tells them that every row is about to be deleted, at no event time (DT_NOBEGIN). */
extern void ks_tell_cleared(Oid relation);

#endif							/* KS_CHANGE_H */
