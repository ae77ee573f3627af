#!/usr/bin/env bash
# regress.sh: sql/NAME.sql against expected/NAME.out with pg_regress, on the
# server that PGHOST and PGPORT name.  TESTS names the ones to run.
. "$(dirname "$0")/env.sh"
ks_use_pg

out=${KS_WORK:?}/regress
server_dir "$KS_WORK"
as_server mkdir -p "$out"
tests=${TESTS:-$(cd "$KS_TOP/sql" && ls -- *.sql 2>/dev/null | grep -v -e -- | sed 's/\.sql$//')}
tests=$(for name in $tests; do case $name in */*) ;; *) echo "$name" ;; esac; done)
if [ -z "$tests" ]; then
	tally
	exit
fi
pg_regress=$(dirname "$("$(ks_pg_config)" --pgxs)")/../test/regress/pg_regress

# pg_regress prints "test NAME ... ok" (15) or "ok 1 - NAME" (16 and later).
status=0
(cd "$out" && as_server "$pg_regress" --inputdir="$KS_TOP" --outputdir="$out" --bindir="$KS_BIN" \
	--dbname=contrib_regression --encoding=UTF8 $tests 2>&1) | tee "$KS_WORK/regress.out"
status=${PIPESTATUS[0]}
KS_PASSED=$(grep -cE '^(test .*\.\.\. ok|ok [0-9])' "$KS_WORK/regress.out")
KS_FAILED=$(grep -cE '^(test .*\.\.\. FAILED|not ok [0-9])' "$KS_WORK/regress.out")
if [ -s "$out/regression.diffs" ]; then
	head -c 20000 "$out/regression.diffs"
fi
if [ "$status" != 0 ] && [ "$KS_FAILED" = 0 ]; then
	KS_FAILED=1
fi
tally
