/*
 * stream_writer.c
 *		Writing rows to a stream, wherever its log is.
 *
 * Runs in: any backend, any worker, in a transaction.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "kafka/consumer.h"
#include "stream/log_append.h"
#include "stream/out_record.h"
#include "stream/outbox.h"
#include "stream/stream_writer.h"

/* Packed records that are collected before they are written. */
#define PACKED_BYTES (4 * 1024 * 1024)

/* How long a session that names a partition waits for the broker to count them. */
#define COUNT_TIMEOUT_MS 10000

struct KsStreamWriter
{
	MemoryContext cxt;
	const KsStreamDef *def;
	KsLogWriter *log;			/* local stream */
	/* stream over a topic */
	KsSinkRow  *sink;
	KsOutEncoder *encoder;
	MemoryContext pack_cxt;		/* reset when the records are written */
	KsPacker   *packer;
	int			partitions;		/* of the topic; 0: nobody has asked yet */
};

/* See stream_writer.h. */
KsStreamWriter *
ks_stream_writer_open(const KsStreamDef *def)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "kstream stream writer", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	KsStreamWriter *writer = palloc0(sizeof(KsStreamWriter));

	writer->cxt = cxt;
	writer->def = def;
	if (def->local)
		writer->log = ks_log_writer_open(def);
	else
	{
		KsPublished published = {0};

		writer->sink = ks_outbox_of_stream(def);
		writer->encoder = ks_out_encoder_create(def);
		writer->pack_cxt = AllocSetContextCreate(cxt, "kstream packed records", ALLOCSET_DEFAULT_SIZES);
		writer->packer = ks_packer_create(writer->pack_cxt);
		(void) ks_published_load(writer->sink->id, &published);
		writer->partitions = published.partitions;
	}
	MemoryContextSwitchTo(old);
	return writer;
}

/*
 * A partition that is not there would block the outbox for ever, so it is
 * refused here; the topic may have grown since it was counted last.
 */
static void
check_partition(KsStreamWriter *writer, int32 partition)
{
	const KsStreamDef *def = writer->def;

	ks_check_partition_number(def, partition);
	if (partition >= writer->partitions)
	{
		KsConsumer *consumer = ks_consumer_open(def->serverid, def->owner, "partitions");

		writer->partitions = ks_topic_partition_count(consumer, def->topic, COUNT_TIMEOUT_MS);
		ks_consumer_close(consumer);
	}
	if (partition >= writer->partitions)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("partition %d of stream %s does not exist", partition, def->relname),
				 errdetail("It has partitions 0 to %d.", writer->partitions - 1)));
}

/* See stream_writer.h. */
void
ks_stream_writer_complete(KsStreamWriter *writer, Datum *values, bool *nulls)
{
	const AttrNumber *meta = writer->def->meta;

	if (writer->log != NULL)
	{
		ks_log_writer_complete(writer->log, values, nulls);
		return;
	}
	ks_refuse_log_columns(writer->def, nulls);
	if (meta[KS_META_PARTITION] != 0 && !nulls[meta[KS_META_PARTITION] - 1])
		check_partition(writer, DatumGetInt32(values[meta[KS_META_PARTITION] - 1]));
	if (meta[KS_META_TIMESTAMP] != 0 && nulls[meta[KS_META_TIMESTAMP] - 1])
	{
		values[meta[KS_META_TIMESTAMP] - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
		nulls[meta[KS_META_TIMESTAMP] - 1] = false;
	}
}

/* Hands the packed records to the outbox. */
static void
write_packed(KsStreamWriter *writer)
{
	ks_outbox_write(writer->sink, writer->packer);
	MemoryContextReset(writer->pack_cxt);
	writer->packer = ks_packer_create(writer->pack_cxt);
}

/* See stream_writer.h. */
void
ks_stream_writer_put(KsStreamWriter *writer, const Datum *values, const bool *nulls)
{
	KsRecord	rec;

	if (writer->log != NULL)
	{
		ks_log_writer_put(writer->log, values, nulls);
		return;
	}
	ks_out_encode(writer->encoder, values, nulls, NULL, &rec);
	ks_packer_add(writer->packer, &rec);
	if (writer->packer->bytes >= PACKED_BYTES)
		write_packed(writer);
}

/* See stream_writer.h. */
void
ks_stream_writer_close(KsStreamWriter *writer)
{
	if (writer->log != NULL)
		ks_log_writer_close(writer->log);
	else
		write_packed(writer);
	MemoryContextDelete(writer->cxt);
}
