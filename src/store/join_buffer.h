/*
 * join_buffer.h
 *		The buffers of joins of streams: tables kstream_state.j_<query>_<n>.
 *
 * A buffer holds the rows of one stream of a join until their close.  It has two
 * halves, j_<query>_<n>_0 and _1, so that what is closed is removed by truncating
 * one.  Buffers are found by name, not through the catalog.
 */
#ifndef KS_JOIN_BUFFER_H
#define KS_JOIN_BUFFER_H

#include "postgres.h"
#include "nodes/pg_list.h"

/* A buffer of the query, numbered from 0; an error if it is missing. */
extern Oid	ks_join_buffer(int32 query, int buffer);

/* One half (0, 1) of a buffer; an error if it is missing. */
extern Oid	ks_join_half(int32 query, int buffer, int half);

/* All tables of the buffers of the query, halves after the whole (oid list). */
extern List *ks_join_buffers(int32 query);

#endif							/* KS_JOIN_BUFFER_H */
