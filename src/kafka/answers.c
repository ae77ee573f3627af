/*
 * answers.c
 *		When the brokers that a client fetches from have answered.
 *
 * The library tells nobody that a fetch has brought nothing, but it calls an
 * interceptor for every answer, in the thread of the broker.  So no Postgres code
 * runs there but atomics.
 */
#include "postgres.h"

#include "kafka/answers.h"

#include "base/clock.h"

#define KS_API_FETCH		1	/* the protocol's number of the request */
#define KS_BREAK_MS			2000	/* later than fetch.wait.max.ms by this is a break */
#define KS_NAME				"kstream"

/* The place of a broker, taken if it has none and create is true; NULL: there is none. */
static KsBrokerAnswers *
ks_find_broker(KsAnswers *answers, int32 broker, bool create)
{
	for (int i = 0; i < KS_ANSWERS_BROKERS; i++)
	{
		KsBrokerAnswers *place = &answers->brokers[i];
		uint64		owner = pg_atomic_read_u64(&place->owner);

		if (owner == 0)
		{
			if (!create)
				return NULL;
			if (pg_atomic_compare_exchange_u64(&place->owner, &owner, (uint64) broker + 1))
				return place;
		}
		if (owner == (uint64) broker + 1)
			return place;
	}
	return NULL;
}

/* Interceptor: an answer has come.  In the broker's thread. */
static rd_kafka_resp_err_t
ks_hear_answer(rd_kafka_t *rk, int sockfd, const char *name, int32_t broker, int16_t api, int16_t version,
			   int32_t correlation, size_t size, int64_t rtt, rd_kafka_resp_err_t err, void *opaque)
{
	KsAnswers  *answers = opaque;
	KsBrokerAnswers *place;
	TimestampTz now;

	if (api != KS_API_FETCH || err != RD_KAFKA_RESP_ERR_NO_ERROR || broker < 0)
		return RD_KAFKA_RESP_ERR_NO_ERROR;
	place = ks_find_broker(answers, broker, true);
	if (place == NULL)
		return RD_KAFKA_RESP_ERR_NO_ERROR;
	now = ks_clock_now();
	if (now - (TimestampTz) pg_atomic_read_u64(&place->last) > answers->break_us)
		pg_atomic_write_u64(&place->since, (uint64) now);
	pg_write_barrier();
	pg_atomic_write_u64(&place->last, (uint64) now);
	return RD_KAFKA_RESP_ERR_NO_ERROR;
}

/* Interceptor: the handle is made. */
static rd_kafka_resp_err_t
ks_hear_new(rd_kafka_t *rk, const rd_kafka_conf_t *conf, void *opaque, char *errstr, size_t errlen)
{
	return rd_kafka_interceptor_add_on_response_received(rk, KS_NAME, ks_hear_answer, opaque);
}

/* A property's value; the empty string where the library does not know it. */
static const char *
ks_property(rd_kafka_conf_t *conf, const char *name, char *value, size_t size)
{
	if (rd_kafka_conf_get(conf, name, value, &size) != RD_KAFKA_CONF_OK)
		value[0] = '\0';
	return value;
}

/* Makes the client that will be opened with conf note its brokers' answers; they live as long as it. */
void
ks_answers_hear(rd_kafka_conf_t *conf, KsAnswers *answers)
{
	char		value[256];

	answers->break_us = (atoi(ks_property(conf, "fetch.wait.max.ms", value, sizeof(value))) + KS_BREAK_MS) *
		INT64CONST(1000);
	/* a client that has a rack may be sent on to another replica */
	answers->anyone = ks_property(conf, "client.rack", value, sizeof(value))[0] != '\0';
	for (int i = 0; i < KS_ANSWERS_BROKERS; i++)
	{
		pg_atomic_init_u64(&answers->brokers[i].owner, 0);
		pg_atomic_init_u64(&answers->brokers[i].since, 0);
		pg_atomic_init_u64(&answers->brokers[i].last, 0);
	}
	(void) rd_kafka_conf_interceptor_add_on_new(conf, KS_NAME, ks_hear_new, answers);
}

/* The broker that has answered last. */
static KsBrokerAnswers *
ks_last_to_answer(KsAnswers *answers)
{
	KsBrokerAnswers *best = NULL;

	for (int i = 0; i < KS_ANSWERS_BROKERS; i++)
	{
		KsBrokerAnswers *place = &answers->brokers[i];

		if (pg_atomic_read_u64(&place->owner) == 0)
			break;
		if (best == NULL || pg_atomic_read_u64(&place->last) > pg_atomic_read_u64(&best->last))
			best = place;
	}
	return best;
}

/*
 * Since when the broker, leader of a partition, has answered without a break, and
 * when last.  False if it has not answered yet.
 */
bool
ks_answers_of(KsAnswers *answers, int32 leader, TimestampTz *since, TimestampTz *last)
{
	KsBrokerAnswers *place = answers->anyone ? ks_last_to_answer(answers) :
		leader >= 0 ? ks_find_broker(answers, leader, false) : NULL;

	if (place == NULL)
		return false;
	*last = (TimestampTz) pg_atomic_read_u64(&place->last);
	pg_read_barrier();
	*since = (TimestampTz) pg_atomic_read_u64(&place->since);
	return *last != 0;
}
