/*
 * aggregate_undo.c
 *		Errors of aggregates: whose they are, and how what a record has done is
 *		taken back.
 *
 * Records that are good alone may fail together: a sum of floats overflows at
 * the second one.  When a batch has failed so, it is run record by record once
 * more, in the order of the log within each partition, and the record with which
 * an aggregate fails is bad.  Before a record changes a group, the group is kept as it would be
 * saved at the end of a batch, so that going on from there gives what it gives
 * when the record had never come.
 *
 * An error in anything that is made of the aggregates belongs to no record, but
 * to a group, which the message names.
 *
 * Runs in: as aggregate.c.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/lsyscache.h"

#include "exec/aggregate_int.h"

/* A group before a record has changed it. */
typedef struct KeptGroup
{
	AggGroup   *group;
	bool		changed;
	TimestampTz event_time;
	Datum	   *saved;			/* [naggs] */
	bool	   *nulls;
	bool	   *has_value;
} KeptGroup;

/* The key of a group, for messages. */
static char *
describe_group(AggregateOperator *op, AggGroup *group)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < op->plan->nkeys; i++)
	{
		Oid			output;
		bool		varlena;
		char	   *text = "null";

		if (!group->group.nulls[i])
		{
			getTypeOutputInfo(op->plan->key_types[i], &output, &varlena);
			text = OidOutputFunctionCall(output, group->group.keys[i]);
		}
		if (strlen(text) > 100)
			text = psprintf("%.*s...", pg_mbcliplen(text, strlen(text), 100), text);
		appendStringInfo(&buf, "%s%s", i > 0 ? ", " : "", text);
	}
	return buf.data;
}

/* See aggregate_int.h. */
void
ks_aggregate_name_group(KsOperator *base, ErrorData *edata)
{
	AggregateOperator *op = (AggregateOperator *) base;

	if (op->culprit == NULL)
		return;
	switch (ERRCODE_TO_CATEGORY(edata->sqlerrcode))
	{
		case ERRCODE_INTERNAL_ERROR:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_OPERATOR_INTERVENTION:
		case ERRCODE_TRANSACTION_ROLLBACK:
		case ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE:
			return;
	}
	edata->message = op->plan->nkeys > 0 ?
		psprintf("%s, in group (%s) of continuous query \"%s\"", edata->message,
				 describe_group(op, op->culprit), get_rel_name(op->query->relation)) :
		psprintf("%s, in continuous query \"%s\"", edata->message, get_rel_name(op->query->relation));
	if (edata->sqlerrcode == ERRCODE_NOT_NULL_VIOLATION && op->plan->window != KS_WINDOW_NONE &&
		op->culprit->group.nulls[op->plan->window_key])
		edata->hint = pstrdup("A record whose time is NULL or infinite is in the window NULL, which cannot be a key. Drop the table and create the query anew over coalesce(column, _timestamp), or with WHERE isfinite(column).");
	else if (edata->hint == NULL)
		edata->hint = pstrdup("No record is to blame alone. Drop the table and create the query anew with a condition that keeps such values out, a wider type such as numeric, or an expression that does not fail.");
	op->culprit = NULL;
}

/* See aggregate_int.h. */
void
ks_aggregate_raise(AggregateOperator *op, MemoryContext cxt)
{
	ErrorData  *edata;

	MemoryContextSwitchTo(cxt);
	edata = CopyErrorData();
	FlushErrorState();
	ks_aggregate_name_group(&op->base, edata);
	ReThrowError(edata);
}

/* See aggregate_int.h. */
void
ks_aggregate_mark(KsOperator *base)
{
	AggregateOperator *op = (AggregateOperator *) base;

	op->mark++;
	op->kept = NIL;
	op->kept_late = list_length(base->late);
}

/* See aggregate_int.h. */
void
ks_aggregate_keep_group(AggregateOperator *op, AggGroup *group)
{
	int			naggs = op->plan->naggs;
	KeptGroup  *kept;

	if (group->mark == op->mark)
		return;
	group->mark = op->mark;
	kept = palloc(sizeof(KeptGroup));
	kept->group = group;
	kept->changed = group->changed;
	kept->event_time = group->event_time;
	kept->saved = palloc(sizeof(Datum) * Max(naggs, 1));
	kept->nulls = palloc(sizeof(bool) * Max(naggs, 1));
	kept->has_value = palloc(sizeof(bool) * Max(naggs, 1));
	for (int i = 0; i < naggs; i++)
		kept->saved[i] = ks_agg_save(op->aggs[i], &group->values[i], &kept->nulls[i], &kept->has_value[i]);
	op->kept = lappend(op->kept, kept);
}

/* See aggregate_int.h. */
void
ks_aggregate_undo(KsOperator *base)
{
	AggregateOperator *op = (AggregateOperator *) base;
	MemoryContext old = MemoryContextSwitchTo(op->cxt);
	ListCell   *lc;

	foreach(lc, op->kept)
	{
		KeptGroup  *kept = lfirst(lc);

		kept->group->changed = kept->changed;
		kept->group->event_time = kept->event_time;
		for (int i = 0; i < op->plan->naggs; i++)
			ks_agg_restore(op->aggs[i], &kept->group->values[i], kept->saved[i], kept->nulls[i], kept->has_value[i]);
	}
	op->kept = NIL;
	op->culprit = NULL;
	base->late = list_truncate(base->late, op->kept_late);
	MemoryContextSwitchTo(old);
}
