/*
 * sink_stat.c
 *		How far the outbox of a sink reaches: for the view kstream.sinks.
 *
 * Runs in: any backend.  Transaction: needed.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/timestamp.h"

#include "sql/verbs.h"
#include "stream/outbox.h"

PG_FUNCTION_INFO_V1(ks_sink_outbox);

/* sink_outbox(sink): end, time of the oldest record not published, bytes; NULL for those who may not see it. */
Datum
ks_sink_outbox(PG_FUNCTION_ARGS)
{
	KsSinkRow  *sink = ks_sink_load(PG_GETARG_INT32(0));
	KsPublished published = {0};
	TupleDesc	desc;
	Datum		values[3];
	bool		nulls[3] = {false};
	TimestampTz oldest;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (sink == NULL || !ks_may_see_relation(sink->relation) ||
		!ks_published_load(sink->id, &published))
		PG_RETURN_NULL();
	oldest = ks_outbox_time(sink, published.position);
	values[0] = Int64GetDatum(ks_outbox_end(sink));
	values[1] = TimestampTzGetDatum(oldest);
	nulls[1] = oldest == DT_NOBEGIN;
	values[2] = Int64GetDatum(ks_outbox_bytes(sink));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
