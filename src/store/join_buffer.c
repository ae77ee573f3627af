/*
 * join_buffer.c
 *		Finding the buffers of joins of streams.
 *
 * Runs in: any backend, in a transaction.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "utils/lsyscache.h"

#include "plan/join.h"
#include "store/join_buffer.h"

/* The table of ours with that name, or InvalidOid. */
static Oid
find_table(const char *name)
{
	Oid			schema = get_namespace_oid("kstream_state", true);

	return OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
}

/* The table of ours with that name; an error if it is missing. */
static Oid
need_table(const char *name)
{
	Oid			relid = find_table(name);

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("buffer \"%s\" of a continuous query does not exist", name),
				 errhint("Drop the relation and create its query anew.")));
	return relid;
}

/* See join_buffer.h. */
Oid
ks_join_buffer(int32 query, int buffer)
{
	return need_table(ks_join_buffer_name(query, buffer));
}

/* See join_buffer.h. */
Oid
ks_join_half(int32 query, int buffer, int half)
{
	return need_table(ks_join_half_name(query, buffer, half));
}

/* See join_buffer.h. */
List *
ks_join_buffers(int32 query)
{
	List	   *result = NIL;

	for (int i = 0;; i++)
	{
		Oid			relid = find_table(ks_join_buffer_name(query, i));

		if (!OidIsValid(relid))
			return result;
		result = lappend_oid(result, relid);
		for (int half = 0; half < 2; half++)
		{
			relid = find_table(ks_join_half_name(query, i, half));
			if (OidIsValid(relid))
				result = lappend_oid(result, relid);
		}
	}
}
