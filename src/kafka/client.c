/*
 * client.c
 *		One handle of the client library: birth, and a death that cannot hang.
 *
 * The library runs threads of its own.  None of them may run a signal handler
 * of Postgres, so all signals are blocked while a handle is made (threads
 * inherit the mask), and none may be alive when the C library runs its exit
 * handlers, so an exit handler of ours leaves by _exit() while any is.
 *
 * A handle belongs to the memory context it was made in; a reset callback
 * destroys it.  Destruction joins the library's threads, and one of them may
 * be stuck (name resolution, a frozen peer).  So it is done by a helper thread
 * which we wait for a bounded time; a handle that takes longer is left to it.
 * The helper touches nothing but memory got from malloc().
 */
#include "postgres.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "kafka/answers.h"
#include "kafka/caller.h"
#include "kafka/client.h"
#include "kafka/confbuild.h"
#include "kafka/logbridge.h"

#include "foreign/foreign.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

/* How long destroying one handle, or all of them at exit, may hold us up. */
#define KS_DESTROY_BUDGET_MS	1500

/* How long a handle may take to leave its transaction before it is destroyed. */
#define KS_LEAVE_MS				50

/* What the helper thread needs; it frees all of it. */
typedef struct KsDestroyJob
{
	KsCaller   *caller;
	rd_kafka_t *rk;
	bool		transactional;
	rd_kafka_queue_t *mainq;
	rd_kafka_queue_t *queue;
	rd_kafka_topic_t **topics;
	int			ntopics;
	int			eventfd;
	KsClientShared *shared;
} KsDestroyJob;

/* What threads of the library write to; lives until its handle is gone. */
struct KsClientShared
{
	KsClient   *client;			/* main thread only; NULL: it is being destroyed */
	pg_atomic_uint32 closed_sockets;
	KsAnswers	answers;		/* of a consumer's brokers */
};

/* Clients of this process, and handles whose destruction is still under way. */
static dlist_head live_clients = DLIST_STATIC_INIT(live_clients);
static pg_atomic_uint32 handles_alive;
static bool exit_guard_installed = false;
static int	exit_code = 0;

/* Milliseconds of a clock that nobody sets. */
static int64
ks_monotonic_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/*
 * Makes a handle leave its transaction.  The library counts a request that adds
 * partitions to a transaction after it has sent it (2.0.2 to 2.15 at least); while
 * the handle is destroyed, a broker's thread may fail the request before it is
 * counted, and an assertion ends the process.  In a transaction that is being
 * aborted no such request is sent.  The rest of the abort may happen or not: who
 * comes next undoes what is left open.  Without a transaction, or when it is
 * being committed, the call is refused and changes nothing.
 */
static void
ks_leave_transaction(rd_kafka_t *rk)
{
	rd_kafka_error_t *error = rd_kafka_abort_transaction(rk, KS_LEAVE_MS);

	if (error)
		rd_kafka_error_destroy(error);
}

/* Thread body: takes one handle apart.  Runs no Postgres code. */
static void *
ks_destroy_thread(void *arg)
{
	KsDestroyJob *job = arg;

	if (job->caller)
		ks_caller_end(job->caller);
	if (job->transactional)
		ks_leave_transaction(job->rk);
	for (int i = 0; i < job->ntopics; i++)
		rd_kafka_topic_destroy(job->topics[i]);
	free(job->topics);
	if (job->queue)
		rd_kafka_queue_destroy(job->queue);
	if (job->mainq)
		rd_kafka_queue_destroy(job->mainq);
	rd_kafka_destroy_flags(job->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);

	/* Only now can nobody write to it any more. */
	if (job->eventfd >= 0)
		close(job->eventfd);
	free(job->shared);
	free(job);
#ifdef __GLIBC__
	malloc_trim(0);				/* the queue may have been great */
#endif
	pg_atomic_fetch_sub_u32(&handles_alive, 1);
	return NULL;
}

/* Runs a job in a helper thread and waits for it until the deadline. */
static void
ks_run_destroy_job(KsDestroyJob *job, int64 deadline_ms)
{
	pthread_t	thread;
	sigset_t	all;
	sigset_t	old;
	struct timespec until;
	int64		left;
	int			rc;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	rc = pthread_create(&thread, NULL, ks_destroy_thread, job);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc != 0)
		return;					/* no thread to be had: leave the handle to the exit guard */

	left = Max(deadline_ms - ks_monotonic_ms(), 0);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += left / 1000;
	until.tv_nsec += (left % 1000) * 1000000L;
	if (until.tv_nsec >= 1000000000L)
	{
		until.tv_sec++;
		until.tv_nsec -= 1000000000L;
	}
	if (pthread_timedjoin_np(thread, NULL, &until) != 0)
		pthread_detach(thread);
}

/* Hands the handle of a client to the helper thread.  Throws nothing. */
static void
ks_client_destroy(KsClient *client, int64 deadline_ms)
{
	KsDestroyJob *job;

	if (client->linked)
	{
		dlist_delete(&client->node);
		client->linked = false;
	}
	if (client->rk == NULL)
	{
		if (client->eventfd >= 0)
		{
			close(client->eventfd);
			ReleaseExternalFD();
			client->eventfd = -1;
		}
		return;
	}

	job = malloc(sizeof(KsDestroyJob));
	if (job == NULL)
		return;					/* out of memory: the exit guard remains */
	job->caller = client->caller;
	job->rk = client->rk;
	job->transactional = client->transactional;
	job->mainq = client->mainq;
	job->queue = client->queue;
	job->topics = client->topics;
	job->ntopics = client->ntopics;
	job->eventfd = client->eventfd;
	job->shared = client->shared;
	job->shared->client = NULL;
	if (client->eventfd >= 0)
		ReleaseExternalFD();
	client->caller = NULL;
	client->rk = NULL;
	client->mainq = NULL;
	client->queue = NULL;
	client->topics = NULL;
	client->ntopics = 0;
	client->eventfd = -1;
	client->shared = NULL;
	ks_run_destroy_job(job, deadline_ms);
}

/* Memory context callback: the context of the client goes away. */
static void
ks_client_reset_callback(void *arg)
{
	KsClient   *client = arg;

	ks_client_destroy(client, ks_monotonic_ms() + client->destroy_budget_ms);
}

/* on_proc_exit: destroys what is left, and keeps the code for the guard. */
static void
ks_client_on_proc_exit(int code, Datum arg)
{
	int64		deadline = ks_monotonic_ms() + KS_DESTROY_BUDGET_MS;

	exit_code = code;
	while (!dlist_is_empty(&live_clients))
		ks_client_destroy(dlist_container(KsClient, node, dlist_head_node(&live_clients)),
						  deadline);
}

/*
 * atexit handler, registered after the library (and with it the TLS library)
 * has registered its own, so that it runs before them: threads that still live
 * must not see them run.
 */
static void
ks_client_exit_guard(void)
{
	if (pg_atomic_read_u32(&handles_alive) > 0)
		_exit(exit_code);
}

/* Number of handles that are not destroyed yet; for tests and statistics. */
int
ks_client_live_count(void)
{
	return exit_guard_installed ? (int) pg_atomic_read_u32(&handles_alive) : 0;
}

/* The library's error callback: runs in whoever takes from a queue, that is us. */
static void
ks_client_error_callback(rd_kafka_t *rk, int err, const char *text, void *opaque)
{
	KsClient   *client = ((KsClientShared *) opaque)->client;

	if (client != NULL && client->on_error)
		client->on_error(client->owner, err, text);
}

/* The library's way to close a socket: runs in its threads, so no Postgres code. */
static int
ks_client_close_socket(int fd, void *opaque)
{
	pg_atomic_fetch_add_u32(&((KsClientShared *) opaque)->closed_sockets, 1);
	return close(fd);
}

/*
 * Connections that were closed since the client was made.  The library repeats a
 * request on a new connection when the old one breaks, and does not tell; the old
 * request may still arrive.
 */
uint32
ks_client_closed_sockets(KsClient *client)
{
	return pg_atomic_read_u32(&client->shared->closed_sockets);
}

/* What a consumer's brokers have answered. */
KsAnswers *
ks_client_answers(KsClient *client)
{
	return &client->shared->answers;
}

/* Calls rd_kafka_new with all signals blocked; takes conf over in every case. */
static rd_kafka_t *
ks_new_handle(KsClientRole role, rd_kafka_conf_t *conf, char *errstr, size_t errlen)
{
	rd_kafka_t *rk;
	sigset_t	all;
	sigset_t	old;

	if (!exit_guard_installed)
		pg_atomic_init_u32(&handles_alive, 0);

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	rk = rd_kafka_new(role == KS_CLIENT_CONSUMER ? RD_KAFKA_CONSUMER : RD_KAFKA_PRODUCER,
					  conf, errstr, errlen);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rk == NULL)
	{
		/*
		 * When it fails, the library has already freed the interceptors that a
		 * consumer's configuration holds, and would do it again (2.0.2 at least).
		 * So the 3 kB of such a configuration are left to the end of the process.
		 */
		if (role != KS_CLIENT_CONSUMER)
			rd_kafka_conf_destroy(conf);
		return NULL;
	}
	pg_atomic_fetch_add_u32(&handles_alive, 1);
	return rk;
}

/* Installs the exit guard, once per process. */
static void
ks_install_exit_guard(void)
{
	if (exit_guard_installed)
		return;
	exit_guard_installed = true;
	on_proc_exit(ks_client_on_proc_exit, (Datum) 0);
	atexit(ks_client_exit_guard);
}

/*
 * Makes the struct of a client, owned by the current memory context, with its
 * event descriptor but no handle yet.
 */
static KsClient *
ks_client_make(const char *name, const char *server)
{
	KsClient   *client = palloc0(sizeof(KsClient));

	/* A handle does not survive fork(). */
	if (IsPostmasterEnvironment && !IsUnderPostmaster)
		elog(ERROR, "a Kafka client must not be made in the postmaster");

	client->eventfd = -1;
	client->destroy_budget_ms = KS_DESTROY_BUDGET_MS;
	client->name = pstrdup(name);
	client->server = pstrdup(server);
	client->callback.func = ks_client_reset_callback;
	client->callback.arg = client;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &client->callback);

	if (!AcquireExternalFD())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("too many open files")));
	client->eventfd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (client->eventfd < 0)
	{
		ReleaseExternalFD();
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create event descriptor: %m")));
	}
	return client;
}

/* Gives a client its handle; takes conf over. */
static void
ks_client_start(KsClient *client, KsClientRole role, rd_kafka_conf_t *conf)
{
	char		errstr[512];
	uint64		one = 1;

	client->shared = malloc(sizeof(KsClientShared));
	if (client->shared == NULL)
	{
		rd_kafka_conf_destroy(conf);
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	}
	client->shared->client = client;
	pg_atomic_init_u32(&client->shared->closed_sockets, 0);
	rd_kafka_conf_set_opaque(conf, client->shared);
	rd_kafka_conf_set_error_cb(conf, ks_client_error_callback);
	rd_kafka_conf_set_closesocket_cb(conf, ks_client_close_socket);
	if (role == KS_CLIENT_CONSUMER)
		ks_answers_hear(conf, &client->shared->answers);
	client->transactional = role == KS_CLIENT_TRANSACTIONAL;
	client->rk = ks_new_handle(role, conf, errstr, sizeof(errstr));
	if (client->rk == NULL)
	{
		free(client->shared);
		client->shared = NULL;
		ereport(ERROR,
				(errcode(ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION),
				 errmsg("could not create Kafka client for server \"%s\"", client->server),
				 errdetail("%s", ks_client_clean_text(client, errstr)),
				 errhint("Check the options of the server and of the user mapping.")));
	}
	dlist_push_tail(&live_clients, &client->node);
	client->linked = true;
	ks_install_exit_guard();

	client->mainq = rd_kafka_queue_get_main(client->rk);
	rd_kafka_set_log_queue(client->rk, client->mainq);
	rd_kafka_queue_io_event_enable(client->mainq, client->eventfd, &one, sizeof(one));
}

/*
 * The library tells only in a debugging line that a partition could not be
 * fetched for a while, during which it may have been deleted and created anew:
 * asks for those lines.  True if the user wants to see them, too.
 */
static bool
ks_conf_hear_interruptions(rd_kafka_conf_t *conf)
{
	char		debug[512];
	size_t		size = sizeof(debug);
	bool		shown = rd_kafka_conf_get(conf, "debug", debug, &size) == RD_KAFKA_CONF_OK &&
		debug[0] != '\0';

	ks_conf_set(conf, "debug", shown ? psprintf("%s,topic", debug) : "topic");
	return shown;
}

/*
 * Opens a handle for a foreign server with the user mapping of userid, owned by
 * the current memory context.  adjust (may be NULL) sets what the caller needs
 * on top.  Reads the catalogs, so needs a transaction; waits for nothing.  Main
 * thread of a worker or backend only.
 */
KsClient *
ks_client_open(Oid serverid, Oid userid, KsClientRole role, const char *name,
			   KsConfAdjuster adjust, void *arg)
{
	KsClient   *client = ks_client_make(name, GetForeignServer(serverid)->servername);
	rd_kafka_conf_t *conf = ks_conf_build(serverid, userid, role, name, &client->secrets);

	if (role == KS_CLIENT_CONSUMER)
		client->shows_debug = ks_conf_hear_interruptions(conf);
	if (adjust)
		adjust(conf, arg);
	ks_client_start(client, role, conf);
	return client;
}

/*
 * Opens another handle like one there is, in the current memory context.  Needs
 * no transaction.
 */
KsClient *
ks_client_clone(KsClient *from, KsClientRole role, const char *name,
				KsConfAdjuster adjust, void *arg)
{
	KsClient   *client = ks_client_make(name, from->server);
	rd_kafka_conf_t *conf = rd_kafka_conf_dup(rd_kafka_conf(from->rk));
	ListCell   *lc;

	client->shows_debug = from->shows_debug;
	foreach(lc, from->secrets)
		client->secrets = lappend(client->secrets, pstrdup(lfirst(lc)));
	if (adjust)
		adjust(conf, arg);
	ks_client_start(client, role, conf);
	return client;
}

/* Makes a topic handle that goes with the client; opaque comes back with records. */
rd_kafka_topic_t *
ks_client_topic(KsClient *client, const char *name, void *opaque)
{
	rd_kafka_topic_conf_t *conf;
	rd_kafka_topic_t **topics;
	rd_kafka_topic_t *rkt;

	topics = realloc(client->topics, sizeof(rd_kafka_topic_t *) * (client->ntopics + 1));
	if (topics == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	client->topics = topics;

	conf = rd_kafka_default_topic_conf_dup(client->rk);
	rd_kafka_topic_conf_set_opaque(conf, opaque);
	rkt = rd_kafka_topic_new(client->rk, name, conf);
	if (rkt == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_ERROR),
				 errmsg("could not use Kafka topic \"%s\": %s", name,
						rd_kafka_err2str(rd_kafka_last_error()))));
	client->topics[client->ntopics++] = rkt;
	return rkt;
}

/* The client's own queue, made at first use, which wakes the event descriptor. */
rd_kafka_queue_t *
ks_client_queue(KsClient *client)
{
	uint64		one = 1;

	if (client->queue == NULL)
	{
		client->queue = rd_kafka_queue_new(client->rk);
		rd_kafka_queue_io_event_enable(client->queue, client->eventfd, &one, sizeof(one));
	}
	return client->queue;
}
