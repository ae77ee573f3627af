/*
 * confbuild.c
 *		Options of a server and a user mapping -> configuration of a client.
 *
 * Three layers, later ones win: our defaults, which the server's options may
 * change; the options; what kstream fixes because its promises hang on it.
 */
#include "postgres.h"

#include "kafka/confbuild.h"
#include "kafka/property.h"

#include "access/htup_details.h"
#include "access/reloptions.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

typedef struct KsSetting
{
	const char *name;
	const char *value;
} KsSetting;

/* Defaults of every client. */
static const KsSetting common_defaults[] = {
	{"log_level", "5"},
	{"socket.keepalive.enable", "true"},
	{"socket.nagle.disable", "true"},
	{"socket.timeout.ms", "10000"},
	{"socket.connection.setup.timeout.ms", "10000"},
	{"reconnect.backoff.ms", "100"},
	{"reconnect.backoff.max.ms", "2000"},
	/* New partitions and deleted topics are noticed within this time. */
	{"topic.metadata.refresh.interval.ms", "10000"},
	{"metadata.max.age.ms", "30000"},
	{"topic.metadata.propagation.max.ms", "2000"},
	{NULL, NULL}
};

/*
 * Defaults of a consumer.  The queue takes memory while we lag behind: about
 * 130 MB when full of small records.  A client asks a broker for one thing at
 * a time, so a partition that is assigned anew waits for fetch.wait.max.ms.
 */
static const KsSetting consumer_defaults[] = {
	{"queued.min.messages", "200000"},
	{"queued.max.messages.kbytes", "65536"},
	{"fetch.wait.max.ms", "100"},
	{"fetch.min.bytes", "1"},
	{"fetch.error.backoff.ms", "100"},
	{NULL, NULL}
};

/*
 * Defaults of what sends records.  The queue is small, because who fills it can
 * wait; it takes about 70 MB when full.  Transactions that follow each other
 * closely meet markers still being written, which a short pause sees through.
 */
static const KsSetting producer_defaults[] = {
	{"queue.buffering.max.messages", "100000"},
	{"queue.buffering.max.kbytes", "32768"},
	{"retry.backoff.ms", "10"},
	{NULL, NULL}
};

static const KsSetting transactional_defaults[] = {
	{"linger.ms", "2"},
	{"transaction.timeout.ms", "10000"},
	{NULL, NULL}
};

static const KsSetting idempotent_defaults[] = {
	{"linger.ms", "0"},
	{NULL, NULL}
};

/* What no option changes. */
static const KsSetting common_fixed[] = {
	{"log.queue", "true"},
	{"log.connection.close", "false"},
	{"allow.auto.create.topics", "false"},
	{"api.version.request", "true"},
	{"statistics.interval.ms", "2000"},
	{NULL, NULL}
};

static const KsSetting consumer_fixed[] = {
	{"auto.offset.reset", "error"},
	{"enable.auto.commit", "false"},
	{"auto.commit.enable", "false"},
	{"enable.auto.offset.store", "false"},
	{"offset.store.method", "none"},
	{"isolation.level", "read_committed"},
	{"check.crcs", "true"},
	{"enable.partition.eof", "true"},
	{NULL, NULL}
};

static const KsSetting producer_fixed[] = {
	{"enable.idempotence", "true"},
	{"acks", "all"},
	{"delivery.report.only.error", "false"},
	{NULL, NULL}
};

/* Records wait for the broker as long as it takes: whoever sends them may give up. */
static const KsSetting idempotent_fixed[] = {
	{"message.timeout.ms", "0"},
	{NULL, NULL}
};

/* Properties that only some versions of the library have: set where they exist. */
static const KsSetting optional_settings[] = {
	{"fetch.queue.backoff.ms", "10"},
	{"enable.metrics.push", "false"},
	/* The library could run a command for Kerberos: never. */
	{"sasl.kerberos.kinit.cmd", ""},
	{"sasl.kerberos.min.time.before.relogin", "0"},
	{NULL, NULL}
};

/* Memory context callback: an error while conf is put together. */
static void
ks_conf_reset_callback(void *arg)
{
	rd_kafka_conf_t **conf = arg;

	if (*conf)
		rd_kafka_conf_destroy(*conf);
}

/* True if the linked library has a property and takes the value. */
bool
ks_conf_knows(const char *property, const char *value)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	bool		known = rd_kafka_conf_set(conf, property, value, NULL, 0) == RD_KAFKA_CONF_OK;

	rd_kafka_conf_destroy(conf);
	return known;
}

/* Sets one of our own properties; failing is a bug. */
void
ks_conf_set(rd_kafka_conf_t *conf, const char *property, const char *value)
{
	char		errstr[256];

	if (rd_kafka_conf_set(conf, property, value, errstr, sizeof(errstr)) != RD_KAFKA_CONF_OK)
		elog(ERROR, "could not set Kafka client property \"%s\": %s", property, errstr);
}

/* Sets a list of our own properties. */
static void
ks_conf_set_all(rd_kafka_conf_t *conf, const KsSetting *settings)
{
	for (; settings->name; settings++)
		ks_conf_set(conf, settings->name, settings->value);
}

/* Options of the user mapping of userid, else of PUBLIC's, else none. */
static List *
ks_user_mapping_options(Oid serverid, Oid userid)
{
	HeapTuple	tuple;
	Datum		datum;
	bool		isnull;
	List	   *options = NIL;

	tuple = SearchSysCache2(USERMAPPINGUSERSERVER,
							ObjectIdGetDatum(userid), ObjectIdGetDatum(serverid));
	if (!HeapTupleIsValid(tuple))
		tuple = SearchSysCache2(USERMAPPINGUSERSERVER,
								ObjectIdGetDatum(InvalidOid), ObjectIdGetDatum(serverid));
	if (!HeapTupleIsValid(tuple))
		return NIL;
	datum = SysCacheGetAttr(USERMAPPINGUSERSERVER, tuple,
							Anum_pg_user_mapping_umoptions, &isnull);
	if (!isnull)
		options = untransformRelOptions(datum);
	ReleaseSysCache(tuple);
	return options;
}

/* True if a property is meant for the other kind of client: the library would warn. */
static bool
ks_property_is_idle(const KsProperty *prop, KsClientRole role)
{
	return prop->scope == (role == KS_CLIENT_CONSUMER ? 'P' : 'C');
}

/*
 * Sets one option.  It was checked when it was written, but perhaps by another
 * version of kstream or of the library, so its class is looked at again.
 */
static void
ks_conf_set_option(rd_kafka_conf_t *conf, DefElem *def, KsClientRole role, List **secrets)
{
	const KsProperty *prop = ks_property_find(def->defname);
	char	   *value = defGetString(def);
	char		errstr[256];

	if (prop == NULL || !ks_property_settable(prop->class))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("invalid option \"%s\"", def->defname)));
	if (prop->class == KS_PROP_SECRET)
		*secrets = lappend(*secrets, value);
	if (ks_property_is_idle(prop, role))
		return;
	if (rd_kafka_conf_set(conf, prop->name, value, errstr, sizeof(errstr)) != RD_KAFKA_CONF_OK)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("invalid value for option \"%s\"", def->defname),
				 prop->class == KS_PROP_SECRET ? 0 : errdetail("%s", errstr)));
}

/* Value of a property of conf, or "" where there is none. */
char *
ks_conf_get(rd_kafka_conf_t *conf, const char *property)
{
	size_t		size = 0;
	char	   *buf;

	if (rd_kafka_conf_get(conf, property, NULL, &size) != RD_KAFKA_CONF_OK)
		return pstrdup("");
	buf = palloc0(size + 1);
	rd_kafka_conf_get(conf, property, buf, &size);
	return buf;
}

/* Refuses what cannot work, or what would make the library run a command. */
static void
ks_conf_check(rd_kafka_conf_t *conf, ForeignServer *server)
{
	if (*ks_conf_get(conf, "bootstrap.servers") == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
				 errmsg("server \"%s\" has no Kafka broker", server->servername),
				 errhint("Use ALTER SERVER %s OPTIONS (ADD bootstrap_servers 'host:9092').",
						 server->servername)));
	if (strncmp(ks_conf_get(conf, "security.protocol"), "sasl", 4) == 0 &&
		pg_strcasecmp(ks_conf_get(conf, "sasl.mechanisms"), "GSSAPI") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
				 errmsg("server \"%s\" uses SASL but names no supported mechanism",
						server->servername),
				 errhint("Use ALTER SERVER %s OPTIONS (ADD sasl_mechanism 'SCRAM-SHA-256').",
						 server->servername)));
}

/* Sets the defaults of a role. */
static void
ks_conf_set_defaults(rd_kafka_conf_t *conf, KsClientRole role)
{
	ks_conf_set_all(conf, common_defaults);
	if (role == KS_CLIENT_CONSUMER)
		ks_conf_set_all(conf, consumer_defaults);
	if (role == KS_CLIENT_TRANSACTIONAL || role == KS_CLIENT_IDEMPOTENT)
		ks_conf_set_all(conf, producer_defaults);
	if (role == KS_CLIENT_TRANSACTIONAL)
		ks_conf_set_all(conf, transactional_defaults);
	if (role == KS_CLIENT_IDEMPOTENT)
		ks_conf_set_all(conf, idempotent_defaults);
}

/*
 * Sets what is fixed for a role.  A transaction must leave time for a request,
 * so its time-out bounds that of requests.
 */
static void
ks_conf_set_fixed(rd_kafka_conf_t *conf, KsClientRole role)
{
	ks_conf_set_all(conf, common_fixed);
	if (role == KS_CLIENT_CONSUMER)
		ks_conf_set_all(conf, consumer_fixed);
	if (role == KS_CLIENT_TRANSACTIONAL || role == KS_CLIENT_IDEMPOTENT)
		ks_conf_set_all(conf, producer_fixed);
	if (role == KS_CLIENT_IDEMPOTENT)
		ks_conf_set_all(conf, idempotent_fixed);
	if (role == KS_CLIENT_TRANSACTIONAL)
	{
		int			limit = Max(atoi(ks_conf_get(conf, "transaction.timeout.ms")), 1000);

		if (atoi(ks_conf_get(conf, "socket.timeout.ms")) > limit)
			ks_conf_set(conf, "socket.timeout.ms", psprintf("%d", limit));
	}
}

/*
 * Makes the configuration of a client.  Collects the values of secrets into
 * *secrets (current memory context), so that they can be kept out of texts.
 */
rd_kafka_conf_t *
ks_conf_build(Oid serverid, Oid userid, KsClientRole role, const char *name, List **secrets)
{
	ForeignServer *server = GetForeignServer(serverid);
	List	   *mapping = ks_user_mapping_options(serverid, userid);
	MemoryContext guard = AllocSetContextCreate(CurrentMemoryContext,
												"kstream client configuration",
												ALLOCSET_SMALL_SIZES);
	rd_kafka_conf_t **slot = MemoryContextAllocZero(guard, sizeof(rd_kafka_conf_t *));
	MemoryContextCallback *callback = MemoryContextAllocZero(guard, sizeof(MemoryContextCallback));
	rd_kafka_conf_t *conf;
	ListCell   *lc;

	callback->func = ks_conf_reset_callback;
	callback->arg = slot;
	MemoryContextRegisterResetCallback(guard, callback);
	*slot = conf = rd_kafka_conf_new();
	*secrets = NIL;

	ks_conf_set_defaults(conf, role);
	ks_conf_set(conf, "client.id", psprintf("kstream %s", name));
	for (const KsSetting *s = optional_settings; s->name; s++)
		(void) rd_kafka_conf_set(conf, s->name, s->value, NULL, 0);

	foreach(lc, server->options)
		ks_conf_set_option(conf, lfirst(lc), role, secrets);
	foreach(lc, mapping)
		ks_conf_set_option(conf, lfirst(lc), role, secrets);

	ks_conf_set_fixed(conf, role);
	ks_conf_check(conf, server);
	rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_LOG | RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_STATS);

	*slot = NULL;
	MemoryContextDelete(guard);
	return conf;
}
