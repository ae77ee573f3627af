/*
 * answers.h
 *		When the brokers that a client fetches from have answered.
 *
 * Internal to kafka/.  That nothing has come of a partition means that nothing is
 * there only as long as its broker answers.  Whether one does is told by the
 * answers to fetches: they come within fetch.wait.max.ms, with records or without.
 */
#ifndef KS_ANSWERS_H
#define KS_ANSWERS_H

#include "postgres.h"

#include <librdkafka/rdkafka.h>

#include "datatype/timestamp.h"
#include "port/atomics.h"

#define KS_ANSWERS_BROKERS	256

/* Written by the library's thread of that broker only. */
typedef struct KsBrokerAnswers
{
	pg_atomic_uint64 owner;		/* number of the broker plus 1; 0: free */
	pg_atomic_uint64 since;		/* when the first one after a break came (base/clock.h) */
	pg_atomic_uint64 last;		/* when the last one came; 0: none */
} KsBrokerAnswers;

typedef struct KsAnswers
{
	int64		break_us;		/* a break is longer than this */
	bool		anyone;			/* it is not the leader of a partition that is asked */
	KsBrokerAnswers brokers[KS_ANSWERS_BROKERS];
} KsAnswers;

extern void ks_answers_hear(rd_kafka_conf_t *conf, KsAnswers *answers);
extern bool ks_answers_of(KsAnswers *answers, int32 leader, TimestampTz *since, TimestampTz *last);

#endif							/* KS_ANSWERS_H */
