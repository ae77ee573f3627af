/*
 * encode_path.c
 *		A row as a JSON object in which columns sit at their paths.
 *
 * The object has the same shape for every row, so it is laid out once: as pieces
 * of text with columns between them.  Columns whose paths start with the same steps share the objects and arrays on
 * the way.  Elements of an array that no column gives are null.  Where one path
 * goes through another, or one asks for an array where the other asks for an
 * object, a document cannot hold both values: such a row cannot be written.
 */
#include "postgres.h"

#include "format/encode_path.h"
#include "format/json_path.h"
#include "utils/json.h"

/* A column with its path, in the encoding of the database. */
typedef struct PathColumn
{
	const KsColumnDef *column;
	KsJsonStep *steps;
	int			nsteps;
	bool		written;
} PathColumn;

/* A layout on its way. */
typedef struct PathWriter
{
	StringInfo	buf;			/* text since the last column */
	KsRowLayout *layout;
	PathColumn *columns;
	int			ncolumns;
} PathWriter;

static void write_group(PathWriter *writer, PathColumn *leader, int depth);

/* Sets the steps of a column's path. */
static void
parse_path(PathColumn *path, const KsColumnDef *column)
{
	const char *reason = "";

	path->column = column;
	path->steps = palloc(sizeof(KsJsonStep) * KS_JSON_PATH_MAX_STEPS);
	path->nsteps = 1;
	path->steps[0].name = column->name;
	path->steps[0].len = strlen(column->name);
	if (column->path == NULL)
		return;
	path->nsteps = ks_json_path_parse(column->path, path->steps,
									  palloc(strlen(column->path) + 1), &reason);
	if (path->nsteps < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid path \"%s\" for column \"%s\"", column->path, column->name),
				 errdetail("In a path, %s.", reason)));
}

/* Are two steps the same? */
static bool
same_step(const KsJsonStep *a, const KsJsonStep *b)
{
	if (a->name == NULL || b->name == NULL)
		return a->name == NULL && b->name == NULL && a->index == b->index;
	return a->len == b->len && memcmp(a->name, b->name, a->len) == 0;
}

/* Do the paths of two columns have the first depth steps in common? */
static bool
same_start(const PathColumn *a, const PathColumn *b, int depth)
{
	if (a->nsteps < depth || b->nsteps < depth)
		return false;
	for (int i = 0; i < depth; i++)
	{
		if (!same_step(&a->steps[i], &b->steps[i]))
			return false;
	}
	return true;
}

/* The column that is at the first depth steps of the leader's path, or none. */
static PathColumn *
find_column(PathWriter *writer, PathColumn *leader, int depth)
{
	for (int i = 0; i < writer->ncolumns; i++)
	{
		if (writer->columns[i].nsteps == depth &&
			same_start(&writer->columns[i], leader, depth))
			return &writer->columns[i];
	}
	return NULL;
}

/* The text so far, and the column behind it, become a piece. */
static void
add_piece(PathWriter *writer, AttrNumber attnum)
{
	KsRowPiece *piece = &writer->layout->pieces[writer->layout->npieces++];

	piece->len = writer->buf->len;
	piece->text = pnstrdup(writer->buf->data, writer->buf->len);
	piece->attnum = attnum;
	resetStringInfo(writer->buf);
}

/* Writes what is at the first depth steps of the leader's path. */
static void
write_node(PathWriter *writer, PathColumn *leader, int depth)
{
	PathColumn *path = find_column(writer, leader, depth);

	if (path == NULL)
		write_group(writer, leader, depth);
	else
		add_piece(writer, path->column->attnum);
	for (int i = 0; i < writer->ncolumns; i++)
	{
		if (same_start(&writer->columns[i], leader, depth))
			writer->columns[i].written = true;
	}
}

/* Greatest index among the elements below the first depth steps, -1: none. */
static long
last_index(PathWriter *writer, PathColumn *leader, int depth)
{
	long		last = -1;

	for (int i = 0; i < writer->ncolumns; i++)
	{
		PathColumn *path = &writer->columns[i];

		if (path->nsteps > depth && same_start(path, leader, depth) &&
			path->steps[depth].name == NULL)
			last = Max(last, path->steps[depth].index);
	}
	return last;
}

/* Writes an array below the first depth steps. */
static void
write_elements(PathWriter *writer, PathColumn *leader, int depth, long last)
{
	for (long index = 0; index <= last; index++)
	{
		PathColumn *found = NULL;

		for (int i = 0; i < writer->ncolumns && found == NULL; i++)
		{
			PathColumn *path = &writer->columns[i];

			if (path->nsteps > depth && same_start(path, leader, depth) &&
				path->steps[depth].name == NULL && path->steps[depth].index == index)
				found = path;
		}
		appendStringInfoChar(writer->buf, index == 0 ? '[' : ',');
		if (found != NULL)
			write_node(writer, found, depth + 1);
		else
			appendStringInfoString(writer->buf, "null");
	}
	appendStringInfoChar(writer->buf, ']');
}

/* Writes the object or array below the first depth steps of the leader's path. */
static void
write_group(PathWriter *writer, PathColumn *leader, int depth)
{
	long		last = last_index(writer, leader, depth);
	const char *separator = "{";

	if (last >= 0)
	{
		write_elements(writer, leader, depth, last);
		return;
	}
	for (int i = 0; i < writer->ncolumns; i++)
	{
		PathColumn *path = &writer->columns[i];

		if (path->written || path->nsteps <= depth || !same_start(path, leader, depth))
			continue;
		appendStringInfoString(writer->buf, separator);
		separator = ",";
		escape_json(writer->buf, pnstrdup(path->steps[depth].name, path->steps[depth].len));
		appendStringInfoChar(writer->buf, ':');
		write_node(writer, path, depth + 1);
	}
	appendStringInfoString(writer->buf, separator[0] == '{' ? "{}" : "}");
}

/*
 * conflict
 *		Can no document hold the values of both columns?  So it is if one path is the
 *		beginning of the other, or they ask for a field and an element of the same.
 */
static bool
conflict(const PathColumn *a, const PathColumn *b)
{
	int			depth = 0;

	while (depth < a->nsteps && depth < b->nsteps && same_step(&a->steps[depth], &b->steps[depth]))
		depth++;
	if (depth == a->nsteps || depth == b->nsteps)
		return true;
	return (a->steps[depth].name == NULL) != (b->steps[depth].name == NULL);
}

/* Refuses columns of which one would be lost. */
static void
check_conflicts(const PathWriter *writer, const KsStreamDef *def)
{
	for (int i = 0; i < writer->ncolumns; i++)
	{
		for (int j = 0; j < i; j++)
		{
			const KsColumnDef *first = writer->columns[j].column;
			const KsColumnDef *second = writer->columns[i].column;

			if (conflict(&writer->columns[j], &writer->columns[i]))
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("cannot write to stream %s, because columns \"%s\" and \"%s\" overlap",
								def->relname, first->name, second->name),
						 errdetail("Their places in a document are \"%s\" and \"%s\", which cannot both be given.",
								   first->path != NULL ? first->path : first->name,
								   second->path != NULL ? second->path : second->name),
						 errhint("Write to another stream over the same topic that declares only one of them.")));
		}
	}
}

/* See encode_path.h. */
KsRowLayout *
ks_row_layout_create(const KsStreamDef *def)
{
	StringInfoData buf;
	PathWriter	writer = {.buf = &buf};

	initStringInfo(&buf);
	writer.layout = palloc0(sizeof(KsRowLayout));
	writer.layout->pieces = palloc0(sizeof(KsRowPiece) * (def->natts + 1));
	writer.columns = palloc0(sizeof(PathColumn) * Max(def->natts, 1));
	for (int i = 0; i < def->natts; i++)
	{
		const KsColumnDef *column = &def->columns[i];

		if (column->kind == KS_COL_VALUE || column->kind == KS_COL_KEY)
			parse_path(&writer.columns[writer.ncolumns++], column);
	}
	if (def->format == KS_FORMAT_JSON)
		check_conflicts(&writer, def);
	if (writer.ncolumns == 0)
		appendStringInfoString(&buf, "{}");
	else
		write_group(&writer, &writer.columns[0], 0);
	add_piece(&writer, 0);
	return writer.layout;
}
