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

# prove judges; the tally counts its tests one by one.
for test in $tests; do
	name=$(basename "$test" .pl)
	log "tap: $name"
	(cd "$work" && as_server timeout -k 10 "${KS_TAP_LIMIT:-300}" prove --verbose --merge \
		-I "$pgxs_test/perl" -I "$KS_TOP/test/perl" "$test" 2>&1) | tee "$work.$name.out" |
		grep --line-buffered -E '^(ok|not ok|#|Result|Dubious|Bailout|Failed)'
	status=${PIPESTATUS[0]}
	passed=$(grep -cE '^ok [0-9]' "$work.$name.out")
	failed=$(grep -cE '^not ok [0-9]' "$work.$name.out")
	if [ "$status" != 0 ] && [ "$failed" = 0 ]; then
		failed=1
		log "tap: $name ended with code $status"
		tail -5 "$work.$name.out"
	fi
	KS_PASSED=$((KS_PASSED + passed))
	KS_FAILED=$((KS_FAILED + failed))
done
tally
