/*
 * json_scan.h
 *		One pass over a JSON document: checks all of it, picks out some values.
 *
 * The C face of the only C++ file of the tree (json_scan.cpp, on libsimdjson).
 * Nothing here knows PostgreSQL, so that it can be fuzzed stand-alone, and no
 * C++ exception leaves it.  What is picked out are tokens: pieces of the text,
 * with every digit as it was sent; json_text.h has what can be done with them.
 */
#ifndef KS_JSON_SCAN_H
#define KS_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>

#include "format/json_path.h"

#ifdef __cplusplus
extern "C"
{
#endif

/* Documents nested deeper than this are refused. */
#define KS_JSON_MAX_DEPTH 512

typedef enum KsJsonKind
{
	KS_JSON_MISSING,			/* the document has no such field */
	KS_JSON_NULL,
	KS_JSON_FALSE,
	KS_JSON_TRUE,
	KS_JSON_NUMBER,
	KS_JSON_STRING,
	KS_JSON_ARRAY,
	KS_JSON_OBJECT
} KsJsonKind;

/* A value in the text, quotes or brackets included, white space around it not. */
typedef struct KsJsonToken
{
	KsJsonKind	kind;
	bool		escaped;		/* string (or document) with backslashes */
	const char *str;
	size_t		len;
} KsJsonToken;

typedef enum KsJsonStatus
{
	KS_JSON_OK,
	KS_JSON_MALFORMED,
	KS_JSON_NOT_UTF8,
	KS_JSON_TOO_DEEP,
	KS_JSON_TOO_BIG,
	KS_JSON_NO_MEMORY
} KsJsonStatus;

/* Where and why a document is malformed. */
typedef struct KsJsonFault
{
	const char *reason;			/* a constant string */
	size_t		offset;			/* in bytes from the start of the document */
} KsJsonFault;

typedef struct KsJsonScanner KsJsonScanner;

/* Makes a scanner; NULL if there is no memory.  Not from palloc: free it. */
extern KsJsonScanner *ks_json_scanner_new(void);
extern void ks_json_scanner_free(KsJsonScanner *scanner);

/*
 * Asks for the value at a path.  Returns the number of its slot (the same for
 * equal paths, counted from 0 in order of first use), -1 if there is no memory.
 */
extern int	ks_json_scanner_add(KsJsonScanner *scanner, const KsJsonStep *steps, int nsteps);

/* Number of slots that ks_json_scan fills. */
extern int	ks_json_scanner_nslots(const KsJsonScanner *scanner);

/*
 * Checks the document and sets root to the whole of it and slots to the values
 * asked for, which is only done for an object (the last of repeated fields
 * counts).  Tokens point into memory of the scanner, readable some bytes past
 * the end, and live until its next scan.
 */
extern KsJsonStatus ks_json_scan(KsJsonScanner *scanner, const char *doc, size_t len,
								 KsJsonToken *root, KsJsonToken *slots,
								 KsJsonFault *fault);

#ifdef __cplusplus
}
#endif

#endif							/* KS_JSON_SCAN_H */
