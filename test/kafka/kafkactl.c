/*
 * kafkactl.c
 *		A small tool for tests and the demo: topics and offsets of a broker.
 *
 *	kafkactl BOOTSTRAP wait SECONDS
 *	kafkactl BOOTSTRAP list
 *	kafkactl BOOTSTRAP create TOPIC PARTITIONS [CONFIG=VALUE ...]
 *	kafkactl BOOTSTRAP delete TOPIC
 *	kafkactl BOOTSTRAP partitions TOPIC TOTAL
 *	kafkactl BOOTSTRAP config TOPIC CONFIG=VALUE ...
 *	kafkactl BOOTSTRAP delete-records TOPIC PARTITION BEFORE_OFFSET
 *	kafkactl BOOTSTRAP ends TOPIC			(lines: partition first end)
 *
 * Every command returns when what it did can be seen in the broker's metadata,
 * so that a test may go on at once.  Milliseconds per call, where Kafka's own
 * scripts start a JVM each.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <librdkafka/rdkafka.h>

#define REQUEST_MS 30000

static rd_kafka_t *client;
static rd_kafka_queue_t *answers;

/* Ends the program with a message. */
static void
fail(const char *what, const char *why)
{
	fprintf(stderr, "kafkactl: %s: %s\n", what, why);
	exit(1);
}

/* Seconds since some fixed moment. */
static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* The client's own log lines would only confuse: brokers come and go in tests. */
static void
no_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
}

/* Makes the one client of this run. */
static void
connect_to(const char *bootstrap)
{
	char		why[512];
	rd_kafka_conf_t *conf = rd_kafka_conf_new();

	rd_kafka_conf_set_log_cb(conf, no_log);
	if (rd_kafka_conf_set(conf, "bootstrap.servers", bootstrap, why, sizeof(why)) != RD_KAFKA_CONF_OK ||
		rd_kafka_conf_set(conf, "reconnect.backoff.max.ms", "200", why, sizeof(why)) != RD_KAFKA_CONF_OK ||
		rd_kafka_conf_set(conf, "socket.timeout.ms", "10000", why, sizeof(why)) != RD_KAFKA_CONF_OK)
		fail("configuration", why);
	client = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof(why));
	if (client == NULL)
		fail("client", why);
	answers = rd_kafka_queue_new(client);
}

/* Metadata of one topic or, with NULL, of all; NULL when nobody answers in time. */
static const rd_kafka_metadata_t *
metadata(const char *topic, int timeout_ms)
{
	const rd_kafka_metadata_t *meta = NULL;
	rd_kafka_topic_t *handle = topic ? rd_kafka_topic_new(client, topic, NULL) : NULL;

	if (rd_kafka_metadata(client, topic == NULL, handle, &meta, timeout_ms) != RD_KAFKA_RESP_ERR_NO_ERROR)
		meta = NULL;
	if (handle)
		rd_kafka_topic_destroy(handle);
	return meta;
}

/* Partitions of the topic that have a leader; 0 where it does not exist. */
static int
count_partitions(const char *topic)
{
	const rd_kafka_metadata_t *meta = metadata(topic, REQUEST_MS);
	int			n = 0;

	if (meta == NULL)
		fail(topic, "the broker does not answer");
	if (meta->topic_cnt == 1 && meta->topics[0].err == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		for (int i = 0; i < meta->topics[0].partition_cnt; i++)
			n += meta->topics[0].partitions[i].leader >= 0;
	}
	rd_kafka_metadata_destroy(meta);
	return n;
}

/* Waits until the topic has exactly this many partitions with a leader. */
static void
wait_partitions(const char *topic, int wanted)
{
	double		end = now() + REQUEST_MS / 1000.0;

	while (count_partitions(topic) != wanted)
	{
		if (now() > end)
			fail(topic, "the change did not become visible in time");
		usleep(20000);
	}
}

/* Waits for the answer to a request of the admin interface; fails on any error. */
static void
check_answer(const char *what)
{
	rd_kafka_event_t *event = rd_kafka_queue_poll(answers, REQUEST_MS + 5000);
	const rd_kafka_topic_result_t **topics = NULL;
	const rd_kafka_ConfigResource_t **configs = NULL;
	size_t		n = 0;

	if (event == NULL)
		fail(what, "no answer");
	if (rd_kafka_event_error(event))
		fail(what, rd_kafka_event_error_string(event));
	if (rd_kafka_event_CreateTopics_result(event))
		topics = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &n);
	else if (rd_kafka_event_DeleteTopics_result(event))
		topics = rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(event), &n);
	else if (rd_kafka_event_CreatePartitions_result(event))
		topics = rd_kafka_CreatePartitions_result_topics(rd_kafka_event_CreatePartitions_result(event), &n);
	else if (rd_kafka_event_AlterConfigs_result(event))
		configs = rd_kafka_AlterConfigs_result_resources(rd_kafka_event_AlterConfigs_result(event), &n);

	for (size_t i = 0; i < n; i++)
	{
		if (topics && rd_kafka_topic_result_error(topics[i]))
			fail(rd_kafka_topic_result_name(topics[i]),
				 rd_kafka_topic_result_error_string(topics[i]) ?
				 rd_kafka_topic_result_error_string(topics[i]) :
				 rd_kafka_err2str(rd_kafka_topic_result_error(topics[i])));
		if (configs && rd_kafka_ConfigResource_error(configs[i]))
			fail(rd_kafka_ConfigResource_name(configs[i]), rd_kafka_ConfigResource_error_string(configs[i]));
	}
	rd_kafka_event_destroy(event);
}

/* Splits NAME=VALUE in place; returns the value. */
static char *
split_setting(char *setting)
{
	char	   *value = strchr(setting, '=');

	if (value == NULL)
		fail(setting, "must be CONFIG=VALUE");
	*value = '\0';
	return value + 1;
}

/* wait: until a controller and a broker are known, which is when topics can be made. */
static void
do_wait(double seconds)
{
	double		end = now() + seconds;

	for (;;)
	{
		const rd_kafka_metadata_t *meta = metadata(NULL, 1000);
		bool		ready = meta && meta->broker_cnt > 0;

		if (meta)
			rd_kafka_metadata_destroy(meta);
		if (ready && rd_kafka_controllerid(client, 1000) >= 0)
			return;
		if (now() > end)
			fail("wait", "the broker does not answer");
		usleep(50000);
	}
}

/* list: names of topics, internal ones left out. */
static void
do_list(void)
{
	const rd_kafka_metadata_t *meta = metadata(NULL, REQUEST_MS);

	if (meta == NULL)
		fail("list", "the broker does not answer");
	for (int i = 0; i < meta->topic_cnt; i++)
	{
		if (strncmp(meta->topics[i].topic, "__", 2) != 0)
			printf("%s\n", meta->topics[i].topic);
	}
	rd_kafka_metadata_destroy(meta);
}

/* create: with the settings given, one replica. */
static void
do_create(const char *topic, int partitions, int nsettings, char **settings)
{
	char		why[512];
	rd_kafka_NewTopic_t *new = rd_kafka_NewTopic_new(topic, partitions, 1, why, sizeof(why));

	if (new == NULL)
		fail(topic, why);
	for (int i = 0; i < nsettings; i++)
	{
		char	   *value = split_setting(settings[i]);

		rd_kafka_NewTopic_set_config(new, settings[i], value);
	}
	rd_kafka_CreateTopics(client, &new, 1, NULL, answers);
	check_answer("create");
	rd_kafka_NewTopic_destroy(new);
	wait_partitions(topic, partitions);
}

/* delete */
static void
do_delete(const char *topic)
{
	rd_kafka_DeleteTopic_t *old = rd_kafka_DeleteTopic_new(topic);

	rd_kafka_DeleteTopics(client, &old, 1, NULL, answers);
	check_answer("delete");
	rd_kafka_DeleteTopic_destroy(old);
	wait_partitions(topic, 0);
}

/* partitions: grows the topic. */
static void
do_partitions(const char *topic, int total)
{
	char		why[512];
	rd_kafka_NewPartitions_t *new = rd_kafka_NewPartitions_new(topic, total, why, sizeof(why));

	if (new == NULL)
		fail(topic, why);
	rd_kafka_CreatePartitions(client, &new, 1, NULL, answers);
	check_answer("partitions");
	rd_kafka_NewPartitions_destroy(new);
	wait_partitions(topic, total);
}

/* config: replaces the topic's own settings by those given. */
static void
do_config(const char *topic, int nsettings, char **settings)
{
	rd_kafka_ConfigResource_t *resource = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic);

	for (int i = 0; i < nsettings; i++)
	{
		char	   *value = split_setting(settings[i]);

		rd_kafka_ConfigResource_set_config(resource, settings[i], value);
	}
	rd_kafka_AlterConfigs(client, &resource, 1, NULL, answers);
	check_answer("config");
	rd_kafka_ConfigResource_destroy(resource);
}

/* delete-records: what retention does, at once. */
static void
do_delete_records(const char *topic, int partition, int64_t before)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_DeleteRecords_t *request;
	rd_kafka_event_t *event;
	const rd_kafka_topic_partition_list_t *done;

	rd_kafka_topic_partition_list_add(list, topic, partition)->offset = before;
	request = rd_kafka_DeleteRecords_new(list);
	rd_kafka_DeleteRecords(client, &request, 1, NULL, answers);
	event = rd_kafka_queue_poll(answers, REQUEST_MS + 5000);
	if (event == NULL)
		fail("delete-records", "no answer");
	if (rd_kafka_event_error(event))
		fail("delete-records", rd_kafka_event_error_string(event));
	done = rd_kafka_DeleteRecords_result_offsets(rd_kafka_event_DeleteRecords_result(event));
	for (int i = 0; i < done->cnt; i++)
	{
		if (done->elems[i].err)
			fail("delete-records", rd_kafka_err2str(done->elems[i].err));
	}
	rd_kafka_event_destroy(event);
	rd_kafka_DeleteRecords_destroy(request);
	rd_kafka_topic_partition_list_destroy(list);
}

/* ends: first and next offset of every partition. */
static void
do_ends(const char *topic)
{
	int			n = count_partitions(topic);

	if (n == 0)
		fail(topic, "no such topic");
	for (int p = 0; p < n; p++)
	{
		int64_t		first;
		int64_t		end;
		rd_kafka_resp_err_t err = rd_kafka_query_watermark_offsets(client, topic, p, &first, &end, REQUEST_MS);

		if (err)
			fail(topic, rd_kafka_err2str(err));
		printf("%d %lld %lld\n", p, (long long) first, (long long) end);
	}
}

/* Reads the command line; see the top of the file. */
int
main(int argc, char **argv)
{
	const char *verb = argc > 2 ? argv[2] : "";
	const char *topic = argc > 3 ? argv[3] : "";

	if (argc < 3)
		fail("usage", "kafkactl BOOTSTRAP wait|list|create|delete|partitions|config|delete-records|ends ...");
	connect_to(argv[1]);
	if (strcmp(verb, "wait") == 0)
		do_wait(argc > 3 ? atof(argv[3]) : 30);
	else if (strcmp(verb, "list") == 0)
		do_list();
	else if (strcmp(verb, "create") == 0 && argc >= 5)
		do_create(topic, atoi(argv[4]), argc - 5, argv + 5);
	else if (strcmp(verb, "delete") == 0 && argc == 4)
		do_delete(topic);
	else if (strcmp(verb, "partitions") == 0 && argc == 5)
		do_partitions(topic, atoi(argv[4]));
	else if (strcmp(verb, "config") == 0 && argc >= 5)
		do_config(topic, argc - 4, argv + 4);
	else if (strcmp(verb, "delete-records") == 0 && argc == 6)
		do_delete_records(topic, atoi(argv[4]), atoll(argv[5]));
	else if (strcmp(verb, "ends") == 0 && argc == 4)
		do_ends(topic);
	else
		fail(verb, "unknown command or wrong number of arguments");
	rd_kafka_queue_destroy(answers);
	rd_kafka_destroy(client);
	return 0;
}
