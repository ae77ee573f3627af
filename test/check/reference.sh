#!/usr/bin/env bash
# reference.sh: what users can call, read or set and docs/reference.md does not
# mention; one a line, nothing when all is there.
. "$(dirname "$0")/../rig/env.sh"
cd "$KS_TOP" || exit 1
reference=docs/reference.md

# Functions of schema kstream.
functions() {
	sed -nE 's/^CREATE (OR REPLACE )?FUNCTION kstream\.([a-z_]+).*/\2/p' sql/parts/*.sql | sort -u
}

# Arguments of those functions, from their lines in the script.
arguments() {
	sed -nE '/^CREATE (OR REPLACE )?FUNCTION kstream\.[a-z_]+\($/,/^RETURNS/s/^\t"?([a-z_]+)"? .*/\1/p' sql/parts/*.sql | sort -u
}

# Views of schema kstream.
views() {
	sed -nE 's/^CREATE (OR REPLACE )?VIEW kstream\.([a-z_]+).*/\2/p' sql/parts/*.sql | sort -u
}

# Settings.
settings() {
	grep -hoE '"kstream\.[a-z_]+"' src/base/guc.c | tr -d '"' | sort -u
}

# Options of streams and of their columns.
options() {
	sed -nE '/Option (table|column)_options\[\]/,/^};/s/^\t\{"([a-z_]+)",.*/\1/p' src/catalog/options.c | sort -u
}

# Properties of the client that somebody may set, spelled as options.
properties() {
	sed -nE 's/^\t\{"([a-z0-9._]+)", .*KS_PROP_(ALLOWED|SECRET|SERVER_FILE|SUPERUSER),.*/\1/p' src/kafka/property.c | tr . _ | sort -u
}

# SQLSTATEs of our own.
sqlstates() {
	grep -rhoE "MAKE_SQLSTATE\('K', ?'S', ?'[0-9A-Z]', ?'[0-9A-Z]', ?'[0-9A-Z]'\)" src | sed "s/MAKE_SQLSTATE(//; s/[', )]//g" | sort -u
}

# missing KIND PREFIX LIST...: those of the list that the reference does not mention as a word.
missing() {
	local kind=$1 prefix=$2 name
	shift 2
	[ $# -gt 0 ] || echo "found no $kind: does the check still know where they are?"
	for name in "$@"; do
		grep -qE "(^|[^a-zA-Z0-9_.])${prefix//./\\.}${name//./\\.}([^a-zA-Z0-9_]|$)" "$reference" ||
			echo "$reference does not mention $kind $prefix$name"
	done
}

[ -e "$reference" ] || { echo "$reference is not there"; exit 0; }
missing function kstream. $(functions)
missing argument '' $(arguments)
missing view kstream. $(views)
missing setting '' $(settings)
missing option '' $(options)
missing property '' $(properties)
missing SQLSTATE '' $(sqlstates)
