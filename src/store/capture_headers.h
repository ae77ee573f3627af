/*
 * capture_headers.h
 *		The headers of a sink's records: an SQL expression over the row.
 */
#ifndef KS_CAPTURE_HEADERS_H
#define KS_CAPTURE_HEADERS_H

#include "base/record.h"
#include "catalog/sink_cat.h"
#include "executor/tuptable.h"
#include "utils/relcache.h"

typedef struct KsHeaderExpr KsHeaderExpr;

/*
 * Prepares the expression of the sink, in the current context; an error if it is
 * none that can be evaluated for each row.  As the current user, who must be
 * allowed to call its functions.
 */
extern KsHeaderExpr *ks_header_expr_create(const char *text, Relation rel);

/* Sets the headers of the record, in the current context. */
extern void ks_header_expr_eval(KsHeaderExpr *expr, TupleTableSlot *row, KsRecord *rec);

extern void ks_header_expr_free(KsHeaderExpr *expr);

#endif							/* KS_CAPTURE_HEADERS_H */
