/*
 * time_bound.c
 *		Bounds on the difference of two event times, recognised in conditions.
 *
 * A condition bounds two streams if it compares their event times, each plus or
 * minus constant intervals (a.ts - '5 min' <= b.ts), or their difference with a
 * constant (b.ts - a.ts < '10 min').  BETWEEN is two such conditions.  All are
 * turned into: the event time of j is at most so many microseconds after that of
 * i.  Times have a resolution of a microsecond, so a strict bound is one less.
 *
 * The bounds are used to tell when a record has met all its partners; that rows
 * match is still decided by the conditions themselves.  So a bound may be wider
 * than the condition: days added to a timestamptz keep the time of day, so they
 * are as much longer or shorter than 24 hours each as the offset of the time zone
 * at both ends differs.  That may be three hours (Antarctica/Casey) or a whole
 * day, where a zone has changed to the other side of the date line.
 *
 * What a bound computes of one record alone (a.ts - '5 min', or of a difference
 * the fact that infinite times cannot be subtracted) is noted, too: where that
 * fails, it fails with every partner, and none of them is to blame.
 *
 * Event times of different types are not compared here, since what a timestamp
 * or a date is as a timestamptz depends on the session.
 *
 * Runs in: any backend, in a transaction, under the settings of the query.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "catalog/pg_type.h"
#include "common/int.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "pgtime.h"
#include "utils/date.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "plan/join_int.h"

/* Before any zone had an offset that was not its local mean time: about the year 1570. */
#define BEFORE_ZONES (INT64CONST(-400) * 31556952)

/* As many changes of its offset as a zone may have: its history, then rules that repeat. */
#define MAX_ZONE_CHANGES 2000

/* An event time plus something from low to high microseconds. */
typedef struct TimeTerm
{
	int			ref;
	Oid			type;
	int64		low;
	int64		high;
} TimeTerm;

/* An expression that is constant, in itself or once folded; else NULL. */
static Const *
constant_of(Node *node)
{
	Node	   *folded = eval_const_expressions(NULL, node);

	return IsA(folded, Const) && !((Const *) folded)->constisnull ? (Const *) folded : NULL;
}

/*
 * days_slack
 *		How much longer or shorter than 24 hours each, altogether, any number of days
 *		may be in the session's time zone: by the difference of its greatest and
 *		least offset ever, in whole hours; two at least, since a zone that changes
 *		may change its rules.
 */
static int64
days_slack(void)
{
	pg_time_t	time = BEFORE_ZONES;
	long int	least = 0;
	long int	greatest = 0;
	bool		first = true;

	if (pg_get_timezone_offset(session_timezone, &least))
		return 0;
	for (int i = 0; i < MAX_ZONE_CHANGES; i++)
	{
		pg_time_t	change;
		long int	before;
		long int	after;
		int			before_dst;
		int			after_dst;
		int			found = pg_next_dst_boundary(&time, &before, &before_dst, &change, &after, &after_dst,
												 session_timezone);

		if (found < 0)
			break;
		least = first ? before : Min(least, before);
		greatest = first ? before : Max(greatest, before);
		first = false;
		if (found == 0)
			break;
		least = Min(least, after);
		greatest = Max(greatest, after);
		time = change;
	}
	return Max((greatest - least + SECS_PER_HOUR - 1) / SECS_PER_HOUR, 2) * USECS_PER_HOUR;
}

/* The fixed length of an interval as added to a time; false if it has none. */
static bool
interval_length(const Interval *interval, Oid type, int64 *low, int64 *high)
{
	int64		length;

	if (interval->month != 0 ||
		pg_mul_s64_overflow(interval->day, USECS_PER_DAY, &length) ||
		pg_add_s64_overflow(length, interval->time, &length) ||
		length > PG_INT64_MAX / 8 || length < PG_INT64_MIN / 8)
		return false;
	*low = *high = length;
	if (interval->day != 0 && type == TIMESTAMPTZOID)
	{
		int64		slack = days_slack();

		*low -= slack;
		*high += slack;
	}
	return true;
}

/* See join_int.h. */
AttrNumber
ks_event_time_column(const KsJoinRef *ref)
{
	return ref->def->event_time != 0 ? ref->def->event_time : ref->def->meta[KS_META_TIMESTAMP];
}

/* Adds an interval, or takes it away. */
static bool
shift_term(TimeTerm *term, Node *amount, int sign)
{
	Const	   *value = constant_of(amount);
	int64		low;
	int64		high;

	if (value == NULL)
		return false;
	if (value->consttype == INTERVALOID)
	{
		if (!interval_length(DatumGetIntervalP(value->constvalue), term->type, &low, &high))
			return false;
	}
	else if (value->consttype == INT4OID && term->type == DATEOID)
		low = high = DatumGetInt32(value->constvalue) * USECS_PER_DAY;
	else
		return false;
	term->low += sign > 0 ? low : -high;
	term->high += sign > 0 ? high : -low;
	return true;
}

/* Recognises an event time plus or minus constants. */
static bool
time_term(KsJoin *join, Node *node, TimeTerm *term)
{
	OpExpr	   *op;
	int			sign = 1;
	int			time = 0;		/* which argument is the time */

	while (IsA(node, RelabelType) || IsA(node, CoerceToDomain))
		node = IsA(node, RelabelType) ? (Node *) ((RelabelType *) node)->arg :
			(Node *) ((CoerceToDomain *) node)->arg;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;

		if (var->varattno != ks_event_time_column(&join->refs[var->varno - 1]))
			return false;
		term->ref = var->varno - 1;
		term->type = getBaseType(var->vartype);
		term->low = term->high = 0;
		return true;
	}
	if (IsA(node, FuncExpr) && ((FuncExpr *) node)->funcid == F_TIMESTAMP_DATE)
		return time_term(join, linitial(((FuncExpr *) node)->args), term);
	if (!IsA(node, OpExpr))
		return false;
	op = (OpExpr *) node;
	switch (get_opcode(op->opno))
	{
		case F_TIMESTAMPTZ_PL_INTERVAL:
		case F_TIMESTAMP_PL_INTERVAL:
		case F_DATE_PL_INTERVAL:
		case F_DATE_PLI:
			break;
		case F_TIMESTAMPTZ_MI_INTERVAL:
		case F_TIMESTAMP_MI_INTERVAL:
		case F_DATE_MI_INTERVAL:
		case F_DATE_MII:
			sign = -1;
			break;
		case F_INTERVAL_PL_TIMESTAMPTZ:
		case F_INTERVAL_PL_TIMESTAMP:
		case F_INTERVAL_PL_DATE:
		case F_INTEGER_PL_DATE:
			time = 1;
			break;
		default:
			return false;
	}
	return time_term(join, list_nth(op->args, time), term) &&
		shift_term(term, list_nth(op->args, 1 - time), sign);
}

/* Difference of two event times: first minus second. */
static bool
time_difference(KsJoin *join, Node *node, TimeTerm *first, TimeTerm *second)
{
	OpExpr	   *op = (OpExpr *) node;
	Oid			function = IsA(node, OpExpr) ? get_opcode(op->opno) : InvalidOid;

	if (function != F_TIMESTAMPTZ_MI && function != F_TIMESTAMP_MI)
		return false;
	return time_term(join, linitial(op->args), first) && time_term(join, lsecond(op->args), second);
}

/* The event time of "later" is at most "most" microseconds after that of "earlier". */
static void
set_bound(KsJoin *join, int earlier, int later, int64 most, bool strict)
{
	int64	   *bound = &join->bounds[earlier * join->nrefs + later];

	*bound = Min(*bound, strict ? most - 1 : most);
}

/* first op second, for event times plus constants. */
static void
compare_times(KsJoin *join, const TimeTerm *first, int strategy, const TimeTerm *second, int64 plus)
{
	if (first->ref == second->ref)
		return;
	/* first + a <= second + b: first is at most b - a after second */
	if (strategy <= BTEqualStrategyNumber)
		set_bound(join, second->ref, first->ref, second->high + plus - first->low,
				  strategy == BTLessStrategyNumber);
	if (strategy >= BTEqualStrategyNumber)
		set_bound(join, first->ref, second->ref, first->high - second->low - plus,
				  strategy == BTGreaterStrategyNumber);
}

/* Notes what a bound computes of the record of a term. */
static void
note_part(KsJoin *join, const TimeTerm *term, Node *part)
{
	KsJoinRef  *ref = &join->refs[term->ref];

	if (!IsA(part, Var))
		ref->parts = list_append_unique(ref->parts, ks_join_alone(part, term->ref));
}

/* Notes an argument of a difference, as its difference from a time that is there. */
static void
note_difference(KsJoin *join, const TimeTerm *term, OpExpr *difference, int argument)
{
	OpExpr	   *part = copyObject(difference);

	lfirst(list_nth_cell(part->args, 1 - argument)) =
		makeConst(exprType(list_nth(part->args, argument)), -1, InvalidOid, sizeof(TimestampTz),
				  TimestampTzGetDatum(0), false, FLOAT8PASSBYVAL);
	note_part(join, term, (Node *) part);
}

/* first - second op constant. */
static bool
compare_difference(KsJoin *join, Node *difference, int strategy, Node *constant)
{
	TimeTerm	first;
	TimeTerm	second;
	Const	   *value = constant_of(constant);
	Interval   *interval;
	int64		length;

	if (value == NULL || value->consttype != INTERVALOID ||
		!time_difference(join, difference, &first, &second))
		return false;
	/* intervals compare as if months had 30 days and days 24 hours */
	interval = DatumGetIntervalP(value->constvalue);
	if (pg_mul_s64_overflow(interval->month * INT64CONST(30) + interval->day, USECS_PER_DAY, &length) ||
		pg_add_s64_overflow(length, interval->time, &length) ||
		length > PG_INT64_MAX / 8 || length < PG_INT64_MIN / 8)
		return false;
	compare_times(join, &first, strategy, &second, length);
	note_difference(join, &first, (OpExpr *) difference, 0);
	note_difference(join, &second, (OpExpr *) difference, 1);
	return true;
}

/* Mirrors a comparison. */
static int
commuted(int strategy)
{
	return BTMaxStrategyNumber + 1 - strategy;
}

/* See join_int.h. */
bool
ks_time_bound(KsJoin *join, Node *condition)
{
	OpExpr	   *op = (OpExpr *) condition;
	Node	   *left;
	Node	   *right;
	TimeTerm	first;
	TimeTerm	second;
	int			strategy;

	if (!IsA(condition, OpExpr) || list_length(op->args) != 2)
		return false;
	left = linitial(op->args);
	right = lsecond(op->args);
	strategy = get_op_opfamily_strategy(op->opno, lookup_type_cache(INTERVALOID, TYPECACHE_BTREE_OPFAMILY)->btree_opf);
	if (strategy != 0)
		return compare_difference(join, left, strategy, right) ||
			compare_difference(join, right, commuted(strategy), left);
	strategy = get_op_opfamily_strategy(op->opno, lookup_type_cache(TIMESTAMPTZOID, TYPECACHE_BTREE_OPFAMILY)->btree_opf);
	if (strategy == 0 || !time_term(join, left, &first) || !time_term(join, right, &second))
		return false;
	/* timestamptz with others: depends on the session's time zone */
	if ((first.type == TIMESTAMPTZOID) != (second.type == TIMESTAMPTZOID))
		return false;
	compare_times(join, &first, strategy, &second, 0);
	note_part(join, &first, left);
	note_part(join, &second, right);
	return true;
}
