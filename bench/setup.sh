# setup.sh: what run.sh and soak.sh share: a directory of their own, the build, a
# broker, a cluster, topics.  To be sourced.
. "$(dirname "${BASH_SOURCE[0]}")/../test/rig/env.sh"

here=$KS_TOP/bench
cache=$KS_CACHE/bench
unset KAFKA_BOOTSTRAP

# Stops everything and removes the run's files.
clean_up() {
	trap - EXIT INT TERM
	[ -z "${java_pid:-}" ] || kill "$java_pid" 2>/dev/null
	[ -z "${cluster:-}" ] || "$KS_TOP/test/rig/cluster.sh" destroy "$cluster" "$pgport"
	[ -z "${broker:-}" ] || "$KS_TOP/test/kafka/broker.sh" destroy "$broker" "$kafkaport"
	[ -z "${run:-}" ] || rm -rf "$run"
}

# Makes the directory, which goes with the script.
make_run() {
	"$KS_TOP/test/rig/deps.sh" test || exit 1
	ks_use_pg
	config=$(ks_pg_config)
	run=$(mktemp -d "${TMPDIR:-/tmp}/kstream-bench.XXXXXX") && chmod 755 "$run" || exit 1
	trap 'clean_up; exit 130' INT TERM
	trap clean_up EXIT
	as_server test -x "$run" || die "user $KS_USER cannot reach $run: set TMPDIR to a directory that it can"
	server_dir "$run/state" || exit 1
}

# build_tools PROGRAM...: programs in C.
build_tools() {
	local program
	mkdir -p "$cache/bin" || die "cannot write to $cache"
	for program in "$@"; do
		gcc -O2 -g -Wall -Wextra -Wno-unused-parameter -I"$("$config" --includedir)" -L"$("$config" --libdir)" \
			-o "$cache/bin/$program" "$here/$program.c" -lrdkafka -lpq -lpthread || die "could not build $program"
	done
}

# The extension as users build it: no assertions, no fault points.
build_kstream() {
	export KS_PGROOT=$run/pg
	"$KS_TOP/test/rig/pgroot.sh" "$KS_PGROOT" &&
		"$KS_TOP/test/rig/build.sh" "$cache/build" WERROR= ASSERTS= FAULTS= >"$run/build.log" 2>&1 ||
		{ tail -20 "$run/build.log"; die "could not build the extension"; }
}

# A broker with Java's compilers in full and memory enough, and a cluster with fsync.
start_servers() {
	kafkaport=$(free_port) && pgport=$(free_port) || exit 1
	broker=$run/broker
	cluster=$run/cluster
	export KS_BROKER_OPTS="-Xmx1g -XX:TieredStopAtLevel=4"
	export KS_BROKER_CONFIG="broker.session.timeout.ms=9000
		broker.heartbeat.interval.ms=1000"
	log "broker: starting"
	"$KS_TOP/test/kafka/broker.sh" start "$broker" "$kafkaport" || exit 1
	bootstrap=127.0.0.1:$kafkaport
	log "cluster: starting"
	KS_FSYNC=on "$KS_TOP/test/rig/cluster.sh" start "$cluster" "$pgport" shared_buffers=1GB max_wal_size=4GB \
		${KS_BENCH_BATCH_ROWS:+"kstream.batch_rows=$KS_BENCH_BATCH_ROWS"} || exit 1
	conninfo="host=$cluster port=$pgport user=postgres"
	sql "CREATE EXTENSION kstream; CREATE SERVER kafka FOREIGN DATA WRAPPER kstream OPTIONS (bootstrap_servers '$bootstrap')" ||
		die "could not set the database up"
}

# Runs SQL, prints unaligned rows.
sql() {
	PGOPTIONS="-c client_min_messages=warning" "$KS_BIN/psql" -X -q -At -v ON_ERROR_STOP=1 -d "$conninfo" -c "$1"
}

# make_topic NAME: a topic of four partitions.
make_topic() {
	"$KS_TOP/test/kafka/topic.sh" "$bootstrap" create "$1" 4 || die "could not make topic $1"
}

# field JSON NAME: a number in a line of JSON.
field() {
	printf '%s\n' "$1" | sed -n "s/.*\"$2\":\([-0-9.]*\).*/\1/p"
}

# CPU time used on the machine so far, in hundredths of a second.
busy() {
	awk '/^cpu /{print $2+$3+$4+$7+$8}' /proc/stat
}

# Waits, not for ever, for a second in which the machine is idle; sets others to the share of one core in use.
wait_quiet() {
	local try before
	for try in 1 2 3 4 5 6 7 8; do
		before=$(busy)
		sleep 1
		others=$(($(busy) - before))
		[ "$others" -ge 25 ] || return 0
	done
}

# The columns of every stream of the benchmark's records, and the condition of a join of two of them.
event_columns='user_id text, item text, amount numeric, ts bigint, tus bigint, note text'
join_condition="a.user_id = b.user_id AND b._timestamp BETWEEN a._timestamp - interval '1 min' AND a._timestamp + interval '1 min'"
