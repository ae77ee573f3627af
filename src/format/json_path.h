/*
 * json_path.h
 *		The column option "path": a.b[0].c
 *
 * Knows nothing of PostgreSQL, so that it can be fuzzed stand-alone.
 */
#ifndef KS_JSON_PATH_H
#define KS_JSON_PATH_H

#include <stddef.h>

#ifdef __cplusplus
extern "C"
{
#endif

#define KS_JSON_PATH_MAX_STEPS 32
#define KS_JSON_PATH_MAX_INDEX 1000000

/* One step: a field of an object, or an element of an array. */
typedef struct KsJsonStep
{
	const char *name;			/* not NUL-terminated; NULL: an array element */
	size_t		len;
	long		index;			/* of an array element, from 0 */
} KsJsonStep;

/*
 * Takes a path apart into at most KS_JSON_PATH_MAX_STEPS steps and returns
 * their number, or -1 with a reason.  A name may be put in double quotes (a
 * quote inside is doubled).  Names are written to buf, which must have the
 * size of the path.
 */
extern int	ks_json_path_parse(const char *path, KsJsonStep *steps, char *buf,
							   const char **reason);

#ifdef __cplusplus
}
#endif

#endif							/* KS_JSON_PATH_H */
