#!/bin/sh
# Fuzzes format/: the parts that know nothing of PostgreSQL with libFuzzer and
# the address sanitizer, then the whole in a server with changed documents.
#
#	run.sh [seconds]	seconds for each of the four (30)
#
#	CLANG		compiler with libFuzzer (clang, else clang-14)
#	FUZZ_SEED	seed of the changed documents (1)
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
seconds=${1:-30}
CLANG=${CLANG:-$(command -v clang || command -v clang-14)}
case "$CLANG" in
*clang-[0-9]*) clangxx=$(echo "$CLANG" | sed 's/clang-/clang++-/') ;;
*) clangxx=${CLANG}++ ;;
esac
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

flags="-g -O1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -I$root/src"
for file in json_text json_path number csv_split base64; do
	"$CLANG" $flags -Wall -Wextra -c "$root/src/format/$file.c"
done
"$clangxx" $flags -std=c++17 -fno-exceptions -fno-rtti -fno-sanitize=undefined -c "$root/src/format/json_scan.cpp"
for target in json number text; do
	"$CLANG" $flags -Wall -Wextra -c "$here/fuzz_$target.c"
	"$clangxx" -fsanitize=fuzzer,address,undefined -o "fuzz_$target" "fuzz_$target.o" \
		json_text.o json_path.o number.o csv_split.o base64.o json_scan.o -lsimdjson
done

failed=0
passed=0
for target in json number text; do
	mkdir "corpus_$target"
	[ "$target" != json ] || cp "$here"/seeds/*.json corpus_json/
	dict=
	[ "$target" != json ] || dict="-dict=$here/json.dict"
	if "./fuzz_$target" -max_total_time="$seconds" -max_len=2048 -rss_limit_mb=2000 $dict \
		"corpus_$target" >"$target.log" 2>&1; then
		passed=$((passed + 1))
		tail -1 "$target.log" | sed "s/^/$target: /"
	else
		failed=$((failed + 1))
		grep -vE '^#[0-9]+' "$target.log" | tail -40
	fi
done

cd "$root"
python=python3
"$python" -c "import psycopg2" 2>/dev/null || python=/usr/bin/python3
if DECODE_PORT=${DECODE_PORT:-21101} \
	DECODE_TEST="$python $here/fuzz_decode.py $seconds ${FUZZ_SEED:-1}" "$root/test/unit/decode/run.sh"; then
	passed=$((passed + 1))
else
	failed=$((failed + 1))
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
