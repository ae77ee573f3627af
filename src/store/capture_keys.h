/*
 * capture_keys.h
 *		Sets of record keys, by their hashes.
 */
#ifndef KS_CAPTURE_KEYS_H
#define KS_CAPTURE_KEYS_H

#include "postgres.h"

typedef struct KsKeyEntry
{
	uint64		hash;
	uint32		firing;			/* capture_trigger.c: who has added it last */
	char		status;
} KsKeyEntry;

#define SH_PREFIX keyset
#define SH_ELEMENT_TYPE KsKeyEntry
#define SH_KEY_TYPE uint64
#define SH_KEY hash
#define SH_HASH_KEY(tb, key) ((uint32) ((key) ^ ((key) >> 32)))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

#endif							/* KS_CAPTURE_KEYS_H */
