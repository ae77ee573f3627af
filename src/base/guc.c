/*
 * guc.c
 *		The settings kstream.*.
 *
 * Those that a worker obeys may be given in postgresql.conf, by ALTER SYSTEM or
 * by ALTER DATABASE: a worker connects to the database as a superuser and takes
 * what it finds there.  Options of a query win over them.
 */
#include "postgres.h"

#include <limits.h>

#include "base/guc.h"
#include "utils/guc.h"

char	   *ks_default_server = NULL;
int			ks_max_workers = 2;
int			ks_batch_rows = 50000;
int			ks_batch_interval = 0;
int			ks_cache_mem = 65536;
int			ks_batch_mem = 256 * 1024;
bool		ks_log_statements = false;
bool		ks_start_workers = true;
int			ks_outbox_max_bytes = 1024 * 1024;
int			ks_output_durability = KS_OUTPUT_FLUSHED;

static const struct config_enum_entry output_durability_words[] = {
	{"flushed", KS_OUTPUT_FLUSHED, false},
	{"replicated", KS_OUTPUT_REPLICATED, false},
	{NULL, 0, false}
};

/* define_batch_settings: how much one transaction takes, and what it may keep in memory. */
static void
define_batch_settings(void)
{
	DefineCustomIntVariable("kstream.batch_rows",
							"Sets the greatest number of records in one batch of a continuous query.",
							"A batch is what has arrived, up to this number.",
							&ks_batch_rows, 50000, 1, 10000000,
							PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("kstream.batch_interval",
							"Sets the least time from one batch of a continuous query to the next.",
							"0 processes records as soon as they arrive.",
							&ks_batch_interval, 0, 0, 3600 * 1000,
							PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("kstream.cache_mem",
							"Sets the memory a continuous query may use to keep groups between batches.",
							NULL,
							&ks_cache_mem, 65536, 64, MAX_KILOBYTES,
							PGC_USERSET, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("kstream.batch_mem",
							"Sets the memory that what a batch of a continuous query makes may use.",
							"A batch that needs more is tried again with fewer records.",
							&ks_batch_mem, 256 * 1024, 64, MAX_KILOBYTES,
							PGC_USERSET, GUC_UNIT_KB, NULL, NULL, NULL);
}

/* define_worker_settings: who runs the queries. */
static void
define_worker_settings(void)
{
	DefineCustomIntVariable("kstream.max_workers",
							"Sets the greatest number of kstream workers in one database.",
							"Queries share workers; workers are taken from max_worker_processes.",
							&ks_max_workers, 2, 1, 262143,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("kstream.start_workers",
							 "Starts workers for continuous queries.",
							 "Off stops those that run, in every database.",
							 &ks_start_workers, true,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
}

/* define_output_settings: what is published, and how much may wait for it. */
static void
define_output_settings(void)
{
	DefineCustomIntVariable("kstream.outbox_max_bytes",
							"Sets the size of an outbox from which on its continuous queries wait.",
							"Records that wait to be published are kept in any case.",
							&ks_outbox_max_bytes, 1024 * 1024, 64, MAX_KILOBYTES,
							PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomEnumVariable("kstream.output_durability",
							 "Sets how durable a commit must be before what it has written is published.",
							 "\"replicated\" waits for the synchronous standbys, too.",
							 &ks_output_durability, KS_OUTPUT_FLUSHED, output_durability_words,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
}

/* ks_guc_init: defines all settings; called once, when the library is loaded. */
void
ks_guc_init(void)
{
	DefineCustomStringVariable("kstream.default_server",
							   "Sets the server of streams that are created without one.",
							   NULL,
							   &ks_default_server, "",
							   PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("kstream.log_statements",
							 "Logs the statements that continuous queries are compiled to.",
							 NULL,
							 &ks_log_statements, false,
							 PGC_SUSET, 0, NULL, NULL, NULL);
	define_batch_settings();
	define_worker_settings();
	define_output_settings();
}

/* ks_guc_reserve: no other kstream.* setting exists; called after all are defined. */
void
ks_guc_reserve(void)
{
	MarkGUCPrefixReserved("kstream");
}
