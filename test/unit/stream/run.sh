#!/usr/bin/env bash
# Builds the library with stream_test.c in it in a scratch directory, starts a
# server of its own with it, and runs stream_test.py, which prints what failed
# and "N passed, N failed".  Arguments go to stream_test.py (parts of names of
# tests; "speed": the figures).
#
#	PG_CONFIG	pg_config of the server to test with
#	ST_PG_PORT	port of the server (free one)
#	ST_COPT		more options of the compiler (-O1; -O2 for figures)
. "$(dirname "$0")/../../rig/env.sh"

here=$(cd "$(dirname "$0")" && pwd)
rig=$KS_TOP/test/rig
port=${ST_PG_PORT:-$(free_port)}
scratch=$(mktemp -d)
chmod 755 "$scratch"

cleanup() {
	"$rig/cluster.sh" destroy "$scratch/cluster" "$port" >/dev/null 2>&1
	rm -rf "$scratch"
}
trap cleanup EXIT

"$rig/pgroot.sh" "$scratch/pg" || exit 1
export KS_PGROOT=$scratch/pg
mkdir "$scratch/tree"
(cd "$KS_TOP" && cp -Rp Makefile kstream.control src sql "$scratch/tree/") &&
	cp "$here/stream_test.c" "$scratch/tree/src/stream/" || exit 1
find "$scratch/tree" \( -name '*.o' -o -name '*.d' -o -name '*.so' \) -delete
(cd "$scratch/tree" && env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL \
	make -s -j"$(nproc)" PG_CONFIG="$(ks_pg_config)" WERROR=1 COPT=${ST_COPT:--O1} all install) >"$scratch/make.log" 2>&1 ||
	{ tail -20 "$scratch/make.log"; exit 1; }
"$rig/cluster.sh" start "$scratch/cluster" "$port" max_prepared_transactions=4 || exit 1
as_server psql -X -q -v ON_ERROR_STOP=1 -h "$scratch/cluster" -p "$port" -U postgres -d postgres \
	-f "$here/stream_test.sql" || exit 1
# The packaged psycopg2 belongs to the packaged Python.
python=python3
"$python" -c 'import psycopg2' 2>/dev/null || python=/usr/bin/python3
"$python" "$here/stream_test.py" "host=$scratch/cluster port=$port user=postgres dbname=postgres" "$@"
