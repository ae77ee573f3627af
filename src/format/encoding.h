/*
 * encoding.h
 *		Text of records, which is UTF-8, and text of the database.
 */
#ifndef KS_ENCODING_H
#define KS_ENCODING_H

#include "postgres.h"

/* Is this UTF-8 that a text value can hold (no zero byte)? */
extern bool ks_utf8_valid(const char *str, size_t len);

/*
 * Converts valid UTF-8 to the encoding of the database.  *result is the input
 * itself where nothing is to be done, else palloc'd.  False, without an error,
 * if some character has no equivalent.
 */
extern bool ks_utf8_to_server(const char *str, size_t len, const char **result,
							  size_t *resultlen);

/* Converts text of the database to UTF-8; the result may be the input itself. */
extern const char *ks_server_to_utf8(const char *str, size_t len, size_t *resultlen);

/*
 * A piece of UTF-8 text (or of what should be) for a message: shortened, and
 * with everything but plain characters written as \xNN.
 */
extern char *ks_quote_excerpt(const char *str, size_t len);

/* A message without control characters and of bounded length. */
extern char *ks_clean_message(const char *message);

#endif							/* KS_ENCODING_H */
