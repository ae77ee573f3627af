/*
 * caller.c
 *		Calls of the client library that block, made in a thread of their own.
 *
 * Most of what has to do with transactions waits for a broker inside the
 * library, and some of it heeds no time-out that is shorter than a request's.
 * So such a call is made by a helper thread, one at a time per client, while
 * the main thread goes on; the client's event descriptor tells when it is done.
 *
 * The helper touches nothing but memory from malloc() and the library; it has
 * all signals blocked.  When a client is destroyed, the thread that does it
 * waits for the helper first (the library would leave it hanging for ever).
 *
 * Runs in: the main thread, but for bodies of calls.
 */
#include "postgres.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "kafka/caller.h"

struct KsCaller
{
	pthread_mutex_t lock;
	pthread_cond_t wake;
	pthread_t	thread;
	int			eventfd;		/* of the client */
	bool		quit;
	bool		cancel;			/* the call under way is not wanted any more */
	KsCall	   *todo;			/* given to the thread, not finished */
	KsCall	   *done;			/* finished, not fetched */
};

/* Frees a call.  Any thread. */
void
ks_call_free(KsCall *call)
{
	if (call == NULL)
		return;
	if (call->offsets)
		rd_kafka_topic_partition_list_destroy(call->offsets);
	if (call->group)
		rd_kafka_consumer_group_metadata_destroy(call->group);
	free(call);
}

/* Thread body: makes calls until told to quit.  Runs no Postgres code. */
static void *
ks_caller_thread(void *arg)
{
	KsCaller   *caller = arg;

	pthread_mutex_lock(&caller->lock);
	while (!caller->quit)
	{
		uint64		one = 1;
		KsCall	   *call = caller->todo;

		if (call == NULL)
		{
			pthread_cond_wait(&caller->wake, &caller->lock);
			continue;
		}
		pthread_mutex_unlock(&caller->lock);
		call->body(call);
		pthread_mutex_lock(&caller->lock);
		caller->done = call;
		caller->todo = NULL;
		if (write(caller->eventfd, &one, sizeof(one)) != sizeof(one))
		{
			/* full: it is readable, then */
		}
	}
	pthread_mutex_unlock(&caller->lock);
	return NULL;
}

/* The caller of a client, with its thread, made at first use. */
static KsCaller *
ks_client_caller(KsClient *client)
{
	KsCaller   *caller = client->caller;
	sigset_t	all;
	sigset_t	old;
	int			rc;

	if (caller)
		return caller;
	caller = calloc(1, sizeof(KsCaller));
	if (caller == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	pthread_mutex_init(&caller->lock, NULL);
	pthread_cond_init(&caller->wake, NULL);
	caller->eventfd = client->eventfd;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	rc = pthread_create(&caller->thread, NULL, ks_caller_thread, caller);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc != 0)
	{
		pthread_cond_destroy(&caller->wake);
		pthread_mutex_destroy(&caller->lock);
		free(caller);
		errno = rc;
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("could not create thread: %m")));
	}
	client->caller = caller;
	return caller;
}

/* Ends the thread, which may take as long as its call does, and frees all. */
void
ks_caller_end(KsCaller *caller)
{
	pthread_mutex_lock(&caller->lock);
	caller->quit = true;
	pthread_cond_signal(&caller->wake);
	pthread_mutex_unlock(&caller->lock);
	pthread_join(caller->thread, NULL);
	ks_call_free(caller->todo);
	ks_call_free(caller->done);
	pthread_cond_destroy(&caller->wake);
	pthread_mutex_destroy(&caller->lock);
	free(caller);
}

/* Makes a call, to be filled in and started (or freed) before anything can throw. */
KsCall *
ks_call_make(KsClient *client, void (*body) (KsCall *call))
{
	KsCaller   *caller = ks_client_caller(client);
	KsCall	   *call = calloc(1, sizeof(KsCall));

	if (call == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	call->body = body;
	call->caller = caller;
	call->rk = client->rk;
	return call;
}

/* Gives a call to the thread, which must have no other. */
void
ks_call_start(KsClient *client, KsCall *call)
{
	KsCaller   *caller = client->caller;

	pthread_mutex_lock(&caller->lock);
	Assert(caller->todo == NULL);
	ks_call_free(caller->done);
	caller->done = NULL;
	caller->todo = call;
	caller->cancel = false;
	pthread_cond_signal(&caller->wake);
	pthread_mutex_unlock(&caller->lock);
}

/* True while a call is being made. */
bool
ks_call_running(KsClient *client)
{
	KsCaller   *caller = client->caller;
	bool		running;

	if (caller == NULL)
		return false;
	pthread_mutex_lock(&caller->lock);
	running = caller->todo != NULL;
	pthread_mutex_unlock(&caller->lock);
	return running;
}

/* True if a call was finished that nobody has fetched. */
bool
ks_call_is_done(KsClient *client)
{
	KsCaller   *caller = client->caller;
	bool		done;

	if (caller == NULL)
		return false;
	pthread_mutex_lock(&caller->lock);
	done = caller->done != NULL;
	pthread_mutex_unlock(&caller->lock);
	return done;
}

/* Tells the call under way, if any, to end soon. */
void
ks_call_cancel(KsClient *client)
{
	KsCaller   *caller = client->caller;

	if (caller == NULL)
		return;
	pthread_mutex_lock(&caller->lock);
	caller->cancel = true;
	pthread_mutex_unlock(&caller->lock);
}

/* The call that was finished since, or NULL; the caller frees it. */
KsCall *
ks_call_finished(KsClient *client)
{
	KsCaller   *caller = client->caller;
	KsCall	   *call;

	if (caller == NULL)
		return NULL;
	pthread_mutex_lock(&caller->lock);
	call = caller->done;
	caller->done = NULL;
	pthread_mutex_unlock(&caller->lock);
	return call;
}

/* What the call under way is held up by, as far as it has said. */
rd_kafka_resp_err_t
ks_call_obstacle(KsClient *client)
{
	KsCaller   *caller = client->caller;
	rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR_NO_ERROR;

	if (caller == NULL)
		return err;
	pthread_mutex_lock(&caller->lock);
	if (caller->todo)
		err = caller->todo->err;
	pthread_mutex_unlock(&caller->lock);
	return err;
}

/* For bodies: true when nobody waits for the result any more. */
bool
ks_call_unwanted(KsCall *call)
{
	bool		quit;

	pthread_mutex_lock(&call->caller->lock);
	quit = call->caller->quit || call->caller->cancel;
	pthread_mutex_unlock(&call->caller->lock);
	return quit;
}

/* For bodies: notes an error of the library (NULL: none), and destroys it. */
void
ks_call_set_error(KsCall *call, rd_kafka_error_t *error)
{
	pthread_mutex_lock(&call->caller->lock);
	call->err = error ? rd_kafka_error_code(error) : RD_KAFKA_RESP_ERR_NO_ERROR;
	call->fatal = error && rd_kafka_error_is_fatal(error);
	call->abortable = error && rd_kafka_error_txn_requires_abort(error);
	call->text[0] = '\0';
	if (error)
	{
		strlcpy(call->text, rd_kafka_error_string(error), sizeof(call->text));
		rd_kafka_error_destroy(error);
	}
	pthread_mutex_unlock(&call->caller->lock);
}
