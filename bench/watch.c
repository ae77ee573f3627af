/*
 * watch.c
 *		Watches a continuous query that reads a full topic, from another session.
 *
 *	watch CONNINFO RELATION RECORDS
 *
 * Resumes the query (which was created paused) and looks at kstream.stat_query
 * every 10 ms until the query has committed all records.  Time and CPU run from
 * the first look that shows committed records to the one that shows them all,
 * and only records committed in between are counted; so what is measured is
 * what a reader of the table sees, and the start of the worker is left out, as
 * it is for the other systems.
 *
 * CPU is that of the worker process with all threads of its Kafka client;
 * server_cpu adds every other process of the server (checkpointer, WAL writer,
 * autovacuum ...) except this session.  Memory: peak_mb is the worker's greatest
 * resident size, in which the shared buffers it touched are contained;
 * private_mb is the greatest size without them.  Prints one line of JSON.
 */
#include "common.h"

#include <dirent.h>
#include <libpq-fe.h>

#define LOOK_EVERY_US 10000
#define GIVE_UP_AFTER 600		/* seconds */

/* Runs a statement with one parameter; dies unless it returns rows. */
static PGresult *
query(PGconn *conn, const char *sql, const char *param)
{
	const char *params[1] = {param};
	PGresult   *result = PQexecParams(conn, sql, 1, NULL, params, NULL, NULL, 0);

	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		die(sql, PQerrorMessage(conn));
	return result;
}

/* Runs such a statement for one number; 0 when there is no row or it is NULL. */
static long
query_number(PGconn *conn, const char *sql, const char *param)
{
	PGresult   *result = query(conn, sql, param);
	long		value = PQntuples(result) > 0 ? atol(PQgetvalue(result, 0, 0)) : 0;

	PQclear(result);
	return value;
}

/* The parent of a process, or 0. */
static int
parent_of(int pid)
{
	char		path[64];
	char		line[1024];
	char	   *after;
	int			parent = 0;
	FILE	   *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "r");
	if (file == NULL)
		return 0;
	if (fgets(line, sizeof(line), file) && (after = strrchr(line, ')')) != NULL)
		(void) sscanf(after + 2, "%*c %d", &parent);
	fclose(file);
	return parent;
}

/* CPU seconds of all processes of the server but one. */
static double
server_cpu(int postmaster, int but)
{
	DIR		   *dir = opendir("/proc");
	struct dirent *entry;
	double		total = process_cpu(postmaster);

	while (dir != NULL && (entry = readdir(dir)) != NULL)
	{
		int			pid = atoi(entry->d_name);

		if (pid > 0 && pid != but && parent_of(pid) == postmaster)
			total += process_cpu(pid);
	}
	if (dir != NULL)
		closedir(dir);
	return total;
}

/* Resumes the query, watches it to its end, and prints what it took. */
int
main(int argc, char **argv)
{
	PGconn	   *conn;
	PGresult   *result;
	long		nrecords;
	long		seen = 0;
	long		first = 0;
	int			worker = 0;
	int			own;
	double		resumed;
	double		start = 0;
	double		cpu = 0;
	double		all_cpu = 0;
	double		private_mb = 0;
	double		elapsed;

	if (argc != 4)
		die("usage", "watch CONNINFO RELATION RECORDS");
	nrecords = atol(argv[3]);
	conn = PQconnectdb(argv[1]);
	if (PQstatus(conn) != CONNECTION_OK)
		die("cannot connect", PQerrorMessage(conn));
	own = PQbackendPID(conn);
	PQclear(query(conn, "SELECT kstream.resume($1)", argv[2]));
	resumed = seconds();
	while (seen < nrecords)
	{
		usleep(LOOK_EVERY_US);
		seen = query_number(conn, "SELECT records_in FROM kstream.stat_query WHERE relation = $1::regclass", argv[2]);
		if (worker == 0)
			worker = query_number(conn, "SELECT worker_pid FROM kstream.queries WHERE relation = $1::regclass", argv[2]);
		if (seen > 0 && first == 0)
		{
			first = seen;
			start = seconds();
			cpu = process_cpu(worker);
			all_cpu = server_cpu(parent_of(own), own);
		}
		if (worker > 0)
		{
			double		mb = process_mb(worker, "RssAnon");

			private_mb = mb > private_mb ? mb : private_mb;
		}
		if (seconds() - resumed > GIVE_UP_AFTER)
			die("the query does not get on", argv[2]);
	}
	elapsed = seconds() - start;
	cpu = process_cpu(worker) - cpu;
	all_cpu = server_cpu(parent_of(own), own) - all_cpu;
	result = query(conn, "SELECT batches, rows_per_batch FROM kstream.stat_query WHERE relation = $1::regclass", argv[2]);
	printf("{\"records\":%ld,\"seconds\":%.3f,\"rate\":%.0f,\"cpu_us\":%.3f,\"server_cpu_us\":%.3f,"
		   "\"peak_mb\":%.0f,\"private_mb\":%.0f,\"from_resume_s\":%.2f,\"batches\":%s,\"rows_per_batch\":%s}\n",
		   seen, elapsed, (nrecords - first) / elapsed, cpu / (nrecords - first) * 1e6,
		   all_cpu / (nrecords - first) * 1e6, process_mb(worker, "VmHWM"), private_mb,
		   seconds() - resumed, PQgetvalue(result, 0, 0), PQgetvalue(result, 0, 1));
	PQclear(result);
	PQfinish(conn);
	return 0;
}
