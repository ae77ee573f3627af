/*
 * kerror.h
 *		What an error code of the client library means for us: decided once, here.
 *
 * Internal to kafka/.
 */
#ifndef KS_KERROR_H
#define KS_KERROR_H

#include "kafka/client.h"
#include "kafka/consumer.h"
#include "kafka/producer.h"

extern KsFetchErrorCode ks_fetch_error_code(rd_kafka_resp_err_t err);
extern KsProducerOutcome ks_producer_outcome(rd_kafka_resp_err_t err, bool *fenced);
extern bool ks_error_may_pass(rd_kafka_resp_err_t err);
extern int	ks_producer_sqlstate(KsProducerOutcome outcome, const char **hint);
extern bool ks_error_is_passing(rd_kafka_resp_err_t err);
extern _Noreturn void ks_request_failed(KsClient *client, rd_kafka_resp_err_t err, const char *detail,
							  const char *action, const char *topic);

#endif							/* KS_KERROR_H */
