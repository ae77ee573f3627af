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

/* The table with the name of the buffer, or InvalidOid. */
static Oid
find_buffer(int32 query, int buffer)
{
	Oid			schema = get_namespace_oid("kstream_state", true);

	return OidIsValid(schema) ? get_relname_relid(ks_join_buffer_name(query, buffer), schema) : InvalidOid;
}

/* See join_buffer.h. */
Oid
ks_join_buffer(int32 query, int buffer)
{
	Oid			relid = find_buffer(query, buffer);

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("buffer \"%s\" of a continuous query does not exist", ks_join_buffer_name(query, buffer)),
				 errhint("Drop the relation and create its query anew.")));
	return relid;
}

/* See join_buffer.h. */
List *
ks_join_buffers(int32 query)
{
	List	   *result = NIL;

	for (int i = 0;; i++)
	{
		Oid			relid = find_buffer(query, i);

		if (!OidIsValid(relid))
			return result;
		result = lappend_oid(result, relid);
	}
}
