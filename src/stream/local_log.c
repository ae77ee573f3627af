/*
 * local_log.c
 *		The log of a local stream: its tables, and reading them.
 *
 * The table of rows is kstream_state.log_N, the table of segments
 * kstream_state.seg_N; kstream_catalog.local_log leads from the foreign table to
 * them.  Both depend internally on the foreign table and belong to its owner.
 * They are read by index scans of our own, not through SPI: the reader needs no
 * rights on them, and reads with a fresh snapshot whatever the transaction's
 * isolation level is, as it would read a topic.
 *
 * Columns of the log are matched with those of the foreign table by name.  A
 * column that the log does not have (yet) is NULL.
 *
 * Runs in: any backend, any worker.  Transaction: needed.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heaptoast.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "optimizer/plancat.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "catalog/names.h"
#include "catalog/query_cat.h"
#include "stream/local_log.h"
#include "stream/log_scan.h"

#define CATALOG_SCHEMA	"kstream_catalog"
#define CATALOG_TABLE	"local_log"
#define STATE_SCHEMA	"kstream_state"

/* Columns of kstream_catalog.local_log. */
enum
{
	Anum_local_log_relation = 1,
	Anum_local_log_log,
	Anum_local_log_segments,
	Anum_local_log_partitions,
	Anum_local_log_retention,
	Natts_local_log = Anum_local_log_retention
};

/* Bytes of rows after which a read ends early. */
#define READ_BYTES_MAX	(16 * 1024 * 1024)

/* A read in progress. */
typedef struct KsLogRead
{
	KsBatch    *batch;
	int32		partition;
	int			max_rows;
	Size		bytes;
	KsLogScan rows;
	AttrNumber *map;
	Datum	   *values;			/* of a row of the log */
	bool	   *nulls;
} KsLogRead;

static bool lookup_catalog(Oid relid, KsLocalLog *log, Datum *retention, bool *no_retention);
static void create_tables(Relation rel, const KsStreamDef *def, int partitions);
static void insert_catalog(Oid relid, Oid log, Oid segments, int partitions);
static char *column_type(const KsColumnDef *column);
static char *column_collation(const KsColumnDef *column);
static void set_owner(const char *table, Oid owner);
static void depend_on(Oid table, Oid relid);
static void execute(const char *sql);
static void execute_as(Oid owner, const char *sql, int nargs, Oid *types, Datum *values);

static void follow_partitions(const KsStreamDef *def, const KsLocalLog *log);
static Oid	owner_of(Oid relid);
static void follow_columns(Relation rel, const KsStreamDef *def, Oid log);
static bool find_log_column(TupleDesc log, const char *name, AttrNumber *attnum);
static int	count_dropped(TupleDesc desc, int from);
static char *alter_step(const KsStreamDef *def, TupleDesc desc, int fixed, bool renamed, bool *converts);

static int64 read_rows(KsLogRead *read, const KsLogSegment *segment, int64 from, int64 to);
static void take_row(KsLogRead *read, const KsLogSegment *segment);
static int64 trim_partition(const KsLocalLog *log, int partition, TimestampTz horizon);


/* ---------------------------------------------------------------- the catalog row */

/* See local_log.h. */
bool
ks_local_log_lookup(Oid relid, KsLocalLog *log)
{
	return lookup_catalog(relid, log, NULL, NULL);
}

/* Reads the row of kstream_catalog.local_log; false if there is none. */
static bool
lookup_catalog(Oid relid, KsLocalLog *log, Datum *retention, bool *no_retention)
{
	Oid			schema = get_namespace_oid(CATALOG_SCHEMA, true);
	Oid			catalog = OidIsValid(schema) ? get_relname_relid(CATALOG_TABLE, schema) : InvalidOid;
	Relation	rel;
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;

	if (!OidIsValid(catalog))
		return false;
	rel = table_open(catalog, AccessShareLock);
	ScanKeyInit(&key, Anum_local_log_relation, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, ks_primary_key_index(rel), true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Datum		values[Natts_local_log];
		bool		nulls[Natts_local_log];

		heap_deform_tuple(tuple, RelationGetDescr(rel), values, nulls);
		log->relid = relid;
		log->log = DatumGetObjectId(values[Anum_local_log_log - 1]);
		log->segments = DatumGetObjectId(values[Anum_local_log_segments - 1]);
		log->partitions = DatumGetInt32(values[Anum_local_log_partitions - 1]);
		if (retention != NULL)
		{
			*no_retention = nulls[Anum_local_log_retention - 1];
			if (!*no_retention)
				*retention = datumCopy(values[Anum_local_log_retention - 1], false, sizeof(Interval));
		}
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return HeapTupleIsValid(tuple);
}

/* True if the stream has a log. */
bool
ks_local_log_exists(Oid relid)
{
	KsLocalLog	log;

	return ks_local_log_lookup(relid, &log);
}

/* Number of partitions; 0 if there is no log. */
int
ks_local_log_partitions(Oid relid)
{
	KsLocalLog	log;

	return ks_local_log_lookup(relid, &log) ? log.partitions : 0;
}

/* Qualified name of the table of rows, for EXPLAIN. */
char *
ks_local_log_name(Oid relid)
{
	KsLocalLog	log;

	return ks_local_log_lookup(relid, &log) ? ks_qualified_name(log.log) : pstrdup("none");
}

/* Rows the planner should expect in the whole log. */
double
ks_local_log_estimate(Oid relid)
{
	KsLocalLog	log;
	Relation	rel;
	BlockNumber pages;
	double		tuples;
	double		visible;

	if (!ks_local_log_lookup(relid, &log))
		return 1;
	rel = table_open(log.log, AccessShareLock);
	estimate_rel_size(rel, NULL, &pages, &tuples, &visible);
	table_close(rel, AccessShareLock);
	return Max(tuples, 1);
}

/* ---------------------------------------------------------------- creation */

/* See local_log.h. */
void
ks_local_log_create(Oid relid, int partitions)
{
	Relation	rel;
	KsStreamDef *def;

	/* one creator at a time */
	rel = table_open(relid, ShareUpdateExclusiveLock);
	if (!ks_local_log_exists(relid))
	{
		def = ks_stream_def_load(rel);
		if (!def->local)
			ereport(ERROR,
					(errcode(ERRCODE_WRONG_OBJECT_TYPE),
					 errmsg("stream %s is not local", def->relname)));
		if (partitions <= 0)
			partitions = Max(def->partitions, 1);
		create_tables(rel, def, partitions);
	}
	table_close(rel, NoLock);
}

/* Creates both tables and the catalog row. */
static void
create_tables(Relation rel, const KsStreamDef *def, int partitions)
{
	int32		id = ks_object_id_next();
	char	   *log = psprintf(STATE_SCHEMA ".log_%d", id);
	char	   *segments = psprintf(STATE_SCHEMA ".seg_%d", id);
	Oid			schema = get_namespace_oid(STATE_SCHEMA, false);
	StringInfoData sql;
	Oid			log_relid;
	Oid			segments_relid;

	SPI_connect();

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE TABLE %s (_p int NOT NULL, _b bigint NOT NULL, _s int NOT NULL,"
					 " _key text, _timestamp timestamptz NOT NULL, _headers jsonb", log);
	if (def->meta[KS_META_TOMBSTONE] != 0)
		appendStringInfoString(&sql, ", _tombstone boolean NOT NULL");
	for (int i = 0; i < def->natts; i++)
	{
		const KsColumnDef *column = &def->columns[i];

		if (column->kind != KS_COL_VALUE && column->kind != KS_COL_KEY)
			continue;
		if (strcmp(column->name, "_p") == 0 || strcmp(column->name, "_b") == 0 || strcmp(column->name, "_s") == 0)
			ereport(ERROR,
					(errcode(ERRCODE_RESERVED_NAME),
					 errmsg("column name \"%s\" is reserved in local streams", column->name),
					 errhint("Choose another name.")));
		appendStringInfo(&sql, ", %s %s%s", quote_identifier(column->name),
						 column_type(column), column_collation(column));
	}
	appendStringInfoString(&sql, ", PRIMARY KEY (_p, _b, _s)) USING heap");
	execute(sql.data);

	execute(psprintf("CREATE TABLE %s (p int NOT NULL, base bigint NOT NULL, n int NOT NULL, b bigint NOT NULL,"
					 " s int NOT NULL, t timestamptz NOT NULL, PRIMARY KEY (p, base)) USING heap", segments));
	set_owner(log, def->owner);
	set_owner(segments, def->owner);

	SPI_finish();

	log_relid = get_relname_relid(strchr(log, '.') + 1, schema);
	segments_relid = get_relname_relid(strchr(segments, '.') + 1, schema);
	depend_on(log_relid, def->relid);
	depend_on(segments_relid, def->relid);
	insert_catalog(def->relid, log_relid, segments_relid, partitions);
	CommandCounterIncrement();
}

/* Adds the row of kstream_catalog.local_log; past its triggers, which serve a restore. */
static void
insert_catalog(Oid relid, Oid log, Oid segments, int partitions)
{
	Oid			schema = get_namespace_oid(CATALOG_SCHEMA, false);
	Relation	rel = table_open(get_relname_relid(CATALOG_TABLE, schema), RowExclusiveLock);
	Datum		values[Natts_local_log] = {0};
	bool		nulls[Natts_local_log] = {false};

	values[Anum_local_log_relation - 1] = ObjectIdGetDatum(relid);
	values[Anum_local_log_log - 1] = ObjectIdGetDatum(log);
	values[Anum_local_log_segments - 1] = ObjectIdGetDatum(segments);
	values[Anum_local_log_partitions - 1] = Int32GetDatum(partitions);
	nulls[Anum_local_log_retention - 1] = true;
	CatalogTupleInsert(rel, heap_form_tuple(RelationGetDescr(rel), values, nulls));
	table_close(rel, NoLock);
}

/*
 * Type of a log column.  Of a domain it is the base type: the constraints were
 * checked when the row was made, and adding a column of a domain with NOT NULL
 * to rows would fail.
 */
static char *
column_type(const KsColumnDef *column)
{
	int32		typmod = column->typmod;
	Oid			typid = getBaseTypeAndTypmod(column->typid, &typmod);

	return format_type_extended(typid, typmod, FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY);
}

/* COLLATE clause of a log column; empty for the default of its type. */
static char *
column_collation(const KsColumnDef *column)
{
	if (!OidIsValid(column->collation) || column->collation == get_typcollation(getBaseType(column->typid)))
		return "";
	return psprintf(" COLLATE %s", ks_collation_name(column->collation));
}

/* Gives a table of the log to the owner of the stream. */
static void
set_owner(const char *table, Oid owner)
{
	execute(psprintf("ALTER TABLE %s OWNER TO %s", table,
					 quote_identifier(GetUserNameFromId(owner, false))));
}

/* The table goes with the foreign table, and cannot be dropped alone. */
static void
depend_on(Oid table, Oid relid)
{
	ObjectAddress dependent;
	ObjectAddress referenced;

	ObjectAddressSet(dependent, RelationRelationId, table);
	ObjectAddressSet(referenced, RelationRelationId, relid);
	recordDependencyOn(&dependent, &referenced, DEPENDENCY_INTERNAL);
}

/* Runs a command of our own as the extension's owner; SPI is connected. */
static void
execute(const char *sql)
{
	ks_spi_execute(sql, false, 0, NULL, NULL, NULL);
}

/*
 * Runs a command as the owner of the log, who may have put triggers on it, or
 * made the casts it uses; SPI is connected.
 */
static void
execute_as(Oid owner, const char *sql, int nargs, Oid *types, Datum *values)
{
	Oid			user;
	int			sec_context;
	int			nest_level;
	int			rc;

	GetUserIdAndSecContext(&user, &sec_context);
	SetUserIdAndSecContext(owner, sec_context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	nest_level = ks_set_catalog_path();
	rc = SPI_execute_with_args(sql, nargs, types, values, NULL, false, 0);
	if (rc < 0)
		elog(ERROR, "SPI_execute_with_args failed: %s", SPI_result_code_string(rc));
	AtEOXact_GUC(false, nest_level);
	SetUserIdAndSecContext(user, sec_context);
}

/* ---------------------------------------------------------------- ALTER FOREIGN TABLE */

/* See local_log.h. */
void
ks_local_log_follow(Oid relid)
{
	KsLocalLog	log;
	Relation	rel;
	KsStreamDef *def;

	if (!ks_local_log_lookup(relid, &log))
		return;
	rel = table_open(relid, AccessShareLock);
	def = ks_stream_def_load(rel);

	SPI_connect();
	if (owner_of(log.log) != def->owner)
	{
		set_owner(ks_qualified_name(log.log), def->owner);
		set_owner(ks_qualified_name(log.segments), def->owner);
	}
	follow_partitions(def, &log);
	follow_columns(rel, def, log.log);
	SPI_finish();
	table_close(rel, NoLock);
}

/* Option partitions of the foreign table may have been raised. */
static void
follow_partitions(const KsStreamDef *def, const KsLocalLog *log)
{
	Oid			types[2] = {OIDOID, INT4OID};
	Datum		values[2] = {ObjectIdGetDatum(log->relid), Int32GetDatum(def->partitions)};

	if (def->partitions == 0 || def->partitions == log->partitions)
		return;
	if (def->partitions < log->partitions)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("cannot reduce the partitions of stream %s from %d to %d",
						def->relname, log->partitions, def->partitions),
				 errhint("Create another stream, and copy the records.")));
	ks_spi_execute("UPDATE " CATALOG_SCHEMA "." CATALOG_TABLE " SET partitions = $2 WHERE relation = $1",
				   false, 2, types, values, NULL);
}

/* Owner of a relation. */
static Oid
owner_of(Oid relid)
{
	Relation	rel = table_open(relid, AccessShareLock);
	Oid			owner = rel->rd_rel->relowner;

	table_close(rel, AccessShareLock);
	return owner;
}

/*
 * Alters the log one step at a time until it has the columns of the stream.  A
 * column that is missing on one side and one that is too many on the other are
 * the same, renamed, unless a column was dropped: the log drops its column
 * whenever the stream does, so both have lost equally many.
 */
static void
follow_columns(Relation rel, const KsStreamDef *def, Oid log)
{
	int			fixed = def->meta[KS_META_TOMBSTONE] != 0 ? KS_LOG_TOMBSTONE : KS_LOG_HEADERS;
	bool		renamed = false;
	bool		first = true;

	for (;;)
	{
		/* not open while it is altered */
		Relation	logrel = table_open(log, AccessShareLock);
		bool		converts;
		char	   *step;

		if (first)
			renamed = count_dropped(RelationGetDescr(rel), 0) <=
				count_dropped(RelationGetDescr(logrel), fixed);
		first = false;
		step = alter_step(def, RelationGetDescr(logrel), fixed, renamed, &converts);
		table_close(logrel, AccessShareLock);
		if (step == NULL)
			break;
		step = psprintf("ALTER TABLE %s %s", ks_qualified_name(log), step);
		if (converts)
			execute_as(def->owner, step, 0, NULL, NULL);
		else
			execute(step);
		CommandCounterIncrement();
	}
}

/* Number of dropped attributes after the first ones. */
static int
count_dropped(TupleDesc desc, int from)
{
	int			n = 0;

	for (int i = from; i < desc->natts; i++)
		n += TupleDescAttr(desc, i)->attisdropped;
	return n;
}

/*
 * The next change the log needs, as the end of an ALTER TABLE, or NULL.  Sets
 * *converts if it runs casts over the rows.
 */
static char *
alter_step(const KsStreamDef *def, TupleDesc desc, int fixed, bool renamed, bool *converts)
{
	const char *extra = NULL;
	const KsColumnDef *missing = NULL;

	*converts = false;
	for (int i = fixed; i < desc->natts && extra == NULL; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		bool		known = att->attisdropped;

		for (int j = 0; j < def->natts && !known; j++)
			known = (def->columns[j].kind == KS_COL_VALUE || def->columns[j].kind == KS_COL_KEY) &&
				strcmp(def->columns[j].name, NameStr(att->attname)) == 0;
		if (!known)
			extra = pstrdup(NameStr(att->attname));
	}
	for (int j = 0; j < def->natts && missing == NULL; j++)
	{
		const KsColumnDef *column = &def->columns[j];
		AttrNumber	attnum;
		int32		typmod = column->typmod;
		Form_pg_attribute att;

		if (column->kind != KS_COL_VALUE && column->kind != KS_COL_KEY)
			continue;
		if (!find_log_column(desc, column->name, &attnum))
		{
			missing = column;
			break;
		}
		att = TupleDescAttr(desc, attnum - 1);
		if (att->atttypid != getBaseTypeAndTypmod(column->typid, &typmod) ||
			att->atttypmod != typmod || att->attcollation != column->collation)
		{
			const char *name = quote_identifier(column->name);
			char	   *type = column_type(column);

			*converts = true;
			return psprintf("ALTER COLUMN %s TYPE %s%s USING %s::%s", name,
							type, column_collation(column), name, type);
		}
	}

	if (extra != NULL && missing != NULL && renamed)
		return psprintf("RENAME COLUMN %s TO %s", quote_identifier(extra), quote_identifier(missing->name));
	if (extra != NULL)
		return psprintf("DROP COLUMN %s", quote_identifier(extra));
	if (missing != NULL)
		return psprintf("ADD COLUMN %s %s%s", quote_identifier(missing->name),
						column_type(missing), column_collation(missing));
	return NULL;
}

/* Finds a live column by name. */
static bool
find_log_column(TupleDesc log, const char *name, AttrNumber *attnum)
{
	for (int i = 0; i < log->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(log, i);

		if (!att->attisdropped && strcmp(NameStr(att->attname), name) == 0)
		{
			*attnum = att->attnum;
			return true;
		}
	}
	return false;
}

/* See local_log.h. */
AttrNumber *
ks_local_log_map(const KsStreamDef *def, TupleDesc log)
{
	AttrNumber *map = palloc0(sizeof(AttrNumber) * Max(def->natts, 1));

	for (int i = 0; i < def->natts; i++)
	{
		const KsColumnDef *column = &def->columns[i];
		AttrNumber	attnum;

		if (column->kind != KS_COL_VALUE && column->kind != KS_COL_KEY)
			continue;
		if (!find_log_column(log, column->name, &attnum))
			continue;
		if (TupleDescAttr(log, attnum - 1)->atttypid != getBaseType(column->typid))
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("column \"%s\" of stream %s has another type in the log of the stream",
							column->name, def->relname),
					 errhint("Change the type back, or drop the column and add it anew.")));
		map[i] = attnum;
	}
	return map;
}

/* ---------------------------------------------------------------- reading */

/* See local_log.h.  A log without records has first = end = 0. */
void
ks_local_log_range(Oid relid, int32 partition, int64 *first, int64 *end)
{
	KsLocalLog	log;
	KsLogScan segments;
	KsLogSegment	segment;
	Snapshot	snapshot;

	*first = *end = 0;
	if (!ks_local_log_lookup(relid, &log))
		return;
	snapshot = ks_log_snapshot();
	ks_log_scan_open(&segments, log.segments, snapshot, 2);
	if (ks_log_last_segment(&segments, partition, PG_INT64_MAX, &segment))
	{
		*end = segment.base + segment.count;
		ks_log_scan_segments(&segments, partition, BTGreaterEqualStrategyNumber, 0);
		if (ks_log_scan_next(&segments, ForwardScanDirection))
			ks_log_segment_get(&segments, &segment);
		*first = segment.base;
	}
	ks_log_scan_close(&segments);
	UnregisterSnapshot(snapshot);
}

/*
 * See local_log.h.  Segments know how new their newest row is, so only the rows
 * of segments that may have one are looked at.
 */
int64
ks_local_log_offset_for_time(Oid relid, int32 partition, TimestampTz when)
{
	KsLocalLog	log;
	KsLogScan segments;
	KsLogScan rows;
	Snapshot	snapshot;
	int64		end = 0;
	int64		found = -1;

	if (!ks_local_log_lookup(relid, &log))
		return 0;
	snapshot = ks_log_snapshot();
	ks_log_scan_open(&segments, log.segments, snapshot, 2);
	ks_log_scan_open(&rows, log.log, snapshot, 4);
	ks_log_scan_segments(&segments, partition, BTGreaterEqualStrategyNumber, 0);
	while (found < 0 && ks_log_scan_next(&segments, ForwardScanDirection))
	{
		KsLogSegment	segment;

		CHECK_FOR_INTERRUPTS();
		ks_log_segment_get(&segments, &segment);
		end = segment.base + segment.count;
		if (DatumGetTimestampTz(segments.slot->tts_values[KS_SEGMENT_NEWEST - 1]) < when)
			continue;
		ks_log_scan_rows(&rows, partition, &segment, segment.base, end);
		while (found < 0 && ks_log_scan_next(&rows, ForwardScanDirection))
		{
			bool		isnull;
			Datum		time = slot_getattr(rows.slot, KS_LOG_TIMESTAMP, &isnull);
			Datum		sequence = slot_getattr(rows.slot, KS_LOG_SEQUENCE, &isnull);

			if (DatumGetTimestampTz(time) >= when)
				found = segment.base + (DatumGetInt32(sequence) - segment.first);
		}
	}
	ks_log_scan_close(&rows);
	ks_log_scan_close(&segments);
	UnregisterSnapshot(snapshot);
	return found < 0 ? end : found;
}

/* See local_log.h.  What retention has taken away is passed over. */
int64
ks_local_log_read(KsBatch *batch, int32 partition, int64 from, int64 to, int max_rows)
{
	const KsStreamDef *def = batch->reader->def;
	KsLocalLog	log;
	KsLogScan segments;
	KsLogSegment	segment;
	KsLogRead	read;
	Snapshot	snapshot;
	int64		next = from;

	if (from >= to || max_rows <= 0 || !ks_local_log_lookup(def->relid, &log))
		return from;

	snapshot = ks_log_snapshot();
	ks_log_scan_open(&segments, log.segments, snapshot, 2);
	memset(&read, 0, sizeof(read));
	read.batch = batch;
	read.partition = partition;
	read.max_rows = batch->nrows + max_rows;
	ks_log_scan_open(&read.rows, log.log, snapshot, 4);
	read.map = ks_local_log_map(def, RelationGetDescr(read.rows.rel));
	read.values = palloc(sizeof(Datum) * RelationGetDescr(read.rows.rel)->natts);
	read.nulls = palloc(sizeof(bool) * RelationGetDescr(read.rows.rel)->natts);

	if (!ks_log_last_segment(&segments, partition, from, &segment))
		segment.base = 0;
	ks_log_scan_segments(&segments, partition, BTGreaterEqualStrategyNumber, segment.base);
	while (next < to && batch->nrows < read.max_rows && read.bytes < READ_BYTES_MAX &&
		   ks_log_scan_next(&segments, ForwardScanDirection))
	{
		ks_log_segment_get(&segments, &segment);
		if (segment.base >= to)
		{
			next = to;
			break;
		}
		if (segment.base + segment.count <= next)
			continue;
		next = read_rows(&read, &segment, Max(next, segment.base), Min(to, segment.base + segment.count));
	}

	pfree(read.map);
	pfree(read.values);
	pfree(read.nulls);
	ks_log_scan_close(&read.rows);
	ks_log_scan_close(&segments);
	UnregisterSnapshot(snapshot);
	return next;
}

/* Reads rows [from, to) of one segment, or as many as the limits allow; returns the next offset. */
static int64
read_rows(KsLogRead *read, const KsLogSegment *segment, int64 from, int64 to)
{
	KsBatch    *batch = read->batch;

	ks_log_scan_rows(&read->rows, read->partition, segment, from, to);
	while (ks_log_scan_next(&read->rows, ForwardScanDirection))
	{
		take_row(read, segment);
		if (batch->nrows >= read->max_rows || read->bytes >= READ_BYTES_MAX)
			return batch->rows[batch->nrows - 1].rec.offset + 1;
		CHECK_FOR_INTERRUPTS();
	}
	return to;
}

/* Adds the row in the slot to the batch. */
static void
take_row(KsLogRead *read, const KsLogSegment *segment)
{
	KsBatch    *batch = read->batch;
	const KsStreamDef *def = batch->reader->def;
	TupleDesc	desc = RelationGetDescr(read->rows.rel);
	MemoryContext old = MemoryContextSwitchTo(batch->cxt);
	HeapTuple	tuple = ExecCopySlotHeapTuple(read->rows.slot);
	KsRow	   *row = ks_batch_add_local(batch);
	Datum	   *values = read->values;
	bool	   *nulls = read->nulls;
	static const AttrNumber stored[KS_NUM_META] = {
		[KS_META_KEY] = KS_LOG_KEY,
		[KS_META_TIMESTAMP] = KS_LOG_TIMESTAMP,
		[KS_META_HEADERS] = KS_LOG_HEADERS,
		[KS_META_TOMBSTONE] = KS_LOG_TOMBSTONE,
	};

	if (HeapTupleHasExternal(tuple))
		tuple = toast_flatten_tuple(tuple, desc);
	MemoryContextSwitchTo(old);
	heap_deform_tuple(tuple, desc, values, nulls);
	read->bytes += tuple->t_len;

	row->rec.partition = read->partition;
	row->rec.offset = segment->base + (DatumGetInt32(values[KS_LOG_SEQUENCE - 1]) - segment->first);
	row->rec.timestamp = DatumGetTimestampTz(values[KS_LOG_TIMESTAMP - 1]);
	for (int i = 0; i < def->natts; i++)
	{
		AttrNumber	attnum = read->map[i];

		if (attnum == 0)
			continue;
		row->values[i] = values[attnum - 1];
		row->nulls[i] = nulls[attnum - 1];
	}
	for (int m = 0; m < KS_NUM_META; m++)
	{
		AttrNumber	attnum = def->meta[m];

		if (attnum == 0)
			continue;
		if (m == KS_META_PARTITION)
			row->values[attnum - 1] = Int32GetDatum(row->rec.partition);
		else if (m == KS_META_OFFSET)
			row->values[attnum - 1] = Int64GetDatum(row->rec.offset);
		else if (stored[m] != 0)
			row->values[attnum - 1] = values[stored[m] - 1];
		if (m != KS_META_STREAM_TIME)
			row->nulls[attnum - 1] = stored[m] != 0 && nulls[stored[m] - 1];
	}
}

/* ---------------------------------------------------------------- retention */

/*
 * See local_log.h.  Segments leave from the front only, and the last one of a
 * partition stays whatever its age, because it says where the log ends.
 */
int64
ks_local_log_trim(Oid relid)
{
	KsLocalLog	log;
	Datum		retention = (Datum) 0;
	bool		forever;
	TimestampTz horizon;
	int64		rows = 0;

	if (!lookup_catalog(relid, &log, &retention, &forever) || forever)
		return 0;
	horizon = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_mi_interval,
													  TimestampTzGetDatum(GetCurrentTimestamp()), retention));
	SPI_connect();
	for (int p = 0; p < log.partitions; p++)
		rows += trim_partition(&log, p, horizon);
	SPI_finish();
	return rows;
}

/* Deletes the segments of one partition that end before the horizon, with their rows. */
static int64
trim_partition(const KsLocalLog *log, int partition, TimestampTz horizon)
{
	Oid			types[2] = {INT4OID, TIMESTAMPTZOID};
	Datum		values[2] = {Int32GetDatum(partition), TimestampTzGetDatum(horizon)};
	char	   *segments = ks_qualified_name(log->segments);

	execute_as(owner_of(log->log),
			   psprintf("WITH keep AS ("
						"  SELECT coalesce("
						"    (SELECT base FROM %s WHERE p = $1 AND t >= $2 ORDER BY p, base LIMIT 1),"
						"    (SELECT base FROM %s WHERE p = $1 ORDER BY p DESC, base DESC LIMIT 1)) AS base), "
						"gone AS ("
						"  DELETE FROM %s USING keep WHERE %s.p = $1 AND %s.base < keep.base"
						"  RETURNING b, s, n) "
						"DELETE FROM %s AS log USING gone"
						" WHERE log._p = $1 AND log._b = gone.b"
						" AND log._s >= gone.s AND log._s < gone.s + gone.n",
						segments, segments, segments, segments, segments, ks_qualified_name(log->log)),
			   2, types, values);
	return (int64) SPI_processed;
}
