/*
 * analyze.h
 *		What a continuous query may contain, and what kind of query it is.
 *
 * Looks at the stored view of a query (analysed by Postgres) and either refuses
 * it, with an error that names the construct and a hint, or tells the operators
 * that keep its table up to date.
 */
#ifndef KS_ANALYZE_H
#define KS_ANALYZE_H

#include "catalog/query_cat.h"
#include "nodes/parsenodes.h"

/* Windows that a query groups by. */
typedef enum KsWindowKind
{
	KS_WINDOW_NONE,
	KS_WINDOW_FIXED,			/* tumbling or hopping */
	KS_WINDOW_SESSION
} KsWindowKind;

/* Why what looks like a window is none. */
typedef enum KsWindowMistake
{
	KS_MISTAKE_NONE,
	KS_MISTAKE_OTHER_TIME,		/* over something other than the event time */
	KS_MISTAKE_SHIFTED,			/* over the event time as the session's time zone shifts it */
	KS_MISTAKE_NESTED,			/* inside an expression */
	KS_MISTAKE_MIXED			/* over joins of streams and other streams together */
} KsWindowMistake;

typedef struct KsAnalysis
{
	KsQueryKind kind;			/* KS_QUERY_APPEND or KS_QUERY_AGGREGATE */
	Query	   *query;			/* private copy of the view's query */
	List	   *streams;		/* oid list: the streams it reads, each once */
	List	   *lookups;		/* oid list: other relations it reads */
	int			stream_references;	/* how often it names a stream, through views and WITH too */
	struct KsJoin *join;		/* the streams it joins with each other, or NULL; then query has views in place */
	bool		may_reorder;	/* its joins may hand on records in another order than they came */
	bool		global;			/* aggregate without GROUP BY */
	List	   *group_exprs;	/* TargetEntry *: grouping expressions, in order */
	List	   *aggs;			/* Aggref *: distinct aggregate calls of target list and HAVING */
	List	   *agg_kinds;		/* int list, parallel to aggs: KsAggKind */
	bool		keep_inputs;	/* some aggregate's state cannot be saved */
	bool		state_is_visible;	/* the result table itself is the state */
	List	   *key_columns;	/* char *: result columns holding the group keys, in group order */
	/* event time, see window.h */
	KsWindowKind window;
	int			window_key;		/* which of group_exprs */
	int64		session_gap_us;
	int64		join_wait_us;	/* how long a record of the join waits at most, without grace */
	AttrNumber	time_column;	/* row-wise query: result column that is the event time, or 0 */
	bool		time_may_miss;	/* it is NULL where the record's own timestamp counts */
	KsWindowMistake mistake;	/* a grouping expression that looks like a window */
	const char *mistaken;		/* its function */
	bool		window_gaps;	/* kstream.hop whose windows do not meet */
} KsAnalysis;

/* Analyses (and refuses with 0A000) the query of a view, in the current context. */
extern KsAnalysis *ks_analyze_view(Oid view);

/* Does a query or range table entry read a stream anywhere, through views as well? */
extern bool ks_reads_stream(Node *node);

/* The query of a view as a private copy, WITH replaced by sub-queries; never to be executed. */
extern Query *ks_view_query_resolved(Oid view);

/*
 * Creates what the query needs beside its result table, which exists: the
 * unique index or PRIMARY KEY on the result (primary_key: list of char *, or
 * NIL: inferred), the state or inputs table (owned by the result's owner), the
 * first row of a global aggregate.  Fills key_columns, state and inputs of row.
 */
extern void ks_create_state(KsAnalysis *analysis, KsQueryRow *row, List *primary_key);

/* Empties result, state and inputs, for reset(); recreates a global aggregate's first row. */
extern void ks_clear_state(const KsQueryRow *row);

/* Readable plan for kstream.explain: operators and SQL statements, one text. */
extern char *ks_explain_query(const KsQueryRow *row);

#endif							/* KS_ANALYZE_H */
