/*
 * Windows of event time.  Ordinary functions; in the GROUP BY of a continuous
 * query they bring lateness, closing and expiry with them.
 */
CREATE FUNCTION kstream.tumble(ts timestamptz, size interval) RETURNS tstzrange
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'ks_tumble';
COMMENT ON FUNCTION kstream.tumble(timestamptz, interval)
IS 'the window [start, end) of that size that holds the time; windows are aligned to Monday 2000-01-03 00:00 UTC, those of months to 2000-01-01';

CREATE FUNCTION kstream.tumble(ts timestamptz, size interval, origin timestamptz) RETURNS tstzrange
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'ks_tumble_origin';
COMMENT ON FUNCTION kstream.tumble(timestamptz, interval, timestamptz)
IS 'the window [start, end) of that size that holds the time; some window starts at origin';

CREATE FUNCTION kstream.tumble(ts timestamptz, size interval, zone text) RETURNS tstzrange
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'ks_tumble_zone';
COMMENT ON FUNCTION kstream.tumble(timestamptz, interval, text)
IS 'the window [start, end) of whole days or months of civil time in the time zone that holds the time';

CREATE FUNCTION kstream.hop(ts timestamptz, slide interval, size interval) RETURNS SETOF tstzrange
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 6 AS 'MODULE_PATHNAME', 'ks_hop';
COMMENT ON FUNCTION kstream.hop(timestamptz, interval, interval)
IS 'the windows [start, start + size) that hold the time, one starting every slide; aligned as those of kstream.tumble';

CREATE FUNCTION kstream.hop(ts timestamptz, slide interval, size interval, origin timestamptz) RETURNS SETOF tstzrange
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 6 AS 'MODULE_PATHNAME', 'ks_hop_origin';
COMMENT ON FUNCTION kstream.hop(timestamptz, interval, interval, timestamptz)
IS 'the windows [start, start + size) that hold the time, one starting every slide; some window starts at origin';

CREATE FUNCTION kstream.hop(ts timestamptz, slide interval, size interval, zone text) RETURNS SETOF tstzrange
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 6 AS 'MODULE_PATHNAME', 'ks_hop_zone';
COMMENT ON FUNCTION kstream.hop(timestamptz, interval, interval, text)
IS 'the windows of whole days or months of civil time in the time zone that hold the time, one starting every slide';

CREATE FUNCTION kstream.session(ts timestamptz, gap interval) RETURNS tstzrange
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'ks_session';
COMMENT ON FUNCTION kstream.session(timestamptz, interval)
IS 'the range [ts, ts + gap); in the GROUP BY of a continuous query, sessions of events at most gap apart';
