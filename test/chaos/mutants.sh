#!/usr/bin/env bash
# mutants.sh [NAME ...]: tests the tests of what is published.  Breaks the engine on
# purpose, one patch of mutants/ at a time, in a scratch copy, and runs
# test/t/231_output_durability.pl against it: each mutant must turn it red.  By hand
# only, about 3 minutes each; needs what `make test` needs.  WORK names the scratch
# directory (NAME.out in it is what the tests have said), SOUND=no leaves out the run of the engine as it is, MUTANT_TESTS names
# other tests.
. "$(dirname "$0")/../rig/env.sh"
exec </dev/null
origin=$KS_TOP
work=${WORK:-$(mktemp -d "${TMPDIR:-/tmp}/kstream-mutants.XXXXXX")}
mkdir -p "$work" && chmod 755 "$work" || exit 1
export KS_PGROOT=$work/pg KS_WORK=$work/run
# the tests have brokers of their own; an address tells them that there are any
export KAFKA_BOOTSTRAP=${KAFKA_BOOTSTRAP:-127.0.0.1:9} KS_TAP_LIMIT=${KS_TAP_LIMIT:-900}
[ -n "${WORK:-}" ] || trap 'rm -rf "$work"' EXIT

# Builds the tree with a patch ("" for none).
build() {
	rm -rf "$work/tree"
	mkdir -p "$work/tree"
	(cd "$origin" && cp -Rp Makefile kstream.control sql src test "$work/tree/") || return 1
	[ -z "$1" ] || (cd "$work/tree" && patch -s -p1 <"$1") || return 1
	KS_TOP=$work/tree "$work/tree/test/rig/build.sh" "$work/build" >"$work/build.out" 2>&1
}

# Runs the tests.
tests() {
	rm -rf "$KS_WORK"
	TESTS=${MUTANT_TESTS:-231_output_durability.pl} "$origin/test/rig/tap.sh" >"$work/tests.out" 2>&1
}

"$origin/test/rig/pgroot.sh" "$KS_PGROOT" || exit 1
if [ "${SOUND:-yes}" = yes ]; then
	log "the engine as it is"
	build "" || die "it does not build: $(tail -5 "$work/build.out")"
	tests || die "the tests are red without a mutant: $(grep -m1 '^not ok' "$work/tests.out")"
fi

printf '%-40s %-8s %s\n' mutant verdict 'first failure'
for patch in "$origin"/test/chaos/mutants/*.patch; do
	name=$(basename "$patch" .patch)
	case " ${*:-$name} " in *" $name "*) ;; *) continue ;; esac
	if ! build "$patch"; then
		verdict="no build"
		first=$(tail -1 "$work/build.out")
		KS_FAILED=$((KS_FAILED + 1))
	elif tests; then
		verdict=SURVIVED
		first=
		KS_FAILED=$((KS_FAILED + 1))
	else
		verdict=killed
		first=$(cat "$KS_WORK"/tap.*.out | grep -m1 -E '^not ok|^error running|Bailout|: (ERROR|FATAL):')
		KS_PASSED=$((KS_PASSED + 1))
	fi
	cat "$KS_WORK"/tap.*.out >"$work/$name.out" 2>/dev/null
	printf '%-40s %-8s %s\n' "$name" "$verdict" "$(cut -c1-110 <<<"$first")"
done
tally
