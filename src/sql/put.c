/*
 * put.c
 *		kstream.put and kstream.remove: an upsert or a tombstone for a table's topic.
 *
 * The row is made of the JSON object by the table's own row type, so its types
 * and domains decide what a value may be, and checked against the constraints of
 * the table and of the hidden stream that its records are read through: what
 * would become a dead letter is refused.  It is written to that stream, as an
 * INSERT would be, and comes back to the table through the topic.
 *
 * Runs in: any backend, as the caller, who needs INSERT (or DELETE) on the table.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_type_d.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "catalog/cat_util.h"
#include "catalog/query_cat.h"
#include "catalog/stream_def.h"
#include "sql/ddl_util.h"
#include "stream/stream_writer.h"

/* A record on its way. */
typedef struct Put
{
	KsQueryRow *query;
	Relation	table;
	Relation	source;
	KsStreamDef *def;			/* of the source */
	TupleTableSlot *row;		/* of the table */
	TupleTableSlot *record;		/* of the source */
} Put;

/* The table that follows a topic, which the caller may write to. */
static void
open_put(Put *put, Oid relid, AclMode mode)
{
	AclResult	result;

	put->query = ks_query_load_by_relation(relid);
	if (put->query == NULL || !OidIsValid(put->query->source))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table that follows a topic", get_rel_name(relid)),
				 errhint("Name a table made by kstream.create_table or kstream.create_global_table.")));
	result = pg_class_aclcheck(relid, GetUserId(), mode);
	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_TABLE, get_rel_name(relid));
	put->table = table_open(relid, AccessShareLock);
	put->source = table_open(put->query->source, AccessShareLock);
	put->def = ks_stream_def_load(put->source);
	put->row = MakeSingleTupleTableSlot(RelationGetDescr(put->table), &TTSOpsVirtual);
	put->record = MakeSingleTupleTableSlot(RelationGetDescr(put->source), &TTSOpsVirtual);
	put->row->tts_tableOid = relid;
	put->record->tts_tableOid = put->query->source;
}

/* Lets go of it. */
static void
close_put(Put *put)
{
	ExecDropSingleTupleTableSlot(put->row);
	ExecDropSingleTupleTableSlot(put->record);
	table_close(put->source, NoLock);
	table_close(put->table, NoLock);
}

/* An error for a member that is no column; its name without quotes. */
static void
check_members(Put *put, Jsonb *object, bool key_only)
{
	JsonbIterator *it = JsonbIteratorInit(&object->root);
	JsonbValue	value;
	JsonbIteratorToken token;
	int			found = 0;

	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		char	   *name;

		if (token != WJB_KEY)
			continue;
		name = pnstrdup(value.val.string.val, value.val.string.len);
		if ((key_only && !ks_names_contain(put->query->key_columns, name)) ||
			get_attnum(RelationGetRelid(put->table), name) <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("\"%s\" is not a %s of table \"%s\"", name,
							key_only ? "key column" : "column", RelationGetRelationName(put->table)),
					 key_only ? errhint("The key is %s.", ks_identifier_list(put->query->key_columns)) :
					 errhint("Members of the object are named as the columns.")));
		found++;
	}
	if (key_only && found < list_length(put->query->key_columns))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the key of table \"%s\" is not complete", RelationGetRelationName(put->table)),
				 errhint("Give all of %s.", ks_identifier_list(put->query->key_columns))));
}

/* Fills the row of the table from the object, as the caller. */
static void
populate(Put *put, Jsonb *object)
{
	Oid			types[1] = {JSONBOID};
	Datum		values[1] = {JsonbPGetDatum(object)};
	MemoryContext cxt = CurrentMemoryContext;
	TupleDesc	desc = RelationGetDescr(put->table);
	int			from = 0;

	SPI_connect();
	if (SPI_execute_with_args(psprintf("SELECT (pg_catalog.jsonb_populate_record(NULL::%s, $1)).*",
									   ks_qualified_name(RelationGetRelid(put->table))),
							  1, types, values, NULL, false, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "could not make a row of a JSON object");
	ExecClearTuple(put->row);
	memset(put->row->tts_isnull, true, sizeof(bool) * desc->natts);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		MemoryContext old;
		Datum		value;

		if (att->attisdropped)
			continue;
		value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, ++from, &put->row->tts_isnull[i]);
		old = MemoryContextSwitchTo(cxt);
		if (!put->row->tts_isnull[i])
			put->row->tts_values[i] = datumCopy(value, att->attbyval, att->attlen);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	ExecStoreVirtualTuple(put->row);
}

/* Fills the record of the hidden stream from the row, by the names of columns. */
static void
fill_record(Put *put)
{
	TupleTableSlot *slot = put->record;

	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, sizeof(bool) * slot->tts_tupleDescriptor->natts);
	for (int i = 0; i < put->def->natts; i++)
	{
		const KsColumnDef *column = &put->def->columns[i];
		AttrNumber	from;

		if (column->kind != KS_COL_VALUE && column->kind != KS_COL_KEY)
			continue;
		from = get_attnum(RelationGetRelid(put->table), column->name);
		if (from <= 0)
			continue;
		slot->tts_values[i] = put->row->tts_values[from - 1];
		slot->tts_isnull[i] = put->row->tts_isnull[from - 1];
	}
}

/* An error if the row breaks a constraint. */
static void
check_constraints(Relation rel, TupleTableSlot *slot)
{
	EState	   *estate;
	ResultRelInfo *rri = makeNode(ResultRelInfo);

	if (RelationGetDescr(rel)->constr == NULL)
		return;
	estate = ks_create_estate(rel);
	InitResultRelInfo(rri, rel, 1, NULL, 0);
	ExecConstraints(rri, slot, estate);
	FreeExecutorState(estate);
}

/* Writes the record to the outbox of the topic. */
static void
write_record(Put *put)
{
	TupleTableSlot *slot = put->record;
	KsStreamWriter *writer = ks_stream_writer_open(put->def);

	ks_stream_writer_complete(writer, slot->tts_values, slot->tts_isnull);
	ExecStoreVirtualTuple(slot);
	ks_stream_writer_put(writer, slot->tts_values, slot->tts_isnull);
	ks_stream_writer_close(writer);
}

/* An argument that must not be null. */
static Jsonb *
required_jsonb(FunctionCallInfo fcinfo, int arg, const char *name)
{
	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", name)));
	return PG_GETARG_JSONB_P(arg);
}

/* The table, which must be given. */
static Oid
required_table(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"table\" must not be null")));
	return PG_GETARG_OID(0);
}

PG_FUNCTION_INFO_V1(ks_put);

/* put(table, row): the row, as an object by the names of columns, goes to the topic. */
Datum
ks_put(PG_FUNCTION_ARGS)
{
	Oid			relid = required_table(fcinfo);
	Jsonb	   *object = required_jsonb(fcinfo, 1, "row");
	Put			put;

	open_put(&put, relid, ACL_INSERT);
	if (!JB_ROOT_IS_OBJECT(object))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"row\" must be a JSON object"),
				 errhint("Members of the object are named as the columns.")));
	check_members(&put, object, false);
	populate(&put, object);
	check_constraints(put.table, put.row);
	fill_record(&put);
	ExecStoreVirtualTuple(put.record);
	check_constraints(put.source, put.record);
	ExecClearTuple(put.record);
	write_record(&put);
	close_put(&put);
	PG_RETURN_VOID();
}

/* A key given as a single value, as the object with one member that it stands for. */
static Jsonb *
key_object(Put *put, Jsonb *key)
{
	JsonbParseState *state = NULL;
	JsonbValue	name;
	JsonbValue	value;

	if (JB_ROOT_IS_OBJECT(key))
		return key;
	if (!JB_ROOT_IS_SCALAR(key) || list_length(put->query->key_columns) != 1 ||
		!JsonbExtractScalar(&key->root, &value))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"key\" must be a JSON object"),
				 errhint("Give all of %s; a single key column may be given as its value alone.",
						 ks_identifier_list(put->query->key_columns))));
	name.type = jbvString;
	name.val.string.val = linitial(put->query->key_columns);
	name.val.string.len = strlen(name.val.string.val);
	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	(void) pushJsonbValue(&state, WJB_KEY, &name);
	(void) pushJsonbValue(&state, WJB_VALUE, &value);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

PG_FUNCTION_INFO_V1(ks_remove);

/* remove(table, key): a tombstone for the key goes to the topic. */
Datum
ks_remove(PG_FUNCTION_ARGS)
{
	Oid			relid = required_table(fcinfo);
	Jsonb	   *key = required_jsonb(fcinfo, 1, "key");
	Put			put;
	ListCell   *lc;

	open_put(&put, relid, ACL_DELETE);
	if (put.def->key_format == KS_KEY_NONE)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("rows of table \"%s\" cannot be removed", RelationGetRelationName(put.table)),
				 errdetail("Its topic has no record keys, so no record can say that a row is gone."),
				 errhint("Create the table with another key_format.")));
	key = key_object(&put, key);
	check_members(&put, key, true);
	populate(&put, key);
	foreach(lc, put.query->key_columns)
	{
		if (put.row->tts_isnull[get_attnum(relid, lfirst(lc)) - 1])
			ereport(ERROR,
					(errcode(ERRCODE_NOT_NULL_VIOLATION),
					 errmsg("null value in key column \"%s\" of table \"%s\"", (char *) lfirst(lc),
							RelationGetRelationName(put.table))));
	}
	fill_record(&put);
	put.record->tts_values[put.def->meta[KS_META_TOMBSTONE] - 1] = BoolGetDatum(true);
	put.record->tts_isnull[put.def->meta[KS_META_TOMBSTONE] - 1] = false;
	write_record(&put);
	close_put(&put);
	PG_RETURN_VOID();
}
