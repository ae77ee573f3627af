#!/usr/bin/env bash
# run.sh: `make demo`.  A shop's orders in a topic, four tables that follow them,
# and three accidents while one watches; at the end the topic is counted again.
#
# Sets everything up itself (packages, build, a private copy of the PostgreSQL
# installation, a broker, a cluster), in one directory of its own under TMPDIR,
# and takes it away again, also after Ctrl-C.  Jars and object files are kept in
# .cache for the next run.
#
# KS_DEMO_SECONDS (75), KS_DEMO_RATE (orders a second, 3000) and KS_DEMO_PORT
# (of PostgreSQL; the broker takes the next one) may be set; KAFKA_BOOTSTRAP names
# a broker to use instead of an own one.  Exit code: 0 when the tables equal the
# topic, 1 when not.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../test/rig/env.sh"
config=${PG_CONFIG:-pg_config}
unset MAKEFLAGS MFLAGS MAKELEVEL KS_PGROOT ${!PG@}
export PG_CONFIG=$config PYTHONDONTWRITEBYTECODE=1

seconds=${KS_DEMO_SECONDS:-75}
rate=${KS_DEMO_RATE:-3000}
customers=1000
run=
generator=
screen=

# Every process that works in, or was started from, this run's directory.
run_processes() {
	local proc
	for proc in /proc/[0-9]*; do
		case "$(readlink "$proc/cwd" 2>/dev/null) $(readlink "$proc/exe" 2>/dev/null) " in
			"$run"/* | *" $run"/*) echo "${proc#/proc/}" ;;
		esac
	done
}

# Where root runs the demo, runuser stands above the broker: it stops itself when
# the broker is frozen, and then outlives it.
end_runuser() {
	if [ -n "$1" ] && [ "$(cat "/proc/$1/comm" 2>/dev/null)" = runuser ]; then
		kill -9 "$1"
	fi
}

# Takes away everything the run has made, also when it was interrupted.
cleanup() {
	local status=$? pids parent
	trap '' INT TERM HUP
	trap - EXIT
	[ -z "$screen" ] || { kill "$screen" && wait "$screen"; } 2>/dev/null
	[ -z "$generator" ] || { kill -9 "$generator" && wait "$generator"; } 2>/dev/null
	if [ -n "$run" ]; then
		if [ -n "${KAFKA_BOOTSTRAP:-}" ] && [ -e "$run/topics" ]; then
			for topic in "$orders_topic" "$customers_topic"; do
				"$KS_TOP/test/kafka/topic.sh" "$KAFKA_BOOTSTRAP" delete "$topic" 2>/dev/null
			done
		fi
		if [ -d "$run/broker" ]; then
			parent=$(ps -o ppid= -p "$(cat "$run/broker/pid" 2>/dev/null)" 2>/dev/null | tr -d ' ')
			"$KS_TOP/test/kafka/broker.sh" destroy "$run/broker" 0 2>/dev/null
			end_runuser "$parent"
		fi
		[ ! -d "$run/cluster" ] || "$KS_TOP/test/rig/cluster.sh" destroy "$run/cluster" 0 2>/dev/null
		cd /
		pids=$(run_processes)
		[ -z "$pids" ] || { kill -9 $pids; sleep 0.2; } 2>/dev/null
		rm -rf "$run" 2>/dev/null || { sleep 1; rm -rf "$run"; }
	fi
	exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

# A place to keep jars and object files in, where the tree is not ours to write to.
choose_cache() {
	if ! { mkdir -p "$KS_CACHE" && [ -w "$KS_CACHE" ] && [ -w "$KS_CACHE/kafka" -o ! -e "$KS_CACHE/kafka" ]; } 2>/dev/null; then
		KS_CACHE=${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/kstream
		mkdir -p "$KS_CACHE" 2>/dev/null || KS_CACHE=$run/cache
	fi
	mkdir -p "$KS_CACHE" || die "cannot write to $KS_CACHE"
}

# Builds and installs into this run's own copy of PostgreSQL, as users build it.
build() {
	log "build: kstream (a minute or two the first time)"
	export KS_PGROOT=$run/pg
	"$KS_TOP/test/rig/pgroot.sh" "$KS_PGROOT" || exit 1
	(
		flock 9
		"$KS_TOP/test/rig/build.sh" "$KS_CACHE/build-demo" WERROR= ASSERTS= FAULTS= >"$run/build.out" 2>&1 ||
			{ tail -30 "$run/build.out"; exit 1; }
		"$KS_TOP/test/kafka/fetch.sh"
	) 9>"$KS_CACHE/lock" || die "set-up failed"
	gcc -O2 -Wall -o "$run/generate" "$here/generate.c" -lrdkafka || die "could not build the generator"
	log "build: done"
}

# Starts the broker, unless there is one, and the database.  The servers' user
# may not be able to read the jars where they are kept: then it gets a copy.
start_servers() {
	local port=${KS_DEMO_PORT:-$(free_port)} broker_port
	if ! as_server test -r "$KS_CACHE/kafka/pom.xml"; then
		mkdir -p "$run/jars" && cp -Rp "$KS_CACHE/kafka" "$run/jars/" && chmod -R a+rX "$run/jars" || exit 1
		export KS_CACHE=$run/jars
	fi
	if [ -z "${KAFKA_BOOTSTRAP:-}" ]; then
		broker_port=$([ -n "${KS_DEMO_PORT:-}" ] && echo $((port + 1)) || free_port)
		log "broker: Apache Kafka on port $broker_port"
		"$KS_TOP/test/kafka/broker.sh" start "$run/broker" "$broker_port" || exit 1
		bootstrap=127.0.0.1:$broker_port
		export KS_DEMO_BROKER_PORT=$broker_port
	else
		bootstrap=$KAFKA_BOOTSTRAP
		log "broker: $bootstrap, which is not ours: it will not be frozen"
	fi
	log "database: PostgreSQL on port $port"
	export PGHOST=$run/cluster PGPORT=$port
	"$KS_TOP/test/rig/cluster.sh" start "$PGHOST" "$port" || exit 1
	ks_use_pg
}

# A Python that knows psycopg2: the distribution's, where another comes first in the PATH.
find_python() {
	for python in python3 /usr/bin/python3; do
		! "$python" -c 'import psycopg2' 2>/dev/null || return 0
	done
	die "no python3 with psycopg2: run test/rig/deps.sh"
}

# Fills the topic of customers, and creates streams, tables and queries.
define() {
	log "definitions: demo/shop.sql"
	"$KS_TOP/test/kafka/topic.sh" "$bootstrap" create "$orders_topic" 4 >/dev/null &&
		"$KS_TOP/test/kafka/topic.sh" "$bootstrap" create "$customers_topic" 4 cleanup.policy=compact >/dev/null ||
		die "cannot create the topics"
	touch "$run/topics"
	"$run/generate" "$bootstrap" customers "$customers_topic" "$customers" || exit 1
	psql -X -q -o /dev/null -U postgres -v ON_ERROR_STOP=1 -v bootstrap="$bootstrap" -v orders_topic="$orders_topic" \
		-v customers_topic="$customers_topic" postgres <"$here/shop.sql" || die "shop.sql failed"
}

"$KS_TOP/test/rig/deps.sh" test || exit 1
run=$(mktemp -d "${TMPDIR:-/tmp}/kstream-demo.XXXXXX") && chmod 755 "$run" || exit 1
as_server test -x "$run" || die "user $KS_USER cannot reach $run: set TMPDIR to a directory that it can"
export KS_DEMO_RUN=$run KS_DEMO_BROKER_PORT=
orders_topic=demo-orders-$$
customers_topic=demo-customers-$$
find_python
choose_cache
export KS_CACHE
build
start_servers
define

log "generator: $rate orders a second, for $seconds seconds"
"$run/generate" "$bootstrap" orders "$customers_topic" "$orders_topic" "$customers" "$rate" </dev/null &
generator=$!
"$python" "$here/show.py" "$seconds" &
screen=$!
wait "$screen" || exit
screen=

log "generator: stopping"
kill "$generator"
wait "$generator" || die "the generator failed"
generator=
log "kstream.wait(): until everything is processed"
psql -X -q -o /dev/null -U postgres -v ON_ERROR_STOP=1 -c "SELECT kstream.wait(timeout => '2 min')" postgres ||
	{ psql -X -U postgres -c 'SELECT name, state, detail, last_error FROM kstream.queries' postgres; exit 1; }
log "counting the topics again with kcat, and comparing"
"$python" "$here/verify.py" "$bootstrap" "$orders_topic" "$customers_topic"
