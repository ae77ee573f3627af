/*
 * dedup.c
 *		Dropping duplicates of a stream's records before a query sees them.
 *
 * The rules.  A query looks at the records of a partition in the order of their
 * offsets, and at each of them once:
 *
 * 1. A record that is bad for a reader of the dedup_key columns or of the
 *	  column of event time is a bad record of the query.  It is not accepted.
 * 2. A record with a NULL in its key is passed on and not remembered; so is one
 *	  without any event time.
 * 3. A record that is more than KS_DEDUP_LATE windows behind the time of its own
 *	  partition, itself included, is passed on and not remembered.
 * 4. Of any other, the last accepted record of the same key is looked up.  If
 *	  there is one and its event time is at most one window away, before or after,
 *	  the record is a duplicate: it is dropped, and the key stays as it is.
 * 5. Otherwise it is accepted: it is passed on and is now the last of its key.
 *
 * Whether the query succeeds with an accepted record is of no importance: one
 * that turns out bad is in the dead letters, accepted, and replaying it asks
 * nobody.  With on_error = 'stop' the records from the bad one on have not been
 * looked at: the batch is decided anew without them.
 *
 * Why the outcome does not depend on batches and crashes.  A decision reads the
 * record, the partition time at the record, which are properties of the
 * partition, and the last accepted record of the key.  The latter is, by
 * induction, a property of the partition as well, if all records of the key are
 * in it: keys are stored in the transaction that stores the positions.  It
 * remains that forgetting changes no decision.  After rule 3 a partition at time
 * P compares only records at or after P - KS_DEDUP_LATE windows, with
 * entries at most one window before those.  P only grows.  So an entry that is more
 * than KS_DEDUP_LATE + 1 windows behind P is never compared again, whenever it
 * goes.  Entries of a partition are never above its time, so a part of the
 * tables whose lower bound is above it holds none of that partition.
 *
 * A key that is in several partitions.  Which of its records comes first
 * depends on how they arrive, so which of two duplicates is dropped does, too.
 * That one of them is dropped does not: an entry is kept while any partition
 * that is not idle may still compare it.  Idle is one that was read to its end,
 * for a topic idle_timeout ago; for records that come to it later, and are so far
 * behind the others, an entry that came from another partition may be gone.
 *
 * What is stored.  A key may have entries in several parts (dedup_parts.c).  The
 * younger the part, the greater the time; so the first one found, from the
 * youngest part on, is the last accepted one.  An accepted record that is older
 * than an entry of its key therefore removes it.  Parts that end more than a
 * window before a record need not be asked about it, but for the youngest: in a
 * part there is one entry of a key.
 *
 * Runs in: worker or a backend that steps; inside the batch's transaction.
 */
#include "postgres.h"

#include "access/table.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "base/faultpoint.h"
#include "catalog/dedup_cat.h"
#include "store/dedup.h"
#include "store/dedup_parts.h"
#include "store/table_writer.h"

/* A record this many windows behind the time of its partition is not compared. */
#define KS_DEDUP_LATE 3

/* Beyond so many parts the youngest grows on: every one is a table to look into. */
#define MAX_PARTS 24

/* A part spans at least this time, so that small windows do not make tables all the time. */
#define MIN_SPAN USECS_PER_MINUTE

/* A key accepted in the running batch. */
typedef struct Accepted
{
	KsDedupRow	row;			/* keys point into the batch */
	int32		partition;
	List	   *hits;			/* KsDedupHit *: entries of the key in the tables */
	struct Accepted *next;		/* another key with the same hash */
} Accepted;

typedef struct AcceptedSlot
{
	uint64		hash;
	Accepted   *first;
	char		status;
} AcceptedSlot;

#define SH_PREFIX accepted
#define SH_ELEMENT_TYPE AcceptedSlot
#define SH_KEY_TYPE uint64
#define SH_KEY hash
#define SH_HASH_KEY(tb, key) ((uint32) ((key) ^ ((key) >> 32)))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct KsDedup
{
	KsKeySpec  *keys;
	bool	   *wanted;			/* [natts] columns whose errors make a record bad here */
	int64		window;
	KsDedupParts *parts;
	MemoryContext batch_cxt;	/* what was decided about the batch */
	accepted_hash *accepted;	/* in batch_cxt; NULL: nothing decided */
	Datum	   *values;			/* key of the row at hand */
	bool	   *nulls;
};

/* Time between two times; the difference of two timestamps may not fit into an int64. */
static uint64
distance(TimestampTz a, TimestampTz b)
{
	return a > b ? (uint64) a - (uint64) b : (uint64) b - (uint64) a;
}

/* Is time more than n windows before now? */
static bool
is_behind(const KsDedup *dedup, TimestampTz time, TimestampTz now, int n)
{
	return now > time && distance(now, time) > (uint64) dedup->window * n;
}

/* The columns of the rule must still be there, and of types that can be keys. */
static KsKeySpec *
open_keys(Relation rel, const KsDedupRule *rule)
{
	ListCell   *lc;

	foreach(lc, rule->columns)
	{
		AttrNumber	attnum = get_attnum(RelationGetRelid(rel), lfirst(lc));
		TypeCacheEntry *type;

		if (attnum <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("dedup_key column \"%s\" of stream \"%s\" does not exist any more",
							(char *) lfirst(lc), RelationGetRelationName(rel)),
					 errhint("Bring it back, or call kstream.reset() to build the table anew by the present definition.")));
		type = lookup_type_cache(get_atttype(RelationGetRelid(rel), attnum),
								 TYPECACHE_EQ_OPR | TYPECACHE_HASH_EXTENDED_PROC);
		if (!OidIsValid(type->eq_opr) || !OidIsValid(type->hash_extended_proc))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("dedup_key column \"%s\" of stream \"%s\" now has type %s, which has no hash function or no equality",
							(char *) lfirst(lc), RelationGetRelationName(rel), format_type_be(type->type_id)),
					 errhint("Change the type back, or call kstream.reset() to build the table anew by the present definition.")));
	}
	return ks_key_spec_create(rel, rule->columns);
}

/* See dedup.h. */
KsDedup *
ks_dedup_open(const KsQueryRow *query, KsReader *reader)
{
	KsStreamDef *def = reader->def;
	KsDedupRule *rule = ks_dedup_rule_load(query->id, def->relid);
	KsDedup    *dedup;
	Relation	rel;

	if (rule == NULL)
		return NULL;
	dedup = palloc0(sizeof(KsDedup));
	rel = table_open(def->relid, AccessShareLock);
	dedup->keys = open_keys(rel, rule);
	table_close(rel, NoLock);
	dedup->wanted = palloc0(sizeof(bool) * Max(def->natts, 1));
	for (int i = 0; i < dedup->keys->nkeys; i++)
		dedup->wanted[dedup->keys->columns[i].attnum - 1] = true;
	if (def->event_time != 0)
		dedup->wanted[def->event_time - 1] = true;
	dedup->window = rule->window;
	dedup->parts = ks_dedup_parts_create(query, def->relid, dedup->keys, rule->window);
	dedup->values = palloc(sizeof(Datum) * dedup->keys->nkeys);
	dedup->nulls = palloc(sizeof(bool) * dedup->keys->nkeys);
	dedup->batch_cxt = AllocSetContextCreate(CurrentMemoryContext, "kstream duplicates", ALLOCSET_DEFAULT_SIZES);
	return dedup;
}

/* ---------------------------------------------------------------- decisions */

/* The key accepted in this batch, or NULL. */
static Accepted *
find_accepted(KsDedup *dedup, uint64 hash)
{
	AcceptedSlot *slot = accepted_lookup(dedup->accepted, hash);

	for (Accepted *key = slot == NULL ? NULL : slot->first; key != NULL; key = key->next)
	{
		if (ks_key_equal(dedup->keys, key->row.keys, dedup->nulls, dedup->values, dedup->nulls))
			return key;
	}
	return NULL;
}

/*
 * Entries of the key in the tables that may matter to a record of that time, the
 * last accepted first.  The youngest part is always asked: it will get the entry
 * of the record, and a key must not be there twice.
 */
static List *
find_hits(KsDedup *dedup, uint64 hash, TimestampTz time)
{
	List	   *hits = NIL;
	List	   *parts = dedup->parts->parts;

	for (int i = list_length(parts) - 1; i >= 0; i--)
	{
		KsDedupPart *part = list_nth(parts, i);
		KsDedupHit	hit;

		if (i < list_length(parts) - 1 && is_behind(dedup, part->high, time, 1))
			continue;
		if (ks_dedup_part_find(dedup->parts, part, hash, dedup->values, &hit))
		{
			MemoryContext old = MemoryContextSwitchTo(dedup->batch_cxt);
			KsDedupHit *copy = palloc(sizeof(KsDedupHit));

			*copy = hit;
			hits = lappend(hits, copy);
			MemoryContextSwitchTo(old);
		}
	}
	return hits;
}

/* The key at hand is accepted for the first time in this batch. */
static Accepted *
add_accepted(KsDedup *dedup, uint64 hash)
{
	Size		size = sizeof(Datum) * dedup->keys->nkeys;
	Accepted   *key = MemoryContextAlloc(dedup->batch_cxt, sizeof(Accepted) + size);
	Datum	   *keys = (Datum *) (key + 1);
	bool		found;
	AcceptedSlot *slot = accepted_insert(dedup->accepted, hash, &found);

	memcpy(keys, dedup->values, size);
	key->row.hash = hash;
	key->row.keys = keys;
	key->hits = NIL;
	key->next = found ? slot->first : NULL;
	slot->first = key;
	return key;
}

/* Rules 4 and 5: accepts the record whose key is at hand, or tells that it is a duplicate. */
static bool
is_duplicate(KsDedup *dedup, const KsRow *row)
{
	uint64		hash = ks_key_hash(dedup->keys, dedup->values, dedup->nulls);
	Accepted   *key = find_accepted(dedup, hash);
	List	   *hits;

	if (key != NULL && distance(key->row.time, row->event_time) <= (uint64) dedup->window)
		return true;
	hits = find_hits(dedup, hash, row->event_time);
	if (key == NULL && hits != NIL &&
		distance(((KsDedupHit *) linitial(hits))->time, row->event_time) <= (uint64) dedup->window)
		return true;
	if (key == NULL)
		key = add_accepted(dedup, hash);
	key->row.time = row->event_time;
	key->partition = row->rec.partition;
	if (hits != NIL)
	{
		MemoryContext old = MemoryContextSwitchTo(dedup->batch_cxt);

		key->hits = list_concat(key->hits, hits);
		MemoryContextSwitchTo(old);
	}
	return false;
}

/* Takes the key of a row; false if there is a NULL in it. */
static bool
take_key(KsDedup *dedup, const KsRow *row)
{
	for (int i = 0; i < dedup->keys->nkeys; i++)
	{
		AttrNumber	attnum = dedup->keys->columns[i].attnum;

		if (row->nulls[attnum - 1])
			return false;
		dedup->values[i] = row->values[attnum - 1];
		dedup->nulls[i] = false;
	}
	return true;
}

/* See dedup.h. */
void
ks_dedup_decide(KsDedup *dedup, KsBatch *batch)
{
	MemoryContextReset(dedup->batch_cxt);
	dedup->accepted = accepted_create(dedup->batch_cxt, 1024, NULL);
	if (batch->duplicate == NULL)
		batch->duplicate = MemoryContextAlloc(batch->cxt, sizeof(bool) * Max(batch->nrows, 1));
	memset(batch->duplicate, 0, sizeof(bool) * Max(batch->nrows, 1));
	if (batch->nrows == 0)
		return;
	ks_dedup_parts_load(dedup->parts);
	dedup->parts->expected = batch->nrows;
	ks_batch_decode(batch, dedup->wanted);
	for (int i = 0; i < batch->nrows; i++)
	{
		KsRow	   *row = &batch->rows[i];
		const KsRecordError *error;

		if (i % 1024 == 0)
			CHECK_FOR_INTERRUPTS();
		if (batch->skip[i])
			continue;
		if (unlikely(row->errors != NULL) && (error = ks_batch_row_error(batch, i, dedup->wanted)) != NULL)
		{
			ks_batch_report_bad(batch, i, error);
			continue;
		}
		if (!take_key(dedup, row) || row->event_time == DT_NOBEGIN ||
			is_behind(dedup, row->event_time, row->stream_time, KS_DEDUP_LATE))
			continue;
		if (is_duplicate(dedup, row))
			batch->skip[i] = batch->duplicate[i] = true;
	}
	ks_dedup_parts_close(dedup->parts);
}

/* ---------------------------------------------------------------- storing */

/* Will no record to come be compared with an entry of that time and partition? */
static bool
is_past(const KsDedup *dedup, TimestampTz time, int32 partition, const KsDedupProgress *progress, int npartitions)
{
	for (int p = 0; p < npartitions; p++)
	{
		if ((progress[p].more || p == partition) &&
			!is_behind(dedup, time, progress[p].time, KS_DEDUP_LATE + 1))
			return false;
	}
	return true;
}

/* The same for all entries of a part. */
static bool
part_is_past(const KsDedup *dedup, const KsDedupPart *part, const KsDedupProgress *progress, int npartitions)
{
	for (int p = 0; p < npartitions; p++)
	{
		bool		has_entries = progress[p].time >= part->low;

		if ((progress[p].more || has_entries) &&
			!is_behind(dedup, part->high, progress[p].time, KS_DEDUP_LATE + 1))
			return false;
	}
	return true;
}

/* Order of hashes, which is that of the index. */
static int
compare_rows(const void *a, const void *b)
{
	int64		left = (int64) ((const KsDedupRow *) a)->hash;
	int64		right = (int64) ((const KsDedupRow *) b)->hash;

	return left < right ? -1 : left > right;
}

/*
 * Removes the entries that an accepted record makes wrong: one in the part that
 * is to get the record's own, and any that are later than it.
 */
static void
remove_hits(const Accepted *key, const KsDedupPart *target)
{
	ListCell   *lc;

	foreach(lc, key->hits)
	{
		KsDedupHit *hit = lfirst(lc);
		bool		removed = false;

		if (hit->part != target && hit->time <= key->row.time)
			continue;
		/* a key accepted several times in the batch has met the entry as often */
		for (int i = 0; i < foreach_current_index(lc) && !removed; i++)
		{
			KsDedupHit *before = list_nth(key->hits, i);

			removed = before->part == hit->part && ItemPointerEquals(&before->tid, &hit->tid);
		}
		if (!removed)
			ks_dedup_part_remove(hit->part, &hit->tid);
	}
}

/* The part that new keys go into, or NULL: one must be added. */
static KsDedupPart *
current_part(const KsDedup *dedup)
{
	List	   *parts = dedup->parts->parts;
	KsDedupPart *last = parts == NIL ? NULL : llast(parts);

	if (last != NULL && list_length(parts) < MAX_PARTS && last->high > last->low &&
		distance(last->high, last->low) >= (uint64) Max(dedup->window / 2, MIN_SPAN))
		return NULL;
	return last;
}

/*
 * The accepted keys as rows for the tables.  Those that are past already are left
 * out, but only above all entries there are: an older entry of the key, which
 * they have replaced, must not come back.
 */
static KsDedupRow *
accepted_rows(KsDedup *dedup, const KsDedupPart *target, const KsDedupProgress *progress, int npartitions,
			  int *nrows)
{
	KsDedupRow *rows = MemoryContextAllocHuge(dedup->batch_cxt,
											  sizeof(KsDedupRow) * Max(dedup->accepted->members, 1) * 2);
	int			maxrows = Max(dedup->accepted->members, 1) * 2;
	TimestampTz top = DT_NOBEGIN;
	accepted_iterator it;
	AcceptedSlot *slot;
	ListCell   *lc;

	*nrows = 0;
	foreach(lc, dedup->parts->parts)
		top = Max(top, ((KsDedupPart *) lfirst(lc))->high);
	accepted_start_iterate(dedup->accepted, &it);
	while ((slot = accepted_iterate(dedup->accepted, &it)) != NULL)
	{
		for (Accepted *key = slot->first; key != NULL; key = key->next)
		{
			if (key->row.time >= top && is_past(dedup, key->row.time, key->partition, progress, npartitions))
				continue;
			if (key->hits != NIL)
				remove_hits(key, target);
			if (*nrows == maxrows)
			{
				maxrows *= 2;
				rows = repalloc_huge(rows, sizeof(KsDedupRow) * (Size) maxrows);
			}
			rows[(*nrows)++] = key->row;
		}
	}
	return rows;
}

/* See dedup.h. */
void
ks_dedup_store(KsDedup *dedup, const KsDedupProgress *progress, int npartitions)
{
	MemoryContext old = MemoryContextSwitchTo(dedup->batch_cxt);
	KsDedupPart *target;
	KsDedupRow *rows;
	List	   *past = NIL;
	int			nrows;
	ListCell   *lc;

	if (dedup->accepted == NULL)
	{
		MemoryContextSwitchTo(old);
		return;
	}
	ks_dedup_parts_load(dedup->parts);
	target = current_part(dedup);
	rows = accepted_rows(dedup, target, progress, npartitions, &nrows);
	if (nrows > 0)
	{
		qsort(rows, nrows, sizeof(KsDedupRow), compare_rows);
		if (target == NULL)
			target = ks_dedup_parts_add(dedup->parts);
		ks_dedup_part_append(dedup->parts, target, rows, nrows);
	}
	KS_FAULT("after_dedup");
	foreach(lc, dedup->parts->parts)
	{
		if (part_is_past(dedup, lfirst(lc), progress, npartitions))
			past = lappend(past, lfirst(lc));
	}
	foreach(lc, past)
		ks_dedup_parts_drop(dedup->parts, lfirst(lc));
	MemoryContextSwitchTo(old);
	dedup->accepted = NULL;
	MemoryContextReset(dedup->batch_cxt);
}
