/*
 * explain.c
 *		The compiled plan of a query as text, for kstream.explain().
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "catalog/dedup_cat.h"
#include "catalog/names.h"
#include "catalog/stream_def.h"
#include "plan/analyze.h"
#include "plan/compile.h"
#include "plan/window.h"
#include "store/change.h"

/* Appends a statement, indented, under its title. */
static void
append_statement(StringInfo buf, const char *title, const char *sql)
{
	appendStringInfo(buf, "  %s:\n    ", title);
	for (const char *p = sql; *p != '\0'; p++)
	{
		appendStringInfoChar(buf, *p);
		if (*p == '\n')
			appendStringInfoString(buf, "    ");
	}
	appendStringInfoChar(buf, '\n');
}

/* The line that says where records come from. */
static void
append_source(StringInfo buf, Oid relid)
{
	KsStreamDef *def = ks_stream_def_of(relid);

	if (def->local)
		appendStringInfo(buf, "Source: local stream %s\n", ks_qualified_name(relid));
	else
		appendStringInfo(buf, "Source: topic \"%s\" as %s (format %s, key format %s)\n", def->topic,
						 ks_qualified_name(relid), ks_format_name(def->format),
						 ks_key_format_name(def->key_format));
}

/* The line that says which records of the stream are dropped as duplicates. */
static void
append_dedup(StringInfo buf, int32 query, Oid stream)
{
	KsDedupRule *rule = ks_dedup_rule_load(query, stream);
	ListCell   *lc;

	if (rule == NULL)
		return;
	appendStringInfoString(buf, "  Dedup: drops records within ");
	appendStringInfo(buf, "%s of the last accepted one with the same ", ks_dedup_window_text(rule->window));
	foreach(lc, rule->columns)
		appendStringInfo(buf, "%s%s", foreach_current_index(lc) > 0 ? ", " : "",
						 quote_identifier(lfirst(lc)));
	appendStringInfoChar(buf, '\n');
}

/* The lines that say where rows go. */
static void
append_target(StringInfo buf, Oid relid)
{
	KsStreamDef *def = ks_stream_def_of(relid);

	appendStringInfoString(buf, "Emit: every row becomes a record\n");
	if (def->local)
		appendStringInfo(buf, "Result: local stream %s", ks_qualified_name(relid));
	else
		appendStringInfo(buf, "Result: topic \"%s\" as %s (format %s, key format %s), %s", def->topic,
						 ks_qualified_name(relid), ks_format_name(def->format),
						 ks_key_format_name(def->key_format),
						 def->at_least_once ? "at least once" : "exactly once");
}

/* How the state of one aggregate is kept. */
static const char *
kind_text(KsAggKind kind)
{
	switch (kind)
	{
		case KS_AGG_DIRECT:
			return "state is the transition value";
		case KS_AGG_SERIAL:
			return "state is serialized";
		case KS_AGG_ADD:
			return "state is the sum itself";
		case KS_AGG_INPUTS:
			return "inputs are kept, the group is recomputed";
	}
	return "";
}

/* A number of microseconds as an interval; a day is 24 hours. */
static char *
interval_text(int64 microseconds)
{
	Interval	interval = {.day = microseconds / USECS_PER_DAY,.time = microseconds % USECS_PER_DAY};

	return DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(&interval)));
}

/* What becomes of windows, or of rows with an event time. */
static void
append_windows(StringInfo buf, const KsQueryRow *row, KsAnalysis *analysis, KsPlan *plan)
{
	if (analysis->window != KS_WINDOW_NONE)
	{
		appendStringInfo(buf, "  Window: %s, ", quote_identifier(list_nth(analysis->key_columns, analysis->window_key)));
		if (analysis->window == KS_WINDOW_SESSION)
			appendStringInfo(buf, "sessions of gap %s, ", interval_text(analysis->session_gap_us));
		if (analysis->join != NULL)
			appendStringInfo(buf, "of matches, which stay open %s longer\n", interval_text(analysis->join_wait_us));
		else
			appendStringInfo(buf, "records are late %s after the end%s\n", interval_text(row->grace_us),
							 plan->origin >= 0 ? "" : " (records are run one by one)");
	}
	if (row->emit_final)
		appendStringInfo(buf, "  Close: rows come when the watermark is %s past the end\n",
						 interval_text(ks_window_close_us(analysis, row)));
	if (row->retention_us >= 0)
		appendStringInfo(buf, "  Expiry: rows leave when the watermark is %s past the %s\n",
						 interval_text(ks_window_expiry_us(analysis, row)),
						 analysis->window != KS_WINDOW_NONE ? "end" : "event time");
}

/* The operators of a GROUP BY query. */
static void
append_aggregate(StringInfo buf, const KsQueryRow *row, KsAnalysis *analysis, KsPlan *plan)
{
	appendStringInfo(buf, "Aggregate: %s", plan->nkeys == 0 ? "one group" : "groups by ");
	for (int i = 0; i < plan->nkeys; i++)
		appendStringInfo(buf, "%s%s", i > 0 ? ", " : "", quote_identifier(list_nth(analysis->key_columns, i)));
	appendStringInfoChar(buf, '\n');
	for (int i = 0; i < plan->naggs; i++)
		appendStringInfo(buf, "  a%d = %s: %s\n", i + 1, get_func_name(plan->aggs[i].aggref->aggfnoid),
						 plan->keep_inputs ? "inputs are kept, the group is recomputed" :
						 kind_text(plan->aggs[i].kind));
	appendStringInfo(buf, "  State: %s\n",
					 analysis->state_is_visible ? "the result table itself" : ks_qualified_name(row->state));
	if (OidIsValid(row->inputs))
		appendStringInfo(buf, "  Inputs: %s\n", ks_qualified_name(row->inputs));
	if (plan->final_sql != NULL)
		append_statement(buf, "Statement over the groups of a batch", plan->final_sql);
	if (plan->recompute_sql != NULL)
		append_statement(buf, "Statement per group of a batch", plan->recompute_sql);
}

/* The streams that are joined with each other, and their buffers. */
static void
append_join(StringInfo buf, const KsJoin *join, const KsJoinPlan *plan)
{
	ListCell   *lc;

	foreach(lc, plan->refs)
	{
		KsJoinRefPlan *ref_plan = lfirst(lc);
		const KsJoinRef *ref = &join->refs[ref_plan->ref];

		appendStringInfo(buf, "Join: stream %s, each record until %s after its event time\n", ref->name,
						 interval_text(ref->wait + join->grace));
		appendStringInfo(buf, "  Buffer: kstream_state.%s\n", ks_join_buffer_name(join->id, ref->buffer));
		append_statement(buf, "Statement that fills it", ref_plan->fill_sql);
		if (ref_plan->null_sql != NULL)
			append_statement(buf, "Null rows of what is closed", ref_plan->null_sql);
	}
	foreach(lc, plan->marks)
	{
		KsJoinMarkPlan *mark = lfirst(lc);

		if (mark->sql != NULL)
			append_statement(buf, "Records that have met another", mark->sql);
	}
}

/* See analyze.h. */
char *
ks_explain_query(const KsQueryRow *row)
{
	StringInfoData buf;
	KsAnalysis *analysis;
	KsPlan	   *plan;
	ListCell   *lc;

	initStringInfo(&buf);
	if (OidIsValid(row->source))
	{
		append_source(&buf, row->source);
		append_statement(&buf, "Statement over a batch", ks_compile_source(row->source, row->relation));
		appendStringInfo(&buf, "Upsert: last record per key%s%s; a tombstone deletes\n",
						 row->version_column != NULL ? " with the greatest " : "",
						 row->version_column != NULL ? quote_identifier(row->version_column) : "");
		appendStringInfo(&buf, "Result: table %s", ks_qualified_name(row->relation));
		return buf.data;
	}
	analysis = ks_analyze_view(row->view);
	ks_window_bind(analysis, row);
	plan = row->kind == KS_QUERY_STREAM ? ks_compile_stream(analysis, row) :
		ks_compile(analysis, row, ks_changes_wanted(row->relation));
	foreach(lc, analysis->streams)
	{
		append_source(&buf, lfirst_oid(lc));
		append_dedup(&buf, row->id, lfirst_oid(lc));
	}
	foreach(lc, analysis->lookups)
		appendStringInfo(&buf, "Lookup: %s\n", ks_qualified_name(lfirst_oid(lc)));
	append_statement(&buf, plan->record_by_record ?
					 "Statement over each record of a batch, in order of arrival" : "Statement over a batch",
					 plan->row_sql);
	if (plan->join != NULL)
		append_join(&buf, analysis->join, plan->join);
	if (plan->kind == KS_QUERY_STREAM)
	{
		append_target(&buf, row->relation);
		return buf.data;
	}
	if (plan->kind == KS_QUERY_AGGREGATE)
		append_aggregate(&buf, row, analysis, plan);
	else
		appendStringInfoString(&buf, "Append: every row\n");
	append_windows(&buf, row, analysis, plan);
	appendStringInfo(&buf, "Result: table %s", ks_qualified_name(row->relation));
	return buf.data;
}
