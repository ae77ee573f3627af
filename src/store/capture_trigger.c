/*
 * capture_trigger.c
 *		Capturing the changes of the users' own tables: triggers of a sink.
 *
 * AFTER STATEMENT triggers with transition tables for INSERT, UPDATE and DELETE,
 * and one BEFORE TRUNCATE.  Within a statement, keys that go are published before
 * keys that come, so that an update may exchange keys.  (MERGE fires the triggers
 * for DELETE, UPDATE and INSERT in that order, which suits.)
 *
 * What cascades through foreign keys is gathered by Postgres: however often the
 * outer statement comes back to this table, each trigger fires once, late, with
 * all rows.  A key that was deleted first and given to another row then would get
 * its tombstone last, and one that came and went would stay.  So the triggers of
 * one statement share the set of keys that were put; whether one of those is
 * there is looked up in the table.  The statement is known by the memory context
 * of its execution, and forgotten with it.
 *
 * A key that a statement inside of this one has captured already is published as
 * the row is now (capture_nested.h).
 *
 * Runs in: any backend, in a statement of the user.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_inherits.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "store/capture.h"
#include "store/capture_keys.h"
#include "store/capture_nested.h"
#include "store/table_writer.h"

/* What the triggers of one statement know of each other. */
typedef struct Firing
{
	dlist_node	node;
	MemoryContext query;
	int32		sink;
	uint32		number;			/* no other statement of the session has it (for long) */
	keyset_hash *put;
	MemoryContextCallback forget;
} Firing;

/* A trigger at work. */
typedef struct Capturing
{
	KsCapture  *capture;
	KsSinkRow  *sink;
	Relation	rel;
	Firing	   *firing;
	TimestampTz now;
	keyset_hash *present;		/* keys that the table has now; NULL: not looked up yet */
	keyset_hash *nested;		/* what statements inside of others have captured, or NULL */
	bool		inside;			/* this may be such a statement */
	TupleTableSlot *current;	/* for a row as it is now; NULL: not made yet */
} Capturing;

/* A transition table with a place of our own in it. */
typedef struct Transition
{
	Tuplestorestate *store;
	int			pointer;
	TupleTableSlot *slot;
} Transition;

static dlist_head firings = DLIST_STATIC_INIT(firings);
static uint32 last_firing = 0;

/* The statement is over. */
static void
forget_firing(void *arg)
{
	dlist_delete(&((Firing *) arg)->node);
}

/* What is known of the statement that fires the trigger. */
static Firing *
find_firing(MemoryContext query, int32 sink)
{
	dlist_iter	iter;
	Firing	   *firing;

	dlist_foreach(iter, &firings)
	{
		firing = dlist_container(Firing, node, iter.cur);
		if (firing->query == query && firing->sink == sink)
			return firing;
	}
	firing = MemoryContextAllocZero(query, sizeof(Firing));
	firing->query = query;
	firing->sink = sink;
	firing->number = ++last_firing;
	firing->put = keyset_create(query, 64, NULL);
	firing->forget.func = forget_firing;
	firing->forget.arg = firing;
	MemoryContextRegisterResetCallback(query, &firing->forget);
	dlist_push_head(&firings, &firing->node);
	return firing;
}

/* ---------------------------------------------------------------- transition tables */

/* Opens a transition table at its beginning. */
static void
transition_open(Transition *transition, Tuplestorestate *store, Relation rel)
{
	transition->store = store;
	transition->pointer = tuplestore_alloc_read_pointer(store, EXEC_FLAG_REWIND);
	transition->slot = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsMinimalTuple);
	tuplestore_select_read_pointer(store, transition->pointer);
	tuplestore_rescan(store);
}

/* Goes back to the beginning. */
static void
transition_rewind(Transition *transition)
{
	tuplestore_select_read_pointer(transition->store, transition->pointer);
	tuplestore_rescan(transition->store);
}

/* The next row; false behind the last one. */
static bool
transition_next(Transition *transition)
{
	CHECK_FOR_INTERRUPTS();
	tuplestore_select_read_pointer(transition->store, transition->pointer);
	return tuplestore_gettupleslot(transition->store, true, false, transition->slot);
}

/* Lets go of it. */
static void
transition_close(Transition *transition)
{
	ExecDropSingleTupleTableSlot(transition->slot);
}

/* ---------------------------------------------------------------- events */

/* The keys of all rows that the table has now, this statement's included. */
static keyset_hash *
present_keys(KsCapture *capture, Relation rel)
{
	keyset_hash *keys = keyset_create(CurrentMemoryContext, 1024, NULL);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	TupleTableSlot *slot = table_slot_create(rel, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		ks_capture_collect_key(capture, slot, keys);
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	return keys;
}

/*
 * Has a statement inside of this one captured the key of the row?  Then what is
 * published is the row as it is now: in c->current, if there is one.
 */
static bool
is_overtaken(Capturing *c, TupleTableSlot *row, bool *there)
{
	bool		overtaken = c->nested != NULL &&
		ks_capture_key_of_other(c->capture, row, c->nested, c->firing->number);

	if (overtaken)
	{
		if (c->current == NULL)
			c->current = table_slot_create(c->rel, NULL);
		*there = ks_find_row_of_key(c->capture, c->rel, c->sink->key_columns, row, c->current);
	}
	if (c->inside)
		ks_capture_note_key(c->capture, row, c->nested, c->firing->number);
	return overtaken;
}

/* Publishes that a row is there; old_row (NULL: none) has the same key. */
static void
put_row(Capturing *c, TupleTableSlot *old_row, TupleTableSlot *row)
{
	bool		there;

	if (!is_overtaken(c, row, &there))
		ks_capture_put(c->capture, old_row, row, c->now);
	else if (there)
		ks_capture_put(c->capture, old_row, c->current, c->now);
	else
		ks_capture_remove(c->capture, row, c->now);
}

/* Publishes that a key is gone, unless the same statement has put it and it is there. */
static void
remove_row(Capturing *c, TupleTableSlot *row)
{
	bool		there;

	if (is_overtaken(c, row, &there) && there)
	{
		ks_capture_put(c->capture, row, c->current, c->now);
		return;
	}
	if (c->firing->put->members > 0 && ks_capture_has_key(c->capture, row, c->firing->put))
	{
		if (c->present == NULL)
			c->present = present_keys(c->capture, c->rel);
		if (ks_capture_has_key(c->capture, row, c->present))
			return;
	}
	ks_capture_remove(c->capture, row, c->now);
}

/* Rows were inserted. */
static void
capture_insert(Capturing *c, TriggerData *trigdata)
{
	Transition	rows;

	transition_open(&rows, trigdata->tg_newtable, c->rel);
	while (transition_next(&rows))
		put_row(c, NULL, rows.slot);
	transition_close(&rows);
}

/* Rows were deleted. */
static void
capture_delete(Capturing *c, TriggerData *trigdata)
{
	Transition	rows;

	transition_open(&rows, trigdata->tg_oldtable, c->rel);
	while (transition_next(&rows))
		remove_row(c, rows.slot);
	transition_close(&rows);
}

/* Both versions of the next updated row; they are in the same order. */
static bool
next_pair(Transition *old_rows, Transition *new_rows)
{
	bool		found = transition_next(old_rows);

	if (transition_next(new_rows) != found)
		elog(ERROR, "transition tables of an update differ in length");
	return found;
}

/* Removes keys that were put, only to be given up in the same statement. */
static void
remove_passers(Capturing *c, Transition *old_rows, Transition *new_rows)
{
	transition_rewind(old_rows);
	transition_rewind(new_rows);
	while (next_pair(old_rows, new_rows))
	{
		if (ks_capture_has_key(c->capture, old_rows->slot, c->firing->put) &&
			!ks_capture_same_key(c->capture, old_rows->slot, new_rows->slot))
			remove_row(c, old_rows->slot);
	}
}

/* Rows were updated: first the keys that are gone, then the rows. */
static void
capture_update(Capturing *c, TriggerData *trigdata)
{
	Transition	old_rows;
	Transition	new_rows;
	bool		any_moved = false;

	transition_open(&old_rows, trigdata->tg_oldtable, c->rel);
	transition_open(&new_rows, trigdata->tg_newtable, c->rel);
	while (next_pair(&old_rows, &new_rows))
	{
		if (!ks_capture_same_key(c->capture, old_rows.slot, new_rows.slot))
			remove_row(c, old_rows.slot);
	}
	transition_rewind(&old_rows);
	transition_rewind(&new_rows);
	while (next_pair(&old_rows, &new_rows))
	{
		bool		moved = !ks_capture_same_key(c->capture, old_rows.slot, new_rows.slot);

		if (!ks_slots_identical(old_rows.slot, new_rows.slot))
			put_row(c, moved ? NULL : old_rows.slot, new_rows.slot);
		any_moved |= moved;
	}
	if (any_moved)
		remove_passers(c, &old_rows, &new_rows);
	transition_close(&old_rows);
	transition_close(&new_rows);
}

/* The table is about to be emptied; nobody else can change it any more. */
static void
capture_truncate(KsCapture *capture, Relation rel, TimestampTz now)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	TupleTableSlot *slot = table_slot_create(rel, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		ks_capture_remove(capture, slot, now);
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
}

/* ---------------------------------------------------------------- the trigger */

/* Did the statement change nothing of what the trigger is about? */
static bool
is_empty(const TriggerData *trigdata)
{
	Tuplestorestate *rows = trigdata->tg_newtable != NULL ? trigdata->tg_newtable : trigdata->tg_oldtable;

	return rows != NULL && tuplestore_tuple_count(rows) == 0;
}

/* The sink of the trigger; NULL, with a warning, if there is none (definitions restored without data). */
static KsSinkRow *
sink_of_trigger(TriggerData *trigdata)
{
	Trigger    *trigger = trigdata->tg_trigger;
	Relation	rel = trigdata->tg_relation;
	KsSinkRow  *sink = NULL;

	if (trigger->tgnargs == 1)
		sink = ks_sink_load(pg_strtoint32(trigger->tgargs[0]));
	if (sink == NULL || sink->relation != RelationGetRelid(rel))
	{
		ereport(WARNING,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("trigger \"%s\" of table \"%s\" belongs to no sink: nothing is published",
						trigger->tgname, RelationGetRelationName(rel)),
				 errhint("Drop the trigger; kstream.create_sink makes its own.")));
		return NULL;
	}
	/* an inheriting table's rows would come and go unseen */
	if (rel->rd_rel->relhassubclass && find_inheritance_children(RelationGetRelid(rel), NoLock) != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("table \"%s\", which sink \"%s\" publishes, is inherited by other tables",
						RelationGetRelationName(rel), ks_sink_display_name(sink)),
				 errhint("Drop the sink with kstream.drop_sink, or end the inheritance with ALTER TABLE ... NO INHERIT.")));
	return sink;
}

/* Does the trigger have the form that create_sink gives it? */
static bool
is_well_formed(const TriggerData *trigdata)
{
	TriggerEvent event = trigdata->tg_event;

	if (!TRIGGER_FIRED_FOR_STATEMENT(event))
		return false;
	if (TRIGGER_FIRED_BY_TRUNCATE(event))
		return TRIGGER_FIRED_BEFORE(event);
	return TRIGGER_FIRED_AFTER(event) &&
		(TRIGGER_FIRED_BY_DELETE(event) || trigdata->tg_newtable != NULL) &&
		(TRIGGER_FIRED_BY_INSERT(event) || trigdata->tg_oldtable != NULL);
}

PG_FUNCTION_INFO_V1(ks_capture_trigger);

/* capture(sink): the trigger function. */
Datum
ks_capture_trigger(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	MemoryContext query = fcinfo->flinfo->fn_mcxt;	/* of its execution */
	Capturing	c = {.now = GetCurrentTimestamp()};

	if (!CALLED_AS_TRIGGER(fcinfo) || !is_well_formed(trigdata))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called by a trigger of kstream.create_sink", "capture")));
	if (is_empty(trigdata))
		return PointerGetDatum(NULL);
	c.rel = trigdata->tg_relation;
	c.sink = sink_of_trigger(trigdata);
	if (c.sink == NULL)
		return PointerGetDatum(NULL);
	c.capture = ks_capture_open(c.sink, c.rel);
	ks_capture_enter(c.capture);
	c.firing = find_firing(query, c.sink->id);
	c.inside = ks_statement_is_inside(query);
	c.nested = ks_nested_keys(c.sink->id, c.inside);
	ks_capture_remember(c.capture, c.firing->put);
	if (TRIGGER_FIRED_BY_TRUNCATE(trigdata->tg_event))
		capture_truncate(c.capture, c.rel, c.now);
	else if (TRIGGER_FIRED_BY_INSERT(trigdata->tg_event))
		capture_insert(&c, trigdata);
	else if (TRIGGER_FIRED_BY_DELETE(trigdata->tg_event))
		capture_delete(&c, trigdata);
	else
		capture_update(&c, trigdata);
	if (c.current != NULL)
		ExecDropSingleTupleTableSlot(c.current);
	ks_capture_leave(c.capture);
	ks_capture_close(c.capture);
	return PointerGetDatum(NULL);
}
