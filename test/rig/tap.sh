#!/usr/bin/env bash
# tap.sh: test/t/*.pl with prove, never as root.  TESTS names the ones to run.
# Each makes its own clusters; the broker is the one KAFKA_BOOTSTRAP names.
# Those that say "# Long:" run when they are named, or with KS_LONG=1.
. "$(dirname "$0")/env.sh"
ks_use_pg

work=${KS_WORK:?}/tap
server_dir "$KS_WORK"
as_server mkdir -p "$work"
pgxs_test=$(dirname "$("$(ks_pg_config)" --pgxs)")/../test
export TESTDIR=$work TESTLOGDIR=$work/tmp_check/log TESTDATADIR=$work/tmp_check
export PG_REGRESS=$pgxs_test/regress/pg_regress
export TMPDIR=$work PG_TEST_TIMEOUT_DEFAULT=${PG_TEST_TIMEOUT_DEFAULT:-60}
unset PGHOST PGPORT PGUSER PGDATABASE
tests=$(for name in ${TESTS:-}; do case $name in *.pl) echo "$KS_TOP/test/t/$(basename "$name")" ;; esac; done)
[ -n "$tests" ] || [ -n "${TESTS:-}" ] || tests=$(ls "$KS_TOP"/test/t/*.pl 2>/dev/null)
if [ -z "${TESTS:-}" ] && [ -z "${KS_LONG:-}" ]; then
	tests=$(grep -L '^# Long:' $tests)
fi

# run_test FILE: runs one, and prints it in one piece when it is over.
run_test() {
	local name status passed failed from
	name=$(basename "$1" .pl)
	from=$(date +%s)
	log "tap: $name"
	(cd "$work" && as_server timeout -k 10 "${KS_TAP_LIMIT:-400}" prove --verbose --merge \
		-I "$pgxs_test/perl" -I "$KS_TOP/test/perl" "$1") >"$work.$name.out" 2>&1 </dev/null
	status=$?
	# prove judges; the tally counts its tests one by one
	passed=$(grep -cE '^ok [0-9]' "$work.$name.out")
	failed=$(grep -cE '^not ok [0-9]' "$work.$name.out")
	(
		flock 9
		grep -E '^(ok|not ok|#|Result|Dubious|Bailout|Failed)' "$work.$name.out"
		if [ "$status" != 0 ] && [ "$failed" = 0 ]; then
			failed=1
			log "tap: $name ended with code $status"
			tail -5 "$work.$name.out"
		fi
		log "tap: $name: $passed passed, $failed failed in $(($(date +%s) - from)) s"
		echo "$passed $failed $name" >>"$work.tallies"
	) 9>"$work.lock"
}

# Most of the time they wait: two at a time.
rm -f "$work.tallies"
for test in $tests; do
	while [ "$(jobs -pr | wc -l)" -ge "${KS_TAP_JOBS:-2}" ]; do wait -n; done
	run_test "$test" &
done
wait
while read -r passed failed name; do
	KS_PASSED=$((KS_PASSED + passed))
	KS_FAILED=$((KS_FAILED + failed))
	[ "$failed" = 0 ] || grep -E '^not ok' "$work.$name.out" | sed "s/^/tap: $name: /"
done <"$work.tallies"
[ "$(wc -l <"$work.tallies")" = "$(wc -w <<<"$tests")" ] || not_ok "tap: each test has a tally" "$(cat "$work.tallies")"
tally
