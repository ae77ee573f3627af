/*
 * session.c
 *		Sessions: windows that grow, meet and become one.
 *
 * A session is [first, last + gap) over events of a key of which no two
 * neighbours are more than gap apart.  Which events count is decided before, by
 * the late filter, for each record alone.  So sessions are a property of the set
 * of events: it does not matter in which order or in which batches they came.
 *
 * The events of a batch are put together to islands first; each island then
 * looks for the stored sessions it touches, by one short scan backwards over the
 * key's sessions in the index.  Islands and sessions that touch become one.  Of
 * the sessions absorbed the one with most inputs stays and gets the new bounds;
 * the others leave state and table.
 *
 * Where all aggregates are exact, whatever the order, and can be combined, the
 * states of sessions that meet are combined.  Otherwise inputs are kept and
 * aggregates computed from those of the whole session in order of arrival, so
 * that a sum of floats is what it would have been had there been one session from
 * the beginning.  Numbers of inputs therefore rise over all sessions of the query.
 *
 * Used by aggregate.c; runs where it runs.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relscan.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "catalog/pg_type_d.h"
#include "commands/sequence.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rangetypes.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "exec/aggregate_int.h"

/* Inputs numbered with one number of the sequence. */
#define NUMBERS_AT_ONCE (INT64CONST(1) << 20)

/* One row of the row statement. */
typedef struct SessionEvent
{
	TimestampTz start;
	TimestampTz end;
	int			input;			/* in op->inputs */
} SessionEvent;

/* The events of the batch that have the same other keys. */
typedef struct SessionKey
{
	KsGroup		group;
	SessionEvent *events;
	int			nevents;
	int			maxevents;
} SessionKey;

/* A session in the state table. */
typedef struct StoredSession
{
	TimestampTz start;
	TimestampTz end;
	ItemPointerData tid;
	int64		gid;			/* kept inputs only, and ninputs */
	int64		ninputs;
	HeapTuple	state;			/* the row; not with kept inputs */
} StoredSession;

/* A session as the batch leaves it. */
typedef struct Island
{
	AggGroup   *group;
	SessionKey *key;
	TimestampTz start;
	TimestampTz end;
	int			first;			/* its events: first .. last - 1 */
	int			last;
	List	   *absorbed;		/* StoredSession *, the one that stays first */
} Island;

struct KsSessions
{
	KsKeySpec	other_keys;		/* all but the window */
	KsGroupTable *keys;			/* SessionKey */
	List	   *islands;		/* Island * */
	int64		number;			/* of the last input */
	int64		numbers_left;
};

/* See aggregate_int.h. */
void
ks_session_begin(AggregateOperator *op)
{
	KsSessions *sessions = palloc0(sizeof(KsSessions));
	const KsKeySpec *all = op->writer->keys;
	KsKeySpec  *others = &sessions->other_keys;

	others->columns = palloc(sizeof(KsKeyColumn) * all->nkeys);
	for (int i = 0; i < all->nkeys; i++)
	{
		if (i != op->plan->window_key)
			others->columns[others->nkeys++] = all->columns[i];
	}
	sessions->keys = ks_group_table_create(others, sizeof(SessionKey), 0);
	op->sessions = sessions;
}

/* The number of the next input, greater than all before it. */
static int64
next_number(KsSessions *sessions)
{
	if (sessions->numbers_left == 0)
	{
		Oid			sequence = get_relname_relid("log_batch", get_namespace_oid("kstream_catalog", false));

		sessions->number = nextval_internal(sequence, false) * NUMBERS_AT_ONCE;
		sessions->numbers_left = NUMBERS_AT_ONCE - 1;
	}
	sessions->numbers_left--;
	return ++sessions->number;
}

/* Takes one row of the row statement whose window is not NULL. */
void
ks_session_add(AggregateOperator *op, TupleTableSlot *slot)
{
	KsSessions *sessions = op->sessions;
	int			window = op->plan->window_key;
	Datum		keys[INDEX_MAX_KEYS];
	bool		nulls[INDEX_MAX_KEYS];
	SessionKey *key;
	SessionEvent *event;
	bool		isnew;

	for (int i = 0, n = 0; i < op->plan->nkeys; i++)
	{
		if (i == window)
			continue;
		keys[n] = slot->tts_values[i];
		nulls[n++] = slot->tts_isnull[i];
	}
	key = (SessionKey *) ks_group_table_get(sessions->keys, keys, nulls, &isnew);
	if (isnew)
	{
		key->maxevents = 4;
		key->events = palloc(sizeof(SessionEvent) * key->maxevents);
	}
	else if (key->nevents == key->maxevents)
	{
		key->maxevents *= 2;
		key->events = repalloc_huge(key->events, sizeof(SessionEvent) * key->maxevents);
	}
	event = &key->events[key->nevents++];
	ks_window_bounds(op->late_filter.range, slot->tts_values[window], &event->start, &event->end);
	event->input = ks_aggregate_keep_input(op, NULL, slot,
										   op->plan->keep_inputs ? next_number(sessions) : 0);
}

/* By start; events of one moment in order of arrival. */
static int
compare_events(const void *a, const void *b)
{
	const SessionEvent *left = a;
	const SessionEvent *right = b;

	if (left->start != right->start)
		return left->start < right->start ? -1 : 1;
	return left->input < right->input ? -1 : 1;
}

/* By start. */
static int
compare_islands(const ListCell *a, const ListCell *b)
{
	const Island *left = lfirst(a);
	const Island *right = lfirst(b);

	return left->start < right->start ? -1 : left->start > right->start;
}

/* Puts the events of a key together to islands. */
static List *
make_islands(SessionKey *key)
{
	List	   *islands = NIL;
	Island	   *island = NULL;

	qsort(key->events, key->nevents, sizeof(SessionEvent), compare_events);
	for (int i = 0; i < key->nevents; i++)
	{
		SessionEvent *event = &key->events[i];

		/* Events exactly gap apart belong together. */
		if (island == NULL || event->start > island->end)
		{
			island = palloc0(sizeof(Island));
			island->key = key;
			island->start = event->start;
			island->end = event->end;
			island->first = i;
			islands = lappend(islands, island);
		}
		island->end = Max(island->end, event->end);
		island->last = i + 1;
	}
	return islands;
}

/* All keys of a session, in the order of the query. */
static void
full_key(AggregateOperator *op, const SessionKey *key, Datum window, Datum *keys, bool *nulls)
{
	for (int i = 0, n = 0; i < op->plan->nkeys; i++)
	{
		if (i == op->plan->window_key)
		{
			keys[i] = window;
			nulls[i] = false;
			continue;
		}
		keys[i] = key->group.keys[n];
		nulls[i] = key->group.nulls[n++];
	}
}

/* The session in the writer's old_slot. */
static StoredSession *
read_session(AggregateOperator *op)
{
	TupleTableSlot *slot = op->writer->old_slot;
	StoredSession *session = palloc0(sizeof(StoredSession));
	bool		isnull;
	Datum		window = slot_getattr(slot, op->writer->keys->columns[op->plan->window_key].attnum, &isnull);

	ks_window_bounds(op->late_filter.range, window, &session->start, &session->end);
	session->tid = slot->tts_tid;
	if (op->plan->keep_inputs)
		ks_aggregate_read_inputs_state(op, slot, &session->gid, &session->ninputs);
	else
		session->state = ExecCopySlotHeapTuple(slot);
	return session;
}

/*
 * find_sessions
 *		The stored sessions that an island touches.  Sessions of a key do not touch
 *		each other, so they are in the same order by start and by end.
 */
static List *
find_sessions(AggregateOperator *op, const Island *island)
{
	Datum		keys[INDEX_MAX_KEYS];
	bool		nulls[INDEX_MAX_KEYS];
	List	   *result = NIL;
	IndexScanDesc scan;
	RangeBound	lower = {TimestampTzGetDatum(island->end), false, true, true};
	RangeBound	upper = {(Datum) 0, true, false, false};

	full_key(op, island->key,
			 RangeTypePGetDatum(ks_make_range(op->late_filter.range, &lower, &upper)), keys, nulls);
	scan = ks_writer_scan_up_to(op->writer, keys, nulls, op->plan->window_key);
	while (index_getnext_slot(scan, BackwardScanDirection, op->writer->old_slot))
	{
		StoredSession *session = read_session(op);

		if (session->end < island->start)
			break;
		result = lappend(result, session);
	}
	ExecClearTuple(op->writer->old_slot);
	return result;
}

/* Adds a stored session to an island, unless it is there. */
static void
absorb(Island *island, StoredSession *session)
{
	ListCell   *lc;

	foreach(lc, island->absorbed)
	{
		if (ItemPointerEquals(&((StoredSession *) lfirst(lc))->tid, &session->tid))
			return;
	}
	/* The one that stays is the first. */
	if (island->absorbed != NIL && session->ninputs > ((StoredSession *) linitial(island->absorbed))->ninputs)
		island->absorbed = lcons(session, island->absorbed);
	else
		island->absorbed = lappend(island->absorbed, session);
	island->start = Min(island->start, session->start);
	island->end = Max(island->end, session->end);
}

/* Gives a finished island its group. */
static void
finish_island(AggregateOperator *op, Island *island)
{
	Datum		keys[INDEX_MAX_KEYS];
	bool		nulls[INDEX_MAX_KEYS];
	RangeBound	lower = {TimestampTzGetDatum(island->start), false, true, true};
	RangeBound	upper = {TimestampTzGetDatum(island->end), false, false, false};
	AggGroup   *group;
	ListCell   *lc;
	bool		isnew;

	full_key(op, island->key,
			 RangeTypePGetDatum(ks_make_range(op->late_filter.range, &lower, &upper)), keys, nulls);
	group = (AggGroup *) ks_group_table_get(op->groups, keys, nulls, &isnew);
	Assert(isnew);
	island->group = group;
	group->changed = true;
	group->event_time = island->end - op->session_gap_us;
	foreach(lc, island->absorbed)
	{
		StoredSession *session = lfirst(lc);

		if (!group->exists)
		{
			group->exists = true;
			group->tid = session->tid;
			group->gid = session->gid;
		}
		group->ninputs += session->ninputs;
	}
	op->sessions->islands = lappend(op->sessions->islands, island);
}

/* Assigns the events of an island, which lie together, to its group. */
static void
assign_events(AggregateOperator *op, const Island *events, AggGroup *group)
{
	for (int i = events->first; i < events->last; i++)
		op->inputs[events->key->events[i].input].group = group;
	group->ninputs += events->last - events->first;
}

/* The sessions of one key: islands and what they touch, put together. */
static void
merge_key(AggregateOperator *op, SessionKey *key)
{
	List	   *islands = make_islands(key);
	List	   *parts = NIL;	/* islands of events that the current one is made of */
	Island	   *current = NULL;
	ListCell   *lc;

	foreach(lc, islands)
	{
		Island	   *island = lfirst(lc);
		ListCell   *ls;

		foreach(ls, find_sessions(op, island))
			absorb(island, lfirst(ls));
	}
	/* Having absorbed a session, an island may begin before the one in front of it. */
	list_sort(islands, compare_islands);
	foreach(lc, islands)
	{
		Island	   *island = lfirst(lc);
		ListCell   *ls;

		if (current == NULL || island->start > current->end)
		{
			if (current != NULL)
			{
				finish_island(op, current);
				foreach(ls, parts)
					assign_events(op, lfirst(ls), current->group);
			}
			current = island;
			parts = list_make1(island);
			continue;
		}
		parts = lappend(parts, island);
		current->end = Max(current->end, island->end);
		foreach(ls, island->absorbed)
			absorb(current, lfirst(ls));
	}
	finish_island(op, current);
	foreach(lc, parts)
		assign_events(op, lfirst(lc), current->group);
}

/* Starts the states of all sessions from those they have absorbed. */
static void
merge_states(AggregateOperator *op)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(op->writer->rel), &TTSOpsHeapTuple);
	ListCell   *lc;

	foreach(lc, op->sessions->islands)
	{
		Island	   *island = lfirst(lc);
		ListCell   *ls;

		op->culprit = island->group;
		if (island->absorbed == NIL)
			ks_aggregate_restore(op, island->group, NULL, true);
		foreach(ls, island->absorbed)
		{
			ExecStoreHeapTuple(((StoredSession *) lfirst(ls))->state, slot, false);
			ks_aggregate_restore(op, island->group, slot, ls == list_head(island->absorbed));
			ExecClearTuple(slot);
		}
	}
	op->culprit = NULL;
	ExecDropSingleTupleTableSlot(slot);
}

/* Advances the states by the rows of the batch, in order of arrival. */
static void
advance_states(AggregateOperator *op)
{
	int			nkeys = op->plan->nkeys;
	int			natts = op->inputs_desc->natts;
	Datum	   *values = palloc0(sizeof(Datum) * (natts + nkeys));
	bool	   *nulls = palloc0(sizeof(bool) * (natts + nkeys));

	for (int i = 0; i < op->ninputs; i++)
	{
		AggInput   *input = &op->inputs[i];

		/* Two columns of its own come before those that follow the keys in a row. */
		heap_deform_tuple(input->row, op->inputs_desc, values + nkeys, nulls + nkeys);
		ks_aggregate_advance(op, input->group, values + 2, nulls + 2);
	}
}

/* See aggregate_int.h. */
void
ks_session_merge(AggregateOperator *op)
{
	for (int i = 0; i < ks_group_table_count(op->sessions->keys); i++)
		merge_key(op, (SessionKey *) ks_group_table_nth(op->sessions->keys, i));
	if (op->plan->keep_inputs)
		return;
	merge_states(op);
	advance_states(op);
}

/* Removes from the table the rows of sessions whose bounds have changed. */
static int64
delete_old_rows(AggregateOperator *op)
{
	KsTableWriter *writer = ks_writer_open(op->query->relation, op->result_keys, op->result_hints);
	int64		deleted = 0;
	ListCell   *lc;

	ks_writer_listen(writer);
	foreach(lc, op->sessions->islands)
	{
		Island	   *island = lfirst(lc);
		ListCell   *ls;

		foreach(ls, island->absorbed)
		{
			StoredSession *session = lfirst(ls);
			RangeBound	lower = {TimestampTzGetDatum(session->start), false, true, true};
			RangeBound	upper = {TimestampTzGetDatum(session->end), false, false, false};
			Datum		keys[INDEX_MAX_KEYS];
			bool		nulls[INDEX_MAX_KEYS];
			uint64		hash;

			if (session->start == island->start && session->end == island->end)
				continue;
			full_key(op, island->key,
					 RangeTypePGetDatum(ks_make_range(op->late_filter.range, &lower, &upper)), keys, nulls);
			hash = ks_key_hash(writer->keys, keys, nulls);
			if (!ks_writer_find(writer, hash, keys, nulls))
				continue;		/* HAVING had turned it away */
			writer->event_time = session->end - op->session_gap_us;
			ks_writer_delete(writer, hash, &writer->old_slot->tts_tid);
			deleted++;
		}
	}
	ks_writer_close(writer);
	return deleted;
}

/* Gives the inputs of one group to another. */
static void
move_inputs(KsTableWriter *writer, IndexScanDesc scan, int64 from, int64 to)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(from));
	index_rescan(scan, &key, 1, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, writer->old_slot))
	{
		TupleTableSlot *slot = writer->slot;
		ItemPointerData tid = writer->old_slot->tts_tid;

		ExecClearTuple(slot);
		slot_getallattrs(writer->old_slot);
		for (int i = 0; i < slot->tts_tupleDescriptor->natts; i++)
		{
			Form_pg_attribute att = TupleDescAttr(slot->tts_tupleDescriptor, i);

			slot->tts_isnull[i] = writer->old_slot->tts_isnull[i];
			if (!slot->tts_isnull[i])
				slot->tts_values[i] = datumCopy(writer->old_slot->tts_values[i], att->attbyval, att->attlen);
		}
		slot->tts_values[0] = Int64GetDatum(to);
		ExecStoreVirtualTuple(slot);
		ks_writer_update(writer, 0, &tid);
	}
}

/* The inputs of sessions that are gone belong to those that have absorbed them. */
static void
move_all_inputs(AggregateOperator *op)
{
	KsTableWriter *writer = ks_writer_open(op->query->inputs, NIL, NULL);
	IndexScanDesc scan = ks_aggregate_scan_inputs(writer);
	ListCell   *lc;

	foreach(lc, op->sessions->islands)
	{
		Island	   *island = lfirst(lc);

		for (int i = 1; i < list_length(island->absorbed); i++)
			move_inputs(writer, scan, ((StoredSession *) list_nth(island->absorbed, i))->gid, island->group->gid);
	}
	index_endscan(scan);
	ks_writer_close(writer);
}

/* See aggregate_int.h. */
int64
ks_session_write(AggregateOperator *op)
{
	KsTableWriter *writer = op->writer;
	int64		deleted = 0;
	bool		moved = false;
	ListCell   *lc;

	foreach(lc, op->sessions->islands)
	{
		Island	   *island = lfirst(lc);

		for (int i = 1; i < list_length(island->absorbed); i++)
		{
			StoredSession *session = list_nth(island->absorbed, i);

			ks_writer_delete(writer, 0, &session->tid);
			moved = true;
		}
	}
	if (!op->query->emit_final)
		deleted = delete_old_rows(op);
	if (moved && op->plan->keep_inputs)
		move_all_inputs(op);
	return deleted;
}
