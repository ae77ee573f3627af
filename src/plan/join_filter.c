/*
 * join_filter.c
 *		Which filters a join of streams has, and how a statement asks one.
 *
 * A filter knows the keys in the buffer of a stream, and the latest event time of
 * each.  Where new rows of another stream are joined with that buffer by equal
 * keys, most rows of many joins have no partner, and a search in the indexes of
 * the buffer costs a third of all that is done for a row.  The filter may take a
 * row for one that has a partner, never the other way; so all that is computed
 * stays what it is without it.
 *
 * It is asked by a function in the place of the least event time that a partner
 * may have: where there is none it returns NULL, and an index scan with a NULL does
 * not even begin.  So all conditions on the row alone have been computed before, as
 * they are without it: one that fails is noticed when the record comes, not when
 * it meets another.
 *
 * There is a filter for every two streams with equalities that can be hashed.
 * What works for hash joins works here, but for types whose hash values change with
 * the definition of a composite type; and both sides must be hashed by the
 * functions that their types have by default, as these are found by the type alone.
 *
 * Runs in: worker or any backend, in a transaction.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_func.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "plan/join_int.h"

/* The side of the equality. */
static Node *
side_of(const KsJoin *join, const KsJoinEquality *equality, int side)
{
	const KsJoinRef *ref = &join->refs[equality->refs[side]];

	return ((KsJoinKey *) list_nth(ref->keys, equality->keys[side]))->expr;
}

/* Do hash values of the type stay what they are, whatever happens to the definitions of types? */
static bool
has_fixed_hash(Oid type)
{
	Oid			base = getBaseType(type);
	Oid			element = get_base_element_type(base);
	Oid			subtype = get_range_subtype(base);

	if (type_is_rowtype(base))
		return false;
	return (!OidIsValid(element) || has_fixed_hash(element)) && (!OidIsValid(subtype) || has_fixed_hash(subtype)) &&
		!type_is_multirange(base);
}

/* Do values that are equal have equal hash values, now and later? */
static bool
can_be_hashed(const KsJoin *join, const KsJoinEquality *equality)
{
	Oid			types[2];
	RegProcedure functions[2];

	for (int i = 0; i < 2; i++)
		types[i] = exprType(side_of(join, equality, i));
	/* where other than equal bytes are equal, not all hash functions are as broad as the operator (that of name) */
	if (OidIsValid(equality->collation) && !get_collation_isdeterministic(equality->collation))
		return false;
	if (!op_hashjoinable(equality->opno, types[0]) ||
		!get_op_hash_functions(equality->opno, &functions[0], &functions[1]))
		return false;
	for (int i = 0; i < 2; i++)
	{
		if (lookup_type_cache(types[i], TYPECACHE_HASH_PROC)->hash_proc != functions[i] || !has_fixed_hash(types[i]))
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

/* See join.h. */
bool
ks_join_can_hash(const KsJoin *join)
{
	ListCell   *lc;

	foreach(lc, join->equalities)
	{
		const KsJoinEquality *equality = lfirst(lc);

		if (!op_hashjoinable(equality->opno, exprType(side_of(join, equality, 0))))
			return false;
	}
	return true;
}

/* See join_int.h. */
const KsJoinFilter *
ks_join_filter_for(const KsJoin *join, int tested, int buffered)
{
	ListCell   *lc;

	foreach(lc, join->filters)
	{
		const KsJoinFilter *filter = lfirst(lc);

		if (filter->tested == tested && filter->buffered == buffered)
			return filter;
	}
	return NULL;
}

/*
 * show_cast
 *		Deparsing leaves implicit casts out where it trusts the context to make them
 *		again.  As an argument of this function a key has none: its type is said.
 */
static Expr *
show_cast(Node *key)
{
	if (strip_implicit_coercions(key) == key)
		return (Expr *) key;
	return (Expr *) makeRelabelType((Expr *) key, exprType(key), -1, exprCollation(key), COERCE_EXPLICIT_CAST);
}

/* See join_int.h. */
Expr *
ks_join_collate(Expr *expr, Oid collation)
{
	CollateExpr *result = makeNode(CollateExpr);

	result->arg = expr;
	result->collOid = collation;
	result->location = -1;
	return (Expr *) result;
}

/* A number as an argument. */
static Const *
number(int32 value)
{
	return makeConst(INT4OID, -1, InvalidOid, sizeof(int32), Int32GetDatum(value), false, true);
}

/* See join_int.h. */
Expr *
ks_join_ask_filter(const KsJoin *join, const KsJoinFilter *filter, Expr *since, List *keys)
{
	const Oid	types[] = {INT4OID, INT4OID, TIMESTAMPTZOID, ANYOID};
	Oid			function = LookupFuncName(list_make2(makeString("kstream_state"), makeString("partner_since")),
										  lengthof(types), types, false);
	List	   *args = list_make3(number(join->id), number(filter->number), since);
	ListCell   *lc;

	foreach(lc, keys)
	{
		Expr	   *key = show_cast(lfirst(lc));

		if (OidIsValid(exprCollation((Node *) key)) && OidIsValid(filter->collation))
			key = ks_join_collate(key, filter->collation);
		args = lappend(args, key);
	}
	return (Expr *) makeFuncExpr(function, TIMESTAMPTZOID, args, InvalidOid, filter->collation, COERCE_EXPLICIT_CALL);
}
