/*
 * index_key.h
 *		How long the key of a row may be.
 */
#ifndef KS_INDEX_KEY_H
#define KS_INDEX_KEY_H

#include "postgres.h"
#include "executor/tuptable.h"

/*
 * Longest key in bytes.  A btree takes up to a third of a page (2,704 bytes) for
 * all columns of an entry; keys stay below it uncompressed, so that whether a key
 * is accepted does not depend on how well it compresses.
 */
#define KS_MAX_KEY_BYTES 2600

/*
 * Bytes of the n keys of a row from attribute first on (from 0): those of variable
 * length, and all of them where they do not fit otherwise.
 */
extern Size ks_index_key_size(TupleTableSlot *slot, int first, int n);

#endif							/* KS_INDEX_KEY_H */
