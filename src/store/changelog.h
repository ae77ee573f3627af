/*
 * changelog.h
 *		Changelogs: the changes of a table that kstream keeps up to date.
 *
 * A changelog is a log ordered at commit (log_commit.h): the change with offset n
 * has position n + 1, so positions are dense and begin with 1, and a position
 * says how many changes there were.  Changes are written in the transaction of
 * the batch and leave by truncation, see changelog.c; changelog_read.h reads.
 */
#ifndef KS_CHANGELOG_H
#define KS_CHANGELOG_H

#include "postgres.h"
#include "catalog/changelog_cat.h"
#include "nodes/pg_list.h"

/*
 * Columns of the table of rows behind those of every log.  Then come the columns
 * of the relation twice: o1.. of the old row, n1.. of the new one.
 */
enum
{
	KS_CHANGE_COL_OP = 4,		/* _op "char": i, u or d */
	KS_CHANGE_COL_TIME,			/* _t timestamptz: event time, NULL if there is none */
	KS_CHANGE_COL_FIRST			/* o1 */
};

#define KS_CHANGE_CHAR_INSERT 'i'
#define KS_CHANGE_CHAR_UPDATE 'u'
#define KS_CHANGE_CHAR_DELETE 'd'

/* The listener that keeps the changes of the relation: a list of one, or NIL. */
extern List *ks_changelog_listener(Oid relation);
/* Are changes of the relation kept? */
extern bool ks_changelog_wanted(Oid relation);

/* From now on changes of the relation are kept, for as long as keep says. */
extern void ks_changelog_start(Oid relation, Interval *keep);
/* No more; what was kept is forgotten.  The next positions are others. */
extern void ks_changelog_stop(Oid relation);

/*
 * Drops what was kept for long enough; in a transaction of its own.  An error if
 * somebody is in the way.  Returns in how many ms to look again.
 */
extern int64 ks_changelog_trim(Oid relation);

/* The channel that the changes of a relation are notified on. */
extern char *ks_changelog_channel(Oid relation);

#endif							/* KS_CHANGELOG_H */
