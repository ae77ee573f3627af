/*
 * dbhooks.c
 *		DDL that workers must get out of the way of, or hear about.
 *
 * DROP DATABASE, ALTER DATABASE ... RENAME or SET TABLESPACE and CREATE DATABASE
 * ... TEMPLATE fail while anybody is connected to the database, and nobody but
 * autovacuum is asked to leave.  So before they run the database is held: its
 * workers are told to leave and no new one is started until the command has
 * ended, well or badly.  It is waited for them at most KS_GRACE_MS; the command
 * itself waits and complains as usual after that.
 *
 * Only commands of somebody who may run them on that database have this effect.
 *
 * Runs in: any backend of a server that preloads the library.
 */
#include "postgres.h"

#include "access/xact.h"
#include "base/clock.h"
#include "base/compat.h"
#include "base/shmem.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "worker/dbhooks.h"
#include "worker/slots.h"
#include "worker/stats.h"
#include "worker/wakeup.h"

#define KS_GRACE_MS 4000

static ProcessUtility_hook_type prev_process_utility = NULL;

/* option_named: an option of the list, or NULL. */
static DefElem *
option_named(List *options, const char *name)
{
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *def = lfirst_node(DefElem, lc);

		if (strcmp(def->defname, name) == 0)
			return def;
	}
	return NULL;
}

/* template_of: the database that CREATE DATABASE copies. */
static const char *
template_of(CreatedbStmt *stmt)
{
	DefElem    *def = option_named(stmt->options, "template");

	return def != NULL && def->arg != NULL ? defGetString(def) : "template1";
}

/* database_to_leave: the name of the database nobody may be connected to, or NULL. */
static const char *
database_to_leave(Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_DropdbStmt:
			return ((DropdbStmt *) stmt)->dbname;
		case T_CreatedbStmt:
			return template_of((CreatedbStmt *) stmt);
		case T_RenameStmt:
			if (((RenameStmt *) stmt)->renameType == OBJECT_DATABASE)
				return ((RenameStmt *) stmt)->subname;
			return NULL;
		case T_AlterDatabaseStmt:
			if (option_named(((AlterDatabaseStmt *) stmt)->options, "tablespace") != NULL)
				return ((AlterDatabaseStmt *) stmt)->dbname;
			return NULL;
		default:
			return NULL;
	}
}

/* wait_for_workers: until the database has none left, at most KS_GRACE_MS. */
static void
wait_for_workers(Oid database)
{
	TimestampTz end = TimestampTzPlusMilliseconds(ks_clock_now(), KS_GRACE_MS);

	while (ks_database_workers(database) > 0 && ks_clock_now() < end)
	{
		ks_workers_stop(database);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 10, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* call_next: the command itself. */
static void
call_next(PlannedStmt *pstmt, const char *query, bool read_only, ProcessUtilityContext context,
		  ParamListInfo params, QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	if (prev_process_utility)
		prev_process_utility(pstmt, query, read_only, context, params, env, dest, qc);
	else
		standard_ProcessUtility(pstmt, query, read_only, context, params, env, dest, qc);
}

/* changes_definitions: does the command create, change or drop kstream, or commit a prepared transaction that may have? */
static bool
changes_definitions(Node *stmt)
{
	ListCell   *lc;

	switch (nodeTag(stmt))
	{
		case T_CreateExtensionStmt:
			return strcmp(((CreateExtensionStmt *) stmt)->extname, "kstream") == 0;
		case T_AlterExtensionStmt:
			return strcmp(((AlterExtensionStmt *) stmt)->extname, "kstream") == 0;
		case T_DropStmt:
			if (((DropStmt *) stmt)->removeType != OBJECT_EXTENSION)
				return false;
			foreach(lc, ((DropStmt *) stmt)->objects)
			{
				if (strcmp(strVal(lfirst(lc)), "kstream") == 0)
					return true;
			}
			return false;
		case T_TransactionStmt:
			return ((TransactionStmt *) stmt)->kind == TRANS_STMT_COMMIT_PREPARED;
		default:
			return false;
	}
}

/* held_database: the database to hold for this command, or InvalidOid. */
static Oid
held_database(Node *stmt)
{
	const char *name;
	Oid			database;

	if (!ks_shmem_ready() || !IsTransactionState())
		return InvalidOid;
	name = database_to_leave(stmt);
	database = name != NULL ? get_database_oid(name, true) : InvalidOid;
	if (!OidIsValid(database) || !ks_owns_database(database))
		return InvalidOid;
	return ks_database_hold(database) ? database : InvalidOid;
}

/* run_held: runs the command while the database is held. */
static void
run_held(Oid database, PlannedStmt *pstmt, const char *query, bool read_only,
		 ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *env,
		 DestReceiver *dest, QueryCompletion *qc)
{
	PG_TRY();
	{
		wait_for_workers(database);
		call_next(pstmt, query, read_only, context, params, env, dest, qc);
		if (IsA(pstmt->utilityStmt, DropdbStmt))
		{
			ks_database_forget(database);
			ks_stat_forget_database(database);
		}
	}
	PG_CATCH();
	{
		ks_database_release(database);
		PG_RE_THROW();
	}
	PG_END_TRY();
	ks_database_release(database);
}

/* process_utility: the hook. */
static void
process_utility(PlannedStmt *pstmt, const char *query, bool read_only,
				ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *env,
				DestReceiver *dest, QueryCompletion *qc)
{
	Oid			database = held_database(pstmt->utilityStmt);
	bool		notify = changes_definitions(pstmt->utilityStmt);

	if (OidIsValid(database))
		run_held(database, pstmt, query, read_only, context, params, env, dest, qc);
	else
		call_next(pstmt, query, read_only, context, params, env, dest, qc);
	if (notify)
		ks_notify_definitions_changed();
}

/* ks_dbhooks_init: installs the hook; only from shared_preload_libraries. */
void
ks_dbhooks_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}
