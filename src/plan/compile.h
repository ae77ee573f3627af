/*
 * compile.h
 *		A continuous query compiled to SQL statements and native operators.
 *
 * The compiled text is never stored: it is made anew from the stored view when
 * a task is opened, so that renames and pg_upgrade need no care.
 */
#ifndef KS_COMPILE_H
#define KS_COMPILE_H

#include "plan/analyze.h"
#include "plan/join.h"
#include "exec/aggstate.h"
#include "nodes/primnodes.h"

/* Name under which touched groups are shown to the final statement. */
#define KS_GROUPS_RELATION "kstream_groups"

typedef struct KsPlanAgg
{
	Aggref	   *aggref;
	KsAggKind	kind;
	int			nargs;
	int		   *argcols;		/* columns of the row statement, from 0 */
	int			filtercol;		/* column of FILTER's condition, or -1 */
} KsPlanAgg;

/* A result column that is simply a group key or an aggregate. */
typedef struct KsPlanOutput
{
	bool		is_key;
	int			index;
} KsPlanOutput;

typedef struct KsPlan
{
	KsQueryKind kind;
	char	   *row_sql;		/* the row-wise part, over the batch */
	int			nout;			/* columns of the result, junk left out */

	KsJoinPlan *join;			/* statements of a join of streams, or NULL */
	bool		record_by_record;	/* run row_sql for each record alone, to keep their order */

	bool		wants_time;		/* the event time of each row has to be known */
	int			time;			/* join of streams: the column it is in, or -1: it is that of the record */
	bool		wants_origin;	/* the record that each row comes from has to be known, for windows too ... */
	int			origin;			/* ... first of the columns of KsOriginColumn, or -1: run record by record */

	/* Rows that go to a stream. */
	AttrNumber *attnums;		/* [nout] column of the stream for each one of the result, 0: none */
	List	   *casts;			/* Expr *, one for each: makes the value from the row (Var 1), or NULL: as it is */
	bool		carry_key;		/* the record's key is that of the record it comes from */

	/* Aggregates only.  Columns of the row statement: keys first, then inputs. */
	int			nkeys;
	Oid		   *key_types;
	int32	   *key_typmods;
	Oid		   *key_collations;
	int			ninputs;
	Oid		   *input_types;
	Oid		   *input_collations;
	int			naggs;
	KsPlanAgg  *aggs;
	bool		keep_inputs;
	KsWindowKind window;
	int			window_key;
	KsPlanOutput *outputs;		/* nout entries, or NULL: final_sql computes them */
	char	   *final_sql;		/* over KS_GROUPS_RELATION (k1.., a1.., g); its last column is g */
	char	   *recompute_sql;	/* of one group, from kept inputs: $1 = group id, $2.. = keys */
} KsPlan;

/*
 * query: its id and the table of kept inputs are used, which may be missing so far.
 * wants_time: the event time of each row has to be known.
 */
extern KsPlan *ks_compile(KsAnalysis *analysis, const KsQueryRow *query, bool wants_time);

/* The plan of a row-wise query whose rows go to the stream that is its relation. */
extern KsPlan *ks_compile_stream(KsAnalysis *analysis, const KsQueryRow *query);

/* Prepares the plan of a join of streams, whose nout and wants_time are known. */
extern void ks_compile_join(KsAnalysis *analysis, const KsQueryRow *query, KsPlan *plan);

/* The row statement of a KTable: its columns, then _tombstone. */
extern char *ks_compile_source(Oid source, Oid relation);

#endif							/* KS_COMPILE_H */
