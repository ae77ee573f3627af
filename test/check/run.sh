#!/usr/bin/env bash
# run.sh: the rules of the source tree that a script can check.  Each check
# prints the places that break its rule, one a line, and nothing when all is well.
. "$(dirname "$0")/../rig/env.sh"
cd "$KS_TOP" || exit 1

# check NAME COMMAND...: passes when the command prints nothing and succeeds.
check() {
	local name=$1 found
	shift
	if found=$("$@" 2>&1) && [ -z "$found" ]; then
		ok "$name"
	else
		not_ok "$name" "$found"
	fi
}

# Sources written by hand.
sources() {
	find src test bench demo docs -type f \( -name '*.[ch]' -o -name '*.cpp' -o -name '*.sql' -o -name '*.sh' -o -name '*.pl' \
		-o -name '*.pm' -o -name '*.py' -o -name '*.java' \) 2>/dev/null
	find sql -name '*.sql' ! -name '*--*' 2>/dev/null
}

# The server's version is asked for in one header only.
version_only_in_compat() {
	grep -rln 'PG_VERSION_NUM' src | grep -v '^src/base/compat\.h$'
	true
}

# The client library is known to one folder only.
rdkafka_only_in_kafka() {
	grep -rlnE '#include.*rdkafka' src | grep -v '^src/kafka/'
	true
}

# Nothing but the tests and the scripts of the rig prints from C.
no_print() {
	grep -rnE '\b(printf|fprintf|puts|abort|exit)\(' src --include='*.c' --include='*.cpp' | grep -vE '^\S+\s*(\*|/\*)'
	true
}

# Files stay short enough to be read.
file_size() {
	sources | while read -r file; do
		lines=$(wc -l <"$file")
		[ "$lines" -lt 1200 ] || echo "$file: $lines lines"
	done
}

# Nothing is left half done.
no_leftovers() {
	sources | grep -v '^test/check/' | xargs grep -nwE 'TO''DO|FIX''ME|X''XX|HA''CK|not (yet )?implemented|stub' | cut -c1-140
	true
}

# Scripts parse.
shell_syntax() {
	find test demo bench .ci -type f 2>/dev/null | while read -r file; do
		case "$(head -1 "$file" 2>/dev/null)" in
			'#!'*bash*) bash -n "$file" ;;
			'#!'*sh) sh -n "$file" ;;
		esac
	done
}

# Every regression test has an expected output, and the other way round.
regress_pairs() {
	local file
	for file in sql/*.sql; do
		case $file in
			*--* | 'sql/*.sql') ;;
			*) [ -e "expected/$(basename "$file" .sql).out" ] || echo "$file has no expected output" ;;
		esac
	done
	for file in expected/*.out; do
		[ "$file" = 'expected/*.out' ] || [ -e "sql/$(basename "$file" .out | sed 's/_[0-9]$//').sql" ] ||
			[ -e "sql/$(basename "$file" .out).sql" ] || echo "$file has no test"
	done
}

# The pictures of the guides are what their script draws.
pictures() {
	local drawn
	drawn=$(mktemp -d) && python3 docs/pictures/draw.py "$drawn" && diff -qr -x draw.py docs/pictures "$drawn"
	rm -rf "$drawn"
}

check "PG_VERSION_NUM only in src/base/compat.h" version_only_in_compat
check "librdkafka only in src/kafka" rdkafka_only_in_kafka
check "no printing and no exit in the extension" no_print
check "files under 1,200 lines" file_size
check "functions of at most 100 lines, each with a comment above" python3 test/check/functions.py src test bench
check "nothing left half done" no_leftovers
check "scripts parse" shell_syntax
check "docs/reference.md mentions what users can call, read and set" test/check/reference.sh
check "the pictures of the guides are up to date" pictures
check "every regression test has its expected output" regress_pairs
tally
