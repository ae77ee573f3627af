/*
 * query_cat.h
 *		Rows of kstream_catalog.query as C structs.
 *
 * Functions read and write with the rights of the extension's owner, whoever
 * calls; checking the caller's rights is the caller's work (ks_query_check_owner).
 */
#ifndef KS_QUERY_CAT_H
#define KS_QUERY_CAT_H

#include "postgres.h"
#include "catalog/cat_util.h"
#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

typedef enum KsQueryKind
{
	KS_QUERY_TABLE,				/* KTable read from a topic */
	KS_QUERY_GLOBAL_TABLE,
	KS_QUERY_APPEND,			/* row-wise query into an append-only table */
	KS_QUERY_AGGREGATE,			/* GROUP BY or a global aggregate */
	KS_QUERY_STREAM				/* row-wise query whose rows go to a stream */
} KsQueryKind;

typedef struct KsQueryRow
{
	int32		id;
	Oid			relation;		/* the table the query keeps up to date */
	KsQueryKind kind;
	Oid			view;			/* stored SELECT, or InvalidOid for a KTable */
	Oid			source;			/* hidden stream of a KTable, or InvalidOid */
	Oid			state;			/* state table, or InvalidOid: the relation is the state */
	Oid			inputs;			/* table of kept inputs, or InvalidOid */
	List	   *key_columns;	/* char *: key columns of the relation; NIL: none */
	char	   *version_column;
	char	   *start;			/* 'earliest', 'latest' or a timestamp */
	bool		stop_on_error;
	int			batch_rows;		/* 0: kstream.batch_rows */
	int			batch_interval_ms;	/* -1: kstream.batch_interval */
	List	   *settings;		/* char *: "name=value", pinned at creation */
	bool		paused;
	char	   *instance;		/* ks_instance_id() of the database it runs in */
	int32		generation;		/* raised by reset, resume and every change */
	char	   *last_sqlstate;
	char	   *last_error;
	char	   *name;			/* of one more query that feeds a stream; NULL: it is called as the relation */
	/* event time */
	int64		grace_us;
	int64		retention_us;	/* -1: for ever */
	bool		emit_final;
	int64		idle_timeout_us;
	bool		changed_here;	/* by the transaction that looks: nobody else sees it yet */
} KsQueryRow;

/* All in the current memory context.  load returns NULL if there is no such query. */
extern KsQueryRow *ks_query_load(int32 id);
extern KsQueryRow *ks_query_load_by_relation(Oid relation);	/* not one with a name of its own */
extern KsQueryRow *ks_query_load_by_name(const char *name);	/* one with a name of its own */
extern List *ks_query_feeders(Oid relation);	/* int list: all queries that write to it */
extern List *ks_query_ids(void);	/* int list, ascending */

/* Numbers of the queries that read the relation, through views as well. */
extern List *ks_query_readers(Oid relation);

extern int32 ks_object_id_next(void);
extern void ks_query_insert(const KsQueryRow *row);
extern void ks_query_delete(int32 id);	/* with positions, dead letters and the like */
extern void ks_query_set_paused(int32 id, bool paused);	/* also takes the instance over, clears the error */
extern void ks_query_reopen(int32 id);	/* its worker compiles it anew */
extern void ks_query_set_error(int32 id, int sqlstate, const char *message);
extern void ks_query_clear_error(int32 id);

/* Raises insufficient_privilege unless the caller owns the query's relation. */
extern void ks_query_check_owner(const KsQueryRow *row);

/* "system identifier/database oid": a restored or copied database has another. */
extern const char *ks_instance_id(void);

extern const char *ks_query_kind_name(KsQueryKind kind);
extern char *ks_query_display_name(const KsQueryRow *row);	/* its name, or the relation's as regclass prints it */

/* The table that users know the hidden source of a KTable by; any other relation: itself. */
extern Oid	ks_query_known_as(Oid relid);

/*
 * Lock that whoever runs batches of the query holds (worker: session level,
 * step and reset: to the end of the transaction).  Not in the space of SQL's
 * advisory locks.
 */
extern bool ks_query_lock(int32 id, bool session, bool wait);
extern void ks_query_unlock(int32 id);

#endif							/* KS_QUERY_CAT_H */
