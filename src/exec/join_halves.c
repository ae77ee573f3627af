/*
 * join_halves.c
 *		Buffers of two halves: what is closed leaves by emptying one of them.
 *
 * Rows go to the current half.  When its first rows are closed, and it is not
 * small, the other half, which is empty by then, takes over; when all rows of the
 * half left behind are closed, it is truncated.  So a buffer holds at most about
 * twice what is open, no row is deleted, nothing has to be vacuumed, and no index
 * by time is needed.
 *
 * A few rows that are far ahead of the others would keep a half for long: when
 * the current half has closed rows, too, what is still open in the one left
 * behind moves over.
 *
 * A truncated table is empty for snapshots that are older, too.  One of them, of a
 * dump for example, may show positions from before these rows were closed: it
 * must find them.  So a half is truncated only when the transaction that has
 * closed its last rows is seen by all snapshots there are.  And to truncate needs
 * a lock that a reader of the buffer may not give.  Neither is waited for: the
 * half is tried again when event time has moved on, and the buffer grows so long.
 *
 * Closed rows that are still there do no harm: a record that comes after the
 * close of another does not match it, by the conditions of the statement.
 *
 * Runs in: worker or a backend that steps, inside a transaction with SPI, as the
 * owner of the query.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "catalog/cat_util.h"
#include "exec/join_halves.h"
#include "plan/join.h"
#include "store/guard.h"
#include "store/join_buffer.h"

/* Emptying a half is not worth it for fewer rows; tests are to see it happen. */
#ifdef KSTREAM_FAULTS
#define LEAST_ROWS 10
#else
#define LEAST_ROWS 10000
#endif

/* A half that could not be locked is tried again after this part of the time rows wait. */
#define RETRY_PART 16

typedef struct Half
{
	Oid			relid;
	char	   *name;			/* qualified */
	int64		rows;
	TimestampTz first;			/* least event time; DT_NOEND: empty */
	TimestampTz last;			/* greatest; DT_NOBEGIN: empty */
	uint64		mark;			/* see ks_halves_mark */
	TransactionId closed_by;	/* whoever does not see this one may need the rows; invalid: some are open */
} Half;

struct KsJoinHalves
{
	Half		halves[2];
	int			current;
	int64		wait;
	TimestampTz not_before;		/* watermark at which to try again */
};

/* Reads what a half holds. */
static void
load_half(Half *half)
{
	bool		isnull;
	Datum		value;

	(void) SPI_execute(psprintf("SELECT pg_catalog.count(*), pg_catalog.min(_event_time), pg_catalog.max(_event_time) FROM %s",
								half->name), false, 0);
	half->rows = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull);
	half->first = isnull ? DT_NOEND : DatumGetTimestampTz(value);
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 3, &isnull);
	half->last = isnull ? DT_NOBEGIN : DatumGetTimestampTz(value);
	half->closed_by = InvalidTransactionId;
	SPI_freetuptable(SPI_tuptable);
}

/* The watermark that closes a row with that event time. */
static TimestampTz
closing(const KsJoinHalves *halves, TimestampTz event_time)
{
	if (TIMESTAMP_IS_NOEND(event_time) || event_time > END_TIMESTAMP - halves->wait - 1)
		return DT_NOEND;
	return event_time + halves->wait + 1;
}

/*
 * Is the half left behind closed already?  Then it was so at the latest by the
 * last transaction that has stored positions, and a watermark with them.
 */
static void
load_closed_by(KsJoinHalves *halves, int32 query)
{
	Half	   *before = &halves->halves[1 - halves->current];
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(query)};
	bool		isnull;
	Datum		watermark;

	if (before->rows == 0)
		return;
	(void) ks_spi_execute("SELECT xmin, max(watermark) OVER () FROM kstream_catalog.position WHERE query = $1"
						  " ORDER BY age(xmin) LIMIT 1", false, 1, types, values, NULL);
	if (SPI_processed == 0)
		return;
	watermark = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull);
	if (!isnull && closing(halves, before->last) <= DatumGetTimestampTz(watermark))
		before->closed_by = DatumGetTransactionId(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_freetuptable(SPI_tuptable);
}

/* See join_halves.h. */
KsJoinHalves *
ks_halves_open(const KsQueryRow *query, int buffer, int64 wait)
{
	MemoryContext cxt = CurrentMemoryContext;
	KsJoinHalves *result = palloc0(sizeof(KsJoinHalves));

	for (int i = 0; i < 2; i++)
	{
		Half	   *half = &result->halves[i];

		MemoryContextSwitchTo(cxt); /* SPI leaves its own behind */
		half->relid = ks_join_half(query->id, buffer, i);
		half->name = psprintf("kstream_state.%s", ks_join_half_name(query->id, buffer, i));
		load_half(half);
	}
	MemoryContextSwitchTo(cxt);
	/* new rows are the later ones */
	result->current = result->halves[1].first > result->halves[0].first && result->halves[1].rows > 0 ? 1 : 0;
	result->wait = wait;
	result->not_before = DT_NOBEGIN;
	load_closed_by(result, query->id);
	MemoryContextSwitchTo(cxt);
	return result;
}

/* See join_halves.h. */
Oid
ks_halves_choose(KsJoinHalves *halves, TimestampTz watermark, int *half)
{
	const Half *now = &halves->halves[halves->current];

	if (halves->halves[1 - halves->current].rows == 0 && now->rows >= LEAST_ROWS &&
		closing(halves, now->first) <= watermark)
		halves->current = 1 - halves->current;
	*half = halves->current;
	return halves->halves[halves->current].relid;
}

/* See join_halves.h. */
void
ks_halves_added(KsJoinHalves *halves, int64 rows, TimestampTz least, TimestampTz greatest)
{
	Half	   *half = &halves->halves[halves->current];

	half->rows += rows;
	half->first = Min(half->first, least);
	half->last = Max(half->last, greatest);
	half->closed_by = InvalidTransactionId;
}

/* See join_halves.h. */
int64
ks_halves_rows(const KsJoinHalves *halves, int half)
{
	return halves->halves[half].rows;
}

/* See join_halves.h. */
uint64
ks_halves_mark(const KsJoinHalves *halves, int half)
{
	return halves->halves[half].mark;
}

/* See join_halves.h. */
TimestampTz
ks_halves_next(const KsJoinHalves *halves)
{
	const Half *now = &halves->halves[halves->current];
	const Half *before = &halves->halves[1 - halves->current];

	if (before->rows == 0)
		return DT_NOEND;
	return Max(Min(closing(halves, before->last), closing(halves, now->first)), halves->not_before);
}

/* Runs a statement that writes to a half. */
static void
write_half(const Half *half, const char *sql, int nargs, Oid *types, Datum *values)
{
	int			rc;

	ks_guard_pass_begin(half->relid);
	rc = SPI_execute_with_args(sql, nargs, types, values, NULL, false, 0);
	ks_guard_pass_end();
	if (rc < 0)
		elog(ERROR, "could not write to a buffer: %s", SPI_result_code_string(rc));
}

/* Moves what is open in the half left behind to the current one. */
static void
move_open_rows(KsJoinHalves *halves, TimestampTz watermark)
{
	Half	   *now = &halves->halves[halves->current];
	Half	   *before = &halves->halves[1 - halves->current];
	Relation	rel = table_open(before->relid, AccessShareLock);
	Oid			types[] = {TIMESTAMPTZOID};
	Datum		values[] = {TimestampTzGetDatum(watermark - halves->wait)};
	StringInfoData sql;

	/* all columns but the last one, _half */
	initStringInfo(&sql);
	appendStringInfo(&sql, "INSERT INTO %s SELECT ", now->name);
	for (int i = 0; i < RelationGetNumberOfAttributes(rel) - 1; i++)
		appendStringInfo(&sql, "%s, ", quote_identifier(NameStr(TupleDescAttr(RelationGetDescr(rel), i)->attname)));
	appendStringInfo(&sql, "%s FROM %s WHERE _event_time >= $1", halves->current == 1 ? "true" : "false", before->name);
	table_close(rel, NoLock);
	write_half(now, sql.data, lengthof(types), types, values);
	ks_halves_added(halves, SPI_processed, values[0], before->last);
	now->mark++;
	write_half(before, psprintf("DELETE FROM ONLY %s WHERE _event_time >= $1", before->name),
			   lengthof(types), types, values);
	before->last = DatumGetTimestampTz(values[0]) - 1;
}

/* Sees to it that the half left behind has closed rows only. */
static void
close_half(KsJoinHalves *halves, TimestampTz watermark)
{
	Half	   *before = &halves->halves[1 - halves->current];

	if (closing(halves, before->last) > watermark)
		move_open_rows(halves, watermark);
	before->closed_by = GetTopTransactionId();
}

/* Is there a snapshot, or may there come one, that does not see that its rows are closed? */
static bool
may_be_needed(const Half *half)
{
	Relation	rel = table_open(half->relid, AccessShareLock);
	TransactionId oldest = GetOldestNonRemovableTransactionId(rel);

	table_close(rel, NoLock);
	return !TransactionIdPrecedes(half->closed_by, oldest);
}

/* Empties the half left behind; false if somebody reads it, or may read it yet. */
static bool
empty_half(KsJoinHalves *halves, TimestampTz watermark)
{
	Half	   *before = &halves->halves[1 - halves->current];

	Assert(closing(halves, before->last) <= watermark);
	if (may_be_needed(before) || !ConditionalLockRelationOid(before->relid, AccessExclusiveLock))
		return false;
	write_half(before, psprintf("TRUNCATE ONLY %s", before->name), 0, NULL, NULL);
	before->rows = 0;
	before->mark++;
	before->first = DT_NOEND;
	before->last = DT_NOBEGIN;
	before->closed_by = InvalidTransactionId;
	return true;
}

/* See join_halves.h. */
void
ks_halves_expire(KsJoinHalves *halves, TimestampTz watermark)
{
	Half	   *before = &halves->halves[1 - halves->current];

	if (ks_halves_next(halves) > watermark)
		return;
	if (!TransactionIdIsValid(before->closed_by))
	{
		close_half(halves, watermark);
		halves->not_before = watermark + 1;
	}
	else
		halves->not_before = empty_half(halves, watermark) ? DT_NOBEGIN : watermark + halves->wait / RETRY_PART + 1;
}
