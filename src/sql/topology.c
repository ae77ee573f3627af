/*
 * topology.c
 *		kstream.topology: what flows where, as text, for Graphviz or for Mermaid.
 *
 * The graph has a node per topic, stream, table and other relation, and an edge
 * per reading and per publishing; only what is published leads to a topic.  It is built from the queries that the caller may see; with
 * a relation given, only from those that lead to it, or read it if it is a stream.
 *
 * Runs in: any backend.  Transaction: needed.
 */
#include "postgres.h"

#include "fmgr.h"
#include "foreign/foreign.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "catalog/stream_def.h"
#include "sql/ddl_sink.h"
#include "sql/ddl_util.h"
#include "sql/verbs.h"

typedef enum KsNodeKind
{
	NODE_TOPIC,
	NODE_STREAM,
	NODE_LOOKUP,				/* a relation that kstream does not maintain: looked up, or published */
	NODE_TABLE					/* one that it does */
} KsNodeKind;

typedef struct KsNode
{
	KsNodeKind	kind;
	Oid			relid;			/* InvalidOid for a topic */
	char	   *name;
	const char *detail;			/* kind of query, server of a topic; or NULL */
} KsNode;

typedef struct KsEdge
{
	int			from;
	int			to;
	bool		lookup;
} KsEdge;

typedef struct KsGraph
{
	List	   *nodes;			/* KsNode * */
	List	   *edges;			/* KsEdge * */
	List	   *done;			/* int list: queries in the graph */
} KsGraph;

static void add_query(KsGraph *graph, const KsQueryRow *row);

/* Number of the node, which is added if it is missing. */
static int
add_node(KsGraph *graph, KsNodeKind kind, Oid relid, char *name, const char *detail)
{
	KsNode	   *node;
	ListCell   *lc;

	foreach(lc, graph->nodes)
	{
		node = lfirst(lc);
		if (node->kind == kind && node->relid == relid && strcmp(node->name, name) == 0 &&
			(kind != NODE_TOPIC || strcmp(node->detail, detail) == 0))
			return foreach_current_index(lc);
	}
	node = palloc(sizeof(KsNode));
	node->kind = kind;
	node->relid = relid;
	node->name = name;
	node->detail = detail;
	graph->nodes = lappend(graph->nodes, node);
	return list_length(graph->nodes) - 1;
}

/* Adds an edge. */
static void
add_edge(KsGraph *graph, int from, int to, bool lookup)
{
	KsEdge	   *edge;
	ListCell   *lc;

	foreach(lc, graph->edges)
	{
		edge = lfirst(lc);
		if (edge->from == from && edge->to == to && edge->lookup == lookup)
			return;
	}
	edge = palloc(sizeof(KsEdge));
	edge->from = from;
	edge->to = to;
	edge->lookup = lookup;
	graph->edges = lappend(graph->edges, edge);
}

/* The node of a stream. */
static int
add_stream_node(KsGraph *graph, const KsStreamDef *def)
{
	return add_node(graph, NODE_STREAM, def->relid, def->relname, def->local ? "local" : NULL);
}

/* The topics that the relation of a node is published to. */
static void
add_sinks(KsGraph *graph, Oid relid, int node)
{
	ListCell   *lc;

	if (!ks_may_see_relation(relid))
		return;
	foreach(lc, ks_sinks_of_relation(relid))
	{
		KsStreamDef *def = ks_sink_target(lfirst(lc));

		add_edge(graph, node, add_node(graph, NODE_TOPIC, InvalidOid, def->topic,
									   GetForeignServer(def->serverid)->servername), false);
	}
}

/* The node a query reads: the topic of a stream, with the stream between unless it is hidden. */
static int
add_stream(KsGraph *graph, Oid relid, bool hidden)
{
	KsStreamDef *def = ks_stream_def_of(relid);
	int			topic = -1;
	int			stream;

	if (def->topic)
		topic = add_node(graph, NODE_TOPIC, InvalidOid, def->topic,
						 GetForeignServer(def->serverid)->servername);
	if (hidden)
		return topic;
	stream = add_stream_node(graph, def);
	if (topic >= 0)
		add_edge(graph, topic, stream, false);
	return stream;
}

/* A looked-up relation; if kstream maintains it, with all that leads to it. */
static int
add_lookup(KsGraph *graph, Oid relid)
{
	KsQueryRow *row = ks_query_load_by_relation(relid);

	if (row == NULL)
		return add_node(graph, NODE_LOOKUP, relid, ks_qualified_name(relid), NULL);
	if (ks_may_see_query(row))
		add_query(graph, row);
	return add_node(graph, NODE_TABLE, relid, ks_qualified_name(relid),
					ks_query_kind_name(row->kind));
}

/* The node of what a query writes to. */
static int
add_result(KsGraph *graph, const KsQueryRow *row)
{
	if (row->kind != KS_QUERY_STREAM)
		return add_node(graph, NODE_TABLE, row->relation, ks_qualified_name(row->relation),
						ks_query_kind_name(row->kind));
	return add_stream_node(graph, ks_stream_def_of(row->relation));
}

/* The queries that feed a stream. */
static void
add_feeders(KsGraph *graph, Oid stream)
{
	ListCell   *lc;

	foreach(lc, ks_query_feeders(stream))
	{
		KsQueryRow *row = ks_query_load(lfirst_int(lc));

		if (row != NULL && ks_may_see_query(row))
			add_query(graph, row);
	}
}

/* A query: its table or stream, what it reads, and where the result is published. */
static void
add_query(KsGraph *graph, const KsQueryRow *row)
{
	List	   *lookups;
	List	   *streams;
	int			table;
	ListCell   *lc;

	if (list_member_int(graph->done, row->id))
		return;
	graph->done = lappend_int(graph->done, row->id);
	streams = ks_query_streams(row, &lookups);
	table = add_result(graph, row);
	foreach(lc, streams)
	{
		add_feeders(graph, lfirst_oid(lc));
		add_edge(graph, add_stream(graph, lfirst_oid(lc), OidIsValid(row->source)), table, false);
	}
	foreach(lc, lookups)
		add_edge(graph, add_lookup(graph, lfirst_oid(lc)), table, true);
	add_sinks(graph, row->relation, table);
}

/* A published relation: with the query behind it, if there is one. */
static void
add_published(KsGraph *graph, Oid relid)
{
	KsQueryRow *row = ks_query_load_by_relation(relid);

	if (!ks_may_see_relation(relid) || ks_is_stream(relid))
		return;
	if (row != NULL)
		add_query(graph, row);
	else
		add_sinks(graph, relid, add_node(graph, NODE_LOOKUP, relid, ks_qualified_name(relid), NULL));
}

/* Every query that the caller may see, or those that read the stream. */
static void
add_queries(KsGraph *graph, Oid stream)
{
	ListCell   *lc;

	foreach(lc, ks_query_ids())
	{
		KsQueryRow *row = ks_query_load(lfirst_int(lc));

		if (row && ks_may_see_query(row) &&
			(!OidIsValid(stream) || list_member_oid(ks_query_streams(row, NULL), stream)))
			add_query(graph, row);
	}
	if (OidIsValid(stream))
	{
		add_feeders(graph, stream);
		return;
	}
	foreach(lc, ks_sink_ids())
	{
		KsSinkRow  *sink = ks_sink_load(lfirst_int(lc));

		if (sink != NULL)
			add_published(graph, sink->relation);
	}
}

/* What a node is, in words. */
static char *
node_title(const KsNode *node)
{
	switch (node->kind)
	{
		case NODE_TOPIC:
			return psprintf("topic %s (server %s)", node->name, node->detail);
		case NODE_STREAM:
			return psprintf("%sstream %s", node->detail ? "local " : "", node->name);
		case NODE_LOOKUP:
			return psprintf("relation %s", node->name);
		case NODE_TABLE:
			return psprintf("table %s (%s)", node->name, node->detail);
	}
	return node->name;
}

/* Does the edge say that something is published? */
static bool
is_publishing(KsGraph *graph, const KsEdge *edge)
{
	return ((KsNode *) list_nth(graph->nodes, edge->to))->kind == NODE_TOPIC;
}

/* Is the relation of a node published? */
static bool
is_published(KsGraph *graph, int node)
{
	ListCell   *lc;

	foreach(lc, graph->edges)
	{
		if (((KsEdge *) lfirst(lc))->from == node && is_publishing(graph, lfirst(lc)))
			return true;
	}
	return false;
}

/* As indented lines: each table with what it reads, and where it is published. */
static void
print_text(StringInfo buf, KsGraph *graph)
{
	ListCell   *lc;

	foreach(lc, graph->nodes)
	{
		KsNode	   *node = lfirst(lc);
		int			number = foreach_current_index(lc);
		ListCell   *lc2;

		if (node->kind == NODE_TOPIC || (node->kind == NODE_LOOKUP && !is_published(graph, number)))
			continue;
		appendStringInfo(buf, "%s\n", node_title(node));
		foreach(lc2, graph->edges)
		{
			KsEdge	   *edge = lfirst(lc2);

			if (edge->to == number)
				appendStringInfo(buf, "  %s %s\n", edge->lookup ? "looks up" : "reads",
								 node_title(list_nth(graph->nodes, edge->from)));
		}
		foreach(lc2, graph->edges)
		{
			KsEdge	   *edge = lfirst(lc2);

			if (edge->from == number && is_publishing(graph, edge))
				appendStringInfo(buf, "  is published to %s\n",
								 node_title(list_nth(graph->nodes, edge->to)));
		}
	}
}

/* For Graphviz. */
static void
print_dot(StringInfo buf, KsGraph *graph)
{
	static const char *const shapes[] = {
		[NODE_TOPIC] = "cds",
		[NODE_STREAM] = "parallelogram",
		[NODE_LOOKUP] = "box, style=dashed",
		[NODE_TABLE] = "box",
	};
	ListCell   *lc;

	appendStringInfoString(buf, "digraph kstream {\n  rankdir=LR;\n");
	foreach(lc, graph->nodes)
	{
		KsNode	   *node = lfirst(lc);

		appendStringInfo(buf, "  n%d [label=\"", foreach_current_index(lc));
		for (const char *c = node_title(node); *c; c++)
		{
			if (*c == '"' || *c == '\\')
				appendStringInfoChar(buf, '\\');
			appendStringInfoChar(buf, *c);
		}
		appendStringInfo(buf, "\", shape=%s];\n", shapes[node->kind]);
	}
	foreach(lc, graph->edges)
	{
		KsEdge	   *edge = lfirst(lc);

		appendStringInfo(buf, "  n%d -> n%d%s;\n", edge->from, edge->to,
						 edge->lookup ? " [style=dashed, label=\"lookup\"]" : "");
	}
	appendStringInfoString(buf, "}\n");
}

/* For Mermaid. */
static void
print_mermaid(StringInfo buf, KsGraph *graph)
{
	static const char *const brackets[][2] = {
		[NODE_TOPIC] = {"[/\"", "\"/]"},
		[NODE_STREAM] = {"([\"", "\"])"},
		[NODE_LOOKUP] = {"[\"", "\"]"},
		[NODE_TABLE] = {"[(\"", "\")]"},
	};
	ListCell   *lc;

	appendStringInfoString(buf, "flowchart LR\n");
	foreach(lc, graph->nodes)
	{
		KsNode	   *node = lfirst(lc);

		appendStringInfo(buf, "  n%d%s", foreach_current_index(lc), brackets[node->kind][0]);
		for (const char *c = node_title(node); *c; c++)
		{
			if (*c == '"')
				appendStringInfoString(buf, "#quot;");
			else if (*c == '#')
				appendStringInfoString(buf, "#35;");
			else
				appendStringInfoChar(buf, *c);
		}
		appendStringInfo(buf, "%s\n", brackets[node->kind][1]);
	}
	foreach(lc, graph->edges)
	{
		KsEdge	   *edge = lfirst(lc);

		appendStringInfo(buf, "  n%d %s n%d\n", edge->from,
						 edge->lookup ? "-. lookup .->" : "-->", edge->to);
	}
}

PG_FUNCTION_INFO_V1(ks_topology);

/* topology(name, format): the graph. */
Datum
ks_topology(PG_FUNCTION_ARGS)
{
	char	   *format = ks_arg_required(fcinfo, 1, "format");
	KsGraph		graph = {NIL, NIL, NIL};
	StringInfoData buf;

	initStringInfo(&buf);
	if (PG_ARGISNULL(0))
		add_queries(&graph, InvalidOid);
	else
	{
		char	   *name = ks_arg_text(fcinfo, 0);
		KsQueryRow *named = ks_query_load_by_name(name);
		KsSinkRow  *sink = named == NULL ? ks_sink_load_by_name(name) : NULL;
		Oid			relid = named != NULL ? named->relation : sink != NULL ? sink->relation :
			ks_relation_by_name(name);

		if (sink != NULL)
		{
			if (!ks_may_see_relation(relid))
				ks_sink_check_owner(sink);
			add_published(&graph, relid);
		}
		else if (named == NULL && ks_is_stream(relid))
			add_queries(&graph, relid);
		else
		{
			KsQueryRow *row = ks_query_by_name(name);

			if (!ks_may_see_query(row))
				ks_query_check_owner(row);
			add_query(&graph, row);
		}
	}

	if (strcmp(format, "text") == 0)
		print_text(&buf, &graph);
	else if (strcmp(format, "dot") == 0)
		print_dot(&buf, &graph);
	else if (strcmp(format, "mermaid") == 0)
		print_mermaid(&buf, &graph);
	else
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for argument \"format\": \"%s\"", format),
				 errhint("It is one of 'text', 'dot', 'mermaid'.")));
	PG_RETURN_TEXT_P(cstring_to_text_with_len(buf.data, buf.len));
}
