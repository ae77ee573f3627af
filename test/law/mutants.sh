#!/usr/bin/env bash
# mutants.sh [NAME ...]: tests the tests.  Breaks the engine on purpose, one patch
# of mutants/ at a time, in a scratch copy, and runs the law test against it: each
# mutant must turn it red.  By hand only; needs what `make test` needs.  WORK names
# the scratch directory, CASES how many cases at most a mutant may survive.
. "$(dirname "$0")/../rig/env.sh"
exec </dev/null
origin=$KS_TOP
work=${WORK:-$(mktemp -d "${TMPDIR:-/tmp}/kstream-mutants.XXXXXX")}
mkdir -p "$work" && chmod 755 "$work" || exit 1
export KS_PGROOT=$work/pg KS_LAW_FAILURES=$work/failures PGUSER=postgres PGHOST=$work/cluster
PGPORT=${PGPORT:-$(free_port)}
export PGPORT

cleanup() {
	trap - EXIT
	"$origin/test/rig/cluster.sh" destroy "$work/cluster" "$PGPORT" 2>/dev/null
	[ -n "${WORK:-}" ] || rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# Builds the tree with a patch ("" for none) and restarts the server with it.
build() {
	rm -rf "$work/tree"
	mkdir -p "$work/tree"
	(cd "$origin" && cp -Rp Makefile kstream.control sql src test "$work/tree/") || return 1
	[ -z "$1" ] || (cd "$work/tree" && patch -s -p1 <"$1") || return 1
	KS_TOP=$work/tree "$work/tree/test/rig/build.sh" "$work/build" >"$work/build.out" 2>&1 || return 1
	"$origin/test/rig/cluster.sh" kill "$PGHOST" "$PGPORT"
	"$origin/test/rig/cluster.sh" start "$PGHOST" "$PGPORT"
}

# Runs the law test until it fails; prints the first failure.
law() {
	local arguments="--no-shrink"
	case ${1:-} in *stream_join*) arguments="joins" ;; esac
	KS_TOP=$work/tree timeout 600 "$work/tree/test/law/run.sh" $arguments --cases "${CASES:-600}" --jobs 2 --minutes 8 --stop \
		>"$work/law.out" 2>&1
}

"$origin/test/rig/pgroot.sh" "$KS_PGROOT" || exit 1
log "the engine as it is"
build "" || die "it does not build: $(tail -5 "$work/build.out")"
CASES=${CASES_SOUND:-60} law || die "the law test is red without a mutant: $(grep -m1 FAILED "$work/law.out")"

printf '%-32s %-8s %s\n' mutant verdict 'first failure'
for patch in "$origin"/test/law/mutants/*.patch; do
	name=$(basename "$patch" .patch)
	case " ${*:-$name} " in *" $name "*) ;; *) continue ;; esac
	if ! build "$patch"; then
		verdict="no build"
		first=$(tail -1 "$work/build.out")
		KS_FAILED=$((KS_FAILED + 1))
	elif law "$name"; then
		verdict=SURVIVED
		first=$(tail -2 "$work/law.out" | head -1)
		KS_FAILED=$((KS_FAILED + 1))
	else
		verdict=killed
		first=$(grep -m1 FAILED "$work/law.out")
		KS_PASSED=$((KS_PASSED + 1))
	fi
	printf '%-32s %-8s %s\n' "$name" "$verdict" "$(cut -c1-110 <<<"$first")"
done
tally
