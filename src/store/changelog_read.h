/*
 * changelog_read.h
 *		Reading changelogs.
 *
 * The snapshot decides what there is; see ks_log_snapshot.  The caller holds the
 * changelog (ks_changelog_hold), so that it is not truncated under the reader.
 */
#ifndef KS_CHANGELOG_READ_H
#define KS_CHANGELOG_READ_H

#include "postgres.h"
#include "catalog/changelog_cat.h"
#include "store/change.h"

/* One change; valid during the call. */
typedef struct KsStoredChange
{
	int64		offset;			/* its position is one more */
	KsChangeOp	op;
	TimestampTz event_time;		/* DT_NOBEGIN: none */
	int			ncolumns;
	const Datum *old_values;	/* of the relation's columns, without dropped ones */
	const bool *old_nulls;
	const Datum *new_values;
	const bool *new_nulls;
} KsStoredChange;

typedef void (*KsChangeVisitor) (const KsStoredChange *change, void *arg);

/*
 * The changelog of a relation, locked so that it is neither truncated nor dropped
 * before ks_changelog_let_go; NULL if no changes are kept.  The relation itself
 * must be locked by the caller.
 */
extern KsChangelogRow *ks_changelog_hold(Oid relation);
extern void ks_changelog_let_go(const KsChangelogRow *row);

extern int64 ks_changelog_begin(const KsChangelogRow *row, Snapshot snapshot);	/* first offset that can be read */
extern int64 ks_changelog_end(const KsChangelogRow *row, Snapshot snapshot);	/* after the last offset */

/* Visits changes from the offset on, at most so many; returns the offset after the last one. */
extern int64 ks_changelog_visit(const KsChangelogRow *row, Snapshot snapshot, int64 from, int64 max,
								KsChangeVisitor visit, void *arg);

#endif							/* KS_CHANGELOG_READ_H */
