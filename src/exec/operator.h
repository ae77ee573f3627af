/*
 * operator.h
 *		What becomes of the rows of a query's row statement.
 *
 * A batch is processed in two phases.  First the row statement runs, inside a
 * subtransaction that writes nothing: the operator sees every row (add).  If a
 * record turns out to be bad, the attempt is thrown away and the phase starts
 * over without it.  Then the operator writes (apply).
 */
#ifndef KS_OPERATOR_H
#define KS_OPERATOR_H

#include "postgres.h"
#include "catalog/query_cat.h"
#include "executor/tuptable.h"
#include "plan/compile.h"
#include "store/dead_letter.h"
#include "store/late_record.h"

typedef struct KsOperator KsOperator;

struct KsOperator
{
	/* Starts an attempt; memory of the attempt is in cxt, reset by the caller. */
	void		(*begin) (KsOperator *op, MemoryContext cxt);
	/* Takes one row; errors other than those of check are not the row's alone. */
	void		(*add) (KsOperator *op, TupleTableSlot *slot);
	/* Raises an error if the row itself is to blame (a key too long for an index). */
	void		(*check) (KsOperator *op, TupleTableSlot *slot);
	bool		begin_to_check; /* check needs begin and finish around it, too */
	/* Like check, of whatever else is made of the records shown; NULL: nothing is. */
	void		(*check_records) (KsOperator *op);

	/*
	 * Where records that are good alone may fail together with those before them:
	 * mark: what is added from now on is the next record's; undo: takes that back.
	 * NULL: this operator cannot.
	 */
	void		(*mark) (KsOperator *op);
	void		(*undo) (KsOperator *op);
	/* Says in the message of an error of this attempt what it belongs to; NULL: nothing to say. */
	void		(*explain_error) (KsOperator *op, ErrorData *edata);

	/* Ends the first phase, before its subtransaction does. */
	void		(*finish) (KsOperator *op);
	/* Writes; returns the number of result rows written or deleted. */
	int64		(*apply) (KsOperator *op);

	/*
	 * Event time; NULL in an operator that needs no watermark.  next_close: the
	 * least watermark at which close has something to do (DT_NOEND: none); it is
	 * asked outside of transactions, too, and needs no snapshot.  close: does what
	 * is due at the watermark, about limit rows at most; *more: something due is
	 * left.  Returns the number of result rows written or deleted.  It may find bad
	 * records; with on_error = 'stop' it ends before the first one.
	 */
	TimestampTz (*next_close) (KsOperator *op);
	int64		(*close) (KsOperator *op, TimestampTz watermark, int limit, bool *more);
	List	   *dead;			/* KsDeadRecord *: the bad records that this close has found */
	TimestampTz watermark;		/* of the batches before this one; DT_NOBEGIN: none yet */

	List	   *late;			/* KsLateRow *, each once: what this attempt left out as late */
};

/* All in the current memory context, in a transaction, under the query's settings. */
extern KsOperator *ks_append_create(const KsQueryRow *query, const KsPlan *plan,
									KsAnalysis *analysis);
extern KsOperator *ks_aggregate_create(const KsQueryRow *query, const KsPlan *plan,
									   KsAnalysis *analysis);
extern KsOperator *ks_emit_create(const KsQueryRow *query, const KsPlan *plan);
extern KsOperator *ks_upsert_create(const KsQueryRow *query);

#endif							/* KS_OPERATOR_H */
