#!/usr/bin/env bash
# run.sh [--quick] [--runs N] [--only NAME[,NAME...]]: measures kstream and Kafka
# Streams on the same topics of one broker, in one go, and cleans up after itself.
#
#   drain            the Kafka client alone: the ceiling
#   kstream-10k      count and sum by key, 2 M records, 10 thousand different keys
#   streams-10k      the same by Kafka Streams
#   kstream-1m       the same with (up to) 1 million keys
#   streams-1m
#   kstream-tumble   count and sum by key and window of a minute, 2 M records, 10 thousand keys
#   streams-tumble
#   kstream-hop      the same with a window of a minute every 10 s: six for each record
#   streams-hop
#   kstream-join     two topics of 1 M records each, joined by key within a minute
#   streams-join
#   client-latency   5,000 records/s straight from producer to consumer: the floor
#   kstream-latency  5,000 records/s: producer's clock to row visible to a reader
#   streams-latency  the same to the record in an output topic, at least once
#   streams-eos-latency  the same, exactly once
#   kstream-enrich-eos   2 M records joined with a table of 10 thousand rows into
#                        another topic, exactly once
#   streams-enrich-eos   the same by Kafka Streams
#   kstream-enrich-alo   the same, at least once
#   streams-enrich-alo
#   kstream-echo-eos     5,000 records/s from topic to topic: producer's clock to
#                        record in the hands of a consumer, exactly once
#   streams-echo-eos
#   kstream-echo-alo     the same, at least once
#   streams-echo-alo
#
# --quick: 200 thousand records, one run each, short latency runs.  Results: a
# line of JSON per run in .cache/bench/results.jsonl, and a table of medians.
#
# KS_BENCH_BATCH_ROWS sets kstream.batch_rows; unset, the default is measured.
. "$(dirname "$0")/setup.sh"

results=$cache/results.jsonl
all="drain kstream-10k streams-10k kstream-1m streams-1m
	kstream-tumble streams-tumble kstream-hop streams-hop kstream-join streams-join
	client-latency kstream-latency streams-latency streams-eos-latency
	kstream-enrich-eos streams-enrich-eos kstream-enrich-alo streams-enrich-alo
	kstream-echo-eos streams-echo-eos kstream-echo-alo streams-echo-alo"
only=$all
records=2000000
runs=3
rate=5000
warmup=10
duration=20
while [ $# -gt 0 ]; do
	case $1 in
		--quick)
			records=200000
			runs=1
			warmup=5
			duration=5
			;;
		--runs)
			runs=$2
			shift
			;;
		--only)
			only=${2//,/ }
			shift
			;;
		*) die "usage: run.sh [--quick] [--runs N] [--only NAME[,NAME...]]" ;;
	esac
	shift
done
all=$(echo $all)
only=$(echo $only)
for name in $only; do
	case " $all " in *" $name "*) ;; *) die "no measurement $name; there are: $all" ;; esac
done

# True if one of the measurements is wanted.
wants() {
	local name
	for name in "$@"; do
		case " $only " in *" $name "*) return 0 ;; esac
	done
	return 1
}

# Kafka Streams' jars through Maven, once, and our program.
build_streams() {
	local new=$cache/lib.$$ repository= attempt
	command -v javac >/dev/null || die "javac not found: install a JDK of 17 or later"
	if ! cmp -s "$here/kafka-streams/pom.xml" "$cache/pom.xml"; then
		log "Kafka Streams: fetching its jars (95 MB, once)"
		[ -w "${HOME:-/nonexistent}" ] || repository="-Dmaven.repo.local=$cache/maven"
		for attempt in 1 2 3; do
			mvn -q -B $repository -f "$here/kafka-streams/pom.xml" dependency:copy-dependencies \
				-DincludeScope=runtime -DoutputDirectory="$new" </dev/null >"$new.log" 2>&1 && break
			[ $attempt -lt 3 ] || { tail -20 "$new.log"; rm -rf "$new" "$new.log"; die "Maven could not fetch the jars"; }
			sleep 5
		done
		rm -rf "$cache/lib" "$new.log" "$cache/maven"
		mv "$new" "$cache/lib" && cp "$here/kafka-streams/pom.xml" "$cache/pom.xml" || exit 1
	fi
	rm -rf "$cache/classes"
	javac -Xlint:all -d "$cache/classes" -cp "$cache/lib/*" "$here"/kafka-streams/src/kstream/bench/*.java ||
		die "could not build the Kafka Streams program"
}

# fill TOPIC KEYS SEED [RECORDS]: fills a topic; what must come out is kept in expect_<topic>.
fill() {
	local line
	make_topic "$1"
	line=$("$cache/bin/gen" "$bootstrap" "$1" "${4:-$records}" "$2" "$3") || die "could not fill $1"
	log "$1: $line"
	printf -v "expect_$1" '%s' "$(field "$line" records) $(field "$line" cents) $(field "$line" keys)"
}

# ---------------------------------------------------------------- measuring

# record NAME RUN LINE OK: keeps a result; run 0 is a rehearsal.
record() {
	[ "$2" != 0 ] || return 0
	local line="{\"name\":\"$1\",\"run\":$2,\"ok\":$4,\"others_before\":0.$(printf %02d "$((others > 99 ? 99 : others))"),${3#\{}"
	printf '%s\n' "$line" >>"$results"
	log "$1 run $2: $3$([ "$4" = true ] || echo '  WRONG RESULT')"
	[ "$4" = true ] || wrong=$((wrong + 1))
}

# record_if_equal NAME RUN LINE FOUND EXPECTED: keeps a result, which is right when what was found is what was expected.
record_if_equal() {
	record "$1" "$2" "$3" "$([ "$4" = "$5" ] && echo true || echo false)"
}

# Removes the stream and its table, and waits until the worker has gone.
drop_query() {
	sql "DROP FOREIGN TABLE IF EXISTS events CASCADE" >/dev/null
	wait_for 20 sh -c "! pgrep -f '[k]stream worker.*' -P $(head -1 "$cluster/data/postmaster.pid") >/dev/null" ||
		log "a worker is still there"
}

# Bytes of a query's tables, all of them, in MB.
state_mb() {
	sql "SELECT sum(bytes) / 1048576 FROM kstream.stat_store WHERE name = '$1'"
}

# run_query NAME RUN RELATION RECORDS EXPECTED SQL: resumes a query, watches it, and checks what the SQL gives.
run_query() {
	local line
	wait_quiet
	line=$("$cache/bin/watch" "$conninfo" "$3" "$4") || die "$1 failed"
	sql "SELECT kstream.wait('$3')" >/dev/null
	record_if_equal "$1" "$2" "{\"state_mb\":$(state_mb "$3"),${line#\{}" "$(sql "$6")" "$5"
}

# make_query TOPIC SELECT-LIST OPTIONS: the stream and the table.
make_query() {
	sql "SELECT kstream.create_stream('events', '$event_columns',
			topic => '$1');
		SELECT kstream.create_table_as('totals', 'SELECT user_id, $2 FROM events GROUP BY user_id'$3)" >/dev/null ||
		die "could not make the query"
}

# kstream_throughput NAME TOPIC RUN
kstream_throughput() {
	local expected=expect_$2
	drop_query
	make_query "$2" "count(*) AS n, sum(amount) AS total" ", paused => true"
	run_query "$1" "$3" totals "$records" "${!expected}" \
		"SELECT sum(n) || ' ' || (sum(total) * 100)::bigint || ' ' || count(*) FROM totals"
	drop_query
	sql "CHECKPOINT"
}

# Kafka Streams, as the servers' user; options of the program before its arguments.
streams() {
	as_server java -Xmx1g -Dorg.slf4j.simpleLogger.defaultLogLevel=error -Dbootstrap="$bootstrap" \
		-Dstate="$run/state" "${streams_options[@]}" -Djava.io.tmpdir="$run/state" \
		-cp "$cache/classes:$cache/lib/*" kstream.bench.Main "$@"
}

# run_streams NAME RUN EXPECTED FIELDS ARGUMENT...: runs it to its end, and checks these fields of what it says.
run_streams() {
	local name=$1 run_number=$2 expected=$3 fields=$4 line one found=
	shift 4
	streams_options=()
	wait_quiet
	line=$(streams "$@") || die "$name failed"
	for one in $fields; do
		found="$found${found:+ }$(field "$line" "$one")"
	done
	record_if_equal "$name" "$run_number" "$line" "$found" "$expected"
}

# streams_throughput NAME TOPIC RUN
streams_throughput() {
	local expected=expect_$2
	run_streams "$1" "$3" "${!expected}" "count cents keys" throughput "$2" "$records"
}

# drain NAME TOPIC RUN
drain() {
	local line
	wait_quiet
	line=$("$cache/bin/drain" "$bootstrap" "$2" "$records") || die "$1 failed"
	record "$1" "$3" "$line" true
}

# client_latency NAME RUN: also makes the broker's code for small requests warm.
client_latency() {
	local line topic="lat_$1_$2"
	make_topic "$topic"
	wait_quiet
	line=$("$cache/bin/latency" "$bootstrap" "$topic" $rate $warmup $duration 0 topic "$topic") || die "$1 failed"
	record "$1" "$2" "$line" true
}

# kstream_latency NAME RUN
kstream_latency() {
	local line topic="lat_$1_$2" worker n
	make_topic "$topic"
	drop_query
	make_query "$topic" "count(*) AS n, sum(amount) AS total, max(tus) AS last_us" ""
	wait_for 20 caught_up || die "$1: the query does not start"
	worker=$(sql "SELECT worker_pid FROM kstream.queries WHERE name = 'totals'")
	wait_quiet
	line=$("$cache/bin/latency" "$bootstrap" "$topic" $rate $warmup $duration "$worker" table "$conninfo" totals) || die "$1 failed"
	n=$(sql "SELECT sum(n) FROM totals")
	record_if_equal "$1" "$2" "$line" "$n" "$(field "$line" records)"
	drop_query
}

# True when the query waits for records.
caught_up() {
	[ "$(sql "SELECT state FROM kstream.queries WHERE name = 'totals'")" = waiting ]
}

# streams_latency NAME RUN GUARANTEE
streams_latency() {
	local line topic="lat_$1_$2"
	make_topic "$topic"
	make_topic "$topic.out"
	streams_options=(-Dguarantee="$3")
	start_streams latency "$topic" "$topic.out"
	sleep 2
	wait_quiet
	line=$("$cache/bin/latency" "$bootstrap" "$topic" $rate $warmup $duration "$streams_pid" topic "$topic.out") || die "$1 failed"
	stop_streams
	record "$1" "$2" "$line" true
}

# ---------------------------------------------------------------- windows and joins of streams

# expect_windows NAME: records and cents over all windows; with *-hop a record is in six of them.
expect_windows() {
	local n=1
	[ "${1#*-}" != hop ] || n=6
	set -- $expect_events10k
	echo "$(($1 * n)) $(($2 * n))"
}

# kstream_windows NAME RUN
kstream_windows() {
	local from="events e, kstream.hop(e._timestamp, '10 s', '1 min') w"
	[ "$1" != kstream-tumble ] || from="(SELECT *, kstream.tumble(_timestamp, '1 min') AS w FROM events) e"
	drop_query
	sql "SELECT kstream.create_stream('events', '$event_columns',
			topic => 'events10k');
		SELECT kstream.create_table_as('totals', \$\$SELECT user_id, w, count(*) AS n, sum(amount) AS total FROM $from
			GROUP BY user_id, w\$\$, grace => '10 s', paused => true)" >/dev/null || die "could not make the query"
	run_query "$1" "$2" totals "$records" "$(expect_windows "$1")" \
		"SELECT sum(n) || ' ' || (sum(total) * 100)::bigint FROM totals"
	drop_query
	sql "CHECKPOINT"
}

# streams_windows NAME RUN
streams_windows() {
	run_streams "$1" "$2" "$(expect_windows "$1")" "count cents" "${1#streams-}" events10k "$records"
}

# How many pairs of records of both topics the join has, by plain SQL over the topics.
count_matches() {
	make_sides
	sql "SET work_mem = '1GB'; SET enable_nestloop = off; SELECT count(*) FROM lefts a JOIN rights b ON $join_condition"
	sql "DROP FOREIGN TABLE lefts, rights"
}

# The streams of both topics.
make_sides() {
	sql "SELECT kstream.create_stream(s, '$event_columns', topic => s)
		FROM unnest('{lefts,rights}'::text[]) s" >/dev/null || die "could not make the streams"
}

# kstream_join NAME RUN
kstream_join() {
	sql "DROP FOREIGN TABLE IF EXISTS lefts, rights CASCADE"
	drop_query
	make_sides
	sql "SELECT kstream.create_table_as('pairs', \$\$SELECT a.user_id, a.item, a.amount, b.item AS item2, b.amount AS amount2
			FROM lefts a JOIN rights b ON $join_condition\$\$, grace => '10 s', paused => true)" >/dev/null ||
		die "could not make the query"
	run_query "$1" "$2" pairs "$records" "$matches" "SELECT count(*) FROM pairs"
	sql "DROP FOREIGN TABLE lefts, rights CASCADE"
	drop_query
	sql "CHECKPOINT"
}

# streams_join NAME RUN
streams_join() {
	make_topic "$1_$2"
	run_streams "$1" "$2" "$matches" matches join lefts rights "$1_$2" "$records"
}

# ---------------------------------------------------------------- to another topic

# The guarantee of a measurement as kstream names it.
guarantee_of() {
	case $1 in
		*-eos) echo exactly_once ;;
		*) echo at_least_once ;;
	esac
}

# The same as Kafka Streams names it.
streams_guarantee_of() {
	case $1 in
		*-eos) echo exactly_once_v2 ;;
		*) echo at_least_once ;;
	esac
}

# start_streams ARGUMENT...: starts Kafka Streams with descriptor 8 as its input, and waits until it says "running".
start_streams() {
	rm -f "$run/pipe"
	mkfifo "$run/pipe"
	streams "$@" <"$run/pipe" >"$run/streams.out" 8>&- &
	java_pid=$!
	exec 8>"$run/pipe"
	wait_for 60 grep -q running "$run/streams.out" || die "Kafka Streams does not start"
	streams_pid=$(pgrep -f "^java.*-Dbootstrap=$bootstrap.*kstream.bench.Main" | head -1)
}

# Ends it.
stop_streams() {
	exec 8>&-
	wait "$java_pid"
	java_pid=
}

# Removes the queries of a join or an echo, and waits until the workers have gone.
drop_output() {
	sql "DROP FOREIGN TABLE IF EXISTS enriched, echoed, events CASCADE; DROP TABLE IF EXISTS users CASCADE" >/dev/null
	drop_query
}

# kstream_enrich NAME RUN
kstream_enrich() {
	local line topic="$1_$2"
	make_topic "$topic"
	drop_output
	sql "SELECT kstream.create_stream('events', '$event_columns',
			topic => 'events10k');
		SELECT kstream.create_table('users', 'user_id text PRIMARY KEY, name text, country text, tier text', topic => 'users')" \
		>/dev/null && sql "SELECT kstream.wait('users')" >/dev/null && sql "ANALYZE users" &&
		sql "SELECT kstream.create_stream_as('enriched', 'SELECT e.user_id, e.item, e.amount, e.ts, e.tus, u.name, u.country, u.tier
				FROM events e JOIN users u USING (user_id)', topic => '$topic', guarantee => '$(guarantee_of "$1")', paused => true)" \
			>/dev/null || die "$1: could not make the query"
	wait_quiet
	line=$("$cache/bin/enrich" "$bootstrap" "$topic" "$records" "$cents" kstream "$conninfo" enriched) || die "$1 failed"
	record "$1" "$2" "$line" "$(printf '%s' "$line" | sed 's/.*"right":\([a-z]*\).*/\1/')"
	drop_output
	sql "CHECKPOINT"
}

# streams_enrich NAME RUN
streams_enrich() {
	local line topic="$1_$2"
	make_topic "$topic"
	streams_options=(-Dguarantee="$(streams_guarantee_of "$1")")
	start_streams enrich events10k users "$topic"
	wait_quiet
	line=$("$cache/bin/enrich" "$bootstrap" "$topic" "$records" "$cents" streams "$streams_pid" "$run/streams.out" 8) ||
		die "$1 failed"
	stop_streams
	record "$1" "$2" "$line" "$(printf '%s' "$line" | sed 's/.*"right":\([a-z]*\).*/\1/')"
}

# measure_echo NAME RUN PIDS: the paced run through a query that runs.
measure_echo() {
	local line
	wait_quiet
	line=$("$cache/bin/latency" "$bootstrap" "$1_$2" $rate $warmup $duration "$3" topic "$1_$2.out") || die "$1 failed"
	record_if_equal "$1" "$2" "$line" "$(field "$line" looks)" "$(field "$line" records)"
}

# kstream_echo NAME RUN
kstream_echo() {
	local topic="$1_$2"
	make_topic "$topic"
	make_topic "$topic.out"
	drop_output
	sql "SELECT kstream.create_stream('events', '$event_columns',
			topic => '$topic');
		SELECT kstream.create_stream_as('echoed', 'SELECT user_id, item, amount, ts, tus FROM events', topic => '$topic.out',
			guarantee => '$(guarantee_of "$1")')" >/dev/null || die "$1: could not make the query"
	wait_for 20 echo_runs || die "$1: the query does not start"
	sleep 2
	measure_echo "$1" "$2" "$(sql "SELECT string_agg(pid::text, ',') FROM pg_stat_activity WHERE backend_type = 'kstream worker'")"
	drop_output
}

# True when the query waits for records.
echo_runs() {
	[ "$(sql "SELECT state FROM kstream.queries WHERE name = 'echoed'")" = waiting ]
}

# streams_echo NAME RUN
streams_echo() {
	make_topic "$1_$2"
	make_topic "$1_$2.out"
	streams_options=(-Dguarantee="$(streams_guarantee_of "$1")")
	start_streams echo "$1_$2" "$1_$2.out"
	sleep 2
	measure_echo "$1" "$2" "$streams_pid"
	stop_streams
}

# Takes the measurements of one kind: output KIND.
output() {
	local guarantee
	for guarantee in eos alo; do
		! wants "kstream-$1-$guarantee" || "kstream_$1" "kstream-$1-$guarantee" "$2"
		! wants "streams-$1-$guarantee" || "streams_$1" "streams-$1-$guarantee" "$2"
	done
}

# ---------------------------------------------------------------- the run

make_run
log "building"
build_tools gen drain watch latency enrich
case "$only" in *streams-*) build_streams ;; esac
build_kstream
ks_use_pg
start_servers
wrong=0
others=0
enrich="kstream-enrich-eos streams-enrich-eos kstream-enrich-alo streams-enrich-alo"
echoes="kstream-echo-eos streams-echo-eos kstream-echo-alo streams-echo-alo"
: >"$results"
! wants drain kstream-10k streams-10k kstream-tumble streams-tumble kstream-hop streams-hop $enrich || fill events10k 10000 42
if wants $enrich; then
	make_topic users
	"$cache/bin/gen" "$bootstrap" users 10000 >/dev/null || die "could not fill users"
	cents=$(echo $expect_events10k | cut -d' ' -f2)
fi
if wants kstream-join streams-join; then
	fill lefts 400000 44 $((records / 2))
	fill rights 400000 45 $((records / 2))
	matches=$(count_matches)
	log "the join has $matches rows"
fi
! wants kstream-1m streams-1m || fill events1m 1000000 43

# A broker that has just started is slow with small requests for a while: latency is never measured on a cold one.
if wants kstream-latency streams-latency streams-eos-latency $echoes && ! wants client-latency; then
	only="client-latency $only"
fi

# Systems take turns, so that a disturbance does not hit one of them alone.
for n in $(seq "$runs"); do
	! wants drain || drain drain events10k "$n"
	! wants kstream-10k || kstream_throughput kstream-10k events10k "$n"
	! wants streams-10k || streams_throughput streams-10k events10k "$n"
	! wants kstream-1m || kstream_throughput kstream-1m events1m "$n"
	! wants streams-1m || streams_throughput streams-1m events1m "$n"
	for kind in tumble hop; do
		! wants "kstream-$kind" || kstream_windows "kstream-$kind" "$n"
		! wants "streams-$kind" || streams_windows "streams-$kind" "$n"
	done
	! wants kstream-join || kstream_join kstream-join "$n"
	! wants streams-join || streams_join streams-join "$n"
	output enrich "$n"
	[ "$n" != 1 ] || ! wants client-latency || client_latency client-latency "$n"
	! wants kstream-latency || kstream_latency kstream-latency "$n"
	! wants streams-latency || streams_latency streams-latency "$n" at_least_once
	# Exactly once takes a tenth of a second and more: one run shows it.
	[ "$n" != 1 ] || ! wants streams-eos-latency || streams_latency streams-eos-latency "$n" exactly_once_v2
	# Transactions make the broker compile once more: who asks first would pay for it.
	[ "$n" != 1 ] || output echo 0
	output echo "$n"
done

"$here/report.py" "$results"
log "lines of JSON: ${results#"$KS_TOP"/}"
[ "$wrong" = 0 ] || die "$wrong runs gave a wrong result"
