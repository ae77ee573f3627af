/*
 * mock.c
 *		The client library's mock cluster as a process, for answers that a real
 *		broker gives too rarely to be waited for.
 *
 *	mock
 *		Prints its bootstrap servers, then obeys lines from standard input, fields
 *		separated by tabs, and answers each with "ok" or "error TEXT":
 *
 *			topic NAME PARTITIONS
 *			errors API CODE COUNT	the next COUNT requests of a kind (its number in
 *									the protocol) are answered with an error code
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#define MAX_FIELDS 4
#define MAX_ERRORS 100

static rd_kafka_mock_cluster_t *cluster;

/* Obeys one command; NULL or what is wrong with it. */
static const char *
obey(char **field, int n)
{
	if (n == 3 && strcmp(field[0], "topic") == 0)
	{
		rd_kafka_resp_err_t err = rd_kafka_mock_topic_create(cluster, field[1], atoi(field[2]), 1);

		return err ? rd_kafka_err2str(err) : NULL;
	}
	if (n == 4 && strcmp(field[0], "errors") == 0 && atoi(field[3]) <= MAX_ERRORS)
	{
		rd_kafka_resp_err_t errors[MAX_ERRORS];

		for (int i = 0; i < atoi(field[3]); i++)
			errors[i] = atoi(field[2]);
		rd_kafka_mock_push_request_errors_array(cluster, (int16_t) atoi(field[1]), atoi(field[3]), errors);
		return NULL;
	}
	return "no such command";
}

/* See the head of this file. */
int
main(void)
{
	char		text[512];
	char		line[4096];
	rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, rd_kafka_conf_new(), text, sizeof(text));

	if (rk == NULL || (cluster = rd_kafka_mock_cluster_new(rk, 1)) == NULL)
	{
		fprintf(stderr, "mock: %s\n", text);
		return 1;
	}
	printf("%s\n", rd_kafka_mock_cluster_bootstraps(cluster));
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin))
	{
		char	   *field[MAX_FIELDS];
		char	   *rest = line;
		int			n = 0;
		const char *trouble;

		line[strcspn(line, "\n")] = '\0';
		while (n < MAX_FIELDS && (field[n] = strsep(&rest, "\t")) != NULL)
			n++;
		trouble = obey(field, n);
		printf(trouble ? "error %s\n" : "ok\n", trouble);
		fflush(stdout);
	}
	rd_kafka_mock_cluster_destroy(cluster);
	rd_kafka_destroy(rk);
	return 0;
}
