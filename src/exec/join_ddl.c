/*
 * join_ddl.c
 *		Creating the buffers of joins of streams.
 *
 * A buffer (kstream_state.j_<query>_<n>) keeps the columns of a stream that the
 * query reads, as c<attribute number>, and what the join needs of every record:
 * _event_time, _stream_time, _partition, _offset, _matched (by an outer join that
 * keeps its rows) and _half: it is partitioned into two halves, see join_halves.c.
 * An index finds partners by keys and event time; where an outer join keeps the
 * rows, one by event time, partition and offset finds what the watermark has passed.  A row that no partner can
 * be found for need not have keys that can be computed: the index leaves it out.
 *
 * Runs in: any backend, inside a transaction with SPI.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "rewrite/rewriteManip.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"

#include "catalog/cat_util.h"
#include "catalog/names.h"
#include "exec/join.h"
#include "exec/state_ddl.h"
#include "store/join_buffer.h"

/* Attribute number in the buffer of a column of the stream; as the sub-select over it has them (join_sql.c). */
static AttrNumber
buffer_attnum(const KsJoinRef *ref, AttrNumber attnum)
{
	const AttrNumber *meta = ref->def->meta;
	AttrNumber	first = bms_num_members(ref->columns) + 1;

	if (attnum == meta[KS_META_STREAM_TIME])
		return first + KS_BUFFER_STREAM_TIME;
	if (attnum == meta[KS_META_PARTITION])
		return first + KS_BUFFER_PARTITION;
	if (attnum == meta[KS_META_OFFSET])
		return first + KS_BUFFER_OFFSET;
	return bms_num_members(ref->columns) - bms_num_members(bms_difference(ref->columns,
																		  bms_add_range(NULL, 0, attnum)));
}

/* Walker that turns Vars of the stream into those of the buffer. */
static bool
number_vars(Node *node, const KsJoinRef *ref)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;

		var->varattno = var->varattnosyn = buffer_attnum(ref, var->varattno);
		return false;
	}
	return expression_tree_walker(node, number_vars, (void *) ref);
}

/*
 * deparse_for_buffer
 *		An expression over the stream as SQL over the buffer; with the casts that
 *		make its type, and the names as ks_run_ddl finds them.
 */
static char *
deparse_for_buffer(const KsJoin *join, const KsJoinRef *ref, Node *expr)
{
	List	   *context = deparse_context_for(ks_join_buffer_name(join->id, ref->buffer),
											  ks_join_buffer(join->id, ref->buffer));
	int			nestlevel = ks_set_catalog_path();
	char	   *sql;

	expr = copyObject(expr);
	(void) number_vars(expr, ref);
	sql = deparse_expression(expr, context, false, true);
	AtEOXact_GUC(true, nestlevel);
	return sql;
}

/* The index by keys and event time, which is followed by what is given. */
static char *
key_index(const KsJoin *join, const KsJoinRef *ref, const char *rest)
{
	StringInfoData sql;
	ListCell   *lc;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE INDEX ON kstream_state.%s (", ks_join_buffer_name(join->id, ref->buffer));
	foreach(lc, ref->keys)
	{
		KsJoinKey  *key = lfirst(lc);

		if (foreach_current_index(lc) == KS_JOIN_MAX_KEYS)
			break;
		appendStringInfo(&sql, "(%s)", deparse_for_buffer(join, ref, key->expr));
		if (OidIsValid(key->collation))
			appendStringInfo(&sql, " COLLATE %s", ks_collation_name(key->collation));
		appendStringInfoString(&sql, ", ");
	}
	appendStringInfo(&sql, "_event_time%s)", rest);
	foreach(lc, ks_join_key_guards(ref))
		appendStringInfo(&sql, "%s (%s)", foreach_current_index(lc) == 0 ? " WHERE" : " AND",
						 deparse_for_buffer(join, ref, lfirst(lc)));
	return sql.data;
}

/* Creates the halves of a buffer.  They are emptied as a whole: nothing to vacuum. */
static void
create_halves(const KsJoin *join, const KsJoinRef *ref, const KsQueryRow *row)
{
	for (int half = 0; half < 2; half++)
	{
		char	   *name = ks_join_half_name(join->id, ref->buffer, half);

		ks_run_ddl(psprintf("CREATE TABLE kstream_state.%s PARTITION OF kstream_state.%s FOR VALUES IN (%s)"
							" WITH (fillfactor = %d, autovacuum_vacuum_insert_threshold = -1)",
							name, ks_join_buffer_name(join->id, ref->buffer), half == 0 ? "false" : "true",
							ref->preserved ? 85 : 100));
		(void) ks_adopt_table(name, row);
	}
}

/* Creates one buffer. */
static void
create_buffer(const KsJoin *join, const KsJoinRef *ref, const KsQueryRow *row)
{
	const char *places = ", _partition, _offset";
	char	   *name = ks_join_buffer_name(join->id, ref->buffer);
	StringInfoData sql;
	int			attnum = -1;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE TABLE kstream_state.%s (", name);
	while ((attnum = bms_next_member(ref->columns, attnum)) >= 0)
	{
		const KsColumnDef *column = &ref->def->columns[attnum - 1];

		ks_append_column(&sql, ks_join_column_name(attnum), column->typid, column->typmod, column->collation);
		appendStringInfoString(&sql, ", ");
	}
	appendStringInfoString(&sql, "_event_time timestamptz, _stream_time timestamptz, _partition int4, _offset int8,"
						   " _matched bool, _half bool) PARTITION BY LIST (_half)");
	ks_run_ddl(sql.data);
	(void) ks_adopt_table(name, row);
	create_halves(join, ref, row);
	/* functions in the expressions of an index are called as the owner of its table */
	ks_run_ddl(key_index(join, ref, ref->preserved && ref->keys == NIL ? places : ""));
	if (ref->preserved && ref->keys != NIL)
		ks_run_ddl(psprintf("CREATE INDEX ON kstream_state.%s (_event_time%s)", name, places));
}

/* See join.h. */
void
ks_join_create_buffers(const KsJoin *join, const KsQueryRow *row)
{
	for (int i = 0; i < join->nrefs; i++)
	{
		if (join->refs[i].buffered)
			create_buffer(join, &join->refs[i], row);
	}
}
