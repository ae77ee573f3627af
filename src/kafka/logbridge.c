/*
 * logbridge.c
 *		Events of the client library that are no records: log, errors, statistics.
 *
 * The library's threads put them into the client's main queue; they are taken
 * out here, on the main thread of the process, so that no thread but ours ever
 * calls into Postgres.  Text of the library may hold bytes sent by a broker or,
 * in the worst case, a secret: it is cleaned before anybody sees it.
 */
#include "postgres.h"

#include "kafka/logbridge.h"

#include "utils/timestamp.h"

#define KS_TEXT_MAX			1024	/* longest text shown */
#define KS_SECRET_MIN		3	/* shorter ones are not looked for: they would blank out everything */
#define KS_LOG_BURST		10	/* lines of log at once ... */
#define KS_LOG_REFILL_MS	3000	/* ... and then one in this time */
#define KS_SERVE_MAX		1000	/* events per call */
#define KS_LOG_DEBUG		7		/* level of debugging lines */

/* Facility of the debugging line that tells that a partition could not be fetched. */
#define KS_LOG_UNAVAILABLE	"BROKERUA"

/* Blanks every occurrence of a secret in text. */
static void
ks_hide_secret(char *text, const char *secret)
{
	size_t		len = strlen(secret);
	char	   *at = text;

	if (len < KS_SECRET_MIN)
		return;
	while ((at = strstr(at, secret)) != NULL)
	{
		memset(at, '*', len);
		at += len;
	}
}

/* A copy of text fit to be shown: no secrets, printable ASCII, not endless. */
char *
ks_client_clean_text(KsClient *client, const char *text)
{
	char	   *clean = pstrdup(text ? text : "");
	ListCell   *lc;

	foreach(lc, client->secrets)
		ks_hide_secret(clean, lfirst(lc));
	for (char *p = clean; *p; p++)
	{
		if (p - clean >= KS_TEXT_MAX)
		{
			*p = '\0';
			break;
		}
		if ((unsigned char) *p < 0x20 || (unsigned char) *p >= 0x7f)
			*p = '?';
	}
	return clean;
}

/* True if one more line may go to the server log now. */
static bool
ks_log_allowed(KsClient *client)
{
	TimestampTz now = GetCurrentTimestamp();

	if (client->log_refill == 0)
	{
		client->log_refill = now;
		client->log_tokens = KS_LOG_BURST;
	}
	while (client->log_tokens < KS_LOG_BURST &&
		   TimestampDifferenceExceeds(client->log_refill, now, KS_LOG_REFILL_MS))
	{
		client->log_tokens++;
		client->log_refill = TimestampTzPlusMilliseconds(client->log_refill, KS_LOG_REFILL_MS);
	}
	if (client->log_tokens == KS_LOG_BURST)
		client->log_refill = now;
	if (client->log_tokens == 0)
	{
		client->log_suppressed++;
		return false;
	}
	client->log_tokens--;
	return true;
}

/* A line of the library's log goes to the server log. */
static void
ks_serve_log(KsClient *client, rd_kafka_event_t *event)
{
	const char *facility;
	const char *text;
	int			level;
	char	   *clean;

	if (rd_kafka_event_log(event, &facility, &text, &level) != 0)
		return;
	if (strcmp(facility, KS_LOG_UNAVAILABLE) == 0)
		client->interrupted = true;
	if (level >= KS_LOG_DEBUG && !client->shows_debug)
		return;
	/* copies of a configuration hold every property, so also those that nobody has set */
	if (strcmp(facility, "CONFWARN") == 0 &&
		(strstr(text, "deprecated") != NULL || strstr(text, "will be ignored by") != NULL))
		return;
	if (!ks_log_allowed(client))
		return;
	clean = ks_client_clean_text(client, text);
	if (client->log_suppressed > 0)
		ereport(LOG,
				(errmsg("Kafka client \"%s\": %s", client->name, clean),
				 errdetail("%u earlier lines were left out.", client->log_suppressed),
				 errhidestmt(true)));
	else
		ereport(LOG,
				(errmsg("Kafka client \"%s\": %s", client->name, clean),
				 errhidestmt(true)));
	client->log_suppressed = 0;
	pfree(clean);
}

/* An error of the client as a whole is remembered; the library goes on by itself. */
static void
ks_serve_error(KsClient *client, rd_kafka_event_t *event)
{
	rd_kafka_resp_err_t err = rd_kafka_event_error(event);
	char	   *clean;

	if (err == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
	{
		client->down = true;
		if (client->last_error[0] != '\0')
			return;				/* the error that came before says more */
	}
	client->last_code = err;
	clean = ks_client_clean_text(client, rd_kafka_event_error_string(event));
	strlcpy(client->last_error, clean, sizeof(client->last_error));
	pfree(clean);
}

/* Statistics tell whether any broker is connected. */
static void
ks_serve_stats(KsClient *client, rd_kafka_event_t *event)
{
	const char *json = rd_kafka_event_stats(event);

	if (json == NULL)
		return;
	if (strstr(json, "\"state\":\"UP\"") != NULL)
		ks_client_note_alive(client);
	else
		client->down = true;
}

/* Something came from a broker: it can be reached. */
void
ks_client_note_alive(KsClient *client)
{
	if (client->down)
	{
		client->last_error[0] = '\0';
		client->last_code = RD_KAFKA_RESP_ERR_NO_ERROR;
	}
	client->down = false;
}

/*
 * Serves what is in the main queue, waiting up to timeout_ms for it.  Returns
 * the first event of another kind (the answer to an admin request), which the
 * caller destroys, or NULL.
 */
rd_kafka_event_t *
ks_client_serve(KsClient *client, int timeout_ms)
{
	for (int i = 0; i < KS_SERVE_MAX; i++)
	{
		rd_kafka_event_t *event = rd_kafka_queue_poll(client->mainq, timeout_ms);

		if (event == NULL)
			return NULL;
		switch (rd_kafka_event_type(event))
		{
			case RD_KAFKA_EVENT_LOG:
				ks_serve_log(client, event);
				break;
			case RD_KAFKA_EVENT_ERROR:
				ks_serve_error(client, event);
				break;
			case RD_KAFKA_EVENT_STATS:
				ks_serve_stats(client, event);
				break;
			default:
				return event;
		}
		rd_kafka_event_destroy(event);
		timeout_ms = 0;
	}
	return NULL;
}
