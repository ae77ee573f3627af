#!/usr/bin/env bash
# run.sh [KILLS [SEED]]: the test of exactly-once (test/t/110_exactly_once.pl) with
# many faults, 200 by default, in a build, a broker and a cluster of its own.
# About 1.5 s per fault.  The seed repeats the order of the faults, not their timing.
export KS_KILLS=${1:-200} SUITES=tap TESTS=110_exactly_once.pl
[ -z "${2:-}" ] || export KS_SEED=$2
export KS_TAP_LIMIT=${KS_TAP_LIMIT:-850}
exec "$(dirname "$0")/../rig/run.sh"
