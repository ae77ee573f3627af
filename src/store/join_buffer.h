/*
 * join_buffer.h
 *		The buffers of joins of streams: tables kstream_state.j_<query>_<n>.
 *
 * A buffer holds the rows of one stream of a join until their close.  Buffers
 * are found by name, not through the catalog.
 */
#ifndef KS_JOIN_BUFFER_H
#define KS_JOIN_BUFFER_H

#include "postgres.h"
#include "nodes/pg_list.h"

/* A buffer of the query, numbered from 0; an error if it is missing. */
extern Oid	ks_join_buffer(int32 query, int buffer);

/* All buffers of the query (oid list). */
extern List *ks_join_buffers(int32 query);

#endif							/* KS_JOIN_BUFFER_H */
