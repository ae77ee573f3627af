/*
 * property.c
 *		The table of client properties and their classes.
 *
 * An allow-list: what is not here is refused, because the library accepts names
 * that it does not document, and some of them end the process.  The table holds
 * the properties of every version of the library we know; whether the linked
 * one has a property is asked of the library itself.
 */
#include "postgres.h"

#include "kafka/property.h"

static const KsProperty properties[] = {
	/* Where the brokers are, and how to talk to them. */
	{"bootstrap.servers", 'A', KS_PROP_ALLOWED, 0, 0},
	{"metadata.broker.list", 'A', KS_PROP_ALLOWED, 0, 0},
	{"client.id", 'A', KS_PROP_ALLOWED, 0, 0},
	{"client.rack", 'A', KS_PROP_ALLOWED, 0, 0},
	{"client.dns.lookup", 'A', KS_PROP_ALLOWED, 0, 0},
	{"broker.address.ttl", 'A', KS_PROP_ALLOWED, 0, 0},
	{"broker.address.family", 'A', KS_PROP_ALLOWED, 0, 0},
	{"connections.max.idle.ms", 'A', KS_PROP_ALLOWED, 0, 0},
	{"socket.timeout.ms", 'A', KS_PROP_ALLOWED, 0, 0},
	{"socket.blocking.max.ms", 'A', KS_PROP_ALLOWED, 0, 0},
	{"socket.send.buffer.bytes", 'A', KS_PROP_ALLOWED, 0, 16777216},
	{"socket.receive.buffer.bytes", 'A', KS_PROP_ALLOWED, 0, 16777216},
	{"socket.keepalive.enable", 'A', KS_PROP_ALLOWED, 0, 0},
	{"socket.nagle.disable", 'A', KS_PROP_ALLOWED, 0, 0},
	{"socket.max.fails", 'A', KS_PROP_ALLOWED, 0, 0},
	{"socket.connection.setup.timeout.ms", 'A', KS_PROP_ALLOWED, 0, 0},
	{"reconnect.backoff.jitter.ms", 'A', KS_PROP_ALLOWED, 0, 0},
	{"reconnect.backoff.ms", 'A', KS_PROP_ALLOWED, 0, 0},
	{"reconnect.backoff.max.ms", 'A', KS_PROP_ALLOWED, 0, 0},
	{"retry.backoff.ms", 'P', KS_PROP_ALLOWED, 0, 0},
	{"retry.backoff.max.ms", 'P', KS_PROP_ALLOWED, 0, 0},
	{"message.max.bytes", 'A', KS_PROP_ALLOWED, 0, 0},
	{"message.copy.max.bytes", 'A', KS_PROP_ALLOWED, 0, 0},
	{"receive.message.max.bytes", 'A', KS_PROP_ALLOWED, 0, 0},
	{"topic.metadata.refresh.interval.ms", 'A', KS_PROP_ALLOWED, 100, 300000},
	{"metadata.max.age.ms", 'A', KS_PROP_ALLOWED, 0, 0},
	{"topic.metadata.refresh.fast.interval.ms", 'A', KS_PROP_ALLOWED, 0, 0},
	{"topic.metadata.refresh.fast.cnt", 'A', KS_PROP_ALLOWED, 0, 0},
	{"topic.metadata.refresh.sparse", 'A', KS_PROP_ALLOWED, 0, 0},
	{"topic.metadata.propagation.max.ms", 'A', KS_PROP_ALLOWED, 0, 0},
	{"metadata.recovery.strategy", 'A', KS_PROP_ALLOWED, 0, 0},
	{"metadata.recovery.rebootstrap.trigger.ms", 'A', KS_PROP_ALLOWED, 0, 0},

	/* Reading. */
	{"queued.min.messages", 'C', KS_PROP_ALLOWED, 0, 0},
	{"queued.max.messages.kbytes", 'C', KS_PROP_ALLOWED, 1, 1048576},
	{"fetch.wait.max.ms", 'C', KS_PROP_ALLOWED, 0, 0},
	{"fetch.queue.backoff.ms", 'C', KS_PROP_ALLOWED, 0, 0},
	{"fetch.message.max.bytes", 'C', KS_PROP_ALLOWED, 0, 0},
	{"max.partition.fetch.bytes", 'C', KS_PROP_ALLOWED, 0, 0},
	{"fetch.max.bytes", 'C', KS_PROP_ALLOWED, 0, 0},
	{"fetch.min.bytes", 'C', KS_PROP_ALLOWED, 0, 0},
	{"fetch.error.backoff.ms", 'C', KS_PROP_ALLOWED, 0, 0},

	/* Writing. */
	{"queue.buffering.max.messages", 'P', KS_PROP_ALLOWED, 1, 10000000},
	{"queue.buffering.max.kbytes", 'P', KS_PROP_ALLOWED, 1, 1048576},
	{"queue.buffering.max.ms", 'P', KS_PROP_ALLOWED, 0, 0},
	{"linger.ms", 'P', KS_PROP_ALLOWED, 0, 0},
	{"queue.buffering.backpressure.threshold", 'P', KS_PROP_ALLOWED, 0, 0},
	{"compression.codec", 'P', KS_PROP_ALLOWED, 0, 0},
	{"compression.type", 'P', KS_PROP_ALLOWED, 0, 0},
	{"compression.level", 'P', KS_PROP_ALLOWED, 0, 0},
	{"batch.num.messages", 'P', KS_PROP_ALLOWED, 0, 0},
	{"batch.size", 'P', KS_PROP_ALLOWED, 0, 0},
	{"sticky.partitioning.linger.ms", 'P', KS_PROP_ALLOWED, 0, 0},
	{"request.timeout.ms", 'P', KS_PROP_ALLOWED, 0, 0},
	{"transaction.timeout.ms", 'P', KS_PROP_ALLOWED, 1000, 900000},

	/* Security that is nobody's secret. */
	{"security.protocol", 'A', KS_PROP_ALLOWED, 0, 0},
	{"sasl.mechanisms", 'A', KS_PROP_ALLOWED, 0, 0},
	{"sasl.mechanism", 'A', KS_PROP_ALLOWED, 0, 0},
	{"ssl.ca.pem", 'A', KS_PROP_ALLOWED, 0, 0},
	{"ssl.certificate.pem", 'A', KS_PROP_ALLOWED, 0, 0},
	{"ssl.cipher.suites", 'A', KS_PROP_ALLOWED, 0, 0},
	{"ssl.curves.list", 'A', KS_PROP_ALLOWED, 0, 0},
	{"ssl.sigalgs.list", 'A', KS_PROP_ALLOWED, 0, 0},
	{"https.ca.pem", 'A', KS_PROP_ALLOWED, 0, 0},
	{"sasl.oauthbearer.grant.type", 'A', KS_PROP_ALLOWED, 0, 0},
	{"sasl.oauthbearer.sub.claim.name", 'A', KS_PROP_ALLOWED, 0, 0},
	{"sasl.oauthbearer.assertion.algorithm", 'A', KS_PROP_ALLOWED, 0, 0},
	{"sasl.oauthbearer.assertion.claim.aud", 'A', KS_PROP_ALLOWED, 0, 0},
	{"sasl.oauthbearer.assertion.claim.exp.seconds", 'A', KS_PROP_ALLOWED, 0, 0},
	{"sasl.oauthbearer.assertion.claim.iss", 'A', KS_PROP_ALLOWED, 0, 0},
	{"sasl.oauthbearer.assertion.claim.jti.include", 'A', KS_PROP_ALLOWED, 0, 0},
	{"sasl.oauthbearer.assertion.claim.nbf.seconds", 'A', KS_PROP_ALLOWED, 0, 0},
	{"sasl.oauthbearer.assertion.claim.sub", 'A', KS_PROP_ALLOWED, 0, 0},

	/* Secrets. */
	{"sasl.username", 'A', KS_PROP_SECRET, 0, 0},
	{"sasl.password", 'A', KS_PROP_SECRET, 0, 0},
	{"ssl.key.pem", 'A', KS_PROP_SECRET, 0, 0},
	{"ssl.key.password", 'A', KS_PROP_SECRET, 0, 0},
	{"ssl.keystore.password", 'A', KS_PROP_SECRET, 0, 0},
	{"sasl.oauthbearer.config", 'A', KS_PROP_SECRET, 0, 0},
	{"sasl.oauthbearer.client.id", 'A', KS_PROP_SECRET, 0, 0},
	{"sasl.oauthbearer.client.secret", 'A', KS_PROP_SECRET, 0, 0},
	{"sasl.oauthbearer.client.credentials.client.id", 'A', KS_PROP_SECRET, 0, 0},
	{"sasl.oauthbearer.client.credentials.client.secret", 'A', KS_PROP_SECRET, 0, 0},
	{"sasl.oauthbearer.scope", 'A', KS_PROP_SECRET, 0, 0},
	{"sasl.oauthbearer.extensions", 'A', KS_PROP_SECRET, 0, 0},
	{"sasl.oauthbearer.assertion.private.key.pem", 'A', KS_PROP_SECRET, 0, 0},
	{"sasl.oauthbearer.assertion.private.key.passphrase", 'A', KS_PROP_SECRET, 0, 0},

	/* They make the server read a file. */
	{"ssl.key.location", 'A', KS_PROP_SERVER_FILE, 0, 0},
	{"ssl.certificate.location", 'A', KS_PROP_SERVER_FILE, 0, 0},
	{"ssl.ca.location", 'A', KS_PROP_SERVER_FILE, 0, 0},
	{"ssl.crl.location", 'A', KS_PROP_SERVER_FILE, 0, 0},
	{"ssl.keystore.location", 'A', KS_PROP_SERVER_FILE, 0, 0},
	{"ssl.ca.certificate.stores", 'A', KS_PROP_SERVER_FILE, 0, 0},
	{"https.ca.location", 'A', KS_PROP_SERVER_FILE, 0, 0},
	{"sasl.oauthbearer.assertion.file", 'A', KS_PROP_SERVER_FILE, 0, 0},
	{"sasl.oauthbearer.assertion.jwt.template.file", 'A', KS_PROP_SERVER_FILE, 0, 0},
	{"sasl.oauthbearer.assertion.private.key.file", 'A', KS_PROP_SERVER_FILE, 0, 0},

	/* They weaken security, make the server call elsewhere, or flood its log. */
	{"enable.ssl.certificate.verification", 'A', KS_PROP_SUPERUSER, 0, 0},
	{"ssl.endpoint.identification.algorithm", 'A', KS_PROP_SUPERUSER, 0, 0},
	{"enable.sasl.oauthbearer.unsecure.jwt", 'A', KS_PROP_SUPERUSER, 0, 0},
	{"sasl.oauthbearer.method", 'A', KS_PROP_SUPERUSER, 0, 0},
	{"sasl.oauthbearer.token.endpoint.url", 'A', KS_PROP_SUPERUSER, 0, 0},
	{"sasl.oauthbearer.metadata.authentication.type", 'A', KS_PROP_SUPERUSER, 0, 0},
	{"debug", 'A', KS_PROP_SUPERUSER, 0, 0},
	{"log_level", 'A', KS_PROP_SUPERUSER, 0, 0},

	/* Set by kstream: its promises hang on them, or they mean nothing here. */
	{"builtin.features", 'A', KS_PROP_FIXED, 0, 0},
	{"client.software.name", 'A', KS_PROP_FIXED, 0, 0},
	{"group.id", 'C', KS_PROP_FIXED, 0, 0},
	{"group.instance.id", 'C', KS_PROP_FIXED, 0, 0},
	{"group.protocol", 'C', KS_PROP_FIXED, 0, 0},
	{"group.protocol.type", 'C', KS_PROP_FIXED, 0, 0},
	{"group.remote.assignor", 'C', KS_PROP_FIXED, 0, 0},
	{"partition.assignment.strategy", 'C', KS_PROP_FIXED, 0, 0},
	{"session.timeout.ms", 'C', KS_PROP_FIXED, 0, 0},
	{"heartbeat.interval.ms", 'C', KS_PROP_FIXED, 0, 0},
	{"coordinator.query.interval.ms", 'C', KS_PROP_FIXED, 0, 0},
	{"max.poll.interval.ms", 'C', KS_PROP_FIXED, 0, 0},
	{"max.poll.records", 'C', KS_PROP_FIXED, 0, 0},
	{"share.acknowledgement.mode", 'C', KS_PROP_FIXED, 0, 0},
	{"enable.auto.commit", 'C', KS_PROP_FIXED, 0, 0},
	{"auto.commit.enable", 'C', KS_PROP_FIXED, 0, 0},
	{"auto.commit.interval.ms", 'C', KS_PROP_FIXED, 0, 0},
	{"enable.auto.offset.store", 'C', KS_PROP_FIXED, 0, 0},
	{"auto.offset.reset", 'C', KS_PROP_FIXED, 0, 0},
	{"isolation.level", 'C', KS_PROP_FIXED, 0, 0},
	{"enable.partition.eof", 'C', KS_PROP_FIXED, 0, 0},
	{"check.crcs", 'C', KS_PROP_FIXED, 0, 0},
	{"consume.callback.max.messages", 'C', KS_PROP_FIXED, 0, 0},
	{"transactional.id", 'P', KS_PROP_FIXED, 0, 0},
	{"enable.idempotence", 'P', KS_PROP_FIXED, 0, 0},
	{"enable.gapless.guarantee", 'P', KS_PROP_FIXED, 0, 0},
	{"message.send.max.retries", 'P', KS_PROP_FIXED, 0, 0},
	{"retries", 'P', KS_PROP_FIXED, 0, 0},
	{"acks", 'P', KS_PROP_FIXED, 0, 0},
	{"request.required.acks", 'P', KS_PROP_FIXED, 0, 0},
	{"message.timeout.ms", 'P', KS_PROP_FIXED, 0, 0},
	{"delivery.timeout.ms", 'P', KS_PROP_FIXED, 0, 0},
	{"queuing.strategy", 'P', KS_PROP_FIXED, 0, 0},
	{"produce.offset.report", 'P', KS_PROP_FIXED, 0, 0},
	{"partitioner", 'P', KS_PROP_FIXED, 0, 0},
	{"delivery.report.only.error", 'P', KS_PROP_FIXED, 0, 0},
	{"max.in.flight.requests.per.connection", 'A', KS_PROP_FIXED, 0, 0},
	{"max.in.flight", 'A', KS_PROP_FIXED, 0, 0},
	{"allow.auto.create.topics", 'A', KS_PROP_FIXED, 0, 0},
	{"topic.blacklist", 'A', KS_PROP_FIXED, 0, 0},
	{"api.version.request", 'A', KS_PROP_FIXED, 0, 0},
	{"api.version.request.timeout.ms", 'A', KS_PROP_FIXED, 0, 0},
	{"api.version.fallback.ms", 'A', KS_PROP_FIXED, 0, 0},
	{"broker.version.fallback", 'A', KS_PROP_FIXED, 0, 0},
	{"statistics.interval.ms", 'A', KS_PROP_FIXED, 0, 0},
	{"enable.metrics.push", 'A', KS_PROP_FIXED, 0, 0},
	{"log.queue", 'A', KS_PROP_FIXED, 0, 0},
	{"log.thread.name", 'A', KS_PROP_FIXED, 0, 0},
	{"log.connection.close", 'A', KS_PROP_FIXED, 0, 0},
	{"enable.random.seed", 'A', KS_PROP_FIXED, 0, 0},
	{"enable.sparse.connections", 'A', KS_PROP_FIXED, 0, 0},
	{"metadata.request.timeout.ms", 'A', KS_PROP_FIXED, 0, 0},

	/* They load code, run commands, open listeners, write files or take over the process. */
	{"plugin.library.paths", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"interceptors", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"ssl.engine.location", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"ssl.engine.id", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"ssl.providers", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"ssl_engine_callback_data", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"ssl_key", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"ssl_certificate", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"ssl_ca", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"sasl.kerberos.service.name", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"sasl.kerberos.principal", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"sasl.kerberos.kinit.cmd", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"sasl.kerberos.keytab", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"sasl.kerberos.min.time.before.relogin", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"sasl.jaas.config", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"ssl.truststore.location", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"internal.termination.signal", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"test.mock.num.brokers", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"test.mock.broker.rtt", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"ut_handle_ProduceResponse", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"enabled_events", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"opaque", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"default_topic_conf", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"error_cb", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"throttle_cb", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"stats_cb", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"log_cb", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"background_event_cb", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"socket_cb", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"connect_cb", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"closesocket_cb", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"open_cb", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"resolve_cb", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"ssl.certificate.verify_cb", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"oauthbearer_token_refresh_cb", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"consume_cb", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"rebalance_cb", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"offset_commit_cb", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"dr_cb", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"dr_msg_cb", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"partitioner_cb", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"msg_order_cmp", 'A', KS_PROP_FORBIDDEN, 0, 0},
	{"offset.store.method", 'C', KS_PROP_FORBIDDEN, 0, 0},
	{"offset.store.path", 'C', KS_PROP_FORBIDDEN, 0, 0},
	{"offset.store.sync.interval.ms", 'C', KS_PROP_FORBIDDEN, 0, 0},
};

/* The whole table, for checks. */
const KsProperty *
ks_property_table(int *count)
{
	*count = lengthof(properties);
	return properties;
}

/* Name of a property as an option: '_' for '.'. */
char *
ks_property_option_name(const KsProperty *prop)
{
	char	   *name = pstrdup(prop->name);

	for (char *p = name; *p; p++)
	{
		if (*p == '.')
			*p = '_';
	}
	return name;
}

/* True if option_name is how the property is spelled as an option. */
static bool
ks_property_matches(const KsProperty *prop, const char *option_name)
{
	const char *a = prop->name;
	const char *b = option_name;

	for (; *a && *b; a++, b++)
	{
		if ((*a == '.' ? '_' : *a) != *b)
			return false;
	}
	return *a == *b;
}

/* The property an option stands for, or NULL. */
const KsProperty *
ks_property_find(const char *option_name)
{
	for (int i = 0; i < lengthof(properties); i++)
	{
		if (ks_property_matches(&properties[i], option_name))
			return &properties[i];
	}
	return NULL;
}

/* True if properties of the class may be set by anybody at all. */
bool
ks_property_settable(KsPropertyClass class)
{
	return class == KS_PROP_ALLOWED || class == KS_PROP_SECRET ||
		class == KS_PROP_SERVER_FILE || class == KS_PROP_SUPERUSER;
}

/* The class of an option; KS_PROP_UNKNOWN where there is no such property. */
KsPropertyClass
ks_property_class(const char *option_name)
{
	const KsProperty *prop = ks_property_find(option_name);

	return prop ? prop->class : KS_PROP_UNKNOWN;
}
