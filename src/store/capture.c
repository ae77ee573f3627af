/*
 * capture.c
 *		Changes of a table on their way to a topic: rows to records, into the outbox.
 *
 * Rows are encoded in the transaction that changes them, so that what cannot be
 * published is an error of that transaction and what is rolled back was never
 * published.
 *
 * A key that goes (a deletion, or an update that changes the key) and the same
 * key that comes in one statement, in rows of their own, must leave in that
 * order.  Where the key is the one by which kstream writes the table, each key
 * changes once in a batch and the order does not matter.  Otherwise what goes is
 * collected apart (here: removals) and written first.
 *
 * A record has the time of the change: of a table that kstream maintains the
 * event time, else the clock.  A time that Kafka cannot hold becomes the clock's.
 *
 * Runs in: any backend, any worker, in a transaction.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_class_d.h"
#include "commands/dbcommands.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/version.h"
#include "catalog/cat_util.h"
#include "catalog/owner.h"
#include "catalog/query_cat.h"
#include "catalog/stream_def.h"
#include "format/decode.h"
#include "format/encode.h"
#include "format/encoding.h"
#include "format/value_writer.h"
#include "store/capture.h"
#include "store/capture_headers.h"
#include "store/capture_keys.h"
#include "stream/out_record.h"
#include "stream/outbox.h"

/* Packed records that are collected before they are written. */
#define PACKED_BYTES (4 * 1024 * 1024)

struct KsCapture
{
	KsChangeListener listener;	/* first: of tables that kstream maintains */
	MemoryContext cxt;
	MemoryContext row_cxt;		/* of one record */
	MemoryContext pack_cxt;		/* reset when the records are written */
	KsSinkRow  *sink;
	KsStreamDef *def;
	KsEncoder  *encoder;
	KsHeaderExpr *headers;		/* or NULL */
	bool		scoped;			/* owner and settings of the sink are in force */
	KsOwnerScope scope;			/* before ks_capture_enter */
	Size		max_bytes;
	KsPacker   *packer;
	KsPacker   *removals;		/* written before the others; NULL: one packer does */
	StringInfoData key;
	StringInfoData other_key;
	StringInfoData value;
	char	   *source;			/* debezium: beginning and end of "source", in UTF-8 */
	keyset_hash *keys;			/* to which keys that are put are added, or NULL */
};

static void listener_take(KsChangeListener *self, KsChangeOp op, TupleTableSlot *old_row,
						  TupleTableSlot *new_row, TimestampTz event_time);
static void listener_finish(KsChangeListener *self);


/* ---------------------------------------------------------------- opening */

/* What Debezium's field "source" begins with, up to the time. */
static char *
make_source(const KsSinkRow *sink, Relation rel)
{
	const char *const fields[][2] = {
		{"version", KS_VERSION},
		{"connector", "kstream"},
		{"name", ks_sink_display_name(sink)},
		{"db", get_database_name(MyDatabaseId)},
		{"schema", get_namespace_name(RelationGetNamespace(rel))},
		{"table", RelationGetRelationName(rel)},
	};
	StringInfoData buf;
	const char *utf8;
	size_t		len;

	initStringInfo(&buf);
	for (int i = 0; i < lengthof(fields); i++)
	{
		appendStringInfo(&buf, "%c\"%s\":", i == 0 ? '{' : ',', fields[i][0]);
		ks_append_json_string(&buf, fields[i][1], strlen(fields[i][1]));
	}
	utf8 = ks_server_to_utf8(buf.data, buf.len, &len);
	return pnstrdup(utf8, len);
}

/* Do two lists of names hold the same names? */
static bool
same_names(List *a, List *b)
{
	ListCell   *lc;

	if (list_length(a) != list_length(b))
		return false;
	foreach(lc, a)
	{
		if (!ks_names_contain(b, lfirst(lc)))
			return false;
	}
	return true;
}

/* Is the record key the one by which kstream writes the table? */
static bool
key_is_own(const KsSinkRow *sink)
{
	KsQueryRow *query = ks_query_load_by_relation(sink->relation);

	return query != NULL && same_names(sink->key_columns, query->key_columns);
}

/* Prepares the expression for headers, as the owner of the table. */
static void
open_headers(KsCapture *capture, Relation rel)
{
	KsOwnerScope scope;

	if (capture->sink->headers == NULL)
		return;
	ks_scope_enter(capture->sink->relation, capture->sink->settings, &scope);
	capture->headers = ks_header_expr_create(capture->sink->headers, rel);
	ks_owner_leave(&scope);
}

/* See capture.h. */
void
ks_capture_check(const KsSinkRow *sink, Relation rel)
{
	ks_decoder_check(ks_stream_def_of_table(rel, sink->target, sink->key_columns));
}

/* See capture.h. */
KsCapture *
ks_capture_open(KsSinkRow *sink, Relation rel)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "kstream capture", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	KsCapture  *capture = palloc0(sizeof(KsCapture));

	capture->listener.take = listener_take;
	capture->listener.finish = listener_finish;
	capture->cxt = cxt;
	capture->row_cxt = AllocSetContextCreate(cxt, "kstream captured row", ALLOCSET_DEFAULT_SIZES);
	capture->pack_cxt = AllocSetContextCreate(cxt, "kstream packed records", ALLOCSET_DEFAULT_SIZES);
	capture->sink = sink;
	capture->def = ks_stream_def_of_table(rel, sink->target, sink->key_columns);
	capture->encoder = ks_encoder_create(capture->def);
	capture->max_bytes = ks_out_max_bytes(capture->def->serverid);
	capture->packer = ks_packer_create(capture->pack_cxt);
	initStringInfo(&capture->key);
	initStringInfo(&capture->other_key);
	initStringInfo(&capture->value);
	if (sink->debezium)
		capture->source = make_source(sink, rel);
	open_headers(capture, rel);
	MemoryContextSwitchTo(old);
	return capture;
}

/* Hands the packed records to the outbox. */
static void
write_packed(KsCapture *capture)
{
	if (capture->removals != NULL)
		ks_outbox_write(capture->sink, capture->removals);
	ks_outbox_write(capture->sink, capture->packer);
	MemoryContextReset(capture->pack_cxt);
	capture->packer = ks_packer_create(capture->pack_cxt);
	if (capture->removals != NULL)
		capture->removals = ks_packer_create(capture->pack_cxt);
}

/* See capture.h. */
void
ks_capture_close(KsCapture *capture)
{
	write_packed(capture);
	if (capture->headers != NULL)
		ks_header_expr_free(capture->headers);
	MemoryContextDelete(capture->cxt);
}

/* ---------------------------------------------------------------- keys */

/* Appends the record key of a row; false if its records have none. */
static bool
encode_key(KsCapture *capture, StringInfo buf, TupleTableSlot *row)
{
	slot_getallattrs(row);
	resetStringInfo(buf);
	if (ks_encoder_key(capture->encoder, buf, row->tts_values, row->tts_isnull, true))
		return true;
	if (capture->def->nkeys > 0 && capture->def->key_format != KS_KEY_NONE)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_NULL_VIOLATION),
				 errmsg("null value in key column \"%s\" of table %s, which is published to topic \"%s\"",
						capture->def->columns[capture->def->keys[0] - 1].name,
						capture->def->relname, capture->def->topic),
				 errhint("Of the key formats only \"json\" has a null.")));
	return false;
}

/* Hash of a key. */
static uint64
key_hash(const StringInfoData *key)
{
	return hash_bytes_extended((const unsigned char *) key->data, key->len, 0);
}

/* See capture.h. */
void
ks_capture_remember(KsCapture *capture, keyset_hash *keys)
{
	capture->keys = keys;
}

/* The entry of a row's key among keys, made if told so; NULL: there is none. */
static KsKeyEntry *
key_entry(KsCapture *capture, TupleTableSlot *row, keyset_hash *keys, bool make)
{
	MemoryContext old = MemoryContextSwitchTo(capture->row_cxt);
	KsKeyEntry *entry = NULL;
	bool		found;

	MemoryContextReset(capture->row_cxt);
	if (encode_key(capture, &capture->key, row))
		entry = make ? keyset_insert(keys, key_hash(&capture->key), &found) :
			keyset_lookup(keys, key_hash(&capture->key));
	MemoryContextSwitchTo(old);
	return entry;
}

/* See capture.h. */
void
ks_capture_collect_key(KsCapture *capture, TupleTableSlot *row, keyset_hash *keys)
{
	(void) key_entry(capture, row, keys, true);
}

/* See capture.h. */
bool
ks_capture_has_key(KsCapture *capture, TupleTableSlot *row, keyset_hash *keys)
{
	return key_entry(capture, row, keys, false) != NULL;
}

/* See capture.h. */
bool
ks_capture_key_of_other(KsCapture *capture, TupleTableSlot *row, keyset_hash *keys, uint32 firing)
{
	KsKeyEntry *entry = key_entry(capture, row, keys, false);

	return entry != NULL && entry->firing != firing;
}

/* See capture.h. */
void
ks_capture_note_key(KsCapture *capture, TupleTableSlot *row, keyset_hash *keys, uint32 firing)
{
	KsKeyEntry *entry = key_entry(capture, row, keys, true);

	if (entry != NULL)
		entry->firing = firing;
}

/* See capture.h. */
bool
ks_capture_same_key(KsCapture *capture, TupleTableSlot *a, TupleTableSlot *b)
{
	MemoryContext old = MemoryContextSwitchTo(capture->row_cxt);
	bool		result;

	MemoryContextReset(capture->row_cxt);
	(void) encode_key(capture, &capture->key, a);
	(void) encode_key(capture, &capture->other_key, b);
	result = capture->key.len == capture->other_key.len &&
		memcmp(capture->key.data, capture->other_key.data, capture->key.len) == 0;
	MemoryContextSwitchTo(old);
	return result;
}

/* ---------------------------------------------------------------- records */

/* The time of a record, which Kafka can hold. */
static TimestampTz
record_time(TimestampTz event_time)
{
	if (TIMESTAMP_NOT_FINITE(event_time) || ks_kafka_time(event_time) <= 0)
		return GetCurrentTimestamp();
	return event_time;
}

/* Sets the headers, as the owner of the table under the sink's settings. */
static void
add_headers(KsCapture *capture, TupleTableSlot *row, KsRecord *rec)
{
	KsOwnerScope scope;

	if (capture->headers == NULL)
		return;
	if (!capture->scoped)
		ks_scope_enter(capture->sink->relation, capture->sink->settings, &scope);
	ks_header_expr_eval(capture->headers, row, rec);
	if (!capture->scoped)
		ks_owner_leave(&scope);
}

/* See capture.h. */
void
ks_capture_enter(KsCapture *capture)
{
	if (capture->headers == NULL)
		return;
	ks_scope_enter(capture->sink->relation, capture->sink->settings, &capture->scope);
	capture->scoped = true;
}

/* See capture.h. */
void
ks_capture_leave(KsCapture *capture)
{
	if (capture->headers == NULL)
		return;
	ks_owner_leave(&capture->scope);
	capture->scoped = false;
}

/* Appends the value of the upsert envelope. */
static void
encode_row(KsCapture *capture, TupleTableSlot *row)
{
	if (!ks_encoder_value(capture->encoder, &capture->value, row->tts_values, row->tts_isnull))
		ereport(ERROR,
				(errcode(ERRCODE_NOT_NULL_VIOLATION),
				 errmsg("a row of table %s without a value cannot be published to topic \"%s\"",
						capture->def->relname, capture->def->topic),
				 errdetail("In format \"%s\" a record without a value says that the row is deleted.",
						   ks_format_name(capture->def->format)),
				 errhint("Declare the column NOT NULL, or publish in format \"json\".")));
}

/* Appends a row as a member of Debezium's envelope. */
static void
append_member(KsCapture *capture, const char *name, TupleTableSlot *row)
{
	appendStringInfo(&capture->value, "%s\":", name);
	if (row == NULL)
	{
		appendStringInfoString(&capture->value, "null");
		return;
	}
	slot_getallattrs(row);
	ks_encoder_object(capture->encoder, &capture->value, row->tts_values, row->tts_isnull);
}

/* Appends the value of the debezium envelope. */
static void
encode_envelope(KsCapture *capture, char op, TupleTableSlot *old_row, TupleTableSlot *new_row,
				TimestampTz event_time)
{
	append_member(capture, "{\"before", old_row);
	append_member(capture, ",\"after", new_row);
	appendStringInfo(&capture->value, ",\"source\":%s,\"ts_ms\":" INT64_FORMAT ",\"snapshot\":\"%s\"}"
					 ",\"op\":\"%c\",\"ts_ms\":" INT64_FORMAT "}",
					 capture->source, ks_kafka_time(event_time), op == 'r' ? "true" : "false",
					 op, ks_kafka_time(GetCurrentTimestamp()));
}

/* Packs one record, whose key and value are encoded; value NULL: a tombstone. */
static void
pack(KsCapture *capture, KsPacker *packer, bool has_key, const StringInfoData *value,
	 TupleTableSlot *row, TimestampTz event_time)
{
	KsRecord	rec = {.partition = -1,.leader_epoch = -1,.timestamp = event_time};

	if (has_key)
	{
		rec.key = capture->key.data;
		rec.keylen = capture->key.len;
	}
	if (value != NULL)
	{
		rec.value = value->data;
		rec.valuelen = value->len;
	}
	add_headers(capture, row, &rec);
	ks_out_check_size(&rec, capture->max_bytes, capture->def);
	ks_packer_add(packer, &rec);
	if (capture->removals == NULL && capture->packer->bytes >= PACKED_BYTES)
		write_packed(capture);
}

/* The record of a row that is there. */
static void
put(KsCapture *capture, char op, TupleTableSlot *old_row, TupleTableSlot *new_row, TimestampTz event_time)
{
	MemoryContext old = MemoryContextSwitchTo(capture->row_cxt);
	bool		has_key;
	bool		found;

	MemoryContextReset(capture->row_cxt);
	event_time = record_time(event_time);
	has_key = encode_key(capture, &capture->key, new_row);
	resetStringInfo(&capture->value);
	if (capture->sink->debezium)
		encode_envelope(capture, op, old_row, new_row, event_time);
	else
		encode_row(capture, new_row);
	pack(capture, capture->packer, has_key, &capture->value, new_row, event_time);
	if (capture->keys != NULL && has_key)
		(void) keyset_insert(capture->keys, key_hash(&capture->key), &found);
	MemoryContextSwitchTo(old);
}

/* See capture.h. */
void
ks_capture_put(KsCapture *capture, TupleTableSlot *old_row, TupleTableSlot *new_row,
			   TimestampTz event_time)
{
	put(capture, old_row == NULL ? 'c' : 'u', old_row, new_row, event_time);
}

/* See capture.h. */
void
ks_capture_snapshot_row(KsCapture *capture, TupleTableSlot *row, TimestampTz event_time)
{
	put(capture, 'r', NULL, row, event_time);
}

/* See capture.h.  A row without a key leaves no trace but in Debezium's envelope. */
void
ks_capture_remove(KsCapture *capture, TupleTableSlot *old_row, TimestampTz event_time)
{
	MemoryContext old = MemoryContextSwitchTo(capture->row_cxt);
	KsPacker   *packer = capture->removals != NULL ? capture->removals : capture->packer;
	bool		has_key;

	MemoryContextReset(capture->row_cxt);
	event_time = record_time(event_time);
	has_key = encode_key(capture, &capture->key, old_row);
	if (capture->sink->debezium)
	{
		resetStringInfo(&capture->value);
		encode_envelope(capture, 'd', old_row, NULL, event_time);
		pack(capture, packer, has_key, &capture->value, old_row, event_time);
		packer = capture->removals != NULL ? capture->removals : capture->packer;
	}
	if (has_key)
		pack(capture, packer, true, NULL, old_row, event_time);
	MemoryContextSwitchTo(old);
}

/* See capture.h. */
void
ks_capture_snapshot(KsSinkRow *sink, Relation rel)
{
	KsCapture  *capture = ks_capture_open(sink, rel);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TimestampTz now = GetCurrentTimestamp();

	ks_capture_enter(capture);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		ks_capture_snapshot_row(capture, slot, now);
	}
	ks_capture_leave(capture);
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	ks_capture_close(capture);
}

/* ---------------------------------------------------------------- tables of kstream */

/* One change of a table that kstream maintains. */
static void
listener_take(KsChangeListener *self, KsChangeOp op, TupleTableSlot *old_row,
			  TupleTableSlot *new_row, TimestampTz event_time)
{
	KsCapture  *capture = (KsCapture *) self;
	bool		moves = op == KS_CHANGE_UPDATE && capture->removals != NULL &&
		!ks_capture_same_key(capture, old_row, new_row);

	if (op == KS_CHANGE_DELETE || moves)
		ks_capture_remove(capture, old_row, event_time);
	if (op != KS_CHANGE_DELETE)
		ks_capture_put(capture, moves ? NULL : old_row, new_row, event_time);
}

/* The batch has ended. */
static void
listener_finish(KsChangeListener *self)
{
	ks_capture_close((KsCapture *) self);
}

/* See capture.h. */
List *
ks_capture_listeners(Relation rel)
{
	List	   *listeners = NIL;
	ListCell   *lc;

	foreach(lc, ks_sinks_of_relation(RelationGetRelid(rel)))
	{
		KsSinkRow  *sink = lfirst(lc);
		KsCapture  *capture;

		if (sink->kind == KS_SINK_STREAM)
			continue;
		capture = ks_capture_open(sink, rel);
		capture->scoped = capture->headers != NULL &&
			ks_scope_in_force(sink->relation, sink->settings);
		if (sink->key_columns != NIL && !key_is_own(sink))
			capture->removals = ks_packer_create(capture->pack_cxt);
		listeners = lappend(listeners, capture);
	}
	return listeners;
}

/* See capture.h. */
bool
ks_capture_wanted(Oid relation)
{
	ListCell   *lc;

	foreach(lc, ks_sinks_of_relation(relation))
	{
		if (((KsSinkRow *) lfirst(lc))->kind != KS_SINK_STREAM)
			return true;
	}
	return false;
}
