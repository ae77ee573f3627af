/*
 * statement.h
 *		A statement of a continuous query with its saved plans.
 *
 * A plan is kept per class of batch size, because the right join method for a
 * few rows is wrong for thousands.  Plans are made when they are first needed and
 * go with the memory of the statement.
 */
#ifndef KS_STATEMENT_H
#define KS_STATEMENT_H

#include "catalog/query_cat.h"
#include "executor/spi.h"
#include "tcop/dest.h"

typedef enum KsPlanClass
{
	KS_PLAN_SMALL,
	KS_PLAN_LARGE,
	KS_PLAN_CLASSES
} KsPlanClass;

typedef struct KsStatement
{
	const KsQueryRow *query;
	const char *sql;
	int			stream_scans;	/* at most so many in a plan */
	int			nargs;
	Oid			argtypes[7];
	SPIPlanPtr	plans[KS_PLAN_CLASSES];
	MemoryContextCallback callback; /* frees the plans with the memory, after an error too */
} KsStatement;

/* Makes a statement in the current context; nargs types follow. */
extern KsStatement *ks_statement_create(const KsQueryRow *query, const char *sql, int stream_scans,
										int nargs, const Oid *argtypes);

/* Frees the plans, so that they are made anew. */
extern void ks_statement_forget_plans(KsStatement *statement);

/* What begins the struct of a receiver that does nothing but take rows. */
extern DestReceiver ks_row_receiver(bool (*receive) (TupleTableSlot *slot, DestReceiver *self));

/*
 * Runs it over about so many rows of the batch; rows go to dest, or to SPI where
 * that is NULL.  SPI is connected.  Returns the number of rows.
 */
extern uint64 ks_statement_run(KsStatement *statement, int nrows, const Datum *values, DestReceiver *dest);

#endif							/* KS_STATEMENT_H */
