/*
 * capture.h
 *		Changes of a table on their way to a topic: rows to records, into the outbox.
 *
 * A capture belongs to one sink and one statement or batch.  The fold of what it
 * writes (the last record of each key, nothing where that is a tombstone) equals
 * the table, provided that no two rows have the same key.
 */
#ifndef KS_CAPTURE_H
#define KS_CAPTURE_H

#include "catalog/sink_cat.h"
#include "executor/tuptable.h"
#include "store/change.h"
#include "utils/relcache.h"

/* Triggers of a sink: this, its number, "_", and what they are fired by. */
#define KS_CAPTURE_TRIGGER_PREFIX "kstream_sink_"

typedef struct KsCapture KsCapture;

/* Hashes of record keys; see capture_keys.h. */
struct keyset_hash;

/*
 * Opens the sink for changes of its relation, which must stay open; in a context
 * under the current one.  Close it in the same (sub)transaction; after an error
 * do nothing.
 */
extern KsCapture *ks_capture_open(KsSinkRow *sink, Relation rel);
extern void ks_capture_close(KsCapture *capture);

/* The keys put are added to keys from now on; is the key of a row among some; adds it. */
extern void ks_capture_remember(KsCapture *capture, struct keyset_hash *keys);
extern bool ks_capture_has_key(KsCapture *capture, TupleTableSlot *row, struct keyset_hash *keys);
/* Is it there, added by another firing of triggers than this one?  Adds it for this one. */
extern bool ks_capture_key_of_other(KsCapture *capture, TupleTableSlot *row, struct keyset_hash *keys, uint32 firing);
extern void ks_capture_note_key(KsCapture *capture, TupleTableSlot *row, struct keyset_hash *keys, uint32 firing);
extern void ks_capture_collect_key(KsCapture *capture, TupleTableSlot *row, struct keyset_hash *keys);

/*
 * Puts owner and settings of the sink in force around many changes, where it
 * matters; otherwise that is done for each of them.
 */
extern void ks_capture_enter(KsCapture *capture);
extern void ks_capture_leave(KsCapture *capture);

/* A row is there, or has new values; old_row (NULL: none) has the same key. */
extern void ks_capture_put(KsCapture *capture, TupleTableSlot *old_row, TupleTableSlot *new_row,
						   TimestampTz event_time);
/* A row is there that is no change: part of what the table held when the sink was created. */
extern void ks_capture_snapshot_row(KsCapture *capture, TupleTableSlot *row, TimestampTz event_time);
/* The row of a key is gone. */
extern void ks_capture_remove(KsCapture *capture, TupleTableSlot *old_row, TimestampTz event_time);

/* Do two rows have the same record key? */
extern bool ks_capture_same_key(KsCapture *capture, TupleTableSlot *a, TupleTableSlot *b);

/* Publishes what the table holds now, as the beginning of a new sink. */
extern void ks_capture_snapshot(KsSinkRow *sink, Relation rel);

/* The listeners of a table that kstream maintains, one per sink. */
extern List *ks_capture_listeners(Relation rel);
extern bool ks_capture_wanted(Oid relation);

/* Raises an error if the sink cannot publish rows of the table as it is now. */
extern void ks_capture_check(const KsSinkRow *sink, Relation rel);

#endif							/* KS_CAPTURE_H */
