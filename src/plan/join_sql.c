/*
 * join_sql.c
 *		The statements of a join of streams.
 *
 * The query is copied, and each place where it names a stream is replaced by a
 * sub-select that shows part of the stream's rows under the same columns:
 *
 *	- new: the rows of the batch that are not late (the foreign table itself);
 *	- old: the rows of the buffer;
 *	- none: no rows.
 *
 * The row statement is the UNION ALL of the copies in which at least one stream
 * shows its new rows: for two, new-old, old-new and new-new.  Outer joins are
 * inner ones there.  Null rows come from a copy in which the outer join stays,
 * the stream that is kept shows rows whose close has come without a match, and
 * the other stream none.  Whatever stands around the join, also above it, has
 * its own meaning everywhere: expressions are not touched.
 *
 * To the conditions of the query are added those of the contract on time: each
 * of two rows came before the other's close.  And the bounds of the query are
 * repeated with the event time of the old row alone on one side, so that an index
 * can be used whichever way the query puts them; and because the event time of a
 * record whose column is infinite is another.  Equalities of text are repeated
 * by bytes, as the index has them.
 *
 * Where windows over the join close, a record whose close the watermark has
 * passed is late as well, and one in the buffer meets no other any more.  This
 * makes a difference only if a partition was idle: its records are in time by
 * their own partition, but too late for a window.
 *
 * For outer joins another statement tells which rows have met: the join alone,
 * without what stands above it.  Where nothing does, its columns are added to
 * the row statement.
 *
 * Runs in: worker or any backend, in a transaction, under the settings pinned
 * with the query.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "parser/analyze.h"
#include "parser/parse_node.h"
#include "parser/parse_oper.h"
#include "parser/parser.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "catalog/names.h"
#include "plan/join_int.h"

/* What a stream shows in a copy of the query. */
typedef enum SideMode
{
	SIDE_NONE,
	SIDE_STREAM,				/* the stream itself: it is joined with no other */
	SIDE_TIMED,					/* the same, with its event time as a column */
	SIDE_NEW,
	SIDE_OLD,
	SIDE_CLOSING				/* old rows without a match, of KS_BUFFER_RANGE */
} SideMode;

/* A column of a sub-select after those of the stream. */
typedef enum SideColumn
{
	SIDE_EVENT_TIME = 1,		/* _event_time */
	SIDE_ROW,					/* _row: tid in the half of the buffer */
	SIDE_HALF					/* _half */
} SideColumn;

static const Oid side_column_types[] = {InvalidOid, TIMESTAMPTZOID, TIDOID, BOOLOID};

/* Name of the column with the event time of a row, see KsJoinPlan. */
#define TIME_COLUMN "_kstream_time"

/* ---------------------------------------------------------------- names and pieces of SQL */

/* See join.h. */
char *
ks_join_buffer_name(int32 query, int buffer)
{
	return psprintf("j_%d_%d", query, buffer + 1);
}

/* See join.h. */
char *
ks_join_half_name(int32 query, int buffer, int half)
{
	return psprintf("j_%d_%d_%d", query, buffer + 1, half);
}

/* See join.h. */
char *
ks_join_column_name(AttrNumber attnum)
{
	return psprintf("c%d", attnum);
}

/* See join.h. */
char *
ks_join_interval(int64 microseconds)
{
	uint64		length = microseconds < 0 ? -(uint64) microseconds : (uint64) microseconds;

	return psprintf("'%s" UINT64_FORMAT ".%06d secs'::pg_catalog.interval", microseconds < 0 ? "-" : "",
					length / USECS_PER_SEC, (int) (length % USECS_PER_SEC));
}

/* A column of the stream, qualified. */
static char *
stream_column(const KsJoinRef *ref, AttrNumber attnum, const char *alias)
{
	return psprintf("%s.%s", alias, quote_identifier(ref->def->columns[attnum - 1].name));
}

/* See join.h; as event_time_of in stream/batch.c computes it. */
char *
ks_join_event_time(const KsJoinRef *ref, const char *alias)
{
	const KsStreamDef *def = ref->def;
	char	   *timestamp = stream_column(ref, def->meta[KS_META_TIMESTAMP], alias);
	char	   *stream_time = stream_column(ref, def->meta[KS_META_STREAM_TIME], alias);
	char	   *column;
	Oid			type;

	if (def->event_time == 0)
		return psprintf("COALESCE(%s, %s)", timestamp, stream_time);
	column = stream_column(ref, def->event_time, alias);
	type = getBaseType(def->columns[def->event_time - 1].typid);
	return psprintf("COALESCE(CASE WHEN pg_catalog.isfinite(%s) THEN %s END, %s, %s)", column,
					type == TIMESTAMPTZOID ? column :
					type == DATEOID ? psprintf("(%s::pg_catalog.timestamp AT TIME ZONE 'UTC')", column) :
					psprintf("(%s AT TIME ZONE 'UTC')", column),
					timestamp, stream_time);
}

/* Until when a record is on time. */
static char *
close_of(const KsJoin *join, const KsJoinRef *ref, const char *alias)
{
	return psprintf("%s + %s", ks_join_event_time(ref, alias), ks_join_interval(ref->wait + join->grace));
}

/* The latest time that decides whether a new record is late. */
static char *
came_at(const KsJoin *join, const KsJoinRef *ref, const char *alias)
{
	char	   *stream_time = stream_column(ref, ref->def->meta[KS_META_STREAM_TIME], alias);

	return join->watermark_is_late ? psprintf("GREATEST(%s, $1)", stream_time) : stream_time;
}

/* ---------------------------------------------------------------- sides */

/* Appends the columns of the stream, from the stream itself. */
static void
append_stream_columns(StringInfo sql, const KsJoinRef *ref)
{
	for (int i = 0; i < ref->def->natts; i++)
	{
		if (ref->def->columns[i].kind == KS_COL_DROPPED)
			appendStringInfo(sql, "NULL::pg_catalog.int4 AS _dropped_%d, ", i + 1);
		else
			appendStringInfo(sql, "%s, ", stream_column(ref, i + 1, "s"));
	}
}

/* The meta column's place in the buffer, or NULL if it has none of its own. */
static const char *
buffer_meta_column(const KsStreamDef *def, AttrNumber attnum)
{
	if (attnum == def->meta[KS_META_PARTITION])
		return "_partition";
	if (attnum == def->meta[KS_META_OFFSET])
		return "_offset";
	if (attnum == def->meta[KS_META_STREAM_TIME])
		return "_stream_time";
	return NULL;
}

/* Appends the columns of the stream, from the buffer (or nowhere); those not kept are NULL. */
static void
append_buffer_columns(StringInfo sql, const KsJoinRef *ref, bool none)
{
	for (int i = 0; i < ref->def->natts; i++)
	{
		const KsColumnDef *column = &ref->def->columns[i];
		const char *name = buffer_meta_column(ref->def, i + 1);

		if (column->kind == KS_COL_DROPPED)
			appendStringInfo(sql, "NULL::pg_catalog.int4 AS _dropped_%d, ", i + 1);
		else if (none || (name == NULL && !bms_is_member(i + 1, ref->columns)))
			appendStringInfo(sql, "NULL::%s%s%s AS %s, ",
							 format_type_extended(column->typid, column->typmod,
												  FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY),
							 OidIsValid(column->collation) ? " COLLATE " : "",
							 OidIsValid(column->collation) ? ks_collation_name(column->collation) : "",
							 quote_identifier(column->name));
		else
			appendStringInfo(sql, "s.%s AS %s, ", name != NULL ? name : ks_join_column_name(i + 1),
							 quote_identifier(column->name));
	}
}

/* The sub-select that stands for a stream. */
static char *
side_sql(const KsJoin *join, const KsJoinRef *ref, SideMode mode)
{
	StringInfoData sql;
	const char *buffer = ks_join_buffer_name(join->id, ref->buffer);

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT ");
	switch (mode)
	{
		case SIDE_TIMED:
			append_stream_columns(&sql, ref);
			appendStringInfo(&sql, "%s AS _event_time, NULL::pg_catalog.tid AS _row, NULL::pg_catalog.bool AS _half FROM %s s",
							 ks_join_event_time(ref, "s"), ks_qualified_name(ref->stream));
			break;
		case SIDE_NEW:
			append_stream_columns(&sql, ref);
			appendStringInfo(&sql, "%s AS _event_time, NULL::pg_catalog.tid AS _row, NULL::pg_catalog.bool AS _half"
							 " FROM %s s WHERE %s <= %s",
							 ks_join_event_time(ref, "s"), ks_qualified_name(ref->stream), came_at(join, ref, "s"),
							 close_of(join, ref, "s"));
			break;
		case SIDE_OLD:
		case SIDE_CLOSING:
			append_buffer_columns(&sql, ref, false);
			appendStringInfo(&sql, "s._event_time, CASE WHEN NOT s._matched THEN s.ctid END AS _row, s._half"
							 " FROM kstream_state.%s s%s", buffer, mode == SIDE_CLOSING ? " WHERE " KS_BUFFER_RANGE :
							 join->watermark_is_late ? psprintf(" WHERE s._event_time + %s >= $1",
																ks_join_interval(ref->wait + join->grace)) : "");
			break;
		default:
			append_buffer_columns(&sql, ref, true);
			appendStringInfoString(&sql, "NULL::pg_catalog.timestamptz AS _event_time, NULL::pg_catalog.tid AS _row, NULL::pg_catalog.bool AS _half WHERE false");
	}
	return sql.data;
}

/* Parses a statement of ours; its parameters are those of KS_BUFFER_RANGE. */
static Query *
parse_sql(const char *sql)
{
	RawStmt    *raw = linitial_node(RawStmt, raw_parser(sql, RAW_PARSE_DEFAULT));
	Oid			types[] = {KS_BUFFER_PLACE_TYPES, KS_BUFFER_PLACE_TYPES};

	return parse_analyze_fixedparams(raw, sql, types, lengthof(types), NULL);
}

/* Puts a sub-select in the place of a stream. */
static void
replace_stream(const KsJoin *join, KsPlace *place, int ref, SideMode mode)
{
	RangeTblEntry *rte = rt_fetch(place->varno, place->level->query->rtable);
	List	   *names = NIL;
	ListCell   *lc;

	if (mode == SIDE_STREAM)
		return;
	rte->subquery = parse_sql(side_sql(join, &join->refs[ref], mode));
	rte->rtekind = RTE_SUBQUERY;
	rte->relid = InvalidOid;
	rte->relkind = 0;
	rte->rellockmode = 0;
	rte->inh = false;
	ks_forget_permissions(rte);
	/* the names the query gives, then those of the stream as they are now */
	foreach(lc, rte->subquery->targetList)
	{
		int			i = foreach_current_index(lc);
		List	   *given = rte->alias != NULL ? rte->alias->colnames : NIL;

		names = lappend(names, makeString(pstrdup(i < list_length(given) ? strVal(list_nth(given, i)) :
												  lfirst_node(TargetEntry, lc)->resname)));
	}
	rte->eref = makeAlias(rte->eref->aliasname, names);
	rte->alias = rte->alias != NULL && rte->alias->colnames != NIL ? copyObject(rte->eref) :
		makeAlias(rte->eref->aliasname, NIL);
}

/* ---------------------------------------------------------------- columns seen from above */

/* Adds a column to a sub-select; returns its number. */
static AttrNumber
add_column(KsLevel *level, Var *var)
{
	Query	   *query = level->query;
	AttrNumber	resno = list_length(query->targetList) + 1;
	char	   *name = psprintf("_k%d", resno);
	RangeTblEntry *rte = rt_fetch(level->parent_varno, level->parent->query->rtable);
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		if (equal(lfirst_node(TargetEntry, lc)->expr, var))
			return lfirst_node(TargetEntry, lc)->resno;
	}
	query->targetList = lappend(query->targetList, makeTargetEntry((Expr *) var, resno, name, false));
	rte->eref->colnames = lappend(rte->eref->colnames, makeString(pstrdup(name)));
	if (rte->alias != NULL && rte->alias->colnames != NIL)
		rte->alias->colnames = lappend(rte->alias->colnames, makeString(pstrdup(name)));
	return resno;
}

/* A column of a stream as a Var of a level above it. */
static Var *
seen_from(KsPlace *place, AttrNumber attnum, Oid type, KsLevel *above)
{
	KsLevel    *level = place->level;
	Var		   *var = makeVar(place->varno, attnum, type, -1, InvalidOid, 0);

	while (level != above)
	{
		var = makeVar(level->parent_varno, add_column(level, var), type, -1, InvalidOid, 0);
		level = level->parent;
	}
	return var;
}

/* One of the columns after those of the stream. */
static Var *
side_column(const KsJoin *join, KsPlace *place, int ref, SideColumn column, KsLevel *above)
{
	return seen_from(place, join->refs[ref].def->natts + column, side_column_types[column], above);
}

/* A metadata column. */
static Var *
meta_column(const KsJoin *join, KsPlace *place, int ref, KsMetaColumn meta, KsLevel *above)
{
	const KsStreamDef *def = join->refs[ref].def;

	return seen_from(place, def->meta[meta], def->columns[def->meta[meta] - 1].typid, above);
}

/* The lowest level above both. */
static KsLevel *
common_level(KsLevel *a, KsLevel *b)
{
	while (a != b)
	{
		if (a->depth >= b->depth)
			a = a->parent;
		else
			b = b->parent;
	}
	return a;
}

/* ---------------------------------------------------------------- conditions of time */

/* left op right, for timestamptz. */
static Expr *
compare(Var *left, const char *operator, Expr *right)
{
	ParseState *pstate = make_parsestate(NULL);
	List	   *name = list_make2(makeString("pg_catalog"), makeString(pstrdup(operator)));
	Expr	   *result = make_op(pstate, name, (Node *) copyObject(left), (Node *) right, NULL, -1);

	free_parsestate(pstate);
	return result;
}

/* var plus so many microseconds. */
static Expr *
plus(Var *var, int64 microseconds)
{
	ParseState *pstate = make_parsestate(NULL);
	Interval   *interval = palloc0(sizeof(Interval));
	Const	   *length;
	Expr	   *result;

	interval->time = microseconds;
	length = makeConst(INTERVALOID, -1, InvalidOid, sizeof(Interval), PointerGetDatum(interval), false, false);
	result = make_op(pstate, list_make2(makeString("pg_catalog"), makeString("+")),
					 (Node *) copyObject(var), (Node *) length, NULL, -1);
	free_parsestate(pstate);
	return result;
}

/* State of see_vars_mutator. */
typedef struct SeeContext
{
	KsPlace    *place;
	KsLevel    *above;
} SeeContext;

/* Replaces Vars of a stream by what a level above sees of them. */
static Node *
see_vars_mutator(Node *node, SeeContext *cxt)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var))
		return (Node *) seen_from(cxt->place, ((Var *) node)->varattno, ((Var *) node)->vartype, cxt->above);
	return expression_tree_mutator(node, see_vars_mutator, cxt);
}

/* Equalities of text between two streams, by bytes. */
static List *
byte_equalities(const KsJoin *join, KsLevels *levels, int i, int j, KsLevel *level)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, join->equalities)
	{
		KsJoinEquality *equality = lfirst(lc);
		const int  *refs = equality->refs;
		Expr	   *sides[2];

		if (!equality->bytes || Min(refs[0], refs[1]) != Min(i, j) || Max(refs[0], refs[1]) != Max(i, j))
			continue;
		for (int k = 0; k < 2; k++)
		{
			SeeContext	cxt = {list_nth(levels->places, refs[k]), level};
			KsJoinKey  *key = list_nth(join->refs[refs[k]].keys, equality->keys[k]);

			sides[k] = ks_join_collate((Expr *) see_vars_mutator(key->expr, &cxt), C_COLLATION_OID);
		}
		result = lappend(result, make_opclause(equality->opno, BOOLOID, false, sides[0], sides[1],
											   InvalidOid, C_COLLATION_OID));
	}
	return result;
}

/*
 * since_partner
 *		The least event time of a partner, since, of a row of stream k in stream o;
 *		where new rows are joined with old ones, only if there may be such a partner.
 */
static Expr *
since_partner(const KsJoin *join, KsLevels *levels, const SideMode *modes, int k, int o, KsLevel *level, Expr *since)
{
	const KsJoinFilter *filter = ks_join_filter_for(join, k, o);
	SeeContext	cxt = {list_nth(levels->places, k), level};
	List	   *keys = NIL;

	if (filter == NULL || modes[k] != SIDE_NEW || modes[o] != SIDE_OLD)
		return since;
	for (int i = 0; i < filter->nkeys; i++)
	{
		KsJoinKey  *key = list_nth(join->refs[k].keys, filter->tested_keys[i]);

		keys = lappend(keys, see_vars_mutator(key->expr, &cxt));
	}
	return ks_join_ask_filter(join, filter, since, keys);
}

/* Adds what must hold in time between two streams of a component. */
static void
add_pair_conditions(const KsJoin *join, KsLevels *levels, const SideMode *modes, int i, int j)
{
	KsPlace    *places[] = {list_nth(levels->places, i), list_nth(levels->places, j)};
	const int	refs[] = {i, j};
	KsLevel    *level = common_level(places[0]->level, places[1]->level);
	List	   *quals = byte_equalities(join, levels, i, j, level);
	Var		   *event_time[2];
	Var		   *stream_time[2];

	for (int k = 0; k < 2; k++)
	{
		event_time[k] = side_column(join, places[k], refs[k], SIDE_EVENT_TIME, level);
		stream_time[k] = meta_column(join, places[k], refs[k], KS_META_STREAM_TIME, level);
	}
	for (int k = 0; k < 2; k++)
	{
		int			o = 1 - k;
		int64		after = join->bounds[refs[k] * join->nrefs + refs[o]];
		int64		before = join->bounds[refs[o] * join->nrefs + refs[k]];

		/* the other one came before the close of this one */
		quals = lappend(quals, compare(stream_time[o], "<=",
									   plus(event_time[k], Max(after, 0) + join->grace)));

		/*
		 * New rows are found by the keys.  But infinite columns may fulfil the
		 * query's bounds where event times do not, so that these decide always.
		 */
		if (modes[refs[o]] != SIDE_OLD && (k == 1 || modes[refs[k]] == SIDE_OLD ||
										   join->refs[refs[o]].def->event_time == 0 ||
										   join->refs[refs[k]].def->event_time == 0))
			continue;
		quals = lappend(quals, compare(event_time[o], ">=", since_partner(join, levels, modes, refs[k], refs[o], level,
																		plus(event_time[k], -before))));
		quals = lappend(quals, compare(event_time[o], "<=", plus(event_time[k], after)));
	}
	if (level->query->jointree->quals != NULL)
		quals = lcons(level->query->jointree->quals, quals);
	level->query->jointree->quals = (Node *) make_ands_explicit(quals);
}

/* ---------------------------------------------------------------- copies of the query */

/* A copy of the query whose streams show what modes say. */
typedef struct Copy
{
	Query	   *query;
	KsLevels   *levels;
	SideMode   *modes;
} Copy;

/* Copies the query; nothing is replaced so far. */
static Copy *
make_copy(const KsJoin *join, Query *base)
{
	Copy	   *copy = palloc0(sizeof(Copy));

	copy->query = (Query *) copyObject(base);
	copy->levels = ks_levels_of(copy->query);
	copy->modes = palloc0(sizeof(SideMode) * join->nrefs);
	return copy;
}

/* The outer joins of streams become inner ones. */
static void
make_inner(Copy *copy)
{
	ListCell   *lc;

	foreach(lc, copy->levels->outers)
	{
		KsOuterPlace *outer = lfirst(lc);

		outer->join->jointype = JOIN_INNER;
		rt_fetch(outer->join->rtindex, outer->level->query->rtable)->jointype = JOIN_INNER;
	}
}

/* Replaces the streams. */
static void
replace_streams(const KsJoin *join, Copy *copy, bool inner)
{
	for (int i = 0; inner && i < join->nrefs; i++)
	{
		for (int j = i + 1; j < join->nrefs; j++)
		{
			if (copy->modes[i] != SIDE_NONE && copy->modes[j] != SIDE_NONE)
				add_pair_conditions(join, copy->levels, copy->modes, i, j);
		}
	}
	for (int i = 0; i < join->nrefs; i++)
		replace_stream(join, list_nth(copy->levels->places, i), i, copy->modes[i]);
}

/* Sets the modes of the streams of a component: new where the bit is set. */
static int
choose_sides(const KsJoin *join, Copy *copy, const Bitmapset *component, int which)
{
	int			member = -1;
	int			n = 0;
	int			scans = 0;

	while ((member = bms_next_member(component, member)) >= 0)
	{
		bool		new = (which & (1 << n++)) != 0;

		copy->modes[member] = !join->refs[member].buffered ? SIDE_STREAM : new ? SIDE_NEW : SIDE_OLD;
		scans += new;
	}
	return scans;
}

/* Adds the columns that tell which two rows have met. */
static void
add_match_columns(const KsJoin *join, Copy *copy, const KsJoinOuter *outer, KsLevel *level)
{
	const int	refs[] = {outer->left, outer->right};
	List	   *tlist = level->query->targetList;

	for (int i = 0; i < lengthof(refs); i++)
	{
		KsPlace    *place = list_nth(copy->levels->places, refs[i]);
		Var		   *columns[KS_MATCH_COLUMNS] = {
			side_column(join, place, refs[i], SIDE_ROW, level),
			side_column(join, place, refs[i], SIDE_HALF, level),
			meta_column(join, place, refs[i], KS_META_PARTITION, level),
			meta_column(join, place, refs[i], KS_META_OFFSET, level)
		};

		for (int c = 0; c < KS_MATCH_COLUMNS; c++)
			tlist = lappend(tlist, makeTargetEntry((Expr *) columns[c], list_length(tlist) + 1,
												   psprintf("_m%d", list_length(tlist) + 1), false));
	}
	level->query->targetList = tlist;
}

static void add_time_column(const KsJoin *join, Copy *copy, KsLevel *level);

/* Adds the column to every branch of UNION ALL; *first: varno of the leftmost one. */
static void
add_time_to_branches(const KsJoin *join, Copy *copy, KsLevel *level, Node *node, int *first)
{
	SetOperationStmt *op = (SetOperationStmt *) node;

	if (IsA(node, RangeTblRef))
	{
		int			varno = ((RangeTblRef *) node)->rtindex;

		add_time_column(join, copy, level->children[varno]);
		if (*first == 0)
			*first = varno;
		return;
	}
	add_time_to_branches(join, copy, level, op->larg, first);
	add_time_to_branches(join, copy, level, op->rarg, first);
	op->colTypes = lappend_oid(op->colTypes, TIMESTAMPTZOID);
	op->colTypmods = lappend_int(op->colTypmods, -1);
	op->colCollations = lappend_oid(op->colCollations, InvalidOid);
}

/* The event times of what a level reads. */
static List *
times_of_level(const KsJoin *join, Copy *copy, KsLevel *level)
{
	List	   *times = NIL;
	int			nentries = list_length(level->query->rtable);

	for (int varno = 1; varno <= nentries; varno++)
	{
		int			ref = level->refs[varno];

		if (ref >= 0)
			times = lappend(times, side_column(join, list_nth(copy->levels->places, ref), ref, SIDE_EVENT_TIME, level));
		else if (level->children[varno] != NULL)
		{
			add_time_column(join, copy, level->children[varno]);
			times = lappend(times, makeVar(varno, list_length(level->children[varno]->query->targetList),
										   TIMESTAMPTZOID, -1, InvalidOid, 0));
		}
	}
	return times;
}

/*
 * add_time_column
 *		Adds a column to the end of a level's select list: the event time of the
 *		row, which is the greatest of those of its records.
 */
static void
add_time_column(const KsJoin *join, Copy *copy, KsLevel *level)
{
	Query	   *query = level->query;
	RangeTblEntry *rte = level->parent == NULL ? NULL : rt_fetch(level->parent_varno, level->parent->query->rtable);
	Expr	   *time;

	if (query->setOperations != NULL)
	{
		int			first = 0;

		add_time_to_branches(join, copy, level, query->setOperations, &first);
		time = (Expr *) makeVar(first, list_length(level->children[first]->query->targetList),
								TIMESTAMPTZOID, -1, InvalidOid, 0);
	}
	else
	{
		MinMaxExpr *greatest = makeNode(MinMaxExpr);

		greatest->minmaxtype = TIMESTAMPTZOID;
		greatest->op = IS_GREATEST;
		greatest->location = -1;
		greatest->args = times_of_level(join, copy, level);
		time = list_length(greatest->args) == 1 ? linitial(greatest->args) : (Expr *) greatest;
	}
	query->targetList = lappend(query->targetList,
								makeTargetEntry(time, list_length(query->targetList) + 1, pstrdup(TIME_COLUMN), false));
	if (rte == NULL)
		return;
	rte->eref->colnames = lappend(rte->eref->colnames, makeString(pstrdup(TIME_COLUMN)));
	if (rte->alias != NULL && rte->alias->colnames != NIL)
		rte->alias->colnames = lappend(rte->alias->colnames, makeString(pstrdup(TIME_COLUMN)));
}

/* The column for all of a copy; streams that are joined with no other show their event time, too. */
static void
add_time(const KsJoin *join, Copy *copy)
{
	for (int i = 0; i < join->nrefs; i++)
	{
		if (copy->modes[i] == SIDE_STREAM)
			copy->modes[i] = SIDE_TIMED;
	}
	add_time_column(join, copy, copy->levels->top);
}

/* Appends a statement to a UNION ALL. */
static void
append_union(StringInfo sql, const char *statement)
{
	appendStringInfo(sql, "%s(%s)", sql->len > 0 ? "\nUNION ALL\n" : "", statement);
}

/* Does the row statement have a row for each match, so that it can tell which rows have met? */
static bool
rows_are_matches(const KsJoin *join, Query *base)
{
	KsLevels   *levels = ks_levels_of(base);
	KsOuterPlace *outer;
	Node	   *item;

	if (list_length(join->outers) != 1 || list_length(join->components) != 1 || base->hasTargetSRFs ||
		base->setOperations != NULL)
		return false;
	outer = linitial(levels->outers);
	if (outer->level != levels->top || base->jointree->quals != NULL || list_length(base->jointree->fromlist) != 1)
		return false;
	/* above it may stand nothing but lookups that keep every row */
	item = linitial(base->jointree->fromlist);
	while (item != (Node *) outer->join)
	{
		if (!IsA(item, JoinExpr) || ((JoinExpr *) item)->jointype != JOIN_LEFT)
			return false;
		item = ((JoinExpr *) item)->larg;
	}
	return true;
}

/* The row statement. */
static char *
row_statement(const KsJoin *join, Query *base, KsJoinPlan *plan, bool with_matches)
{
	StringInfoData sql;
	ListCell   *lc;

	initStringInfo(&sql);
	foreach(lc, join->components)
	{
		Bitmapset  *component = lfirst(lc);

		for (int which = 1; which < (1 << bms_num_members(component)); which++)
		{
			Copy	   *copy = make_copy(join, base);

			plan->scans += choose_sides(join, copy, component, which);
			make_inner(copy);
			if (plan->with_time)
				add_time(join, copy);
			if (with_matches)
				add_match_columns(join, copy, linitial(join->outers), copy->levels->top);
			replace_streams(join, copy, true);
			append_union(&sql, pg_get_querydef(copy->query, true));
		}
	}
	return sql.data;
}

/* Numbers of the joins below a node of the join tree. */
static Bitmapset *
joins_below(Node *node)
{
	JoinExpr   *join = (JoinExpr *) node;

	if (!IsA(node, JoinExpr))
		return NULL;
	return bms_add_member(bms_union(joins_below(join->larg), joins_below(join->rarg)), join->rtindex);
}

/* Reduces a level to one of its joins, without what stands above it. */
static void
reduce_to_join(Query *query, JoinExpr *join)
{
	Bitmapset  *kept = joins_below((Node *) join);
	ListCell   *lc;

	query->targetList = NIL;
	query->jointree = makeFromExpr(list_make1(join), NULL);
	query->groupClause = NIL;
	query->havingQual = NULL;
	query->hasAggs = query->hasTargetSRFs = false;
	/* joins that are not there any more cannot be deparsed */
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (rte->rtekind == RTE_JOIN && !bms_is_member(foreach_current_index(lc) + 1, kept))
		{
			rte->rtekind = RTE_RESULT;
			rte->joinaliasvars = NIL;
		}
	}
}

/* The statement that tells which rows of an outer join have met. */
static KsJoinMarkPlan *
mark_statement(const KsJoin *join, int number, bool in_rows)
{
	KsJoinMarkPlan *mark = palloc0(sizeof(KsJoinMarkPlan));
	StringInfoData sql;

	mark->outer = list_nth(join->outers, number);
	if (in_rows)
		return mark;
	initStringInfo(&sql);
	for (int which = 1; which < 4; which++)
	{
		Copy	   *copy = make_copy(join, join->query);
		KsOuterPlace *place = list_nth(copy->levels->outers, number);
		Query	   *query = place->level->query;

		mark->scans += choose_sides(join, copy, list_nth(join->components, join->refs[place->left].component), which);
		make_inner(copy);
		reduce_to_join(query, place->join);
		place->level->parent = NULL;
		add_match_columns(join, copy, mark->outer, place->level);
		replace_streams(join, copy, true);
		append_union(&sql, pg_get_querydef(query, true));
	}
	mark->sql = sql.data;
	return mark;
}

/* The statement that makes null rows of a stream whose rows an outer join keeps. */
static char *
null_statement(const KsJoin *join, Query *base, int ref, SideMode mode, bool with_time)
{
	Copy	   *copy = make_copy(join, base);

	copy->modes[ref] = mode;
	if (with_time)
		add_time(join, copy);
	replace_streams(join, copy, false);
	return pg_get_querydef(copy->query, true);
}

/* ---------------------------------------------------------------- filling the buffers */

/*
 * An expression over the stream as SQL.  Implicit casts are shown: without its
 * context an expression whose cast is left out has another type.
 */
static char *
deparse_alone(const KsJoinRef *ref, Node *expr)
{
	return deparse_expression(expr, deparse_context_for("s", ref->stream), true, true);
}

/* Conditions as SQL, put together by AND; empty if there is none. */
static char *
conjunction(const KsJoinRef *ref, List *conditions)
{
	StringInfoData sql;
	ListCell   *lc;

	initStringInfo(&sql);
	foreach(lc, conditions)
		appendStringInfo(&sql, "%s(%s)", sql.len > 0 ? " AND " : "", deparse_alone(ref, lfirst(lc)));
	return sql.data;
}

/* What is computed only where the conditions hold, if there are any. */
static char *
guarded(const char *conditions, const char *expr)
{
	return conditions[0] == '\0' ? pstrdup(expr) : psprintf("CASE WHEN %s THEN %s END", conditions, expr);
}

/* See join.h. */
List *
ks_join_key_guards(const KsJoinRef *ref)
{
	List	   *guards = NIL;
	bool		may_fail = false;
	ListCell   *lc;

	foreach(lc, ref->keys)
		may_fail |= contain_leaked_vars(((KsJoinKey *) lfirst(lc))->expr);
	foreach(lc, ref->guards)
	{
		/* filters hold for all that is in the buffer */
		if (may_fail && !list_member(ref->filters, lfirst(lc)) && !contain_mutable_functions(lfirst(lc)))
			guards = lappend(guards, lfirst(lc));
	}
	return guards;
}

/* The conditions of the query on the stream alone. */
static void
append_filters(StringInfo sql, const KsJoinRef *ref)
{
	if (ref->filters != NIL)
		appendStringInfo(sql, " AND %s", conjunction(ref, ref->filters));
}

/* A NULL key has no match; of a row, IS NOT NULL asks for something else. */
static void
append_key_tests(StringInfo sql, const KsJoinRef *ref)
{
	ListCell   *lc;

	foreach(lc, ref->keys)
	{
		KsJoinKey  *key = lfirst(lc);
		List	   *first = contain_leaked_vars(key->expr) ? ref->filters : NIL;

		if (!ref->preserved && !type_is_rowtype(exprType(key->expr)))
			appendStringInfo(sql, " AND %s", guarded(conjunction(ref, first),
													 psprintf("(%s) IS NOT NULL", deparse_alone(ref, key->expr))));
	}
}

/*
 * append_keys
 *		The keys that the index has: one that cannot be computed makes the record
 *		bad now, not when it is put into the index.
 */
static void
append_keys(StringInfo sql, const KsJoinRef *ref, KsJoinRefPlan *plan)
{
	char	   *guards = conjunction(ref, ks_join_key_guards(ref));
	ListCell   *lc;

	foreach(lc, ref->keys)
	{
		if (plan->nkeys == KS_JOIN_MAX_KEYS)
			break;
		appendStringInfo(sql, ", %s", guarded(guards, deparse_alone(ref, ((KsJoinKey *) lfirst(lc))->expr)));
		plan->nkeys++;
	}
}

/* The statement must make keys of the types that the index has. */
static void
check_key_types(const KsJoinRef *ref, const KsJoinRefPlan *plan)
{
	List	   *columns = parse_sql(plan->fill_sql)->targetList;
	int			first = plan->ncolumns + KS_BUFFER_COLUMNS;

	for (int i = 0; i < plan->nkeys; i++)
	{
		TargetEntry *tle = list_nth_node(TargetEntry, columns, first + i);
		KsJoinKey  *key = list_nth(ref->keys, i);

		if (exprType((Node *) tle->expr) != exprType(key->expr))
			elog(ERROR, "key %d of stream \"%s\" has type %s, expected %s", i + 1, ref->name,
				 format_type_be(exprType((Node *) tle->expr)), format_type_be(exprType(key->expr)));
	}
}

/*
 * append_parts
 *		What the bounds compute of a record alone: if that fails, the record is bad
 *		now, not all that it is compared with later.  Conditions that keep it from
 *		being compared at all come first.
 */
static void
append_parts(StringInfo sql, const KsJoinRef *ref)
{
	char	   *guards = conjunction(ref, ref->guards);
	ListCell   *lc;

	foreach(lc, ref->parts)
		appendStringInfo(sql, ", %s", guarded(guards, deparse_alone(ref, lfirst(lc))));
}

/* By how much a record may be after another at most. */
static int64
longest_before(const KsJoin *join, const KsJoinRef *ref)
{
	int64		result = 0;

	for (int i = 0; i < join->nrefs; i++)
	{
		int64		bound = join->bounds[i * join->nrefs + ref->number];

		if (bound != KS_JOIN_UNBOUNDED)
			result = Max(result, bound);
	}
	return result;
}

/* The statement that takes rows of the batch into the buffer. */
static void
fill_statement(const KsJoin *join, const KsJoinRef *ref, KsJoinRefPlan *plan)
{
	const KsStreamDef *def = ref->def;
	StringInfoData sql;
	int			attnum = -1;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT ");
	while ((attnum = bms_next_member(ref->columns, attnum)) >= 0)
	{
		appendStringInfo(&sql, "%s, ", stream_column(ref, attnum, "s"));
		plan->ncolumns++;
	}
	appendStringInfo(&sql, "%s, %s, %s, %s, false, false", ks_join_event_time(ref, "s"),
					 stream_column(ref, def->meta[KS_META_STREAM_TIME], "s"),
					 stream_column(ref, def->meta[KS_META_PARTITION], "s"),
					 stream_column(ref, def->meta[KS_META_OFFSET], "s"));
	append_keys(&sql, ref, plan);
	append_parts(&sql, ref);
	/* the second condition: a time so early that the bounds cannot be computed is bad now, not when it is met */
	appendStringInfo(&sql, " FROM %s s WHERE %s <= %s AND %s - %s IS NOT NULL", ks_qualified_name(ref->stream),
					 came_at(join, ref, "s"), close_of(join, ref, "s"),
					 ks_join_event_time(ref, "s"), ks_join_interval(longest_before(join, ref)));
	append_filters(&sql, ref);
	plan->fill_sql = sql.data;
	check_key_types(ref, plan);
}

/* The statement that reads event times and keys of all rows in a half of the buffer. */
static char *
keys_statement(const KsJoin *join, const KsJoinRef *ref, int half)
{
	KsJoinRefPlan ignored = {0};
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT h._event_time");
	append_keys(&sql, ref, &ignored);
	appendStringInfo(&sql, " FROM kstream_state.%s h, LATERAL (SELECT ", ks_join_half_name(join->id, ref->buffer, half));
	append_buffer_columns(&sql, ref, false);
	appendStringInfoString(&sql, "NULL FROM (SELECT h.*) s) s");
	return sql.data;
}

/* Is there a filter about the stream's buffer? */
static bool
has_filter(const KsJoin *join, int ref)
{
	ListCell   *lc;

	foreach(lc, join->filters)
	{
		if (((KsJoinFilter *) lfirst(lc))->buffered == ref)
			return true;
	}
	return false;
}

/* The statement that finds late records. */
static char *
late_statement(const KsJoin *join, const KsJoinRef *ref)
{
	const KsStreamDef *def = ref->def;
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT %s, %s, %s FROM %s s WHERE %s > %s",
					 stream_column(ref, def->meta[KS_META_PARTITION], "s"),
					 stream_column(ref, def->meta[KS_META_OFFSET], "s"),
					 close_of(join, ref, "s"), ks_qualified_name(ref->stream), came_at(join, ref, "s"), close_of(join, ref, "s"));
	append_filters(&sql, ref);
	append_key_tests(&sql, ref);
	return sql.data;
}

/* See join.h. */
Query *
ks_join_base(const char *sql)
{
	return ks_join_flatten(parse_sql(sql));
}

/* See join.h. */
char *
ks_join_compile(KsJoin *join, Query *base, KsJoinPlan *plan)
{
	bool		in_rows = rows_are_matches(join, base);
	char	   *rows = row_statement(join, base, plan, in_rows);

	for (int i = 0; i < join->nrefs; i++)
	{
		KsJoinRef  *ref = &join->refs[i];
		KsJoinRefPlan *ref_plan;

		if (!ref->buffered)
			continue;
		ref_plan = palloc0(sizeof(KsJoinRefPlan));
		ref_plan->ref = i;
		fill_statement(join, ref, ref_plan);
		for (int half = 0; half < 2 && has_filter(join, i); half++)
			ref_plan->keys_sql[half] = keys_statement(join, ref, half);
		ref_plan->late_sql = late_statement(join, ref);
		if (ref->preserved)
		{
			ref_plan->null_check_sql = null_statement(join, base, i, SIDE_NEW, plan->with_time);
			ref_plan->null_sql = null_statement(join, base, i, SIDE_CLOSING, plan->with_time);
		}
		plan->refs = lappend(plan->refs, ref_plan);
	}
	for (int i = 0; i < list_length(join->outers); i++)
		plan->marks = lappend(plan->marks, mark_statement(join, i, in_rows));
	return rows;
}
