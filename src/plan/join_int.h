/*
 * join_int.h
 *		What join.c and join_sql.c share: the levels of a query that read streams.
 */
#ifndef KS_JOIN_INT_H
#define KS_JOIN_INT_H

#include "base/compat.h"
#include "plan/join.h"

/* One SELECT of the query. */
typedef struct KsLevel
{
	Query	   *query;
	struct KsLevel *parent;
	int			parent_varno;	/* where it stands in the parent's range table */
	int			depth;
	int		   *refs;			/* [varno]: number of the stream there, or -1 */
	struct KsLevel **children;	/* [varno]: the sub-select there, or NULL */
	Bitmapset  *nulled;			/* varnos that an outer join of streams may put NULLs in the place of */
	Node	   *kept;			/* the side of an outer join that is being looked at, see join_outer.c */
} KsLevel;

/* Where a stream stands. */
typedef struct KsPlace
{
	KsLevel    *level;
	int			varno;
} KsPlace;

/* One side of an outer join of streams. */
typedef struct KsOuterSide
{
	JoinExpr   *join;
	bool		right;
} KsOuterSide;

/* A condition of the query. */
typedef struct KsConjunct
{
	KsLevel    *level;
	Node	   *expr;
	JoinExpr   *of;				/* the outer join of streams whose ON it stands in, or NULL */
	const KsOuterSide *inside;	/* the side of an outer join of streams it stands in, or NULL */
} KsConjunct;

/* An outer join of streams. */
typedef struct KsOuterPlace
{
	KsLevel    *level;
	JoinExpr   *join;
	int			left;
	int			right;
} KsOuterPlace;

typedef struct KsLevels
{
	KsLevel    *top;
	List	   *places;			/* KsPlace *, by number of the stream */
	List	   *conjuncts;		/* KsConjunct * */
	List	   *outers;			/* KsOuterPlace * */
	List	   *components;		/* Bitmapset * */
} KsLevels;

/* Walks a flattened query; numbers its streams in the order of FROM. */
extern KsLevels *ks_levels_of(Query *query);

/* A level under its parent, where it stands in the range table; nothing is known of its items. */
extern KsLevel *ks_level_make(Query *query, KsLevel *parent, int parent_varno);

/* Range table numbers of the items of FROM below a node of the join tree. */
extern Bitmapset *ks_entries_below(Node *node);

/* Raises the error for a construct that is not supported. */
extern void ks_join_refuse(const char *construct, const char *hint);

/*
 * The expression in terms of the streams: Vars whose varno is the number of a
 * stream plus 1.  NULL if it depends on anything else.  *nulled, unless NULL: does
 * it come through the side of an outer join of streams that may be NULL instead?
 */
extern Node *ks_level_resolve(KsLevel *level, Node *expr, bool *nulled);

/* A copy of a resolved expression over one stream, with its Vars numbered 1. */
extern Node *ks_join_alone(Node *expr, int ref);

/* The expression with an explicit COLLATE. */
extern Expr *ks_join_collate(Expr *expr, Oid collation);

/* Sets join->filters (join_filter.c); keys and conditions of all streams are known. */
extern void ks_join_add_filters(KsJoin *join);

/* The filter for new rows of one stream and the buffer of another, or NULL. */
extern const KsJoinFilter *ks_join_filter_for(const KsJoin *join, int tested, int buffered);

/*
 * since (timestamptz), but NULL if the buffer has no row with these keys from that
 * time on; keys: those of the row that is tested, in the order of the filter.
 */
extern Expr *ks_join_ask_filter(const KsJoin *join, const KsJoinFilter *filter, Expr *since, List *keys);

/* Takes the bounds that a resolved condition sets on event times into account; false: it sets none. */
extern bool ks_time_bound(KsJoin *join, Node *condition);

/* The column that is the event time of its stream. */
extern AttrNumber ks_event_time_column(const KsJoinRef *ref);

/* Notes a resolved condition that sets no bound; above: because it stands above an outer join. */
extern void ks_time_passed_over(KsJoin *join, Node *condition, bool above);

/* Raises the error for two streams without a bound. */
ks_noreturn extern void ks_time_refuse(KsJoin *join, int earlier, int later);

#endif							/* KS_JOIN_INT_H */
