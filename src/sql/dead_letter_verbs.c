/*
 * dead_letter_verbs.c
 *		kstream.replay_dead_letters: the records a query could not process, once more.
 *
 * The records are taken from kstream_catalog.dead_letter (those of a local
 * stream from its log) and run through the query in the calling session, in its
 * transaction, while no worker runs the query.  What succeeds is deleted from
 * the dead letters; what does not stays, with the reason of this time.
 * Positions do not move, and a replayed record does not move partition time.
 *
 * Runs in: any backend.  Transaction: needed.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type_d.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "exec/query_exec.h"
#include "sql/ddl_util.h"
#include "sql/verbs.h"
#include "store/late_record.h"
#include "store/position.h"
#include "stream/batch.h"
#include "stream/local_log.h"
#include "worker/wakeup.h"

/* Dead letters replayed together. */
#define REPLAY_ROWS 1000

typedef struct KsLetter
{
	int64		id;
	Oid			source;
	KsRecord	rec;
	bool		known;			/* there is more of the record than where it stands */
	KsBatch    *batch;
	int			row;			/* in the batch, or -1: the record is not there any more */
	const char *sqlstate;		/* why it failed again, or NULL */
	const char *message;
} KsLetter;

typedef struct KsReplay
{
	KsQueryRow *query;
	KsQueryExec *exec;
	List	   *readers;		/* KsReader *, one per stream of the query */
	List	   *positions;		/* KsPosition * */
	Oid			last_source;	/* where the last chunk ended */
	int32		last_partition;
	int64		last_offset;
	int64		last_id;
} KsReplay;

/* What the time of a partition is looked up with. */
typedef struct KsTimeLookup
{
	KsReplay   *replay;
	Oid			source;
	TimestampTz time;
} KsTimeLookup;

/* Copies the bytes of a bytea; NULL if it is null. */
static const char *
copy_bytes(Datum datum, bool isnull, size_t *len)
{
	bytea	   *bytes;
	char	   *copy;

	*len = 0;
	if (isnull)
		return NULL;
	bytes = DatumGetByteaPP(datum);
	*len = VARSIZE_ANY_EXHDR(bytes);
	copy = palloc(*len + 1);
	memcpy(copy, VARDATA_ANY(bytes), *len);
	copy[*len] = '\0';
	return copy;
}

/* Headers as they were kept: a name and its text each. */
static void
copy_headers(KsRecord *rec, Datum datum, bool isnull)
{
	Jsonb	   *jb;
	JsonbIterator *it;
	JsonbValue	v;
	JsonbIteratorToken token;
	KsHeader   *header = NULL;

	if (isnull)
		return;
	jb = DatumGetJsonbPCopy(datum);
	if (!JB_ROOT_IS_OBJECT(jb))
		return;
	rec->headers = palloc0(sizeof(KsHeader) * Max(JB_ROOT_COUNT(jb), 1));
	it = JsonbIteratorInit(&jb->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			header = &rec->headers[rec->nheaders++];
			header->name = pnstrdup(v.val.string.val, v.val.string.len);
		}
		else if (token == WJB_VALUE && v.type == jbvString)
		{
			header->value = pnstrdup(v.val.string.val, v.val.string.len);
			header->len = v.val.string.len;
		}
	}
}

/* One row of the catalog as a dead letter, in the current context. */
static KsLetter *
letter_from_tuple(HeapTuple tuple, TupleDesc desc)
{
	KsLetter   *letter = palloc0(sizeof(KsLetter));
	KsRecord   *rec = &letter->rec;
	Datum		values[8];
	bool		nulls[8];

	for (int i = 0; i < lengthof(values); i++)
		values[i] = SPI_getbinval(tuple, desc, i + 1, &nulls[i]);
	letter->id = DatumGetInt64(values[0]);
	letter->source = DatumGetObjectId(values[1]);
	letter->row = -1;
	rec->partition = DatumGetInt32(values[2]);
	rec->offset = DatumGetInt64(values[3]);
	rec->leader_epoch = -1;
	rec->timestamp = nulls[4] ? DT_NOBEGIN : DatumGetTimestampTz(values[4]);
	rec->key = copy_bytes(values[5], nulls[5], &rec->keylen);
	rec->value = copy_bytes(values[6], nulls[6], &rec->valuelen);
	copy_headers(rec, values[7], nulls[7]);
	letter->known = !nulls[4] || !nulls[5] || !nulls[6];
	return letter;
}

/* The next dead letters, in the order of their records; in the current context. */
static List *
next_letters(KsReplay *replay)
{
	Oid			types[5] = {INT4OID, REGCLASSOID, INT4OID, INT8OID, INT8OID};
	Datum		values[5] = {
		Int32GetDatum(replay->query->id), ObjectIdGetDatum(replay->last_source),
		Int32GetDatum(replay->last_partition), Int64GetDatum(replay->last_offset),
		Int64GetDatum(replay->last_id)
	};
	MemoryContext cxt = CurrentMemoryContext;
	List	   *letters = NIL;

	SPI_connect();
	ks_spi_execute(psprintf("SELECT id, source, partition, \"offset\", \"timestamp\", key, value, headers"
							" FROM kstream_catalog.dead_letter WHERE query = $1"
							" AND (source, partition, \"offset\", id) > ($2, $3, $4, $5)"
							" ORDER BY source, partition, \"offset\", id LIMIT %d", REPLAY_ROWS),
				   false, 5, types, values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(cxt);
		KsLetter   *letter = letter_from_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc);

		letters = lappend(letters, letter);
		replay->last_source = letter->source;
		replay->last_partition = letter->rec.partition;
		replay->last_offset = letter->rec.offset;
		replay->last_id = letter->id;
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return letters;
}

/* Partition time as it is now: a replayed record comes after all that were processed. */
static TimestampTz *
partition_time(int32 partition, void *arg)
{
	KsTimeLookup *lookup = arg;
	ListCell   *lc;

	lookup->time = DT_NOBEGIN;
	foreach(lc, lookup->replay->positions)
	{
		KsPosition *position = lfirst(lc);

		if (position->source == lookup->source && position->partition == partition &&
			position->has_stream_time)
			lookup->time = position->stream_time;
	}
	return &lookup->time;
}

/* The batch of one stream, made of those letters that are its records. */
static KsBatch *
make_batch(KsReplay *replay, KsReader *reader, List *letters)
{
	KsBatch    *batch = ks_batch_create(reader, CurrentMemoryContext);
	KsTimeLookup lookup = {replay, reader->def->relid, DT_NOBEGIN};
	KsOwnerScope scope;
	ListCell   *lc;

	foreach(lc, letters)
	{
		KsLetter   *letter = lfirst(lc);
		int			nrows = batch->nrows;

		if (letter->source != reader->def->relid)
			continue;
		if (reader->def->local)
			(void) ks_local_log_read(batch, letter->rec.partition, letter->rec.offset,
									 letter->rec.offset + 1, 1);
		else if (letter->known)
			(void) ks_batch_add_record(batch, &letter->rec);
		if (batch->nrows > nrows)
		{
			letter->batch = batch;
			letter->row = nrows;
		}
	}
	/* as a batch of the query decodes them */
	ks_owner_enter(replay->query, &scope);
	ks_batch_set_times(batch, 0, partition_time, &lookup);
	ks_owner_leave(&scope);
	return batch;
}

/* Notes for each letter whether it has failed again. */
static void
mark_failed(List *letters, const KsExecResult *result)
{
	ListCell   *lc;
	ListCell   *lc2;

	foreach(lc, letters)
	{
		KsLetter   *letter = lfirst(lc);

		if (letter->row < 0)
		{
			letter->sqlstate = "02000";
			letter->message = letter->known ? "the record is no longer in the log" :
				"the record failed after its batch and was not kept";
			continue;
		}
		foreach(lc2, result->bad)
		{
			KsBadRow   *bad = lfirst(lc2);

			if (bad->batch == letter->batch && bad->row == letter->row)
			{
				letter->sqlstate = pstrdup(unpack_sql_state(bad->sqlstate));
				letter->message = bad->message;
			}
		}
	}
}

/* Deletes the letters that were processed, tells why the others failed; how many were. */
static int64
store_outcome(List *letters)
{
	Oid			types[3] = {INT8OID, TEXTOID, TEXTOID};
	Datum		values[3];
	int64		processed = 0;
	ListCell   *lc;

	SPI_connect();
	foreach(lc, letters)
	{
		KsLetter   *letter = lfirst(lc);

		values[0] = Int64GetDatum(letter->id);
		if (letter->sqlstate == NULL)
		{
			ks_spi_execute("DELETE FROM kstream_catalog.dead_letter WHERE id = $1",
						   false, 1, types, values, NULL);
			processed++;
			continue;
		}
		values[1] = CStringGetTextDatum(letter->sqlstate);
		values[2] = CStringGetTextDatum(letter->message);
		ks_spi_execute("UPDATE kstream_catalog.dead_letter"
					   " SET sqlstate = $2, message = $3, seen_at = clock_timestamp() WHERE id = $1",
					   false, 3, types, values, NULL);
	}
	SPI_finish();
	return processed;
}

/* Keeps and counts the letters that are too late by now. */
static void
store_late(KsReplay *replay, List *late, List *batches)
{
	int64		before = 0;
	ListCell   *lc;

	if (late == NIL)
		return;
	foreach(lc, replay->positions)
		before += ((KsPosition *) lfirst(lc))->late;
	ks_late_records_store(replay->query->id, before, late, batches);
	foreach(lc, replay->positions)
	{
		KsPosition *pos = lfirst(lc);
		KsPosition	moved = *pos;
		ListCell   *ll;

		foreach(ll, late)
		{
			KsLateRow  *row = lfirst(ll);

			if (row->source == pos->source && row->partition == pos->partition)
				moved.late++;
		}
		if (moved.late == pos->late)
			continue;
		ks_position_store(replay->query->id, pos, &moved);
		*pos = moved;
	}
}

/* What the query has closed stays closed for replayed records. */
static void
set_watermark(KsReplay *replay)
{
	TimestampTz watermark = DT_NOBEGIN;
	ListCell   *lc;

	if (!ks_exec_needs_watermark(replay->exec))
		return;
	foreach(lc, replay->positions)
		watermark = Max(watermark, ((KsPosition *) lfirst(lc))->watermark);
	ks_exec_set_watermark(replay->exec, watermark);
}

/* Replays the next letters; false if there were none. */
static bool
replay_chunk(KsReplay *replay, int64 *processed)
{
	List	   *letters;
	List	   *batches = NIL;
	KsExecResult result;
	ListCell   *lc;

	letters = next_letters(replay);
	if (letters == NIL)
		return false;
	foreach(lc, replay->readers)
		batches = lappend(batches, make_batch(replay, lfirst(lc), letters));
	ks_exec_run(replay->exec, batches, &result);
	store_late(replay, result.late, batches);
	mark_failed(letters, &result);
	*processed += store_outcome(letters);
	return true;
}

/* Readers of the streams of the query. */
static List *
open_readers(const KsQueryRow *query)
{
	List	   *readers = NIL;
	ListCell   *lc;

	foreach(lc, ks_query_streams(query, NULL))
	{
		Relation	rel = table_open(lfirst_oid(lc), AccessShareLock);

		readers = lappend(readers, ks_reader_create(rel));
		table_close(rel, NoLock);
	}
	return readers;
}

/* A table that follows a topic must not take an old record for a new one. */
static void
check_replayable(const KsQueryRow *query)
{
	if (query->stop_on_error)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("continuous query \"%s\" keeps no dead letters, because of on_error = 'stop'",
						get_rel_name(query->relation)),
				 errhint("Correct the cause of the error and call kstream.resume().")));
	if (OidIsValid(query->source))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("dead letters of table \"%s\" cannot be replayed, because it follows a topic",
						get_rel_name(query->relation)),
				 errdetail("A later record of the same key may have been applied, or have deleted the row."),
				 errhint("Call kstream.reset() to read the topic again from its beginning.")));
}

PG_FUNCTION_INFO_V1(ks_replay_dead_letters);

/* replay_dead_letters(name): the number of records that were processed this time. */
Datum
ks_replay_dead_letters(PG_FUNCTION_ARGS)
{
	KsReplay	replay = {0};
	MemoryContext chunk_cxt;
	MemoryContext old;
	int64		processed = 0;
	bool		more = true;

	replay.query = ks_query_by_name(ks_arg_required(fcinfo, 0, "name"));
	ks_query_check_owner(replay.query);
	check_replayable(replay.query);
	ks_query_take_over(replay.query->id);

	replay.last_offset = PG_INT64_MIN;
	PushCopiedSnapshot(GetTransactionSnapshot());
	UpdateActiveSnapshotCommandId();
	replay.exec = ks_exec_open(replay.query);
	replay.readers = open_readers(replay.query);
	replay.positions = ks_positions_load(replay.query->id);
	set_watermark(&replay);
	chunk_cxt = AllocSetContextCreate(CurrentMemoryContext, "kstream replay", ALLOCSET_DEFAULT_SIZES);
	while (more)
	{
		old = MemoryContextSwitchTo(chunk_cxt);
		more = replay_chunk(&replay, &processed);
		MemoryContextSwitchTo(old);
		MemoryContextReset(chunk_cxt);
		CHECK_FOR_INTERRUPTS();
		CommandCounterIncrement();
		UpdateActiveSnapshotCommandId();
	}
	ks_exec_close(replay.exec);
	PopActiveSnapshot();
	MemoryContextDelete(chunk_cxt);
	PG_RETURN_INT64(processed);
}
