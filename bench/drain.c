/*
 * drain.c
 *		The ceiling: how fast the Kafka client alone gets a topic's records out.
 *
 *	drain BOOTSTRAP TOPIC RECORDS
 *
 * Takes batches of up to 10,000 records from the client's queue, looks at their
 * lengths and frees them.  Time runs from the first records to the last ones.
 * Prints one line of JSON.
 */
#include "common.h"

#define BATCH 10000

/* Reads the topic once. */
int
main(int argc, char **argv)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	static rd_kafka_message_t *messages[BATCH];
	rd_kafka_t *client;
	rd_kafka_queue_t *queue;
	long		nrecords;
	long		got = 0;
	long		counted;
	int64_t		bytes = 0;
	double		start = 0;
	double		cpu = 0;
	double		elapsed;

	if (argc != 4)
		die("usage", "drain BOOTSTRAP TOPIC RECORDS");
	nrecords = atol(argv[3]);
	set_property(conf, "bootstrap.servers", argv[1]);
	set_property(conf, "group.id", "drain");
	set_property(conf, "enable.auto.commit", "false");
	set_property(conf, "check.crcs", "true");
	/* A queue that never fills up: the library sleeps for a second when it does. */
	set_property(conf, "queued.min.messages", "10000000");
	set_property(conf, "queued.max.messages.kbytes", "2000000");
	client = make_client(RD_KAFKA_CONSUMER, conf);
	queue = read_topic(client, argv[2], RD_KAFKA_OFFSET_BEGINNING);
	counted = nrecords;
	while (got < nrecords)
	{
		ssize_t		n = rd_kafka_consume_batch_queue(queue, 20, messages, BATCH);

		for (ssize_t i = 0; i < n; i++)
		{
			if (messages[i]->err == RD_KAFKA_RESP_ERR_NO_ERROR)
			{
				got++;
				bytes += messages[i]->len;
			}
			rd_kafka_message_destroy(messages[i]);
		}
		if (start == 0 && got > 0)
		{
			start = seconds();
			cpu = process_cpu(getpid());
			counted = nrecords - got;
		}
	}
	elapsed = seconds() - start;
	cpu = process_cpu(getpid()) - cpu;
	printf("{\"records\":%ld,\"seconds\":%.3f,\"rate\":%.0f,\"cpu_us\":%.3f,\"peak_mb\":%.0f,\"bytes\":%lld}\n",
		   got, elapsed, counted / elapsed, cpu / counted * 1e6, process_mb(getpid(), "VmHWM"), (long long) bytes);
	fflush(stdout);
	_exit(0);
}
