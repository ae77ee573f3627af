/*
 * dead_letter.c
 *		Keeping the records that a query could not process.
 *
 * A dead letter has the record's coordinates, its raw bytes, and the error.  A
 * row of a local stream has no bytes; its value is written as the JSON document
 * that a topic would hold, its key as text.  Of a topic's record whose null row
 * fails when it comes, in a join of streams, only the coordinates are known any more.
 *
 * Runs in: worker or a backend that steps; inside the batch's transaction.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "commands/sequence.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "format/encode.h"
#include "store/dead_letter.h"

/* Attributes of kstream_catalog.dead_letter. */
enum
{
	ATT_ID = 1,
	ATT_QUERY,
	ATT_SOURCE,
	ATT_TOPIC,
	ATT_PARTITION,
	ATT_OFFSET,
	ATT_TIMESTAMP,
	ATT_KEY,
	ATT_VALUE,
	ATT_HEADERS,
	ATT_SQLSTATE,
	ATT_MESSAGE,
	ATT_SEEN_AT,
	NATTS = ATT_SEEN_AT
};

/* Bytes as bytea. */
static Datum
bytes_datum(const char *bytes, size_t len)
{
	bytea	   *result = palloc(VARHDRSZ + len);

	SET_VARSIZE(result, VARHDRSZ + len);
	memcpy(VARDATA(result), bytes, len);
	return PointerGetDatum(result);
}

/* The value of a local stream's row, as JSON of its declared columns. */
static Datum
local_value(KsBatch *batch, const KsRow *row)
{
	KsStreamDef *def = batch->reader->def;
	bool	   *include = palloc0(sizeof(bool) * def->natts);
	StringInfoData buf;

	for (int i = 0; i < def->natts; i++)
		include[i] = def->columns[i].kind == KS_COL_VALUE || def->columns[i].kind == KS_COL_KEY;
	initStringInfo(&buf);
	ks_encode_json(&buf, batch->reader->desc, row->values, row->nulls, include);
	return bytes_datum(buf.data, buf.len);
}

/* Key, value and headers of a local stream's row. */
static void
fill_local(KsBatch *batch, const KsRow *row, Datum *values, bool *nulls)
{
	KsStreamDef *def = batch->reader->def;
	AttrNumber	key = def->meta[KS_META_KEY];
	AttrNumber	headers = def->meta[KS_META_HEADERS];

	if (key > 0 && !row->nulls[key - 1])
	{
		text	   *t = DatumGetTextPP(row->values[key - 1]);

		values[ATT_KEY - 1] = bytes_datum(VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t));
	}
	else
		nulls[ATT_KEY - 1] = true;
	values[ATT_VALUE - 1] = local_value(batch, row);
	nulls[ATT_HEADERS - 1] = headers <= 0 || row->nulls[headers - 1];
	if (!nulls[ATT_HEADERS - 1])
		values[ATT_HEADERS - 1] = row->values[headers - 1];
}

/* Key, value and headers of a record. */
static void
fill_record(const KsRow *row, Datum *values, bool *nulls)
{
	nulls[ATT_KEY - 1] = row->rec.key == NULL;
	if (row->rec.key != NULL)
		values[ATT_KEY - 1] = bytes_datum(row->rec.key, row->rec.keylen);
	nulls[ATT_VALUE - 1] = row->rec.value == NULL;
	if (row->rec.value != NULL)
		values[ATT_VALUE - 1] = bytes_datum(row->rec.value, row->rec.valuelen);
	values[ATT_HEADERS - 1] = ks_decode_headers(&row->rec, &nulls[ATT_HEADERS - 1]);
}

/* Inserts a dead letter: the columns given, where the record stands, and why. */
static void
insert_letter(int32 query, const KsStreamDef *def, const KsDeadRecord *record, Datum *values, bool *nulls)
{
	Oid			nsp = get_namespace_oid("kstream_catalog", false);
	Relation	rel = table_open(get_relname_relid("dead_letter", nsp), RowExclusiveLock);
	HeapTuple	tuple;

	values[ATT_ID - 1] = Int64GetDatum(nextval_internal(get_relname_relid("dead_letter_id_seq", nsp), false));
	values[ATT_QUERY - 1] = Int32GetDatum(query);
	values[ATT_SOURCE - 1] = ObjectIdGetDatum(record->source);
	nulls[ATT_TOPIC - 1] = def->topic == NULL;
	if (def->topic != NULL)
		values[ATT_TOPIC - 1] = CStringGetTextDatum(def->topic);
	values[ATT_PARTITION - 1] = Int32GetDatum(record->partition);
	values[ATT_OFFSET - 1] = Int64GetDatum(record->offset);
	values[ATT_SQLSTATE - 1] = CStringGetTextDatum(unpack_sql_state(record->sqlstate));
	values[ATT_MESSAGE - 1] = CStringGetTextDatum(record->message);
	values[ATT_SEEN_AT - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);
	CatalogTupleInsert(rel, tuple);
	heap_freetuple(tuple);
	table_close(rel, NoLock);
}

/* See dead_letter.h. */
void
ks_dead_letter_store(int32 query, KsBatch *batch, int n, int sqlstate, const char *message)
{
	KsStreamDef *def = batch->reader->def;
	KsRow	   *row = &batch->rows[n];
	KsDeadRecord record = {def->relid, row->rec.partition, row->rec.offset, sqlstate, unconstify(char *, message)};
	Datum		values[NATTS];
	bool		nulls[NATTS] = {false};

	nulls[ATT_TIMESTAMP - 1] = TIMESTAMP_IS_NOBEGIN(row->rec.timestamp);
	values[ATT_TIMESTAMP - 1] = TimestampTzGetDatum(row->rec.timestamp);
	if (batch->local)
		fill_local(batch, row, values, nulls);
	else
		fill_record(row, values, nulls);
	insert_letter(query, def, &record, values, nulls);
}

/* See dead_letter.h. */
KsDeadRecord *
ks_dead_record_copy(const KsDeadRecord *record)
{
	KsDeadRecord *copy = palloc(sizeof(KsDeadRecord));

	*copy = *record;
	copy->message = pstrdup(record->message);
	return copy;
}

/* See dead_letter.h. */
void
ks_dead_record_store(int32 query, const KsStreamDef *def, const KsDeadRecord *record)
{
	Datum		values[NATTS];
	bool		nulls[NATTS] = {false};

	nulls[ATT_TIMESTAMP - 1] = nulls[ATT_KEY - 1] = nulls[ATT_VALUE - 1] = nulls[ATT_HEADERS - 1] = true;
	insert_letter(query, def, record, values, nulls);
}
