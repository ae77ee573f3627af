/*
 * trim.c
 *		Dropping what has been kept long enough, in the pauses of a worker.
 *
 * Every worker of a database looks; what one is at, the others leave alone.  An
 * error (a lock not granted, a table that is being dropped) waits for the next
 * time: changes that stay longer do no harm.
 *
 * Runs in: workers, outside of transactions.
 */
#include "postgres.h"

#include "catalog/changelog_cat.h"
#include "store/changelog.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "worker/runner.h"
#include "worker/trim.h"

/* After an error. */
#define RETRY_MS 5000

/* What the guarded parts work on. */
typedef struct KsTrimWork
{
	MemoryContext cxt;
	List	   *relations;
	Oid			relation;
	int64		again_ms;
} KsTrimWork;

static bool look_again = true;
static TimestampTz due = 0;		/* 0: there is nothing to trim */

/* See trim.h. */
void
ks_trim_look_again(void)
{
	look_again = true;
}

/* list_body: the tables whose changes are kept. */
static void
list_body(void *arg)
{
	KsTrimWork *work = arg;
	MemoryContext old = MemoryContextSwitchTo(work->cxt);

	work->relations = ks_changelog_relations();
	MemoryContextSwitchTo(old);
}

/* trim_body: trims one. */
static void
trim_body(void *arg)
{
	KsTrimWork *work = arg;

	work->again_ms = ks_changelog_trim(work->relation);
}

/* guarded: runs a body; false after an error. */
static bool
guarded(KsGuarded body, KsTrimWork *work)
{
	ErrorData  *edata = ks_guarded(body, work);

	if (edata == NULL)
		return true;
	ereport(DEBUG1,
			(errmsg_internal("kstream worker could not drop old changes: %s", edata->message)));
	FreeErrorData(edata);
	return false;
}

/* See trim.h. */
TimestampTz
ks_trim(TimestampTz now)
{
	KsTrimWork	work = {.cxt = CurrentMemoryContext};
	int64		again_ms = PG_INT64_MAX;
	ListCell   *lc;

	if (!look_again && (due == 0 || now < due))
		return due;
	look_again = false;
	if (!guarded(list_body, &work))
		again_ms = RETRY_MS;
	foreach(lc, work.relations)
	{
		work.relation = lfirst_oid(lc);
		if (!guarded(trim_body, &work))
			work.again_ms = RETRY_MS;
		again_ms = Min(again_ms, work.again_ms);
	}
	due = again_ms == PG_INT64_MAX ? 0 : TimestampTzPlusMilliseconds(now, again_ms);
	return due;
}
