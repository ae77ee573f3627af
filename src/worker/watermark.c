/*
 * watermark.c
 *		How far event time has come for a query.
 *
 * A partition is idle when there was nothing to read in it for idle_timeout, and
 * at once when it has never had a record.  One that lags behind because it is
 * still being read is not idle: it holds the watermark, so that a replay closes
 * the same windows as the first reading did.  Nor does time count in which a
 * broker does not answer, since nobody knows what is there: quiet time of a
 * topic goes up to the last answer of the partition's leader, and begins anew
 * when answers had stopped or the client says that the broker is down.
 *
 * Clocks.  In a worker quiet time is measured with a clock that nobody sets, so
 * that a jump of the wall clock closes nothing.  When a task is opened again
 * that of a topic goes on from what the task before it has shown in shared
 * memory, so that what happened in between does not count.  Only where that is
 * not known, because the server was started anew, and for local streams, it is
 * taken from the wall clock (column moved_at); a negative one counts as none.
 * A step has no clock at all: its caller says how much time is to have passed.
 *
 * Runs in: worker or a backend that steps.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/clock.h"
#include "worker/stats.h"
#include "worker/watermark.h"

/* Looks again at most this often and at least this rarely. */
#define MIN_WAIT_MS 10
#define ANSWER_WAIT_MS 50		/* of a broker, which may be what is missing */
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

/* Is everything of the partition read, as far as is known? */
static bool
is_read(const KsSource *source, const KsSourcePartition *part)
{
	return part->at_end && source->drained && part->next.next_offset >= part->end;
}

/* For how long the partition was quiet before the task was opened. */
static int64
quiet_before(const KsSource *source, const KsSourcePartition *part)
{
	TimestampTz moved_at = part->stored.moved_at;
	int64		quiet;

	if (source->was_away)
		return 0;
	if ((source->consumer != NULL || TIMESTAMP_IS_NOBEGIN(moved_at)) &&
		ks_stat_quiet(source->query, part->stored.source, part->stored.partition, part->stored.next_offset, &quiet))
		return quiet;
	return TIMESTAMP_IS_NOBEGIN(moved_at) ? 0 : Max(GetCurrentTimestamp() - moved_at, 0);
}

/*
 * note_quiet
 *		Counts the time in which nothing was there to read of a partition.  It
 *		begins anew with a record, and with anything because of which there may have
 *		been one that nobody has seen.
 */
static void
note_quiet(const KsSource *source, KsSourcePartition *part, TimestampTz now)
{
	TimestampTz since = 0;
	TimestampTz known = now;

	if (part->quiet_us < 0)
		part->quiet_us = quiet_before(source, part);
	if (source->consumer != NULL &&
		!ks_consumer_answered(source->consumer, source->reader->def->topic, part->stored.partition, &since, &known))
		known = part->quiet_to;
	if (part->quiet_to == 0)
		part->quiet_to = since != 0 ? since : known;
	if (has_moved(part))
		part->next.moved_at = GetCurrentTimestamp();
	if (has_moved(part) || source->trouble[0] != '\0' || since > part->quiet_to ||
		(part->at_end && !is_read(source, part)))
		part->quiet_us = 0;
	else if (part->at_end)
		part->quiet_us += Max(known - part->quiet_to, 0);
	part->quiet_to = Max(known, part->quiet_to);
}

/* For how long there was nothing to read in a partition that is read. */
static int64
quiet_us(const KsWatermark *wm, const KsSourcePartition *part)
{
	if (wm->stepped)
		return has_moved(part) ? 0 : wm->quiet_us;
	return part->quiet_us;
}

/* Does the partition hold the watermark no longer? */
static bool
is_idle(const KsWatermark *wm, const KsSource *source, const KsSourcePartition *part)
{
	if (!is_read(source, part))
		return false;
	return part->next.next_offset == 0 || quiet_us(wm, part) >= wm->idle_timeout_us;
}

/* What the partitions say, DT_NOBEGIN where they say nothing yet. */
static TimestampTz
current_watermark(const KsWatermark *wm, List *sources)
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

			part->idle = is_idle(wm, source, part);
			if (!part->idle)
				least = Min(least, time);
			else if (!TIMESTAMP_IS_NOBEGIN(time))
				quiet = Min(quiet, quiet_us(wm, part));
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
	TimestampTz now = ks_clock_now();
	TimestampTz current;
	ListCell   *lc;

	foreach(lc, sources)
	{
		KsSource   *source = lfirst(lc);

		for (int p = 0; p < source->nparts && !wm->stepped; p++)
			note_quiet(source, &source->parts[p], now);
	}
	current = current_watermark(wm, sources);
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
	int64		wait_us = PG_INT64_MAX;
	int			least_ms = MIN_WAIT_MS;
	bool		all_idle = true;
	ListCell   *lc;

	if (wm->stepped || TIMESTAMP_IS_NOEND(next_close))
		return 0;
	foreach(lc, sources)
	{
		KsSource   *source = lfirst(lc);

		if (source->consumer != NULL)
			least_ms = ANSWER_WAIT_MS;
		for (int p = 0; p < source->nparts; p++)
		{
			KsSourcePartition *part = &source->parts[p];

			if (is_idle(wm, source, part))
				continue;
			all_idle = false;
			if (is_read(source, part))
				wait_us = Min(wait_us, wm->idle_timeout_us - quiet_us(wm, part));
		}
	}
	if (all_idle)
	{
		TimestampTz current = current_watermark(wm, sources);

		if (TIMESTAMP_IS_NOBEGIN(current))
			return 0;
		wait_us = Max(next_close - current, 0);
	}
	if (wait_us == PG_INT64_MAX)
		return 0;
	return (int) Max(Min(wait_us / 1000 + 1, MAX_WAIT_MS), least_ms);
}
