/*
 * batch.c
 *		The rows of one stream that a micro-batch (or a chunk of a bounded read)
 *		consists of, their decoding, and the registry of batches that scans show.
 *
 * A row keeps its record; its columns are decoded for the whole batch at once
 * when somebody asks for them, in one loop per request.  What was ever asked for
 * is decoded together in the batches that follow ("sticky"), so that in the
 * steady state a record is parsed once.
 *
 * CHECK constraints belong to the definition of a stream: a row that violates
 * one is bad for every reader of one of the constraint's columns.  They are
 * evaluated with the decoding, and a violation becomes an error of each of those
 * columns.
 *
 * Event time.  A declared timestamp column may be timestamptz, timestamp or
 * date.  The latter two have no time zone; they are taken as UTC, whatever the
 * session's TimeZone, because event time must not depend on who reads.  A NULL
 * or infinite value falls back to the record's own timestamp.
 *
 * Decoding runs code of users: CHECK constraints, domains, input functions.  Like
 * a trigger it runs with the rights of the reader, unless that is a superuser (as
 * in a worker): then with those of the stream's owner.
 *
 * Runs in: any backend, any worker; in a transaction if columns are decoded.
 * Memory: a reader lives in the context it was made in, a batch in its own.
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/int.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/date.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "stream/batch.h"

/* Rows whose value arrays are allocated at once. */
#define ROWS_PER_CHUNK		64

/* One CHECK constraint of the relation, as the reader keeps it. */
typedef struct KsCheck
{
	char	   *name;
	Node	   *expr;
	bool	   *columns;		/* [natts] columns it reads */
} KsCheck;

/* The constraints of a batch, compiled when first needed. */
typedef struct KsCheckState
{
	ExprContext *econtext;
	TupleTableSlot *slot;
	ExprState **exprs;			/* parallel to reader->checks */
} KsCheckState;

/* What a run of the constraints is about. */
typedef struct KsCheckRun
{
	KsBatch    *batch;
	const bool *due;			/* [number of checks] */
	int			from;
	int			to;
} KsCheckRun;

double		ks_batch_planned_rows = 0;
const char *ks_batch_statement = NULL;
KsBatch    *ks_current_batch = NULL;
int			ks_current_row = -1;
KsBatch    *ks_alone_batch = NULL;
int			ks_alone_row = -1;

static List *shown = NIL;		/* KsBatch *, in TopMemoryContext */
static KsBadRowHandler bad_handler = NULL;
static void *bad_handler_arg = NULL;
static bool callback_registered = false;

static List *load_checks(Relation rel, const KsStreamDef *def);
static KsRow *add_row(KsBatch *batch);
static void new_chunk(KsBatch *batch);
static bool choose_columns(KsBatch *batch, const bool *wanted);
static void decode_missing(KsBatch *batch, bool missing);
static void decode_rows(KsBatch *batch, const bool *columns, int from, int to);
static void fill_metadata(KsBatch *batch, const bool *columns, int from, int to);
static void fill_key_text(KsBatch *batch, AttrNumber attnum, int from, int to);
static bool reads_document(const KsReader *reader, const bool *columns);
static void add_error(KsBatch *batch, KsRow *row, KsRecordError *error);
static bool row_has_document_error(const KsRow *row);
static void run_checks(KsBatch *batch, const bool *columns, int from, int to);
static void prepare_checks(KsBatch *batch);
static bool run_checks_safely(KsCheckRun *run, KsRecordError **error);
static void run_checks_raw(KsCheckRun *run);
static void check_row(KsBatch *batch, const KsCheck *check, ExprState *expr, KsRow *row);
static void add_check_error(KsBatch *batch, const KsCheck *check, KsRow *row,
							int sqlstate, const char *message);
static TimestampTz event_time_of(const KsReader *reader, const KsRow *row, bool convert);
static void forget_shown(XactEvent event, void *arg);


/* ---------------------------------------------------------------- readers */

/* Makes what turns records of the stream into rows, in the current context. */
KsReader *
ks_reader_create(Relation rel)
{
	KsReader   *reader = palloc0(sizeof(KsReader));
	int			natts;

	reader->def = ks_stream_def_load(rel);
	reader->desc = CreateTupleDescCopyConstr(RelationGetDescr(rel));
	natts = reader->desc->natts;
	reader->sticky = palloc0(sizeof(bool) * Max(natts, 1));
	reader->need = palloc0(sizeof(bool) * Max(natts, 1));
	reader->fresh = palloc0(sizeof(bool) * Max(natts, 1));
	if (!reader->def->local)
	{
		reader->decoder = ks_decoder_create(reader->def);
		reader->checks = load_checks(rel, reader->def);
	}
	return reader;
}

/*
 * The CHECK constraints of the relation with the columns they read.  A local
 * stream needs none here: they were enforced when its rows were inserted.
 */
static List *
load_checks(Relation rel, const KsStreamDef *def)
{
	TupleConstr *constr = RelationGetDescr(rel)->constr;
	List	   *result = NIL;

	for (int i = 0; constr != NULL && i < constr->num_check; i++)
	{
		KsCheck    *check;
		Bitmapset  *attrs = NULL;
		int			member = -1;

		if (!ks_check_enforced(&constr->check[i]))
			continue;
		check = palloc0(sizeof(KsCheck));
		check->name = pstrdup(constr->check[i].ccname);
		check->expr = stringToNode(constr->check[i].ccbin);
		check->columns = palloc0(sizeof(bool) * Max(def->natts, 1));
		pull_varattnos(check->expr, 1, &attrs);
		while ((member = bms_next_member(attrs, member)) >= 0)
		{
			AttrNumber	attnum = member + FirstLowInvalidHeapAttributeNumber;

			if (attnum > 0)
				check->columns[attnum - 1] = true;
			else if (attnum == InvalidAttrNumber)
				memset(check->columns, true, def->natts);
		}
		result = lappend(result, check);
	}
	return result;
}

/* ---------------------------------------------------------------- batches */

/* Makes an empty batch with a context of its own under parent. */
KsBatch *
ks_batch_create(KsReader *reader, MemoryContext parent)
{
	MemoryContext cxt = AllocSetContextCreate(parent, "kstream batch", ALLOCSET_DEFAULT_SIZES);
	KsBatch    *batch = MemoryContextAllocZero(cxt, sizeof(KsBatch));

	batch->cxt = cxt;
	batch->reader = reader;
	batch->local = reader->def->local;
	batch->decoded = MemoryContextAllocZero(cxt, sizeof(bool) * Max(reader->desc->natts, 1));
	return batch;
}

/* Frees the batch; scans do not show it any more. */
void
ks_batch_destroy(KsBatch *batch)
{
	shown = list_delete_ptr(shown, batch);
	if (ks_alone_batch == batch)
		ks_alone_batch = NULL;
	if (ks_current_batch == batch)
	{
		ks_current_batch = NULL;
		ks_current_row = -1;
	}
	MemoryContextDelete(batch->cxt);
}

/* See batch.h.  The row returned is good until the next row is added. */
KsRow *
ks_batch_add_record(KsBatch *batch, const KsRecord *rec)
{
	KsRow	   *row = add_row(batch);

	row->rec = *rec;
	return row;
}

/* See batch.h.  The row returned is good until the next row is added. */
KsRow *
ks_batch_add_local(KsBatch *batch)
{
	KsRow	   *row = add_row(batch);

	memset(&row->rec, 0, sizeof(KsRecord));
	row->rec.leader_epoch = -1;
	row->rec.timestamp = DT_NOBEGIN;
	return row;
}

/* Adds a row whose columns are all NULL. */
static KsRow *
add_row(KsBatch *batch)
{
	int			natts = batch->reader->desc->natts;
	KsRow	   *row;

	if (batch->nrows == batch->maxrows)
	{
		batch->maxrows = batch->maxrows == 0 ? ROWS_PER_CHUNK : batch->maxrows * 2;
		if (batch->rows == NULL)
			batch->rows = MemoryContextAllocHuge(batch->cxt, sizeof(KsRow) * (Size) batch->maxrows);
		else
			batch->rows = repalloc_huge(batch->rows, sizeof(KsRow) * (Size) batch->maxrows);
	}
	if (batch->nchunk == 0)
		new_chunk(batch);

	row = &batch->rows[batch->nrows++];
	row->values = batch->chunk_values;
	row->nulls = batch->chunk_nulls;
	row->errors = NULL;
	row->event_time = DT_NOBEGIN;
	row->stream_time = DT_NOBEGIN;
	batch->chunk_values += natts;
	batch->chunk_nulls += natts;
	batch->nchunk--;
	batch->last = batch->nrows;
	return row;
}

/* Allocates value arrays for the rows to come. */
static void
new_chunk(KsBatch *batch)
{
	Size		natts = Max(batch->reader->desc->natts, 1);
	Size		n = natts * ROWS_PER_CHUNK;

	batch->chunk_values = MemoryContextAllocZero(batch->cxt, n * sizeof(Datum));
	batch->chunk_nulls = MemoryContextAlloc(batch->cxt, n * sizeof(bool));
	memset(batch->chunk_nulls, true, n * sizeof(bool));
	batch->nchunk = ROWS_PER_CHUNK;
}

/* ---------------------------------------------------------------- decoding */

/*
 * See batch.h.  Rows that were added since the last call get the columns that
 * the others have already; then all rows get those that are missing.
 */
void
ks_batch_decode(KsBatch *batch, const bool *wanted)
{
	Oid			user;
	int			sec_context;
	int			nest_level;
	bool		missing;

	if (batch->local || batch->nrows == 0)
		return;

	missing = choose_columns(batch, wanted);
	if (!missing && batch->ndecoded == batch->nrows)
		return;

	GetUserIdAndSecContext(&user, &sec_context);
	if (superuser())
		SetUserIdAndSecContext(batch->reader->def->owner,
							   sec_context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	nest_level = NewGUCNestLevel();
	decode_missing(batch, missing);
	AtEOXact_GUC(false, nest_level);
	SetUserIdAndSecContext(user, sec_context);
}

/* Decodes what choose_columns has chosen, and all columns of the rows that are new. */
static void
decode_missing(KsBatch *batch, bool missing)
{
	KsReader   *reader = batch->reader;

	if (batch->ndecoded == 0)
	{
		/* first pass: also where no column is wanted, for the document is checked */
		decode_rows(batch, reader->fresh, 0, batch->nrows);
	}
	else
	{
		if (batch->ndecoded < batch->nrows)
			decode_rows(batch, batch->decoded, batch->ndecoded, batch->nrows);
		if (missing)
			decode_rows(batch, reader->fresh, 0, batch->nrows);
	}
	for (int i = 0; i < reader->desc->natts; i++)
		batch->decoded[i] |= reader->fresh[i];
	batch->ndecoded = batch->nrows;
}

/*
 * Sets reader->fresh to the columns that must be decoded now: those wanted now
 * or by earlier scans, with what the CHECK constraints on them need, and not
 * decoded yet.  Returns false if there is none.
 */
static bool
choose_columns(KsBatch *batch, const bool *wanted)
{
	KsReader   *reader = batch->reader;
	int			natts = reader->desc->natts;
	bool		missing = false;
	ListCell   *lc;

	for (int i = 0; i < natts; i++)
	{
		if (wanted[i] && !reader->sticky[i])
			reader->sticky[i] = true;
		reader->need[i] = reader->sticky[i];
	}
	foreach(lc, reader->checks)
	{
		KsCheck    *check = lfirst(lc);
		bool		read = false;

		for (int i = 0; i < natts && !read; i++)
			read = check->columns[i] && reader->sticky[i];
		for (int i = 0; i < natts && read; i++)
			reader->need[i] |= check->columns[i];
	}
	for (int i = 0; i < natts; i++)
	{
		reader->fresh[i] = reader->need[i] && !batch->decoded[i] &&
			reader->def->columns[i].kind != KS_COL_DROPPED;
		missing |= reader->fresh[i];
	}
	return missing;
}

/* Decodes the columns of rows [from, to), which do not have them yet. */
static void
decode_rows(KsBatch *batch, const bool *columns, int from, int to)
{
	KsReader   *reader = batch->reader;
	MemoryContext old = MemoryContextSwitchTo(batch->cxt);

	if (reads_document(reader, columns) || from >= batch->ndecoded)
	{
		bool	   *declared = palloc(sizeof(bool) * Max(reader->desc->natts, 1));

		for (int i = 0; i < reader->desc->natts; i++)
			declared[i] = columns[i] && reader->def->columns[i].kind != KS_COL_META;
		for (int i = from; i < to; i++)
		{
			KsRow	   *row = &batch->rows[i];
			KsRecordError *error;

			if (unlikely(row->errors != NULL) && row_has_document_error(row))
				continue;
			error = ks_decode(reader->decoder, &row->rec, declared, row->values, row->nulls);
			if (unlikely(error != NULL))
				add_error(batch, row, error);
		}
	}
	fill_metadata(batch, columns, from, to);
	if (reader->checks != NIL)
		run_checks(batch, columns, from, to);
	MemoryContextSwitchTo(old);
}

/* True if one of the columns comes from the record's key or value. */
static bool
reads_document(const KsReader *reader, const bool *columns)
{
	for (int i = 0; i < reader->desc->natts; i++)
	{
		if (columns[i] && reader->def->columns[i].kind != KS_COL_META)
			return true;
	}
	return false;
}

/* Fills the metadata columns of rows [from, to), but for _stream_time. */
static void
fill_metadata(KsBatch *batch, const bool *columns, int from, int to)
{
	const KsStreamDef *def = batch->reader->def;
	int			meta[KS_NUM_META];

	for (int m = 0; m < KS_NUM_META; m++)
	{
		AttrNumber	attnum = def->meta[m];

		meta[m] = attnum != 0 && columns[attnum - 1] ? attnum - 1 : -1;
	}

	for (int i = from; i < to; i++)
	{
		KsRow	   *row = &batch->rows[i];
		int			c;

		if ((c = meta[KS_META_PARTITION]) >= 0)
		{
			row->values[c] = Int32GetDatum(row->rec.partition);
			row->nulls[c] = false;
		}
		if ((c = meta[KS_META_OFFSET]) >= 0)
		{
			row->values[c] = Int64GetDatum(row->rec.offset);
			row->nulls[c] = false;
		}
		if ((c = meta[KS_META_TIMESTAMP]) >= 0)
		{
			row->values[c] = TimestampTzGetDatum(row->rec.timestamp);
			row->nulls[c] = row->rec.timestamp == DT_NOBEGIN;
		}
		if ((c = meta[KS_META_TOMBSTONE]) >= 0)
		{
			row->values[c] = BoolGetDatum(row->rec.value == NULL);
			row->nulls[c] = false;
		}
		if ((c = meta[KS_META_HEADERS]) >= 0)
			row->values[c] = ks_decode_headers(&row->rec, &row->nulls[c]);
	}
	if (meta[KS_META_KEY] >= 0)
		fill_key_text(batch, def->meta[KS_META_KEY], from, to);
}

/* Fills column _key of rows [from, to). */
static void
fill_key_text(KsBatch *batch, AttrNumber attnum, int from, int to)
{
	for (int i = from; i < to; i++)
	{
		KsRow	   *row = &batch->rows[i];
		KsRecordError *error = NULL;

		row->values[attnum - 1] = ks_decode_key_text(batch->reader->decoder, &row->rec,
													 &row->nulls[attnum - 1], &error);
		if (error != NULL)
			add_error(batch, row, error);
	}
}

/* Adds a list of errors to those of the row. */
static void
add_error(KsBatch *batch, KsRow *row, KsRecordError *error)
{
	KsRecordError *last = error;

	while (last->next != NULL)
		last = last->next;
	last->next = row->errors;
	row->errors = error;
}

/* True if the row is bad for every reader. */
static bool
row_has_document_error(const KsRow *row)
{
	for (const KsRecordError *error = row->errors; error != NULL; error = error->next)
	{
		if (error->attnum == 0)
			return true;
	}
	return false;
}

/* See batch.h. */
const KsRecordError *
ks_batch_row_error(KsBatch *batch, int row, const bool *wanted)
{
	for (const KsRecordError *error = batch->rows[row].errors; error != NULL; error = error->next)
	{
		if (error->attnum == 0 || wanted[error->attnum - 1])
			return error;
	}
	return NULL;
}

/* ---------------------------------------------------------------- CHECK constraints */

/*
 * Evaluates the constraints that read one of the freshly decoded columns on rows
 * [from, to).  An expression that raises an error is a violation as well; to
 * find its row, the rows are gone through one by one.
 */
static void
run_checks(KsBatch *batch, const bool *columns, int from, int to)
{
	KsReader   *reader = batch->reader;
	bool	   *due = palloc0(sizeof(bool) * list_length(reader->checks));
	bool		any = false;
	KsCheckRun	run = {batch, due, from, to};
	KsRecordError *error;

	for (int c = 0; c < list_length(reader->checks); c++)
	{
		KsCheck    *check = list_nth(reader->checks, c);

		for (int i = 0; i < reader->desc->natts && !due[c]; i++)
			due[c] = check->columns[i] && columns[i];
		any |= due[c];
	}
	if (!any)
		return;

	prepare_checks(batch);
	if (run_checks_safely(&run, &error))
		return;

	for (int i = from; i < to; i++)
	{
		for (int c = 0; c < list_length(reader->checks); c++)
		{
			bool	   *one;

			if (!due[c])
				continue;
			one = palloc0(sizeof(bool) * list_length(reader->checks));
			one[c] = true;
			run.due = one;
			run.from = i;
			run.to = i + 1;
			if (!run_checks_safely(&run, &error))
				add_check_error(batch, list_nth(reader->checks, c), &batch->rows[i],
								error->sqlstate, error->message);
			pfree(one);
		}
	}
}

/* Compiles the constraints, once per batch: what they call may change between batches. */
static void
prepare_checks(KsBatch *batch)
{
	KsCheckState *state;
	ListCell   *lc;
	int			n = 0;

	if (batch->checks != NULL)
		return;
	state = palloc0(sizeof(KsCheckState));
	state->econtext = CreateStandaloneExprContext();
	state->slot = MakeSingleTupleTableSlot(batch->reader->desc, &TTSOpsVirtual);
	state->slot->tts_tableOid = batch->reader->def->relid;
	state->econtext->ecxt_scantuple = state->slot;
	state->exprs = palloc0(sizeof(ExprState *) * list_length(batch->reader->checks));
	foreach(lc, batch->reader->checks)
	{
		KsCheck    *check = lfirst(lc);

		state->exprs[n++] = ExecInitExpr(expression_planner((Expr *) copyObject(check->expr)), NULL);
	}
	batch->checks = state;
}

/*
 * Runs the constraints in a subtransaction of their own.  Returns false, with
 * the error, if one raised an error; what was noted about the rows before stays
 * and is taken back.
 */
static bool
run_checks_safely(KsCheckRun *run, KsRecordError **error)
{
	MemoryContext cxt = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	KsRecordError **saved;
	volatile bool ok = false;

	*error = NULL;
	saved = palloc(sizeof(KsRecordError *) * (run->to - run->from));
	for (int i = run->from; i < run->to; i++)
		saved[i - run->from] = run->batch->rows[i].errors;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(cxt);
	PG_TRY();
	{
		run_checks_raw(run);
		ReleaseCurrentSubTransaction();
		ok = true;
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(cxt);
		edata = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if (edata->sqlerrcode == ERRCODE_QUERY_CANCELED ||
			ERRCODE_TO_CATEGORY(edata->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
		{
			MemoryContextSwitchTo(cxt);
			CurrentResourceOwner = owner;
			ReThrowError(edata);
		}
		*error = palloc0(sizeof(KsRecordError));
		(*error)->sqlstate = edata->sqlerrcode;
		(*error)->message = pstrdup(edata->message);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(cxt);
	CurrentResourceOwner = owner;

	if (!ok)
	{
		for (int i = run->from; i < run->to; i++)
			run->batch->rows[i].errors = saved[i - run->from];
	}
	pfree(saved);
	return ok;
}

/* Runs the constraints; errors of the expressions go up. */
static void
run_checks_raw(KsCheckRun *run)
{
	KsBatch    *batch = run->batch;

	for (int c = 0; c < list_length(batch->reader->checks); c++)
	{
		KsCheck    *check = list_nth(batch->reader->checks, c);

		if (!run->due[c])
			continue;
		for (int i = run->from; i < run->to; i++)
			check_row(batch, check, batch->checks->exprs[c], &batch->rows[i]);
	}
}

/*
 * Evaluates one constraint on one row.  A row in which one of the constraint's
 * columns could not be decoded is not judged, nor is a deletion.
 */
static void
check_row(KsBatch *batch, const KsCheck *check, ExprState *expr, KsRow *row)
{
	KsCheckState *state = batch->checks;
	TupleTableSlot *slot = state->slot;
	bool		isnull;
	Datum		result;

	if (row->errors != NULL && ks_batch_row_error(batch, row - batch->rows, check->columns) != NULL)
		return;
	if (row->rec.value == NULL && batch->reader->def->meta[KS_META_TOMBSTONE] != 0)
		return;

	ExecClearTuple(slot);
	slot->tts_values = row->values;
	slot->tts_isnull = row->nulls;
	ExecStoreVirtualTuple(slot);
	result = ExecEvalExprSwitchContext(expr, state->econtext, &isnull);
	if (!isnull && !DatumGetBool(result))
		add_check_error(batch, check, row, ERRCODE_CHECK_VIOLATION,
						psprintf(_("record violates check constraint \"%s\" of stream %s"),
								 check->name, batch->reader->def->relname));
	ResetExprContext(state->econtext);
}

/* The row is bad for the readers of each of the constraint's columns. */
static void
add_check_error(KsBatch *batch, const KsCheck *check, KsRow *row, int sqlstate, const char *message)
{
	MemoryContext old = MemoryContextSwitchTo(batch->cxt);

	for (int i = 0; i < batch->reader->desc->natts; i++)
	{
		KsRecordError *error;

		if (!check->columns[i])
			continue;
		error = palloc0(sizeof(KsRecordError));
		error->attnum = i + 1;
		error->sqlstate = sqlstate;
		error->message = pstrdup(message);
		add_error(batch, row, error);
	}
	MemoryContextSwitchTo(old);
}

/* ---------------------------------------------------------------- time */

/* See batch.h. */
void
ks_batch_set_times(KsBatch *batch, int from, KsStreamTimeSlot slot, void *arg)
{
	KsReader   *reader = batch->reader;
	AttrNumber	column = reader->def->event_time;
	AttrNumber	meta = reader->def->meta[KS_META_STREAM_TIME];
	bool		convert = false;
	TimestampTz *current = NULL;
	int32		partition = -1;

	if (column != 0)
	{
		if (!reader->sticky[column - 1])
			reader->sticky[column - 1] = true;
		ks_batch_decode(batch, reader->sticky);
		convert = getBaseType(reader->def->columns[column - 1].typid) == DATEOID;
	}
	for (int i = from; i < batch->nrows; i++)
	{
		KsRow	   *row = &batch->rows[i];

		if (current == NULL || row->rec.partition != partition)
		{
			partition = row->rec.partition;
			current = slot(partition, arg);
		}
		row->event_time = event_time_of(reader, row, convert);
		if (row->event_time > *current)
			*current = row->event_time;
		row->stream_time = *current;
		if (meta != 0)
		{
			row->values[meta - 1] = TimestampTzGetDatum(row->stream_time);
			row->nulls[meta - 1] = row->stream_time == DT_NOBEGIN;
		}
	}
}

/*
 * Event time of a row, or DT_NOBEGIN if it has none: where it is a column, and
 * the column cannot be decoded, the row does not advance the time of its
 * partition.
 */
static TimestampTz
event_time_of(const KsReader *reader, const KsRow *row, bool convert)
{
	AttrNumber	column = reader->def->event_time;
	TimestampTz time;

	if (column == 0)
		return row->rec.timestamp;
	for (const KsRecordError *error = row->errors; error != NULL; error = error->next)
	{
		if (error->attnum == 0 || error->attnum == column)
			return DT_NOBEGIN;
	}
	if (row->nulls[column - 1])
		return row->rec.timestamp;
	if (convert)
	{
		DateADT		date = DatumGetDateADT(row->values[column - 1]);

		if (DATE_NOT_FINITE(date) || pg_mul_s64_overflow(date, USECS_PER_DAY, &time) ||
			!IS_VALID_TIMESTAMP(time))
			return row->rec.timestamp;
	}
	else
		time = DatumGetTimestampTz(row->values[column - 1]);
	return TIMESTAMP_NOT_FINITE(time) ? row->rec.timestamp : time;
}

/* ---------------------------------------------------------------- registry */

/* From now on scans of the stream in this process show the batch. */
void
ks_batch_show(KsBatch *batch)
{
	MemoryContext old;

	if (!callback_registered)
	{
		RegisterXactCallback(forget_shown, NULL);
		callback_registered = true;
	}
	old = MemoryContextSwitchTo(TopMemoryContext);
	shown = list_append_unique_ptr(shown, batch);
	MemoryContextSwitchTo(old);
}

/* Scans show no batch any more. */
void
ks_batch_hide_all(void)
{
	list_free(shown);
	shown = NIL;
	ks_current_batch = ks_alone_batch = NULL;
	ks_current_row = ks_alone_row = -1;
}

/* The batch that scans of the stream show, or NULL. */
KsBatch *
ks_batch_shown(Oid relid)
{
	ListCell   *lc;

	foreach(lc, shown)
	{
		KsBatch    *batch = lfirst(lc);

		if (batch->reader->def->relid == relid)
			return batch;
	}
	return NULL;
}

/* True while statements of a batch run. */
bool
ks_batches_active(void)
{
	return shown != NIL;
}

/* Transaction callback: an error may have left batches shown. */
static void
forget_shown(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			ks_batch_hide_all();
			break;
		default:
			break;
	}
}

/* Sets who is told about bad rows that scans meet. */
void
ks_batch_set_bad_handler(KsBadRowHandler handler, void *arg)
{
	bad_handler = handler;
	bad_handler_arg = arg;
}

/* Tells about a bad row; an error if nobody wants to know. */
void
ks_batch_report_bad(KsBatch *batch, int row, const KsRecordError *error)
{
	if (bad_handler == NULL)
	{
		const KsRecord *rec = &batch->rows[row].rec;

		ereport(ERROR,
				(errcode(error->sqlstate),
				 errmsg("%s", error->message),
				 errcontext("stream %s, partition %d, offset %lld",
							batch->reader->def->relname, rec->partition, (long long) rec->offset)));
	}
	bad_handler(batch, row, error, bad_handler_arg);
}
