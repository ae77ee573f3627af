/*
 * join.c
 *		The operator of joins of streams.
 *
 * It stands around the operator of the query (append or aggregate), which gets
 * the rows of the join.  At the end of the first phase, which writes nothing, it
 * looks at the batch once more: which rows go into the buffers, which are late,
 * and, for outer joins, which have met (plan/join_sql.c has the statements).
 * Applying writes the rows of the query, then the buffers.
 *
 * The watermark closes records: what it has passed by more than the time the
 * record waits has no match any more.  Rows of an outer join that have met none
 * then become null rows, which go to the query's operator like all others; and
 * they are deleted from the buffer in the same transaction.  So a null row comes
 * once, and no match can come after it.  They come in the order of event time,
 * partition and offset, in bites; one that cannot be made is a dead letter.  All other rows leave when a half of the
 * buffer is emptied (join_halves.c).
 *
 * Rows of a buffer are marked by half and TID, which the statements return: nobody
 * else writes to a buffer.
 *
 * Runs in: worker or a backend that steps, inside a transaction with SPI, as the
 * owner of the query.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/subxact.h"
#include "exec/index_key.h"
#include "exec/join.h"
#include "exec/join_filter.h"
#include "exec/join_halves.h"
#include "exec/query_exec.h"
#include "exec/statement.h"
#include "store/guard.h"
#include "store/join_buffer.h"
#include "store/table_writer.h"

/* A row of the batch. */
typedef struct RowId
{
	int64		offset;
	int64		partition;
} RowId;

/* A record of one of the streams. */
typedef struct LateId
{
	int64		offset;
	int32		partition;
	Oid			stream;
} LateId;

/* A place in the order in which null rows come: every row has one of its own. */
typedef struct BufferPlace
{
	TimestampTz event_time;
	int32		partition;
	int64		offset;
} BufferPlace;

/* One stream of the join. */
typedef struct JoinSide
{
	const KsJoinRef *ref;
	const KsJoinRefPlan *plan;
	Oid			buffer;
	Oid			halves_relid[2];
	int64		wait;			/* from event time to close, in microseconds */
	KsStatement *fill;
	KsStatement *late;
	KsJoinHalves *halves;
	KsStatement *keys[2];		/* by half; NULL: no filter is about the buffer */

	/* an outer join keeps its rows: NULL otherwise */
	KsStatement *null_check;
	KsStatement *null_rows;
	KsStatement *mark[2];		/* by half */
	KsStatement *bite;			/* the place of a row further on */
	KsStatement *forget;		/* what has become null rows */
	KsStatement *least;
	BufferPlace closed;			/* rows up to this place have their null rows */
	TimestampTz first;			/* least event time in the buffer after it; DT_NOEND: none */

	/* of the attempt */
	int			half;			/* that new rows go to */
	TupleDesc	desc;
	Datum	   *values;
	bool	   *nulls;
	HeapTuple  *tuples;			/* for the buffer */
	int			ntuples;
	int			maxtuples;
	TimestampTz least_new;
	TimestampTz greatest_new;
	HTAB	   *met;			/* RowId: rows of the batch that have met another */
	Datum	   *met_old[2];		/* TIDs of rows in the buffer that have, by half */
	int			nmet_old[2];
	int			maxmet_old[2];
} JoinSide;

/* One outer join. */
typedef struct JoinMark
{
	const KsJoinMarkPlan *plan;
	KsStatement *statement;		/* NULL: the row statement tells */
	JoinSide   *sides[2];
} JoinMark;

typedef struct JoinOperator
{
	KsOperator	base;
	KsOperator *inner;
	const KsQueryRow *query;
	KsJoin	   *join;
	KsJoinFilters *filters;
	List	   *sides;			/* JoinSide * */
	List	   *marks;			/* JoinMark * */
	JoinMark   *row_mark;		/* the outer join that the row statement tells about, or NULL */
	MemoryContext cxt;			/* of the attempt */
	HTAB	   *late_seen;		/* LateId: late records of the attempt, or NULL */
	MemoryContext close_cxt;
} JoinOperator;

/* Receives rows of one of the statements. */
typedef struct JoinReceiver
{
	DestReceiver pub;
	JoinOperator *op;
	JoinSide   *side;
	JoinMark   *mark;
	bool		check_only;
} JoinReceiver;

/* What statements over the batch get: the watermark before it. */
static const Oid watermark_type[] = {TIMESTAMPTZOID};

/* ---------------------------------------------------------------- receivers */

/* A receiver for one statement. */
static JoinReceiver
make_receiver(JoinOperator *op, bool (*receive) (TupleTableSlot *, DestReceiver *))
{
	JoinReceiver receiver = {ks_row_receiver(receive), op};

	return receiver;
}

/* Rows that are only computed to see whether they can be. */
static bool
receive_nothing(TupleTableSlot *slot, DestReceiver *self)
{
	JoinReceiver *receiver = (JoinReceiver *) self;
	KsOperator *inner = receiver->op->inner;

	if (inner->check != NULL)
		inner->check(inner, slot);
	return true;
}

/* Null rows. */
static bool
receive_null_row(TupleTableSlot *slot, DestReceiver *self)
{
	JoinReceiver *receiver = (JoinReceiver *) self;

	receiver->op->inner->add(receiver->op->inner, slot);
	return true;
}

/*
 * check_keys
 *		Keys that are together too long for the index of the buffer make a bad
 *		record.  False if the row can have no match, as a key is NULL.
 */
static bool
check_keys(const JoinSide *side, TupleTableSlot *slot)
{
	int			first = side->plan->ncolumns + KS_BUFFER_COLUMNS;
	Size		size = ks_index_key_size(slot, first, side->plan->nkeys);
	bool		complete = true;

	for (int i = first; i < first + side->plan->nkeys; i++)
		complete &= !slot->tts_isnull[i];
	if (size > KS_MAX_KEY_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("join key of %zu bytes exceeds the limit of %d bytes", size, KS_MAX_KEY_BYTES),
				 errhint("Join by a hash of the value, for example md5().")));
	return complete;
}

/* Has the row of the batch met another? */
static bool
has_met(const JoinSide *side, int32 partition, int64 offset)
{
	RowId		id = {offset, partition};

	return side->met != NULL && hash_search(side->met, &id, HASH_FIND, NULL) != NULL;
}

/* Rows for the buffer. */
static bool
receive_fill(TupleTableSlot *slot, DestReceiver *self)
{
	JoinReceiver *receiver = (JoinReceiver *) self;
	JoinSide   *side = receiver->side;
	int			n = side->plan->ncolumns + KS_BUFFER_COLUMNS;
	Datum	   *fixed = side->values + side->plan->ncolumns;
	TimestampTz event_time;
	MemoryContext old;

	slot_getallattrs(slot);
	if ((!check_keys(side, slot) && !side->ref->preserved) || receiver->check_only)
		return true;
	memcpy(side->values, slot->tts_values, sizeof(Datum) * n);
	memcpy(side->nulls, slot->tts_isnull, sizeof(bool) * n);
	fixed[KS_BUFFER_MATCHED] = BoolGetDatum(has_met(side, DatumGetInt32(fixed[KS_BUFFER_PARTITION]),
													DatumGetInt64(fixed[KS_BUFFER_OFFSET])));
	fixed[KS_BUFFER_HALF] = BoolGetDatum(side->half == 1);
	event_time = DatumGetTimestampTz(fixed[KS_BUFFER_EVENT_TIME]);
	side->least_new = Min(side->least_new, event_time);
	side->greatest_new = Max(side->greatest_new, event_time);
	ks_filters_note(receiver->op->filters, side->plan->ref, side->half, event_time,
					slot->tts_values + n, slot->tts_isnull + n);
	old = MemoryContextSwitchTo(receiver->op->cxt);
	if (side->ntuples == side->maxtuples)
	{
		side->maxtuples *= 2;
		side->tuples = repalloc_huge(side->tuples, sizeof(HeapTuple) * side->maxtuples);
	}
	side->tuples[side->ntuples++] = heap_form_tuple(side->desc, side->values, side->nulls);
	MemoryContextSwitchTo(old);
	return true;
}

/* Is the record among those left out as late already (a stream on both sides)?  It is from now on. */
static bool
is_known_late(JoinOperator *op, const KsLateRow *row)
{
	HASHCTL		ctl = {.keysize = sizeof(LateId),.entrysize = sizeof(LateId),.hcxt = op->cxt};
	LateId		id = {row->offset, row->partition, row->source};
	bool		known;

	if (op->late_seen == NULL)
		op->late_seen = hash_create("kstream late rows", 256, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	(void) hash_search(op->late_seen, &id, HASH_ENTER, &known);
	return known;
}

/* Late records. */
static bool
receive_late(TupleTableSlot *slot, DestReceiver *self)
{
	JoinReceiver *receiver = (JoinReceiver *) self;
	MemoryContext old;
	KsLateRow  *row;

	slot_getallattrs(slot);
	if (receiver->check_only)
		return true;
	old = MemoryContextSwitchTo(receiver->op->cxt);
	row = palloc0(sizeof(KsLateRow));
	row->source = receiver->side->ref->stream;
	row->partition = DatumGetInt32(slot->tts_values[0]);
	row->offset = DatumGetInt64(slot->tts_values[1]);
	row->due = DatumGetTimestampTz(slot->tts_values[2]) + 1;
	row->watermark = receiver->op->join->watermark_is_late ? receiver->op->base.watermark : DT_NOBEGIN;
	if (!is_known_late(receiver->op, row))
		receiver->op->base.late = lappend(receiver->op->base.late, row);
	MemoryContextSwitchTo(old);
	return true;
}

/* Remembers that a row has met another: by its TID in the buffer, or in the batch. */
static void
note_met(JoinOperator *op, JoinSide *side, const Datum *values, const bool *nulls)
{
	MemoryContext old;
	int			half;

	if (!side->ref->preserved)
		return;
	if (nulls[0])
	{
		RowId		id = {DatumGetInt64(values[3]), DatumGetInt32(values[2])};

		(void) hash_search(side->met, &id, HASH_ENTER, NULL);
		return;
	}
	old = MemoryContextSwitchTo(op->cxt);
	half = DatumGetBool(values[1]) ? 1 : 0;
	if (side->nmet_old[half] == side->maxmet_old[half])
	{
		side->maxmet_old[half] = side->maxmet_old[half] == 0 ? 256 : side->maxmet_old[half] * 2;
		side->met_old[half] = side->met_old[half] == NULL ? palloc(sizeof(Datum) * side->maxmet_old[half]) :
			repalloc_huge(side->met_old[half], sizeof(Datum) * side->maxmet_old[half]);
	}
	side->met_old[half][side->nmet_old[half]++] = datumCopy(values[0], false, sizeof(ItemPointerData));
	MemoryContextSwitchTo(old);
}

/* Takes the last columns of a row, which tell who has met. */
static void
note_match(JoinOperator *op, JoinMark *mark, TupleTableSlot *slot)
{
	int			first;

	slot_getallattrs(slot);
	first = slot->tts_tupleDescriptor->natts - 2 * KS_MATCH_COLUMNS;
	for (int i = 0; i < 2; i++, first += KS_MATCH_COLUMNS)
		note_met(op, mark->sides[i], slot->tts_values + first, slot->tts_isnull + first);
}

/* Rows of the statement that tells which rows have met. */
static bool
receive_match(TupleTableSlot *slot, DestReceiver *self)
{
	JoinReceiver *receiver = (JoinReceiver *) self;

	if (!receiver->check_only)
		note_match(receiver->op, receiver->mark, slot);
	return true;
}

/* ---------------------------------------------------------------- the first phase */

/* Rows that the batch of the stream shows. */
static int
rows_shown(const JoinSide *side)
{
	KsBatch    *batch = ks_batch_shown(side->ref->stream);

	return batch == NULL ? 0 : batch->last - batch->first;
}

/* Starts an attempt. */
static void
join_begin(KsOperator *base, MemoryContext cxt)
{
	JoinOperator *op = (JoinOperator *) base;
	MemoryContext old = MemoryContextSwitchTo(cxt);
	ListCell   *lc;

	ks_join_check_outers(op->join);
	op->cxt = cxt;
	op->late_seen = NULL;
	op->inner->late = NIL;
	op->inner->watermark = base->watermark;
	op->inner->begin(op->inner, cxt);
	ks_filters_show(op->filters);
	foreach(lc, op->sides)
	{
		JoinSide   *side = lfirst(lc);
		Relation	rel;
		HASHCTL		ctl = {.keysize = sizeof(RowId),.entrysize = sizeof(RowId),.hcxt = cxt};

		rel = table_open(ks_halves_choose(side->halves, base->watermark, &side->half), AccessShareLock);
		side->desc = CreateTupleDescCopy(RelationGetDescr(rel));
		table_close(rel, NoLock);
		ks_filters_prepare(op->filters, side->plan->ref, side->halves, side->keys);
		side->values = palloc(sizeof(Datum) * side->desc->natts);
		side->nulls = palloc(sizeof(bool) * side->desc->natts);
		side->ntuples = 0;
		side->maxtuples = 256;
		side->tuples = palloc(sizeof(HeapTuple) * side->maxtuples);
		side->least_new = DT_NOEND;
		side->greatest_new = DT_NOBEGIN;
		side->met = side->ref->preserved ?
			hash_create("kstream rows met", 256, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT) : NULL;
		memset(side->met_old, 0, sizeof(side->met_old));
		memset(side->nmet_old, 0, sizeof(side->nmet_old));
		memset(side->maxmet_old, 0, sizeof(side->maxmet_old));
	}
	MemoryContextSwitchTo(old);
}

/* Takes one row of the join. */
static void
join_add(KsOperator *base, TupleTableSlot *slot)
{
	JoinOperator *op = (JoinOperator *) base;

	if (op->row_mark != NULL)
		note_match(op, op->row_mark, slot);
	op->inner->add(op->inner, slot);
}

/* The row itself may be to blame only for what the query makes of it. */
static void
join_check(KsOperator *base, TupleTableSlot *slot)
{
	JoinOperator *op = (JoinOperator *) base;

	if (op->inner->check != NULL)
		op->inner->check(op->inner, slot);
}

/* An error may belong to what the query's operator makes of the rows. */
static void
join_explain_error(KsOperator *base, ErrorData *edata)
{
	JoinOperator *op = (JoinOperator *) base;

	op->inner->explain_error(op->inner, edata);
}

/* Is a record of the batch late? */
static bool
has_late_rows(const JoinOperator *op, const JoinSide *side)
{
	KsBatch    *batch = ks_batch_shown(side->ref->stream);
	TimestampTz watermark = op->join->watermark_is_late ? op->base.watermark : DT_NOBEGIN;

	for (int i = batch->first; i < batch->last; i++)
	{
		KsRow	   *row = &batch->rows[i];

		if (!TIMESTAMP_IS_NOBEGIN(row->event_time) && Max(row->stream_time, watermark) - side->wait > row->event_time)
			return true;
	}
	return false;
}

/* Looks at the records of one stream: what goes into the buffer, what is late. */
static void
look_at_records(JoinOperator *op, JoinSide *side, bool check_only)
{
	JoinReceiver fill = make_receiver(op, receive_fill);
	JoinReceiver late = make_receiver(op, receive_late);
	JoinReceiver nothing = make_receiver(op, receive_nothing);
	Datum		watermark = TimestampTzGetDatum(op->base.watermark);
	int			n = rows_shown(side);

	if (n == 0)
		return;
	fill.side = late.side = side;
	fill.check_only = late.check_only = check_only;
	(void) ks_statement_run(side->fill, n, &watermark, &fill.pub);
	/* a null row that cannot be computed is the record's fault, and is so now */
	if (side->null_check != NULL)
		(void) ks_statement_run(side->null_check, n, &watermark, &nothing.pub);
	if (has_late_rows(op, side))
		(void) ks_statement_run(side->late, n, &watermark, &late.pub);
}

/* Looks which rows of the outer joins have met, where the row statement does not tell. */
static void
look_at_matches(JoinOperator *op, bool check_only)
{
	ListCell   *lc;

	foreach(lc, op->marks)
	{
		JoinMark   *mark = lfirst(lc);
		JoinReceiver match = make_receiver(op, receive_match);
		Datum		watermark = TimestampTzGetDatum(op->base.watermark);
		int			n = rows_shown(mark->sides[0]) + rows_shown(mark->sides[1]);

		match.mark = mark;
		match.check_only = check_only;
		if (mark->statement != NULL && n > 0)
			(void) ks_statement_run(mark->statement, n, &watermark, &match.pub);
	}
}

/* Looks at the records shown, for something that makes one bad. */
static void
join_check_records(KsOperator *base)
{
	JoinOperator *op = (JoinOperator *) base;
	ListCell   *lc;

	look_at_matches(op, true);
	foreach(lc, op->sides)
		look_at_records(op, lfirst(lc), true);
}

/* Ends the first phase. */
static void
join_finish(KsOperator *base)
{
	JoinOperator *op = (JoinOperator *) base;
	ListCell   *lc;

	look_at_matches(op, false);
	foreach(lc, op->sides)
		look_at_records(op, lfirst(lc), false);
	op->inner->finish(op->inner);
	op->base.late = list_concat(op->base.late, op->inner->late);
	op->inner->late = NIL;
}

/* ---------------------------------------------------------------- writing */

/* Runs a statement that changes the buffer or a half of it. */
static void
change_buffer(Oid relid, KsStatement *statement, const Datum *values)
{
	ks_guard_pass_begin(relid);
	(void) ks_statement_run(statement, 1, values, NULL);
	ks_guard_pass_end();
}

/* The place before all rows of that event time. */
static BufferPlace
before_time(TimestampTz event_time)
{
	BufferPlace place = {event_time, -1, -1};

	return place;
}

/* Writes to the buffer of one stream. */
static void
apply_side(JoinSide *side)
{
	if (side->ntuples > 0)
	{
		KsTableWriter *writer = ks_writer_open(side->halves_relid[side->half], NIL, NULL);

		ks_writer_append(writer, side->tuples, NULL, side->ntuples);
		ks_writer_close(writer);
		ks_halves_added(side->halves, side->ntuples, side->least_new, side->greatest_new);
		side->first = Min(side->first, side->least_new);
		if (side->least_new <= side->closed.event_time)
			side->closed = before_time(side->least_new);
	}
	for (int half = 0; half < 2; half++)
	{
		Datum		tids;

		if (side->nmet_old[half] == 0)
			continue;
		tids = PointerGetDatum(construct_array(side->met_old[half], side->nmet_old[half], TIDOID,
											   sizeof(ItemPointerData), false, TYPALIGN_SHORT));
		change_buffer(side->halves_relid[half], side->mark[half], &tids);
	}
}

/* Writes the rows of the query, then the buffers. */
static int64
join_apply(KsOperator *base)
{
	JoinOperator *op = (JoinOperator *) base;
	int64		rows = op->inner->apply(op->inner);
	ListCell   *lc;

	foreach(lc, op->sides)
		apply_side(lfirst(lc));
	return rows;
}

/* ---------------------------------------------------------------- closing */

/* The least watermark at which there are null rows: greater than the first record's close. */
static TimestampTz
close_of_first(const JoinSide *side)
{
	if (!side->ref->preserved || TIMESTAMP_IS_NOEND(side->first) ||
		side->first > END_TIMESTAMP - side->wait - 1)
		return DT_NOEND;
	return side->first + side->wait + 1;
}

/* See operator.h. */
static TimestampTz
join_next_close(KsOperator *base)
{
	JoinOperator *op = (JoinOperator *) base;
	TimestampTz next = DT_NOEND;
	ListCell   *lc;

	foreach(lc, op->sides)
	{
		JoinSide   *side = lfirst(lc);

		next = Min(next, Min(close_of_first(side), ks_halves_next(side->halves)));
	}
	if (op->inner->next_close != NULL)
		next = Min(next, op->inner->next_close(op->inner));
	return next;
}

/* A place as parameters of a statement. */
static void
place_to_datums(BufferPlace place, Datum *values)
{
	values[0] = TimestampTzGetDatum(place.event_time);
	values[1] = Int32GetDatum(place.partition);
	values[2] = Int64GetDatum(place.offset);
}

/* The place of the row that a statement returns; false if there is none. */
static bool
read_place(KsStatement *statement, const Datum *values, BufferPlace *place)
{
	bool		isnull;
	Datum		columns[3];

	if (ks_statement_run(statement, 1, values, NULL) == 0)
		return false;
	for (int i = 0; i < lengthof(columns); i++)
		columns[i] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i + 1, &isnull);
	place->event_time = DatumGetTimestampTz(columns[0]);
	place->partition = DatumGetInt32(columns[1]);
	place->offset = DatumGetInt64(columns[2]);
	SPI_freetuptable(SPI_tuptable);
	return true;
}

/* Finds the least event time of what has no null row yet. */
static void
find_first(JoinSide *side)
{
	Datum		values[3];
	BufferPlace first;

	place_to_datums(side->closed, values);
	side->first = read_place(side->least, values, &first) ? first.event_time : DT_NOEND;
}

/* Null rows go on from what the batch, or the closings before, have written. */
static void
see_own_writes(void)
{
	CommandCounterIncrement();
	UpdateActiveSnapshotCommandId();
}

/*
 * try_null_rows
 *		Computes the null rows of a range in a subtransaction; nothing is written.
 *		Returns NULL, or the error if it is one that a record can be guilty of.
 */
static ErrorData *
try_null_rows(JoinOperator *op, JoinSide *side, const Datum *range, int nrows)
{
	JoinReceiver receiver = make_receiver(op, receive_null_row);
	KsSubxact	sub;
	ErrorData  *volatile edata = NULL;

	MemoryContextReset(op->close_cxt);
	ks_subxact_begin(&sub);
	PG_TRY();
	{
		op->inner->late = NIL;
		op->inner->begin(op->inner, op->close_cxt);
		(void) ks_statement_run(side->null_rows, nrows, range, &receiver.pub);
		op->inner->finish(op->inner);
		ks_subxact_commit(&sub);
	}
	PG_CATCH();
	{
		edata = ks_subxact_abort(&sub);
	}
	PG_END_TRY();
	if (edata != NULL && !ks_may_be_a_records_fault(edata->sqlerrcode))
		ReThrowError(edata);
	return edata;
}

/* An error that comes without any row, too, is the query's own. */
static void
raise_closing_error(JoinOperator *op, JoinSide *side)
{
	Datum		nothing[6];
	ErrorData  *edata;

	place_to_datums(side->closed, nothing);
	place_to_datums(side->closed, nothing + 3);
	edata = try_null_rows(op, side, nothing, 1);
	if (edata != NULL)
		ThrowErrorData(edata);
}

/* Rows of a range have their null rows, or have none because they are bad. */
static void
leave_behind(JoinSide *side, const Datum *range, BufferPlace last)
{
	change_buffer(side->buffer, side->forget, range);
	side->closed = last;
	see_own_writes();
}

/* The one row of a range is bad. */
static void
note_dead(JoinOperator *op, JoinSide *side, BufferPlace place, const ErrorData *edata)
{
	KsDeadRecord record = {side->ref->stream, place.partition, place.offset, edata->sqlerrcode, edata->message};

	op->base.dead = lappend(op->base.dead, ks_dead_record_copy(&record));
}

/*
 * try_bite
 *		Computes the null rows of the next rows up to a place.  *range: parameters of
 *		the range, *stop: its end, *more: there may be something behind it.
 */
static ErrorData *
try_bite(JoinOperator *op, JoinSide *side, BufferPlace last, int bite, Datum *range, BufferPlace *stop, bool *more)
{
	*stop = last;
	place_to_datums(last, range);
	place_to_datums(side->closed, range + 3);
	range[6] = Int64GetDatum(bite - 1);
	*more = read_place(side->bite, range, stop);
	place_to_datums(*stop, range);
	return try_null_rows(op, side, range, bite);
}

/*
 * close_side
 *		Makes null rows of a stream that an outer join keeps, about limit at most.
 *
 *		Rows are taken in bites.  In a bite that fails the bad row is looked for by
 *		halving; what is before it is written.  The bites after it begin small, since
 *		bad rows often come together.
 */
static int64
close_side(JoinOperator *op, JoinSide *side, TimestampTz watermark, int limit, bool *more)
{
	const BufferPlace last = {watermark - side->wait - 1, PG_INT32_MAX, PG_INT64_MAX};
	int			bite = limit;
	int			suspects = 0;	/* rows from here on of which one is bad */
	int			done = 0;
	int64		rows = 0;

	*more = true;
	while (*more && done < limit)
	{
		BufferPlace stop;
		Datum		range[7];
		ErrorData  *edata = try_bite(op, side, last, bite, range, &stop, more);

		CHECK_FOR_INTERRUPTS();
		if (edata != NULL && bite > 1)
		{
			if (suspects == 0)
				raise_closing_error(op, side);
			suspects = bite;
			bite /= 2;
			*more = true;
			continue;
		}
		/* there must be a row to blame */
		if (edata != NULL && !*more)
			ThrowErrorData(edata);
		if (edata != NULL)
		{
			note_dead(op, side, stop, edata);
			if (op->query->stop_on_error)
				break;
			suspects = 0;
		}
		else
		{
			rows += op->inner->apply(op->inner);
			suspects = Max(suspects - bite, 0);
		}
		leave_behind(side, range, stop);
		done += bite;
		bite = suspects > 0 ? Max(suspects / 2, 1) : Min(2 * bite, limit);
	}
	find_first(side);
	return rows;
}

/* See operator.h. */
static int64
join_close(KsOperator *base, TimestampTz watermark, int limit, bool *more)
{
	JoinOperator *op = (JoinOperator *) base;
	int64		rows = 0;
	ListCell   *lc;

	see_own_writes();
	foreach(lc, op->sides)
	{
		JoinSide   *side = lfirst(lc);
		bool		left = false;

		/* more than what a batch brings, so that the buffer does not grow */
		if (close_of_first(side) <= watermark)
			rows += close_side(op, side, watermark, Max(limit, 2 * side->ntuples), &left);
		if (base->dead != NIL && op->query->stop_on_error)
			return rows;
		if (!left)
			ks_halves_expire(side->halves, watermark);
		*more |= left;
	}
	if (op->inner->close != NULL && !*more && op->inner->next_close(op->inner) <= watermark)
		rows += op->inner->close(op->inner, watermark, limit, more);
	MemoryContextReset(op->close_cxt);
	return rows;
}

/* ---------------------------------------------------------------- set-up */

/* The statements for null rows that work on the buffer alone. */
static void
create_buffer_statements(JoinOperator *op, JoinSide *side)
{
	const Oid	types[] = {KS_BUFFER_PLACE_TYPES, KS_BUFFER_PLACE_TYPES, INT8OID};
	const Oid	tids[] = {TIDARRAYOID};
	char	   *name = psprintf("kstream_state.%s", ks_join_buffer_name(op->query->id, side->ref->buffer));

	for (int half = 0; half < 2; half++)
		side->mark[half] = ks_statement_create(op->query, psprintf("UPDATE ONLY kstream_state.%s SET _matched = true WHERE ctid = ANY ($1)",
																   ks_join_half_name(op->query->id, side->ref->buffer, half)),
											   0, 1, tids);
	side->bite = ks_statement_create(op->query, psprintf("SELECT s._event_time, s._partition, s._offset FROM %s s WHERE " KS_BUFFER_RANGE
														 " ORDER BY 1, 2, 3 OFFSET $7 LIMIT 1", name), 0, 7, types);
	side->forget = ks_statement_create(op->query, psprintf("DELETE FROM %s s WHERE " KS_BUFFER_RANGE, name), 0, 6, types);
	side->least = ks_statement_create(op->query, psprintf("SELECT s._event_time, s._partition, s._offset FROM %s s WHERE s._event_time >= $1"
														  " AND (s._event_time, s._partition, s._offset) > ($1, $2, $3)"
														  " ORDER BY 1, 2, 3 LIMIT 1", name), 0, 3, types);
}

/* One stream of the join. */
static JoinSide *
create_side(JoinOperator *op, const KsJoinRefPlan *plan)
{
	const Oid	types[] = {KS_BUFFER_PLACE_TYPES, KS_BUFFER_PLACE_TYPES};
	JoinSide   *side = palloc0(sizeof(JoinSide));
	int			nargs = op->join->watermark_is_late ? 1 : 0;

	side->plan = plan;
	side->ref = &op->join->refs[plan->ref];
	side->wait = side->ref->wait + op->join->grace;
	side->buffer = ks_join_buffer(op->query->id, side->ref->buffer);
	for (int half = 0; half < 2; half++)
		side->halves_relid[half] = ks_join_half(op->query->id, side->ref->buffer, half);
	side->closed = before_time(DT_NOBEGIN);
	side->first = DT_NOEND;
	side->fill = ks_statement_create(op->query, plan->fill_sql, 1, nargs, watermark_type);
	side->late = ks_statement_create(op->query, plan->late_sql, 1, nargs, watermark_type);
	for (int half = 0; half < 2 && plan->keys_sql[half] != NULL; half++)
		side->keys[half] = ks_statement_create(op->query, plan->keys_sql[half], 0, 0, NULL);
	if (side->ref->preserved)
	{
		side->null_check = ks_statement_create(op->query, plan->null_check_sql, 1, nargs, watermark_type);
		side->null_rows = ks_statement_create(op->query, plan->null_sql, 0, 6, types);
		create_buffer_statements(op, side);
		find_first(side);
		MemoryContextSwitchTo(GetMemoryChunkContext(side)); /* SPI leaves its own behind */
	}
	side->halves = ks_halves_open(op->query, side->ref->buffer, side->wait);
	return side;
}

/* The side of a stream. */
static JoinSide *
side_of(JoinOperator *op, int ref)
{
	ListCell   *lc;

	foreach(lc, op->sides)
	{
		if (((JoinSide *) lfirst(lc))->plan->ref == ref)
			return lfirst(lc);
	}
	elog(ERROR, "stream %d of the join has no buffer", ref);
	return NULL;
}

/* One outer join. */
static JoinMark *
create_mark(JoinOperator *op, const KsJoinMarkPlan *plan)
{
	JoinMark   *mark = palloc0(sizeof(JoinMark));

	mark->plan = plan;
	mark->sides[0] = side_of(op, plan->outer->left);
	mark->sides[1] = side_of(op, plan->outer->right);
	if (plan->sql != NULL)
		mark->statement = ks_statement_create(op->query, plan->sql, plan->scans,
											  op->join->watermark_is_late ? 1 : 0, watermark_type);
	else
		op->row_mark = mark;
	return mark;
}

/* See join.h. */
KsOperator *
ks_join_create(const KsQueryRow *query, const KsPlan *plan, KsAnalysis *analysis, KsOperator *inner)
{
	JoinOperator *op = palloc0(sizeof(JoinOperator));
	MemoryContext cxt = CurrentMemoryContext;
	ListCell   *lc;

	op->base.begin = join_begin;
	op->base.add = join_add;
	op->base.check = join_check;
	op->base.check_records = join_check_records;
	op->base.explain_error = inner->explain_error != NULL ? join_explain_error : NULL;
	op->base.begin_to_check = inner->begin_to_check;
	op->base.finish = join_finish;
	op->base.apply = join_apply;
	op->base.next_close = join_next_close;
	op->base.close = join_close;
	op->inner = inner;
	op->query = query;
	op->join = analysis->join;
	op->filters = ks_filters_create(op->join);
	op->close_cxt = AllocSetContextCreate(CurrentMemoryContext, "kstream join close", ALLOCSET_DEFAULT_SIZES);
	SPI_connect();
	foreach(lc, plan->join->refs)
	{
		JoinSide   *side;

		/* SPI leaves its own context behind */
		MemoryContextSwitchTo(cxt);
		side = create_side(op, lfirst(lc));
		MemoryContextSwitchTo(cxt);
		op->sides = lappend(op->sides, side);
	}
	SPI_finish();
	foreach(lc, plan->join->marks)
		op->marks = lappend(op->marks, create_mark(op, lfirst(lc)));
	return &op->base;
}

/* See join.h. */
void
ks_join_forget_plans(KsOperator *base)
{
	JoinOperator *op = (JoinOperator *) base;
	ListCell   *lc;

	foreach(lc, op->marks)
	{
		JoinMark   *mark = lfirst(lc);

		if (mark->statement != NULL)
			ks_statement_forget_plans(mark->statement);
	}
	foreach(lc, op->sides)
	{
		JoinSide   *side = lfirst(lc);
		KsStatement *statements[] = {side->null_rows, side->bite, side->forget, side->least};

		for (int i = 0; i < lengthof(statements); i++)
		{
			if (statements[i] != NULL)
				ks_statement_forget_plans(statements[i]);
		}
	}
}

/*
 * See join.h: a buffer is as good as always in memory; and so are the rows of a
 * batch, which need not be sorted to be joined with each other.
 */
void
ks_join_planner_settings(bool hashes)
{
	(void) set_config_option("random_page_cost", "1", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	if (hashes)
		(void) set_config_option("enable_mergejoin", "off", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
}
