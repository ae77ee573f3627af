/*
 * aggregate_int.h
 *		Shared by aggregate.c (groups and states) and aggregate_result.c (result rows).
 */
#ifndef KS_AGGREGATE_INT_H
#define KS_AGGREGATE_INT_H

#include "access/genam.h"
#include "exec/aggstate.h"
#include "exec/group_table.h"
#include "exec/late.h"
#include "exec/operator.h"
#include "exec/row_origin.h"
#include "executor/spi.h"
#include "plan/window.h"
#include "store/table_writer.h"
#include "utils/resowner.h"

/* A group the batch touches. */
typedef struct AggGroup
{
	KsGroup		group;
	bool		exists;			/* in the state table before this batch */
	bool		changed;		/* something was aggregated, or the group is new */
	ItemPointerData tid;		/* of its state row, if it exists */
	int64		gid;			/* kept inputs: number of the group */
	int64		ninputs;		/* kept inputs: rows so far */
	KsAggValue *values;
	TimestampTz event_time;		/* of its change: greatest of the batch's records in it, or of the window */
	uint32		mark;			/* the last record it was kept for, see aggregate_undo.c */
} AggGroup;

/* A kept input row, until it is written. */
typedef struct AggInput
{
	AggGroup   *group;
	HeapTuple	row;			/* without group number and row number yet */
} AggInput;

typedef struct KsSessions KsSessions;

typedef struct AggregateOperator
{
	KsOperator	base;
	const KsQueryRow *query;
	const KsPlan *plan;
	bool		state_is_visible;
	MemoryContext cxt;			/* of the attempt */
	KsAggRunner *runner;
	KsAgg	  **aggs;			/* [naggs]; NULL with kept inputs */
	bool		has_flags;		/* the state table has a column _has */
	List	   *state_keys;		/* char *: key columns of the state, now */
	List	   *result_keys;	/* char *: key columns of the result, now */
	KsTableHints *state_hints;
	KsTableHints *result_hints;
	KsTableWriter *writer;		/* on the state */
	KsGroupTable *groups;
	int			ngroups_before;	/* groups of the attempt before: there may be as many again */
	KsRowOrigin *origin;		/* of the attempt */
	ResourceOwner owner;		/* of the attempt */
	AggGroup   *culprit;		/* group that an error now would belong to, or NULL */
	/* what the record at hand has changed, see aggregate_undo.c */
	uint32		mark;			/* of the record; 0: nothing is to be taken back */
	List	   *kept;			/* KeptGroup * */
	int			kept_late;		/* late records before it */
	/* kept inputs */
	AggInput   *inputs;
	int			ninputs;
	int			maxinputs;
	TupleDesc	inputs_desc;
	/* result rows */
	MemoryContextCallback callback; /* frees the plans with the operator's memory */
	SPIPlanPtr	final_plan;
	SPIPlanPtr	recompute_plan;
	TupleDesc	groups_desc;	/* of KS_GROUPS_RELATION */
	MinimalTuple *rows;			/* result row of each group, NULL: HAVING is false */
	KsSessions *sessions;			/* of the attempt, see session.c */
	/* windows, see late.c and close.c */
	KsLateFilter late_filter;
	int64		session_gap_us; /* 0: no sessions */
	int64		close_us;		/* from the end of a window to its close */
	int64		expiry_us;
	TimestampTz next_emit;		/* least end of a window to be emitted, DT_NOEND: none */
	TimestampTz next_expiry;	/* least end of a window to be deleted, DT_NOEND: none */
} AggregateOperator;

/*
 * Errors (aggregate_undo.c).  name_group: names the culprit in the message; raise:
 * raises the error that is being handled so.  keep_group: keeps the group as it
 * is before the record at hand changes it; mark and undo: see operator.h.
 */
extern void ks_aggregate_name_group(KsOperator *base, ErrorData *edata);
extern void ks_aggregate_raise(AggregateOperator *op, MemoryContext cxt);
extern void ks_aggregate_keep_group(AggregateOperator *op, AggGroup *group);
extern void ks_aggregate_mark(KsOperator *base);
extern void ks_aggregate_undo(KsOperator *base);

/* Loads the group's state, or starts it (aggregate.c). */
extern void ks_aggregate_load_group(AggregateOperator *op, AggGroup *group);

/*
 * Kept inputs (aggregate.c).  keep_input: takes the aggregate arguments of a row;
 * returns its place in op->inputs.  read_inputs_state: what a state row says of a
 * group's inputs.  scan_inputs: a scan by the number of the group (close.c).
 */
extern int	ks_aggregate_keep_input(AggregateOperator *op, AggGroup *group, TupleTableSlot *slot, int64 number);
extern void ks_aggregate_read_inputs_state(AggregateOperator *op, TupleTableSlot *slot, int64 *gid, int64 *ninputs);
extern IndexScanDesc ks_aggregate_scan_inputs(KsTableWriter *writer);

/* States (aggregate.c): starts the group from a row of the state, or adds a further one; advances it by a row. */
extern void ks_aggregate_restore(AggregateOperator *op, AggGroup *group, TupleTableSlot *slot, bool first);
extern void ks_aggregate_advance(AggregateOperator *op, AggGroup *group, const Datum *values, const bool *nulls);

/*
 * Sessions (session.c).  add: a row whose window is not NULL.  merge: makes
 * op->groups of the rows taken and the sessions they touch.  write: removes the
 * sessions absorbed, before the states of op->groups are written.
 */
extern void ks_session_begin(AggregateOperator *op);
extern void ks_session_add(AggregateOperator *op, TupleTableSlot *slot);
extern void ks_session_merge(AggregateOperator *op);
extern int64 ks_session_write(AggregateOperator *op);

/* Brings the result table up to date with the touched groups; returns rows changed. */
extern int64 ks_aggregate_write_result(AggregateOperator *op);

/*
 * Event time of the changes of a window's row that do not come from the records
 * of a batch alone: the last moment of the window, of a session its last event.
 */
extern TimestampTz ks_aggregate_window_time(AggregateOperator *op, Datum window);

/* Windows (close.c): makes the operator close them, if the query asks for it. */
extern void ks_aggregate_init_close(AggregateOperator *op, KsAnalysis *analysis);
/* A group with this window has been written to the state, or to the result. */
extern void ks_aggregate_note_window(AggregateOperator *op, Datum window, bool in_result);

#endif							/* KS_AGGREGATE_INT_H */
