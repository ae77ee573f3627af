/*
 * encode_path.h
 *		A row as a JSON object in which columns sit at their paths.
 */
#ifndef KS_ENCODE_PATH_H
#define KS_ENCODE_PATH_H

#include "postgres.h"
#include "catalog/stream_def.h"
#include "lib/stringinfo.h"

/*
 * Appends the declared columns of a row as a JSON object, each where the column
 * option "path" says; between ks_output_begin and ks_output_end.
 */
extern void ks_write_paths(StringInfo buf, const KsStreamDef *def, const Datum *values,
						   const bool *nulls);

#endif							/* KS_ENCODE_PATH_H */
