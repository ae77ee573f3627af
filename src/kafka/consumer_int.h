/*
 * consumer_int.h
 *		What admin.c needs to know of a consumer.
 *
 * Internal to kafka/.
 */
#ifndef KS_CONSUMER_INT_H
#define KS_CONSUMER_INT_H

#include "kafka/client.h"
#include "kafka/consumer.h"

extern KsConsumer *ks_consumer_probe(KsConsumer *consumer);
extern KsClient *ks_consumer_client(KsConsumer *consumer);
extern rd_kafka_topic_t *ks_consumer_topic(KsConsumer *consumer, const char *name);
extern void ks_consumer_note_leaders(KsConsumer *consumer, const rd_kafka_metadata_topic_t *metadata);

#endif							/* KS_CONSUMER_INT_H */
