/*
 * aggorder.c
 *		Which aggregates give the same result for every order of their input.
 *
 * Runs in: any backend, any worker; in a transaction.
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_type.h"
#include "utils/lsyscache.h"

#include "exec/aggstate.h"

/*
 * equal_means_identical
 *		True if values of the type that compare equal are known to be the same.
 */
static bool
equal_means_identical(Oid typid, Oid collation)
{
	typid = getBaseType(typid);
	switch (typid)
	{
		case BOOLOID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case OIDOID:
		case MONEYOID:
		case DATEOID:
		case TIMEOID:
		case TIMETZOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
		case UUIDOID:
		case INETOID:
		case CIDROID:
		case BYTEAOID:
		case TIDOID:
		case XID8OID:
		case PG_LSNOID:
			return true;
		case TEXTOID:
		case VARCHAROID:
		case NAMEOID:
			return !OidIsValid(collation) ||
				get_collation_isdeterministic(collation);
		default:
			if (type_is_enum(typid))
				return true;
			if (type_is_multirange(typid))
				typid = get_multirange_range(typid);
			if (type_is_range(typid))
				return equal_means_identical(get_range_subtype(typid),
											 get_range_collation(typid));
			return false;
	}
}

/*
 * ks_agg_order_insensitive
 *		True if the result is known not to depend on the order of the rows.
 *
 * Only built-in aggregates whose arithmetic is exact.  min, max and the range
 * aggregates return or intersect inputs, so they qualify only for types whose
 * equal values look the same: of numeric 1.0 and 1.00, or float -0 and 0, min
 * returns the one that came last.  (Sums of money, interval or bigint may still
 * overflow on the way in one order and not in another.)
 */
bool
ks_agg_order_insensitive(const Aggref *aggref)
{
	static const char *const exact_any[] = {
		"count", "regr_count", "bool_and", "bool_or", "every",
		"bit_and", "bit_or", "bit_xor", NULL
	};
	static const char *const exact_numbers[] = {
		"sum", "avg", "variance", "var_pop", "var_samp",
		"stddev", "stddev_pop", "stddev_samp", NULL
	};
	static const char *const picks_input[] = {
		"min", "max", "range_agg", "range_intersect_agg", NULL
	};
	const char *name;
	Oid			argtype;
	bool		identical;
	int			i;

	if (aggref->aggkind != AGGKIND_NORMAL ||
		aggref->aggfnoid >= FirstUnpinnedObjectId)
		return false;
	name = get_func_name(aggref->aggfnoid);

	for (i = 0; exact_any[i] != NULL; i++)
		if (strcmp(name, exact_any[i]) == 0)
			return true;
	if (list_length(aggref->aggargtypes) != 1)
		return false;
	argtype = linitial_oid(aggref->aggargtypes);
	identical = equal_means_identical(argtype, aggref->inputcollid);

	/* DISTINCT keeps one of several equal inputs */
	if (aggref->aggdistinct != NIL && !identical)
		return false;

	for (i = 0; exact_numbers[i] != NULL; i++)
		if (strcmp(name, exact_numbers[i]) == 0)
			return argtype == INT2OID || argtype == INT4OID ||
				argtype == INT8OID || argtype == NUMERICOID ||
				argtype == MONEYOID || argtype == INTERVALOID;
	for (i = 0; picks_input[i] != NULL; i++)
		if (strcmp(name, picks_input[i]) == 0)
			return identical;
	return false;
}
