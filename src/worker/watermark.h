/*
 * watermark.h
 *		How far event time has come for a query: what closes windows.
 *
 * The watermark is the least partition time over the partitions that are not
 * idle; when all are idle, the greatest partition time and what has passed since
 * the last record.  It never goes back.  An operator that needs one has the
 * callbacks next_close and close (exec/operator.h); for others nothing here
 * costs anything.
 *
 * It is stored with the positions (column watermark, the greatest counts), so
 * that whatever was closed by it stays closed after a crash.
 */
#ifndef KS_WATERMARK_H
#define KS_WATERMARK_H

#include "worker/source.h"

typedef struct KsWatermark
{
	bool		needed;			/* the query's operator asks for it */
	bool		stepped;		/* no clock: quiet_us has passed since the last record, as the caller says */
	int64		quiet_us;
	int64		idle_timeout_us;
	TimestampTz committed;		/* what closings so far went by; DT_NOBEGIN: none */
	TimestampTz value;			/* as the running batch has it */
} KsWatermark;

/* Starts with what is stored (KsPosition *). */
extern void ks_watermark_init(KsWatermark *wm, const KsQueryRow *query, const List *stored, bool in_worker);

/* Brings value up to date with the positions as the batch leaves them. */
extern void ks_watermark_compute(KsWatermark *wm, List *sources);

/* Puts it into the positions that the batch stores; one at least if it has closed something. */
extern void ks_watermark_stamp(KsWatermark *wm, List *sources, bool closed);

/*
 * In how many ms to look again though nothing arrives, because a partition
 * becomes idle or the clock reaches next_close; 0: there is no need to.
 */
extern int	ks_watermark_wait_ms(const KsWatermark *wm, List *sources, TimestampTz next_close);

#endif							/* KS_WATERMARK_H */
