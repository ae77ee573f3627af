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

/* Keys that an index of a buffer takes; the last place is the event time's. */
#define KS_JOIN_MAX_KEYS (INDEX_MAX_KEYS - 1)

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

/* An equality of two streams by which they find each other. */
typedef struct KsJoinEquality
{
	int			refs[2];
	int			keys[2];		/* its sides: numbers of keys of the streams */
	Oid			opno;
	Oid			collation;
	bool		bytes;			/* its collation is not C, but bytes tell as well: the index is by them */
} KsJoinEquality;

/*
 * What tells, by equal keys and event time, that a row of one stream has no partner
 * in the buffer of another.  See join_filter.c.
 */
typedef struct KsJoinFilter
{
	int			number;			/* its place in KsJoin.filters */
	int			tested;			/* stream whose rows are tested */
	int			buffered;		/* stream whose buffer it is about */
	int			nkeys;
	int			tested_keys[KS_JOIN_MAX_KEYS];	/* numbers among the keys of each */
	int			buffered_keys[KS_JOIN_MAX_KEYS];
	Oid			collation;		/* of those keys that have one */
} KsJoinFilter;

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
	struct KsLevels *levels;	/* its levels */
	int			nrefs;
	KsJoinRef  *refs;
	List	   *components;		/* Bitmapset *: streams joined with each other; rows of different ones add up */
	List	   *outers;			/* KsJoinOuter * */
	List	   *equalities;		/* KsJoinEquality * */
	List	   *filters;		/* KsJoinFilter * */
	List	   *passed_over;	/* conditions that set no bound, see time_message.c */
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
 * the keys of the index.
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

/*
 * Rows s of a buffer that have met no other, after ($4, $5, $6) and up to ($1, $2, $3);
 * a place in the buffer is an event time, a partition and an offset.  The first two
 * conditions follow from the others: the planner knows better how few they leave.
 */
#define KS_BUFFER_RANGE \
	"s._event_time <= $1 AND s._event_time >= $4" \
	" AND (s._event_time, s._partition, s._offset) <= ($1, $2, $3)" \
	" AND (s._event_time, s._partition, s._offset) > ($4, $5, $6) AND NOT s._matched"
#define KS_BUFFER_PLACE_TYPES TIMESTAMPTZOID, INT4OID, INT8OID

/* Statements of one stream of the join. */
typedef struct KsJoinRefPlan
{
	int			ref;
	int			ncolumns;		/* kept of the stream */
	int			nkeys;			/* columns after those of the buffer: keys, which the row is found by;
								 * what follows is only computed */
	char	   *fill_sql;		/* rows of the batch for the buffer */
	char	   *keys_sql[2];	/* event time and keys of all rows in each half of the buffer; NULL: no
								 * filter is about it */
	char	   *late_sql;		/* (_partition, _offset, close) of late records */
	char	   *null_check_sql; /* null rows of the batch, as a test; NULL: keeps no rows */
	char	   *null_sql;		/* null rows of the buffer, of KS_BUFFER_RANGE */
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

/* Refuses outer joins whose null rows could not be told, as the tables they look up are now. */
extern void ks_join_check_outers(const KsJoin *join);

/* Can a hash join use all equalities by which the streams find each other? */
extern bool ks_join_can_hash(const KsJoin *join);

/* Warns of bounds that nothing fulfils. */
extern void ks_join_warn_of_bounds(const KsJoin *join);

/* Refuses a join that the current user, who will own the query, may not read. */
extern void ks_join_check_rights(const KsJoin *join);

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

/*
 * Conditions over Vars with varno 1, without which the keys of a row in the
 * buffer need not be computable: the index is only over rows that fulfil them.
 */
extern List *ks_join_key_guards(const KsJoinRef *ref);

/* The name a column of the stream has in the buffer. */
extern char *ks_join_column_name(AttrNumber attnum);

/* An interval of so many microseconds as an SQL expression. */
extern char *ks_join_interval(int64 microseconds);

#endif							/* KS_JOIN_H */
