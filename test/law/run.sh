#!/usr/bin/env bash
# run.sh [arguments of law.py | joins arguments of join_law.py]: the law test.  First every case that once failed
# (corpus/*.sql, each a script that must run without an error), then new ones
# from the generator.  A server that preloads kstream runs at PGHOST and PGPORT.
. "$(dirname "$0")/../rig/env.sh"
[ -z "${KS_PGROOT:-}" ] || ks_use_pg
law=$KS_TOP/test/law
python=python3
"$python" -c "import psycopg2" 2>/dev/null || python=/usr/bin/python3
export PYTHONDONTWRITEBYTECODE=1 PGUSER=${PGUSER:-postgres}
# Below make test, what is kept of a failing run is its folder of logs.
if [ -n "${KS_WORK:-}" ] && [ -d "$(dirname "$KS_WORK")/log" ]; then
	export KS_LAW_FAILURES=${KS_LAW_FAILURES:-$(dirname "$KS_WORK")/log/law_failures}
fi

# Replays the scripts of the corpus, each in a database of its own.
for script in "$law"/corpus/*.sql; do
	[ -e "$script" ] || continue
	name=$(basename "$script" .sql)
	database=corpus_$$
	psql -XqAt -d postgres -c "CREATE DATABASE $database" || die "cannot create a database"
	if out=$(psql -XqAt -d "$database" -f "$script" 2>&1 >/dev/null); then
		ok "corpus: $name"
	else
		not_ok "corpus: $name" "$(head -5 <<<"$out")"
	fi
	psql -XqAt -d postgres -c "DROP DATABASE $database WITH (FORCE)"
done

# new_cases PROGRAM ARGUMENTS: new cases; every one is a check.
new_cases() {
	local program=$1 out line equal failed
	shift
	out=$(mktemp)
	"$python" "$law/$program" "$@" | tee "$out"
	line=$(grep -E '^law: [0-9]+ equal, [0-9]+ failed$' "$out" | tail -1)
	rm -f "$out"
	if [ -n "$line" ]; then
		equal=${line#law: }
		failed=${line##*, }
		KS_PASSED=$((KS_PASSED + ${equal%% equal*}))
		KS_FAILED=$((KS_FAILED + ${failed%% failed}))
	else
		not_ok "$program ended without a tally"
	fi
}

if [ $# = 0 ]; then
	new_cases law.py --cases "${KS_LAW_CASES:-300}" --jobs 2 --minutes 5
	new_cases join_law.py --cases "${KS_LAW_JOIN_CASES:-100}" --jobs 2 --minutes 5
elif [ "$1" = joins ]; then
	shift
	new_cases join_law.py "$@"
else
	new_cases law.py "$@"
fi
tally
