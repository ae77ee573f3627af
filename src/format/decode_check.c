/*
 * decode_check.c
 *		Checks at definition time that the columns of a stream suit its formats.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "format/decode.h"
#include "format/scanner.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

/* Calls for one value column where the format has no more than one value. */
static const KsColumnDef *
check_single_column(const KsStreamDef *def)
{
	const KsColumnDef *found = NULL;
	int			count = 0;

	for (int i = 0; i < def->natts; i++)
	{
		if (def->columns[i].kind != KS_COL_VALUE)
			continue;
		found = &def->columns[i];
		count++;
	}
	if (count != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("format \"%s\" of stream %s needs one column besides the key, not %d",
						ks_format_name(def->format), def->relname, count),
				 errhint("Use format \"json\" or \"csv\" for several columns.")));
	return found;
}

/* Refuses a column whose type the format does not give. */
static void
check_column_type(const KsStreamDef *def, const KsColumnDef *column, Oid wanted, Oid other)
{
	Oid			basetype = getBaseType(column->typid);

	if (basetype != wanted && basetype != other)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of stream %s has type %s, but its format gives %s",
						column->name, def->relname, format_type_be(column->typid),
						format_type_be(wanted)),
				 errhint("Declare the column as %s.", format_type_be(wanted))));
}

/* Checks the value columns. */
static void
check_value_columns(const KsStreamDef *def)
{
	int			count = 0;

	for (int i = 0; i < def->natts; i++)
		count += (def->columns[i].kind == KS_COL_VALUE || def->columns[i].kind == KS_COL_KEY);
	if (count == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("stream %s has no columns", def->relname),
				 errhint("Declare a column for each field of its records that is to be read.")));
	switch (def->format)
	{
		case KS_FORMAT_TEXT:
			(void) check_single_column(def);
			break;
		case KS_FORMAT_BYTEA:
			check_column_type(def, check_single_column(def), BYTEAOID, BYTEAOID);
			break;
		case KS_FORMAT_JSONB:
			check_column_type(def, check_single_column(def), JSONBOID, JSONOID);
			break;
		default:
			break;
	}
}

/* Checks the column option "path" of every column. */
static void
check_paths(const KsStreamDef *def)
{
	KsJsonScanner *scanner = NULL;

	for (int i = 0; i < def->natts; i++)
	{
		const KsColumnDef *column = &def->columns[i];

		if (column->kind == KS_COL_DROPPED || column->path == NULL)
			continue;
		if (column->kind == KS_COL_META || def->format != KS_FORMAT_JSON)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
					 errmsg("column \"%s\" of stream %s cannot have a path",
							column->name, def->relname),
					 errhint("The column option \"path\" is for columns that are read from the fields of format \"json\".")));
		if (scanner == NULL)
			scanner = ks_scanner_create();
		(void) ks_scanner_add_path(scanner, column->path, column->name);
	}
}

/* Refuses a key column whose type cannot take a number. */
static void
check_number_key(const KsStreamDef *def, const KsColumnDef *column)
{
	Oid			basetype = getBaseType(column->typid);

	if (basetype == BYTEAOID || basetype == DATEOID || type_is_rowtype(basetype) ||
		OidIsValid(get_element_type(basetype)))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("key column \"%s\" of stream %s has type %s, but key format \"%s\" gives a number",
						column->name, def->relname, format_type_be(column->typid),
						ks_key_format_name(def->key_format)),
				 errhint("Declare the column as integer or bigint.")));
}

/* Checks the key columns. */
static void
check_key_columns(const KsStreamDef *def)
{
	const KsColumnDef *column;

	if (def->nkeys == 0 || def->key_format == KS_KEY_NONE || def->key_format == KS_KEY_JSON)
		return;
	if (def->nkeys > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("key format \"%s\" of stream %s cannot hold %d key columns",
						ks_key_format_name(def->key_format), def->relname, def->nkeys),
				 errhint("Use key format \"json\" for a key of several columns.")));
	column = &def->columns[def->keys[0] - 1];
	if (def->key_format == KS_KEY_BYTEA)
		check_column_type(def, column, BYTEAOID, BYTEAOID);
	else if (def->key_format == KS_KEY_INT || def->key_format == KS_KEY_BIGINT)
		check_number_key(def, column);
}

/* See decode.h. */
void
ks_decoder_check(const KsStreamDef *def)
{
	check_value_columns(def);
	check_paths(def);
	check_key_columns(def);
}
