/*
 * changelog_cat.h
 *		Rows of kstream_catalog.changelog as C structs.
 *
 * As in query_cat.h, the functions act with the rights of the extension's owner,
 * whoever calls.
 */
#ifndef KS_CHANGELOG_CAT_H
#define KS_CHANGELOG_CAT_H

#include "postgres.h"
#include "nodes/pg_list.h"
#include "utils/snapshot.h"
#include "utils/timestamp.h"

/* One half of a changelog. */
typedef struct KsChangelogHalf
{
	Oid			rows;
	Oid			segments;
} KsChangelogHalf;

typedef struct KsChangelogRow
{
	Oid			relation;
	KsChangelogHalf halves[2];
	int			half;			/* the half that is written now */
	Interval   *keep;			/* NULL: changes are no longer kept, there are no tables */
	int64		next_offset;	/* where the log begins that is made next, or was made last */
} KsChangelogRow;

/*
 * The changelog of a relation, or NULL; in the current memory context.  With a
 * snapshot: as it is in that one; NULL: as it is now.  One that was stopped is
 * found too.
 */
extern KsChangelogRow *ks_changelog_load(Oid relation, Snapshot snapshot);

extern List *ks_changelog_relations(void);	/* oid list: changes are kept of them */

extern void ks_changelog_store(const KsChangelogRow *row);	/* new or not */
extern void ks_changelog_set_half(Oid relation, int half);
extern void ks_changelog_set_keep(Oid relation, const Interval *keep);

#endif							/* KS_CHANGELOG_CAT_H */
