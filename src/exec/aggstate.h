/*
 * aggstate.h
 *		Running any aggregate outside an Agg node, its state kept between batches.
 *
 * An aggregate call of a continuous query (an analysed Aggref) becomes a KsAgg.
 * For each group the caller keeps a KsAggValue, starts it from initcond or goes
 * on from the saved form that a state table holds, advances it by one row at a
 * time, and saves or finalizes it.  Going on from the saved state needs no
 * combine function and gives bit-equal results for every split of the input.
 */
#ifndef KS_AGGSTATE_H
#define KS_AGGSTATE_H

#include "postgres.h"
#include "nodes/primnodes.h"

/* How the state of an aggregate can be kept. */
typedef enum KsAggKind
{
	KS_AGG_DIRECT,				/* saved form = transition value itself */
	KS_AGG_SERIAL,				/* internal state, saved by serialfn as bytea */
	KS_AGG_ADD,					/* sum of bigint or numeric: the visible sum is enough to go on */
	KS_AGG_INPUTS				/* cannot be saved: keep the inputs, recompute the group */
} KsAggKind;

typedef struct KsAgg KsAgg;
typedef struct KsAggRunner KsAggRunner;	/* owns the genuine AggState the functions are shown */

/* Transition value of one group and one call. */
typedef struct KsAggValue
{
	Datum		value;
	bool		isnull;
	bool		novalue;		/* nothing aggregated yet (strict, no initcond) */
	Datum		base;			/* KS_AGG_ADD: the saved sum this batch's sum is added to */
	bool		base_isnull;
} KsAggValue;

/* How the call can be kept; looks at catalogs only (callable at analysis time). */
extern KsAggKind ks_agg_kind(const Aggref *aggref);

/*
 * Type (and typmod -1, collation) of the saved form, for a state table's column.
 * Not for KS_AGG_INPUTS.
 */
extern Oid	ks_agg_saved_type(const Aggref *aggref);

/* True if the saved form always equals the aggregate's result (count, min, sum …). */
extern bool ks_agg_saved_is_result(const Aggref *aggref);

/* True if the result does not depend on the order of the input rows (built-in, exact). */
extern bool ks_agg_order_insensitive(const Aggref *aggref);

/*
 * True if the saved forms of two groups can be put together, and the result is
 * the same as if their inputs had been aggregated in one group in any order.
 */
extern bool ks_agg_mergeable(const Aggref *aggref);

/* Checks EXECUTE permission of userid on aggregate, transfn, finalfn as nodeAgg does. */
extern void ks_agg_check_permissions(const Aggref *aggref, Oid userid);

/*
 * A runner lives in the current memory context.  ks_agg_batch_reset() frees the
 * transition values of all groups (call between batches).
 */
extern KsAggRunner *ks_agg_runner_create(void);
extern void ks_agg_batch_reset(KsAggRunner *runner);

/* Makes the call ready to run; aggref->args must have plain (non-junk) arguments in order. */
extern KsAgg *ks_agg_create(KsAggRunner *runner, const Aggref *aggref);
extern int	ks_agg_nargs(const KsAgg *agg);	/* aggregated arguments; 0 for count(*) */

/*
 * Saved form of a NULL transition value of an existing group is NULL with
 * has_value telling whether anything had been aggregated (see aggstate.c).
 */
extern void ks_agg_init(KsAgg *agg, KsAggValue *v);
extern void ks_agg_restore(KsAgg *agg, KsAggValue *v, Datum saved, bool isnull, bool has_value);
/* Adds the saved form of another group; only for a call that is mergeable. */
extern void ks_agg_merge(KsAgg *agg, KsAggValue *v, Datum saved, bool isnull, bool has_value);
extern void ks_agg_advance(KsAgg *agg, KsAggValue *v, const NullableDatum *args);
/* Results are in the runner's batch memory (valid until ks_agg_batch_reset) or by value. */
extern Datum ks_agg_save(KsAgg *agg, const KsAggValue *v, bool *isnull, bool *has_value);
extern Datum ks_agg_final(KsAgg *agg, const KsAggValue *v, bool *isnull);

#endif							/* KS_AGGSTATE_H */
