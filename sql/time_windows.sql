-- kstream.tumble, hop and session as ordinary functions.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS kstream;
CREATE SCHEMA time_windows;
SET search_path = time_windows, public;
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';

-- each row: a time, a size, and the window; ends are exclusive
SELECT t, s, kstream.tumble(t::timestamptz, s::interval) FROM (VALUES
	('2024-01-01 00:00:00', '1 min'), ('2024-01-01 00:00:59.999999', '1 min'), ('2024-01-01 00:01:00', '1 min'),
	('2024-01-03 12:00', '1 week'), ('2024-01-07 23:59:59.999999', '7 days'), ('2024-01-08', '168 hours'),
	('2024-01-03 12:00', '1 day 12 hours'), ('1999-12-31 23:59:59', '7 min'),
	('1969-12-31 23:59:59.999999', '1 hour'), ('1970-01-01', '1 hour'), ('0044-03-15 12:00 BC', '1 day'),
	('2024-02-29 23:59', '1 month'), ('2024-03-01', '1 month'), ('1999-12-31', '3 months'), ('2000-01-01', '1 year'), ('1850-06-01', '100 years'),
	('infinity', '1 day'), ('-infinity', '1 day'), (NULL, '1 day'), ('2024-01-01', NULL)) v(t, s);

-- an origin: some window starts there
SELECT t, s, o, kstream.tumble(t::timestamptz, s::interval, o::timestamptz) FROM (VALUES
	('2024-01-01 10:00', '1 hour', '2000-01-01 00:20'), ('2024-01-01 00:10', '1 day', '2030-01-01 06:00'),
	('2024-02-29 12:00', '1 month', '2024-01-31'), ('2024-01-30', '1 month', '2024-01-31'), ('2024-03-31', '1 month', '2024-01-31')) v(t, s, o);

-- a time zone: days of 23, 24 and 25 hours; midnights that come twice or not at all
SELECT z, t, kstream.tumble(t::timestamptz, s::interval, z) AS w, upper(kstream.tumble(t::timestamptz, s::interval, z)) - lower(kstream.tumble(t::timestamptz, s::interval, z)) AS length
FROM (VALUES
	('Europe/Berlin', '2024-03-31 12:00', '1 day'), ('Europe/Berlin', '2024-10-27 12:00', '1 day'), ('Europe/Berlin', '2024-06-30 22:00', '1 day'),
	('Europe/Berlin', '2024-03-15', '1 month'), ('Europe/Berlin', '2024-03-27', '1 week'), ('America/New_York', '2024-01-01 04:59:59', '1 year'),
	('America/Sao_Paulo', '2018-11-04 02:59:59', '1 day'), ('America/Sao_Paulo', '2018-11-04 03:00', '1 day'),
	('America/Havana', '2023-11-05 03:59:59', '1 day'), ('America/Havana', '2023-11-05 04:00', '1 day'), ('America/Havana', '2023-11-05 05:30', '1 day'),
	('Pacific/Apia', '2011-12-30 09:59', '1 day'), ('Pacific/Apia', '2011-12-30 10:00', '1 day'), ('+03', '2024-01-01 22:00', '1 day')) v(z, t, s);

-- every time lies in its window, and windows do not overlap
SELECT z, s, count(*), count(*) FILTER (WHERE NOT w @> t) AS outside, count(DISTINCT w) - count(DISTINCT lower(w)) AS overlaps,
	count(*) FILTER (WHERE NOT lower(w) = lower(kstream.tumble(upper(w) - interval '1 us', s, z))) AS ragged
FROM (SELECT t, z, s, kstream.tumble(t, s, z) AS w
	FROM unnest('{Europe/Berlin,America/Havana,America/Sao_Paulo,Pacific/Apia,Asia/Beirut,Antarctica/Troll,Africa/Casablanca}'::text[]) z,
		generate_series(timestamptz '1995-01-01', '2026-01-01', '29 hours 17 min') t, (VALUES (interval '1 day'), ('3 days')) v(s)) x
GROUP BY z, s ORDER BY z COLLATE "C", s;

-- hop: windows of size, one starting every slide; sizes that are no multiple, gaps between windows
SELECT slide, size, array_agg(w::text ORDER BY w) FROM (VALUES ('10 s', '30 s'), ('10 s', '25 s'), ('20 s', '5 s'), ('30 s', '30 s'), ('1 month', '45 days'), ('15 days', '1 month')) v(slide, size)
	LEFT JOIN LATERAL kstream.hop('2024-02-01 00:00:20', slide::interval, size::interval) w ON true GROUP BY slide, size ORDER BY slide::interval, size::interval;
SELECT kstream.hop('2024-02-01 00:00:24.999999', '20 s', '5 s'), kstream.hop('2024-02-01 00:00:25', '20 s', '5 s') AS none;
SELECT kstream.hop('2024-01-01 00:00', '12 hours', '1 day', timestamptz '2024-01-01 06:00');
SELECT kstream.hop('2024-03-31 12:00', '1 day', '2 days', 'Europe/Berlin');
SELECT count(*) FROM kstream.hop('infinity', '1 day', '2 days');
SELECT count(*), count(*) FILTER (WHERE upper(w) - lower(w) = '1 hour' AND w @> timestamptz '1950-01-01 00:00:01') FROM kstream.hop('1950-01-01 00:00:01', '7 s', '1 hour') w;

SELECT kstream.session('2024-01-01', '30 min'), kstream.session(NULL, '30 min'), kstream.session('infinity', '1 s');

-- what is refused
CREATE FUNCTION fails(sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE hint text;
BEGIN
	EXECUTE sql;
	RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN sqlstate || ': ' || sqlerrm || CASE WHEN hint <> '' THEN ' (' || hint || ')' ELSE '' END;
END $$;
SELECT e, fails('SELECT ' || e) FROM unnest(ARRAY[
	$$kstream.tumble(now(), '0')$$, $$kstream.tumble(now(), '-1 min')$$, $$kstream.tumble(now(), '1 month 1 day')$$, $$kstream.tumble(now(), '-1 month')$$,
	$$kstream.tumble(now(), '1 hour', 'Europe/Berlin')$$, $$kstream.tumble(now(), '1 day', 'Mars/Olympus')$$, $$kstream.tumble(now(), '1 day', '2000-01-01 00:00')$$,
	$$kstream.tumble(now(), '1 day', timestamptz 'infinity')$$, $$kstream.tumble('294276-12-31 23:59:59', '100 days')$$, $$kstream.tumble('4713-01-01 BC', '1000 years')$$,
	$$kstream.hop(now(), '0', '1 min')$$, $$kstream.hop(now(), '1 min', '0')$$, $$kstream.hop(now(), '1 min', '1 day', 'UTC')$$, $$kstream.hop(now(), '1 day', '1 day 1 hour', 'UTC')$$,
	$$kstream.session(now(), '1 month')$$, $$kstream.session(now(), '0')$$]) e;
-- a select list may need the first window only
SELECT kstream.hop('294276-12-31 23:59:30Z', '10 s', '40 s') IS NOT NULL AS first LIMIT 1;
SELECT count(*), count(DISTINCT w), bool_and(w @> timestamptz '2024-03-01 12:00:05Z') FROM (SELECT kstream.hop('2024-03-01 12:00:05Z', '10 s', '1 min') AS w) h;
SELECT provolatile, proisstrict, proparallel, proretset, count(*) FROM pg_proc WHERE pronamespace = 'kstream'::regnamespace AND proname IN ('tumble', 'hop', 'session') GROUP BY 1, 2, 3, 4 ORDER BY 4;
DROP SCHEMA time_windows CASCADE;
