#!/usr/bin/env bash
# soak.sh [--minutes N] [--rate N]: does the cost of windows and of a join of streams
# stay flat, and what is stored small, while their time goes on?
#
#   tumble   count and sum by 10 thousand keys and window of a minute, kept for 2 minutes
#   hop      the same by a window of a minute every 10 s, kept for 1 minute
#   join     two topics, records of one key within a minute, counted by key
#
# All three follow topics that are filled at --rate (5000) records a second, the two
# topics of the join at a fifth of it each.  Every tenth of the time: CPU of the
# workers per record that a query has read, and for each query the bytes of its tables
# with their indexes beside those of freshly made copies of them with the same settings
# (live).  At the end the windows that are left must be those of the same SELECT over
# the topic.
. "$(dirname "$0")/setup.sh"

minutes=30
rate=5000
while [ $# -gt 0 ]; do
	case $1 in
		--minutes) minutes=$2 ;;
		--rate) rate=$2 ;;
		*) die "usage: soak.sh [--minutes N] [--rate N]" ;;
	esac
	shift 2
done

# The three queries.
make_queries() {
	sql "SELECT kstream.create_stream(s, '$event_columns', topic => s) FROM unnest('{events,lefts,rights}'::text[]) s;
		SELECT kstream.create_table_as('tumble', \$\$SELECT user_id, kstream.tumble(_timestamp, '1 min') AS w, count(*) AS n,
			sum(amount) AS total FROM events GROUP BY user_id, w\$\$, grace => '5 s', retention => '2 min');
		SELECT kstream.create_table_as('hop', \$\$SELECT user_id, w, count(*) AS n, sum(amount) AS total
			FROM events e, kstream.hop(e._timestamp, '10 s', '1 min') w GROUP BY user_id, w\$\$, grace => '5 s', retention => '1 min');
		SELECT kstream.create_table_as('matched', \$\$SELECT a.user_id, count(*) AS n, sum(b.amount) AS total FROM lefts a
			JOIN rights b ON $join_condition GROUP BY a.user_id\$\$, grace => '5 s')" >/dev/null ||
		die "could not make the queries"
}

# CPU time of all workers so far, in hundredths of a second.
worker_cpu() {
	local pid total=0
	for pid in $(pgrep -f 'kstream worker' -P "$(head -1 "$cluster/data/postmaster.pid")"); do
		total=$((total + $(awk '{print $14 + $15}' "/proc/$pid/stat" 2>/dev/null || echo 0)))
	done
	echo "$total"
}

# Bytes of the tables of a query, and of copies of them, in MB: total, live.
sizes() {
	sql "DO \$do\$
		DECLARE s record;
		BEGIN
			CREATE TEMP TABLE sizes (total bigint, live bigint);
			FOR s IN SELECT store, row_number() OVER () AS n FROM kstream.stat_store WHERE name = '$1' LOOP
				EXECUTE format('CREATE TEMP TABLE copy%s (LIKE %s INCLUDING ALL)', s.n, s.store)
					|| coalesce(' WITH (' || (SELECT array_to_string(reloptions, ', ') FROM pg_class WHERE oid = s.store) || ')', '');
				EXECUTE format('INSERT INTO copy%s OVERRIDING SYSTEM VALUE SELECT * FROM %s', s.n, s.store);
				EXECUTE format('INSERT INTO sizes SELECT pg_total_relation_size(%L), pg_total_relation_size(%L)', s.store, 'copy' || s.n);
				EXECUTE format('DROP TABLE copy%s', s.n);
			END LOOP;
		END \$do\$;
		SELECT round(sum(total) / 1048576, 1) || ' ' || round(sum(live) / 1048576, 1) FROM sizes"
}

# Records of all topics processed so far.
processed() {
	sql "SELECT sum(records_in) FROM kstream.stat_query"
}

make_run
log "building"
build_tools gen
build_kstream
ks_use_pg
start_servers
for topic in events lefts rights; do
	make_topic $topic
done
make_queries
"$cache/bin/gen" "$bootstrap" events $((rate * 60 * minutes)) 10000 1 "$rate" >/dev/null &
"$cache/bin/gen" "$bootstrap" lefts $((rate * 12 * minutes)) 100000 2 $((rate / 5)) >/dev/null &
"$cache/bin/gen" "$bootstrap" rights $((rate * 12 * minutes)) 100000 3 $((rate / 5)) >/dev/null &

echo "| minute | records | CPU us per record | tumble MB (live) | hop MB (live) | join MB (live) | lag |"
echo "|---:|---:|---:|---:|---:|---:|---:|"
began=$(date +%s)
cpu=$(worker_cpu)
seen=$(processed)
for part in 1 2 3 4 5 6 7 8 9 10; do
	sleep $((began + part * minutes * 6 - $(date +%s)))
	now_cpu=$(worker_cpu)
	now_seen=$(processed)
	row="| $(((part * minutes + 5) / 10)) | $now_seen | $(awk "BEGIN {printf \"%.1f\", ($now_cpu - $cpu) * 10000 / ($now_seen - $seen)}")"
	for query in tumble hop matched; do
		set -- $(sizes "$query")
		row="$row | $1 ($2)"
	done
	echo "$row | $(sql "SELECT sum(lag) FROM kstream.stat_partition") |"
	cpu=$(worker_cpu)
	seen=$(processed)
done
wait

# The windows that are left, and the counts of the join, against SELECT over the topics.
log "comparing with the same SELECT in batch"
sql "SELECT kstream.wait(q, '5 min') FROM unnest('{tumble,hop,matched}'::text[]) q; SELECT kstream.pause(q) FROM unnest('{tumble,hop,matched}'::text[]) q" >/dev/null || die "the queries do not catch up"
wrong=$(sql "SET work_mem = '512MB'; SET enable_nestloop = off;
	CREATE TEMP TABLE e AS SELECT user_id, amount, _timestamp AS at FROM events WHERE _timestamp >= (SELECT min(lower(w)) FROM (SELECT w FROM tumble UNION ALL SELECT w FROM hop) l);
	SELECT (SELECT count(*) FROM tumble t FULL JOIN (SELECT user_id, kstream.tumble(at, '1 min') AS w, count(*) AS n, sum(amount) AS total FROM e GROUP BY 1, 2) b
			USING (user_id, w) WHERE upper(w) > (SELECT min(upper(w)) FROM tumble) AND (t.n, t.total) IS DISTINCT FROM (b.n, b.total))
		+ (SELECT count(*) FROM hop t FULL JOIN (SELECT user_id, w, count(*) AS n, sum(amount) AS total FROM e, kstream.hop(at, '10 s', '1 min') w GROUP BY 1, 2) b
			USING (user_id, w) WHERE upper(w) > (SELECT min(upper(w)) FROM hop) AND (t.n, t.total) IS DISTINCT FROM (b.n, b.total))
		+ (SELECT count(*) FROM matched t FULL JOIN (SELECT a.user_id, count(*) AS n, sum(b.amount) AS total FROM lefts a JOIN rights b
				ON $join_condition GROUP BY 1) b
			USING (user_id) WHERE (t.n, t.total) IS DISTINCT FROM (b.n, b.total))") || die "cannot compare"
log "late records: $(sql "SELECT sum(late) FROM kstream.stat_query"); rows that are wrong: $wrong"
[ "$wrong" = 0 ]
