/*
 * changelog.c
 *		Changelogs: the changes of a table that kstream keeps up to date.
 *
 * Tables kstream_state.chg_<id>_0 and _1 hold a row per change with the values as
 * they are in the table; JSON is made of them when somebody reads.  Tables
 * cseg_<id>_0 and _1 hold the segments, see log_commit.h.
 *
 * Retention goes by halves.  New changes are written to the half that the catalog
 * names; when its first change is as old as changes are to get, the halves change
 * places, and the other one is truncated when its last change is as old.  So a
 * change stays for at least the time asked for and at most for twice as long, and
 * a little more.  A transaction that was running at the change of places may put
 * its changes into the half that was left; TRUNCATE does not wait for long, and is
 * tried again later.  A truncated half keeps a segment for its last change (number of
 * the append 0): what comes before its end can no longer be read.
 *
 * Each transaction with changes notifies the relation's channel; the payload is
 * the position of its last change, which is known only when offsets are given.
 *
 * Runs in: any backend, any worker.  Transaction: needed.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type_d.h"
#include "commands/async.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "catalog/query_cat.h"
#include "store/change.h"
#include "store/changelog.h"
#include "store/changelog_read.h"
#include "store/guard.h"
#include "stream/log_commit.h"
#include "stream/log_scan.h"

/* A half is looked at as often as the interval has quarters, within these bounds. */
#define TRIM_LEAST_MS 1000
#define TRIM_MOST_MS 60000

/* So long may truncation wait for readers, and new readers for it. */
#define TRIM_LOCK_TIMEOUT "100ms"

/* Above this share of the server's queue of notifications none are added. */
#define FULL_QUEUE 0.5

/* Writes the changes of one table in one transaction. */
typedef struct ChangelogListener
{
	KsChangeListener base;
	MemoryContext cxt;
	KsLogPlace	place;
	Oid			relation;
	KsLogRows  *rows;			/* opened by the first change */
	KsPendingAppend *append;
	int			ncolumns;		/* of the relation, without dropped ones */
} ChangelogListener;

/* ---------------------------------------------------------------- notifications */

/* See changelog.h.  A name that is too long is cut, and a hash of it appended. */
char *
ks_changelog_channel(Oid relation)
{
	char	   *name = psprintf("kstream.%s.%s", get_namespace_name(get_rel_namespace(relation)),
								get_rel_name(relation));
	int			len = strlen(name);
	int			keep;

	if (len < NAMEDATALEN)
		return name;
	keep = pg_mbcliplen(name, len, NAMEDATALEN - 1 - 9);
	return psprintf("%.*s~%08x", keep, name, hash_bytes((const unsigned char *) name, len));
}

/*
 * Notifies the channel that there are changes up to this offset.  A session that
 * listens and never looks must not stop the queries: where the queue of the
 * server fills up the notification is left out.
 */
static void
notify_placed(const KsPendingAppend *append, int64 end)
{
	char		payload[32];

	if (DatumGetFloat8(DirectFunctionCall1(pg_notification_queue_usage, (Datum) 0)) > FULL_QUEUE)
		return;
	snprintf(payload, sizeof(payload), INT64_FORMAT, end);
	Async_Notify(append->arg, payload);
}

/* ---------------------------------------------------------------- writing */

/* Opens the half that is written now. */
static void
open_rows(ChangelogListener *self)
{
	MemoryContext old = MemoryContextSwitchTo(self->cxt);
	TupleDesc	desc;

	self->rows = ks_log_rows_open(self->place.log);
	self->append = ks_append_pending(&self->place, 0);
	if (self->append->placed == NULL)
	{
		self->append->arg = MemoryContextStrdup(TopTransactionContext,
												ks_changelog_channel(self->relation));
		self->append->placed = notify_placed;
	}
	self->append->newest = GetCurrentTimestamp();
	desc = RelationGetDescr(ks_log_rows_relation(self->rows));
	self->ncolumns = (desc->natts - KS_CHANGE_COL_FIRST + 1) / 2;
	MemoryContextSwitchTo(old);
}

/* Puts the columns of a row into the row of the log, from that attribute on. */
static void
put_columns(ChangelogListener *self, TupleTableSlot *to, AttrNumber attnum, TupleTableSlot *from)
{
	TupleDesc	desc = from->tts_tupleDescriptor;
	int			n = 0;

	slot_getallattrs(from);
	for (int i = 0; i < desc->natts; i++)
	{
		if (TupleDescAttr(desc, i)->attisdropped)
			continue;
		if (n == self->ncolumns)
			break;
		to->tts_values[attnum - 1 + n] = from->tts_values[i];
		to->tts_isnull[attnum - 1 + n] = from->tts_isnull[i];
		n++;
	}
	if (n != self->ncolumns)
		elog(ERROR, "columns of relation %u are not those of its changelog", self->relation);
}

/* Writes one change. */
static void
take_change(KsChangeListener *base, KsChangeOp op, TupleTableSlot *old_row,
			TupleTableSlot *new_row, TimestampTz event_time)
{
	static const char ops[] = {
		[KS_CHANGE_INSERT] = KS_CHANGE_CHAR_INSERT,
		[KS_CHANGE_UPDATE] = KS_CHANGE_CHAR_UPDATE,
		[KS_CHANGE_DELETE] = KS_CHANGE_CHAR_DELETE,
	};
	ChangelogListener *self = (ChangelogListener *) base;
	TupleTableSlot *slot;
	Datum	   *values;
	bool	   *nulls;

	if (self->rows == NULL)
		open_rows(self);
	if (self->append->next == PG_INT32_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("too many changes of table \"%s\" in one transaction", get_rel_name(self->relation))));
	slot = ks_log_rows_slot(self->rows);
	values = slot->tts_values;
	nulls = slot->tts_isnull;
	memset(nulls, false, sizeof(bool) * KS_CHANGE_COL_TIME);
	values[KS_LOG_PARTITION - 1] = Int32GetDatum(0);
	values[KS_LOG_APPEND - 1] = Int64GetDatum(self->append->number);
	values[KS_LOG_SEQUENCE - 1] = Int32GetDatum(self->append->next);
	values[KS_CHANGE_COL_OP - 1] = CharGetDatum(ops[op]);
	values[KS_CHANGE_COL_TIME - 1] = TimestampTzGetDatum(event_time);
	nulls[KS_CHANGE_COL_TIME - 1] = event_time == DT_NOBEGIN;
	if (old_row != NULL)
		put_columns(self, slot, KS_CHANGE_COL_FIRST, old_row);
	if (new_row != NULL)
		put_columns(self, slot, KS_CHANGE_COL_FIRST + self->ncolumns, new_row);
	self->append->next++;
	ks_log_rows_put(self->rows);
}

/* After the last change. */
static void
finish_changes(KsChangeListener *base)
{
	ChangelogListener *self = (ChangelogListener *) base;

	if (self->rows != NULL)
		ks_log_rows_close(self->rows);
	self->rows = NULL;
}

/* See changelog.h. */
List *
ks_changelog_listener(Oid relation)
{
	KsChangelogRow *row = ks_changelog_load(relation, NULL);
	ChangelogListener *self;

	if (row == NULL || row->keep == NULL)
		return NIL;
	self = palloc0(sizeof(ChangelogListener));
	self->base.take = take_change;
	self->base.finish = finish_changes;
	self->cxt = CurrentMemoryContext;
	self->relation = relation;
	self->place.identity = row->halves[0].rows;
	self->place.log = row->halves[row->half].rows;
	self->place.segments = row->halves[row->half].segments;
	self->place.other_segments = row->halves[1 - row->half].segments;
	return list_make1(self);
}

/* See changelog.h. */
bool
ks_changelog_wanted(Oid relation)
{
	KsChangelogRow *row = ks_changelog_load(relation, NULL);

	return row != NULL && row->keep != NULL;
}

/* ---------------------------------------------------------------- starting and stopping */

/* Runs SQL of our own on one of our tables, past its guard. */
static void
execute_on(Oid part, const char *sql)
{
	ks_guard_pass_begin(part);
	ks_catalog_execute(sql, 0, NULL, NULL);
	ks_guard_pass_end();
}

/* Quoted name of one of our tables. */
static char *
part_name(Oid part)
{
	return psprintf("kstream_state.%s", quote_identifier(get_rel_name(part)));
}

/* Creates one table of a half; it belongs to the relation and to its owner. */
static Oid
create_part(const char *name, const char *columns, Oid relation, Oid owner)
{
	ObjectAddress dependent;
	ObjectAddress whole;
	Oid			part;

	ks_catalog_execute(psprintf("CREATE TABLE kstream_state.%s (%s) USING heap", name, columns), 0, NULL, NULL);
	ks_catalog_execute(psprintf("ALTER TABLE kstream_state.%s OWNER TO %s", name,
								quote_identifier(GetUserNameFromId(owner, false))), 0, NULL, NULL);
	part = get_relname_relid(name, get_namespace_oid("kstream_state", false));
	ObjectAddressSet(dependent, RelationRelationId, part);
	ObjectAddressSet(whole, RelationRelationId, relation);
	recordDependencyOn(&dependent, &whole, DEPENDENCY_INTERNAL);
	ks_guard_install(part);
	return part;
}

/*
 * The columns of a table of rows.  Domains give way to their base types, because
 * the values were checked when they came into the table, and a row that is not
 * there is NULL.
 */
static char *
row_columns(Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);
	StringInfoData sql;
	int			n = 0;

	initStringInfo(&sql);
	appendStringInfoString(&sql, KS_LOG_COLUMNS_SQL ", _op \"char\" NOT NULL, _t timestamptz");
	for (int half = 0; half < 2; half++)
	{
		n = 0;
		for (int i = 0; i < desc->natts; i++)
		{
			Form_pg_attribute att = TupleDescAttr(desc, i);

			if (!att->attisdropped)
				appendStringInfo(&sql, ", %c%d %s", half == 0 ? 'o' : 'n', ++n,
								 format_type_extended(getBaseType(att->atttypid), -1,
													  FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY));
		}
	}
	appendStringInfoString(&sql, ", " KS_LOG_KEY_SQL);
	if (2 * n + KS_CHANGE_COL_FIRST > MaxHeapAttributeNumber)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("changes of a table with %d columns cannot be kept", n),
				 errhint("A changelog holds the columns twice; at most %d are possible.",
						 (MaxHeapAttributeNumber - KS_CHANGE_COL_FIRST) / 2)));
	return sql.data;
}

/* Leaves a mark that everything before this offset is gone. */
static void
leave_mark(Oid segments, int64 end)
{
	if (end > 0)
		execute_on(segments, psprintf("INSERT INTO %s VALUES (0, " INT64_FORMAT ", 1, 0, 0, '-infinity')",
									  part_name(segments), end - 1));
}

/* See changelog.h. */
void
ks_changelog_start(Oid relation, Interval *keep)
{
	Relation	rel = relation_open(relation, ShareUpdateExclusiveLock);
	KsChangelogRow *before = ks_changelog_load(relation, NULL);
	KsChangelogRow row = {.relation = relation,.keep = keep};
	int32		id = ks_object_id_next();

	if (before != NULL)
		row.next_offset = before->next_offset;
	for (int i = 0; i < 2; i++)
	{
		row.halves[i].rows = create_part(psprintf("chg_%d_%d", id, i), row_columns(rel),
										 relation, rel->rd_rel->relowner);
		row.halves[i].segments = create_part(psprintf("cseg_%d_%d", id, i), KS_SEGMENT_COLUMNS_SQL,
											 relation, rel->rd_rel->relowner);
	}
	leave_mark(row.halves[0].segments, row.next_offset);
	ks_changelog_store(&row);
	relation_close(rel, NoLock);
}

/*
 * See changelog.h.  One position is left out, so that whoever was at the end is
 * told that there is a gap when changes are kept again.
 */
void
ks_changelog_stop(Oid relation)
{
	Relation	rel = relation_open(relation, ShareUpdateExclusiveLock);
	KsChangelogRow *row = ks_changelog_load(relation, NULL);
	KsChangelogRow stopped = {.relation = relation};
	Snapshot	snapshot;

	snapshot = ks_log_snapshot();
	stopped.next_offset = ks_changelog_end(row, snapshot) + 1;
	UnregisterSnapshot(snapshot);
	ks_changelog_store(&stopped);
	for (int i = 0; i < 2; i++)
	{
		Oid			parts[2] = {row->halves[i].rows, row->halves[i].segments};

		for (int j = 0; j < 2; j++)
		{
			ObjectAddress address;

			ObjectAddressSet(address, RelationRelationId, parts[j]);
			deleteDependencyRecordsForSpecific(RelationRelationId, parts[j], DEPENDENCY_INTERNAL,
											   RelationRelationId, relation);
			CommandCounterIncrement();
			performDeletion(&address, DROP_RESTRICT, PERFORM_DELETION_INTERNAL);
		}
	}
	CommandCounterIncrement();
	relation_close(rel, NoLock);
}

/* ---------------------------------------------------------------- retention */

/* The first or last segment of a half that has changes, with its time; false if there is none. */
static bool
find_segment(const KsChangelogHalf *half, Snapshot snapshot, bool first, KsLogSegment *segment,
			 TimestampTz *when)
{
	KsLogScan	segments;
	bool		found = false;

	ks_log_scan_open(&segments, half->segments, snapshot, 2);
	ks_log_scan_segments(&segments, 0, BTGreaterEqualStrategyNumber, 0);
	while (!found && ks_log_scan_next(&segments, first ? ForwardScanDirection : BackwardScanDirection))
	{
		bool		isnull;

		ks_log_segment_get(&segments, segment);
		found = segment->append != 0;
		if (found)
			*when = DatumGetTimestampTz(slot_getattr(segments.slot, KS_SEGMENT_NEWEST, &isnull));
	}
	ks_log_scan_close(&segments);
	return found;
}

/*
 * Truncates a half.  An error if somebody uses it for long: a transaction that has
 * written to it and not ended yet, a dump.  Readers come one after the other, so
 * that locks that are free by chance are not enough.
 */
static bool
empty_half(Oid relation, int half, TimestampTz before)
{
	KsChangelogRow *row = ks_changelog_load(relation, NULL);
	KsChangelogHalf *part = &row->halves[half];
	KsLogSegment last;
	TimestampTz newest;
	Snapshot	snapshot;
	bool		old;

	(void) set_config_option("lock_timeout", TRIM_LOCK_TIMEOUT, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
	LockRelationOid(part->rows, AccessExclusiveLock);
	LockRelationOid(part->segments, AccessExclusiveLock);
	snapshot = ks_log_snapshot();
	old = find_segment(part, snapshot, false, &last, &newest) && newest <= before;
	UnregisterSnapshot(snapshot);
	if (!old || ks_changelog_load(relation, NULL)->half == half)
		return false;
	execute_on(part->rows, psprintf("TRUNCATE %s", part_name(part->rows)));
	execute_on(part->segments, psprintf("TRUNCATE %s", part_name(part->segments)));
	leave_mark(part->segments, last.base + last.count);
	return true;
}

/* In how many ms to look again at changes that were kept since that time. */
static int64
trim_interval(TimestampTz now, TimestampTz before)
{
	if (TIMESTAMP_NOT_FINITE(before))
		return TRIM_MOST_MS;
	return Min(Max((now - before) / 4 / 1000, TRIM_LEAST_MS), TRIM_MOST_MS);
}

/* See changelog.h. */
int64
ks_changelog_trim(Oid relation)
{
	Relation	rel = try_relation_open(relation, AccessShareLock);
	KsChangelogRow *row = rel != NULL ? ks_changelog_load(relation, NULL) : NULL;
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz before;
	TimestampTz when;
	KsLogSegment segment;
	Snapshot	snapshot;
	bool		in_other;
	bool		other_old;
	bool		now_old;

	if (rel == NULL)
		return TRIM_MOST_MS;
	if (row == NULL || row->keep == NULL)
	{
		relation_close(rel, AccessShareLock);
		return TRIM_MOST_MS;
	}
	before = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_mi_interval, TimestampTzGetDatum(now),
													 IntervalPGetDatum(row->keep)));
	snapshot = ks_log_snapshot();
	in_other = find_segment(&row->halves[1 - row->half], snapshot, false, &segment, &when);
	other_old = in_other && when <= before;
	now_old = find_segment(&row->halves[row->half], snapshot, true, &segment, &when) && when <= before;
	UnregisterSnapshot(snapshot);
	if (other_old && empty_half(relation, 1 - row->half, before))
		in_other = false;
	if (now_old && !in_other)
		ks_changelog_set_half(relation, 1 - row->half);
	relation_close(rel, NoLock);
	return trim_interval(now, before);
}
