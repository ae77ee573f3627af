/*
 * ddl_sink.h
 *		Creating, changing and dropping sinks: what is published to topics.
 */
#ifndef KS_DDL_SINK_H
#define KS_DDL_SINK_H

#include "postgres.h"
#include "catalog/query_cat.h"
#include "catalog/sink_cat.h"
#include "catalog/stream_def.h"
#include "lib/stringinfo.h"
#include "sql/sink_guard.h"
#include "utils/relcache.h"

/* What a new sink is to be, beside its row in the catalog. */
typedef struct KsSinkPlan
{
	char	   *server;
	char	   *topic;
	char	   *format;
	char	   *key_format;		/* NULL: what suits the key */
	int			partitions;		/* 0: the topic is there, or will be */
	bool		snapshot;
} KsSinkPlan;

/*
 * Creates a sink over the changes of a table; kind, relation, name, key columns
 * (NIL: none), envelope, headers and guarantee are given.  query: what keeps the
 * table up to date, or NULL.
 */
extern void ks_sink_create(KsSinkRow *sink, const KsSinkPlan *plan, const KsQueryRow *query);

/* Removes a sink with all that belongs to it and is still there. */
extern void ks_sink_drop(const KsSinkRow *sink);

/* Links the parts of a restored sink. */
extern void ks_relink_sink(const KsSinkRow *sink);

/* A published relation was altered: can it still be published?  Its parts get its owner. */
extern void ks_check_published(Oid relation, const KsAlteration *alteration);

/* Raises an error if the sink cannot publish its table as it is; not for one that was restored. */
extern void ks_sink_check(KsSinkRow *sink);

/* Appends what is published, and where to. */
extern void ks_explain_sink(StringInfo buf, const KsSinkRow *sink);

/* Topic and server of the sink. */
extern KsStreamDef *ks_sink_target(const KsSinkRow *sink);

#endif							/* KS_DDL_SINK_H */
