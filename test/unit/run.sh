#!/usr/bin/env bash
# Runs the unit tests of the folders beside it (or of those named) and closes
# with the sum of their "N passed, N failed".
. "$(dirname "$0")/../rig/env.sh"

here=$(cd "$(dirname "$0")" && pwd)
passed=0
failed=0
names=("$@")
[ ${#names[@]} -gt 0 ] || names=($(cd "$here" && ls -d */ | tr -d /))

for name in "${names[@]}"; do
	out=$(mktemp)
	start=$(date +%s)
	bash "$here/$name/run.sh" >"$out" 2>&1 </dev/null
	code=$?
	tally=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$out" | tail -1)
	if [ -z "$tally" ] || { [ $code -ne 0 ] && [ "${tally#*, }" = "0 failed" ]; }; then
		cat "$out"
		log "$name: died with exit code $code"
		failed=$((failed + 1))
	else
		p=${tally%% *}
		f=${tally#*, }
		passed=$((passed + p))
		failed=$((failed + ${f%% *}))
		[ "${f%% *}" = 0 ] || cat "$out"
		log "$name: $tally in $(($(date +%s) - start)) s"
	fi
	rm -f "$out"
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
