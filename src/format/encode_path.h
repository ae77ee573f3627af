/*
 * encode_path.h
 *		A row as a JSON object in which columns sit at their paths.
 */
#ifndef KS_ENCODE_PATH_H
#define KS_ENCODE_PATH_H

#include "postgres.h"
#include "catalog/stream_def.h"

/* Text, and the column whose value comes behind it (0: none, in the last piece). */
typedef struct KsRowPiece
{
	char	   *text;
	int			len;
	AttrNumber	attnum;
} KsRowPiece;

typedef struct KsRowLayout
{
	int			npieces;
	KsRowPiece *pieces;
} KsRowLayout;

/*
 * The layout of a JSON object of the declared columns, each where the column
 * option "path" says; in the current context.  Refuses columns of which no
 * document can hold all.
 */
extern KsRowLayout *ks_row_layout_create(const KsStreamDef *def);

#endif							/* KS_ENCODE_PATH_H */
