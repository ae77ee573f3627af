#!/usr/bin/env bash
# run.sh: `make test`.  Sets up what it needs, runs every suite, takes it all
# away again, and ends with one line: N passed, N failed.
#
# SUITES="check regress ..." runs only those; TESTS="..." (names of regression
# tests, or paths of .pl files) only those tests of the suites regress and tap.
#
# Everything a run makes is in one directory of its own under TMPDIR, with a
# private copy of the PostgreSQL installation, and ports the kernel names free:
# two checkouts can be tested at the same time.  What is worth keeping (jars,
# object files) is in .cache, as is what a failing run leaves to look at
# (.cache/failed).
. "$(dirname "$0")/env.sh"
config=${PG_CONFIG:-pg_config}
unset MAKEFLAGS MFLAGS MAKELEVEL TESTDIR KS_PGROOT ${!PG@}
export PG_CONFIG=$config
exec </dev/null

all_suites="check unit objects regress law tap"
suites=${SUITES:-$all_suites}
source_tree=$KS_TOP
source_cache=$KS_CACHE
run=
total_passed=0
total_failed=0
summary=
failures=

# Every process that works in, or was started from, this run's directory.
run_processes() {
	local proc
	for proc in /proc/[0-9]*; do
		case "$(readlink "$proc/cwd" 2>/dev/null) $(readlink "$proc/exe" 2>/dev/null) " in
			"$run"/* | *" $run"/*) echo "${proc#/proc/}" ;;
		esac
	done
}

# Takes away everything the run has made, also when it was interrupted.
cleanup() {
	local status=$? pids
	trap '' INT TERM
	trap - EXIT
	if [ -n "$run" ]; then
		[ ! -d "$run/broker" ] || env -u KAFKA_BOOTSTRAP "$source_tree/test/kafka/broker.sh" destroy "$run/broker" 0 2>/dev/null
		[ ! -d "$run/cluster" ] || KS_PGROOT=$run/pg "$source_tree/test/rig/cluster.sh" destroy "$run/cluster" 0 2>/dev/null
		cd /
		pids=$(run_processes)
		[ -z "$pids" ] || { kill -9 $pids; sleep 0.2; } 2>/dev/null
		rm -rf "$run" 2>/dev/null || { sleep 1; rm -rf "$run"; }
	fi
	exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# Copies what the suites need to where the servers' user can read it.
stage() {
	mkdir -p "$run/tree" "$run/cache" "$run/log" || exit 1
	(cd "$source_tree" && cp -Rp Makefile kstream.control test sql expected src "$run/tree/") || die "cannot copy the tests"
	[ ! -d "$source_tree/bench" ] || cp -Rp "$source_tree/bench" "$run/tree/"
	[ ! -d "$source_tree/demo" ] || cp -Rp "$source_tree/demo" "$run/tree/"
	[ ! -d "$source_tree/docs" ] || cp -Rp "$source_tree/docs" "$run/tree/"
	chmod -R a+rX "$run/tree"
	if as_server test -r "$source_cache/kafka/pom.xml"; then
		ln -s "$source_cache/kafka" "$run/cache/kafka"
	else
		cp -Rp "$source_cache/kafka" "$run/cache/kafka" && chmod -R a+rX "$run/cache"
	fi
	server_dir "$run/work"
	export KS_TOP=$run/tree KS_CACHE=$run/cache KS_WORK=$run/work
}

# Runs one suite with a time limit, and takes its tally from its last line.
suite() {
	local name=$1 limit=$2 status passed failed line
	shift 2
	case " $suites " in *" $name "*) ;; *) return ;; esac
	if [ ! -e "$1" ]; then
		log "suite $name: not there"
		return
	fi
	log "suite $name"
	local from
	from=$(date +%s)
	timeout -k 10 "$limit" "$@" 2>&1 | tee "$run/log/$name.out"
	status=${PIPESTATUS[0]}
	line=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$run/log/$name.out" | tail -1)
	passed=${line%% passed*}
	failed=${line##*passed, }
	failed=${failed%% failed*}
	[ "$status" != 124 ] || log "suite $name: stopped after $limit s"
	if [ -z "$line" ] || { [ "$status" != 0 ] && [ "$failed" = 0 ]; } || [ "$((passed + failed))" = 0 ]; then
		passed=${passed:-0}
		failed=$((${failed:-0} + 1))
		log "suite $name: ended with code $status${line:+ and the tally $line}"
	fi
	total_passed=$((total_passed + passed))
	total_failed=$((total_failed + failed))
	[ "$failed" = 0 ] || failures="$failures$(printf '\n  %s:\n' "$name" && grep -E 'FAILED|^tap: ' "$run/log/$name.out" | head -20)"
	summary="$summary$(printf '\n  %-10s %5d passed %5d failed %5d s' "$name" "$passed" "$failed" "$(($(date +%s) - from))")"
}

# True when one of the suites is to be run.
wants() {
	local name
	for name in "$@"; do
		case " $suites " in *" $name "*) return 0 ;; esac
	done
	return 1
}

# Keeps the logs of a run that failed.
keep_logs() {
	rm -rf "$source_cache/failed"
	mkdir -p "$source_cache/failed" || return
	cp -Rp "$run/log/." "$source_cache/failed/"
	cp -p "$run/cluster/server.log" "$run/work/regress/regression.diffs" "$source_cache/failed/" 2>/dev/null
	[ ! -d "$run/work/tap/tmp_check/log" ] || cp -Rp "$run/work/tap/tmp_check/log" "$source_cache/failed/tap"
	log "logs are in .cache/failed"
}

for name in $suites; do
	case " $all_suites " in *" $name "*) ;; *) die "no suite $name; there are: $all_suites" ;; esac
done

"$KS_TOP/test/rig/deps.sh" test || exit 1
run=$(mktemp -d "${TMPDIR:-/tmp}/kstream.XXXXXX") && chmod 755 "$run" || exit 1
as_server test -x "$run" || die "user $KS_USER cannot reach $run: set TMPDIR to a directory that it can"

log "build: with assertions, fault points and warnings as errors"
mkdir -p "$KS_CACHE" || die "cannot write to $KS_CACHE"
export KS_PGROOT=$run/pg
"$KS_TOP/test/rig/pgroot.sh" "$KS_PGROOT" || exit 1
(
	flock 9
	"$KS_TOP/test/rig/build.sh" "$KS_CACHE/build" && "$KS_TOP/test/kafka/fetch.sh"
) 9>"$KS_CACHE/lock" || die "set-up failed"
log "build: done"
stage
ks_use_pg
cd "$run/work" || exit 1

if wants objects regress law tap; then
	PGPORT=$(free_port) || exit 1
	export PGPORT PGHOST=$run/cluster PGUSER=postgres
	log "cluster: starting on port $PGPORT"
	"$KS_TOP/test/rig/cluster.sh" start "$PGHOST" "$PGPORT" || exit 1
fi

suite check 120 "$KS_TOP/test/check/run.sh"
suite unit 500 "$KS_TOP/test/unit/run.sh"
suite objects 60 "$KS_TOP/test/rig/objects.sh"
suite regress 300 "$KS_TOP/test/rig/regress.sh"
suite law 600 "$KS_TOP/test/law/run.sh"
if wants tap && [ -e "$KS_TOP/test/t" ]; then
	if [ -z "${KAFKA_BOOTSTRAP:-}" ]; then
		port=$(free_port) || exit 1
		log "broker: starting on port $port"
		"$KS_TOP/test/kafka/broker.sh" start "$run/broker" "$port" || exit 1
		export KAFKA_BOOTSTRAP=127.0.0.1:$port
	fi
	suite tap 1500 "$KS_TOP/test/rig/tap.sh"
fi

[ "$total_failed" = 0 ] || keep_logs
[ -z "$failures" ] || log "what failed:$failures"
log "all suites:$summary"
printf '%d passed, %d failed\n' "$total_passed" "$total_failed"
[ "$total_failed" = 0 ] && [ "$total_passed" -gt 0 ]
