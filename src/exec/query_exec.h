/*
 * query_exec.h
 *		A continuous query ready to process batches.
 */
#ifndef KS_QUERY_EXEC_H
#define KS_QUERY_EXEC_H

#include "catalog/owner.h"
#include "catalog/query_cat.h"
#include "store/late_record.h"

typedef struct KsQueryExec KsQueryExec;

/* A record the query could not process. */
typedef struct KsBadRow
{
	KsBatch    *batch;
	int			row;
	int			sqlstate;
	char	   *message;
} KsBadRow;

typedef struct KsExecResult
{
	int64		rows_out;
	List	   *bad;			/* KsBadRow * */
	List	   *late;			/* KsLateRow *, each once */
} KsExecResult;

/* Compiles and prepares the query; in a transaction, in the current context. */
extern KsQueryExec *ks_exec_open(const KsQueryRow *query);
extern void ks_exec_close(KsQueryExec *exec);

/*
 * Processes the rows of the batches (their window first..last) in the current
 * transaction, as the owner of the result.  Bad records are left out and
 * returned; any other error is raised.  Result memory is in the current context.
 */
extern void ks_exec_run(KsQueryExec *exec, List *batches, KsExecResult *result);

/*
 * Event time.  False: the query needs no watermark, and the rest is not called.
 * set_watermark: what the batches so far have closed by, before ks_exec_run.
 * close_windows: *dead becomes a list of KsDeadRecord *, in the current context.
 * next_close and close: see operator.h.
 */
extern bool ks_exec_needs_watermark(const KsQueryExec *exec);
extern void ks_exec_set_watermark(KsQueryExec *exec, TimestampTz watermark);
extern TimestampTz ks_exec_next_close(const KsQueryExec *exec);
extern int64 ks_exec_close_windows(KsQueryExec *exec, TimestampTz watermark, int limit, bool *more, List **dead);

/* Is the error one that a record can be guilty of? */
extern bool ks_may_be_a_records_fault(int sqlstate);

/* Writes what the result holds before any record: the row of a global aggregate. */
extern void ks_exec_start(KsQueryExec *exec);

/* Does it join streams with each other? */
extern bool ks_exec_joins_streams(const KsQueryExec *exec);

/* Relations other than streams that the query reads (oid list). */
extern List *ks_exec_lookups(const KsQueryExec *exec);

/*
 * Runs as the owner of the query's relation under the settings pinned with it,
 * until ks_owner_leave (catalog/owner.h).
 */
extern void ks_owner_enter(const KsQueryRow *query, KsOwnerScope *scope);

#endif							/* KS_QUERY_EXEC_H */
