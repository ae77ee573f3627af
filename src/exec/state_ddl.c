/*
 * state_ddl.c
 *		The tables and indexes beside a result table.
 *
 * A grouped result gets a unique index over its key columns (NULLS NOT
 * DISTINCT, since NULL is a group) or the PRIMARY KEY the user asked for.  Where
 * the result cannot be the state, a state table kstream_state.s_<id> holds
 * k1.. (keys), s1.. (saved states) and, where a user-defined aggregate needs it,
 * _has; with kept inputs it holds the number of the group and of its inputs, and
 * kstream_state.i_<id> holds (_gid, _n, c1..).
 *
 * Key columns of the state keep the collation of the query; its index compares
 * bytes where the collation is deterministic, which is the same equality and
 * much cheaper.
 *
 * Every table gets a replica identity: under a publication FOR ALL TABLES an
 * update of a table without one fails.
 *
 * Runs in: any backend, inside a transaction with SPI.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/transam.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/tablecmds.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "catalog/names.h"
#include "exec/aggstate.h"
#include "exec/join.h"
#include "exec/query_exec.h"
#include "exec/state_ddl.h"
#include "plan/analyze.h"
#include "plan/compile.h"
#include "plan/window.h"
#include "store/change.h"
#include "store/guard.h"
#include "store/join_buffer.h"

/* See state_ddl.h. */
void
ks_run_ddl(const char *sql)
{
	(void) ks_spi_execute(sql, false, 0, NULL, NULL, NULL);
}

/* The user's primary_key must be the group columns, in any order. */
static void
check_primary_key(KsAnalysis *analysis, List *primary_key)
{
	ListCell   *lc;

	foreach(lc, primary_key)
	{
		ListCell   *lk;
		bool		found = false;

		foreach(lk, analysis->key_columns)
		{
			if (strcmp(lfirst(lk), lfirst(lc)) == 0)
				found = true;
		}
		if (!found)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("primary key column \"%s\" is not a GROUP BY column of the query", (char *) lfirst(lc)),
					 errhint("Leave primary_key out to use the GROUP BY columns, or name exactly these.")));
	}
	if (list_length(primary_key) != list_length(analysis->key_columns))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("primary_key must name all GROUP BY columns of the query"),
				 errhint("Leave primary_key out to use the GROUP BY columns, or name exactly these.")));
}

/* Comma-separated quoted names. */
static char *
name_list(List *names)
{
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	foreach(lc, names)
		appendStringInfo(&buf, "%s%s", lc == list_head(names) ? "" : ", ", quote_identifier(lfirst(lc)));
	return buf.data;
}

/* Index and replica identity of the result table. */
static void
create_result_key(KsAnalysis *analysis, KsQueryRow *row, List *primary_key)
{
	char	   *relation = ks_qualified_name(row->relation);

	if (primary_key != NIL)
		ks_run_ddl(psprintf("ALTER TABLE %s ADD PRIMARY KEY (%s)", relation, name_list(primary_key)));
	else
	{
		if (analysis->key_columns != NIL)
			ks_run_ddl(psprintf("CREATE UNIQUE INDEX ON %s (%s) NULLS NOT DISTINCT",
							 relation, name_list(analysis->key_columns)));
		ks_run_ddl(psprintf("ALTER TABLE %s REPLICA IDENTITY FULL", relation));
	}
	if (get_rel_relkind(row->relation) == RELKIND_RELATION &&
		analysis->kind == KS_QUERY_AGGREGATE)
		ks_run_ddl(psprintf("ALTER TABLE %s SET (fillfactor = 50)", relation));
}

/* See state_ddl.h. */
void
ks_append_column(StringInfo sql, const char *name, Oid type, int32 typmod, Oid collation)
{
	appendStringInfo(sql, "%s %s", name, format_type_extended(type, typmod,
															  FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY));
	if (OidIsValid(collation))
		appendStringInfo(sql, " COLLATE %s", ks_collation_name(collation));
}

/* See state_ddl.h. */
Oid
ks_adopt_table(const char *name, const KsQueryRow *row)
{
	Oid			relid = get_relname_relid(name, get_namespace_oid("kstream_state", false));
	ObjectAddress table,
				result;
	Relation	rel = table_open(row->relation, AccessShareLock);
	Oid			owner = rel->rd_rel->relowner;

	table_close(rel, NoLock);
	ks_run_ddl(psprintf("ALTER TABLE kstream_state.%s REPLICA IDENTITY FULL", name));
	ks_run_ddl(psprintf("ALTER TABLE kstream_state.%s OWNER TO %s", name,
					 quote_identifier(GetUserNameFromId(owner, false))));
	ObjectAddressSet(table, RelationRelationId, relid);
	/* a stream may have several queries; what one has goes with it */
	ObjectAddressSet(result, RelationRelationId, row->kind == KS_QUERY_STREAM ? row->view : row->relation);
	recordDependencyOn(&table, &result, DEPENDENCY_INTERNAL);
	ks_guard_install(relid);
	return relid;
}

/* Index over the keys of the state table; a session comes last in it, so that the sessions of a key lie together. */
static char *
state_index(const KsPlan *plan, const char *name)
{
	StringInfoData sql;
	int			last = plan->window == KS_WINDOW_SESSION ? plan->window_key : plan->nkeys - 1;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE UNIQUE INDEX ON kstream_state.%s (", name);
	for (int n = 0; n < plan->nkeys; n++)
	{
		int			i = n == plan->nkeys - 1 ? last : n < last ? n : n + 1;

		appendStringInfo(&sql, "%sk%d", n > 0 ? ", " : "", i + 1);
		if (OidIsValid(plan->key_collations[i]) && get_collation_isdeterministic(plan->key_collations[i]))
			appendStringInfoString(&sql, " COLLATE pg_catalog.\"C\"");
	}
	appendStringInfoString(&sql, ") NULLS NOT DISTINCT WITH (fillfactor = 80)");
	return sql.data;
}

/*
 * Indexes over the time by which rows leave a table.  A row that is updated
 * keeps its window, so these do not keep updates from staying on the page.
 */
static void
create_time_indexes(KsAnalysis *analysis, const KsQueryRow *row)
{
	bool		expires = row->retention_us >= 0;
	const char *relation = ks_qualified_name(row->relation);

	if (analysis->kind == KS_QUERY_APPEND)
	{
		if (expires)
			ks_run_ddl(psprintf("CREATE INDEX ON %s (%s)", relation,
							 quote_identifier(get_attname(row->relation, analysis->time_column, false))));
		return;
	}
	if (OidIsValid(row->state) && (row->emit_final || expires))
		ks_run_ddl(psprintf("CREATE INDEX ON %s (upper(k%d))", ks_qualified_name(row->state), analysis->window_key + 1));
	if (expires && (analysis->state_is_visible || row->emit_final))
		ks_run_ddl(psprintf("CREATE INDEX ON %s (upper(%s))", relation,
						 quote_identifier(list_nth(analysis->key_columns, analysis->window_key))));
}

/* The state table. */
static void
create_state_table(KsAnalysis *analysis, const KsPlan *plan, KsQueryRow *row)
{
	char	   *name = psprintf("s_%d", row->id);
	StringInfoData sql;
	bool		flags = false;
	const char *sep = "";

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE TABLE kstream_state.%s (", name);
	for (int i = 0; i < plan->nkeys; i++, sep = ", ")
	{
		appendStringInfoString(&sql, sep);
		ks_append_column(&sql, psprintf("k%d", i + 1), plan->key_types[i], plan->key_typmods[i],
					  plan->key_collations[i]);
	}
	if (plan->keep_inputs)
		appendStringInfo(&sql, "%s_gid int8, _ninputs int8", sep);
	for (int i = 0; i < plan->naggs && !plan->keep_inputs; i++, sep = ", ")
	{
		Aggref	   *aggref = plan->aggs[i].aggref;
		Oid			type = ks_agg_saved_type(aggref);

		appendStringInfoString(&sql, sep);
		ks_append_column(&sql, psprintf("s%d", i + 1), type, -1,
					  OidIsValid(get_typcollation(type)) ? aggref->inputcollid : InvalidOid);
		if (aggref->aggfnoid >= FirstNormalObjectId)
			flags = true;
	}
	if (flags)
		appendStringInfo(&sql, "%s_has text", sep);
	appendStringInfoString(&sql, ") WITH (fillfactor = 50)");
	ks_run_ddl(sql.data);
	if (plan->nkeys > 0)
		ks_run_ddl(state_index(plan, name));
	row->state = ks_adopt_table(name, row);
}

/* The table of kept inputs. */
static void
create_inputs_table(const KsPlan *plan, KsQueryRow *row)
{
	char	   *name = psprintf("i_%d", row->id);
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE TABLE kstream_state.%s (_gid int8, _n int8", name);
	for (int i = 0; i < plan->ninputs; i++)
	{
		if (get_typtype(plan->input_types[i]) == TYPTYPE_PSEUDO)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("an aggregate over type %s whose inputs must be kept is not supported in a continuous query",
							format_type_be(plan->input_types[i])),
					 errhint("Cast the argument to a named type, for example a composite type or jsonb.")));
		appendStringInfoString(&sql, ", ");
		ks_append_column(&sql, psprintf("c%d", i + 1), plan->input_types[i], -1, plan->input_collations[i]);
	}
	appendStringInfoChar(&sql, ')');
	ks_run_ddl(sql.data);
	ks_run_ddl(psprintf("CREATE INDEX ON kstream_state.%s (_gid, _n)", name));
	row->inputs = ks_adopt_table(name, row);
}

/* Has the table the columns prefix1, prefix2 ... of these types? */
static bool
has_columns(Oid relid, const char *prefix, int n, const Oid *types)
{
	for (int i = 0; i < n; i++)
	{
		AttrNumber	attnum = get_attnum(relid, psprintf("%s%d", prefix, i + 1));

		if (attnum == InvalidAttrNumber || get_atttype(relid, attnum) != types[i])
			return false;
	}
	return true;
}

/* Does the state of a grouped query hold what its plan keeps there? */
static bool
state_fits(const KsPlan *plan, const KsQueryRow *row)
{
	Oid		   *types;

	if (!OidIsValid(row->state))
		return true;
	if (!has_columns(row->state, "k", plan->nkeys, plan->key_types))
		return false;
	if (plan->keep_inputs)
		return has_columns(row->inputs, "c", plan->ninputs, plan->input_types);
	types = palloc(sizeof(Oid) * Max(plan->naggs, 1));
	for (int i = 0; i < plan->naggs; i++)
		types[i] = ks_agg_saved_type(plan->aggs[i].aggref);
	return has_columns(row->state, "s", plan->naggs, types);
}

/*
 * See state_ddl.h.  What a query reads cannot change under it by commands that
 * event triggers see; others, such as CREATE OR REPLACE AGGREGATE, can make it
 * ask for a state that it does not have.
 */
void
ks_check_state(KsAnalysis *analysis, const KsPlan *plan, const KsQueryRow *row)
{
	bool		fits = row->kind == KS_QUERY_STREAM || analysis->kind == row->kind;

	if (fits && row->kind == KS_QUERY_AGGREGATE)
		fits = OidIsValid(row->state) == !analysis->state_is_visible &&
			OidIsValid(row->inputs) == plan->keep_inputs &&
			list_length(row->key_columns) == list_length(analysis->key_columns) &&
			state_fits(plan, row);
	if (!fits)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("what query \"%s\" is computed from has changed since it was created",
						ks_query_display_name(row)),
				 errdetail("Its state was made for other groups or aggregates."),
				 errhint("Give the views and aggregates it uses the definitions they had, or drop the query and create it again.")));
}

/* Inserts the row a global aggregate has before any record. */
static void
start_query(const KsQueryRow *row)
{
	KsQueryExec *exec;

	PushActiveSnapshot(GetTransactionSnapshot());
	exec = ks_exec_open(row);
	ks_exec_start(exec);
	ks_exec_close(exec);
	PopActiveSnapshot();
}

/* The buffers of a join of streams; what needs them is tried once. */
static void
create_join_state(KsAnalysis *analysis, KsQueryRow *row)
{
	analysis->join->id = row->id;
	ks_join_create_buffers(analysis->join, row);
	CommandCounterIncrement();
}

/* See analyze.h. */
void
ks_create_state(KsAnalysis *analysis, KsQueryRow *row, List *primary_key)
{
	row->key_columns = analysis->key_columns;
	ks_window_bind(analysis, row);
	if (analysis->join != NULL)
		create_join_state(analysis, row);
	if (row->kind == KS_QUERY_STREAM)
		return;
	if (analysis->kind == KS_QUERY_APPEND)
	{
		create_result_key(analysis, row, primary_key);
		create_time_indexes(analysis, row);
		return;
	}
	if (primary_key != NIL)
		check_primary_key(analysis, primary_key);
	create_result_key(analysis, row, primary_key);
	if (!analysis->state_is_visible)
	{
		KsPlan	   *plan = ks_compile(analysis, row, false);

		create_state_table(analysis, plan, row);
		if (plan->keep_inputs)
			create_inputs_table(plan, row);
	}
	create_time_indexes(analysis, row);
	CommandCounterIncrement();
	if (analysis->global)
		start_query(row);
}

/* See analyze.h. */
void
ks_clear_state(const KsQueryRow *row)
{
	List	   *tables = list_concat(list_make3_oid(row->relation, row->state, row->inputs),
									 ks_join_buffers(row->id));
	ListCell   *lc;

	ks_tell_cleared(row->relation);
	/* not TRUNCATE: a snapshot that shows the old positions has to show what belongs to them */
	foreach(lc, tables)
	{
		Oid			relid = lfirst_oid(lc);

		if (!OidIsValid(relid) || (relid != row->relation && get_rel_relkind(relid) != RELKIND_RELATION))
			continue;
		ks_guard_pass_begin(relid);
		ks_run_ddl(psprintf("DELETE FROM ONLY %s", ks_qualified_name(relid)));
		ks_guard_pass_end();
	}
	CommandCounterIncrement();
	if (row->kind == KS_QUERY_AGGREGATE && ks_analyze_view(row->view)->global)
		start_query(row);
}
