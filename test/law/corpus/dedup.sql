-- Duplicates are dropped by the records of their partition alone, however these
-- were cut into batches, rolled back or interleaved with inserts.  Random records;
-- the reference walks over the stream in plpgsql and forgets nothing.
\set ON_ERROR_STOP on
\set QUIET on
SET client_min_messages = warning;
SET kstream.cache_mem = 64;
CREATE EXTENSION IF NOT EXISTS kstream;
SELECT setseed(0.42);

-- rules 2 to 5, for streams whose keys are in one partition each: offsets accepted and dropped
CREATE FUNCTION reference(stream regclass, width interval)
RETURNS TABLE (part int, off bigint, accepted boolean) LANGUAGE plpgsql AS $$
DECLARE
	r record;
	seen jsonb := '{}';
	top timestamptz;
	last timestamptz;
BEGIN
	part := -1;
	FOR r IN EXECUTE format('SELECT _partition, _offset, _timestamp, k1 || ''/'' || k2 AS key, ts FROM %s ORDER BY 1, 2', stream) LOOP
		IF r._partition <> part THEN
			top := NULL;
		END IF;
		part := r._partition;
		off := r._offset;
		r.ts := coalesce(r.ts, r._timestamp);
		top := greatest(top, r.ts);
		last := (seen ->> r.key)::timestamptz;
		accepted := true;
		IF r.key IS NOT NULL AND r.ts >= top - 3 * width THEN
			accepted := last IS NULL OR r.ts NOT BETWEEN last - width AND last + width;
			IF accepted THEN
				seen := jsonb_set(seen, ARRAY[r.key], to_jsonb(r.ts));
			END IF;
		END IF;
		RETURN NEXT;
	END LOOP;
END $$;

-- n records from a time on, later and later with some far behind; v = 0 makes the query fail on the record
CREATE FUNCTION produce(stream regclass, n int, start timestamptz, width interval, partitions int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format($f$
		INSERT INTO %s (k1, k2, v, ts, _partition, _timestamp)
		SELECT CASE WHEN random() < 0.05 THEN NULL ELSE p * 1000 + (random() * 12)::int END,
			CASE WHEN random() < 0.05 THEN NULL ELSE chr(65 + (random() * 2)::int) END,
			(random() * 20)::int,
			CASE WHEN random() < 0.03 THEN NULL ELSE at END, p, at
		FROM (SELECT (random() * ($4 - 1))::int AS p,
				$2 + i * $3 / 30 - CASE WHEN random() < 0.2 THEN random() * 5 ELSE random() * 0.3 END * $3 AS at
			FROM generate_series(1, $1) i) x$f$, stream)
		USING n, start, width, partitions;
END $$;

-- one step of random size; sometimes it is rolled back first
CREATE FUNCTION some_step(query text, most int) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
	IF random() < 0.2 THEN
		BEGIN
			PERFORM kstream.step(query, 1 + (random() * most)::int);
			RAISE EXCEPTION 'back';
		EXCEPTION WHEN raise_exception THEN
			NULL;
		END;
	END IF;
	RETURN kstream.step(query, 1 + (random() * most)::int);
END $$;

-- every record of the stream is in the result, or in the dead letters, or dropped, as the reference says
CREATE FUNCTION compare(seed int, stream regclass, result regclass, width interval) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	wrong record;
	counted bigint;
	dropped bigint;
BEGIN
	EXECUTE format($f$
		SELECT coalesce(r.part, s.part) AS part, coalesce(r.off, s.off) AS off, r.accepted
		FROM (SELECT * FROM reference(%L, %L) WHERE accepted) r
		FULL JOIN (SELECT part, off FROM %s UNION ALL SELECT partition, "offset" FROM kstream.dead_letters WHERE relation = %L::regclass) s
			ON s.part = r.part AND s.off = r.off
		WHERE r.part IS NULL OR s.part IS NULL ORDER BY 1, 2 LIMIT 1$f$, stream, width, result, result) INTO wrong;
	IF wrong.part IS NOT NULL THEN
		RAISE EXCEPTION 'case %, %: partition % offset % should be %', seed, result, wrong.part, wrong.off,
			CASE WHEN wrong.accepted THEN 'accepted' ELSE 'dropped' END;
	END IF;
	SELECT duplicates INTO counted FROM kstream.stat_query WHERE relation = result;
	SELECT count(*) INTO dropped FROM reference(stream, width) WHERE NOT accepted;
	IF counted <> dropped OR dropped = 0 THEN
		RAISE EXCEPTION 'case %, %: % duplicates counted, % dropped', seed, result, counted, dropped;
	END IF;
END $$;

-- records of one partition given as "key time", in steps of n
CREATE PROCEDURE run_given(seed int, n int, records text[]) LANGUAGE plpgsql AS $$
DECLARE
	name text := 'g' || seed;
BEGIN
	PERFORM kstream.create_stream(name, 'k1 int, k2 text, v int, ts timestamptz', "timestamp" => 'ts', server => 'local',
		dedup_key => 'k1, k2', dedup_window => '1 h');
	PERFORM kstream.create_table_as(name || '_1', format('SELECT _partition AS part, _offset AS off FROM %I', name), paused => true);
	EXECUTE format('INSERT INTO %I (k1, k2, ts) SELECT ascii(r), ''k'', (''2024-01-01 '' || substr(r, 3) || ''+00'')::timestamptz FROM unnest($1) r', name)
		USING records;
	COMMIT;
	WHILE kstream.step(name || '_1', n) > 0 LOOP
		COMMIT;
	END LOOP;
	PERFORM compare(seed, name::regclass, (name || '_1')::regclass, '1 h');
	COMMIT;
END $$;
-- an older record takes the place of a later one, and its part is not asked about the last record
CALL run_given(101, 1, '{k 12:00,k 12:00,x 12:40,k 10:30,z 11:05,y 14:00,k 12:10}');
CALL run_given(102, 9, '{k 12:00,k 12:00,x 12:40,k 10:30,z 11:05,y 14:00,k 12:10}');
-- it takes its place although it is past itself when its batch ends
CALL run_given(103, 2, '{k 12:00,k 12:00,k 09:30,z 13:40,k 12:10}');
CALL run_given(104, 1, '{k 12:00,k 12:00,k 09:30,z 13:40,k 12:10}');

CREATE PROCEDURE run_case(seed int) LANGUAGE plpgsql AS $$
DECLARE
	width interval := make_interval(secs => 120 * (1 + floor(random() * 4)));
	partitions int := 1 + floor(random() * 3);
	name text := 's' || seed;
	start timestamptz := '2024-01-01 00:00+00';
	sizes int[] := ARRAY[1, 40, 1000];
BEGIN
	PERFORM kstream.create_stream(name, 'k1 int, k2 text, v int, ts timestamptz', "timestamp" => 'ts', server => 'local',
		partitions => partitions, dedup_key => 'k1, k2', dedup_window => width);
	FOR i IN 1..3 LOOP
		PERFORM kstream.create_table_as(name || '_' || i, format('SELECT _partition AS part, _offset AS off, 1 / v AS x FROM %I', name), paused => true);
	END LOOP;
	FOR round IN 1..3 LOOP
		PERFORM produce(name::regclass, 100, start, width, partitions);
		start := start + width * 3;
		COMMIT;
		FOR i IN 1..3 LOOP
			-- not all of what is there: the next records find some of the partitions behind
			FOR n IN 1..CASE i WHEN 1 THEN 60 WHEN 2 THEN 4 ELSE round - 1 END LOOP
				PERFORM some_step(name || '_' || i, sizes[i]);
				COMMIT;
			END LOOP;
		END LOOP;
	END LOOP;
	FOR i IN 1..3 LOOP
		WHILE some_step(name || '_' || i, sizes[i] + 20) > 0 LOOP
			COMMIT;
		END LOOP;
		PERFORM compare(seed, name::regclass, (name || '_' || i)::regclass, width);
	END LOOP;
	COMMIT;
END $$;
CALL run_case(1);
CALL run_case(2);
CALL run_case(3);
CALL run_case(4);
CALL run_case(5);
CALL run_case(6);

-- keys did expire on the way: otherwise nothing of that was tried
DO $$
BEGIN
	IF NOT EXISTS (SELECT FROM kstream_catalog.dedup_part GROUP BY query, source HAVING max(number) > count(*)) THEN
		RAISE EXCEPTION 'no part was ever dropped';
	END IF;
END $$;

-- copies in different partitions, which are read one after the other: each key once, in any order
SELECT kstream.create_stream('copies', 'k int, n int, ts timestamptz', "timestamp" => 'ts', server => 'local',
	partitions => 4, dedup_key => 'k', dedup_window => '2 min');
INSERT INTO copies (k, n, ts, _partition)
SELECT i, c, timestamptz '2024-01-01 00:00+00' + i * interval '3 s' + random() * interval '1 min', (random() * 3)::int
FROM generate_series(1, 800) i, generate_series(1, 3) c ORDER BY i, c;
SELECT kstream.create_table_as('once', 'SELECT k, n FROM copies', paused => true);
CREATE PROCEDURE run_copies() LANGUAGE plpgsql AS $$
BEGIN
	WHILE some_step('once', 90) > 0 LOOP
		COMMIT;
	END LOOP;
	IF (SELECT count(*) <> 800 OR count(DISTINCT k) <> 800 FROM once) THEN
		RAISE EXCEPTION 'of 800 keys % came % times', (SELECT count(DISTINCT k) FROM once), (SELECT count(*) FROM once);
	END IF;
	IF (SELECT duplicates <> 1600 FROM kstream.stat_query WHERE relation = 'once'::regclass) THEN
		RAISE EXCEPTION 'duplicates are counted wrongly';
	END IF;
END $$;
CALL run_copies();
