/*
 * wait_targets.h
 *		What kstream.wait() waits for, and in which order.
 */
#ifndef KS_WAIT_TARGETS_H
#define KS_WAIT_TARGETS_H

#include "catalog/query_cat.h"

/* A place in a log that a query has to reach. */
typedef struct KsEnd
{
	Oid			source;
	int32		partition;
	int64		end;
	bool		reached;
} KsEnd;

/* A query or a sink that is waited for. */
typedef struct KsTarget
{
	int32		id;
	bool		is_sink;
	int			level;			/* targets of lower levels come first: they feed this one */
	Oid			relation;
	const char *name;
	List	   *ends;			/* query: KsEnd * */
	int64		end;			/* sink: position in its outbox */
	bool		reached;
} KsTarget;

/*
 * The targets of a query's relation, an insert_into query, a sink or a stream by
 * name (NULL: all that the caller sees): what feeds it, itself, and the sinks it
 * leads to.  Raises an error for a name that means nothing, or that the caller
 * may not wait for.
 */
extern List *ks_wait_targets(const char *name);

/* The greatest level among them. */
extern int	ks_wait_levels(List *targets);

/* The streams a query reads; KS002 with its name where its statement is refused by now. */
extern List *ks_wait_sources(const KsQueryRow *row);

#endif							/* KS_WAIT_TARGETS_H */
