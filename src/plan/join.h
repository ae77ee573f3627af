/*
 * join.h
 *		Joins of streams with each other, bounded in event time.
 *
 * ks_join_analyze (join.c) finds the streams that a query joins, the bounds on
 * their event times and the keys; ks_join_compile (join_sql.c) makes the
 * statements a batch runs.  See there for the idea.
 */
#ifndef KS_JOIN_H
#define KS_JOIN_H

#include "catalog/query_cat.h"
#include "catalog/stream_def.h"
#include "nodes/bitmapset.h"
#include "nodes/parsenodes.h"

/* Most streams in one join: each more doubles the number of statements. */
#define KS_JOIN_MAX 5

/* A place where the query names a stream. */
typedef struct KsJoinRef
{
	int			number;			/* from 0, in the order of FROM */
	char	   *name;			/* its alias, for messages */
	Oid			stream;
	KsStreamDef *def;
	int			component;		/* number of the join it takes part in */
	bool		buffered;		/* joined with another: its rows are kept until their close */
	int			buffer;			/* number of its buffer, from 0 */
	bool		preserved;		/* an outer join keeps its rows */
	int64		wait;			/* greatest bound, in microseconds: close = event time + wait + grace */
	Bitmapset  *columns;		/* attribute numbers the query reads */
	List	   *keys;			/* KsJoinKey * */
	List	   *filters;		/* Node *: conditions on this stream alone, over Vars with varno 1 */
	List	   *guards;			/* Node *: all that every match must fulfil of such, those in filters too */
	List	   *parts;			/* Node *: what the bounds compute of this stream alone, over the same Vars */
} KsJoinRef;

/* What a stream is found by: an expression over Vars with varno 1. */
typedef struct KsJoinKey
{
	Node	   *expr;
	Oid			collation;
} KsJoinKey;

/* An equality of text of two streams that is one of bytes; expressions over Vars with varno 1. */
typedef struct KsJoinText
{
	int			refs[2];
	Node	   *exprs[2];
	Oid			opno;
} KsJoinText;

/* An outer join of two streams. */
typedef struct KsJoinOuter
{
	int			left;			/* number of the stream on its left */
	int			right;
	JoinType	type;
} KsJoinOuter;

typedef struct KsJoin
{
	Query	   *query;			/* the whole query, views and WITH put in their places */
	int			nrefs;
	KsJoinRef  *refs;
	List	   *components;		/* Bitmapset *: streams joined with each other; rows of different ones add up */
	List	   *outers;			/* KsJoinOuter * */
	List	   *texts;			/* KsJoinText * */
	int64	   *bounds;			/* [i * nrefs + j]: greatest event time of j minus that of i */
	int32		id;				/* of the query, for the names of its buffers */
	int64		grace;			/* in microseconds */
	bool		watermark_is_late;	/* what the watermark has passed the close of is late, and meets no other */
} KsJoin;

/* No bound. */
#define KS_JOIN_UNBOUNDED PG_INT64_MAX

/*
 * Columns of a buffer after those it keeps of the stream (c<attribute number>).
 * The same are the first columns of the statement that fills it; it goes on with
 * the keys of variable length.
 */
typedef enum KsBufferColumn
{
	KS_BUFFER_EVENT_TIME,
	KS_BUFFER_STREAM_TIME,
	KS_BUFFER_PARTITION,
	KS_BUFFER_OFFSET,
	KS_BUFFER_MATCHED,			/* an outer join keeps the row, and it has met another */
	KS_BUFFER_HALF,				/* of the buffer */
	KS_BUFFER_COLUMNS
} KsBufferColumn;

/* Statements of one stream of the join. */
typedef struct KsJoinRefPlan
{
	int			ref;
	int			ncolumns;		/* kept of the stream */
	int			nkeys;			/* columns after those of the buffer: keys whose length is checked;
								 * what follows is only computed */
	char	   *fill_sql;		/* rows of the batch for the buffer */
	char	   *late_sql;		/* (_partition, _offset, close) of late records */
	char	   *null_check_sql; /* null rows of the batch, as a test; NULL: keeps no rows */
	char	   *null_sql;		/* null rows of the buffer up to event time $1, after $2 */
} KsJoinRefPlan;

/* One side of a match, as the statements return it. */
#define KS_MATCH_COLUMNS 4		/* _row tid (NULL: of the batch, or known to have met), _half, _partition, _offset */

/* Marks the matches of an outer join: left and right side, KS_MATCH_COLUMNS each. */
typedef struct KsJoinMarkPlan
{
	KsJoinOuter *outer;
	char	   *sql;			/* NULL: the row statement's last columns */
	int			scans;
} KsJoinMarkPlan;

typedef struct KsJoinPlan
{
	bool		with_time;		/* set before: a column with the row's event time follows those of base */
	int			scans;			/* how often the row statement reads streams */
	List	   *refs;			/* KsJoinRefPlan *: buffered streams */
	List	   *marks;			/* KsJoinMarkPlan * */
} KsJoinPlan;

/* The query (a copy of it) with views that read streams and WITH put in their places. */
extern Query *ks_join_flatten(Query *query);

/* NULL if the query joins no streams.  query: of ks_join_flatten; refuses with 0A000. */
extern KsJoin *ks_join_analyze(Query *query);

/*
 * The row statement of base, which is join->query or a copy of it with another
 * target list; fills plan.  The buffers exist.  Statements over the batch have the
 * watermark before it as $1 if join->watermark_is_late.
 */
extern char *ks_join_compile(KsJoin *join, Query *base, KsJoinPlan *plan);

/* A statement over streams, in terms of SQL, as base for ks_join_compile: it may wrap join->query. */
extern Query *ks_join_base(const char *sql);

/* Name of a buffer, in schema kstream_state; a query's are numbered from 0. */
extern char *ks_join_buffer_name(int32 query, int buffer);
/* Name of one of the two halves (0, 1) of a buffer. */
extern char *ks_join_half_name(int32 query, int buffer, int half);

/* The event time of a row of the stream as an SQL expression; alias: qualifies the columns. */
extern char *ks_join_event_time(const KsJoinRef *ref, const char *alias);

/* The name a column of the stream has in the buffer. */
extern char *ks_join_column_name(AttrNumber attnum);

/* An interval of so many microseconds as an SQL expression. */
extern char *ks_join_interval(int64 microseconds);

#endif							/* KS_JOIN_H */
