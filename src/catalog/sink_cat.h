/*
 * sink_cat.h
 *		Rows of kstream_catalog.sink and kstream_catalog.published as C structs.
 *
 * A sink puts the records of its outbox into a topic.  As in query_cat.h, the
 * functions act with the rights of the extension's owner, whoever calls.
 */
#ifndef KS_SINK_CAT_H
#define KS_SINK_CAT_H

#include "postgres.h"
#include "nodes/pg_list.h"

typedef enum KsSinkKind
{
	KS_SINK_STREAM,				/* what is inserted into a stream over a topic */
	KS_SINK_TABLE,				/* the changes of a result table: create_table_as(topic => ...) */
	KS_SINK_NAMED				/* the changes of any table: create_sink */
} KsSinkKind;

/* One half of an outbox. */
typedef struct KsOutboxHalf
{
	Oid			rows;
	Oid			segments;
} KsOutboxHalf;

typedef struct KsSinkRow
{
	int32		id;
	char	   *name;			/* of a named sink; NULL: it is called as the relation */
	KsSinkKind	kind;
	Oid			relation;		/* whose rows or changes are published */
	Oid			target;			/* foreign table that describes topic and format */
	KsOutboxHalf halves[2];
	int			half;			/* the half that is written now */
	bool		exactly_once;
	bool		debezium;		/* envelope */
	char	   *headers;		/* expression over the row, or NULL */
	List	   *settings;		/* char *: "name=value", pinned at creation */
	char	   *incarnation;	/* names transactions and positions in Kafka */
	bool		paused;
	char	   *instance;		/* ks_instance_id() of the database it publishes from */
	int32		generation;
	char	   *last_sqlstate;
	char	   *last_error;
	List	   *key_columns;	/* char *: of a table, what the record key is made of; NIL: none */
	char	   *topic;			/* of the target when the sink was made; filled in by ks_sink_insert */
	bool		changed_here;	/* by the transaction that looks: nobody else sees it yet */
} KsSinkRow;

/* How far a sink is known to have published. */
typedef struct KsPublished
{
	int64		position;		/* records [0, position) of the outbox are in the topic */
	int64		chain;			/* hash over all of them */
	int32		partitions;		/* of the topic, 0: not known yet */
	int64		shift;			/* position in Kafka less the one here */
	int64		in_doubt;		/* transactions whose result had to be asked for */
	char	   *resync;			/* what to do where database and topic differ, or NULL: stop */
	char	   *settles;		/* the word in the catalog that ks_published_store takes as settled, or NULL */
	int64		resync_end;		/* "continue": end of the outbox when that was said */
} KsPublished;

/* All in the current memory context; NULL if there is none. */
extern KsSinkRow *ks_sink_load(int32 id);
extern KsSinkRow *ks_sink_load_by_name(const char *name);
/* The sink that a stream's rows or a result table's changes go to (not a named one). */
extern KsSinkRow *ks_sink_load_by_relation(Oid relation);
/* The sink whose topic and formats the foreign table describes. */
extern KsSinkRow *ks_sink_load_by_target(Oid target);
extern List *ks_sinks_of_relation(Oid relation);	/* KsSinkRow *, named ones too */
extern List *ks_sink_ids(void); /* int list, ascending */

extern void ks_sink_insert(const KsSinkRow *row);
extern int32 ks_sink_choose_id(KsSinkRow *row); /* gives it a number, if it has none yet */
extern void ks_sink_delete(int32 id);
extern void ks_sink_set_paused(int32 id, bool paused);
extern void ks_sink_set_half(int32 id, int half);
/*
 * From now on published exactly, or at least, once.  Exactly once needs an
 * incarnation that has published nothing: what counts is the position stored
 * here, for the one in Kafka was noted now and then only.
 */
extern void ks_sink_set_guarantee(int32 id, bool exactly_once, const char *incarnation);
extern void ks_sink_set_error(int32 id, int sqlstate, const char *message);
extern void ks_sink_clear_error(int32 id);
extern void ks_sink_check_owner(const KsSinkRow *row);
extern char *ks_sink_display_name(const KsSinkRow *row);

extern bool ks_published_load(int32 sink, KsPublished *published);
extern void ks_sink_count_in_doubt(int32 sink);
extern void ks_published_store(int32 sink, const KsPublished *published);

#endif							/* KS_SINK_CAT_H */
