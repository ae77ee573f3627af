/*
 * group_table.c
 *		Hash table of the groups that a batch touches.
 */
#include "postgres.h"

#include "utils/datum.h"
#include "utils/memutils.h"

#include "exec/group_table.h"

typedef struct GroupEntry
{
	KsGroup    *group;
	uint32		hash;
	char		status;
} GroupEntry;

/* What is looked for: keys not yet copied into a group. */
typedef struct GroupProbe
{
	const Datum *keys;
	const bool *nulls;
} GroupProbe;

struct KsGroupTable
{
	MemoryContext cxt;
	const KsKeySpec *keys;
	Size		entry_size;
	struct group_hash *hash;
	KsGroup   **groups;			/* in order of appearance */
	int			count;
	int			max;
	GroupProbe	probe;
	uint64		probe_hash;
};

/*
 * The key of the hash is a group; NULL stands for the probe, so that a lookup
 * need not build a group first.
 */
#define SH_PREFIX group
#define SH_ELEMENT_TYPE GroupEntry
#define SH_KEY_TYPE KsGroup *
#define SH_KEY group
#define SH_SCOPE static inline
#define SH_DECLARE
#include "lib/simplehash.h"

/* Hash of a group, or of the probe. */
static inline uint32
probe_hash(KsGroupTable *table, const KsGroup *group)
{
	uint64		hash = group == NULL ? table->probe_hash : group->hash;

	return (uint32) (hash ^ (hash >> 32));
}

/* Compares a stored group with the probe. */
static inline bool
probe_equal(KsGroupTable *table, const KsGroup *a, const KsGroup *b)
{
	const KsGroup *stored = a == NULL ? b : a;

	Assert(a == NULL || b == NULL);
	return stored->hash == table->probe_hash &&
		ks_key_equal(table->keys, stored->keys, stored->nulls, table->probe.keys, table->probe.nulls);
}

#define SH_PREFIX group
#define SH_ELEMENT_TYPE GroupEntry
#define SH_KEY_TYPE KsGroup *
#define SH_KEY group
#define SH_HASH_KEY(tb, key) probe_hash((KsGroupTable *) (tb)->private_data, (key))
#define SH_EQUAL(tb, a, b) probe_equal((KsGroupTable *) (tb)->private_data, (a), (b))
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) ((a)->hash)
#define SH_SCOPE static inline
#define SH_DEFINE
#include "lib/simplehash.h"

/* See group_table.h. */
KsGroupTable *
ks_group_table_create(const KsKeySpec *keys, Size entry_size, int expected)
{
	KsGroupTable *table = palloc0(sizeof(KsGroupTable));

	table->cxt = CurrentMemoryContext;
	table->keys = keys;
	table->entry_size = MAXALIGN(entry_size);
	table->max = Max(expected, 64);
	table->groups = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(KsGroup *) * table->max);
	table->hash = group_create(CurrentMemoryContext, table->max, table);
	return table;
}

/* Makes a group with copies of the keys. */
static KsGroup *
make_group(KsGroupTable *table, uint64 hash)
{
	MemoryContext old = MemoryContextSwitchTo(table->cxt);
	int			nkeys = table->keys->nkeys;
	Size		keys_size = MAXALIGN(sizeof(Datum) * nkeys);
	KsGroup    *group = palloc0(table->entry_size + keys_size + sizeof(bool) * nkeys);

	group->hash = hash;
	group->number = table->count;
	group->keys = (Datum *) ((char *) group + table->entry_size);
	group->nulls = (bool *) ((char *) group->keys + keys_size);
	for (int i = 0; i < nkeys; i++)
	{
		const KsKeyColumn *column = &table->keys->columns[i];

		group->nulls[i] = table->probe.nulls[i];
		if (!group->nulls[i])
			group->keys[i] = datumCopy(table->probe.keys[i], column->typbyval, column->typlen);
	}
	if (table->count == table->max)
	{
		table->max *= 2;
		table->groups = repalloc_huge(table->groups, sizeof(KsGroup *) * table->max);
	}
	table->groups[table->count++] = group;
	MemoryContextSwitchTo(old);
	return group;
}

/* See group_table.h. */
KsGroup *
ks_group_table_get(KsGroupTable *table, const Datum *keys, const bool *nulls, bool *isnew)
{
	GroupEntry *entry;
	bool		found;

	table->probe.keys = keys;
	table->probe.nulls = nulls;
	table->probe_hash = ks_key_hash(table->keys, keys, nulls);
	entry = group_insert(table->hash, NULL, &found);
	if (!found)
	{
		entry->group = make_group(table, table->probe_hash);
	}
	*isnew = !found;
	return entry->group;
}

/* See group_table.h. */
int
ks_group_table_count(const KsGroupTable *table)
{
	return table->count;
}

/* See group_table.h. */
KsGroup *
ks_group_table_nth(const KsGroupTable *table, int n)
{
	Assert(n >= 0 && n < table->count);
	return table->groups[n];
}
