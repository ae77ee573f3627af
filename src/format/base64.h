/*
 * base64.h
 *		Base64 and hexadecimal text of bytes.
 *
 * Knows nothing of PostgreSQL, so that it can be fuzzed stand-alone.  (The
 * functions of the server take other types from one version to the next.)
 */
#ifndef KS_BASE64_H
#define KS_BASE64_H

#include <stdbool.h>
#include <stddef.h>

/* Most characters that len bytes take. */
#define KS_BASE64_LENGTH(len) (((len) + 2) / 3 * 4)

/* Writes KS_BASE64_LENGTH(len) characters. */
extern void ks_base64_encode(const unsigned char *bytes, size_t len, char *out);

/*
 * Writes at most len / 4 * 3 bytes; white space is skipped.  False if the text
 * is not base64, padding included.
 */
extern bool ks_base64_decode(const char *str, size_t len, unsigned char *out,
							 size_t *outlen);

/* Writes two characters for each byte. */
extern void ks_hex_encode(const unsigned char *bytes, size_t len, char *out);

/* Writes len / 2 bytes; false if the text is not hexadecimal. */
extern bool ks_hex_decode(const char *str, size_t len, unsigned char *out);

#endif							/* KS_BASE64_H */
