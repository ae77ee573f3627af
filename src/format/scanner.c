/*
 * scanner.c
 *		The JSON scanner in a memory context: what json_scan.cpp, which knows
 *		nothing of PostgreSQL, needs to be used from it.
 */
#include "postgres.h"

#include "format/encoding.h"
#include "format/scanner.h"
#include "utils/memutils.h"

/* Raises the error for a scanner that got no memory. */
static void
out_of_memory(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_OUT_OF_MEMORY),
			 errmsg("out of memory")));
}

/* Frees a scanner when its memory context goes. */
static void
free_scanner(void *arg)
{
	ks_json_scanner_free((KsJsonScanner *) arg);
}

/* See scanner.h. */
KsJsonScanner *
ks_scanner_create(void)
{
	MemoryContextCallback *callback = palloc0(sizeof(MemoryContextCallback));
	KsJsonScanner *scanner = ks_json_scanner_new();

	if (scanner == NULL)
		out_of_memory();
	callback->func = free_scanner;
	callback->arg = scanner;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
	return scanner;
}

/* Adds steps, whose names are text of the database. */
static int
add_steps(KsJsonScanner *scanner, KsJsonStep *steps, int nsteps)
{
	int			slot;

	for (int i = 0; i < nsteps; i++)
	{
		if (steps[i].name != NULL)
			steps[i].name = ks_server_to_utf8(steps[i].name, steps[i].len, &steps[i].len);
	}
	slot = ks_json_scanner_add(scanner, steps, nsteps);
	if (slot < 0)
		out_of_memory();
	return slot;
}

/* See scanner.h. */
int
ks_scanner_add_name(KsJsonScanner *scanner, const char *name)
{
	KsJsonStep	step = {name, strlen(name), 0};

	return add_steps(scanner, &step, 1);
}

/* See scanner.h. */
int
ks_scanner_add_path(KsJsonScanner *scanner, const char *path, const char *column)
{
	KsJsonStep	steps[KS_JSON_PATH_MAX_STEPS];
	const char *reason;
	int			nsteps = ks_json_path_parse(path, steps, palloc(strlen(path) + 1), &reason);

	if (nsteps < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid path \"%s\" for column \"%s\"", path, column),
				 errdetail("In a path, %s.", reason),
				 errhint("A path looks like a.b[0].c; names with other characters go in double quotes.")));
	return add_steps(scanner, steps, nsteps);
}
