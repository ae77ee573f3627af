/*
 * confbuild.h
 *		Options of a server and a user mapping -> configuration of a client.
 *
 * Internal to kafka/.
 */
#ifndef KS_CONFBUILD_H
#define KS_CONFBUILD_H

#include "kafka/client.h"

extern rd_kafka_conf_t *ks_conf_build(Oid serverid, Oid userid, KsClientRole role,
									  const char *name, List **secrets);
extern char *ks_conf_get(rd_kafka_conf_t *conf, const char *property);
extern bool ks_conf_knows(const char *property, const char *value);
extern void ks_conf_set(rd_kafka_conf_t *conf, const char *property, const char *value);

#endif							/* KS_CONFBUILD_H */
