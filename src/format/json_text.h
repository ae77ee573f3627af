/*
 * json_text.h
 *		Pieces of JSON text: strings without escapes, numbers, elements, fields.
 *
 * Knows nothing of PostgreSQL, so that it can be fuzzed stand-alone.  All but
 * the two checks may assume text that json_scan has accepted.
 */
#ifndef KS_JSON_TEXT_H
#define KS_JSON_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C"
{
#endif

struct KsJsonToken;

typedef enum KsJsonTextStatus
{
	KS_JSON_TEXT_OK,
	KS_JSON_TEXT_NUL,			/* \u0000, which no text value can hold */
	KS_JSON_TEXT_SURROGATE		/* half of a surrogate pair */
} KsJsonTextStatus;

/* Is this a number of JSON? */
extern bool ks_json_number_valid(const char *str, size_t len);

/* Are all backslashes of a string (without its quotes) those of JSON? */
extern bool ks_json_escapes_valid(const char *str, size_t len);

/*
 * Writes a string (without its quotes) to out, escapes resolved, as UTF-8; out
 * must have len bytes.  The escapes must have been found valid.
 */
extern KsJsonTextStatus ks_json_unescape(const char *str, size_t len, char *out,
										 size_t *outlen);

/* Walks over the elements of an array or the fields of an object. */
typedef struct KsJsonIter
{
	const char *pos;
	const char *end;
} KsJsonIter;

extern void ks_json_iter_init(KsJsonIter *iter, const struct KsJsonToken *container);

/* Next element of an array; false at the end. */
extern bool ks_json_next_element(KsJsonIter *iter, struct KsJsonToken *value);

/* Next field of an object; the key is a string token, quotes included. */
extern bool ks_json_next_field(KsJsonIter *iter, struct KsJsonToken *key,
							   struct KsJsonToken *value);

/*
 * True if PostgreSQL's jsonb takes the text for sure: no \u escape, no number
 * of extreme size, no deep nesting.  False says nothing.
 */
extern bool ks_json_text_tame(const char *str, size_t len);

#ifdef __cplusplus
}
#endif

#endif							/* KS_JSON_TEXT_H */
