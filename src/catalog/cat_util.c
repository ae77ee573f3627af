/*
 * cat_util.c
 *		What reading and writing the tables of kstream_catalog takes.
 *
 * Runs in: any backend, any worker.  Transaction: needed.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid_d.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type_d.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "catalog/cat_util.h"

#define KS_CATALOG_SCHEMA "kstream_catalog"

/* Oid of a relation of the catalog schema; an error if the extension is missing. */
Oid
ks_catalog_relid(const char *name)
{
	Oid			schema = get_namespace_oid(KS_CATALOG_SCHEMA, true);
	Oid			relid = OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation \"%s.%s\" does not exist", KS_CATALOG_SCHEMA, name),
				 errhint("Run CREATE EXTENSION kstream in this database.")));
	return relid;
}

/* See cat_util.h. */
bool
ks_names_contain(List *names, const char *name)
{
	ListCell   *lc;

	foreach(lc, names)
	{
		if (strcmp(lfirst(lc), name) == 0)
			return true;
	}
	return false;
}

/* A text[] as a list of strings. */
List *
ks_list_from_array(Datum array)
{
	Datum	   *elems;
	bool	   *nulls;
	int			nelems;
	List	   *result = NIL;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT,
					  &elems, &nulls, &nelems);
	for (int i = 0; i < nelems; i++)
	{
		if (!nulls[i])
			result = lappend(result, TextDatumGetCString(elems[i]));
	}
	return result;
}

/* A list of strings as a text[]. */
Datum
ks_array_from_list(List *list)
{
	Datum	   *elems = palloc(sizeof(Datum) * Max(list_length(list), 1));
	int			nelems = 0;
	ListCell   *lc;

	foreach(lc, list)
		elems[nelems++] = CStringGetTextDatum((char *) lfirst(lc));
	return PointerGetDatum(construct_array(elems, nelems, TEXTOID, -1, false, TYPALIGN_INT));
}

/* Runs one statement of ours with up to three parameters. */
void
ks_catalog_execute(const char *sql, int nargs, Oid *argtypes, Datum *values)
{
	SPI_connect();
	ks_spi_execute(sql, false, nargs, argtypes, values, NULL);
	SPI_finish();
}

/* See cat_util.h. */
void
ks_relation_check_owner(Oid relation)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relation)));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	if (!has_privs_of_role(GetUserId(), owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of %s %s",
						get_rel_relkind(relation) == RELKIND_FOREIGN_TABLE ? "stream" : "table",
						get_rel_name(relation))));
}

/* See cat_util.h. */
int
ks_set_catalog_path(void)
{
	int			nestlevel = NewGUCNestLevel();

	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	return nestlevel;
}

/*
 * Runs SQL of our own as the extension's owner with search_path = pg_catalog.
 * User and settings are put back here, or by the (sub)transaction's abort.
 */
int
ks_spi_execute(const char *sql, bool read_only, int nargs, Oid *argtypes,
			   Datum *values, const char *nulls)
{
	Oid			save_userid;
	int			save_sec_context;
	int			save_nestlevel;
	int			rc;

	GetUserIdAndSecContext(&save_userid, &save_sec_context);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID,
						   save_sec_context | SECURITY_LOCAL_USERID_CHANGE);
	save_nestlevel = ks_set_catalog_path();
	rc = SPI_execute_with_args(sql, nargs, argtypes, values, nulls, read_only, 0);
	if (rc < 0)
		elog(ERROR, "SPI_execute_with_args failed: %s", SPI_result_code_string(rc));
	AtEOXact_GUC(true, save_nestlevel);
	SetUserIdAndSecContext(save_userid, save_sec_context);
	return rc;
}

/* See cat_util.h. */
void
ks_catalog_set_error(const char *table, int32 id, int sqlstate, const char *message)
{
	Oid			types[3] = {INT4OID, TEXTOID, TEXTOID};
	Datum		values[3] = {
		Int32GetDatum(id), CStringGetTextDatum(unpack_sql_state(sqlstate)),
		CStringGetTextDatum(message)
	};

	ks_catalog_execute(psprintf("UPDATE kstream_catalog.%s SET last_sqlstate = $2, last_error = $3,"
								" last_error_at = clock_timestamp(), restarts = restarts + 1"
								" WHERE id = $1", table), 3, types, values);
}

/* See cat_util.h. */
void
ks_catalog_clear_error(const char *table, int32 id)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(id)};

	ks_catalog_execute(psprintf("UPDATE kstream_catalog.%s"
								" SET last_sqlstate = NULL, last_error = NULL, last_error_at = NULL"
								" WHERE id = $1 AND last_error IS NOT NULL", table), 1, types, values);
}
