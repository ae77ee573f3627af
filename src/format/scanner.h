/*
 * scanner.h
 *		The JSON scanner in a memory context.
 */
#ifndef KS_SCANNER_H
#define KS_SCANNER_H

#include "postgres.h"
#include "format/json_scan.h"

/* Makes a scanner that goes with the current memory context. */
extern KsJsonScanner *ks_scanner_create(void);

/* Asks for a field of the document by the name of a column; returns the slot. */
extern int	ks_scanner_add_name(KsJsonScanner *scanner, const char *name);

/* Asks for the value at a path; raises an error if the path is malformed. */
extern int	ks_scanner_add_path(KsJsonScanner *scanner, const char *path,
								const char *column);

#endif							/* KS_SCANNER_H */
