/*
 * state_ddl.h
 *		Pieces for creating tables of ours, see state_ddl.c.
 */
#ifndef KS_STATE_DDL_H
#define KS_STATE_DDL_H

#include "catalog/query_cat.h"
#include "lib/stringinfo.h"
#include "plan/compile.h"

/* Runs a utility statement of ours as the extension's owner. */
extern void ks_run_ddl(const char *sql);

/* Appends "name type COLLATE x" for a column. */
extern void ks_append_column(StringInfo sql, const char *name, Oid type, int32 typmod, Oid collation);

/* Makes a hidden table part of the result: same owner, dropped with it, guarded. */
extern Oid	ks_adopt_table(const char *name, const KsQueryRow *row);

/* Raises an error unless what was created for the query is what it needs now. */
extern void ks_check_state(KsAnalysis *analysis, const KsPlan *plan, const KsQueryRow *row);

#endif							/* KS_STATE_DDL_H */
