/*
 * join_filter.c
 *		Which filters a join of streams has, and the condition that asks one.
 *
 * A filter knows the keys in the buffer of a stream, and the latest event time of
 * each.  Where new rows of another stream are joined with that buffer by equal
 * keys, the statement asks it first: most rows of many joins have no partner, and a
 * search in the indexes of the buffer costs a third of all that is done for a row.
 * The filter may take a row for one that has a partner, never the other way; so
 * all that is computed stays what it is without it.
 *
 * There is a filter for every two streams with equalities that can be hashed.
 * What works for hash joins works here; and both sides must be hashed by the
 * functions that their types have by default, as these are found by the type alone.
 *
 * Runs in: worker or any backend, in a transaction.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "catalog/names.h"
#include "plan/join_int.h"

/* The side of the equality. */
static Node *
side_of(const KsJoin *join, const KsJoinEquality *equality, int side)
{
	const KsJoinRef *ref = &join->refs[equality->refs[side]];

	return ((KsJoinKey *) list_nth(ref->keys, equality->keys[side]))->expr;
}

/* Do values that are equal have equal hash values? */
static bool
can_be_hashed(const KsJoin *join, const KsJoinEquality *equality)
{
	Oid			types[2];
	RegProcedure functions[2];

	for (int i = 0; i < 2; i++)
		types[i] = exprType(side_of(join, equality, i));
	if (!op_hashjoinable(equality->opno, types[0]) ||
		!get_op_hash_functions(equality->opno, &functions[0], &functions[1]))
		return false;
	for (int i = 0; i < 2; i++)
	{
		if (lookup_type_cache(types[i], TYPECACHE_HASH_PROC)->hash_proc != functions[i])
			return false;
	}
	return true;
}

/* Takes an equality into the filter, if it can be. */
static void
take_equality(const KsJoin *join, KsJoinFilter *filter, const KsJoinEquality *equality, int tested)
{
	if (equality->keys[1 - tested] >= KS_JOIN_MAX_KEYS || filter->nkeys == KS_JOIN_MAX_KEYS ||
		!can_be_hashed(join, equality))
		return;
	/* all keys are hashed under one collation */
	if (OidIsValid(equality->collation) && OidIsValid(filter->collation) && equality->collation != filter->collation)
		return;
	if (OidIsValid(equality->collation))
		filter->collation = equality->collation;
	filter->tested_keys[filter->nkeys] = equality->keys[tested];
	filter->buffered_keys[filter->nkeys++] = equality->keys[1 - tested];
}

/* The filter for rows of one stream and the buffer of another, if there can be one. */
static void
add_filter(KsJoin *join, int tested, int buffered)
{
	KsJoinFilter *filter = palloc0(sizeof(KsJoinFilter));
	ListCell   *lc;

	filter->number = list_length(join->filters);
	filter->tested = tested;
	filter->buffered = buffered;
	filter->before = join->bounds[buffered * join->nrefs + tested];
	foreach(lc, join->equalities)
	{
		const KsJoinEquality *equality = lfirst(lc);

		for (int side = 0; side < 2; side++)
		{
			if (equality->refs[side] == tested && equality->refs[1 - side] == buffered)
				take_equality(join, filter, equality, side);
		}
	}
	if (filter->nkeys > 0)
		join->filters = lappend(join->filters, filter);
}

/* See join_int.h. */
void
ks_join_add_filters(KsJoin *join)
{
	for (int i = 0; i < join->nrefs; i++)
	{
		for (int j = 0; j < join->nrefs; j++)
		{
			if (i != j)
				add_filter(join, i, j);
		}
	}
}

/*
 * protections
 *		What must hold before keys of the stream are computed, as SQL.  A row for
 *		which it does not hold has no partner, or is in no result.
 */
static char *
protections(const KsJoinRef *ref)
{
	bool		may_fail = false;
	ListCell   *lc;

	foreach(lc, ref->keys)
		may_fail |= contain_leaked_vars(((KsJoinKey *) lfirst(lc))->expr);
	return ks_join_conjunction(ref, may_fail ? list_union(ref->filters, ks_join_key_guards(ref)) : NIL);
}

/* See join_int.h. */
char *
ks_join_filter_condition(const KsJoin *join, const KsJoinFilter *filter)
{
	const KsJoinRef *ref = &join->refs[filter->tested];
	char	   *before = protections(ref);
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "kstream_state.may_have_partner(%d, %d, %s", join->id, filter->number,
					 ks_join_event_time(ref, "s"));
	for (int i = 0; i < filter->nkeys; i++)
	{
		Node	   *expr = ((KsJoinKey *) list_nth(ref->keys, filter->tested_keys[i]))->expr;

		appendStringInfo(&sql, ", %s", ks_join_guarded(before, ks_join_deparse(ref, expr)));
		if (OidIsValid(exprCollation(expr)) && OidIsValid(filter->collation))
			appendStringInfo(&sql, " COLLATE %s", ks_collation_name(filter->collation));
	}
	appendStringInfoChar(&sql, ')');
	return sql.data;
}
