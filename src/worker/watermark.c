/*
 * watermark.c
 *		How far event time has come for a query.
 *
 * A partition is idle when there was nothing to read in it for idle_timeout, and
 * at once when it has never had a record.  One that lags behind
 * because it is still being read is not idle: it holds the watermark, so that a
 * replay closes the same windows as the first reading did.  Nor does time count
 * in which a broker does not answer, since nobody knows what is there.
 *
 * Clocks.  In a worker quiet time is measured with the monotonic clock, so that
 * a jump of the wall clock closes nothing.  Only the quiet time before the task
 * was opened is taken from the wall clock (column moved_at); a negative one
 * counts as none.  A step has no clock at all: its caller says how much time is
 * to have passed.
 *
 * Runs in: worker or a backend that steps.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/clock.h"
#include "worker/watermark.h"

/* Looks again at most this often and at least this rarely. */
#define MIN_WAIT_MS 10
#define MAX_WAIT_MS 60000

/* See watermark.h. */
void
ks_watermark_init(KsWatermark *wm, const KsQueryRow *query, const List *stored, bool in_worker)
{
	ListCell   *lc;

	wm->stepped = !in_worker;
	wm->idle_timeout_us = query->idle_timeout_us;
	wm->committed = DT_NOBEGIN;
	foreach(lc, stored)
	{
		const KsPosition *pos = lfirst(lc);

		wm->committed = Max(wm->committed, pos->watermark);
	}
	wm->value = wm->committed;
}

/* Did the running batch take a record of the partition? */
static bool
has_moved(const KsSourcePartition *part)
{
	return part->next.records != part->stored.records;
}

/* The moment, on the monotonic clock, from which on nothing was there to read. */
static int64
quiet_since(const KsSourcePartition *part, int64 now)
{
	int64		before = 0;

	if (part->quiet_since != 0)
		return part->quiet_since;
	if (!TIMESTAMP_IS_NOBEGIN(part->stored.moved_at))
		before = Max(GetCurrentTimestamp() - part->stored.moved_at, 0);
	return now - before;
}

/* Notes since when partitions are quiet: no record came, and it was possible to look. */
static void
note_quiet(KsSource *source, int64 now)
{
	for (int p = 0; p < source->nparts; p++)
	{
		KsSourcePartition *part = &source->parts[p];

		if (has_moved(part))
			part->next.moved_at = GetCurrentTimestamp();
		if (has_moved(part) || source->trouble[0] != '\0')
			part->quiet_since = now;
		else
			part->quiet_since = quiet_since(part, now);
	}
}

/* Is everything of the partition read, as far as is known? */
static bool
is_read(const KsSource *source, const KsSourcePartition *part)
{
	return part->at_end && source->drained && part->next.next_offset >= part->end;
}

/* For how long there was nothing to read in a partition that is read. */
static int64
quiet_us(const KsWatermark *wm, const KsSourcePartition *part, int64 now)
{
	if (wm->stepped)
		return has_moved(part) ? 0 : wm->quiet_us;
	return Max(now - quiet_since(part, now), 0);
}

/* Does the partition hold the watermark no longer? */
static bool
is_idle(const KsWatermark *wm, const KsSource *source, const KsSourcePartition *part, int64 now)
{
	if (!is_read(source, part))
		return false;
	return part->next.next_offset == 0 || quiet_us(wm, part, now) >= wm->idle_timeout_us;
}

/* What the partitions say, DT_NOBEGIN where they say nothing yet. */
static TimestampTz
current_watermark(const KsWatermark *wm, List *sources, int64 now)
{
	TimestampTz least = DT_NOEND;
	TimestampTz greatest = DT_NOBEGIN;
	int64		quiet = PG_INT64_MAX;
	ListCell   *lc;

	foreach(lc, sources)
	{
		KsSource   *source = lfirst(lc);

		if (!source->connected)
			return DT_NOBEGIN;
		for (int p = 0; p < source->nparts; p++)
		{
			KsSourcePartition *part = &source->parts[p];
			TimestampTz time = part->next.stream_time;

			part->idle = is_idle(wm, source, part, now);
			if (!part->idle)
				least = Min(least, time);
			else if (!TIMESTAMP_IS_NOBEGIN(time))
				quiet = Min(quiet, quiet_us(wm, part, now));
			greatest = Max(greatest, time);
		}
	}
	if (!TIMESTAMP_IS_NOEND(least))
		return least;
	if (TIMESTAMP_IS_NOBEGIN(greatest))
		return DT_NOBEGIN;
	return greatest < END_TIMESTAMP - quiet ? greatest + quiet : greatest;
}

/* See watermark.h. */
void
ks_watermark_compute(KsWatermark *wm, List *sources)
{
	int64		now = ks_clock_now();
	TimestampTz current;
	ListCell   *lc;

	if (!wm->stepped)
	{
		foreach(lc, sources)
			note_quiet(lfirst(lc), now);
	}
	current = current_watermark(wm, sources, now);
	wm->value = Max(wm->committed, current);
}

/* See watermark.h. */
void
ks_watermark_stamp(KsWatermark *wm, List *sources, bool closed)
{
	KsSourcePartition *first = NULL;
	bool		stamped = false;
	ListCell   *lc;

	foreach(lc, sources)
	{
		KsSource   *source = lfirst(lc);

		for (int p = 0; p < source->nparts; p++)
		{
			KsSourcePartition *part = &source->parts[p];

			if (first == NULL)
				first = part;
			if (!part->dirty)
				continue;
			part->next.watermark = wm->value;
			stamped = true;
		}
	}
	if (stamped || first == NULL || !closed)
		return;
	first->next.watermark = wm->value;
	first->dirty = true;
}

/* See watermark.h. */
int
ks_watermark_wait_ms(const KsWatermark *wm, List *sources, TimestampTz next_close)
{
	int64		now = ks_clock_now();
	int64		wait_us = PG_INT64_MAX;
	bool		all_idle = true;
	ListCell   *lc;

	if (wm->stepped || TIMESTAMP_IS_NOEND(next_close))
		return 0;
	foreach(lc, sources)
	{
		KsSource   *source = lfirst(lc);

		for (int p = 0; p < source->nparts; p++)
		{
			KsSourcePartition *part = &source->parts[p];

			if (is_idle(wm, source, part, now))
				continue;
			all_idle = false;
			if (is_read(source, part))
				wait_us = Min(wait_us, wm->idle_timeout_us - quiet_us(wm, part, now));
		}
	}
	if (all_idle)
	{
		TimestampTz current = current_watermark(wm, sources, now);

		if (TIMESTAMP_IS_NOBEGIN(current))
			return 0;
		wait_us = Max(next_close - current, 0);
	}
	if (wait_us == PG_INT64_MAX)
		return 0;
	return (int) Max(Min(wait_us / 1000 + 1, MAX_WAIT_MS), MIN_WAIT_MS);
}
