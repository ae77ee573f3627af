/*
 * outbox_format.c
 *		Records packed into the rows of an outbox.
 *
 * A record is: partition int4, timestamp int8, key length int4 (-1: none), value
 * length int4 (-1: none), number of headers int4, key, value, and for each header
 * name length int4, value length int4 (-1: none), name with its NUL, value.
 * Integers are in network order, because a dump may be restored elsewhere.
 */
#include "postgres.h"

#include "access/attnum.h"
#include "common/hashfn.h"
#include "port/pg_bswap.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "stream/outbox_format.h"

/* A chunk with its tuple header fits on a page. */
#define CHUNK_BYTES 8000

/* Reading position in a chunk. */
typedef struct ChunkReader
{
	const char *at;
	const char *end;
} ChunkReader;

/* See outbox_format.h. */
KsPacker *
ks_packer_create(MemoryContext cxt)
{
	KsPacker   *packer = MemoryContextAllocZero(cxt, sizeof(KsPacker));

	packer->cxt = cxt;
	packer->newest = DT_NOBEGIN;
	return packer;
}

/* Appends an int4. */
static inline void
put_int32(StringInfo buf, int32 value)
{
	uint32		n = pg_hton32((uint32) value);

	appendBinaryStringInfoNT(buf, (char *) &n, sizeof(n));
}

/* Appends an int8. */
static inline void
put_int64(StringInfo buf, int64 value)
{
	uint64		n = pg_hton64((uint64) value);

	appendBinaryStringInfoNT(buf, (char *) &n, sizeof(n));
}

/* Bytes the record takes in a chunk. */
static Size
packed_size(const KsRecord *rec)
{
	Size		size = 4 + 8 + 4 + 4 + 4;

	if (rec->key != NULL)
		size += rec->keylen;
	if (rec->value != NULL)
		size += rec->valuelen;
	for (int i = 0; i < rec->nheaders; i++)
		size += 8 + strlen(rec->headers[i].name) + 1 + (rec->headers[i].value != NULL ? rec->headers[i].len : 0);
	return size;
}

/* See outbox_format.h. */
void
ks_packer_add(KsPacker *packer, const KsRecord *rec)
{
	Size		size = packed_size(rec);
	StringInfo	buf;

	if (packer->last == NULL || packer->last->data.len + size > CHUNK_BYTES)
	{
		MemoryContext old = MemoryContextSwitchTo(packer->cxt);

		packer->last = palloc0(sizeof(KsChunk));
		packer->last->data.maxlen = Max(size + 1, Min(CHUNK_BYTES + 1, Max(1024, packer->bytes + 1)));
		packer->last->data.data = palloc(packer->last->data.maxlen);
		packer->chunks = lappend(packer->chunks, packer->last);
		MemoryContextSwitchTo(old);
	}
	buf = &packer->last->data;
	put_int32(buf, rec->partition);
	put_int64(buf, rec->timestamp);
	put_int32(buf, rec->key != NULL ? (int32) rec->keylen : -1);
	put_int32(buf, rec->value != NULL ? (int32) rec->valuelen : -1);
	put_int32(buf, rec->nheaders);
	if (rec->key != NULL)
		appendBinaryStringInfoNT(buf, rec->key, (int) rec->keylen);
	if (rec->value != NULL)
		appendBinaryStringInfoNT(buf, rec->value, (int) rec->valuelen);
	for (int i = 0; i < rec->nheaders; i++)
	{
		const KsHeader *header = &rec->headers[i];
		int			namelen = (int) strlen(header->name);

		put_int32(buf, namelen);
		put_int32(buf, header->value != NULL ? (int32) header->len : -1);
		appendBinaryStringInfoNT(buf, header->name, namelen + 1);
		if (header->value != NULL)
			appendBinaryStringInfoNT(buf, header->value, (int) header->len);
	}
	packer->last->nrecords++;
	packer->nrecords++;
	packer->bytes += size;
	if (rec->timestamp > packer->newest)
		packer->newest = rec->timestamp;
}

/* Takes so many bytes. */
static const char *
take(ChunkReader *reader, int32 len)
{
	const char *at = reader->at;

	if (len < 0 || reader->end - reader->at < len)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("a row of an outbox is damaged")));
	reader->at += len;
	return at;
}

/* Takes an int4. */
static int32
take_int32(ChunkReader *reader)
{
	uint32		n;

	memcpy(&n, take(reader, sizeof(n)), sizeof(n));
	return (int32) pg_ntoh32(n);
}

/* Takes an int8. */
static int64
take_int64(ChunkReader *reader)
{
	uint64		n;

	memcpy(&n, take(reader, sizeof(n)), sizeof(n));
	return (int64) pg_ntoh64(n);
}

/* Takes the headers of a record. */
static void
take_headers(ChunkReader *reader, KsRecord *rec)
{
	if (rec->nheaders < 0 || rec->nheaders > reader->end - reader->at)
		(void) take(reader, -1);
	if (rec->nheaders == 0)
		return;
	rec->headers = palloc(sizeof(KsHeader) * rec->nheaders);
	for (int i = 0; i < rec->nheaders; i++)
	{
		KsHeader   *header = &rec->headers[i];
		int32		namelen = take_int32(reader);
		int32		len = take_int32(reader);

		header->name = take(reader, namelen < 0 ? -1 : namelen + 1);
		if (header->name[namelen] != '\0')
			(void) take(reader, -1);
		header->value = len >= 0 ? take(reader, len) : NULL;
		header->len = len >= 0 ? len : 0;
	}
}

/* See outbox_format.h. */
void
ks_chunk_unpack(const char *data, Size len, int nrecords, KsRecord *recs)
{
	ChunkReader reader = {data, data + len};

	for (int i = 0; i < nrecords; i++)
	{
		KsRecord   *rec = &recs[i];
		int32		keylen;
		int32		valuelen;

		memset(rec, 0, sizeof(KsRecord));
		rec->leader_epoch = -1;
		rec->partition = take_int32(&reader);
		rec->timestamp = take_int64(&reader);
		keylen = take_int32(&reader);
		valuelen = take_int32(&reader);
		rec->nheaders = take_int32(&reader);
		if (keylen >= 0)
			rec->key = take(&reader, keylen);
		rec->keylen = keylen >= 0 ? keylen : 0;
		if (valuelen >= 0)
			rec->value = take(&reader, valuelen);
		rec->valuelen = valuelen >= 0 ? valuelen : 0;
		take_headers(&reader, rec);
	}
}

/* See outbox_format.h. */
KsPacker *
ks_packer_reorder(const KsPacker *packer, const int *order)
{
	KsPacker   *result = ks_packer_create(packer->cxt);
	KsRecord   *recs = MemoryContextAllocHuge(packer->cxt, sizeof(KsRecord) * Max(packer->nrecords, 1));
	int64		n = 0;
	MemoryContext old = MemoryContextSwitchTo(packer->cxt);
	ListCell   *lc;

	foreach(lc, packer->chunks)
	{
		KsChunk    *chunk = lfirst(lc);

		ks_chunk_unpack(chunk->data.data, chunk->data.len, chunk->nrecords, recs + n);
		n += chunk->nrecords;
	}
	for (int64 i = 0; i < n; i++)
		ks_packer_add(result, &recs[order[i]]);
	pfree(recs);
	MemoryContextSwitchTo(old);
	return result;
}

/* See outbox_format.h. */
int64
ks_record_chain(int64 chain, const KsRecord *rec)
{
	uint64		h = (uint64) chain * UINT64CONST(0x9E3779B97F4A7C15) + (uint64) rec->timestamp;

	if (rec->key != NULL)
		h = hash_bytes_extended((const unsigned char *) rec->key, (int) rec->keylen, h + 1);
	if (rec->value != NULL)
		h = hash_bytes_extended((const unsigned char *) rec->value, (int) rec->valuelen, h + 2);
	return (int64) h;
}
