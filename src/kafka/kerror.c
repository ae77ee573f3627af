/*
 * kerror.c
 *		What an error code of the client library means for us: decided once, here.
 */
#include "postgres.h"

#include "access/attnum.h"

#include "kafka/kerror.h"
#include "kafka/logbridge.h"

/* Sorts an error event of a partition. */
KsFetchErrorCode
ks_fetch_error_code(rd_kafka_resp_err_t err)
{
	switch (err)
	{
		case RD_KAFKA_RESP_ERR_NO_ERROR:
		case RD_KAFKA_RESP_ERR__PARTITION_EOF:
			return KS_FETCH_OK;

		case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
		case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
		case RD_KAFKA_RESP_ERR__NO_OFFSET:
			return KS_FETCH_OUT_OF_RANGE;

		case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
		case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
		case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
		case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
			return KS_FETCH_TOPIC_MISSING;

		case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
		case RD_KAFKA_RESP_ERR__AUTHENTICATION:
			return KS_FETCH_DENIED;

		case RD_KAFKA_RESP_ERR__BAD_MSG:
		case RD_KAFKA_RESP_ERR__BAD_COMPRESSION:
		case RD_KAFKA_RESP_ERR__UNDERFLOW:
		case RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED:
		case RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE:
		case RD_KAFKA_RESP_ERR_INVALID_MSG:
		case RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE:
		case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
		case RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT:
		case RD_KAFKA_RESP_ERR_UNSUPPORTED_COMPRESSION_TYPE:
			return KS_FETCH_CORRUPT;

		default:
			return KS_FETCH_RETRY;
	}
}

/* True for what may well work a moment later: a request is worth repeating. */
bool
ks_error_is_passing(rd_kafka_resp_err_t err)
{
	switch (err)
	{
		case RD_KAFKA_RESP_ERR__TRANSPORT:
		case RD_KAFKA_RESP_ERR__TIMED_OUT:
		case RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE:
		case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
		case RD_KAFKA_RESP_ERR__RESOLVE:
		case RD_KAFKA_RESP_ERR__WAIT_CACHE:
		case RD_KAFKA_RESP_ERR__WAIT_COORD:
		case RD_KAFKA_RESP_ERR__OUTDATED:
		case RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION:
		case RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT:
		case RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION:
		case RD_KAFKA_RESP_ERR_NOT_CONTROLLER:
		case RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR:
		case RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH:
		case RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH:
		case RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_THROTTLING_QUOTA_EXCEEDED:
			return true;
		default:
			return false;
	}
}

/*
 * Sorts an error met while writing.  What passes by itself, but not within the
 * transaction, means REOPEN.  *fenced: the broker takes the producer for
 * outdated.  A code that is not known here is FATAL: going on would be guessing.
 */
KsProducerOutcome
ks_producer_outcome(rd_kafka_resp_err_t err, bool *fenced)
{
	*fenced = false;
	if (ks_error_is_passing(err))
		return KS_PRODUCER_REOPEN;
	switch (err)
	{
		case RD_KAFKA_RESP_ERR_NO_ERROR:
			return KS_PRODUCER_OK;

		case RD_KAFKA_RESP_ERR__FENCED:
		case RD_KAFKA_RESP_ERR_PRODUCER_FENCED:
		case RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH:
			*fenced = true;
			return KS_PRODUCER_REOPEN;

			/* the transaction is lost, or nobody knows */
		case RD_KAFKA_RESP_ERR_INVALID_TXN_STATE:
		case RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID:
		case RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING:
		case RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER:
		case RD_KAFKA_RESP_ERR_DUPLICATE_SEQUENCE_NUMBER:
		case RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS:
		case RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION:
		case RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID:
		case RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID:
		case RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS:
		case RD_KAFKA_RESP_ERR_OPERATION_NOT_ATTEMPTED:
		case RD_KAFKA_RESP_ERR_UNSTABLE_OFFSET_COMMIT:
		case RD_KAFKA_RESP_ERR__STATE:
		case RD_KAFKA_RESP_ERR__INCONSISTENT:
		case RD_KAFKA_RESP_ERR__CONFLICT:
		case RD_KAFKA_RESP_ERR__PREV_IN_PROGRESS:
		case RD_KAFKA_RESP_ERR__PURGE_QUEUE:
		case RD_KAFKA_RESP_ERR__PURGE_INFLIGHT:
		case RD_KAFKA_RESP_ERR__GAPLESS_GUARANTEE:
			/* a broker that cannot do it now */
		case RD_KAFKA_RESP_ERR_UNKNOWN:
		case RD_KAFKA_RESP_ERR__MSG_TIMED_OUT:
		case RD_KAFKA_RESP_ERR__UNKNOWN_BROKER:
		case RD_KAFKA_RESP_ERR__BAD_MSG:
		case RD_KAFKA_RESP_ERR__UNDERFLOW:
		case RD_KAFKA_RESP_ERR_INVALID_MSG:
		case RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS:
		case RD_KAFKA_RESP_ERR_NOT_COORDINATOR:
		case RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS:
		case RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND:
			return KS_PRODUCER_REOPEN;

		case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
		case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
		case RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE:
			return KS_PRODUCER_TOO_LARGE;

		case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
		case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
		case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
		case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
			return KS_PRODUCER_TOPIC_MISSING;

		case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
		case RD_KAFKA_RESP_ERR__AUTHENTICATION:
			return KS_PRODUCER_DENIED;

		default:
			return KS_PRODUCER_FATAL;
	}
}

/* True if a question that was answered so is worth repeating. */
bool
ks_error_may_pass(rd_kafka_resp_err_t err)
{
	bool		fenced;

	return ks_producer_outcome(err, &fenced) == KS_PRODUCER_REOPEN && !fenced;
}

/* SQLSTATE and hint of an outcome. */
int
ks_producer_sqlstate(KsProducerOutcome outcome, const char **hint)
{
	switch (outcome)
	{
		case KS_PRODUCER_REOPEN:
			*hint = "The records will be sent again, from the position that Kafka knows.";
			return ERRCODE_TRANSACTION_RESOLUTION_UNKNOWN;
		case KS_PRODUCER_FENCED:
			*hint = "Look for another database that publishes the same, such as a copy of this one.";
			return ERRCODE_OBJECT_IN_USE;
		case KS_PRODUCER_TOO_LARGE:
			*hint = "Raise max.message.bytes of the topic and message_max_bytes of the server, or set batch_size of the server lower.";
			return ERRCODE_PROGRAM_LIMIT_EXCEEDED;
		case KS_PRODUCER_TOPIC_MISSING:
			*hint = "Create the topic, or give it as many partitions as records are sent to.";
			return ERRCODE_UNDEFINED_OBJECT;
		case KS_PRODUCER_DENIED:
			*hint = "Check the user mapping, and the permissions the broker gives to that user.";
			return ERRCODE_INSUFFICIENT_PRIVILEGE;
		case KS_PRODUCER_BROKER_AWAY:
			*hint = "Check that the broker runs and that bootstrap_servers of the server names it.";
			return ERRCODE_CONNECTION_FAILURE;
		default:
			*hint = "The error comes from the Kafka broker or its client library.";
			return ERRCODE_FDW_ERROR;
	}
}

/* SQLSTATE and hint of a request that failed. */
static int
ks_request_sqlstate(rd_kafka_resp_err_t err, const char **hint)
{
	*hint = "The error comes from the Kafka broker or its client library.";
	if (ks_error_is_passing(err))
	{
		*hint = "Check that the broker runs and that bootstrap_servers of the server names it.";
		return ERRCODE_CONNECTION_FAILURE;
	}
	switch (ks_fetch_error_code(err))
	{
		case KS_FETCH_DENIED:
			*hint = "Check the user mapping, and the permissions the broker gives to that user.";
			return ERRCODE_INSUFFICIENT_PRIVILEGE;
		case KS_FETCH_TOPIC_MISSING:
			*hint = "Check the name of the topic, or create it.";
			return ERRCODE_UNDEFINED_OBJECT;
		case KS_FETCH_OUT_OF_RANGE:
			return ERRCODE_FDW_ERROR;
		case KS_FETCH_CORRUPT:
			return ERRCODE_DATA_CORRUPTED;
		default:
			break;
	}
	switch (err)
	{
		case RD_KAFKA_RESP_ERR__SSL:
			*hint = "Check the ssl_* options of the server and of the user mapping.";
			return ERRCODE_CONNECTION_FAILURE;
		case RD_KAFKA_RESP_ERR_INVALID_PARTITIONS:
		case RD_KAFKA_RESP_ERR_INVALID_REPLICATION_FACTOR:
		case RD_KAFKA_RESP_ERR_INVALID_CONFIG:
		case RD_KAFKA_RESP_ERR_POLICY_VIOLATION:
		case RD_KAFKA_RESP_ERR__INVALID_ARG:
			return ERRCODE_INVALID_PARAMETER_VALUE;
		default:
			return ERRCODE_FDW_ERROR;
	}
}

/*
 * Raises the error of a request that failed.  action completes "could not ...";
 * topic may be NULL; detail is text of the library, or NULL for its name of err.
 */
void
ks_request_failed(KsClient *client, rd_kafka_resp_err_t err, const char *detail,
				  const char *action, const char *topic)
{
	const char *hint;
	int			sqlstate = ks_request_sqlstate(err, &hint);
	char	   *clean = ks_client_clean_text(client, detail ? detail : rd_kafka_err2str(err));

	/* What went wrong with the connection says more than "timed out". */
	if (ks_error_is_passing(err) && client->last_error[0] != '\0')
		clean = psprintf("%s: %s", clean, client->last_error);
	if (topic)
		ereport(ERROR,
				(errcode(sqlstate),
				 errmsg("could not %s of Kafka topic \"%s\" on server \"%s\"",
						action, topic, client->server),
				 errdetail("%s", clean),
				 errhint("%s", hint)));
	else
		ereport(ERROR,
				(errcode(sqlstate),
				 errmsg("could not %s on Kafka server \"%s\"", action, client->server),
				 errdetail("%s", clean),
				 errhint("%s", hint)));
}
