/*
 * group_table.h
 *		Hash table of the groups (or keys) that a batch touches.
 *
 * Lives in the memory context of an attempt.  Keys compare as GROUP BY and a
 * UNIQUE NULLS NOT DISTINCT index do.
 */
#ifndef KS_GROUP_TABLE_H
#define KS_GROUP_TABLE_H

#include "executor/tuptable.h"
#include "store/table_writer.h"

/* First member of the caller's struct. */
typedef struct KsGroup
{
	uint64		hash;
	int			number;			/* in order of first appearance, from 0 */
	Datum	   *keys;
	bool	   *nulls;
} KsGroup;

typedef struct KsGroupTable KsGroupTable;

/* entry_size: size of the caller's struct; expected: groups there will be, if known. In the current context. */
extern KsGroupTable *ks_group_table_create(const KsKeySpec *keys, Size entry_size, int expected);
/* Finds the group or makes it (zeroed, keys copied). */
extern KsGroup *ks_group_table_get(KsGroupTable *table, const Datum *keys, const bool *nulls, bool *isnew);
extern int	ks_group_table_count(const KsGroupTable *table);
extern KsGroup *ks_group_table_nth(const KsGroupTable *table, int n);

#endif							/* KS_GROUP_TABLE_H */
