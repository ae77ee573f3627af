#!/usr/bin/env bash
# out.sh [options of out.py] TOPOLOGY.sql: out.py with a build, a broker and a cluster
# of its own.  KS_PGROOT names an installation to use instead of a private one.
. "$(dirname "$0")/../rig/env.sh"

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/kstream-out.XXXXXX") && chmod 755 "$work" || exit 1
trap 'rm -rf "$work"' EXIT
if [ -z "${KS_PGROOT:-}" ]; then
	export KS_PGROOT=$work/pg
	"$here/../rig/pgroot.sh" "$KS_PGROOT" && "$here/../rig/build.sh" "$KS_CACHE/build" >/dev/null || die "the build failed"
fi
"$here/../kafka/fetch.sh" || exit 1
# two readers keep all records of five topics
export KS_VERIFY_MEMORY=${KS_VERIFY_MEMORY:-3g}
python=python3
"$python" -c 'import psycopg2' 2>/dev/null || python=/usr/bin/python3
"$python" "$here/out.py" --work "$work/run" "$@"
