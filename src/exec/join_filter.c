/*
 * join_filter.c
 *		Filters in memory over the keys in the buffers of a join of streams.
 *
 * plan/join_filter.c says what they are for.  For each half of a buffer there is a
 * table: by the hash value of the keys, the greatest event time of the rows that
 * have them.  So it also tells that a partner is there, but too old.  Filters about
 * the same keys share it.  It is made by reading the half when the query is opened;
 * it takes every row that may go there afterwards, and is emptied with the half.
 * Rows of attempts that come to nothing stay in it, which does no harm.  When
 * anything else has happened to the half (its mark is another), it is made anew.  It
 * goes when it would take more memory than a hash table may, or when the keys in
 * the half cannot be computed any more: then every row may have a partner.
 *
 * The function in the statement gives the numbers of query and filter; it asks the
 * filters of the operator that runs, and there are none outside of it.
 *
 * Runs in: worker or a backend that steps, inside a transaction with SPI.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "base/subxact.h"
#include "exec/join_filter.h"

/* The latest row with keys of a hash value. */
typedef struct LastRow
{
	TimestampTz event_time;
	uint32		hash;
	char		status;
} LastRow;

#define SH_PREFIX last_rows
#define SH_ELEMENT_TYPE LastRow
#define SH_KEY_TYPE uint32
#define SH_KEY hash
#define SH_HASH_KEY(tb, key) (key)
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* Rows that a new table has room for. */
#define FIRST_SIZE 256

/* What is known of a half. */
typedef struct KnownHalf
{
	last_rows_hash *rows;		/* NULL: nothing */
	bool		known;			/* rows says all there is, or nothing can be known */
	uint64		mark;			/* of the half, when that was so */
} KnownHalf;

/* What is known of a buffer by certain keys. */
typedef struct KnownKeys
{
	const KsJoinFilter *def;	/* the first filter about them */
	FmgrInfo   *hash[KS_JOIN_MAX_KEYS];
	KnownHalf	halves[2];
} KnownKeys;

/* One filter. */
typedef struct Filter
{
	Oid			types[KS_JOIN_MAX_KEYS];	/* of the keys that are tested */
	KnownKeys  *known;
} Filter;

struct KsJoinFilters
{
	int32		query;
	List	   *known;			/* KnownKeys * */
	int			nfilters;
	Filter	   *filters;		/* by number */
	MemoryContext cxt;
	MemoryContext hash_cxt;		/* while a row is hashed */
	MemoryContextCallback callback;
};

/* Receives the keys of a half. */
typedef struct KeyReceiver
{
	DestReceiver pub;
	KsJoinFilters *filters;
	KnownKeys  *known;
	KnownHalf  *half;
} KeyReceiver;

/* Arguments of ks_partner_since before the keys. */
#define FIRST_KEY 3

/* How the function that is called hashes its arguments: fn_extra. */
typedef struct TestedKeys
{
	int			nkeys;
	Oid			types[KS_JOIN_MAX_KEYS];
	FmgrInfo   *hash[KS_JOIN_MAX_KEYS];
} TestedKeys;

/* The filters of the operator that runs, or NULL. */
static KsJoinFilters *filters_shown = NULL;

PG_FUNCTION_INFO_V1(ks_partner_since);

/* The function by which values of a type are hashed. */
static FmgrInfo *
hash_function(Oid type)
{
	return &lookup_type_cache(type, TYPECACHE_HASH_PROC_FINFO)->hash_proc_finfo;
}

/* The hash value of several keys, from that of those before and the next. */
static uint32
add_to_hash(uint32 hash, FmgrInfo *function, Oid collation, Datum key)
{
	return hash_combine(hash, DatumGetUInt32(FunctionCall1Coll(function, collation, key)));
}

/* ---------------------------------------------------------------- life */

/* Memory context callback: nothing is asked any more. */
static void
forget_filters(void *arg)
{
	if (filters_shown == arg)
		filters_shown = NULL;
}

/* What a filter knows: the same as another one about the same keys. */
static KnownKeys *
get_known(KsJoinFilters *filters, const KsJoin *join, const KsJoinFilter *def)
{
	KnownKeys  *known;
	ListCell   *lc;

	foreach(lc, filters->known)
	{
		known = lfirst(lc);
		if (known->def->buffered == def->buffered && known->def->nkeys == def->nkeys &&
			known->def->collation == def->collation &&
			memcmp(known->def->buffered_keys, def->buffered_keys, sizeof(int) * def->nkeys) == 0)
			return known;
	}
	known = palloc0(sizeof(KnownKeys));
	known->def = def;
	for (int i = 0; i < def->nkeys; i++)
	{
		KsJoinKey  *key = list_nth(join->refs[def->buffered].keys, def->buffered_keys[i]);

		known->hash[i] = hash_function(exprType(key->expr));
	}
	filters->known = lappend(filters->known, known);
	return known;
}

/* See join_filter.h. */
KsJoinFilters *
ks_filters_create(const KsJoin *join)
{
	KsJoinFilters *result = palloc0(sizeof(KsJoinFilters));
	ListCell   *lc;

	result->query = join->id;
	result->filters = palloc0(sizeof(Filter) * Max(list_length(join->filters), 1));
	result->cxt = CurrentMemoryContext;
	result->hash_cxt = AllocSetContextCreate(CurrentMemoryContext, "kstream join filter", ALLOCSET_DEFAULT_SIZES);
	foreach(lc, join->filters)
	{
		Filter	   *filter = &result->filters[result->nfilters++];
		const KsJoinFilter *def = lfirst(lc);

		filter->known = get_known(result, join, def);
		for (int i = 0; i < def->nkeys; i++)
		{
			KsJoinKey  *key = list_nth(join->refs[def->tested].keys, def->tested_keys[i]);

			filter->types[i] = exprType(key->expr);
		}
	}
	result->callback.func = forget_filters;
	result->callback.arg = result;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &result->callback);
	return result;
}

/* See join_filter.h. */
void
ks_filters_show(KsJoinFilters *filters)
{
	filters_shown = filters;
}

/* ---------------------------------------------------------------- what is in a buffer */

/* Nothing is known of a half any more. */
static void
forget_rows(KnownHalf *half)
{
	if (half->rows != NULL)
		last_rows_destroy(half->rows);
	half->rows = NULL;
}

/* The hash value of keys by which a row is found; false if one of them is NULL. */
static bool
hash_row(KsJoinFilters *filters, const KnownKeys *known, const Datum *keys, const bool *nulls, uint32 *hash)
{
	const KsJoinFilter *def = known->def;
	MemoryContext old;

	*hash = 0;
	for (int i = 0; i < def->nkeys; i++)
	{
		if (nulls[def->buffered_keys[i]])
			return false;
	}
	MemoryContextReset(filters->hash_cxt);
	old = MemoryContextSwitchTo(filters->hash_cxt);
	for (int i = 0; i < def->nkeys; i++)
		*hash = add_to_hash(*hash, known->hash[i], def->collation, keys[def->buffered_keys[i]]);
	MemoryContextSwitchTo(old);
	return true;
}

/* Takes a row into the table; without one of the keys it has no partner. */
static void
note_row(KsJoinFilters *filters, const KnownKeys *known, KnownHalf *half, TimestampTz event_time,
		 const Datum *keys, const bool *nulls)
{
	uint32		hash;
	LastRow    *row;
	bool		found;

	if (half->rows == NULL || !hash_row(filters, known, keys, nulls, &hash))
		return;
	row = last_rows_insert(half->rows, hash, &found);
	row->event_time = found ? Max(row->event_time, event_time) : event_time;
	if (half->rows->size * sizeof(LastRow) > get_hash_memory_limit())
		forget_rows(half);
}

/* See join_filter.h. */
void
ks_filters_note(KsJoinFilters *filters, int ref, int half, TimestampTz event_time, const Datum *keys, const bool *nulls)
{
	ListCell   *lc;

	foreach(lc, filters->known)
	{
		KnownKeys  *known = lfirst(lc);

		if (known->def->buffered == ref)
			note_row(filters, known, &known->halves[half], event_time, keys, nulls);
	}
}

/* Rows of a half: the event time, then the keys.  False, which ends the scan, when they have become too many. */
static bool
receive_keys(TupleTableSlot *slot, DestReceiver *self)
{
	KeyReceiver *receiver = (KeyReceiver *) self;

	slot_getallattrs(slot);
	note_row(receiver->filters, receiver->known, receiver->half, DatumGetTimestampTz(slot->tts_values[0]),
			 slot->tts_values + 1, slot->tts_isnull + 1);
	return receiver->half->rows != NULL;
}

/* Is an error no matter of the keys: a conflict, a lack of resources, an operator? */
static bool
is_serious(int sqlstate)
{
	int			category = ERRCODE_TO_CATEGORY(sqlstate);

	return category == ERRCODE_TRANSACTION_ROLLBACK || category == ERRCODE_INSUFFICIENT_RESOURCES ||
		category == ERRCODE_OPERATOR_INTERVENTION;
}

/*
 * read_half
 *		Makes the table for a half that has so many rows.  A function in a key may
 *		fail today on what it took when the row came: then the half is searched for
 *		every row, as if there were no filter.
 */
static void
read_half(KsJoinFilters *filters, KnownKeys *known, KnownHalf *half, int64 rows, KsStatement *keys)
{
	KeyReceiver receiver = {ks_row_receiver(receive_keys), filters, known, half};
	KsSubxact	sub;
	ErrorData  *volatile edata = NULL;

	forget_rows(half);
	half->known = false;
	half->rows = last_rows_create(filters->cxt, FIRST_SIZE, NULL);
	if (rows == 0)
		return;
	ks_subxact_begin(&sub);
	PG_TRY();
	{
		(void) ks_statement_run(keys, (int) Min(rows, PG_INT32_MAX), NULL, &receiver.pub);
		ks_subxact_commit(&sub);
	}
	PG_CATCH();
	{
		edata = ks_subxact_abort(&sub);
	}
	PG_END_TRY();
	if (edata == NULL)
		return;
	forget_rows(half);
	if (is_serious(edata->sqlerrcode))
		ReThrowError(edata);
	ereport(DEBUG1,
			(errmsg_internal("a buffer has no filter: %s", edata->message)));
}

/* See join_filter.h. */
void
ks_filters_prepare(KsJoinFilters *filters, int ref, const KsJoinHalves *halves, KsStatement *const *keys)
{
	ListCell   *lc;

	foreach(lc, filters->known)
	{
		KnownKeys  *known = lfirst(lc);

		for (int i = 0; i < 2 && known->def->buffered == ref; i++)
		{
			KnownHalf  *half = &known->halves[i];
			uint64		mark = ks_halves_mark(halves, i);

			if (half->known && half->mark == mark)
				continue;
			read_half(filters, known, half, ks_halves_rows(halves, i), keys[i]);
			half->known = true;
			half->mark = mark;
		}
	}
}

/* ---------------------------------------------------------------- asking */

/* How the keys among the arguments are hashed; NULL: not at all. */
static TestedKeys *
tested_keys(FunctionCallInfo fcinfo)
{
	TestedKeys *keys = fcinfo->flinfo->fn_extra;

	if (keys != NULL)
		return keys;
	if (get_fn_expr_variadic(fcinfo->flinfo) || PG_NARGS() - FIRST_KEY > KS_JOIN_MAX_KEYS)
		return NULL;
	keys = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(TestedKeys));
	for (int i = FIRST_KEY; i < PG_NARGS(); i++)
	{
		keys->types[keys->nkeys] = get_fn_expr_argtype(fcinfo->flinfo, i);
		if (!OidIsValid(keys->types[keys->nkeys]))
			return NULL;
		keys->hash[keys->nkeys] = hash_function(keys->types[keys->nkeys]);
		keys->nkeys++;
	}
	fcinfo->flinfo->fn_extra = keys;
	return keys;
}

/* The filter with that number of the query that runs, if it is about such keys. */
static const Filter *
filter_shown(int32 query, int32 number, const TestedKeys *keys)
{
	const Filter *filter;

	if (filters_shown == NULL || filters_shown->query != query || number < 0 || number >= filters_shown->nfilters)
		return NULL;
	filter = &filters_shown->filters[number];
	return filter->known->def->nkeys == keys->nkeys &&
		memcmp(filter->types, keys->types, sizeof(Oid) * keys->nkeys) == 0 ? filter : NULL;
}

/* May the half have a row with keys of that hash value, not before that time? */
static bool
may_be_in(const KnownHalf *half, uint32 hash, TimestampTz since)
{
	const LastRow *row;

	if (!half->known || half->rows == NULL)
		return true;
	row = last_rows_lookup(half->rows, hash);
	return row != NULL && row->event_time >= since;
}

/*
 * partner_since(query int, filter int, since timestamptz, VARIADIC keys "any") returns timestamptz
 *		since, but NULL if no row in the buffer that the filter is about has these
 *		keys and an event time that is not before it.
 */
Datum
ks_partner_since(PG_FUNCTION_ARGS)
{
	TestedKeys *keys = tested_keys(fcinfo);
	const Filter *filter;
	TimestampTz since;
	uint32		hash = 0;

	if (PG_ARGISNULL(2))
		PG_RETURN_NULL();
	since = PG_GETARG_TIMESTAMPTZ(2);
	if (keys == NULL || PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_TIMESTAMPTZ(since);
	filter = filter_shown(PG_GETARG_INT32(0), PG_GETARG_INT32(1), keys);
	if (filter == NULL)
		PG_RETURN_TIMESTAMPTZ(since);
	for (int i = 0; i < keys->nkeys; i++)
	{
		if (PG_ARGISNULL(i + FIRST_KEY))
			PG_RETURN_NULL();
		hash = add_to_hash(hash, keys->hash[i], filter->known->def->collation, PG_GETARG_DATUM(i + FIRST_KEY));
	}
	if (!may_be_in(&filter->known->halves[0], hash, since) && !may_be_in(&filter->known->halves[1], hash, since))
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(since);
}
