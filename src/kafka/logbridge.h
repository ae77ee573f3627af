/*
 * logbridge.h
 *		Events of the client library that are no records: log, errors, statistics.
 *
 * Internal to kafka/.
 */
#ifndef KS_LOGBRIDGE_H
#define KS_LOGBRIDGE_H

#include "kafka/client.h"

extern rd_kafka_event_t *ks_client_serve(KsClient *client, int timeout_ms);
extern char *ks_client_clean_text(KsClient *client, const char *text);
extern void ks_client_note_alive(KsClient *client);

#endif							/* KS_LOGBRIDGE_H */
