/*
 * sink_guard.h
 *		What must not be done to a relation while a sink publishes it.
 */
#ifndef KS_SINK_GUARD_H
#define KS_SINK_GUARD_H

#include "postgres.h"
#include "catalog/sink_cat.h"
#include "nodes/nodes.h"
#include "utils/relcache.h"

/* What a command does to a relation, as far as it matters here. */
typedef struct KsAlteration
{
	List	   *columns;		/* char *: those renamed or dropped */
	bool		renames;		/* renamed */
	bool		triggers;		/* triggers are enabled or disabled */
} KsAlteration;

extern void ks_alteration_read(Node *parsetree, KsAlteration *alteration);

/* Came with a dump and was not resumed: indexes and triggers may not be there yet. */
extern bool ks_sink_is_restored(const KsSinkRow *sink);

/* Raises an error unless no two rows of the table can have the same record key; is_new: it is being created. */
extern void ks_sink_check_key(const KsSinkRow *sink, Relation rel, bool is_new);

/* Raises an error if the command has taken from the sink what it needs. */
extern void ks_sink_check_columns(const KsSinkRow *sink, const KsAlteration *alteration);
extern void ks_sink_check_headers(const KsSinkRow *sink, Relation rel, const KsAlteration *alteration);
extern void ks_sink_check_triggers(const KsSinkRow *sink, Relation rel);

/* Raises an error if the command has taken a column that an option of the stream names. */
extern void ks_stream_check_columns(Oid stream, const KsAlteration *alteration);

/*
 * Raises an error if the trigger is one of ours, and needed; verb: what is done to
 * it.  The relation need not be there any more.
 */
extern void ks_check_trigger_stays(Oid relation, const char *trigger, const char *verb);

/* Raises an error if a sink needs one of the indexes that DROP INDEX names. */
extern void ks_check_indexes_stay(Node *parsetree);

/* The foreign table of a sink was altered: refuses another topic, follows the guarantee. */
extern void ks_sink_follow_target(Oid target);

#endif							/* KS_SINK_GUARD_H */
