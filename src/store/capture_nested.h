/*
 * capture_nested.h
 *		Statements inside of others, whose changes are captured first.
 */
#ifndef KS_CAPTURE_NESTED_H
#define KS_CAPTURE_NESTED_H

#include "store/capture.h"

/* May the statement that runs in this context be part of another one? */
extern bool ks_statement_is_inside(MemoryContext query);

/* The keys that such statements of this transaction have captured of a sink; NULL: none, unless made now. */
extern struct keyset_hash *ks_nested_keys(int32 sink, bool make);

/* Gets the row of the table that has the key of row, as it is now; false: there is none. */
extern bool ks_find_row_of_key(KsCapture *capture, Relation rel, List *key_columns,
							   TupleTableSlot *row, TupleTableSlot *found);

#endif							/* KS_CAPTURE_NESTED_H */
